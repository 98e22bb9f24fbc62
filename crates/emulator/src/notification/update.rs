//! The bodies of changes to an answered call: state, roster, tone.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    ids::{CallIds, Person},
    participant::participant,
    parts::{identity, item, object, source_identity},
};
use crate::call::CallRequest;

/// The content of a roster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Roster<'a> {
    /// All participants: the caller, the bot and the people who joined later.
    Full(&'a [Person]),
    /// The caller and the bot, as the first roster of a bot that asked for changes (`isDeltaRosterEnabled`).
    FirstDelta,
    /// The people who joined and left since the last roster.
    Delta { joined: &'a [Person], left: &'a [Person] },
}

/// The body that reports a change of the call's state, in the smallest shape seen on the wire.
pub(crate) fn state(ids: &CallIds, state: &str) -> Value {
    item("updated", ids, "", json!({"@odata.type": "#microsoft.graph.call", "state": state}))
}

/// The body of a roster. `sequence` is the number of the change.
pub(crate) fn roster(call: &CallRequest, ids: &CallIds, roster: Roster<'_>, sequence: u32) -> Value {
    let tenant = call.tenant.to_string();
    let participant = |id: Uuid, identity: &Value| participant(id, identity, call.region.label(), sequence);
    let person = |person: &Person| {
        let user = json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "user": user(person, &tenant),
        });
        participant(person.participant, &user)
    };
    let full = |people: &[Person]| {
        let bot = json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "application": identity(&call.app.to_string(), &tenant),
        });
        [
            participant(ids.caller_participant, &source_identity(call, ids)),
            participant(ids.bot_participant, &bot),
        ]
        .into_iter()
        .chain(people.iter().map(person))
        .collect()
    };
    let participants: Vec<Map<String, Value>> = match roster {
        Roster::Full(people) => full(people),
        Roster::FirstDelta => full(&[]),
        Roster::Delta { joined, left } => {
            let gone = left.iter().map(|leaver| {
                let mut gone = person(leaver);
                let removed =
                    json!({"@odata.type": "#microsoft.graph.removedState", "reason": "Left the call."});
                gone.insert("removedState".to_owned(), removed);
                gone
            });
            joined.iter().map(person).chain(gone).collect()
        }
    };
    let resource = match roster {
        Roster::Full(_) => participants.into(),
        Roster::FirstDelta | Roster::Delta { .. } => json!([{
            "@odata.type": "#microsoft.graph.deltaParticipants",
            "sequenceNumber": sequence,
            "participants": participants,
        }]),
    };
    item("updated", ids, "/participants", resource)
}

/// The identity of a person who joined, as the platform writes it in rosters.
fn user(person: &Person, tenant: &str) -> Value {
    let mut user = object(identity(&person.user.to_string(), tenant));
    user.insert("displayName".to_owned(), format!("Person {}", person.user.simple()).into());
    user.insert("identityProvider".to_owned(), "AAD".into());
    user.into()
}

/// The body that reports that an announced participant left. As `deleted` it would make a calling SDK
/// without a handler drop the whole call.
pub(crate) fn left(ids: &CallIds, person: Person) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.participantLeftNotification",
        "participantId": person.participant.to_string(),
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
