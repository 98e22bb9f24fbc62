//! The live calls by id, and the responses to requests about them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    action::{GraphAction, InvalidAction},
    bearer::{BearerApp, Gate},
    body::check_coding,
    decision::CallInput,
    headers::add_graph_headers,
    live_call::{LiveCall, StepRefused},
    refusal::{self, GraphRefusal},
};
use crate::{call_record::CallRecord, recorder::EventSender, script::ScriptStep, server::Body};

/// The live calls of a platform.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    by_id: Mutex<HashMap<Uuid, LiveCall>>,
}

impl Calls {
    /// Adds a call and returns the receiver of its inputs; `None` if there are too many calls.
    pub(crate) fn insert(&self, started: Instant, events: EventSender) -> Option<mpsc::Receiver<CallInput>> {
        let mut calls = self.lock();
        if calls.len() >= CALLS_MAX {
            return None;
        }
        let (call, inputs) = LiveCall::new(started, events);
        calls.insert(call.facts().id, call);
        Some(inputs)
    }

    /// Returns the number of live calls.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns the record of a live call.
    pub(crate) fn record(&self, id: Uuid) -> Option<Arc<CallRecord>> {
        self.lock().get(&id).map(LiveCall::call)
    }

    /// Returns the records of all live calls.
    pub(crate) fn records(&self) -> Vec<Arc<CallRecord>> {
        self.lock().values().map(LiveCall::call).collect()
    }

    /// Hands a step of the control API to the task that plays a call.
    pub(crate) fn take_step(&self, id: Uuid, step: ScriptStep) -> Result<(), StepRefused> {
        self.lock().get(&id).ok_or(StepRefused::NoSuchCall)?.take_step(step)
    }

    /// Ends a call at once if it lives: the other side hangs up.
    pub(crate) fn end(&self, id: Uuid) {
        if let Some(call) = self.lock().get_mut(&id) {
            call.end();
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
        path: &[&str],
        gate: Gate<'_>,
    ) -> Response<Body> {
        let action = match GraphAction::parse(request.method(), path) {
            Err(InvalidAction::Method { allowed }) => {
                let response = identified(request, refusal::wrong_method(request, allowed, gate.now));
                let calls = self.lock();
                if let Some(call) = Uuid::try_parse(id).ok().and_then(|id| calls.get(&id)) {
                    let note = format!("the path takes {allowed}");
                    call.record(NOT_SERVED, String::new(), Some(note), request, Some(&response));
                }
                return response;
            }
            other => other.map_err(|_| GraphRefusal::NoSuchAction),
        };
        let app = gate.issued.map(|issued| BearerApp::read(request.headers(), issued, gate.now)).transpose();
        let mut calls = self.lock();
        let Some(call) = Uuid::try_parse(id).ok().and_then(|id| calls.get_mut(&id)) else {
            // A sender without a good token does not learn which calls exist.
            let refusal = app.err().or_else(|| action.err()).unwrap_or(GraphRefusal::NotFound);
            return identified(request, refusal.response(request, gate.now));
        };
        let mut url = String::new();
        let what = action.as_ref().map_or(NOT_SERVED, GraphAction::label);
        let result = app.and_then(|app| {
            action.and_then(|action| act(call, request, action, app.as_ref(), gate.origin, &mut url))
        });
        let note = result.as_ref().err().map(GraphRefusal::note);
        let response = result.unwrap_or_else(|refusal| refusal.response(request, gate.now));
        let response = identified(request, response);
        call.record(what, url, note, request, Some(&response));
        response
    }

    /// Shows the request that created a call in its timeline.
    pub(crate) fn created(&self, request: &Request<Bytes>, id: Uuid, response: &Response<Body>) {
        if let Some(call) = self.lock().get(&id) {
            call.record("create call", call.facts().to.to_string(), None, request, Some(response));
        }
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

    /// Shows in the timeline of a call that a fault struck a request about it, and the response to that.
    pub(crate) fn struck(
        &self,
        request: &Request<Bytes>,
        id: &str,
        path: &[&str],
        fault: &str,
        response: Option<&Response<Body>>,
    ) {
        let action = GraphAction::parse(request.method(), path);
        let (Ok(action), Ok(id)) = (action, Uuid::try_parse(id)) else { return };
        if let Some(call) = self.lock().get(&id) {
            let note = format!("the fault graph={fault} strikes");
            call.record(action.label(), String::new(), Some(note), request, response);
        }
    }
}

/// Applies an action that the app may ask for.
fn act(
    call: &mut LiveCall,
    request: &Request<Bytes>,
    action: GraphAction,
    app: Option<&BearerApp>,
    origin: &str,
    url: &mut String,
) -> Result<Response<Body>, GraphRefusal> {
    check_coding(request.headers())?;
    if let Some(app) = app {
        call.admits(app, &action)?;
    }
    call.act(action, request, app, origin, url)
}

/// Returns the response with the headers of Graph, for the timeline too.
fn identified(request: &Request<Bytes>, mut response: Response<Body>) -> Response<Body> {
    add_graph_headers(request.headers(), &mut response);
    response
}

/// The name of a request in the timeline that has no action.
const NOT_SERVED: &str = "not served";
/// Bounds the memory of a platform that places calls without end.
const CALLS_MAX: usize = 10_000;
