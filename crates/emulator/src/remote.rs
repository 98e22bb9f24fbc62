//! A platform in another process, asked through its control API.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use url::Url;

use crate::{
    call::CallRequest,
    client::{Client, SendError},
    control,
    server::printable,
    timeline::RemoteTimeline,
};

/// Asks the platform at `platform` to place a call.
///
/// # Errors
/// It cannot be reached, or it refuses the request; the text says why.
pub async fn place_call(
    client: &Client,
    platform: &Url,
    call: &CallRequest,
) -> Result<RemoteTimeline, SendError> {
    let url = platform.join("/emulator/calls").map_err(|_| SendError::BadUrl)?;
    let body = Bytes::from(control::call_to_json(call).to_string());
    let request = Request::post("/")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|_| SendError::BadUrl)?;
    let (head, body) = client.open(request, &url, ANSWER_TIME_MAX).await?.into_parts();
    if head.status == StatusCode::OK {
        return Ok(RemoteTimeline::new(body));
    }
    let body =
        Limited::new(body, REFUSAL_BYTES_MAX).collect().await.map_err(|_| SendError::AnswerBody)?.to_bytes();
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|refusal| refusal.pointer("/error/message").and_then(|text| text.as_str().map(printable)))
        .unwrap_or_else(|| format!("{url} answered {}: is it a switchboard-emulator?", head.status));
    Err(SendError::Refused(message))
}

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
