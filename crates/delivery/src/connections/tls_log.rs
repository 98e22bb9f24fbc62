//! The log of failed TLS handshakes with upstreams: one event for each change.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use crate::{tls_failure::TlsFailure, upstream_url::Origin};

/// The last failure of each upstream whose last handshake failed.
///
/// Each probe, call and callback makes a handshake, so a certificate that expired would fill the log.
#[derive(Debug, Default)]
pub(super) struct TlsLog(Mutex<HashMap<(SocketAddr, String), TlsFailure>>);

impl TlsLog {
    /// Notes the failure of a handshake, or its success (`None`). Logs a failure unless it is the last one of
    /// this upstream.
    pub(super) fn note(&self, address: SocketAddr, origin: &Origin, failure: Option<&TlsFailure>) {
        let host = origin.authority();
        if self.is_news(address, host.clone(), failure)
            && let Some(error) = failure
        {
            tracing::info!(host, server.address = %address, %error, "TLS handshake with an upstream failed");
        }
    }

    /// The failure of the last handshake with an address of `host` that failed, if none has succeeded since.
    pub(super) fn last_failure(&self, host: &str) -> Option<TlsFailure> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.iter().find(|((_, failed), _)| failed == host).map(|(_, failure)| failure.clone())
    }

    fn is_news(&self, address: SocketAddr, host: String, failure: Option<&TlsFailure>) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failure else { return last.remove(&(address, host)).is_some() };
        if last.len() >= UPSTREAMS_MAX {
            // Pods come and go. At worst a failure is logged again.
            last.clear();
        }
        last.insert((address, host), failure.clone()).as_ref() != Some(failure)
    }
}

/// More failing upstreams than any fleet has. An entry has a few hundred bytes.
const UPSTREAMS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_news_once_until_it_changes_or_ends() {
        let log = TlsLog::default();
        let closed = TlsFailure::Closed;
        let expired = TlsFailure::Expired { certificate: "bot".into(), not_after: "yesterday".into() };
        for (port, host, failure, is_news) in [
            (1, "a", Some(&closed), true),
            (1, "a", Some(&closed), false),
            (2, "a", Some(&closed), true),
            (1, "b", Some(&closed), true),
            (1, "a", Some(&expired), true),
            (1, "a", Some(&expired), false),
            (1, "a", None, true),
            (1, "a", None, false),
            (1, "a", Some(&expired), true),
        ] {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(log.is_news(address, host.to_owned(), failure), is_news, "{port} {host} {failure:?}");
        }
    }
}
