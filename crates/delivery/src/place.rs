//! Placing a new call: candidates in the order of their rank, until one responds or the budget is spent.

use std::time::Duration;

use switchboard_routing::{AffinityKey, Owner};
use tokio::time::{Instant, sleep};

use crate::{
    cause::Cause,
    connections::Connections,
    delivery::Delivery,
    fleet::Fleet,
    headers::{self, call_id_for_log},
    instance::{Event, Instance, PendingCall},
    outbound::Outbound,
    placements::Placements,
    response::UpstreamResponse,
    upstream::{AttemptError, Upstream},
};

impl Delivery {
    /// Places a new call at one instance: asks candidates in the order of `key`, until `budget` after its
    /// arrival.
    ///
    /// The call goes to the next candidate if one cannot be reached, does not respond within its share of the
    /// budget, or responds with 502, 503, 504, 3xx or invalid HTTP. Any other response, also a 500, is
    /// returned.
    ///
    /// # Errors
    ///
    /// No instance can take a call, or every instance that was asked failed.
    pub async fn place(
        &self,
        connections: &Connections,
        mut notification: Outbound,
        key: AffinityKey,
        budget: Duration,
    ) -> Result<UpstreamResponse, PlaceError> {
        let end = notification.arrived + budget;
        let mut progress =
            PlaceProgress { attempts: 0, outcome_unknown: 0, last: Cause::NoTime, any_sent: false };
        headers::clean(&mut notification.headers, self.settings.authorization);
        let once = notification.clone();
        if let Some(response) = self.ask_candidates(connections, once, key, end, &mut progress).await {
            return Ok(response);
        }
        // Every attempt failed before a byte was written. Wait `PAUSE` and try once more: an instance may
        // just be restarting, or its next probe may find it ready.
        let in_time = Instant::now() + PAUSE + ATTEMPT_TIME_MIN < end;
        if progress.attempts > 0 && !progress.any_sent && in_time {
            sleep(PAUSE).await;
            let again = self.ask_candidates(connections, notification, key, end, &mut progress).await;
            if let Some(response) = again {
                return Ok(response);
            }
        }
        if progress.attempts == 0 && Instant::now() < end {
            return Err(PlaceError::NoCandidate);
        }
        Err(PlaceError::AllFailed {
            attempts: progress.attempts,
            outcome_unknown: progress.outcome_unknown,
            last: progress.last.label(),
        })
    }

    /// Asks each candidate once, best first. `None` if none took the call.
    async fn ask_candidates(
        &self,
        connections: &Connections,
        notification: Outbound,
        key: AffinityKey,
        end: Instant,
        progress: &mut PlaceProgress,
    ) -> Option<UpstreamResponse> {
        let fleet = self.fleet.load_full();
        let mut candidates = fleet.candidates(notification.app, key);
        let mut next = Some(notification);
        while let Some((instance, left)) = candidates.next(Instant::now()) {
            let now = Instant::now();
            let remaining = end.saturating_duration_since(now);
            if remaining.is_zero() {
                break;
            }
            // `None`: it became full, draining or unreachable while others were asked.
            let Some(pending) = instance.tracker.reserve(now) else { continue };
            let Some(mut notification) = next.take() else { break };
            if left > 0 {
                next = Some(notification.clone());
            }
            progress.attempts = progress.attempts.saturating_add(1);
            headers::add_attempt(&mut notification.headers, progress.attempts);
            if let Some(unix_ms) = notification.deadline_unix_ms {
                headers::add_deadline(&mut notification.headers, unix_ms);
            }
            let until = now + self.settings.attempt.min(remaining / shares(left, remaining));
            let call_id = notification.call_id.clone();
            let record = PlacementRecord { placements: &self.placements, call_id, owner: &instance.owner };
            let upstream = self.new_calls_of(connections, &fleet, instance);
            match self.attempt_call(upstream, instance, pending, notification, until, end).await {
                Ok(response) => {
                    if !response.status.is_success() {
                        record.discard();
                    }
                    let PlaceProgress { attempts, outcome_unknown, .. } = *progress;
                    return Some(UpstreamResponse { attempts, outcome_unknown, ..response });
                }
                Err(error) => {
                    progress.note_failure(&error);
                    log_failed_attempt(instance, &record, progress, &error);
                    if !error.leaves_outcome_unknown() {
                        record.discard();
                    }
                }
            }
        }
        None
    }

    fn new_calls_of<'a>(
        &'a self,
        connections: &'a Connections,
        fleet: &'a Fleet,
        instance: &'a Instance,
    ) -> Upstream<'a> {
        let (pool, endpoint) = (&connections.instances, &instance.new_calls);
        Upstream { pool, origins: fleet.origins(), endpoint, connector: &self.connector }
    }

    /// Sends a new call to one instance once. The health of the instance learns from the outcome.
    async fn attempt_call(
        &self,
        upstream: Upstream<'_>,
        instance: &Instance,
        pending: PendingCall,
        notification: Outbound,
        until: Instant,
        end: Instant,
    ) -> Result<UpstreamResponse, AttemptError> {
        let tracker = &instance.tracker;
        let in_flight = tracker.request_started(Instant::now());
        tracker.count_attempt();
        let call_id = notification.call_id.clone();
        let parts = instance.app_parts(notification.app);
        let path = parts.new_call_path.clone();
        let request = self.request(instance, upstream.endpoint, &parts, path, notification);
        let sent = upstream.attempt(request, until).await;
        let accepted = sent.and_then(|response| match Cause::of_status(response.status()) {
            Some(cause) => Err(AttemptError::Sent(cause)),
            None => Ok(response),
        });
        let now = Instant::now();
        match accepted {
            Ok(response) => {
                tracker.learn(Event::CallResponded, now);
                if response.status().is_success() {
                    pending.accepted(call_id.as_deref(), now);
                } else {
                    pending.not_accepted(now);
                }
                Ok(UpstreamResponse::of_instance(response, &instance.owner, in_flight, end))
            }
            Err(error) => {
                tracker.count_failure(error.cause());
                tracker.learn(Event::CallFailed(error.cause()), now);
                if !error.leaves_outcome_unknown() {
                    pending.not_accepted(now);
                }
                Err(error)
            }
        }
    }
}

fn log_failed_attempt(
    instance: &Instance,
    record: &PlacementRecord<'_>,
    progress: &PlaceProgress,
    error: &AttemptError,
) {
    let call_id = call_id_for_log(record.call_id.as_deref());
    if error.leaves_outcome_unknown() {
        tracing::warn!(
            instance = %instance.name(),
            call.id = call_id,
            attempt = progress.attempts,
            reason = error.cause().label(),
            "outcome unknown: instance received a new call and did not respond"
        );
    } else {
        tracing::debug!(
            instance = %instance.name(),
            call.id = call_id,
            attempt = progress.attempts,
            reason = error.cause().label(),
            "instance did not take a new call"
        );
    }
}

/// A new call was not placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No instance is ready, serves the app and is not full.
    #[error("no instance can take a call")]
    NoCandidate,
    /// Every instance that was asked failed, or the budget ran out.
    #[error("all {attempts} attempts failed, the last one with {last}")]
    AllFailed {
        /// The number of attempts.
        attempts: u32,
        /// The attempts after which the instance may have acted on the call.
        outcome_unknown: u32,
        /// The label of the last failure.
        last: &'static str,
    },
}

impl PlaceError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoCandidate => "no_candidate",
            Self::AllFailed { .. } => "all_failed",
        }
    }
}

/// The attempts of one new call so far.
#[derive(Clone, Copy, Debug)]
struct PlaceProgress {
    attempts: u32,
    outcome_unknown: u32,
    last: Cause,
    /// True if the request may have reached an instance.
    any_sent: bool,
}

impl PlaceProgress {
    fn note_failure(&mut self, error: &AttemptError) {
        self.any_sent |= error.was_sent();
        if error.leaves_outcome_unknown() {
            self.outcome_unknown = self.outcome_unknown.saturating_add(1);
        }
        self.last = error.cause();
    }
}

/// Remembers a new call as placed at an instance when it is dropped, unless it is discarded.
///
/// It is also dropped when the platform hangs up: the instance continues with the call.
struct PlacementRecord<'a> {
    placements: &'a Placements,
    call_id: Option<Box<str>>,
    owner: &'a Owner,
}

impl PlacementRecord<'_> {
    /// The instance did not take the call.
    fn discard(mut self) {
        self.call_id = None;
    }
}

impl Drop for PlacementRecord<'_> {
    fn drop(&mut self) {
        if let Some(call_id) = &self.call_id {
            self.placements.remember(call_id, self.owner, Instant::now());
        }
    }
}

/// The number of shares that the remaining time is divided into, with `left` candidates after this one. With
/// many candidates an attempt still gets a third.
///
/// There are fewer shares if they would be too short to mean anything. Thirds of the rest never use it up: a
/// call to which no instance responds would visit each instance of a large fleet, the last ones for a
/// millisecond, and eject them all.
fn shares(left: usize, remaining: Duration) -> u32 {
    let meaningful = remaining.as_millis() / ATTEMPT_TIME_MIN.as_millis();
    let shares_max = usize::try_from(meaningful).unwrap_or(SHARES_MAX).clamp(1, SHARES_MAX);
    u32::try_from(left.saturating_add(1).min(shares_max)).unwrap_or(1)
}

const SHARES_MAX: usize = 3;
/// The time that a new connection alone may take.
const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(300);
/// The pause before candidates that could not be reached are asked once more. It is longer than the back-off
/// of instances without a probe, and than the time after which the others are probed again.
const PAUSE: Duration = Duration::from_millis(1100);
