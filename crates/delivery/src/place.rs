//! A new call: candidates in the order of their rank, until one answers or the budget is spent.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Uri, uri::PathAndQuery};
use http_body_util::Full;
use switchboard_routing::{AffinityKey, Owner};
use tokio::time::{Instant, sleep};

use crate::{
    Connections, Delivery, Outbound, UpstreamResponse,
    attempt::{Cause, Failure, send},
    fleet::Fleet,
    headers::{self, Stamp, call_id_for_log},
    instance::{Endpoint, Event, ForApp, Instance, Offered},
    placements::Placements,
};

impl Delivery {
    /// Gives a new call to one instance, trying candidates in the order of `key` until `budget` after its arrival.
    ///
    /// A candidate that cannot be reached, does not answer in its part of the budget, or answers 502, 503, 504, 3xx or
    /// no HTTP is passed over. Anything else is the instance's answer, a 500 too.
    pub async fn place(
        &self,
        connections: &Connections,
        mut notification: Outbound,
        key: AffinityKey,
        budget: Duration,
    ) -> Result<UpstreamResponse, PlaceError> {
        let end = notification.arrived + budget;
        let mut tried = Tried { attempts: 0, outcome_unknown: 0, last: Cause::NoTime, written: false };
        headers::clean(&mut notification.headers, self.settings.authorization);
        if let Some(answer) = self.pass(connections, notification.clone(), key, end, &mut tried).await {
            return Ok(answer);
        }
        // Where nobody could be asked, and it took no time to find out, somebody may be back in a moment: an instance that
        // restarts, one that its probe finds well again. Who was sent the request is not sent it again.
        if tried.attempts > 0 && !tried.written && Instant::now() + PAUSE + TRY_TIME_MIN < end {
            sleep(PAUSE).await;
            if let Some(answer) = self.pass(connections, notification, key, end, &mut tried).await {
                return Ok(answer);
            }
        }
        if tried.attempts == 0 && Instant::now() < end {
            return Err(PlaceError::NoCandidate);
        }
        Err(PlaceError::AllFailed {
            attempts: tried.attempts,
            outcome_unknown: tried.outcome_unknown,
            last: tried.last.label(),
        })
    }

    /// Tries each candidate once, best first; `None` if no one took the call.
    async fn pass(
        &self,
        connections: &Connections,
        notification: Outbound,
        key: AffinityKey,
        end: Instant,
        tried: &mut Tried,
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
            let parts = left.saturating_add(1).min(parts_max(remaining));
            let parts = u32::try_from(parts).unwrap_or(1);
            // None: it became full, drained or unreachable while others were asked.
            let Some(offered) = instance.live.try_begins(now) else { continue };
            let Some(mut notification) = next.take() else { break };
            if left > 0 {
                next = Some(notification.clone());
            }
            tried.attempts = tried.attempts.saturating_add(1);
            headers::stamp_attempt(&mut notification.headers, tried.attempts);
            if let Some(unix_ms) = notification.deadline_unix_ms {
                headers::stamp_deadline(&mut notification.headers, unix_ms);
            }
            let until = now + self.settings.attempt.min(remaining / parts);
            let call_id = notification.call_id.clone();
            let asked = Asked { placements: &self.placements, call_id, owner: &instance.owner };
            let reach = Reach { connections, fleet: &fleet, instance };
            match self.try_place(reach, offered, notification, until, end, *tried).await {
                Ok(answer) => {
                    if !answer.status.is_success() {
                        asked.has_not_taken_it();
                    }
                    return Some(answer);
                }
                Err(failure) => {
                    let (Failure::Unsent(_, cause) | Failure::Sent(cause)) = failure;
                    tried.written |= matches!(failure, Failure::Sent(_));
                    let unknown = matches!(failure, Failure::Sent(cause) if cause.leaves_outcome_unknown());
                    let call_id = call_id_for_log(asked.call_id.as_deref());
                    if unknown {
                        tried.outcome_unknown = tried.outcome_unknown.saturating_add(1);
                        tracing::warn!(
                            instance = %instance.name(),
                            call.id = call_id,
                            attempt = tried.attempts,
                            reason = cause.label(),
                            "outcome unknown: an instance was sent a new call and did not answer"
                        );
                    } else {
                        tracing::debug!(
                            instance = %instance.name(),
                            call.id = call_id,
                            attempt = tried.attempts,
                            reason = cause.label(),
                            "an instance did not take a new call"
                        );
                        asked.has_not_taken_it();
                    }
                    tried.last = cause;
                }
            }
        }
        None
    }

    /// One try of a new call at one instance, from which the instance's health learns.
    async fn try_place(
        &self,
        reach: Reach<'_>,
        offered: Offered,
        notification: Outbound,
        until: Instant,
        end: Instant,
        tried: Tried,
    ) -> Result<UpstreamResponse, Failure> {
        let Reach { connections, fleet, instance } = reach;
        let live = &instance.live;
        let in_flight = live.request_begins(Instant::now());
        live.tried();
        let call_id = notification.call_id.clone();
        let for_app = instance.for_app(notification.app);
        let path = for_app.new_call_path.clone();
        let request = self.request(instance, &instance.new_calls, &for_app, path, notification);
        let sent = send(&connections.instances, fleet, &instance.new_calls, &self.tls, request, until).await;
        let answered = sent.and_then(|response| match Cause::of_status(response.status()) {
            Some(cause) => Err(Failure::Sent(cause)),
            None => Ok(response),
        });
        let now = Instant::now();
        match answered {
            Ok(response) => {
                live.answered(now);
                if response.status().is_success() {
                    offered.accepted(call_id.as_deref(), now);
                } else {
                    offered.refused(now);
                }
                Ok(UpstreamResponse::new(
                    response,
                    instance,
                    in_flight,
                    end,
                    tried.attempts,
                    tried.outcome_unknown,
                ))
            }
            Err(failure) => {
                let (Failure::Unsent(_, cause) | Failure::Sent(cause)) = failure;
                live.failed(cause);
                live.learn(Event::TryFailed(cause.words()), now);
                if matches!(failure, Failure::Unsent(..)) || !cause.leaves_outcome_unknown() {
                    offered.refused(now);
                }
                Err(failure)
            }
        }
    }

    /// The request as an instance gets it, from a notification with clean headers.
    pub(crate) fn request(
        &self,
        instance: &Instance,
        endpoint: &Endpoint,
        for_app: &ForApp,
        path: PathAndQuery,
        notification: Outbound,
    ) -> Request<Full<bytes::Bytes>> {
        let Outbound { mut headers, body, tenant, call_id, .. } = notification;
        let region: &HeaderValue = &self.region;
        let call_id = call_id.as_deref();
        Stamp { region, instance, for_app, endpoint, tenant, call_id, body_bytes: body.len() }
            .apply(&mut headers);
        into_request(headers, path, body)
    }
}

fn into_request(headers: HeaderMap, path: PathAndQuery, body: bytes::Bytes) -> Request<Full<bytes::Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = headers;
    request
}

/// Why no instance took a new call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No instance is ready, serves the app and is not full.
    #[error("no instance can take a call")]
    NoCandidate,
    /// Every instance that was asked failed, or the budget ran out.
    #[error("{attempts} instances failed, the last one by {last}")]
    AllFailed {
        /// How many were asked.
        attempts: u32,
        /// Of these, how many had been sent the request and may have acted on it.
        outcome_unknown: u32,
        /// The last failure's label.
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

/// The tries of one new call so far.
#[derive(Clone, Copy, Debug)]
struct Tried {
    attempts: u32,
    outcome_unknown: u32,
    last: Cause,
    /// Whether an instance was sent the request.
    written: bool,
}

/// A new call on its way to an instance. It is remembered as that instance's when it is dropped, even by a platform that hangs
/// up: the instance goes on with it.
struct Asked<'a> {
    placements: &'a Placements,
    call_id: Option<Box<str>>,
    owner: &'a Owner,
}

impl Asked<'_> {
    fn has_not_taken_it(mut self) {
        self.call_id = None;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(call_id) = &self.call_id {
            self.placements.remember(call_id, self.owner, Instant::now());
        }
    }
}

/// The way to one candidate.
#[derive(Clone, Copy)]
struct Reach<'a> {
    connections: &'a Connections,
    fleet: &'a Fleet,
    instance: &'a Instance,
}

/// A try gets at most what remains divided by this: with many candidates the first one still gets a third.
///
/// Fewer where the parts would be too short to mean anything. Thirds of what remains never use it up: one call that nobody
/// answers would be given to each instance of a large fleet, the last ones for a millisecond, and demote them all.
fn parts_max(remaining: Duration) -> usize {
    let meaningful = remaining.as_millis() / TRY_TIME_MIN.as_millis();
    usize::try_from(meaningful).unwrap_or(PARTS_MAX).clamp(1, PARTS_MAX)
}

const PARTS_MAX: usize = 3;
/// What a new connection alone may take.
const TRY_TIME_MIN: Duration = Duration::from_millis(300);
/// Before candidates that could not be reached are asked once more: by then those without a probe have rested, and those
/// with one have been asked how they are.
const PAUSE: Duration = Duration::from_millis(1100);
