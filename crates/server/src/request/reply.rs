//! The status table: how each outcome is told to the sender. The only file that names a status code.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::body::{Body, Frame, SizeHint};
use switchboard_delivery::{UpstreamBody, UpstreamBodyError, UpstreamResponse};

use crate::{
    config::RedirectStatus,
    metrics::InFlight,
    process::connection::OpenRequest,
    request::{
        outcome::Outcome,
        retries::{ANSWER_BYTES_MAX, Copying, Kept, Lead},
    },
};

/// What the sender is told.
#[derive(Debug)]
pub(crate) enum Reply {
    /// 204: the call is wanted in the Graph protocol.
    AskForGraph,
    /// 302, 307 or 308 to another region.
    Redirect {
        /// The webhook of the other region, from configuration.
        location: HeaderValue,
        /// Which of the three.
        status: RedirectStatus,
        /// Why: `Redirected` or `Overflowed`.
        outcome: Outcome,
    },
    /// What the instance answered.
    Relay {
        /// The instance's answer.
        answer: Box<UpstreamResponse>,
        /// `Placed`, `Forwarded`, `Proxied` or `Unsealed`.
        outcome: Outcome,
    },
    /// An answer that all requests of a message share.
    Kept(Arc<Kept>),
    /// 202: all owners of a batch have accepted their parts, or Graph was asked for what an instance wants.
    Accepted {
        /// What was accepted.
        outcome: Outcome,
    },
    /// 200 or 503: whether this region can take a new call.
    Health {
        /// It can.
        able: bool,
    },
}

/// Why a request is refused: the outcome decides the status, the reason is for logs and metrics alone.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    /// A stable name for what exactly was wrong.
    pub(crate) reason: &'static str,
    /// The only text that is ever told: what is wrong with the body of an authenticated sender.
    message: Option<String>,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(outcome: Outcome, reason: &'static str) -> Self {
        Self { outcome, reason, message: None, allow: None }
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(Outcome::MethodNotAllowed, "method") }
    }

    /// `message` holds no text of the body.
    pub(crate) fn not_a_notification(reason: &'static str, message: String) -> Self {
        Self { message: Some(message), ..Self::new(Outcome::NotANotification, reason) }
    }

    /// What was wrong, for the log.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// RFC 6750 section 3.1 names the error and no detail: a detail would help only a forger.
    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let status = match self.outcome {
            Outcome::Unauthenticated => StatusCode::UNAUTHORIZED,
            Outcome::Forbidden | Outcome::WrongApp => StatusCode::FORBIDDEN,
            Outcome::NotANotification | Outcome::BadRequest | Outcome::ClientGone => StatusCode::BAD_REQUEST,
            Outcome::NotFound | Outcome::WrongSeal => StatusCode::NOT_FOUND,
            Outcome::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Outcome::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Outcome::Gone | Outcome::WrongRegion => StatusCode::GONE,
            Outcome::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Outcome::UriTooLong => StatusCode::URI_TOO_LONG,
            Outcome::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Outcome::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Outcome::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Outcome::BadAnswer => StatusCode::BAD_GATEWAY,
            Outcome::KeysUnavailable
            | Outcome::OverCapacity
            | Outcome::NotPlaced
            | Outcome::PartFailed
            | Outcome::Unreachable
            | Outcome::FleetUnknown => StatusCode::SERVICE_UNAVAILABLE,
            // But for the first two these are no refusals; a bug that brings one here is ours to answer for.
            Outcome::BadAction
            | Outcome::Panicked
            | Outcome::Acted
            | Outcome::RejectedAsBusy
            | Outcome::Placed
            | Outcome::Forwarded
            | Outcome::Proxied
            | Outcome::Unsealed
            | Outcome::Split
            | Outcome::AskedForGraph
            | Outcome::Redirected
            | Outcome::Overflowed
            | Outcome::Health => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = match &self.message {
            Some(message) => Bytes::from(error_body(self.reason, message)),
            None => Bytes::new(),
        };
        let mut response = respond(status, body);
        let headers = response.headers_mut();
        if self.message.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if matches!(self.outcome, Outcome::TooSlow | Outcome::OverCapacity) {
            // What is left of the request is not worth reading.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl Reply {
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::AskForGraph => Outcome::AskedForGraph,
            Self::Redirect { outcome, .. } => *outcome,
            Self::Relay { answer, .. } if answer.status.is_redirection() => Outcome::BadAnswer,
            Self::Relay { outcome, .. } => *outcome,
            Self::Kept(kept) => kept.outcome,
            Self::Accepted { outcome } => *outcome,
            Self::Health { .. } => Outcome::Health,
        }
    }

    /// Whether whoever answered has accepted what it was sent.
    pub(crate) fn is_accepted(&self) -> bool {
        match self {
            Self::Relay { answer, .. } => answer.status.is_success(),
            Self::Kept(kept) => kept.is_accepted(),
            Self::Accepted { .. } => true,
            Self::AskForGraph | Self::Redirect { .. } | Self::Health { .. } => false,
        }
    }

    /// Why it is no better answer, if it is a refusal that is shared.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        if let Self::Kept(kept) = self { kept.reason } else { None }
    }

    /// The answer; an instance's is relayed as it is but for the statuses that would mislead the platform.
    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        match self {
            Self::AskForGraph => respond(StatusCode::NO_CONTENT, Bytes::new()),
            Self::Redirect { location, status, .. } => {
                let status = match status {
                    RedirectStatus::Found => StatusCode::FOUND,
                    RedirectStatus::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
                    RedirectStatus::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
                };
                let mut response = respond(status, Bytes::new());
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Self::Relay { answer, .. } => relay(*answer),
            Self::Kept(kept) => kept.response().map(ReplyBody::whole),
            Self::Accepted { .. } => respond(StatusCode::ACCEPTED, Bytes::new()),
            Self::Health { able: true } => respond(StatusCode::OK, Bytes::new()),
            Self::Health { able: false } => respond(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
        }
    }
}

fn relay(answer: UpstreamResponse) -> Response<ReplyBody> {
    let status = match answer.status {
        // 204 would ask the platform for another protocol.
        StatusCode::NO_CONTENT => StatusCode::ACCEPTED,
        // Only configuration sends a call elsewhere.
        status if status.is_redirection() => return respond(StatusCode::BAD_GATEWAY, Bytes::new()),
        status => status,
    };
    let body = ReplyBody { content: Content::Streamed(answer.body), copying: None, held: None };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = answer.headers;
    response
}

fn respond(status: StatusCode, body: Bytes) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::whole(body));
    *response.status_mut() = status;
    response
}

fn error_body(code: &str, message: &str) -> String {
    serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
}

/// The body of an answer. It holds what says that the request is under way until the last byte was handed over.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    content: Content,
    /// For the retries of the same message. Boxed: most requests have none, and all are moved about.
    copying: Option<Box<Copying>>,
    held: Option<(OpenRequest, InFlight)>,
}

impl ReplyBody {
    fn whole(body: Bytes) -> Self {
        Self { content: Content::Whole(body), copying: None, held: None }
    }

    /// Gives the answer to the retries of the request too: at once, or while its body is on its way.
    pub(crate) fn share(&mut self, lead: Lead, kept: Kept) {
        match &self.content {
            Content::Whole(bytes) => lead.answered(kept.with_body(bytes)),
            Content::Streamed(body) if body.is_end_stream() => lead.answered(kept),
            Content::Streamed(body) => {
                let bytes_min = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                // Where it is too large to be kept the lead ends here, and whoever waits takes over.
                if bytes_min <= ANSWER_BYTES_MAX {
                    self.copying = Some(Box::new(Copying::new(lead, kept)));
                }
            }
        }
    }

    pub(crate) fn hold(&mut self, open: OpenRequest, in_flight: InFlight) {
        self.held = Some((open, in_flight));
    }
}

impl ReplyBody {
    /// Copies a frame. A body that breaks off is nobody's answer.
    fn copy(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>>, ended: bool) {
        let Some(copying) = self.copying.take() else { return };
        let copying = match polled {
            Poll::Pending => Some(copying),
            Poll::Ready(None) => return copying.complete(),
            Poll::Ready(Some(Err(_))) => None,
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => copying.push(data),
                None => Some(copying),
            },
        };
        match copying {
            // hyper does not ask a body of known length for its end.
            Some(copying) if ended => copying.complete(),
            copying => self.copying = copying,
        }
    }
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Streamed(UpstreamBody),
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = UpstreamBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Streamed(body) => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                let ended = body.is_end_stream();
                if self.copying.is_some() {
                    self.copy(&polled, ended);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Content::Streamed(body) => body.size_hint(),
        }
    }
}

/// Seconds: the platform has 15 in all to see a call answered, so it had better come again at once.
const RETRY_AFTER_SECONDS: &str = "1";
