//! The resources below a call: operations, audio routing groups, content sharing sessions.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{action::GraphAction, body::bad, refusal::GraphRefusal};
use crate::{
    call_record::CallRecord,
    encoding::random_id,
    notification,
    server::{Body, empty, json_response},
};

/// Responds to a request for a resource. It changes nothing that the task of the call plays.
pub(super) fn respond(
    call: &CallRecord,
    action: GraphAction,
    body: &[u8],
) -> Result<Response<Body>, GraphRefusal> {
    let id = call.facts.id;
    let mut state = call.state();
    let found = |document: Option<Value>| match document {
        Some(document) => Ok(json_response(StatusCode::OK, &document)),
        None => Err(GraphRefusal::NoSuchResource),
    };
    match action {
        GraphAction::Operations => {
            let operations: Vec<Value> = state
                .operations
                .iter()
                .map(|operation| notification::operation_resource(id, operation))
                .collect();
            found(Some(json!({"value": operations})))
        }
        GraphAction::Operation(operation) => {
            let operation = state.operations.find(operation);
            found(operation.map(|operation| notification::operation_resource(id, operation)))
        }
        GraphAction::Groups => found(Some(state.audio_routing.to_json())),
        GraphAction::Group(group) => found(state.audio_routing.show(&group)),
        GraphAction::AddGroup => {
            if !state.stage().is_answered() {
                return Err(GraphRefusal::NotAnswered);
            }
            let new_id = random_id().unwrap_or_default().to_string();
            let group = state.audio_routing.add(body, new_id).map_err(|why| bad(&why))?;
            Ok(json_response(StatusCode::CREATED, &group))
        }
        GraphAction::ChangeGroup(group) => match state.audio_routing.change(&group, body) {
            Some(changed) => found(Some(changed.map_err(|why| bad(&why))?)),
            None => found(None),
        },
        GraphAction::RemoveGroup(group) => {
            if state.audio_routing.remove(&group) {
                Ok(empty(StatusCode::NO_CONTENT))
            } else {
                found(None)
            }
        }
        // The emulator carries no video, so no session exists.
        GraphAction::Sharings => found(Some(json!({"value": []}))),
        GraphAction::Sharing
        | GraphAction::Answer
        | GraphAction::Reject
        | GraphAction::Redirect
        | GraphAction::KeepAlive
        | GraphAction::Transfer
        | GraphAction::ScreenSharingRole
        | GraphAction::Show
        | GraphAction::HangUp
        | GraphAction::Operate(_)
        | GraphAction::OperateOn(..)
        | GraphAction::Participants
        | GraphAction::Participant(_)
        | GraphAction::RemoveParticipant(_) => found(None),
    }
}
