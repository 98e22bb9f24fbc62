//! The instances: the source of the fleet, and one probe of each instance.

use std::{sync::Arc, time::Duration};

use switchboard_delivery::{
    Delivery, DeliverySettings, Discovery, Examined, ExaminedFailure, ExaminedState, TlsClient,
};
use switchboard_routing::CallbackUris;
use tokio::task::spawn_blocking;

use super::{check::Check, finding::Finding};
use crate::{
    clients::tls_client,
    config::{CaCertificates, FleetFile, shown},
    telemetry::Chain,
};

pub(super) fn check(
    settings: DeliverySettings,
    file: Option<Arc<FleetFile>>,
    ca: Option<CaCertificates>,
    uris: Arc<CallbackUris>,
) -> Check {
    let subject = if settings.discovery.is_some() { "source" } else { "instances" };
    Check::new(SOURCE, subject, async move {
        let source = source(&settings);
        let tls = match tls_client(ca.as_ref()).and_then(TlsClient::new) {
            Ok(tls) => tls,
            Err(error) => {
                let detail = format!("no TLS client: {}", Chain(&error));
                return vec![Finding::failed(SOURCE, subject, detail, "check the authorities of the system")];
            }
        };
        // The delivery would wait for a better one.
        if let Some(file) = file {
            let loaded = spawn_blocking(move || file.load()).await;
            if let Ok(Err(problems)) = loaded {
                return vec![Finding::failed(
                    SOURCE,
                    subject,
                    problems.to_string().replace('\n', "; "),
                    FILE_ADVICE,
                )];
            }
        }
        // The stored fleet is that of the gateway.
        let delivery = Delivery::new(DeliverySettings { store: None, ..settings }, uris, tls);
        let Some(examined) = delivery.examine(TIME_MAX).await else {
            return vec![source.map_or_else(
                || Finding::failed(SOURCE, subject, "the names cannot be looked up", "check the resolver"),
                |(name, advice)| {
                    let detail = format!("{name} was not read in {} s", TIME_MAX.as_secs());
                    Finding::failed(SOURCE, subject, detail, advice)
                },
            )];
        };
        let mut findings = Vec::new();
        if let Some((name, advice)) = source {
            let detail = format!("{name} lists {} instances", examined.len());
            findings.push(if examined.is_empty() {
                Finding::failed(SOURCE, subject, detail, advice)
            } else {
                Finding::ok(SOURCE, subject, detail)
            });
        }
        findings.extend(examined.iter().map(finding));
        findings
    })
}

/// The name of the source, and what to do if it cannot be read; `None` for a static list.
fn source(settings: &DeliverySettings) -> Option<(String, &'static str)> {
    Some(match settings.discovery.as_ref()? {
        Discovery::Dns(dns) => (
            format!("the DNS name {}", dns.name),
            "check the name with `dig`, and fleet.dns.servers: this machine must reach the name server",
        ),
        #[cfg(feature = "kubernetes")]
        Discovery::Kubernetes(pods) => (
            format!("the Kubernetes service {}", pods.service),
            "run this in the cluster, with a service account that may list EndpointSlices and pods",
        ),
        Discovery::File(file) => (format!("the file {}", shown(&file.path)), FILE_ADVICE),
    })
}

fn finding(examined: &Examined) -> Finding {
    let Examined { name, origin, outcome } = examined;
    let name = name.as_str();
    match outcome {
        Ok(ExaminedState::Ready) => Finding::ok(INSTANCE, name, format!("{origin}: ready")),
        Ok(ExaminedState::Accepts) => {
            Finding::ok(INSTANCE, name, format!("{origin}: accepts connections; no probe is configured"))
        }
        Ok(ExaminedState::Full) => Finding::warning(
            INSTANCE,
            name,
            format!("{origin}: full"),
            "add instances, or wait for calls to end",
        ),
        Ok(ExaminedState::Draining) => Finding::warning(
            INSTANCE,
            name,
            format!("{origin}: draining"),
            "it takes no new calls: start it again if that is not intended",
        ),
        Err(ExaminedFailure { label, reason }) => {
            let advice = match *label {
                "tls_expired" | "tls_not_yet_valid" => "renew the certificate of the bot",
                "tls_wrong_name" => {
                    "set fleet.instance.tls_name to a name of the certificate, or use another certificate"
                }
                "tls_unknown_authority" | "tls_missing_issuer" | "tls_untrusted" => {
                    "name the authority in fleet.ca, or in `ca` of the instance if it has one, and let the \
                     bot send its whole chain"
                }
                "not_tls" => "correct the scheme or the port of fleet.instance.url",
                "redirect" => "let the bot respond by http, or set forward.x_forwarded",
                "status_400" | "status_404" | "bad_report" | "bad_status" => {
                    "check fleet.probe.path, and fleet.instance.host if the server knows itself by a name"
                }
                _ => "check that the bot listens there, fleet.probe.path, and that this machine may connect",
            };
            Finding::failed(INSTANCE, name, format!("{origin}: {reason}"), advice)
        }
    }
}

const FILE_ADVICE: &str =
    "check the program that writes the file: it must list the instances, and replace the file by a rename";
const SOURCE: &str = "fleet";
const INSTANCE: &str = "instance";

/// The time for the source, and again for each probe.
const TIME_MAX: Duration = Duration::from_secs(5);
