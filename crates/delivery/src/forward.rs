//! A callback: to the instance that owns the call, whatever its health, for as long as patience lasts.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use openssl::ssl::SslConnector;
use switchboard_routing::{AffinityKey, Name, OwnerRef};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{
    Connections, Delivery, Orphaned, Outbound, UpstreamResponse,
    attempt::{Cause, Failure, send},
    connections::Pool,
    fleet::Fleet,
    headers::{self, Mark},
    instance::Instance,
};

impl Delivery {
    /// Brings a callback to its owner, whatever its health.
    ///
    /// While no byte of it was written it is sent again, until the end of patience. Once it was written the answer is
    /// waited for and the request never repeated. Any answer is relayed.
    pub async fn forward(
        &self,
        connections: &Connections,
        notification: Outbound,
        owner: OwnerRef<'_>,
    ) -> Result<UpstreamResponse, ForwardError> {
        let fleet = self.fleet.load_full();
        let found = fleet.instance(owner.instance.as_str()).filter(|instance| instance.owner == owner);
        if let Some(instance) = found {
            return self.deliver(connections, notification, (&fleet, instance), Mark::Owner).await;
        }
        if !fleet.is_known() {
            return Err(ForwardError::FleetUnknown);
        }
        let heir = match self.settings.orphaned {
            Orphaned::Refuse => None,
            Orphaned::Reassign => {
                // Without a call id the calls of the lost instance stay together at least.
                let key = notification.call_id.as_deref().unwrap_or(owner.instance.as_str());
                fleet.first(AffinityKey::of(key), notification.app)
            }
        };
        match heir {
            Some(instance) => {
                self.deliver(connections, notification, (&fleet, instance), Mark::Orphaned).await
            }
            None => Err(ForwardError::Gone { instance: owner.instance.to_name() }),
        }
    }

    /// Brings an item on the webhook to the instance that probably owns `notification.call_id`: where this gateway placed the
    /// call within ten minutes, or last sent it without an answer, else the first in the ranking of all known ones. Marked `Switchboard-Unsealed: true`.
    pub async fn forward_unsealed(
        &self,
        connections: &Connections,
        notification: Outbound,
    ) -> Result<UpstreamResponse, ForwardError> {
        let fleet = self.fleet.load_full();
        if !fleet.is_known() {
            return Err(ForwardError::FleetUnknown);
        }
        match self.probable(&fleet, notification.call_id.as_deref().unwrap_or_default(), notification.app) {
            Some(instance) => {
                self.deliver(connections, notification, (&fleet, instance), Mark::Unsealed).await
            }
            None => Err(ForwardError::NoInstance),
        }
    }

    /// The instance that `forward_unsealed` would choose: so that a batch can be cut by owner.
    pub fn probable_owner(&self, call_id: &str, app: Uuid) -> Option<Name> {
        self.probable(&self.fleet.load(), call_id, app).map(|instance| instance.name().clone())
    }

    fn probable<'f>(&self, fleet: &'f Fleet, call_id: &str, app: Uuid) -> Option<&'f Instance> {
        let placed = self.placements.find(call_id, Instant::now());
        // In another life the instance knows nothing of the call: then it is anybody's guess again.
        placed
            .and_then(|placed| {
                Some(&**fleet.instance(placed.instance.as_str())?).filter(|one| one.owner == placed)
            })
            .or_else(|| fleet.first(AffinityKey::of(call_id), app))
    }

    async fn deliver(
        &self,
        connections: &Connections,
        mut notification: Outbound,
        (fleet, instance): (&Fleet, &Instance),
        mark: Mark,
    ) -> Result<UpstreamResponse, ForwardError> {
        let end = notification.arrived + self.settings.patience;
        let live = &instance.live;
        let in_flight = live.request_begins(Instant::now());
        headers::clean(&mut notification.headers, self.settings.authorization);
        mark.stamp(&mut notification.headers);
        let for_app = instance.for_app(notification.app);
        let path = for_app.callback_path.clone();
        let request = self.request(instance, &instance.callbacks, &for_app, path, notification);

        let way = Way { pool: &connections.instances, fleet, instance, tls: &self.tls };
        match way.insist(request, end).await {
            Ok((response, attempts)) => {
                // What a proxy in front of a dead instance says is no sign of life.
                if Cause::of_status(response.status()).is_none() {
                    live.answered(Instant::now());
                }
                live.answered_callback();
                Ok(UpstreamResponse::new(response, instance, in_flight, end, attempts, 0))
            }
            Err((last, attempts)) => Err(ForwardError::Unreachable {
                instance: instance.name().clone(),
                last: last.label(),
                attempts,
            }),
        }
    }
}

/// The way to the one who must get a request, and nobody else.
pub(crate) struct Way<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) fleet: &'a Fleet,
    pub(crate) instance: &'a Instance,
    pub(crate) tls: &'a SslConnector,
}

impl Way<'_> {
    /// Sends a request until there is an answer, or `end`; also says, either way, how many tries it took. While no byte of it was
    /// written it is sent again; once it was written, never.
    pub(crate) async fn insist(
        &self,
        mut request: Request<Full<Bytes>>,
        end: Instant,
    ) -> Result<(Response<Incoming>, u32), (Cause, u32)> {
        let Self { pool, fleet, instance, tls } = self;
        let live = &instance.live;
        let mut attempts: u32 = 0;
        let mut pause = PAUSE_FIRST;
        let mut last = Cause::NoTime;
        while Instant::now() < end {
            attempts = attempts.saturating_add(1);
            live.tried();
            match send(pool, fleet, &instance.callbacks, tls, request, end).await {
                Ok(response) => return Ok((response, attempts)),
                Err(Failure::Sent(cause)) => {
                    live.failed(cause);
                    return Err((cause, attempts));
                }
                Err(Failure::Unsent(unsent, cause)) => {
                    live.failed(cause);
                    // The try that the end of patience cut short says less than the one before it.
                    if attempts == 1 || Instant::now() < end {
                        last = cause;
                    }
                    request = *unsent;
                }
            }
            sleep_until(end.min(Instant::now() + pause)).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
        Err((last, attempts))
    }
}

/// Why a callback was not answered by its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The fleet's source has not been read yet.
    #[error("the fleet is not known yet")]
    FleetUnknown,
    /// The instance, or this incarnation of it, is no longer in the fleet.
    #[error("instance {instance} is gone")]
    Gone {
        /// Its name.
        instance: Name,
    },
    /// No instance of the fleet serves the app, so that none can be guessed to own the call.
    #[error("no instance serves the app")]
    NoInstance,
    /// It did not answer within the patience.
    #[error("instance {instance} did not answer: {last}")]
    Unreachable {
        /// Its name.
        instance: Name,
        /// The last failure's label.
        last: &'static str,
        /// How many tries there were.
        attempts: u32,
    },
}

impl ForwardError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::FleetUnknown => "fleet_unknown",
            Self::Gone { .. } => "gone",
            Self::NoInstance => "no_instance",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// The first pause between two tries: a restarting process listens again in a moment, or in seconds.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Pauses double up to this: a callback is late by half a second at most once its owner is back.
const PAUSE_MAX: Duration = Duration::from_millis(500);
