//! A request and its response as the timeline shows them.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// The method.
    pub method: String,
    /// The URL, or the path of a request of the bot.
    pub url: String,
    /// The headers by name. The values of a repeated header are joined by commas.
    pub headers: Map<String, Value>,
    /// The start of the body, at most 16 KiB.
    pub body: String,
}

/// A response of the timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordedResponse {
    /// The status.
    pub status: u16,
    /// The headers by name. The values of a repeated header are joined by commas.
    pub headers: Map<String, Value>,
    /// The start of the body, at most 16 KiB.
    pub body: String,
}

impl RecordedRequest {
    pub(crate) fn new(request: &Request<Bytes>, url: &str) -> Self {
        Self {
            method: request.method().to_string(),
            url: start(url.as_bytes()),
            headers: headers(request.headers()),
            body: start(request.body()),
        }
    }
}

impl RecordedResponse {
    pub(crate) fn new<T>(response: &Response<T>, body: &[u8]) -> Self {
        Self { status: response.status().as_u16(), headers: headers(response.headers()), body: start(body) }
    }
}

fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut map = Map::new();
    for name in headers.keys() {
        let values: Vec<String> = headers.get_all(name).iter().map(|value| start(value.as_bytes())).collect();
        map.insert(name.to_string(), values.join(", ").into());
    }
    map
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..BYTES_MAX).unwrap_or(bytes)).into_owned()
}

const BYTES_MAX: usize = 16 << 10;
