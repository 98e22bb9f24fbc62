//! Forwarding a callback to the instance that owns the call, whatever its health, until the end of patience.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use switchboard_routing::{AffinityKey, Name, NameRef, OwnerRef};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{
    cause::Cause,
    connections::{Connections, ResponseBody},
    delivery::Delivery,
    fleet::Fleet,
    headers::Mark,
    instance::{InFlight, Instance, Standing},
    outbound::Outbound,
    response::UpstreamResponse,
    settings::Orphaned,
    upstream::Upstream,
};

impl Delivery {
    /// Counts a callback as in flight to its owner from before its body is read, until the guard is dropped.
    /// Drop it before [`Delivery::forward`], which counts the callback itself.
    ///
    /// So callbacks of an instance that hangs use up its own bound only, even while they wait for something
    /// else than its response.
    ///
    /// # Errors
    ///
    /// The owner has `in_flight_per_instance` requests in flight. An owner that the fleet does not have is no
    /// error here.
    pub fn callback_started(&self, owner: OwnerRef<'_>) -> Result<CallbackInFlight, ForwardError> {
        let fleet = self.fleet.load();
        let instance = fleet.instance(owner.instance.as_str());
        Ok(CallbackInFlight { _in_flight: instance.map(|instance| self.started(instance)).transpose()? })
    }

    /// Counts a request as in flight to an instance, unless that has too many.
    fn started(&self, instance: &Instance) -> Result<InFlight, ForwardError> {
        let max = self.settings.in_flight_per_instance;
        let in_flight = instance.tracker.request_started_within(max, Instant::now());
        in_flight.ok_or_else(|| ForwardError::OverCapacity { instance: instance.name().clone() })
    }

    /// Forwards a callback to its owner, whatever its health.
    ///
    /// While not a byte of it was written, it is sent again until the end of patience. An instance whose
    /// probe reports an incarnation is another process if it accepts a connection after it has refused one,
    /// so a refused connection ends the attempts, and the next report decides. Once the callback was
    /// written, it is never sent again, and the response is awaited. Any response is relayed, but for a 401:
    /// after it the callback is sent once more, a second later.
    ///
    /// # Errors
    ///
    /// The owner is not in the fleet, the fleet or the incarnation of the instance is not known now, or the
    /// owner did not respond within the patience, responded with 401 again, or has too many requests in
    /// flight.
    pub async fn forward(
        &self,
        connections: &Connections,
        notification: &Outbound,
        owner: OwnerRef<'_>,
    ) -> Result<UpstreamResponse, ForwardError> {
        let fleet = self.fleet.load_full();
        let named = fleet.instance(owner.instance.as_str());
        match named.map(|instance| (instance, instance.standing(owner))) {
            Some((instance, Standing::Alive)) => {
                let to = (&*fleet, &**instance, owner.incarnation);
                return self.deliver(connections, notification, to, Mark::Owner).await;
            }
            _ if !fleet.is_known() => return Err(ForwardError::FleetUnknown),
            Some((instance, Standing::Unknown)) => {
                return Err(ForwardError::IncarnationUnknown { instance: instance.name().clone() });
            }
            // A process of which only the probe tells has ended, whatever the source says.
            Some((instance, Standing::Gone)) if instance.uses_probed_incarnation() => {}
            // While the source cannot be read, another gateway may know an owner that this one has not found.
            _ if self.source_times.is_failing() => return Err(ForwardError::FleetUnknown),
            Some((_, Standing::Gone)) | None => {}
        }
        let successor = match self.settings.orphaned {
            Orphaned::Refuse => None,
            Orphaned::Reassign => {
                // Without a call id the calls of the lost instance at least stay together.
                let key = notification.call_id.as_deref().unwrap_or(owner.instance.as_str());
                fleet.first_ranked(AffinityKey::of(key), notification.app)
            }
        };
        match successor {
            Some(instance) => {
                let to = (&*fleet, instance, owner.incarnation);
                self.deliver(connections, notification, to, Mark::Orphaned).await
            }
            None => Err(ForwardError::Gone { instance: owner.instance.to_name() }),
        }
    }

    /// Forwards an item on the webhook to the instance that probably owns `notification.call_id`, marked
    /// `Switchboard-Unsealed: true`.
    ///
    /// That is the instance at which this gateway placed the call within ten minutes, or to which it last
    /// sent the call without a response. Otherwise it is the first in the ranking of all known instances.
    ///
    /// # Errors
    ///
    /// The fleet is not known yet, no instance serves the app, or the instance did not respond within the
    /// patience or has too many requests in flight.
    pub async fn forward_unsealed(
        &self,
        connections: &Connections,
        notification: &Outbound,
    ) -> Result<UpstreamResponse, ForwardError> {
        let fleet = self.fleet.load_full();
        if !fleet.is_known() {
            return Err(ForwardError::FleetUnknown);
        }
        match self.probable(&fleet, notification.call_id.as_deref().unwrap_or_default(), notification.app) {
            Some(instance) => {
                let to = (&*fleet, instance, instance.owner.incarnation.as_name_ref());
                self.deliver(connections, notification, to, Mark::Unsealed).await
            }
            None => Err(ForwardError::NoInstance),
        }
    }

    /// The instance that `forward_unsealed` would choose, so that a batch can be split by owner.
    pub fn probable_owner(&self, call_id: &str, app: Uuid) -> Option<Name> {
        self.probable(&self.fleet.load(), call_id, app).map(|instance| instance.name().clone())
    }

    fn probable<'f>(&self, fleet: &'f Fleet, call_id: &str, app: Uuid) -> Option<&'f Instance> {
        let placed = self.placements.find(call_id, Instant::now());
        // Another incarnation of the instance does not know the call: then the ranking decides again.
        placed
            .and_then(|placed| {
                Some(&**fleet.instance(placed.instance.as_str())?).filter(|one| one.owner == placed)
            })
            .or_else(|| fleet.first_ranked(AffinityKey::of(call_id), app))
    }

    /// Delivers a notification to an instance. It is about the incarnation that its callback URI names.
    async fn deliver(
        &self,
        connections: &Connections,
        notification: &Outbound,
        (fleet, instance, incarnation): (&Fleet, &Instance, NameRef<'_>),
        mark: Mark,
    ) -> Result<UpstreamResponse, ForwardError> {
        let end = notification.arrived + self.settings.patience;
        let tracker = &instance.tracker;
        let started = Instant::now();
        let in_flight = self.started(instance)?;
        let parts = instance.app_parts(notification.app);
        let endpoint = &instance.callbacks;
        let to = (endpoint, &parts.callback_path, instance.name());
        let request = self.request(to, &parts, incarnation, notification, |head| mark.add_to(head));
        let pool = &connections.instances;
        let upstream = Upstream { pool, origins: fleet.origins(), endpoint, connector: &self.connector };
        let ends_when_refused = instance.ends_when_it_refuses();
        let sent = match upstream.send_until(&request, end, ends_when_refused, Some(tracker)).await {
            Ok((response, made, attempted)) if response.status() == StatusCode::UNAUTHORIZED => {
                drop(response);
                tracker.count_failure(Cause::Unauthorized, attempted.elapsed());
                tracker.note_connected(started);
                if !self.may_have_new_keys(instance, end).await {
                    return Err(declined(instance, made));
                }
                match upstream.send_until(&request, end, ends_when_refused, Some(tracker)).await {
                    Ok((response, more, attempted)) => Ok((response, made.saturating_add(more), attempted)),
                    Err((last, more)) => Err((last, made.saturating_add(more))),
                }
            }
            sent => sent,
        };
        match sent {
            Ok((response, attempts, attempted)) => {
                Self::responded(instance, response, attempts, in_flight, (started, attempted, end))
            }
            Err((last, attempts)) => Err(self.not_delivered(instance, last, attempts, started)),
        }
    }

    /// Waits a moment after a 401. Returns true if the instance may be asked once more: patience is left, and
    /// it is the same process.
    ///
    /// The gateway has proved the token, so the keys of the instance are old. Most bots fetch new ones after
    /// such a token, and accept the next.
    async fn may_have_new_keys(&self, instance: &Instance, end: Instant) -> bool {
        let at = Instant::now() + KEYS_PAUSE;
        if at >= end {
            return false;
        }
        sleep_until(at).await;
        let fleet = self.fleet.load();
        let now = fleet.instance(instance.name().as_str());
        now.is_some_and(|now| Arc::ptr_eq(&now.tracker, &instance.tracker))
    }

    /// The instance responded to a notification that was first sent at `started` and last at `attempted`, and
    /// that had until `end`.
    fn responded(
        instance: &Instance,
        response: Response<ResponseBody>,
        attempts: u32,
        in_flight: InFlight,
        (started, attempted, end): (Instant, Instant, Instant),
    ) -> Result<UpstreamResponse, ForwardError> {
        let (tracker, now) = (&instance.tracker, Instant::now());
        let took = now.saturating_duration_since(attempted);
        let cause = Cause::of_response(&response);
        match cause.filter(|cause| is_failure(*cause)) {
            Some(cause) => tracker.count_failure(cause, took),
            None => tracker.count_success(took),
        }
        match cause {
            Some(Cause::Loop) => {
                let (instance, last) = (instance.name().clone(), Cause::Loop.label());
                return Err(ForwardError::Unreachable { instance, last, attempts });
            }
            // They come from a proxy in front of a dead instance.
            Some(cause @ (Cause::BadGateway | Cause::GatewayTimeout)) => {
                instance.callback_failed(cause, started, now);
            }
            Some(Cause::TooManyRequests) => {
                tracker.note_connected(started);
                tracker.rate_limited(response.headers(), now);
            }
            _ => tracker.note_connected(started),
        }
        tracker.count_callback();
        if cause == Some(Cause::Unauthorized) {
            return Err(declined(instance, attempts));
        }
        let response = UpstreamResponse::of_instance(response, &instance.owner, in_flight, end);
        Ok(UpstreamResponse { attempts, ..response })
    }

    /// The instance did not respond to a notification that was first sent at `started`.
    fn not_delivered(
        &self,
        instance: &Instance,
        last: Cause,
        attempts: u32,
        started: Instant,
    ) -> ForwardError {
        instance.attempt_failed(last);
        let now = Instant::now();
        // With a slow body little patience is left, and its end says nothing about the owner.
        let enough = self.settings.attempt.min(self.settings.patience);
        let was_cut_short = matches!(last, Cause::Timeout | Cause::ConnectTimeout)
            && now.saturating_duration_since(started) < enough;
        if !was_cut_short {
            instance.callback_failed(last, started, now);
        }
        ForwardError::Unreachable { instance: instance.name().clone(), last: last.label(), attempts }
    }
}

/// Returns true for responses to a notification that count as failed attempts. A 503 or a redirect does not:
/// it is relayed, and the bot decides about its calls.
fn is_failure(cause: Cause) -> bool {
    cause.is_declined() || matches!(cause, Cause::BadGateway | Cause::GatewayTimeout | Cause::Loop)
}

/// The instance responded with 401 also to the second attempt, or there was no time for one.
fn declined(instance: &Instance, attempts: u32) -> ForwardError {
    ForwardError::Declined { instance: instance.name().clone(), last: Cause::Unauthorized.label(), attempts }
}

/// A callback that counts as in flight to its owner before it is forwarded.
#[derive(Debug)]
pub struct CallbackInFlight {
    _in_flight: Option<InFlight>,
}

/// A callback was not delivered to its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The fleet's source has not been read yet, or cannot be read and did not list the owner before.
    #[error("the fleet is not known")]
    FleetUnknown,
    /// The instance, or this incarnation of it, is no longer in the fleet.
    #[error("instance {instance} is gone")]
    Gone {
        /// The name of the instance.
        instance: Name,
    },
    /// The callback names an incarnation that is not the instance's, as far as this gateway knows. The next
    /// report of the instance decides.
    #[error("instance {instance} has not confirmed its incarnation yet")]
    IncarnationUnknown {
        /// The name of the instance.
        instance: Name,
    },
    /// No instance of the fleet serves the app, so no owner can be guessed.
    #[error("no instance serves the app")]
    NoInstance,
    /// The instance has too many requests in flight: it hangs, or is much too slow.
    #[error("instance {instance} has too many requests in flight")]
    OverCapacity {
        /// The name of the instance.
        instance: Name,
    },
    /// The instance responded with 401, twice if the patience allowed it, to a token that the gateway has
    /// proved: its keys are old.
    #[error("instance {instance} declined: {last}")]
    Declined {
        /// The name of the instance.
        instance: Name,
        /// The label of the last response.
        last: &'static str,
        /// The number of attempts.
        attempts: u32,
    },
    /// The instance did not respond within the patience.
    #[error("instance {instance} did not respond: {last}")]
    Unreachable {
        /// The name of the instance.
        instance: Name,
        /// The label of the last failure.
        last: &'static str,
        /// The number of attempts.
        attempts: u32,
    },
}

impl ForwardError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::FleetUnknown => "fleet_unknown",
            Self::Gone { .. } => "gone",
            Self::IncarnationUnknown { .. } => "incarnation_unknown",
            Self::NoInstance => "no_instance",
            Self::OverCapacity { .. } => "over_capacity",
            Self::Declined { .. } => "declined",
            Self::Unreachable { .. } => "unreachable",
        }
    }
}

/// The time between a 401 and the next attempt: bots fetch the keys of the issuer in the background, from
/// which most of them are some hundred milliseconds away.
const KEYS_PAUSE: Duration = Duration::from_secs(1);
