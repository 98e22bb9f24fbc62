//! What an endpoint that a fault strikes does instead of its work.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use tokio::time::{Interval, interval, sleep};

use crate::{
    faults::Trouble,
    server::{Body, empty, hang_up, json_response, respond},
};

/// Which refusals an endpoint has.
pub(crate) trait Refuse {
    /// A status, in the endpoint's own shape.
    fn status(&self, status: StatusCode) -> Response<Body>;
    /// One of the endpoint's own error codes.
    fn code(&self, code: u32) -> Response<Body>;
}

/// Answers as it should be answered, unless trouble strikes.
pub(crate) async fn answer(
    trouble: Option<Trouble>,
    good: impl Future<Output = Response<Body>>,
    refuse: impl Refuse,
) -> Response<Body> {
    let Some(trouble) = trouble else { return good.await };
    match trouble {
        Trouble::Down => hang_up(),
        Trouble::Hang => {
            sleep(HANG_TIME_MAX).await;
            hang_up()
        }
        Trouble::Lost => {
            good.await;
            hang_up()
        }
        Trouble::Slow(by) => {
            sleep(by).await;
            good.await
        }
        Trouble::Html => {
            let page =
                Bytes::from_static(b"<!doctype html><title>Sign in</title><p>The proxy asks who you are.");
            respond(StatusCode::OK, Some("text/html; charset=utf-8"), page)
        }
        Trouble::Empty => respond(StatusCode::OK, Some("application/json; charset=utf-8"), Bytes::new()),
        Trouble::Truncated => {
            let (head, body) = good.await.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(impossible) => match impossible {},
            };
            let half = body.slice(..body.len() / 2);
            Response::from_parts(head, http_body_util::Full::new(half).boxed_unsync())
        }
        Trouble::Huge => {
            streamed(Endless { left: HUGE_BYTES, chunk: Bytes::from_static(&SPACES), pace: None })
        }
        Trouble::Drip => streamed(Endless {
            left: HUGE_BYTES,
            chunk: Bytes::from_static(b" "),
            pace: Some(interval(DRIP_PAUSE)),
        }),
        // The document itself is wrong; whoever makes it knows.
        Trouble::WrongKeys => good.await,
        Trouble::NoKeys => json_response(StatusCode::OK, &serde_json::json!({"keys": []})),
        Trouble::Redirect => {
            let mut response = empty(StatusCode::FOUND);
            // The address where clouds answer a machine's own questions: what a client must not be led to.
            let to = HeaderValue::from_static("http://169.254.169.254/latest/meta-data/");
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
        Trouble::Status { status, retry_after } => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = refuse.status(status);
            if let Some(after) = retry_after.and_then(|after| HeaderValue::try_from(after).ok()) {
                response.headers_mut().insert(header::RETRY_AFTER, after);
            }
            response
        }
        Trouble::Code(code) => refuse.code(code),
    }
}

fn streamed(body: Endless) -> Response<Body> {
    let mut response = Response::new(body.boxed_unsync());
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// White space, which is JSON as long as it lasts, without the memory that it would take.
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
        context: &mut Context<'_>,
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

/// Far more than a key set may have, little enough for a test.
const HUGE_BYTES: usize = 256 << 20;
const DRIP_PAUSE: Duration = Duration::from_millis(200);

/// Every client has given up by then.
const HANG_TIME_MAX: Duration = Duration::from_secs(600);
