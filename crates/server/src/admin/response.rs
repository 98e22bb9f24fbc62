//! The responses of the admin listener.

use bytes::Bytes;
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
};
use http_body_util::Full;
use serde::Serialize;

/// A response, whole.
pub(super) type AdminResponse = http::Response<Full<Bytes>>;

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> AdminResponse {
    // Cannot fail: the types of this module have string keys only. If it did, an empty body would be right.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    response(status, HeaderValue::from_static("application/json"), bytes.into())
}

/// A response with any body.
pub(super) fn response(status: StatusCode, content_type: HeaderValue, body: Bytes) -> AdminResponse {
    let mut response = AdminResponse::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
