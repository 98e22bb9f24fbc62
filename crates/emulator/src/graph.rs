//! The Graph calls API, as far as a bot needs it to take a call: answer, reject, keep alive, get, hang up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use url::Url;
use uuid::Uuid;

use crate::{
    call::parse_http_url,
    clock,
    encoding::random_id,
    server::{Body, empty, header_text, is_loopback_url, json_response, method_not_allowed},
    timeline::{Event, EventSender, Step, milliseconds},
    words::words,
};

/// What the bot decided about a call.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Answer { callback: Option<Url> },
    Reject { callback: Option<Url>, reason: RejectReason },
    HangUp,
}

words! {
    /// Why a bot rejects a call (Graph reference, "call: reject").
    pub(crate) enum RejectReason {
        /// No reason is given.
        None = "none",
        /// The bot is busy.
        Busy = "busy",
        /// The caller may not call it.
        Forbidden = "forbidden",
    }
}

/// The calls that are alive.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_id: Mutex<HashMap<Uuid, LiveCall>>,
}

#[derive(Debug)]
struct LiveCall {
    phase: Phase,
    decisions: mpsc::Sender<Decision>,
    events: EventSender,
    started: Instant,
    tenant: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Incoming,
    Answered,
    /// Rejected, or hung up; the last notification is on its way.
    Ending,
}

impl Calls {
    /// Makes a call known; `None` when there are too many.
    pub(crate) fn insert(
        &self,
        id: Uuid,
        tenant: Uuid,
        started: Instant,
        events: EventSender,
    ) -> Option<mpsc::Receiver<Decision>> {
        let mut calls = self.lock();
        if calls.len() >= CALLS_MAX {
            return None;
        }
        let (decisions, receiver) = mpsc::channel(4);
        calls.insert(id, LiveCall { phase: Phase::Incoming, decisions, events, started, tenant });
        Some(receiver)
    }

    pub(crate) fn remove(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, LiveCall>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request below `/v1.0/communications/calls/{id}`.
    pub(crate) fn handle(&self, request: &Request<Bytes>, id: &str, action: Option<&str>) -> Response<Body> {
        let result = match (action, request.method()) {
            (Some("answer" | "microsoft.graph.answer"), &Method::POST) => self.answer(id, request.body()),
            (Some("reject" | "microsoft.graph.reject"), &Method::POST) => self.reject(id, request.body()),
            (Some("keepAlive" | "microsoft.graph.keepAlive"), &Method::POST) => self.keep_alive(id),
            (None, &Method::DELETE) => self.hang_up(id),
            (None, &Method::GET) => self.show(id),
            (Some("answer" | "reject" | "keepAlive"), _) => return method_not_allowed("POST"),
            (Some(name), &Method::POST) if name.starts_with("microsoft.graph.") => Err(Refusal::NoSuchAction),
            (Some(_), _) => Err(Refusal::NoSuchAction),
            (None, _) => return method_not_allowed("GET, DELETE"),
        };
        result.unwrap_or_else(|refusal| refusal.response(request))
    }

    fn answer(&self, id: &str, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let raw: RawAnswer =
            serde_json::from_slice(body).map_err(|error| Refusal::BadBody(error.to_string()))?;
        let callback = callback(raw.callback_uri.as_deref())?;
        match raw.media_config.get("@odata.type").and_then(Value::as_str) {
            Some("#microsoft.graph.serviceHostedMediaConfig" | "#microsoft.graph.appHostedMediaConfig") => {}
            _ => {
                return Err(Refusal::BadBody(
                    "mediaConfig has no @odata.type that is a media config".to_owned(),
                ));
            }
        }
        if !raw.accepted_modalities.iter().all(|modality| MODALITIES.contains(&modality.as_str())) {
            return Err(Refusal::BadBody(format!("acceptedModalities takes {}", MODALITIES.join(", "))));
        }
        let url = callback.as_ref().map(Url::to_string).unwrap_or_default();
        self.decide(id, "answer", url, Phase::Answered, Decision::Answer { callback })
    }

    fn reject(&self, id: &str, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let raw: RawReject =
            serde_json::from_slice(body).map_err(|error| Refusal::BadBody(error.to_string()))?;
        let callback = callback(raw.callback_uri.as_deref())?;
        let reason = raw.reason.parse().map_err(|error| Refusal::BadBody(format!("reason {error}")))?;
        let url = callback.as_ref().map(Url::to_string).unwrap_or_default();
        self.decide(id, "reject", url, Phase::Ending, Decision::Reject { callback, reason })
    }

    fn decide(
        &self,
        id: &str,
        what: &str,
        url: String,
        next: Phase,
        decision: Decision,
    ) -> Result<Response<Body>, Refusal> {
        self.with(id, |call| {
            let result = match call.phase {
                Phase::Incoming => call.decisions.try_send(decision).map_err(|_| Refusal::NotFound),
                Phase::Answered | Phase::Ending => Err(Refusal::AlreadyDecided),
            };
            if result.is_ok() {
                call.phase = next;
            }
            call.record(what, url, result.as_ref().map_or_else(Refusal::status, |()| StatusCode::ACCEPTED));
            result.map(|()| empty(StatusCode::ACCEPTED))
        })
    }

    fn hang_up(&self, id: &str) -> Result<Response<Body>, Refusal> {
        self.with(id, |call| {
            if call.phase == Phase::Ending || call.decisions.try_send(Decision::HangUp).is_err() {
                return Err(Refusal::NotFound);
            }
            call.phase = Phase::Ending;
            call.record("hang up", String::new(), StatusCode::NO_CONTENT);
            Ok(empty(StatusCode::NO_CONTENT))
        })
    }

    fn keep_alive(&self, id: &str) -> Result<Response<Body>, Refusal> {
        self.with(id, |call| {
            call.record("keep alive", String::new(), StatusCode::OK);
            Ok(empty(StatusCode::OK))
        })
    }

    fn show(&self, id: &str) -> Result<Response<Body>, Refusal> {
        self.with(id, |call| {
            let state = match call.phase {
                Phase::Incoming => "incoming",
                Phase::Answered => "established",
                Phase::Ending => "terminating",
            };
            let document = json!({
                "@odata.type": "#microsoft.graph.call",
                "id": id,
                "state": state,
                "direction": "incoming",
                "tenantId": call.tenant.to_string(),
            });
            Ok(json_response(StatusCode::OK, &document))
        })
    }

    fn with(
        &self,
        id: &str,
        act: impl FnOnce(&mut LiveCall) -> Result<Response<Body>, Refusal>,
    ) -> Result<Response<Body>, Refusal> {
        let id = Uuid::try_parse(id).map_err(|_| Refusal::NotFound)?;
        act(self.lock().get_mut(&id).ok_or(Refusal::NotFound)?)
    }
}

impl LiveCall {
    fn record(&self, what: &str, url: String, status: StatusCode) {
        self.events.record(Event::Step(Step {
            at_ms: milliseconds(self.started.elapsed()),
            what: what.to_owned(),
            received: true,
            url,
            status: Some(status.as_u16()),
            took_ms: 0.0,
            attempt: 1,
            message_id: None,
            note: None,
        }));
    }
}

/// `answer`: unknown members are Graph's and ignored.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAnswer {
    callback_uri: Option<String>,
    accepted_modalities: Vec<String>,
    media_config: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReject {
    callback_uri: Option<String>,
    #[serde(default = "no_reason")]
    reason: String,
}

fn no_reason() -> String {
    RejectReason::None.label().to_owned()
}

/// https, as the platform demands; http too where it stays on this machine.
fn callback(text: Option<&str>) -> Result<Option<Url>, Refusal> {
    let Some(text) = text else { return Ok(None) };
    let url = parse_http_url(text).map_err(|_| Refusal::BadCallback)?;
    if url.scheme() == "https" || is_loopback_url(&url) { Ok(Some(url)) } else { Err(Refusal::BadCallback) }
}

/// Why Graph refuses.
#[derive(Debug)]
enum Refusal {
    NotFound,
    AlreadyDecided,
    BadCallback,
    BadBody(String),
    NoSuchAction,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyDecided => StatusCode::CONFLICT,
            Self::BadCallback | Self::BadBody(_) | Self::NoSuchAction => StatusCode::BAD_REQUEST,
        }
    }

    /// Graph's error shape (Graph documentation, "Microsoft Graph error responses").
    fn response(&self, request: &Request<Bytes>) -> Response<Body> {
        let (code, message) = match self {
            Self::NotFound => ("8522", "Call not found.".to_owned()),
            // What the real service says to a second answer is not documented.
            Self::AlreadyDecided => ("Conflict", "The call was answered, rejected or ended already.".to_owned()),
            Self::BadCallback => (
                "BadRequest",
                "callbackUri must be an absolute https URL, or an http URL of this machine, without credentials and fragment."
                    .to_owned(),
            ),
            Self::BadBody(what) => ("BadRequest", format!("The body is not what this action takes: {what}.")),
            Self::NoSuchAction => (
                "BadRequest",
                "Resource not found for the segment: this emulator knows answer, reject and keepAlive.".to_owned(),
            ),
        };
        let request_id = random_id().unwrap_or_default().to_string();
        let client_request_id = header_text(request.headers(), &HeaderName::from_static("client-request-id"))
            .unwrap_or(&request_id)
            .to_owned();
        let document = json!({"error": {
            "code": code,
            "message": message,
            "innerError": {
                "date": clock::graph_date(clock::now()),
                "request-id": request_id,
                "client-request-id": client_request_id,
            },
        }});
        json_response(self.status(), &document)
    }
}

const MODALITIES: [&str; 4] = ["audio", "video", "videoBasedScreenSharing", "data"];

/// Bounds the memory of a platform that is asked for calls without end.
const CALLS_MAX: usize = 10_000;
