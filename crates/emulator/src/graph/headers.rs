//! The headers that Graph sends with every response.

use http::{HeaderMap, HeaderName, HeaderValue, Response, header};

use crate::{
    encoding::random_id,
    server::{Body, header_text},
};

/// Adds the headers of Graph to a response: the ids by which Microsoft's support finds a request, the server
/// that responded, and the version of OData. `Date` is added for every response of the server.
///
/// `Strict-Transport-Security` is left out: a browser would ask every server on localhost over https then.
pub(crate) fn add_graph_headers(request: &HeaderMap, response: &mut Response<Body>) {
    let request_id = HeaderName::from_static("request-id");
    let id = match response.headers().get(&request_id) {
        // The body of an error names it too.
        Some(id) => id.clone(),
        None => match HeaderValue::from_str(&random_id().unwrap_or_default().to_string()) {
            Ok(id) => id,
            Err(_) => return,
        },
    };
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let headers = response.headers_mut();
    let client_request_id = HeaderName::from_static("client-request-id");
    let echo = |name: &HeaderName| header_text(request, name).and_then(|id| HeaderValue::from_str(id).ok());
    let echoed = echo(&client_request_id).unwrap_or_else(|| id.clone());
    headers.insert(client_request_id, echoed);
    headers.insert(request_id, id);
    let scenario_id = HeaderName::from_static("scenario-id");
    if let Some(scenario) = echo(&scenario_id) {
        headers.insert(scenario_id, scenario);
    }
    headers.insert(HeaderName::from_static("x-ms-ags-diagnostic"), DIAGNOSTIC);
    headers.entry(header::CACHE_CONTROL).or_insert(NO_CACHE);
    if is_json {
        headers.insert(HeaderName::from_static("odata-version"), HeaderValue::from_static("4.0"));
    }
}

const DIAGNOSTIC: HeaderValue = HeaderValue::from_static(
    "{\"ServerInfo\":{\"DataCenter\":\"Emulator\",\"Slice\":\"E\",\"Ring\":\"1\",\"ScaleUnit\":\"000\",\
     \"RoleInstance\":\"switchboard-emulator\"}}",
);
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
