//! `Check`: one task of the doctor, and the advice that several checks give.

use std::pin::Pin;
use switchboard_auth::FetchError;

use super::finding::Finding;

/// A check that uses the network.
pub(super) struct Check {
    pub(super) area: &'static str,
    pub(super) subject: String,
    pub(super) run: Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>,
}

impl Check {
    pub(super) fn new(
        area: &'static str,
        subject: impl Into<String>,
        run: impl Future<Output = Vec<Finding>> + Send + 'static,
    ) -> Self {
        Self { area, subject: subject.into(), run: Box::pin(run) }
    }
}

/// The advice about a failure of a small document. `authority` is for a certificate that is not verified.
pub(super) fn network_advice(kind: &str, authority: &str) -> String {
    match kind {
        "connect" => {
            "check that the name resolves here, and that this machine may connect (firewall, egress)"
                .to_owned()
        }
        FetchError::UNTRUSTED | "tls" => {
            format!("check the certificate there (expired, another name, chain not complete), or {authority}")
        }
        "status" => "check the URL: a proxy or another service may have responded".to_owned(),
        "timeout" => "check the network and the server: the gateway gives up after the same time".to_owned(),
        _ => "check that the URL is that of the right server".to_owned(),
    }
}
