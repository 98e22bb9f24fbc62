//! `POST /v1.0/$batch`: several requests in one (Graph documentation, "Combine multiple HTTP requests using
//! JSON batching").

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use super::refusal::{graph_error, wrong_method};
use crate::server::{Body, hangs_up, json_response, printable};

/// A batch, and the responses to its requests so far. They are carried out in order, one at a time.
pub(crate) struct Batch {
    steps: VecDeque<Step>,
    /// The id of the request that was taken last.
    current: String,
    failed: HashSet<String>,
    responses: Vec<Value>,
    now: SystemTime,
}

/// A response to a request of the batch has no end, or closes the connection, as a fault may ask for. The
/// connection of the batch closes too.
#[derive(Debug)]
pub(crate) struct ConnectionLost;

impl Batch {
    /// Reads a batch. The error is the response to an invalid one.
    pub(crate) fn parse(batch: &Request<Bytes>, now: SystemTime) -> Result<Self, Box<Response<Body>>> {
        if batch.method() != Method::POST {
            return Err(Box::new(wrong_method(batch, "POST", now)));
        }
        let steps = parse(batch).map_err(|invalid| {
            let message = invalid.to_string();
            Box::new(graph_error(batch, StatusCode::BAD_REQUEST, "BadRequest", &message, now))
        })?;
        let (failed, responses) = (HashSet::new(), Vec::with_capacity(steps.len()));
        Ok(Self { steps: steps.into(), current: String::new(), failed, responses, now })
    }

    /// Takes the next request. A request that depends on a failed one is not taken: it fails too.
    pub(crate) async fn next(&mut self) -> Option<Request<Bytes>> {
        loop {
            let Step { id, depends_on, request } = self.steps.pop_front()?;
            self.current = id;
            if !depends_on.iter().any(|other| self.failed.contains(&other.to_ascii_lowercase())) {
                return Some(request);
            }
            let message = "A request that this one depends on has failed.";
            let status = StatusCode::FAILED_DEPENDENCY;
            let response = graph_error(&request, status, "FailedDependency", message, self.now);
            // The body of such a response is short.
            let _ = self.add(response).await;
        }
    }

    /// Adds the response to the request that was taken last.
    ///
    /// # Errors
    /// The response has no end, or it closes the connection.
    pub(crate) async fn add(&mut self, response: Response<Body>) -> Result<(), ConnectionLost> {
        if hangs_up(&response) {
            return Err(ConnectionLost);
        }
        if response.status().is_client_error() || response.status().is_server_error() {
            self.failed.insert(self.current.to_ascii_lowercase());
        }
        self.responses.push(part(&self.current, response).await.ok_or(ConnectionLost)?);
        Ok(())
    }

    /// Returns the response to the batch.
    pub(crate) fn response(self) -> Response<Body> {
        json_response(StatusCode::OK, &json!({ "responses": self.responses }))
    }
}

/// One request of a batch. It has no `Debug`, because the request has a token.
struct Step {
    id: String,
    /// The ids of earlier requests that must not have failed.
    depends_on: Vec<String>,
    request: Request<Bytes>,
}

#[derive(Deserialize)]
struct RawBatch {
    requests: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStep {
    id: String,
    method: String,
    url: String,
    headers: Option<HashMap<String, String>>,
    body: Option<Value>,
    depends_on: Option<Vec<String>>,
}

/// The batch as a whole is refused. The texts are those of Graph where they are known.
#[derive(Debug, PartialEq, thiserror::Error)]
enum InvalidBatch {
    #[error("Invalid batch payload format.")]
    Format,
    #[error("Number of batch request steps exceeds the maximum value of {REQUESTS_MAX}.")]
    TooMany,
    #[error("Request id : {} has to be unique in a batch.", printable(.0))]
    Repeated(String),
    #[error("Request id : {} depends on a request that is not before it in the batch.", printable(.0))]
    Dependency(String),
    #[error("Write request id : {} does not contain Content-Type header or body.", printable(.0))]
    NoContentType(String),
    #[error("Request id : {} has an invalid method, url or header.", printable(.0))]
    Request(String),
}

fn parse(batch: &Request<Bytes>) -> Result<Vec<Step>, InvalidBatch> {
    // Paths in a batch begin below the version in its own path.
    let version = batch.uri().path().split('/').nth(1).unwrap_or_default();
    let raw: RawBatch = serde_json::from_slice(batch.body()).map_err(|_| InvalidBatch::Format)?;
    if raw.requests.is_empty() {
        return Err(InvalidBatch::Format);
    }
    if raw.requests.len() > REQUESTS_MAX {
        return Err(InvalidBatch::TooMany);
    }
    // Ids are compared without regard to case.
    let mut earlier = HashSet::new();
    let mut steps = Vec::with_capacity(raw.requests.len());
    for raw in raw.requests {
        let depends_on = raw.depends_on.clone().unwrap_or_default();
        if !depends_on.iter().all(|id| earlier.contains(&id.to_ascii_lowercase())) {
            return Err(InvalidBatch::Dependency(raw.id));
        }
        if !earlier.insert(raw.id.to_ascii_lowercase()) {
            return Err(InvalidBatch::Repeated(raw.id));
        }
        let request = request_of(&raw, batch, version)?;
        steps.push(Step { id: raw.id, depends_on, request });
    }
    Ok(steps)
}

/// Makes the request of a step. The token is that of the batch, unless the step has one.
fn request_of(raw: &RawStep, batch: &Request<Bytes>, version: &str) -> Result<Request<Bytes>, InvalidBatch> {
    let invalid = || InvalidBatch::Request(raw.id.clone());
    let method = raw.method.to_ascii_uppercase();
    let target = match raw.url.split_once("://") {
        // Graph clients for Python write absolute URLs, with the version in the path.
        Some((_, rest)) => rest.find('/').and_then(|start| rest.get(start..)).ok_or_else(invalid)?.to_owned(),
        None => format!("/{version}/{}", raw.url.trim_start_matches('/')),
    };
    let mut builder = Request::builder().method(method.as_str()).uri(target);
    if let Some(token) = batch.headers().get(header::AUTHORIZATION) {
        builder = builder.header(header::AUTHORIZATION, token);
    }
    let body = match &raw.body {
        None | Some(Value::Null) => Bytes::new(),
        // Other than JSON is in base64.
        Some(Value::String(text)) => STANDARD.decode(text).map_err(|_| invalid())?.into(),
        Some(document) => document.to_string().into(),
    };
    let mut request = builder.body(body).map_err(|_| invalid())?;
    for (name, value) in raw.headers.iter().flatten() {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        request.headers_mut().insert(name, HeaderValue::from_str(value).map_err(|_| invalid())?);
    }
    let has_type = request.headers().contains_key(header::CONTENT_TYPE);
    if request.body().is_empty() || has_type {
        Ok(request)
    } else {
        Err(InvalidBatch::NoContentType(raw.id.clone()))
    }
}

/// Returns a response as a member of the batch's; `None` if its body is too large or does not end, as a fault
/// may ask for.
async fn part(id: &str, response: Response<Body>) -> Option<Value> {
    let (head, body) = response.into_parts();
    let body = timeout(BODY_TIME_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await.ok()?.ok()?;
    let body = body.to_bytes();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Map<String, Value> =
        head.headers.iter().map(|(name, value)| (header_name(name), text(value).into())).collect();
    let mut part = json!({"id": id, "status": head.status.as_u16(), "headers": headers});
    if let Some(members) = part.as_object_mut().filter(|_| !body.is_empty()) {
        let document = serde_json::from_slice(&body).unwrap_or_else(|_| STANDARD.encode(&body).into());
        members.insert("body".to_owned(), document);
    }
    Some(part)
}

/// Returns the spelling of a name that Graph writes. Its client for Node looks for `Content-Type` in this
/// spelling only.
fn header_name(name: &HeaderName) -> String {
    let spelled = ["Content-Type", "Retry-After", "Location", "Cache-Control", "OData-Version"];
    let found = spelled.into_iter().find(|spelled| name.as_str().eq_ignore_ascii_case(spelled));
    found.unwrap_or(name.as_str()).to_owned()
}

const REQUESTS_MAX: usize = 20;
/// No regular response of the calls API is larger.
const BODY_BYTES_MAX: usize = 4 << 20;
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(requests: &Value) -> Result<Vec<String>, String> {
        let body = Bytes::from(json!({ "requests": requests }).to_string());
        let batch = Request::post("/beta/$batch").header("authorization", "Bearer t").body(body).unwrap();
        let steps = parse(&batch).map_err(|error| error.to_string())?;
        let line = |step: Step| {
            let body = String::from_utf8(step.request.body().to_vec()).unwrap();
            let token = step.request.headers()["authorization"].to_str().unwrap().to_owned();
            format!("{} {} {} {token} {body}", step.id, step.request.method(), step.request.uri())
        };
        Ok(steps.into_iter().map(line).collect())
    }

    #[test]
    fn a_step_has_the_version_and_the_token_of_its_batch() {
        let requests = json!([
            {"id": "1", "method": "get", "url": "/communications/calls/x?$select=id"},
            {"id": "2", "method": "POST", "url": "communications/calls/x/answer", "dependsOn": ["1"],
             "headers": {"content-type": "application/json", "Authorization": "Bearer u"}, "body": {"a": 1}},
            {"id": "3", "method": "POST", "url": "/x", "body": "aGk=",
             "headers": {"Content-Type": "text/plain"}},
            {"id": "4", "method": "GET", "url": "https://graph.microsoft.com/v1.0/x?y=z"},
        ]);
        let expected = [
            "1 GET /beta/communications/calls/x?$select=id Bearer t ",
            "2 POST /beta/communications/calls/x/answer Bearer u {\"a\":1}",
            "3 POST /beta/x Bearer t hi",
            "4 GET /v1.0/x?y=z Bearer t ",
        ];
        assert_eq!(parsed(&requests).unwrap(), expected);
    }

    #[test]
    fn an_invalid_batch_is_refused_as_a_whole() {
        let get = |id: &str| json!({"id": id, "method": "GET", "url": "/x"});
        let after =
            |id: &str, other: &str| json!({"id": id, "method": "GET", "url": "/x", "dependsOn": [other]});
        let many: Vec<Value> = (0..21).map(|id| get(&id.to_string())).collect();
        for (requests, expected) in [
            (json!([]), "Invalid batch payload format."),
            (json!({"1": get("1")}), "Invalid batch payload format."),
            (json!([{"id": 1, "method": "GET", "url": "/x"}]), "Invalid batch payload format."),
            (many.into(), "Number of batch request steps exceeds the maximum value of 20."),
            (json!([get("a"), get("A")]), "Request id : A has to be unique in a batch."),
            (
                json!([after("1", "2"), get("2")]),
                "Request id : 1 depends on a request that is not before it in the batch.",
            ),
            (
                json!([after("1", "1")]),
                "Request id : 1 depends on a request that is not before it in the batch.",
            ),
            (
                json!([{"id": "1", "method": "POST", "url": "/x", "body": {}}]),
                "Write request id : 1 does not contain Content-Type header or body.",
            ),
            (
                json!([{"id": "1", "method": "GET", "url": "https://graph.microsoft.com"}]),
                "Request id : 1 has an invalid method, url or header.",
            ),
            (
                json!([{"id": "1", "method": "G T", "url": "/x"}]),
                "Request id : 1 has an invalid method, url or header.",
            ),
            (
                json!([{"id": "1", "method": "GET", "url": "/x", "headers": {"a b": "c"}}]),
                "Request id : 1 has an invalid method, url or header.",
            ),
        ] {
            assert_eq!(parsed(&requests).unwrap_err(), expected, "{requests}");
        }
    }
}
