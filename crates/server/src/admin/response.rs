//! The responses of the admin listener.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use serde::Serialize;

use crate::admin::events::EventBody;

/// A response.
pub(super) type AdminResponse = http::Response<AdminBody>;

/// The body of a response.
#[derive(Debug)]
pub(super) enum AdminBody {
    Whole(Full<Bytes>),
    /// Server-sent events, until the client has gone or the process drains.
    Events(EventBody),
}

impl Body for AdminBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(body) => Pin::new(body).poll_frame(context),
            Self::Events(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> AdminResponse {
    // Cannot fail: the types of this module have string keys only. If it did, an empty body would be right.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    response(status, HeaderValue::from_static("application/json"), bytes.into())
}

/// A response with any body.
pub(super) fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> AdminResponse {
    respond(status, content_type, AdminBody::Whole(Full::new(body)))
}

/// A response with server-sent events.
pub(super) fn event_stream(body: EventBody) -> AdminResponse {
    respond(StatusCode::OK, HeaderValue::from_static("text/event-stream"), AdminBody::Events(body))
}

fn respond(status: StatusCode, content_type: HeaderValue, body: AdminBody) -> AdminResponse {
    let mut response = AdminResponse::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
