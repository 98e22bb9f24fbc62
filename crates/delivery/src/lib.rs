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
//! # use switchboard_delivery::{Connections, Delivery, InstanceSettings, Orphaned, Outbound, Settings, Target};
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
//! let settings = Settings {
//!     region: Name::parse("emea")?,
//!     instances: vec![InstanceSettings {
//!         name: Name::parse("bot-0")?,
//!         url: Target::parse(&format!("http://{address}/api/calls"))?,
//!         callback_url: None,
//!         apps: None,
//!         weight: 1,
//!     }],
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
//! `answer` (what travels), `fleet`, `instance` and its `health` (what is known), `probe` (how it is learned).

mod answer;
mod attempt;
mod connections;
mod fleet;
mod forward;
mod headers;
mod instance;
mod place;
mod placements;
mod probe;
mod regions;
mod settings;
mod target;

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use openssl::ssl::SslConnector;
use switchboard_routing::{CallbackUris, Owner};
use tokio::time::Instant;
use uuid::Uuid;

pub use self::{
    answer::{Answer, AnswerBody, AnswerBodyError},
    connections::Connections,
    forward::NotForwarded,
    instance::{InstanceState, InstanceStatus},
    place::NotPlaced,
    regions::{NotProxied, Regions},
    settings::{InstanceSettings, Orphaned, ProbeSettings, Settings},
    target::{Target, TargetError},
};
use self::{
    fleet::{Common, Fleet},
    instance::{Event, Standing},
    placements::Placements,
};

/// The fleet and the way to it. Shared by all threads.
///
/// Its futures are `Send` and may run on any runtime; each runtime brings its own [`Connections`].
pub struct Delivery {
    fleet: Fleet,
    placements: Placements,
    tls: SslConnector,
    /// The region, as the value of `Switchboard-Region`.
    region: HeaderValue,
    /// The settings without the instances, which are in `fleet`.
    settings: Settings,
}

/// A notification on its way to an instance: the request as it was received, and what is known of it.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// The header fields as received; delivery drops hop-by-hop fields and all that is ours alone.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Bytes,
    /// The token's app.
    pub app: Uuid,
    /// The token's tenant.
    pub tenant: Uuid,
    /// The call, where it is known.
    pub call_id: Option<Box<str>>,
    /// Unix milliseconds by which a new call must be answered (`Switchboard-Deadline`); `None` for anything else.
    pub deadline_unix_ms: Option<u64>,
    /// When the request arrived; patience and budget count from here.
    pub arrived: Instant,
}

impl Delivery {
    /// A fleet with nothing known of its health. `tls` reaches https instances.
    pub fn new(settings: Settings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        Self::build(settings, uris, tls, Placements::new(), None)
    }

    /// The delivery for new settings that keeps what is known of the instances that stay (same name and URLs): their
    /// health, load, drain and counters, and the memory of placements.
    pub fn successor(&self, settings: Settings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        Self::build(settings, uris, tls, self.placements.clone(), Some(&self.fleet))
    }

    fn build(
        mut settings: Settings,
        uris: Arc<CallbackUris>,
        tls: SslConnector,
        placements: Placements,
        before: Option<&Fleet>,
    ) -> Self {
        let members = fleet::members(std::mem::take(&mut settings.instances));
        let common = Common { region: settings.region.clone(), probed: settings.probe.is_some(), uris };
        Self {
            fleet: Fleet::new(members, true, &common, before, Instant::now()),
            placements,
            tls,
            region: instance::name_value(&settings.region),
            settings,
        }
    }

    /// Whether some instance could take a new call now; for `health_path`.
    pub fn can_take_call(&self) -> bool {
        let now = Instant::now();
        self.fleet.instances().iter().any(|instance| instance.live.standing(now) == Standing::Candidate)
    }

    /// Whether the fleet's source was read once; for `/readyz`.
    pub fn is_known(&self) -> bool {
        self.fleet.is_known()
    }

    /// Each instance, in the order of the settings; for `/fleet` and `/metrics`.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        let now = Instant::now();
        self.fleet.instances().iter().map(|instance| instance.status(now)).collect()
    }

    /// Takes no new calls to an instance until `resume`, whatever its probe says. False if there is no such instance.
    pub fn drain(&self, instance: &str) -> bool {
        self.tell(instance, Event::Drained)
    }

    /// Ends `drain`; an instance that drains by its own word goes on doing so. False if there is no such instance.
    pub fn resume(&self, instance: &str) -> bool {
        self.tell(instance, Event::Resumed)
    }

    /// The owner that callback URIs of `instance` name, if it is in the fleet.
    pub fn owner(&self, instance: &str) -> Option<Owner> {
        self.fleet.instance(instance).map(|instance| instance.owner.clone())
    }

    fn tell(&self, instance: &str, event: Event) -> bool {
        match self.fleet.instance(instance) {
            Some(instance) => {
                instance.live.learn(event, Instant::now());
                true
            }
            None => false,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("settings", &self.settings)
            .field("instances", &self.instances())
            .finish_non_exhaustive()
    }
}
