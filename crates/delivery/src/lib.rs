//! The fleet of bot instances, and the delivery of notifications to the instance that owns the call.
//!
//! Delivery knows the instances and their health. It places a new call at one of them within its budget,
//! forwards callbacks to the instance that their seal names, and streams the response back. It does not check
//! tokens or read notifications, and it does not decide what a failure means to the sender: the caller does.
//! It stores nothing about a call, except for ten minutes the instance at which the call was placed.
//!
//! ```
//! # use std::{sync::Arc, time::Duration};
//! # use bytes::Bytes;
//! # use openssl::ssl::{SslConnector, SslMethod};
//! # use switchboard_delivery::{
//! #     Connections, Delivery, DeliverySettings, Fill, InstanceSettings, Orphaned, Outbound,
//! #     PlacementLimits, TlsClient, UpstreamUrl,
//! # };
//! # use switchboard_routing::{AffinityKey, CallbackUris, Name, SealKey};
//! # use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpListener, time::Instant};
//! # use url::Url;
//! # use uuid::uuid;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A bot that accepts one call.
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
//! let base = Url::parse("https://emea.bots.contoso.com")?;
//! let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", keys)?);
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
//!     store: None,
//!     name_servers: Vec::new(),
//!     keep_leaving: Duration::from_secs(24 * 3600),
//!     slow_start: Duration::ZERO,
//!     fill: Fill::Spread,
//!     probe: None,
//!     attempt: Duration::from_secs(3),
//!     waiting_max: 100,
//!     eject_share: 0.5,
//!     patience: Duration::from_secs(8),
//!     in_flight_per_instance: 100,
//!     orphaned: Orphaned::Refuse,
//!     authorization: true,
//! };
//! let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client())?)?;
//! let delivery = Delivery::new(settings, uris, tls);
//!
//! // One per process.
//! let connections = Connections::default();
//! let notification = Outbound {
//!     headers: http::HeaderMap::new(),
//!     body: Bytes::from_static(b"{}"),
//!     app: uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241"),
//!     tenant: uuid!("72f988bf-86f1-41af-91ab-2d7cd011db47"),
//!     call_id: Some("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7".into()),
//!     deadline_unix_ms: None,
//!     arrived: Instant::now(),
//!     trace: None,
//! };
//! let key = AffinityKey::of("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7");
//! let limits = PlacementLimits { budget: Duration::from_secs(12), outcome_unknown_max: 3 };
//! let response = delivery.place(&connections, &notification, key, limits).await?;
//! assert_eq!(response.status, 202);
//! assert_eq!(response.instance.as_str(), "bot-0");
//! # Ok(())
//! # }
//! ```
//!
//! Settings and errors are exhaustive on purpose, since a caller must notice a new variant or field: adding
//! one is a breaking change.
//!
//! Reading order: `delivery` (the fleet and its settings), `place`, `forward` and `peer_gateways` (the
//! paths of a request); `upstream` and `connections` with `tls_failure` and `trust_anchors` (one
//! attempt); `request`, `headers` and `response` (the messages), `trace` (the attempts of a request for
//! spans); `fleet` with its builder and candidates; `instance` with its `tracker`, `health`,
//! `load_estimate`, `incarnation` and `placement_view`; `background`, `probe`, `incarnations`,
//! `discovery` and `network` (how the fleet is learned); `names` and `resolver` (where a name leads).

mod background;
mod cause;
mod connections;
mod delivery;
mod discovery;
mod durations;
mod error_chain;
mod fleet;
mod fleet_store;
mod forward;
mod headers;
mod incarnations;
mod instance;
mod log_pace;
mod member;
mod names;
mod network;
mod origins;
mod outbound;
mod peer_gateways;
mod place;
mod placements;
mod probe;
mod request;
mod resolver;
mod response;
mod settings;
#[cfg(test)]
mod simulation;
mod startup;
mod tls_failure;
mod trace;
mod trust_anchors;
mod upstream;
mod upstream_url;

#[cfg(feature = "kubernetes")]
pub use self::settings::{KubernetesSettings, PodPort};
pub use self::{
    cause::attempt_failures,
    connections::{Connections, TlsClient},
    delivery::Delivery,
    discovery::{pod_incarnation, pod_instance},
    durations::{DeliveryDurations, Histogram, HistogramReading},
    forward::{CallbackInFlight, ForwardError},
    headers::{CLIENT_REQUEST_ID, LOOP, SCENARIO_ID, trace_context::TraceParent},
    instance::{InstanceCounts, InstanceState, InstanceStatus},
    member::INSTANCES_MAX,
    network::{InvalidNetwork, Network},
    outbound::Outbound,
    peer_gateways::{PeerGateways, ProxyError},
    place::{PlaceError, PlacementCounters, PlacementLimits},
    probe::{Examined, ExaminedFailure, ExaminedState},
    response::{UpstreamBody, UpstreamBodyError, UpstreamResponse},
    settings::{
        DeliverySettings, Discovery, DnsSettings, FileInstance, FileSettings, Fill, FleetFile,
        InstanceSettings, Orphaned, ParsedFile, ProbeSettings,
    },
    startup::Awaited,
    tls_failure::{TlsFailure, TlsVerification, certificate_hosts, common_name},
    trace::{AttemptResult, RequestTrace, TracedAttempt, TracedUpstream},
    trust_anchors::TrustAnchors,
    upstream_url::{InvalidUpstreamUrl, UpstreamUrl},
};
