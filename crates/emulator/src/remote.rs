//! The client side of the control API, for a platform in another process.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use url::Url;

use crate::{
    call::CallRequest,
    client::{Client, SendError},
    control,
    load::{LoadRequest, RemoteLoad},
    server::printable,
    timeline::{RemoteLines, RemoteTimeline},
};

/// Places a call on the platform at `platform`.
///
/// # Errors
/// The platform cannot be reached, or it refuses the request; the text says why.
pub async fn place_call(
    client: &Client,
    platform: &Url,
    call: &CallRequest,
) -> Result<RemoteTimeline, SendError> {
    let body = post(client, platform, "/emulator/calls", &control::call_to_json(call)).await?;
    Ok(RemoteTimeline(RemoteLines::new(body)))
}

/// Places many calls on the platform at `platform`.
///
/// # Errors
/// The platform cannot be reached, or it refuses the request; the text says why.
pub async fn place_load(
    client: &Client,
    platform: &Url,
    load: &LoadRequest,
) -> Result<RemoteLoad, SendError> {
    let body = post(client, platform, "/emulator/load", &control::load_to_json(load)).await?;
    Ok(RemoteLoad(RemoteLines::new(body)))
}

/// Posts a document and returns the body of the response.
async fn post(client: &Client, platform: &Url, path: &str, body: &Value) -> Result<Incoming, SendError> {
    let url = platform.join(path).map_err(|_| SendError::BadUrl)?;
    let body = Bytes::from(body.to_string());
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|_| SendError::BadUrl)?;
    let (head, body) = client.open(request, &url, RESPONSE_TIME_MAX).await?.into_parts();
    if head.status == StatusCode::OK {
        return Ok(body);
    }
    let body = Limited::new(body, REFUSAL_BYTES_MAX)
        .collect()
        .await
        .map_err(|_| SendError::ResponseBody)?
        .to_bytes();
    let message = serde_json::from_slice::<Value>(&body)
        .ok()
        .and_then(|refusal| refusal.pointer("/error/message").and_then(|text| text.as_str().map(printable)))
        .unwrap_or_else(|| format!("{url} responded {}: is it a switchboard-emulator?", head.status));
    Err(SendError::Refused(message))
}

const RESPONSE_TIME_MAX: Duration = Duration::from_secs(10);
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
