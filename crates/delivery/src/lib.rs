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

mod attempt;
mod connections;
mod discovery;
mod fleet;
mod forward;
mod headers;
mod instance;
mod network;
mod peer_gateways;
mod place;
mod placements;
mod probe;
mod response;
mod settings;
mod upstream_url;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use openssl::ssl::SslConnector;
use switchboard_routing::{CallbackUris, Owner};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use uuid::Uuid;

#[cfg(feature = "kubernetes")]
pub use self::settings::{KubernetesSettings, PodPort};
pub use self::{
    connections::Connections,
    forward::ForwardError,
    instance::{InstanceState, InstanceStatus},
    network::{InvalidNetwork, Network},
    peer_gateways::{PeerGateways, ProxyError},
    place::PlaceError,
    response::{UpstreamBody, UpstreamBodyError, UpstreamResponse},
    settings::{DeliverySettings, Discovery, DnsSettings, InstanceSettings, Orphaned, ProbeSettings},
    upstream_url::{InvalidUpstreamUrl, UpstreamUrl},
};
use self::{
    fleet::{Common, Fleet, Member},
    instance::{Event, Standing},
    placements::Placements,
};

/// The fleet and the way to it. Shared by all threads.
///
/// Its futures are `Send` and may run on any runtime; each runtime brings its own [`Connections`].
pub struct Delivery {
    /// Replaced when a source or an instance that was leaving changes it; everything else is in the instances.
    fleet: ArcSwap<Fleet>,
    /// The fleet was replaced.
    replaced: Notify,
    /// Held while the next fleet is built from the last.
    building: Mutex<()>,
    common: Common,
    placements: Placements,
    tls: SslConnector,
    /// The region, as the value of `Switchboard-Region`.
    region: HeaderValue,
    /// The settings without the instances, which are in `fleet`.
    settings: DeliverySettings,
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
    pub fn new(settings: DeliverySettings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        Self::build(settings, uris, tls, Placements::new(), None)
    }

    /// The delivery for new settings that keeps what is known of the instances that stay (same name and URLs): their
    /// health, load, drain and counters, and the memory of placements.
    pub fn successor(&self, settings: DeliverySettings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        Self::build(settings, uris, tls, self.placements.clone(), Some(self))
    }

    fn build(
        mut settings: DeliverySettings,
        uris: Arc<CallbackUris>,
        tls: SslConnector,
        placements: Placements,
        before: Option<&Self>,
    ) -> Self {
        let listed = fleet::members(std::mem::take(&mut settings.instances));
        let common = Common {
            region: settings.region.clone(),
            probed: settings.probe.is_some(),
            uris,
            keep_leaving: settings.keep_leaving,
            slow_start: settings.slow_start,
            trust: Common::next_trust(),
        };
        let now = Instant::now();
        let last = before.map(|before| (before.fleet.load_full(), before.settings.discovery.as_ref()));
        let (members, known) = match (&settings.discovery, &last) {
            (None, _) => (listed, true),
            // What was found holds until the source is read again, whatever of its settings has changed.
            (Some(new), Some((fleet, Some(old)))) if new.is_like(old) => (fleet.members(), fleet.is_known()),
            (Some(_), _) => (Vec::new(), false),
        };
        let fleet = Fleet::new(members, known, &common, last.as_ref().map(|(fleet, _)| &**fleet), now);
        Self {
            fleet: ArcSwap::from_pointee(fleet),
            replaced: Notify::new(),
            building: Mutex::default(),
            common,
            placements,
            tls,
            region: instance::name_value(&settings.region),
            settings,
        }
    }

    /// Learns from the instances and from where they are found, until it is dropped. Spawn it once, on any runtime.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(self.probe_all(), self.discover(), self.let_go());
    }

    /// Puts what a source has read to work.
    fn found(&self, mut members: Vec<Member>) {
        let region = &self.common.region;
        members.retain(|member| {
            let (instance, incarnation) = (member.name.clone(), member.incarnation.clone());
            let owner = Owner { region: region.clone(), instance, incarnation };
            let checked = self.common.uris.check(owner.as_ref());
            if let Err(error) = &checked {
                tracing::error!(instance = %member.name, %error, "an instance was found whose callbacks cannot be named");
            }
            checked.is_ok()
        });
        members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        self.rebuild(|fleet| {
            (!fleet.is_known() || fleet.members() != members).then(|| {
                tracing::info!(instances = members.len(), "the fleet's source names its instances");
                (members, true)
            })
        });
    }

    /// Lets instances go that left, and whose calls have ended.
    async fn let_go(&self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let overdue = |fleet: &Fleet| fleet.has_overdue(self.common.keep_leaving, Instant::now());
            if overdue(&self.fleet.load()) {
                self.rebuild(|fleet| overdue(fleet).then(|| (fleet.members(), fleet.is_known())));
            }
        }
    }

    /// Replaces the fleet, if there are members for the next one.
    fn rebuild(&self, next: impl FnOnce(&Fleet) -> Option<(Vec<Member>, bool)>) {
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.fleet.load_full();
        let Some((members, known)) = next(&last) else { return };
        let fleet = Fleet::new(members, known, &self.common, Some(&last), Instant::now());
        self.fleet.store(Arc::new(fleet));
        self.replaced.notify_one();
    }

    /// Whether some instance could take a new call now; for `health_path`.
    ///
    /// One without a probe that failed a moment ago would be asked if there is no other, and is not counted on here: the
    /// region that asks has somewhere else to go.
    pub fn can_take_call(&self) -> bool {
        let now = Instant::now();
        self.fleet.load().instances().iter().any(|one| one.live.standing(now) == Standing::Candidate)
    }

    /// Whether the fleet's source was read once; for `/readyz`.
    pub fn is_known(&self) -> bool {
        self.fleet.load().is_known()
    }

    /// Each instance, in the order of the settings or by name where they were found; then those that left within ten
    /// minutes and whose name nobody else has. For `/fleet` and `/metrics`.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        let now = Instant::now();
        let fleet = self.fleet.load();
        let gone =
            fleet.gone().iter().map(|instance| instance.status(now)).filter(|gone| gone.since < GONE_SHOWN);
        fleet.instances().iter().map(|instance| instance.status(now)).chain(gone).collect()
    }

    /// A call that an instance had taken has ended: there is room for another one. A call that this gateway did not place
    /// there is not counted, and one that ends twice counts once.
    pub fn call_ended(&self, instance: &str, call_id: &str) {
        if let Some(instance) = self.fleet.load().instance(instance) {
            instance.live.call_ended(call_id, Instant::now());
        }
    }

    /// Whether an instance was sent the call within ten minutes and has accepted it, or may have. Asked after `place` has failed:
    /// then nobody else may do anything with the call.
    pub fn may_be_answered(&self, call_id: &str) -> bool {
        self.placements.find(call_id, Instant::now()).is_some()
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
        self.fleet.load().instance(instance).map(|instance| instance.owner.clone())
    }

    fn tell(&self, instance: &str, event: Event) -> bool {
        match self.fleet.load().instance(instance) {
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

/// How often it is looked whether an instance that left can be let go. Nothing waits for it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long an instance that left is still shown: longer than a rollout's next look.
const GONE_SHOWN: Duration = Duration::from_secs(600);
