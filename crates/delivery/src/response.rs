//! An instance's answer: what of it is relayed, and its body, limited in size and time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use switchboard_routing::Name;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    headers,
    instance::{InFlight, Instance},
};

/// An instance's answer.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// As the instance sent it (never 1xx).
    pub status: StatusCode,
    /// Content-Type, Content-Encoding, Retry-After, Client-Request-Id and Scenario-Id where the instance sent them;
    /// nothing else. The length is the body's to say (`size_hint`).
    pub headers: HeaderMap,
    /// Streamed, limited in size and time.
    pub body: UpstreamBody,
    /// Who answered.
    pub instance: Name,
    /// Which life of it, `0` where its source cannot tell.
    pub incarnation: Name,
    /// Tries made, this one included.
    pub attempts: u32,
    /// Tries of a new call that were given up after the request had been written: another instance may have acted.
    pub outcome_unknown: u32,
}

impl UpstreamResponse {
    /// The part of `response` that is relayed; its body has until `until`, and a second in any case.
    pub(crate) fn new(
        response: Response<Incoming>,
        instance: &Instance,
        in_flight: InFlight,
        until: Instant,
        attempts: u32,
        outcome_unknown: u32,
    ) -> Self {
        let (mut head, incoming) = response.into_parts();
        Self {
            status: head.status,
            headers: headers::relayed(&mut head.headers),
            body: UpstreamBody {
                incoming,
                left: BODY_BYTES_MAX,
                until: until.max(Instant::now() + BODY_TIME_MIN),
                timer: None,
                failed: false,
                _in_flight: in_flight,
            },
            instance: instance.name().clone(),
            incarnation: instance.owner.incarnation.clone(),
            attempts,
            outcome_unknown,
        }
    }
}

/// The body of an answer. Dropping it closes the connection if the body is not complete.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: Incoming,
    /// Bytes that may still come.
    left: u64,
    until: Instant,
    /// Made when the body is waited for: most answers are complete with their head.
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
    _in_flight: InFlight,
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        let this = self.get_mut();
        if this.failed {
            return Poll::Ready(None);
        }
        let outcome = loop {
            match Pin::new(&mut this.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are dropped: what they may carry was never looked at (RFC 9110, section 6.5.1).
                    let Ok(data) = frame.into_data() else { continue };
                    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    match this.left.checked_sub(bytes) {
                        Some(left) => {
                            this.left = left;
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        None => break UpstreamBodyError::TooLarge { limit_bytes: BODY_BYTES_MAX },
                    }
                }
                Poll::Ready(Some(Err(_))) => break UpstreamBodyError::CutOff,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(this.until)));
                    if timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    break UpstreamBodyError::TooSlow;
                }
            }
        };
        this.failed = true;
        Poll::Ready(Some(Err(outcome)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The instance's answer broke off after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamBodyError {
    /// The connection ended, or what came was not HTTP.
    #[error("the instance's answer broke off")]
    CutOff,
    /// More bytes than are relayed.
    #[error("the instance's answer is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Not complete in time.
    #[error("the instance's answer was not complete in time")]
    TooSlow,
}

impl UpstreamBodyError {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::CutOff => "cut_off",
            Self::TooLarge { .. } => "too_large",
            Self::TooSlow => "too_slow",
        }
    }
}

/// The largest answer. A bot answers with some hundred bytes (the answer to `participantJoiningNotification`); the same
/// limit as for what the platform sends leaves room for whatever comes.
pub(crate) const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// What an answer's body gets although budget or patience has just run out: its head was in time, and what follows
/// a head usually follows at once.
const BODY_TIME_MIN: Duration = Duration::from_secs(1);
