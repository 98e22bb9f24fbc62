//! Callbacks of another region: proxied to the gateway there, with all it needs to check them itself.

use std::net::SocketAddr;

use http::uri::PathAndQuery;
use switchboard_delivery::{Connections, Outbound, PeerGateways, ProxyError, UpstreamResponse, UpstreamUrl};

use crate::{setup::*, upstream::*};

const TARGET: &str = "/api/callbacks/amer/bot-0/k1.0.AAAA?x=1";

fn peers(address: SocketAddr, patience: std::time::Duration) -> PeerGateways {
    let target = UpstreamUrl::parse(&format!("http://{address}")).unwrap();
    PeerGateways::new(&name("emea"), vec![(name("amer"), target)], patience, tls(), Vec::new(), None)
}

async fn proxy(
    peers: &PeerGateways,
    notification: Outbound,
    region: &str,
) -> Result<UpstreamResponse, ProxyError> {
    let target = PathAndQuery::from_static(TARGET);
    peers.proxy(&Connections::default(), &notification, region, target).await
}

#[tokio::test]
async fn the_peer_gateway_receives_the_request_unchanged_and_a_mark() {
    let gateway = ScriptedInstance::always(Act::body(200, "Retry-After: 3\r\nX-Internal: 1\r\n", "hello"));
    let mut notification = outbound();
    notification.headers.extend(headers(&[
        ("switchboard-call-id", "forged"),
        ("switchboard_forwarded_from", "apac"),
        ("connection", "keep-alive, x-private"),
        ("x-private", "1"),
        ("x-microsoft-skype-message-id", "m-1"),
    ]));
    let response = proxy(&peers(gateway.address, LONG), notification, "amer").await.unwrap();
    assert_eq!((response.status.as_u16(), response.instance.as_str(), response.attempts), (200, "amer", 1));
    assert_eq!(response.headers.get("retry-after").unwrap(), "3");
    assert!(!response.headers.contains_key("x-internal"));
    let seen = gateway.only();
    assert_eq!(seen.line(), format!("POST {TARGET} HTTP/1.1"));
    assert_eq!(seen.body, outbound().body);
    assert_eq!(seen.field("authorization"), Some("Bearer x.y.z"));
    assert_eq!(seen.field("host"), Some(gateway.address.to_string().as_str()));
    assert_eq!(seen.field("switchboard-forwarded-from"), Some("emea"));
    assert_eq!(seen.field("x-microsoft-skype-message-id"), Some("m-1"));
    assert!(seen.field("traceparent").is_some());
    for name in ["switchboard-call-id", "switchboard_forwarded_from", "x-private", "switchboard-instance"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_gateway_that_is_down_is_unreachable_after_the_patience() {
    let stopped = Stopped::new();
    let failed = proxy(&peers(stopped.address, SHORT), outbound(), "amer").await.unwrap_err();
    let ProxyError::Unreachable { region, last, attempts } = failed else { panic!("{failed}") };
    assert_eq!((region, last), (name("amer"), "refused"));
    assert!(attempts > 1);
}

#[tokio::test]
async fn a_proxied_callback_that_was_written_is_not_sent_again() {
    let gateway = ScriptedInstance::always(Act::SendAndReset(Vec::new()));
    let failed = proxy(&peers(gateway.address, LONG), outbound(), "amer").await.unwrap_err();
    assert_eq!(failed, ProxyError::Unreachable { region: name("amer"), last: "closed", attempts: 1 });
    gateway.only();
}

#[tokio::test]
async fn another_region_is_not_a_peer() {
    let gateway = ScriptedInstance::always(Act::status(202));
    let failed = proxy(&peers(gateway.address, LONG), outbound(), "apac").await.unwrap_err();
    assert_eq!(failed.label(), "not_a_peer");
}

#[tokio::test]
async fn the_mark_counts_whatever_its_value() {
    for (field, forwarded) in [
        (("switchboard-forwarded-from", "emea"), true),
        (("switchboard-forwarded-from", ""), true),
        (("switchboard-forwarded", "emea"), false),
    ] {
        assert_eq!(PeerGateways::is_forwarded(&headers(&[field])), forwarded, "{field:?}");
    }
}
