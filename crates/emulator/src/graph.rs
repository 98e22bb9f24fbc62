//! The Graph calls API, as far as a bot needs it to take a call: answer, reject, redirect, keep alive, report the
//! recording status, get, hang up.

mod bearer;
mod body;
mod refusal;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use url::Url;
use uuid::Uuid;

pub(crate) use self::bearer::Issued;
use self::{bearer::Asker, refusal::Refusal};
use crate::{
    call::CallKind,
    encoding::random_id,
    entra::Permission,
    notification::Operation,
    server::{Body, empty, header_text, json_response, method_not_allowed},
    timeline::{Event, EventSender, Step, milliseconds},
    words::words,
};

/// What the bot decided about a call.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Answer(AnswerRequest),
    Reject {
        callback: Option<Url>,
        reason: RejectReason,
    },
    Redirect {
        callback: Option<Url>,
        targets: usize,
    },
    /// An operation that was accepted; a notification says how it ended.
    Operation(Operation),
    HangUp,
}

/// What the bot asked for when it answered.
#[derive(Clone, Debug)]
pub(crate) struct AnswerRequest {
    pub(crate) callback: Option<Url>,
    /// Roster updates hold only what changed.
    pub(crate) delta_roster: bool,
    /// How many participants a policy group may have before another bot is invited.
    pub(crate) participant_capacity: Option<u32>,
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

/// What is known of a call before anything happens to it.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Uuid,
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) kind: CallKind,
}

/// How a request is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a> {
    /// The tokens that count; `None` lets everybody in.
    pub(crate) issued: Option<&'a Issued>,
    pub(crate) now: SystemTime,
}

#[derive(Debug)]
struct LiveCall {
    facts: Facts,
    phase: Phase,
    decisions: mpsc::Sender<Decision>,
    events: EventSender,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Incoming,
    Answered,
    /// Rejected, redirected or hung up; the last notification is on its way.
    Ending,
}

/// One of the requests below `/communications/calls/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Answer,
    Reject,
    Redirect,
    KeepAlive,
    RecordingStatus,
    Show,
    HangUp,
}

impl Action {
    fn parse(method: &Method, name: Option<&str>) -> Result<Self, &'static str> {
        match (name.map(|name| name.strip_prefix("microsoft.graph.").unwrap_or(name)), method) {
            (None, &Method::GET) => Ok(Self::Show),
            (None, &Method::DELETE) => Ok(Self::HangUp),
            (None, _) => Err("GET, DELETE"),
            (Some("answer"), &Method::POST) => Ok(Self::Answer),
            (Some("reject"), &Method::POST) => Ok(Self::Reject),
            (Some("redirect"), &Method::POST) => Ok(Self::Redirect),
            (Some("keepAlive"), &Method::POST) => Ok(Self::KeepAlive),
            (Some("updateRecordingStatus"), &Method::POST) => Ok(Self::RecordingStatus),
            (Some("answer" | "reject" | "redirect" | "keepAlive" | "updateRecordingStatus"), _) => {
                Err("POST")
            }
            (Some(_), _) => Err(""),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Reject => "reject",
            Self::Redirect => "redirect",
            Self::KeepAlive => "keep alive",
            Self::RecordingStatus => "recording status",
            Self::Show => "get",
            Self::HangUp => "hang up",
        }
    }
}

impl Calls {
    /// Makes a call known; `None` when there are too many.
    pub(crate) fn insert(
        &self,
        facts: Facts,
        started: Instant,
        events: EventSender,
    ) -> Option<mpsc::Receiver<Decision>> {
        let mut calls = self.lock();
        if calls.len() >= CALLS_MAX {
            return None;
        }
        let (decisions, receiver) = mpsc::channel(DECISIONS_MAX);
        calls.insert(facts.id, LiveCall { facts, phase: Phase::Incoming, decisions, events, started });
        Some(receiver)
    }

    pub(crate) fn remove(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, LiveCall>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request below `/v1.0/communications/calls/{id}`.
    pub(crate) fn handle(
        &self,
        request: &Request<Bytes>,
        id: &str,
        action: Option<&str>,
        gate: Gate<'_>,
    ) -> Response<Body> {
        let mut response = match Action::parse(request.method(), action) {
            Ok(action) => self.act(request, id, action, gate),
            Err("") => Err(Refusal::NoSuchAction),
            Err(allowed) => return method_not_allowed(allowed),
        }
        .unwrap_or_else(|refusal| refusal.response(request, gate.now));
        for name in ["client-request-id", "scenario-id"].map(HeaderName::from_static) {
            let echo = header_text(request.headers(), &name).and_then(|id| HeaderValue::from_str(id).ok());
            if let Some(echo) = echo {
                response.headers_mut().insert(name, echo);
            }
        }
        response
    }

    /// What a fault asks this endpoint to say.
    pub(crate) fn coded(request: &Request<Bytes>, code: u32, now: SystemTime) -> Response<Body> {
        Refusal::Fault(code).response(request, now)
    }

    /// The status that comes with such a code.
    pub(crate) fn status_of(code: u32) -> StatusCode {
        Refusal::Fault(code).status()
    }

    /// Another status, with the code that the calls API gives it.
    pub(crate) fn error(request: &Request<Bytes>, status: StatusCode, now: SystemTime) -> Response<Body> {
        let refusal = match status {
            StatusCode::UNAUTHORIZED => Refusal::Token("Access token is invalid."),
            StatusCode::FORBIDDEN => Refusal::Fault(7_504),
            StatusCode::NOT_FOUND => Refusal::Fault(8_522),
            StatusCode::CONFLICT => Refusal::AlreadyDecided,
            StatusCode::INTERNAL_SERVER_ERROR => Refusal::Fault(9_999),
            StatusCode::SERVICE_UNAVAILABLE => {
                let message = "The service is temporarily unavailable.";
                return refusal::error(request, status, "ServiceNotAvailable", message, now);
            }
            // Graph's own words for the others are those of HTTP without spaces: PreconditionFailed, TooManyRequests.
            _ => {
                let reason = status.canonical_reason().unwrap_or("Unknown Error");
                let code: String = reason.split([' ', '-']).collect();
                return refusal::error(request, status, &code, &format!("{reason}."), now);
            }
        };
        refusal.response(request, now)
    }

    /// Shows in the timeline of a call that a fault strikes a request about it; `status` is what the bot sees.
    pub(crate) fn struck(
        &self,
        method: &Method,
        id: &str,
        action: Option<&str>,
        fault: &str,
        status: Option<u16>,
    ) {
        let (Ok(action), Ok(id)) = (Action::parse(method, action), Uuid::try_parse(id)) else { return };
        if let Some(call) = self.lock().get(&id) {
            call.record(
                action.words(),
                String::new(),
                status,
                Some(format!("the fault graph={fault} strikes")),
            );
        }
    }

    fn act(
        &self,
        request: &Request<Bytes>,
        id: &str,
        action: Action,
        gate: Gate<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let asker = gate.issued.map(|issued| Asker::read(request.headers(), issued, gate.now)).transpose();
        let id = Uuid::try_parse(id).map_err(|_| Refusal::NotFound);
        let mut calls = self.lock();
        let call = match id.and_then(|id| calls.get_mut(&id).ok_or(Refusal::NotFound)) {
            Ok(call) => call,
            // Who may not ask is not told what there is.
            Err(not_found) => return Err(asker.err().unwrap_or(not_found)),
        };
        let mut url = String::new();
        let result = asker.and_then(|asker| {
            let compressed = header_text(request.headers(), &header::CONTENT_ENCODING);
            if compressed.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
                return Err(Refusal::Compressed);
            }
            if let Some(asker) = &asker {
                call.admits(asker, action)?;
            }
            call.act(action, request.body(), asker.as_ref(), &mut url)
        });
        let status = result.as_ref().map_or_else(Refusal::status, Response::status);
        call.record(action.words(), url, Some(status.as_u16()), result.as_ref().err().map(Refusal::note));
        result
    }
}

impl LiveCall {
    /// Whose call it is, and what that takes.
    fn admits(&self, asker: &Asker, action: Action) -> Result<(), Refusal> {
        if asker.app != self.facts.app {
            return Err(Refusal::OtherApp);
        }
        if asker.tenant != self.facts.tenant {
            return Err(Refusal::OtherTenant);
        }
        let group = match self.facts.kind {
            CallKind::Group | CallKind::Meeting => true,
            CallKind::P2p | CallKind::Recording | CallKind::Pstn => false,
        };
        let needed: &'static [Permission] = match action {
            Action::Answer if group => &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest],
            Action::Redirect => &[Permission::Initiate],
            Action::HangUp => &[Permission::Initiate, Permission::AccessMedia],
            Action::RecordingStatus => &[Permission::AccessMedia],
            Action::Answer | Action::Reject | Action::KeepAlive | Action::Show => return Ok(()),
        };
        if asker.may(needed) { Ok(()) } else { Err(Refusal::NotPermitted(needed)) }
    }

    fn act(
        &mut self,
        action: Action,
        body: &[u8],
        asker: Option<&Asker>,
        url: &mut String,
    ) -> Result<Response<Body>, Refusal> {
        let mut named = |callback: &Option<Url>| {
            url.push_str(callback.as_ref().map_or("", Url::as_str));
        };
        match action {
            Action::Answer => {
                let (answered, app_hosted) = body::answer(body)?;
                const MEDIA: &[Permission] = &[Permission::AccessMedia];
                if app_hosted && asker.is_some_and(|asker| !asker.may(MEDIA)) {
                    return Err(Refusal::NotPermitted(MEDIA));
                }
                named(&answered.callback);
                self.decide(Phase::Answered, Decision::Answer(answered))
            }
            Action::Reject => {
                let (callback, reason) = body::reject(body)?;
                named(&callback);
                self.decide(Phase::Ending, Decision::Reject { callback, reason })
            }
            Action::Redirect => {
                let (callback, targets) = body::redirect(body)?;
                named(&callback);
                self.decide(Phase::Ending, Decision::Redirect { callback, targets })
            }
            Action::KeepAlive => Ok(empty(StatusCode::OK)),
            Action::RecordingStatus => {
                let context = body::recording_status(body)?;
                if self.phase != Phase::Answered {
                    return Err(Refusal::NotAnswered);
                }
                let operation = Operation {
                    id: random_id().unwrap_or_default(),
                    odata_type: "#microsoft.graph.updateRecordingStatusOperation",
                    client_context: context,
                };
                let document = json!({
                    "@odata.type": operation.odata_type,
                    "id": operation.id.to_string(),
                    "status": "completed",
                    "clientContext": operation.client_context,
                });
                // A call that is full of operations loses a notification, which is not documented to be reliable.
                let _ = self.decisions.try_send(Decision::Operation(operation));
                Ok(json_response(StatusCode::OK, &document))
            }
            Action::Show => Ok(self.show()),
            Action::HangUp => {
                if self.phase == Phase::Ending || self.decisions.try_send(Decision::HangUp).is_err() {
                    return Err(Refusal::NotFound);
                }
                self.phase = Phase::Ending;
                Ok(empty(StatusCode::NO_CONTENT))
            }
        }
    }

    fn decide(&mut self, next: Phase, decision: Decision) -> Result<Response<Body>, Refusal> {
        if self.phase != Phase::Incoming {
            return Err(Refusal::AlreadyDecided);
        }
        self.decisions.try_send(decision).map_err(|_| Refusal::NotFound)?;
        self.phase = next;
        Ok(empty(StatusCode::ACCEPTED))
    }

    fn show(&self) -> Response<Body> {
        let state = match self.phase {
            Phase::Incoming => "incoming",
            Phase::Answered => "established",
            Phase::Ending => "terminating",
        };
        let document = json!({
            "@odata.type": "#microsoft.graph.call",
            "id": self.facts.id.to_string(),
            "state": state,
            "direction": "incoming",
            "tenantId": self.facts.tenant.to_string(),
        });
        json_response(StatusCode::OK, &document)
    }

    fn record(&self, what: &str, url: String, status: Option<u16>, note: Option<String>) {
        self.events.record(Event::Step(Step {
            at_ms: milliseconds(self.started.elapsed()),
            what: what.to_owned(),
            received: true,
            url,
            status,
            took_ms: 0.0,
            attempt: 1,
            message_id: None,
            note,
        }));
    }
}

/// The codes of the calls API that a fault may ask for.
pub(crate) const CODES: [u32; 6] = [7_503, 7_504, 7_505, 8_522, 8_529, 9_999];

/// Bounds the memory of a platform that is asked for calls without end.
const CALLS_MAX: usize = 10_000;

/// A call's operations wait here while its notifications are posted.
const DECISIONS_MAX: usize = 32;
