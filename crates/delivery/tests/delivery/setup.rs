//! A delivery for tests, with the settings that most of them share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use openssl::ssl::{SslConnector, SslMethod};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, Fill, ForwardError, InstanceSettings, InstanceState,
    InstanceStatus, Orphaned, Outbound, PlaceError, PlacementLimits, ProbeSettings, TlsClient,
    UpstreamResponse, UpstreamUrl,
};
use switchboard_routing::{AffinityKey, CallbackUris, Name, Owner, SealKey};
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

pub(crate) const APP: Uuid = Uuid::from_u128(0x0efc_74f7_41c3_47a4_8775_7259_bfef_4241);
pub(crate) const TENANT: Uuid = Uuid::from_u128(0x72f9_88bf_86f1_41af_91ab_2d7c_d011_db47);
pub(crate) const CALL: &str = "491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7";

/// Long enough for any expected success on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// Short enough to wait for, long enough for loopback on a loaded machine.
pub(crate) const SHORT: Duration = Duration::from_secs(1);

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn instance(name: &str, address: SocketAddr) -> InstanceSettings {
    let url = UpstreamUrl::parse(&format!("http://{address}/api/calls")).unwrap();
    InstanceSettings { name: self::name(name), url, callback_url: None, apps: None, weight: 1 }
}

/// Instances `bot-0`, `bot-1`, … at these addresses.
pub(crate) fn settings(addresses: impl IntoIterator<Item = SocketAddr>) -> DeliverySettings {
    let instances = addresses.into_iter().enumerate();
    DeliverySettings {
        region: name("emea"),
        instances: instances.map(|(at, address)| instance(&format!("bot-{at}"), address)).collect(),
        discovery: None,
        store: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::ZERO,
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe: None,
        attempt: LONG,
        waiting_max: 100,
        eject_share: 0.5,
        patience: LONG,
        in_flight_per_instance: 100,
        orphaned: Orphaned::Refuse,
        authorization: true,
    }
}

pub(crate) fn probed(mut settings: DeliverySettings) -> DeliverySettings {
    settings.probe = Some(ProbeSettings {
        path: "/healthz".into(),
        interval: Duration::from_millis(100),
        is_forwarded: false,
    });
    settings
}

pub(crate) fn uris() -> Arc<CallbackUris> {
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap())
}

pub(crate) fn tls() -> TlsClient {
    TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap()
}

pub(crate) fn delivery(settings: DeliverySettings) -> Delivery {
    let delivery = Delivery::new(settings, uris(), tls());
    assert!(delivery.is_known());
    delivery
}

pub(crate) fn outbound() -> Outbound {
    Outbound {
        headers: headers(&[("content-type", "application/json"), ("authorization", "Bearer x.y.z")]),
        body: Bytes::from_static(b"{\"value\":[]}"),
        app: APP,
        tenant: TENANT,
        call_id: Some(CALL.into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: None,
    }
}

pub(crate) fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(field).collect()
}

pub(crate) fn owner(instance: &str) -> Owner {
    Owner { region: name("emea"), instance: name(instance), incarnation: name("0") }
}

pub(crate) async fn place(
    delivery: &Delivery,
    connections: &Connections,
    budget: Duration,
) -> Result<UpstreamResponse, PlaceError> {
    delivery.place(connections, &outbound(), AffinityKey::of(CALL), limits(budget)).await
}

/// The limits of a call that no policy records.
pub(crate) fn limits(budget: Duration) -> PlacementLimits {
    PlacementLimits { budget, outcome_unknown_max: 3 }
}

pub(crate) async fn forward(
    delivery: &Delivery,
    connections: &Connections,
    instance: &str,
) -> Result<UpstreamResponse, ForwardError> {
    delivery.forward(connections, &outbound(), owner(instance).as_ref()).await
}

#[track_caller]
pub(crate) fn status(delivery: &Delivery, instance: &str) -> InstanceStatus {
    delivery.instances().into_iter().find(|status| status.name.as_str() == instance).unwrap()
}

pub(crate) fn state(delivery: &Delivery, instance: &str) -> InstanceState {
    status(delivery, instance).state
}

/// The order in which [`CALL`] ranks `bot-0` to `bot-{count - 1}`.
pub(crate) fn ranking(count: usize) -> Vec<String> {
    use switchboard_routing::{Candidate, hash_name, rank};
    let names: Vec<String> = (0..count).map(|at| format!("bot-{at}")).collect();
    let candidates: Vec<Candidate> = names
        .iter()
        .map(|text| Candidate { name_hash: hash_name(&name(text)), weight: 1, load: None })
        .collect();
    rank(AffinityKey::of(CALL), &candidates).map(|at| names[at].clone()).collect()
}

/// Waits for a condition that other tasks bring about.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(LONG, async {
        // Polled, with no assumption about the time that it takes.
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "timed out before {what}");
}

/// The whole body as text, or the label of its error.
pub(crate) async fn text(response: UpstreamResponse) -> Result<String, &'static str> {
    use http_body_util::BodyExt;
    match response.body.collect().await {
        Ok(body) => Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap()),
        Err(error) => Err(error.label()),
    }
}
