//! The other regions: their webhooks, to which calls are redirected, their health, and the gateways that take
//! callbacks.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use switchboard_delivery::{PeerGateways, TlsClient};
use switchboard_routing::Name;
use url::Url;

use super::{
    address::{BODY_BYTES_MAX, FOR_THE_PLATFORM, TIME_MAX, validity},
    check::{Check, network_advice},
    finding::Finding,
    observed::ClockOffsets,
};
use crate::{
    certificate_findings::validity_fault,
    clients::{
        fetch::Fetcher,
        peer_health::{HEALTH_BYTES_MAX, RESPONSE_TIME_MAX},
        tls_client,
    },
    config::PeerSettings,
    telemetry::Chain,
    wall_clock::wall_clock,
};

pub(super) fn checks(
    here: &Name,
    peers: Vec<PeerSettings>,
    name_servers: &[SocketAddr],
    clocks: &Arc<ClockOffsets>,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for peer in peers {
        let PeerSettings { name, webhook, callback, health } = peer;
        let (subject, noted) = (format!("{name} webhook"), Arc::clone(clocks));
        checks.push(Check::new(AREA, subject.clone(), async move {
            vec![examine_webhook(&subject, &webhook, &noted).await]
        }));
        match health {
            Some(url) => {
                let (subject, clocks) = (format!("{name} health"), Arc::clone(clocks));
                checks.push(Check::new(AREA, subject.clone(), async move {
                    vec![examine_health(&subject, &url, &clocks).await]
                }));
            }
            None => {
                let subject = format!("{name} health");
                checks.push(Check::new(AREA, subject.clone(), async move {
                    let advice = "set peer.health, so that no call is redirected to a region that is down";
                    vec![Finding::skipped(AREA, &subject, "the setting is absent", advice)]
                }));
            }
        }
        if let Some(callback) = callback {
            let (here, servers) = (here.clone(), name_servers.to_vec());
            let subject = format!("{name} callback");
            checks.push(Check::new(AREA, subject.clone(), async move {
                let url = callback.to_string();
                let tls = match tls_client(None).and_then(TlsClient::new) {
                    Ok(tls) => tls,
                    Err(error) => return vec![no_client(&subject, &error)],
                };
                // Only the connection is made, so nothing waits for patience.
                let gateways = PeerGateways::new(
                    &here,
                    vec![(name.clone(), callback)],
                    Duration::ZERO,
                    tls,
                    servers,
                    None,
                );
                vec![match gateways.connect_to(&name).await {
                    Ok(()) => Finding::ok(AREA, &subject, format!("{url}: accepts connections")),
                    Err(reason) => {
                        let advice =
                            "check that the gateway of that region runs, its certificate, and the network";
                        Finding::failed(AREA, &subject, format!("{url}: {reason}"), advice)
                    }
                }]
            }));
        }
    }
    checks
}

/// Posts to the webhook without a token and without a body. A gateway refuses that before it reads anything.
async fn examine_webhook(subject: &str, url: &Url, clocks: &ClockOffsets) -> Finding {
    let fetcher = match tls_client(None) {
        Ok(tls) => Fetcher::new(tls.build()),
        Err(error) => return no_client(subject, &error),
    };
    let host = url.host_str().unwrap_or_default();
    match fetcher.answer(Method::POST, url, None, BODY_BYTES_MAX, TIME_MAX).await {
        Ok(answer) => {
            clocks.note(url, answer.date());
            let (status, path) = (answer.status.as_u16(), url.path());
            let detail =
                format!("{host}: responds {status} to POST {path} without a token{}", validity(&answer));
            if answer.status != StatusCode::UNAUTHORIZED {
                let advice = "a gateway responds 401: check that peer.webhook is the webhook of that region, \
                              and that its balancer sends the path to a gateway";
                return Finding::failed(AREA, subject, detail, advice);
            }
            match answer.certificate.as_deref().and_then(|one| validity_fault(one, wall_clock())) {
                Some(fault) => {
                    Finding::warning(AREA, subject, format!("{detail}; {fault}"), "renew the certificate")
                }
                None => Finding::ok(AREA, subject, detail),
            }
        }
        Err(error) => {
            let advice = network_advice(error.kind, FOR_THE_PLATFORM);
            Finding::failed(AREA, subject, format!("{host}: {error}"), &advice)
        }
    }
}

async fn examine_health(subject: &str, url: &Url, clocks: &ClockOffsets) -> Finding {
    let fetcher = match tls_client(None) {
        Ok(tls) => Fetcher::new(tls.build()),
        Err(error) => return no_client(subject, &error),
    };
    let host = url.host_str().unwrap_or_default();
    match fetcher.answer(Method::GET, url, None, HEALTH_BYTES_MAX, RESPONSE_TIME_MAX).await {
        Ok(answer) => {
            clocks.note(url, answer.date());
            let detail = format!("{host}: responds {}", answer.status.as_u16());
            if answer.status == StatusCode::OK {
                return Finding::ok(AREA, subject, detail);
            }
            let advice =
                "calls of that region stay here: check it, and that peer.health is its listen.health_path";
            Finding::failed(AREA, subject, detail, advice)
        }
        Err(error) => {
            let advice = network_advice(error.kind, "use a certificate that the system trusts");
            Finding::failed(AREA, subject, format!("{host}: {error}"), &advice)
        }
    }
}

fn no_client(subject: &str, error: &openssl::error::ErrorStack) -> Finding {
    let detail = format!("no TLS client: {}", Chain(error));
    Finding::failed(AREA, subject, detail, "check the authorities of the system")
}

const AREA: &str = "peer";
