//! The status table: the response for each outcome. The only file that names a status code of the public
//! listener.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE},
};
use hyper::body::{Body, Frame, SizeHint};
use switchboard_delivery::{LOOP, UpstreamBody, UpstreamBodyError, UpstreamResponse};

use crate::{
    config::RedirectStatus,
    metrics::InFlight,
    process::connection::OpenRequest,
    request::{
        outcome::Outcome,
        plan::Redirection,
        refusal::Refusal,
        retries::{Leader, ResponseCopy, SharedResponse},
    },
};

/// The result of a request that was not refused.
#[derive(Debug)]
pub(crate) enum Reply {
    /// 204: the platform sends the call again in the Graph protocol.
    AskForGraph,
    /// 302, 307 or 308 to another region.
    Redirect {
        redirection: Redirection,
        /// `Redirected` or `Overflowed`.
        outcome: Outcome,
    },
    /// The response of an instance or of a peer gateway.
    Relay {
        response: Box<UpstreamResponse>,
        /// `Placed`, `Forwarded`, `Proxied` or `Unsealed`.
        outcome: Outcome,
    },
    /// A response that all requests of a message share.
    Shared(Arc<SharedResponse>),
    /// 202: all owners of a batch have accepted their parts, or the gateway asks Graph for actions.
    Accepted { outcome: Outcome },
    /// 200 or 503: true if this region can take a new call, or if this gateway is ready.
    Health { able: bool },
}

impl Outcome {
    /// The status of a refused request with this outcome.
    pub(crate) fn refusal_status(self) -> StatusCode {
        match self {
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::WrongApp => StatusCode::FORBIDDEN,
            Self::NotANotification | Self::BadRequest | Self::ClientGone => StatusCode::BAD_REQUEST,
            Self::NotFound | Self::WrongSeal => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Gone | Self::WrongRegion => StatusCode::GONE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BadResponse => StatusCode::BAD_GATEWAY,
            Self::KeysUnavailable
            | Self::KeyNotFetched
            | Self::OverCapacity
            | Self::InstanceOverCapacity
            | Self::Loop
            | Self::NotPlaced
            | Self::Declined
            | Self::PartFailed
            | Self::Unreachable
            | Self::FleetUnknown
            | Self::IncarnationUnknown => StatusCode::SERVICE_UNAVAILABLE,
            // All but the first two are not refusals. If a bug refuses with one of them, the fault is the
            // gateway's.
            Self::BadAction
            | Self::Panicked
            | Self::Acted
            | Self::RejectedAsBusy
            | Self::Placed
            | Self::Forwarded
            | Self::Proxied
            | Self::Unsealed
            | Self::Split
            | Self::AskedForGraph
            | Self::Redirected
            | Self::Overflowed
            | Self::Health => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl RedirectStatus {
    /// The status code of the redirect.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Found => StatusCode::FOUND,
            Self::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
            Self::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
        }
    }
}

impl Refusal {
    /// The response to a refused request. RFC 6750 section 3.1 names the error and gives no detail: it would
    /// help a forger.
    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        let status = self.outcome.refusal_status();
        let body = self.message().map(|message| Bytes::from(error_body(self.reason, message)));
        let mut response = respond(status, body.unwrap_or_default());
        let headers = response.headers_mut();
        if self.message().is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if self.outcome == Outcome::Loop {
            headers.insert(&LOOP, HeaderValue::from_static("true"));
        }
        if let Some(allow) = self.allow() {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl Reply {
    /// The status by which the gateway asks the platform for the Graph protocol.
    pub(crate) const ASK_FOR_GRAPH: StatusCode = StatusCode::NO_CONTENT;

    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::AskForGraph => Outcome::AskedForGraph,
            Self::Redirect { outcome, .. } => *outcome,
            Self::Relay { response, .. } if response.status.is_redirection() => Outcome::BadResponse,
            Self::Relay { outcome, .. } => *outcome,
            Self::Shared(response) => response.outcome,
            Self::Accepted { outcome } => *outcome,
            Self::Health { .. } => Outcome::Health,
        }
    }

    /// The reason, if the reply is a refusal that several requests share.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        if let Self::Shared(response) = self { response.reason() } else { None }
    }

    /// The response. One of an instance is relayed as it is, except for statuses that would mislead the
    /// platform.
    pub(crate) fn into_response(self) -> Response<ReplyBody> {
        match self {
            Self::AskForGraph => respond(Self::ASK_FOR_GRAPH, Bytes::new()),
            Self::Redirect { redirection, .. } => {
                let mut response = respond(redirection.status.status(), Bytes::new());
                response.headers_mut().insert(LOCATION, redirection.location);
                response
            }
            Self::Relay { response, .. } => relay(*response),
            Self::Shared(response) => response.response().map(ReplyBody::whole),
            Self::Accepted { .. } => respond(StatusCode::ACCEPTED, Bytes::new()),
            Self::Health { able: true } => respond(StatusCode::OK, Bytes::new()),
            Self::Health { able: false } => respond(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
        }
    }
}

fn relay(upstream: UpstreamResponse) -> Response<ReplyBody> {
    let status = match upstream.status {
        // 204 would ask the platform for another protocol.
        StatusCode::NO_CONTENT => StatusCode::ACCEPTED,
        // Only the configuration sends a call to another address.
        status if status.is_redirection() => return respond(StatusCode::BAD_GATEWAY, Bytes::new()),
        status => status,
    };
    let body = ReplyBody { content: Content::Streamed(upstream.body), copy: None, held: None };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = upstream.headers;
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

/// The body of a response. Until the last byte was handed over it holds the guards that count the request as
/// in flight.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    content: Content,
    /// For the retries of the same message. Boxed: most requests have none, and every response is moved
    /// about.
    copy: Option<Box<ResponseCopy>>,
    held: Option<(OpenRequest, InFlight)>,
}

impl ReplyBody {
    fn whole(body: Bytes) -> Self {
        Self { content: Content::Whole(body), copy: None, held: None }
    }

    /// Shares the response with the retries of the request: at once, or when its body has streamed.
    pub(crate) fn share(&mut self, leader: Leader, shared: SharedResponse) {
        match &self.content {
            Content::Whole(bytes) => leader.responded(shared.with_body(bytes)),
            Content::Streamed(body) if body.is_end_stream() => leader.responded(shared),
            Content::Streamed(body) => {
                let bytes_min = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
                self.copy = ResponseCopy::new(leader, shared, bytes_min);
            }
        }
    }

    /// Keeps the guards of a request in flight until the body is handed over.
    pub(crate) fn hold(&mut self, open: OpenRequest, in_flight: InFlight) {
        self.held = Some((open, in_flight));
    }

    /// Copies a frame. A body that breaks off is not shared.
    fn copy_frame(&mut self, polled: &Poll<Option<Result<Frame<Bytes>, UpstreamBodyError>>>, ended: bool) {
        let Some(copy) = self.copy.take() else { return };
        let copy = match polled {
            Poll::Pending => Some(copy),
            Poll::Ready(None) => return copy.complete(),
            Poll::Ready(Some(Err(_))) => None,
            Poll::Ready(Some(Ok(frame))) => match frame.data_ref() {
                Some(data) => copy.push(data),
                None => Some(copy),
            },
        };
        match copy {
            // hyper does not poll a body of known length for its end.
            Some(copy) if ended => copy.complete(),
            copy => self.copy = copy,
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
                if self.copy.is_some() {
                    self.copy_frame(&polled, ended);
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

/// In seconds. The platform gives up a call that is not answered within 15 s, so it does well to retry at
/// once.
const RETRY_AFTER_SECONDS: &str = "1";
