//! The metadata and the keys of a trust.

use std::sync::Arc;

use switchboard_auth::{KeyFetchError, KeySet, fetch_keys};
use url::Url;

use super::{
    check::{Check, network_advice},
    finding::Finding,
    observed::{ClockOffsets, ObservedFetch},
};
use crate::{
    clients::{fetch::Fetcher, tls_client},
    config::Trust,
    telemetry::Chain,
};

pub(super) fn check(trust: Trust, clocks: &Arc<ClockOffsets>) -> Check {
    let clocks = Arc::clone(clocks);
    let Trust { settings, ca } = trust;
    Check::new(AREA, settings.name.clone(), async move {
        let name = &settings.name;
        let tls = match tls_client(ca.as_ref()) {
            Ok(tls) => tls.build(),
            Err(error) => {
                let detail = format!("no TLS client: {}", Chain(&error));
                return vec![Finding::failed(AREA, name, detail, "check the file of trust.ca")];
            }
        };
        let fetch = ObservedFetch { fetcher: Fetcher::new(tls), clocks };
        vec![match fetch_keys(&settings.metadata, &fetch).await {
            Ok(keys) => fetched(name, &settings.metadata, &keys),
            Err((url, error)) => {
                let detail = format!("{}: {}", without_query(url), Chain(&error));
                Finding::failed(AREA, name, detail, &advice(&error))
            }
        }]
    })
}

fn fetched(name: &str, metadata: &Url, keys: &KeySet) -> Finding {
    let host = metadata.host_str().unwrap_or_default();
    let skipped = match keys.skipped() {
        [] => String::new(),
        skipped => format!(", {} skipped", skipped.len()),
    };
    Finding::ok(AREA, name, format!("{} keys from {host}{skipped}", keys.len()))
}

fn advice(error: &KeyFetchError) -> String {
    match error {
        KeyFetchError::Fetch(error) => network_advice(error.kind, "name its authority in trust.ca"),
        KeyFetchError::TooSlow => network_advice("timeout", ""),
        KeyFetchError::Discovery(_) => {
            "check trust.metadata: it must be the OpenID configuration of the issuer".to_owned()
        }
        KeyFetchError::Keys(_) | KeyFetchError::NoUsableKey { .. } => {
            "check that trust.metadata is that of the platform's issuer, and see its `jwks_uri`".to_owned()
        }
    }
}

/// A URL for the output.
fn without_query(mut url: Url) -> String {
    url.set_query(None);
    url.to_string()
}

const AREA: &str = "trust";
