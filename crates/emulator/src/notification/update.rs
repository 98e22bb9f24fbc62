//! The bodies of changes to an answered call: state, roster, tone.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    ids::CallIds,
    participant::participant_resource,
    parts::{item, result_info},
};
use crate::{call::CallRequest, participant::Participant};

/// The content of a roster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Roster<'a> {
    /// All participants.
    Full(&'a [Participant]),
    /// The participants who joined, changed and left since the last roster (`isDeltaRosterEnabled`). The
    /// first one lists everyone.
    Delta { changed: &'a [Participant], left: &'a [Participant] },
}

/// The body that reports a change of the call's state, in the smallest shape seen on the wire.
pub(crate) fn state(ids: &CallIds, state: &str) -> Value {
    item("updated", ids, "", json!({"@odata.type": "#microsoft.graph.call", "state": state}))
}

/// The body that reports that a transfer failed: the call goes on.
pub(crate) fn transfer_failed(ids: &CallIds, subcode: u32, message: &str) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.call",
        "state": "established",
        "resultInfo": result_info(500, subcode, message),
    });
    item("updated", ids, "", resource)
}

/// The body of a roster. `sequence` is the number of the change.
pub(crate) fn roster(call: &CallRequest, ids: &CallIds, roster: Roster<'_>, sequence: u32) -> Value {
    let (tenant, region) = (call.tenant.to_string(), call.region.label());
    let entry = |participant: &Participant| participant_resource(participant, &tenant, region, sequence);
    let resource = match roster {
        Roster::Full(participants) => participants.iter().map(entry).map(Value::Object).collect(),
        Roster::Delta { changed, left } => {
            let gone = left.iter().map(|leaver| {
                let mut gone = entry(leaver);
                let removed =
                    json!({"@odata.type": "#microsoft.graph.removedState", "reason": "Left the call."});
                gone.insert("removedState".to_owned(), removed);
                gone
            });
            let participants: Vec<Map<String, Value>> = changed.iter().map(entry).chain(gone).collect();
            json!([{
                "@odata.type": "#microsoft.graph.deltaParticipants",
                "sequenceNumber": sequence,
                "participants": participants,
            }])
        }
    };
    item("updated", ids, "/participants", resource)
}

/// The body that reports that an announced participant left. As `deleted` it would make a calling SDK
/// without a handler drop the whole call.
pub(crate) fn left(ids: &CallIds, participant: Uuid) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.participantLeftNotification",
        "participantId": participant.to_string(),
        "call": {"@odata.type": "#microsoft.graph.call", "id": ids.call.to_string()},
    });
    item("updated", ids, "", resource)
}

/// The body that reports a pressed key (Graph reference, "toneInfo").
pub(crate) fn tone(ids: &CallIds, tone: &str, sequence: u32) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.call",
        "state": "established",
        "toneInfo": {"@odata.type": "#microsoft.graph.toneInfo", "sequenceId": sequence, "tone": tone},
    });
    item("updated", ids, "", resource)
}
