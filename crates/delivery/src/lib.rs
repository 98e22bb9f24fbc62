//! The fleet, and handing a notification to the instance that owns the call.
//!
//! Delivery knows which instances there are and how they fare, gives a new call to one of them within its budget,
//! brings callbacks to the instance that their seal names, and streams the answer back. It checks no token, reads no
//! notification, answers nobody by itself: what a failure means to the sender is the caller's decision. Nothing of a call is
//! kept but, for ten minutes, where it was placed.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use bytes::Bytes;
//! # use openssl::ssl::{SslConnector, SslMethod};
//! # use switchboard_delivery::{Connections, Delivery, InstanceSettings, Orphaned, Outbound, DeliverySettings, UpstreamUrl};
//! # use switchboard_routing::{AffinityKey, CallbackUris, Name, SealKey};
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpListener, time::Instant};
//! # use url::Url;
//! # use uuid::uuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A bot of one line.
//! let bot = TcpListener::bind("127.0.0.1:0").await?;
//! let address = bot.local_addr()?;
//! tokio::spawn(async move {
//!     let (mut stream, _) = bot.accept().await.unwrap();
//!     let mut request = [0; 4096];
//!     let _ = stream.read(&mut request).await;
//!     let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
//! });
//!
//! let keys = vec![SealKey::new("k1", b"use `switchboard keygen` instead")?];
//! let uris = Arc::new(CallbackUris::new(&Url::parse("https://emea.bots.contoso.com")?, "/api/callbacks", keys)?);
//! let settings = DeliverySettings {
//!     region: Name::parse("emea")?,
//!     instances: vec![InstanceSettings {
//!         name: Name::parse("bot-0")?,
//!         url: UpstreamUrl::parse(&format!("http://{address}/api/calls"))?,
//!         callback_url: None,
//!         apps: None,
//!         weight: 1,
//!     }],
//!     discovery: None,
//!     keep_leaving: Duration::from_secs(24 * 3600),
//!     slow_start: Duration::ZERO,
//!     probe: None,
//!     attempt: Duration::from_secs(3),
//!     patience: Duration::from_secs(8),
//!     orphaned: Orphaned::Refuse,
//!     authorization: true,
//! };
//! let delivery = Delivery::new(settings, uris, SslConnector::builder(SslMethod::tls_client())?.build());
//!
//! // One for each worker thread.
//! let connections = Connections::default();
//! let notification = Outbound {
//!     headers: http::HeaderMap::new(),
//!     body: Bytes::from_static(b"{}"),
//!     app: uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241"),
//!     tenant: uuid!("72f988bf-86f1-41af-91ab-2d7cd011db47"),
//!     call_id: Some("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7".into()),
//!     deadline_unix_ms: None,
//!     arrived: Instant::now(),
//! };
//! let key = AffinityKey::of("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7");
//! let answer = delivery.place(&connections, notification, key, Duration::from_secs(12)).await?;
//! assert_eq!(answer.status, 202);
//! assert_eq!(answer.instance.as_str(), "bot-0");
//! # Ok(())
//! # }
//! ```
//!
//! To read: `place`, `forward` and `regions` (what happens to a request), `attempt` and `connections` (one try), `headers` and
//! `answer` (what travels), `fleet`, `instance` and its `health` (what is known), `probe`, `discovery` and `network` (how it is
//! learned).

mod background;
mod cause;
mod connections;
mod delivery;
mod discovery;
mod fleet;
mod forward;
mod headers;
mod instance;
mod member;
mod network;
mod origins;
mod outbound;
mod peer_gateways;
mod place;
mod placements;
mod probe;
mod request;
mod response;
mod settings;
mod upstream;
mod upstream_url;

#[cfg(feature = "kubernetes")]
pub use self::settings::{KubernetesSettings, PodPort};
pub use self::{
    connections::Connections,
    delivery::Delivery,
    forward::ForwardError,
    instance::{InstanceState, InstanceStatus},
    network::{InvalidNetwork, Network},
    outbound::Outbound,
    peer_gateways::{PeerGateways, ProxyError},
    place::PlaceError,
    response::{UpstreamBody, UpstreamBodyError, UpstreamResponse},
    settings::{DeliverySettings, Discovery, DnsSettings, InstanceSettings, Orphaned, ProbeSettings},
    upstream_url::{InvalidUpstreamUrl, UpstreamUrl},
};
