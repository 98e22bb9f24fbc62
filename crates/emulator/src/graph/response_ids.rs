//! The ids in the headers of each response of Graph.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};

use crate::{
    encoding::random_id,
    server::{Body, header_text},
};

/// Adds `request-id`, unless the response has one, and the ids that the client named.
///
/// As at Graph, the client's id is the one of the request if the client named none.
pub(super) fn add_ids(request: &Request<Bytes>, response: &mut Response<Body>) {
    let header = |name| HeaderName::from_static(name);
    let given = |name| {
        let value = header_text(request.headers(), &HeaderName::from_static(name));
        value.and_then(|id| HeaderValue::from_str(id).ok())
    };
    let headers = response.headers_mut();
    let random = || HeaderValue::from_str(&random_id().unwrap_or_default().to_string()).ok();
    let Some(id) = headers.get("request-id").cloned().or_else(random) else { return };
    headers.insert(header("client-request-id"), given("client-request-id").unwrap_or_else(|| id.clone()));
    headers.insert(header("request-id"), id);
    if let Some(scenario) = given("scenario-id") {
        headers.insert(header("scenario-id"), scenario);
    }
}
