//! One live call: its phase, and what each action does to it.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use serde_json::Value;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};
use url::Url;
use uuid::Uuid;

use super::{
    action::GraphAction,
    bearer::BearerApp,
    body,
    decision::{CallInput, Decision, StartedOperation},
    operation::OperationRequest,
    participants,
    refusal::GraphRefusal,
    resources, transfer,
};
use crate::{
    call::CallKind,
    call_record::{CallRecord, CallStage, Facts},
    encoding::random_id,
    entra::Permission,
    exchange::{RecordedRequest, RecordedResponse},
    notification,
    operation::{Operation, OperationKind, OperationResult},
    recorder::EventSender,
    script::ScriptStep,
    server::{Body, empty, json_response, whole_body},
    timeline::{CallEvent, CallStep, milliseconds},
};

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct LiveCall {
    inputs: mpsc::Sender<CallInput>,
    /// The place of the input that ends the call; `None` once it was sent.
    end: Option<mpsc::OwnedPermit<CallInput>>,
    events: EventSender,
    started: Instant,
}

impl LiveCall {
    /// A call, and the receiver of its inputs.
    pub(super) fn new(started: Instant, events: EventSender) -> (Self, mpsc::Receiver<CallInput>) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX + 1);
        let end = inputs.clone().try_reserve_owned().ok();
        (Self { inputs, end, events, started }, receiver)
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.events.call().facts
    }

    /// Returns the record of the call.
    pub(super) fn call(&self) -> Arc<CallRecord> {
        Arc::clone(self.events.call())
    }

    fn stage(&self) -> CallStage {
        self.events.call().state().stage()
    }

    /// Checks that the app owns the call and has the permission that the action needs.
    pub(super) fn admits(&self, app: &BearerApp, action: &GraphAction) -> Result<(), GraphRefusal> {
        if app.id != self.facts().app {
            return Err(GraphRefusal::OtherApp);
        }
        if app.tenant != self.facts().tenant {
            return Err(GraphRefusal::OtherTenant);
        }
        let group = match self.facts().kind {
            CallKind::Group | CallKind::Meeting => true,
            CallKind::P2p | CallKind::Recording | CallKind::Pstn => false,
        };
        let needed = action.permissions(group);
        if needed.is_empty() || app.may(needed) { Ok(()) } else { Err(GraphRefusal::NotPermitted(needed)) }
    }

    /// Applies an action. `url` receives the callbackUri that the body names.
    pub(super) fn act(
        &mut self,
        action: GraphAction,
        request: &Request<Bytes>,
        app: Option<&BearerApp>,
        origin: &str,
        url: &mut String,
    ) -> Result<Response<Body>, GraphRefusal> {
        let body = request.body();
        let mut named = |callback: &Option<Url>| {
            url.push_str(callback.as_ref().map_or("", Url::as_str));
        };
        match action {
            GraphAction::Answer => {
                let (mut answer, app_hosted) = body::answer(body)?;
                answer.scenario = body::scenario(request);
                const MEDIA: &[Permission] = &[Permission::AccessMedia];
                if app_hosted && app.is_some_and(|app| !app.may(MEDIA)) {
                    return Err(GraphRefusal::NotPermitted(MEDIA));
                }
                named(&answer.callback);
                self.decide(CallStage::Establishing, Decision::Answer(answer))
            }
            GraphAction::Reject => {
                let (callback, reason) = body::reject(body)?;
                named(&callback);
                self.decide(CallStage::Terminating, Decision::Reject { callback, reason })
            }
            GraphAction::Redirect => {
                let (callback, targets) = body::redirect(body)?;
                named(&callback);
                self.decide(CallStage::Terminating, Decision::Redirect { callback, targets })
            }
            GraphAction::KeepAlive => Ok(empty(StatusCode::OK)),
            GraphAction::Operate(kind) => self.operate(kind, None, body, origin),
            GraphAction::Transfer => {
                let replaces = transfer::transfer(body)?;
                self.change(Decision::Transfer { replaces })
            }
            GraphAction::ScreenSharingRole => {
                self.change(Decision::ShareScreen(transfer::screen_sharing_role(body)?))
            }
            GraphAction::Operations
            | GraphAction::Operation(_)
            | GraphAction::Groups
            | GraphAction::AddGroup
            | GraphAction::Group(_)
            | GraphAction::ChangeGroup(_)
            | GraphAction::RemoveGroup(_)
            | GraphAction::Sharings
            | GraphAction::Sharing => resources::respond(self.events.call(), action, body),
            GraphAction::OperateOn(kind, participant) => {
                participants::show(self.events.call(), participant)?;
                self.operate(kind, Some(participant), body, origin)
            }
            GraphAction::Participants => Ok(participants::list(self.events.call())),
            GraphAction::Participant(id) => participants::show(self.events.call(), id),
            GraphAction::RemoveParticipant(id) => {
                // Who leaves the call must be reported, so a place for that comes first.
                let place = self.inputs.try_reserve().map_err(|error| not_taken(&error))?;
                let participant = participants::take(self.events.call(), id)?;
                place.send(CallInput::Decision(Decision::Removed(participant)));
                Ok(empty(StatusCode::NO_CONTENT))
            }
            GraphAction::Show => Ok(self.show()),
            GraphAction::HangUp => {
                if self.stage().is_ending() {
                    return Err(GraphRefusal::NotFound);
                }
                self.send_end(CallInput::Decision(Decision::HangUp))?;
                self.events.call().enter(CallStage::Terminating);
                Ok(empty(StatusCode::NO_CONTENT))
            }
        }
    }

    fn decide(&mut self, next: CallStage, decision: Decision) -> Result<Response<Body>, GraphRefusal> {
        if self.stage() != CallStage::Incoming {
            return Err(GraphRefusal::AlreadyDecided);
        }
        // The task may play on as soon as it has the decision, so the stage is entered before.
        self.events.call().enter(next);
        self.send(decision)?;
        Ok(empty(StatusCode::ACCEPTED))
    }

    /// Accepts a request that changes an answered call.
    fn change(&self, decision: Decision) -> Result<Response<Body>, GraphRefusal> {
        self.check_answered()?;
        self.send(decision)?;
        Ok(empty(StatusCode::ACCEPTED))
    }

    fn check_answered(&self) -> Result<(), GraphRefusal> {
        let stage = self.stage();
        if stage.is_ending() {
            return Err(GraphRefusal::NotFound);
        }
        if stage.is_answered() { Ok(()) } else { Err(GraphRefusal::NotAnswered) }
    }

    fn send(&self, decision: Decision) -> Result<(), GraphRefusal> {
        self.inputs.try_send(CallInput::Decision(decision)).map_err(|error| not_taken(&error))
    }

    /// Hands a step of the control API to the task that plays the call.
    pub(super) fn take_step(&self, step: ScriptStep) -> Result<(), StepRefused> {
        let stage = self.stage();
        let ends = step.action.ends_the_call();
        if stage.is_ending() {
            return Err(StepRefused::Ending);
        }
        if !stage.is_answered() && !ends {
            return Err(StepRefused::NotAnswered);
        }
        self.inputs.try_send(CallInput::Step(step)).map_err(|_| StepRefused::Busy)
    }

    /// Lets the other side hang up at once.
    pub(super) fn end(&mut self) {
        // The task that has ended needs no input.
        let _ = self.send_end(CallInput::End);
    }

    /// Sends an input that ends the call. The first one has its place, however full the queue is.
    fn send_end(&mut self, input: CallInput) -> Result<(), GraphRefusal> {
        if let Some(place) = self.end.take() {
            place.send(input);
            return Ok(());
        }
        self.inputs.try_send(input).map_err(|error| not_taken(&error))
    }

    /// Starts an operation. From here on its end is reported once.
    fn operate(
        &self,
        kind: OperationKind,
        participant: Option<Uuid>,
        body: &[u8],
        origin: &str,
    ) -> Result<Response<Body>, GraphRefusal> {
        let folder = format!("{origin}/emulator/calls/{}/recordings", self.facts().id);
        let OperationRequest { client_context, mut effect } =
            OperationRequest::read(kind, participant, body, &folder)?;
        let record = self.events.call();
        self.check_answered()?;
        let id = random_id().map_err(|_| GraphRefusal::Fault(INTERNAL_ERROR))?;
        // The calling SDK refuses a notification without a context.
        let client_context = client_context.unwrap_or_else(|| id.to_string());
        let mut operation = Operation::new(id, kind, client_context);
        if self.facts().operations.completes(kind) {
            let (end, change) = effect.at_once();
            operation.end(end);
            effect = change;
        }
        // The task may end the operation as soon as it has it, so the record knows it before.
        if !record.state().operations.add(operation.clone()) {
            return Err(GraphRefusal::TooManyOperations);
        }
        let started = CallInput::Decision(Decision::Operation(StartedOperation { id, effect }));
        if self.inputs.try_send(started).is_err() {
            record.state().operations.remove(id);
            return Err(GraphRefusal::TooManyOperations);
        }
        record.announce();
        if kind == OperationKind::UpdateRecordingStatus {
            // Graph says so at once, and notifies it too.
            operation.end(OperationResult::success().into());
        }
        let mut response =
            json_response(StatusCode::OK, &notification::operation_resource(self.facts().id, &operation));
        let location = format!("/v1.0/communications/calls/{}/operations/{id}", self.facts().id);
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    }

    /// Shows the whole call.
    fn show(&self) -> Response<Body> {
        let mut document = self.facts().document.clone();
        document.insert("state".to_owned(), self.stage().label().into());
        json_response(StatusCode::OK, &Value::Object(document))
    }

    /// Adds a request to the timeline of the call. `response` is `None` if the bot gets none.
    pub(super) fn record(
        &self,
        what: &str,
        url: String,
        note: Option<String>,
        request: &Request<Bytes>,
        response: Option<&Response<Body>>,
    ) {
        let keeps = self.events.call().keeps_exchanges();
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        self.events.record(CallEvent::step(CallStep {
            at_ms: milliseconds(self.started.elapsed()),
            what: what.to_owned(),
            received: true,
            url,
            status: response.map(|response| response.status().as_u16()),
            took_ms: 0.0,
            attempt: 1,
            message_id: None,
            note: note.map(|note| note.chars().take(NOTE_LETTERS_MAX).collect()),
            request: keeps.then(|| RecordedRequest::new(request, path)),
            response: response
                .filter(|_| keeps)
                .map(|response| RecordedResponse::new(response, &whole_body(response))),
        }));
    }
}

/// The refusal of a decision that the task of the call does not take. The call lives if its queue is full.
fn not_taken<T>(error: &TrySendError<T>) -> GraphRefusal {
    match error {
        TrySendError::Full(_) => GraphRefusal::TooManyOperations,
        TrySendError::Closed(_) => GraphRefusal::NotFound,
    }
}

/// The reason why a call does not take a step of the control API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepRefused {
    /// No live call has the id.
    #[error("no live call has this id; GET /emulator/calls lists the calls")]
    NoSuchCall,
    /// The call ends or has ended.
    #[error("the call has ended, or its last notification is on its way")]
    Ending,
    /// The bot has not answered.
    #[error("the call is not answered yet: it takes terminate and drop only")]
    NotAnswered,
    /// Too many inputs wait for the end of a notification.
    #[error("too many requests about this call wait: try again")]
    Busy,
}

impl StepRefused {
    /// Returns a stable name for responses.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::NoSuchCall => "noSuchCall",
            Self::Ending => "ending",
            Self::NotAnswered => "notAnswered",
            Self::Busy => "busy",
        }
    }
}

/// The code of Graph for an error of its own.
const INTERNAL_ERROR: u32 = 9_999;
/// The error of a body may repeat all of it.
const NOTE_LETTERS_MAX: usize = 1_000;
/// Operations wait in this queue while the notifications of the call are posted.
const INPUTS_MAX: usize = 32;
