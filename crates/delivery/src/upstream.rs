//! Sending a request to one upstream: a single attempt, or attempts until the first byte is written.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use http::Response;
use hyper::body::Body;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{
    cause::Cause,
    connections::{Connector, Pool, ResponseBody, SendError, exchange},
    headers::UpstreamRequest,
    instance::Tracker,
    origins::{Endpoint, Origins},
    response::BODY_BYTES_MAX,
};

/// One endpoint of an instance or of a peer gateway, and the connections to it.
#[derive(Clone, Copy)]
pub(crate) struct Upstream<'a> {
    pub(crate) pool: &'a Pool,
    pub(crate) origins: &'a Origins,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) connector: &'a Connector,
}

impl Upstream<'_> {
    /// Sends a request and waits for the head of the response, however long that takes.
    ///
    /// A pooled connection that turns out to be closed is not a failure: a request of which not a byte was
    /// written goes over the next connection. `written` is true once a byte may have been written.
    pub(crate) async fn attempt(
        self,
        mut request: UpstreamRequest,
        written: &AtomicBool,
    ) -> Result<Response<ResponseBody>, AttemptError> {
        let Self { pool, origins, endpoint, connector } = self;
        let traced = request.start_attempt(&endpoint.url);
        let slot = pool.slot(origins, endpoint.slot);
        let sent = loop {
            let pooled = slot.as_ref().and_then(|slot| slot.take(thread::current().id(), Instant::now()));
            let fresh = pooled.is_none();
            let connection = match pooled {
                Some(connection) => connection,
                // Boxed, since it is rare and large: the future of a request is moved, and pays for its size
                // each time.
                None => match Box::pin(pool.connect(endpoint.url.origin(), connector)).await {
                    Ok(connection) => connection,
                    Err(cause) => break Err(AttemptError::Unsent(cause)),
                },
            };
            // Dropping this future closes the connection, which tells the instance that the gateway stopped
            // waiting.
            match exchange(connection, request.clone(), written, slot.as_ref()).await {
                Ok(response) => break check(response),
                Err(SendError::Unsent) if fresh => break Err(AttemptError::Unsent(Cause::Closed)),
                Err(SendError::Unsent) => {}
                Err(SendError::Sent(cause)) => break Err(AttemptError::Sent(cause)),
            }
        };
        if let Some(traced) = traced {
            traced.ended(sent.as_ref().map(Response::status).map_err(|error| error.cause().label()));
        }
        sent
    }

    /// Sends a request until there is a response, or until `end`. Returns the number of attempts either way,
    /// and with a response the start of its attempt.
    ///
    /// A request is sent again only while not a byte of it was written, and with `ends_when_refused` only
    /// while no connection was refused. `tracker` counts attempts and failures.
    pub(crate) async fn send_until(
        self,
        request: &UpstreamRequest,
        end: Instant,
        ends_when_refused: bool,
        tracker: Option<&Tracker>,
    ) -> Result<(Response<ResponseBody>, u32, Instant), (Cause, u32)> {
        let mut attempts: u32 = 0;
        let mut pause = PAUSE_FIRST;
        let mut last = Cause::NoTime;
        loop {
            let started = Instant::now();
            if started >= end {
                return Err((last, attempts));
            }
            attempts = attempts.saturating_add(1);
            if let Some(tracker) = tracker {
                tracker.count_attempt();
            }
            let written = AtomicBool::new(false);
            let error = match timeout_at(end, self.attempt(request.clone(), &written)).await {
                Ok(Ok(response)) => return Ok((response, attempts, started)),
                Ok(Err(error)) => error,
                Err(_) => {
                    let was_written = written.load(Ordering::Relaxed);
                    let cause = if was_written { Cause::Timeout } else { Cause::ConnectTimeout };
                    if let Some(tracker) = tracker {
                        tracker.count_failure(cause, started.elapsed());
                    }
                    // An attempt cut short while it connects says less than the one before it.
                    let cause = if was_written || attempts == 1 { cause } else { last };
                    return Err((cause, attempts));
                }
            };
            if let Some(tracker) = tracker {
                tracker.count_failure(error.cause(), started.elapsed());
            }
            match error {
                AttemptError::Sent(cause) => return Err((cause, attempts)),
                AttemptError::Unsent(Cause::Refused) if ends_when_refused => {
                    return Err((Cause::Refused, attempts));
                }
                AttemptError::Unsent(cause) => last = cause,
            }
            sleep_until(end.min(Instant::now() + pause)).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }
}

/// Rejects responses that cannot be relayed.
fn check(response: Response<ResponseBody>) -> Result<Response<ResponseBody>, AttemptError> {
    if response.status().is_informational() {
        // Only a 101 is no interim response, and the gateway asked for no other protocol.
        Err(AttemptError::Sent(Cause::BadHead))
    } else if response.body().size_hint().lower() > BODY_BYTES_MAX {
        Err(AttemptError::Sent(Cause::ResponseTooLarge))
    } else {
        Ok(response)
    }
}

/// An attempt failed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AttemptError {
    /// Not a byte of the request was written.
    Unsent(Cause),
    /// The request may have reached the instance, which may have acted on it.
    Sent(Cause),
}

impl AttemptError {
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Unsent(cause) | Self::Sent(cause) => *cause,
        }
    }

    /// Returns true if the request may have reached the instance.
    pub(crate) fn was_sent(&self) -> bool {
        matches!(self, Self::Sent(_))
    }
}

/// The first pause between two attempts: a restarting process listens again in a moment, or in seconds.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// The pause doubles up to this: a callback is at most half a second late once its owner is back.
const PAUSE_MAX: Duration = Duration::from_millis(500);
