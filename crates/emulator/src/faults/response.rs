//! The response of an endpoint that a fault strikes.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{self, Poll, ready},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::time::{Interval, interval, sleep};

use super::endpoint::{EndpointFault, PlainFault};
use crate::{
    entra::{self, IdentityForm},
    graph::Calls,
    server::{Body, empty, error_response, hang_up, json_response, respond},
};

/// The format of an endpoint's error responses.
pub(crate) enum ErrorFormat<'a> {
    /// The emulator's own.
    Emulator,
    /// That of the token endpoint.
    Entra { now: SystemTime },
    /// That of the managed identity endpoint.
    ManagedIdentity { form: IdentityForm },
    /// That of the calls API.
    Graph { request: &'a Request<Bytes>, now: SystemTime },
}

impl ErrorFormat<'_> {
    /// Returns an error response with a status.
    fn status(&self, status: StatusCode) -> Response<Body> {
        match self {
            Self::Emulator => error_response(status, "fault", "the requested fault"),
            Self::Entra { now } => {
                // Entra responds 401 only to a client whose credential it does not accept.
                let code = if status == StatusCode::UNAUTHORIZED { 7_000_215 } else { 90_033 };
                let mut response = entra::coded(code, *now);
                *response.status_mut() = status;
                response
            }
            Self::ManagedIdentity { form } => entra::identity_fault(*form, status, None),
            Self::Graph { request, now } => Calls::error(request, status, *now),
        }
    }

    /// Returns the error response with one of the endpoint's own codes.
    fn code(&self, code: u32) -> Response<Body> {
        match self {
            Self::Emulator => self.status(StatusCode::INTERNAL_SERVER_ERROR),
            Self::Entra { now } => entra::coded(code, *now),
            Self::ManagedIdentity { form } => {
                entra::identity_fault(*form, StatusCode::BAD_REQUEST, Some(code))
            }
            Self::Graph { request, now } => Calls::coded(request, code, *now),
        }
    }
}

/// Returns the regular response, or that of the fault. `regular` runs only if its response or its effect is
/// needed.
pub(crate) async fn regular_or_fault(
    fault: Option<EndpointFault>,
    regular: impl Future<Output = Response<Body>>,
    format: ErrorFormat<'_>,
) -> Response<Body> {
    match fault {
        None => regular.await,
        Some(EndpointFault::Plain(plain)) => plain_fault(plain, regular).await,
        Some(EndpointFault::Slow(by)) => {
            sleep(by).await;
            regular.await
        }
        Some(EndpointFault::Status { status, retry_after }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = format.status(status);
            if let Some(after) = retry_after.and_then(|after| HeaderValue::try_from(after).ok()) {
                response.headers_mut().insert(header::RETRY_AFTER, after);
            }
            response
        }
        Some(EndpointFault::Code(code)) => format.code(code),
    }
}

async fn plain_fault(fault: PlainFault, regular: impl Future<Output = Response<Body>>) -> Response<Body> {
    match fault {
        PlainFault::Down => hang_up(),
        PlainFault::Hang => {
            sleep(HANG_TIME_MAX).await;
            hang_up()
        }
        PlainFault::Lost => {
            regular.await;
            hang_up()
        }
        PlainFault::Html => {
            let page =
                Bytes::from_static(b"<!doctype html><title>Sign in</title><p>The proxy asks who you are.");
            respond(StatusCode::OK, Some("text/html; charset=utf-8"), page)
        }
        PlainFault::Empty => respond(StatusCode::OK, Some("application/json; charset=utf-8"), Bytes::new()),
        PlainFault::Truncated => truncated(regular.await).await,
        PlainFault::Huge => {
            streamed(Endless { left: HUGE_BYTES, chunk: Bytes::from_static(&SPACES), pace: None })
        }
        PlainFault::Drip => streamed(Endless {
            left: HUGE_BYTES,
            chunk: Bytes::from_static(b" "),
            pace: Some(interval(DRIP_PAUSE)),
        }),
        // The route has replaced the keys in the document.
        PlainFault::WrongKeys => regular.await,
        PlainFault::NoKeys => json_response(StatusCode::OK, &serde_json::json!({"keys": []})),
        PlainFault::Redirect => {
            let mut response = empty(StatusCode::FOUND);
            // Clouds serve a machine's own credentials at this address: a client must not be led there.
            let to = HeaderValue::from_static("http://169.254.169.254/latest/meta-data/");
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
    }
}

/// Cuts a body in half.
async fn truncated(response: Response<Body>) -> Response<Body> {
    let (head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(impossible) => match impossible {},
    };
    let half = body.slice(..body.len() / 2);
    Response::from_parts(head, http_body_util::Full::new(half).boxed_unsync())
}

fn streamed(body: Endless) -> Response<Body> {
    let mut response = Response::new(body.boxed_unsync());
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A body of white space, which is a valid start of JSON, without the memory for all of it.
struct Endless {
    left: usize,
    chunk: Bytes,
    pace: Option<Interval>,
}

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(context));
        }
        self.left = self.left.saturating_sub(self.chunk.len());
        Poll::Ready(Some(Ok(Frame::data(self.chunk.clone()))))
    }
}

static SPACES: [u8; 64 * 1024] = [b' '; 64 * 1024];

/// Far more than a key set may have, and little enough for a test.
const HUGE_BYTES: usize = 256 << 20;
const DRIP_PAUSE: Duration = Duration::from_millis(200);

/// Longer than the patience of any client.
const HANG_TIME_MAX: Duration = Duration::from_secs(600);
