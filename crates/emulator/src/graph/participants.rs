//! The requests about the participants of a call: what they change, and what they show.

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    body::{bad, parse},
    create::invitees,
    decision::{OperationEffect, ParticipantChange},
    refusal::GraphRefusal,
};
use crate::{
    call_record::CallRecord,
    notification::participant_resource,
    operation::OperationKind,
    participant::Participant,
    server::{Body, json_response},
};

#[derive(Deserialize)]
struct RawInvite {
    participants: Option<Vec<Value>>,
}

/// Reads what an operation changes among the participants. `participant` is the one that the path names.
pub(super) fn change(
    kind: OperationKind,
    participant: Option<Uuid>,
    body: &[u8],
) -> Result<Option<OperationEffect>, GraphRefusal> {
    let change = match (kind, participant) {
        (OperationKind::Invite, _) => {
            let raw: RawInvite = parse(body)?;
            let people = invitees(&raw.participants.unwrap_or_default())?;
            if people.is_empty() {
                return Err(bad("participants needs at least one invitationParticipantInfo"));
            }
            ParticipantChange::Invite(people)
        }
        (OperationKind::Mute, Some(id)) => ParticipantChange::Mute(id),
        (OperationKind::StartHoldMusic, Some(id)) => ParticipantChange::Hold(id),
        (OperationKind::StopHoldMusic, Some(id)) => ParticipantChange::Resume(id),
        (OperationKind::AdmitAllFromLobby, _) => ParticipantChange::AdmitAll,
        (OperationKind::LowerAllHands, _) => ParticipantChange::LowerAllHands,
        _ => return Ok(None),
    };
    Ok(Some(OperationEffect::Participants(change)))
}

/// Lists the participants.
pub(super) fn list(record: &CallRecord) -> Response<Body> {
    let participants: Vec<Value> =
        record.state().participants.iter().map(|participant| resource(record, participant)).collect();
    json_response(StatusCode::OK, &json!({"value": participants}))
}

/// Shows one participant.
pub(super) fn show(record: &CallRecord, id: Uuid) -> Result<Response<Body>, GraphRefusal> {
    let state = record.state();
    let participant = state.participants.iter().find(|participant| participant.id == id);
    let participant = participant.ok_or(GraphRefusal::NoSuchResource)?;
    Ok(json_response(StatusCode::OK, &resource(record, participant)))
}

/// Takes a participant out of the call. A bot cannot remove itself: it ends the call instead.
pub(super) fn take(record: &CallRecord, id: Uuid) -> Result<Participant, GraphRefusal> {
    let mut state = record.state();
    let position = state.participants.iter().position(|participant| participant.id == id);
    let position = position.ok_or(GraphRefusal::NoSuchResource)?;
    if Some(id) == record.facts.bot_participant() {
        return Err(bad("the bot cannot remove itself: DELETE the call"));
    }
    Ok(state.participants.remove(position))
}

fn resource(record: &CallRecord, participant: &Participant) -> Value {
    let tenant = record.facts.tenant.to_string();
    Value::Object(participant_resource(participant, &tenant, record.facts.region.label(), 1))
}
