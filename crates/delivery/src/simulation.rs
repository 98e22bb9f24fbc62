//! A deterministic simulation of a fleet: the code of this crate over in-memory streams, in virtual time.

mod wires;

pub(crate) use self::wires::Wires;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use openssl::ssl::{SslConnector, SslMethod};
use switchboard_routing::{AffinityKey, CallbackUris, Name, SealKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};
use url::Url;
use uuid::Uuid;

use crate::{
    Connections, Delivery, DeliverySettings, InstanceSettings, Orphaned, Outbound, PlacementLimits,
    UpstreamUrl,
};

#[tokio::test(start_paused = true)]
async fn a_call_is_placed_over_an_in_memory_stream() {
    let wires = Arc::new(Wires::default());
    let address: SocketAddr = "10.0.0.1:3978".parse().unwrap();
    let mut accepted = wires.listen(address);
    tokio::spawn(async move {
        let mut stream = accepted.recv().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
    });
    let name = |text| Name::parse(text).unwrap();
    let settings = DeliverySettings {
        region: name("emea"),
        instances: vec![InstanceSettings {
            name: name("bot-0"),
            url: UpstreamUrl::parse(&format!("http://{address}/api/calls")).unwrap(),
            callback_url: None,
            apps: None,
            weight: 1,
        }],
        discovery: None,
        keep_leaving: Duration::ZERO,
        slow_start: Duration::ZERO,
        probe: None,
        attempt: Duration::from_secs(3),
        waiting_max: 100,
        patience: Duration::from_secs(8),
        orphaned: Orphaned::Refuse,
        authorization: true,
    };
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
    let tls = SslConnector::builder(SslMethod::tls_client()).unwrap().build();
    let mut delivery = Delivery::new(settings, uris, tls);
    delivery.connector = delivery.connector.simulated(wires);
    let notification = Outbound {
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        app: Uuid::from_u128(1),
        tenant: Uuid::from_u128(2),
        call_id: Some("call".into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
    };
    let (connections, key) = (Connections::default(), AffinityKey::of("call"));
    let limits = PlacementLimits { budget: Duration::from_secs(12), outcome_unknown_max: 3 };
    let response = delivery.place(&connections, notification, key, limits).await.unwrap();
    assert_eq!((response.status.as_u16(), response.instance.as_str()), (202, "bot-0"));
}
