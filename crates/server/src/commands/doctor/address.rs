//! The address of the gateway, to which the platform posts: its name, its certificate and its chain.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use http::{Method, StatusCode};
use openssl::{asn1::Asn1Time, x509::X509Ref};
use switchboard_auth::FetchError;
use tokio::{net::lookup_host, time::timeout};
use url::{Host, Url};

use super::{
    check::{Check, network_advice},
    finding::Finding,
    observed::ClockOffsets,
};
use crate::{
    certificate_findings::validity_fault,
    clients::{
        fetch::{FetchedResponse, Fetcher},
        tls_client,
    },
    telemetry::Chain,
    wall_clock::wall_clock,
};

/// Checks that a gateway responds at `origin`, which is `callback.base`.
pub(super) fn check(origin: &str, webhook_path: &str, clocks: &Arc<ClockOffsets>) -> Check {
    let (origin, path, clocks) = (origin.to_owned(), webhook_path.to_owned(), Arc::clone(clocks));
    Check::new(AREA, origin.clone(), async move { vec![examine(&origin, &path, &clocks).await] })
}

async fn examine(origin: &str, path: &str, clocks: &ClockOffsets) -> Finding {
    let Ok(url) = Url::parse(&format!("{origin}{path}")) else {
        return Finding::failed(AREA, origin, "not a URL", "check callback.base");
    };
    let addresses = match look_up(&url).await {
        Ok(addresses) => addresses,
        Err(detail) => {
            let advice = "create the DNS record of callback.base, for the balancer or the gateway";
            return Finding::failed(AREA, origin, detail, advice);
        }
    };
    let answer = match ask(&url).await {
        Ok(answer) => answer,
        Err(error) => {
            let advice = match error.kind {
                "connect" => {
                    "start the gateway, or let the name lead to it: the platform posts there".to_owned()
                }
                kind => network_advice(kind, FOR_THE_PLATFORM),
            };
            return Finding::failed(AREA, origin, format!("{}: {error}", listed(&addresses)), &advice);
        }
    };
    clocks.note(&url, answer.date());
    judge(origin, path, &addresses, &answer)
}

async fn ask(url: &Url) -> Result<FetchedResponse, FetchError> {
    let tls =
        tls_client(None).map_err(|error| FetchError { kind: "tls", detail: Chain(&error).to_string() })?;
    Fetcher::new(tls.build()).answer(Method::GET, url, None, BODY_BYTES_MAX, TIME_MAX).await
}

/// Judges a response to a GET of the webhook. A gateway refuses it, since the platform posts.
fn judge(origin: &str, path: &str, addresses: &[IpAddr], answer: &FetchedResponse) -> Finding {
    let status = answer.status.as_u16();
    let certificate = validity(answer);
    let detail = format!("{}: responds {status} to GET {path}{certificate}", listed(addresses));
    if answer.status != StatusCode::METHOD_NOT_ALLOWED {
        let advice = "a gateway responds 405: check that the balancer sends this path to it";
        return Finding::warning(AREA, origin, detail, advice);
    }
    let fault = answer.certificate.as_deref().and_then(|one| validity_fault(one, wall_clock()));
    if let Some(fault) = fault {
        return Finding::warning(AREA, origin, format!("{detail}; {fault}"), "renew the certificate");
    }
    let is_local = Url::parse(origin).is_ok_and(|url| crate::config::is_loopback(&url));
    if !is_local && addresses.iter().all(is_private) {
        let advice =
            "check that the name leads to a public address outside this network: the platform posts there";
        return Finding::warning(AREA, origin, detail, advice);
    }
    Finding::ok(AREA, origin, detail)
}

/// The rest of the validity of a response's certificate, for the end of a sentence.
pub(super) fn validity(answer: &FetchedResponse) -> String {
    let days = answer.certificate.as_deref().and_then(days_left);
    days.map_or_else(String::new, |days| format!(", certificate valid for {days} days"))
}

/// Looks up the host of a URL as the clients of the gateway do. The error says what failed.
pub(super) async fn look_up(url: &Url) -> Result<Vec<IpAddr>, String> {
    let port = url.port_or_known_default().unwrap_or_default();
    let name = match url.host() {
        Some(Host::Domain(name)) => name,
        Some(Host::Ipv4(address)) => return Ok(vec![address.into()]),
        Some(Host::Ipv6(address)) => return Ok(vec![address.into()]),
        None => return Err("no host".to_owned()),
    };
    match timeout(LOOK_UP_TIME_MAX, lookup_host((name, port))).await {
        Ok(Ok(found)) => Ok(found.map(|address: SocketAddr| address.ip()).collect()),
        Ok(Err(error)) => Err(format!("the name has no address: {error}")),
        Err(_) => Err(format!("no answer of the resolver in {} s", LOOK_UP_TIME_MAX.as_secs())),
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// True for an address that the internet does not route (RFC 1918, RFC 4193, loopback, link-local).
fn is_private(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// The days until a certificate expires.
fn days_left(certificate: &X509Ref) -> Option<i32> {
    let now = Asn1Time::days_from_now(0).ok()?;
    Some(now.diff(certificate.not_after()).ok()?.days)
}

const AREA: &str = "callback.base";

/// The advice about a certificate that the platform has to verify.
pub(super) const FOR_THE_PLATFORM: &str =
    "the platform trusts public authorities only: use a certificate of one, with its chain";

pub(super) const TIME_MAX: Duration = Duration::from_secs(8);
const LOOK_UP_TIME_MAX: Duration = Duration::from_secs(4);
/// A gateway responds with an empty body, and another server with a page.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;
