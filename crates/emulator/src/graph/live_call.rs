//! One live call: its phase, and what each action does to it.

use http::{Response, StatusCode};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};
use url::Url;
use uuid::Uuid;

use super::{action::GraphAction, bearer::BearerApp, body, decision::Decision, refusal::GraphRefusal};
use crate::{
    call::CallKind,
    encoding::random_id,
    entra::Permission,
    notification::Operation,
    server::{Body, empty, json_response},
    timeline::{CallEvent, CallStep, EventSender, milliseconds},
};

/// The facts about a call that never change.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) id: Uuid,
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) kind: CallKind,
}

/// A call that has not ended.
#[derive(Debug)]
pub(super) struct LiveCall {
    facts: Facts,
    phase: CallPhase,
    decisions: mpsc::Sender<Decision>,
    events: EventSender,
    started: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallPhase {
    Incoming,
    Answered,
    /// Rejected, redirected or hung up. The last notification is on its way.
    Ending,
}

impl LiveCall {
    /// An incoming call, and the receiver of the decisions about it.
    pub(super) fn new(
        facts: Facts,
        started: Instant,
        events: EventSender,
    ) -> (Self, mpsc::Receiver<Decision>) {
        let (decisions, receiver) = mpsc::channel(DECISIONS_MAX);
        (Self { facts, phase: CallPhase::Incoming, decisions, events, started }, receiver)
    }

    /// Marks the call as answered without a request of the bot.
    pub(super) fn set_answered(&mut self) {
        self.phase = CallPhase::Answered;
    }

    /// Checks that the app owns the call and has the permission that the action needs.
    pub(super) fn admits(&self, app: &BearerApp, action: GraphAction) -> Result<(), GraphRefusal> {
        if app.id != self.facts.app {
            return Err(GraphRefusal::OtherApp);
        }
        if app.tenant != self.facts.tenant {
            return Err(GraphRefusal::OtherTenant);
        }
        let group = match self.facts.kind {
            CallKind::Group | CallKind::Meeting => true,
            CallKind::P2p | CallKind::Recording | CallKind::Pstn => false,
        };
        let needed: &'static [Permission] = match action {
            GraphAction::Answer if group => &[Permission::JoinGroupCall, Permission::JoinGroupCallAsGuest],
            GraphAction::Redirect => &[Permission::Initiate],
            GraphAction::HangUp => &[Permission::Initiate, Permission::AccessMedia],
            GraphAction::RecordingStatus => &[Permission::AccessMedia],
            GraphAction::Answer | GraphAction::Reject | GraphAction::KeepAlive | GraphAction::Show => {
                return Ok(());
            }
        };
        if app.may(needed) { Ok(()) } else { Err(GraphRefusal::NotPermitted(needed)) }
    }

    /// Applies an action. `url` receives the callbackUri that the body names.
    pub(super) fn act(
        &mut self,
        action: GraphAction,
        body: &[u8],
        app: Option<&BearerApp>,
        url: &mut String,
    ) -> Result<Response<Body>, GraphRefusal> {
        let mut named = |callback: &Option<Url>| {
            url.push_str(callback.as_ref().map_or("", Url::as_str));
        };
        match action {
            GraphAction::Answer => {
                let (answer, app_hosted) = body::answer(body)?;
                const MEDIA: &[Permission] = &[Permission::AccessMedia];
                if app_hosted && app.is_some_and(|app| !app.may(MEDIA)) {
                    return Err(GraphRefusal::NotPermitted(MEDIA));
                }
                named(&answer.callback);
                self.decide(CallPhase::Answered, Decision::Answer(answer))
            }
            GraphAction::Reject => {
                let (callback, reason) = body::reject(body)?;
                named(&callback);
                self.decide(CallPhase::Ending, Decision::Reject { callback, reason })
            }
            GraphAction::Redirect => {
                let (callback, targets) = body::redirect(body)?;
                named(&callback);
                self.decide(CallPhase::Ending, Decision::Redirect { callback, targets })
            }
            GraphAction::KeepAlive => Ok(empty(StatusCode::OK)),
            GraphAction::RecordingStatus => self.update_recording_status(body),
            GraphAction::Show => Ok(self.show()),
            GraphAction::HangUp => {
                if self.phase == CallPhase::Ending || self.decisions.try_send(Decision::HangUp).is_err() {
                    return Err(GraphRefusal::NotFound);
                }
                self.phase = CallPhase::Ending;
                Ok(empty(StatusCode::NO_CONTENT))
            }
        }
    }

    fn decide(&mut self, next: CallPhase, decision: Decision) -> Result<Response<Body>, GraphRefusal> {
        if self.phase != CallPhase::Incoming {
            return Err(GraphRefusal::AlreadyDecided);
        }
        self.decisions.try_send(decision).map_err(|_| GraphRefusal::NotFound)?;
        self.phase = next;
        Ok(empty(StatusCode::ACCEPTED))
    }

    fn update_recording_status(&self, body: &[u8]) -> Result<Response<Body>, GraphRefusal> {
        let client_context = body::recording_status(body)?;
        if self.phase != CallPhase::Answered {
            return Err(GraphRefusal::NotAnswered);
        }
        let operation = Operation {
            id: random_id().unwrap_or_default(),
            odata_type: "#microsoft.graph.updateRecordingStatusOperation".to_owned(),
            client_context,
        };
        let document = json!({
            "@odata.type": operation.odata_type,
            "id": operation.id.to_string(),
            "status": "completed",
            "clientContext": operation.client_context,
        });
        // If the queue is full, the notification is lost. Graph does not promise one.
        let _ = self.decisions.try_send(Decision::Operation(operation));
        Ok(json_response(StatusCode::OK, &document))
    }

    fn show(&self) -> Response<Body> {
        let state = match self.phase {
            CallPhase::Incoming => "incoming",
            CallPhase::Answered => "established",
            CallPhase::Ending => "terminating",
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

    /// Adds a request to the timeline of the call.
    pub(super) fn record(&self, action: GraphAction, url: String, status: Option<u16>, note: Option<String>) {
        self.events.record(CallEvent::Step(CallStep {
            at_ms: milliseconds(self.started.elapsed()),
            what: action.label().to_owned(),
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

/// Operations wait in this queue while the notifications of the call are posted.
const DECISIONS_MAX: usize = 32;
