//! The response of an instance: the relayed head, and the body, limited in size and time.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use switchboard_routing::{Name, Owner};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{connections::ResponseBody, headers, instance::InFlight, member::Member};

/// The response of an instance, or of the gateway of another region.
#[derive(Debug)]
pub struct UpstreamResponse {
    /// The status as the instance sent it (never 1xx).
    pub status: StatusCode,
    /// Content-Type, Content-Encoding, Retry-After, Client-Request-Id, Scenario-Id and `X-Microsoft-Bot-*`
    /// where the instance sent them; nothing else. The body knows its length (`size_hint`).
    pub headers: HeaderMap,
    /// The body, streamed, limited in size and time.
    pub body: UpstreamBody,
    /// The instance that responded; after a proxied callback the region.
    pub instance: Name,
    /// The incarnation of the instance, `0` if its source knows none.
    pub incarnation: Name,
    /// The number of attempts, this one included.
    pub attempts: u32,
    /// Attempts of a new call that failed after the request had been written: another instance may have acted
    /// on it.
    pub outcome_unknown: u32,
}

impl UpstreamResponse {
    /// The relayed part of an instance's response. Its body has until `until`, and at least a second.
    pub(crate) fn of_instance(
        response: Response<ResponseBody>,
        owner: &Owner,
        in_flight: InFlight,
        until: Instant,
    ) -> Self {
        let (instance, incarnation) = (owner.instance.clone(), owner.incarnation.clone());
        Self::new(response, instance, incarnation, Some(in_flight), until)
    }

    /// The same for the gateway of `region`.
    pub(crate) fn of_peer(response: Response<ResponseBody>, region: &Name, until: Instant) -> Self {
        Self::new(response, region.clone(), Member::no_incarnation(), None, until)
    }

    fn new(
        response: Response<ResponseBody>,
        instance: Name,
        incarnation: Name,
        in_flight: Option<InFlight>,
        until: Instant,
    ) -> Self {
        let (head, incoming) = response.into_parts();
        Self {
            status: head.status,
            headers: headers::relayed(head.headers),
            body: UpstreamBody {
                incoming,
                left: BODY_BYTES_MAX,
                until: until.max(Instant::now() + BODY_TIME_MIN),
                timer: None,
                failed: false,
                _in_flight: in_flight,
            },
            instance,
            incarnation,
            attempts: 1,
            outcome_unknown: 0,
        }
    }
}

/// The body of a response. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct UpstreamBody {
    incoming: ResponseBody,
    /// The number of bytes that may still arrive.
    left: u64,
    until: Instant,
    /// Created when the body has to be waited for: most responses arrive together with their head.
    timer: Option<Pin<Box<Sleep>>>,
    failed: bool,
    _in_flight: Option<InFlight>,
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
        let error = loop {
            match Pin::new(&mut this.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
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
        Poll::Ready(Some(Err(error)))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The response of an instance failed after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamBodyError {
    /// The connection ended, or the bytes were not HTTP.
    #[error("the instance's response was cut off")]
    CutOff,
    /// The body is larger than the gateway relays.
    #[error("the instance's response is over {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The body was not complete in time.
    #[error("the instance's response was not complete in time")]
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

/// The largest body. A bot sends some hundred bytes (the response to `participantJoiningNotification`). This
/// is the same limit as for the bodies of the platform, and leaves room for later formats.
pub(crate) const BODY_BYTES_MAX: u64 = 1024 * 1024;
/// The least time for a body whose head arrived just before the end of budget or patience: it usually follows
/// its head at once.
const BODY_TIME_MIN: Duration = Duration::from_secs(1);
