//! The live calls by id, and the responses to requests about them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    action::{GraphAction, InvalidAction},
    bearer::{BearerApp, Issued},
    decision::Decision,
    live_call::{Facts, LiveCall},
    refusal::{self, GraphRefusal},
};
use crate::{
    server::{Body, header_text, method_not_allowed},
    timeline::EventSender,
};

/// The live calls of a platform.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_id: Mutex<HashMap<Uuid, LiveCall>>,
}

/// The tokens and the time by which a request is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a> {
    /// The accepted tokens. `None` accepts requests without a token.
    pub(crate) issued: Option<&'a Issued>,
    pub(crate) now: SystemTime,
}

impl Calls {
    /// Adds a call and returns the receiver of its decisions; `None` if there are too many calls.
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
        let id = facts.id;
        let (call, decisions) = LiveCall::new(facts, started, events);
        calls.insert(id, call);
        Some(decisions)
    }

    /// Marks a call as answered that was so before the platform knew it.
    pub(crate) fn set_answered(&self, id: Uuid) {
        if let Some(call) = self.lock().get_mut(&id) {
            call.set_answered();
        }
    }

    pub(crate) fn remove(&self, id: Uuid) {
        self.lock().remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, LiveCall>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Responds to a request below `/v1.0/communications/calls/{id}`.
    pub(crate) fn handle(
        &self,
        request: &Request<Bytes>,
        id: &str,
        action: Option<&str>,
        gate: Gate<'_>,
    ) -> Response<Body> {
        let mut response = match GraphAction::parse(request.method(), action) {
            Ok(action) => self.act(request, id, action, gate),
            Err(InvalidAction::UnknownName) => Err(GraphRefusal::NoSuchAction),
            Err(InvalidAction::Method { allowed }) => return method_not_allowed(allowed),
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

    /// Responds with an error code that a fault asks for.
    pub(crate) fn coded(request: &Request<Bytes>, code: u32, now: SystemTime) -> Response<Body> {
        GraphRefusal::Fault(code).response(request, now)
    }

    /// The status that belongs to such a code.
    pub(crate) fn status_of(code: u32) -> StatusCode {
        GraphRefusal::Fault(code).status()
    }

    /// Responds with a status that a fault asks for, with the code that the calls API gives it.
    pub(crate) fn error(request: &Request<Bytes>, status: StatusCode, now: SystemTime) -> Response<Body> {
        refusal::of_status(request, status, now)
    }

    /// Shows in the timeline of a call that a fault struck a request about it. `status` is the status that
    /// the bot gets.
    pub(crate) fn struck(
        &self,
        method: &Method,
        id: &str,
        action: Option<&str>,
        fault: &str,
        status: Option<u16>,
    ) {
        let (Ok(action), Ok(id)) = (GraphAction::parse(method, action), Uuid::try_parse(id)) else { return };
        if let Some(call) = self.lock().get(&id) {
            call.record(action, String::new(), status, Some(format!("the fault graph={fault} strikes")));
        }
    }

    fn act(
        &self,
        request: &Request<Bytes>,
        id: &str,
        action: GraphAction,
        gate: Gate<'_>,
    ) -> Result<Response<Body>, GraphRefusal> {
        let app = gate.issued.map(|issued| BearerApp::read(request.headers(), issued, gate.now)).transpose();
        let id = Uuid::try_parse(id).map_err(|_| GraphRefusal::NotFound);
        let mut calls = self.lock();
        let call = match id.and_then(|id| calls.get_mut(&id).ok_or(GraphRefusal::NotFound)) {
            Ok(call) => call,
            // A sender without a good token does not learn which calls exist.
            Err(not_found) => return Err(app.err().unwrap_or(not_found)),
        };
        let mut url = String::new();
        let result = app.and_then(|app| {
            let coding = header_text(request.headers(), &header::CONTENT_ENCODING);
            if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
                return Err(GraphRefusal::Compressed);
            }
            if let Some(app) = &app {
                call.admits(app, action)?;
            }
            call.act(action, request.body(), app.as_ref(), &mut url)
        });
        let status = result.as_ref().map_or_else(GraphRefusal::status, Response::status);
        let note = result.as_ref().err().map(GraphRefusal::note);
        call.record(action, url, Some(status.as_u16()), note);
        result
    }
}

/// Bounds the memory of a platform that places calls without end.
const CALLS_MAX: usize = 10_000;
