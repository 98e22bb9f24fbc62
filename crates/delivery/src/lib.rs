//! The fleet, and handing a notification to the instance that owns the call.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use hyper::body::{Body, Frame};
use openssl::ssl::SslConnector;
use switchboard_routing::{AffinityKey, CallbackUris, Name, Owner};
use tokio::time::Instant;
use uuid::Uuid;

/// One instance of the static list.
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// Its name.
    pub name: Name,
    /// Where new calls go; http or https; `{app}` stands for the app id.
    pub url: Target,
    /// Where callbacks go; `url` if `None`.
    pub callback_url: Option<Target>,
    /// The apps that it serves; all if `None`.
    pub apps: Option<Vec<Uuid>>,
    /// Its share relative to others, at least 1.
    pub weight: u32,
}

/// A URL of an instance, possibly with `{app}` in its path or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {/* scheme, host, port, path template */}

impl Target {
    /// An absolute http or https URL without userinfo or fragment.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let _ = text;
        Ok(Self {})
    }
}

/// Why a text is not a `Target`.
#[derive(Debug, thiserror::Error)]
#[error("not an absolute http or https URL")]
pub struct TargetError;

/// How instances are asked for their state.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// The path of the GET, on the host and port of the instance's `url`.
    pub path: String,
    /// Between two probes of one instance.
    pub interval: Duration,
}

/// What to do with a callback of an instance, or an incarnation of it, that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// 410.
    Refuse,
    /// The instance that the call id ranks first, marked `Switchboard-Orphaned: true`.
    Reassign,
}

/// What delivery is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This region.
    pub region: Name,
    /// The static list.
    pub instances: Vec<InstanceSettings>,
    /// Without it every instance is taken for ready until a try fails.
    pub probe: Option<ProbeSettings>,
    /// The longest try of a new call.
    pub attempt: Duration,
    /// How long a callback is tried, from its arrival.
    pub patience: Duration,
    /// Callbacks of instances that are gone.
    pub orphaned: Orphaned,
    /// Whether `Authorization` is forwarded.
    pub authorization: bool,
}

/// The fleet and the way to it. Shared by all threads.
#[derive(Debug)]
pub struct Delivery {/* private */}

/// The pooled connections of one worker thread: cheap to use there, never shared between runtimes.
#[derive(Debug, Default)]
pub struct Connections {/* private */}

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

/// An instance's answer.
#[derive(Debug)]
pub struct Answer {
    /// As the instance sent it (never 1xx).
    pub status: StatusCode,
    /// Content-Type, Content-Length, Retry-After, Client-Request-Id and Scenario-Id where the instance sent them; nothing else.
    pub headers: HeaderMap,
    /// Streamed, limited in size and time.
    pub body: AnswerBody,
    /// Who answered.
    pub instance: Name,
    /// Tries made, this one included.
    pub attempts: u32,
    /// Tries of a new call that were given up after the request had been written: another instance may have acted.
    pub outcome_unknown: u32,
}

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {/* private */}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerBodyError;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerBodyError>>> {
        Poll::Ready(None)
    }
}

/// The instance's answer was cut off, too large or too slow.
#[derive(Debug, thiserror::Error)]
#[error("the instance's answer broke off")]
pub struct AnswerBodyError;

/// Why no instance took a new call.
#[derive(Debug, thiserror::Error)]
pub enum NotPlaced {
    /// No instance is ready, serves the app and is not full.
    #[error("no instance can take a call")]
    NoCandidate,
    /// Every instance that was asked failed, or the budget ran out.
    #[error("{attempts} instances failed")]
    AllFailed {
        /// How many were asked.
        attempts: u32,
        /// Of these, how many had been sent the whole request.
        outcome_unknown: u32,
        /// The last failure's label.
        last: &'static str,
    },
}

/// Why a callback was not answered by its owner.
#[derive(Debug, thiserror::Error)]
pub enum NotForwarded {
    /// The fleet's source has not been read yet.
    #[error("the fleet is not known yet")]
    FleetUnknown,
    /// The instance, or this incarnation of it, is no longer in the fleet.
    #[error("instance {instance} is gone")]
    Gone {
        /// Its name.
        instance: Name,
    },
    /// It did not answer within the patience.
    #[error("instance {instance} did not answer: {last}")]
    Unreachable {
        /// Its name.
        instance: Name,
        /// The last failure's label.
        last: &'static str,
    },
}

impl Delivery {
    /// A fleet with nothing known of its health. `tls` reaches https instances.
    pub fn new(settings: Settings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        let _ = (settings, uris, tls);
        Self {}
    }

    /// The delivery for new settings that keeps what is known of the instances that stay (same name and URLs): their
    /// health, load, drain and counters, and the memory of placements.
    pub fn successor(&self, settings: Settings, uris: Arc<CallbackUris>, tls: SslConnector) -> Self {
        let _ = (settings, uris, tls);
        Self {}
    }

    /// Probes the instances until it is dropped. Spawn it once, on any runtime.
    pub async fn run(self: Arc<Self>) {}

    /// Gives a new call to one instance, trying candidates in the order of `key` until `budget` after its arrival.
    pub async fn place(
        &self,
        connections: &Connections,
        notification: Outbound,
        key: AffinityKey,
        budget: Duration,
    ) -> Result<Answer, NotPlaced> {
        let _ = (connections, notification, key, budget);
        Err(NotPlaced::NoCandidate)
    }

    /// Brings a callback to its owner, whatever its health.
    pub async fn forward(
        &self,
        connections: &Connections,
        notification: Outbound,
        owner: &Owner,
    ) -> Result<Answer, NotForwarded> {
        let _ = (connections, notification, owner);
        Err(NotForwarded::FleetUnknown)
    }

    /// Brings an item on the webhook to the instance that probably owns `notification.call_id`: where this gateway placed the
    /// call within ten minutes, else the first in the ranking of all known ones. Marked `Switchboard-Unsealed: true`.
    pub async fn forward_unsealed(
        &self,
        connections: &Connections,
        notification: Outbound,
    ) -> Result<Answer, NotForwarded> {
        let _ = (connections, notification);
        Err(NotForwarded::FleetUnknown)
    }

    /// The instance that `forward_unsealed` would choose: so that a batch can be cut by owner.
    pub fn probable_owner(&self, call_id: &str, app: Uuid) -> Option<Name> {
        let _ = (call_id, app);
        None
    }

    /// Whether some instance could take a new call now; for `health_path`.
    pub fn can_take_call(&self) -> bool {
        false
    }

    /// Whether the fleet's source was read once; for `/readyz`.
    pub fn is_known(&self) -> bool {
        true
    }

    /// Each instance; for `/fleet` and `/metrics`.
    pub fn instances(&self) -> Vec<InstanceStatus> {
        Vec::new()
    }

    /// Takes no new calls to an instance until `resume`. False if there is no such instance.
    pub fn drain(&self, instance: &str) -> bool {
        let _ = instance;
        false
    }

    /// Ends `drain`.
    pub fn resume(&self, instance: &str) -> bool {
        let _ = instance;
        false
    }

    /// The owner that callback URIs of `instance` name, if it is in the fleet.
    pub fn owner(&self, instance: &str) -> Option<Owner> {
        let _ = instance;
        None
    }
}

/// What is known of one instance.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub incarnation: Name,
    /// Its state.
    pub state: InstanceState,
    /// How long it has been in this state.
    pub since: Duration,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Reported calls.
    pub calls: Option<u32>,
    /// Reported capacity.
    pub capacity: Option<u32>,
    /// New calls that it accepted from this gateway since the start.
    pub placed: u64,
    /// Callbacks that it answered.
    pub callbacks: u64,
    /// Requests under way.
    pub in_flight: u64,
    /// Tries made.
    pub attempts: u64,
    /// Tries that failed, by label.
    pub failures: Vec<(&'static str, u64)>,
    /// How long ago the last probe answered.
    pub last_probe: Option<Duration>,
}

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Not probed yet: takes no new calls.
    Starting,
    /// Takes new calls.
    Ready,
    /// At its capacity.
    Full,
    /// By its own word or the operator's.
    Draining,
    /// Missed its probes or failed a try.
    Unreachable,
}

impl InstanceState {
    /// A stable name for `/fleet`, logs and metrics.
    pub fn label(self) -> &'static str {
        "starting"
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
