//! One call, as the calling SDK keeps it: its merged resource, its people and its open operations.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::notification::type_of;

/// A call that the SDK knows.
#[derive(Debug, Default)]
pub(super) struct SdkCall {
    /// The members of all notifications about the call itself: later ones replace earlier ones.
    pub(super) resource: Map<String, Value>,
    /// The scenario of the newest notification about the call.
    pub(super) scenario: Option<String>,
    pub(super) callback: String,
    pub(super) tenant: Option<String>,
    pub(super) people: HashSet<String>,
    pub(super) had_delta: bool,
    pub(super) operations: HashMap<String, OpenOperation>,
}

/// An operation whose end the bot waits for.
#[derive(Debug)]
pub(super) struct OpenOperation {
    /// The types of notifications that can end it.
    pub(super) types: &'static [&'static str],
    pub(super) end: oneshot::Sender<OperationEnd>,
}

/// The end of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OperationEnd {
    Completed,
    Failed(String),
}

impl OperationEnd {
    /// Reads the end of an operation from its resource; `None` if it goes on.
    pub(super) fn read(data: &Value) -> Option<Self> {
        let status = data.get("status").and_then(Value::as_str).unwrap_or_default();
        if status.eq_ignore_ascii_case("completed") {
            return Some(Self::Completed);
        }
        if !status.eq_ignore_ascii_case("failed") {
            return None;
        }
        let text = |pointer: &str| data.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let id = text("/id");
        let message = text("/resultInfo/message");
        Some(Self::Failed(format!("Unexpected 'Failed' status for operation {id}. {message}")))
    }
}

impl SdkCall {
    /// Merges a notification about the call itself. Members that it does not have stay.
    pub(super) fn merge(&mut self, data: &Value) {
        let Some(members) = data.as_object() else { return };
        let size: usize = members.iter().map(|(name, value)| name.len() + size_of(value)).sum();
        if size <= RESOURCE_BYTES_MAX && self.resource.len() + members.len() <= MEMBERS_MAX {
            self.resource.extend(members.clone());
        }
    }

    /// The state of the call; `None` if the SDK does not know it.
    pub(super) fn state(&self) -> Option<&'static str> {
        match self.resource.get("state")? {
            Value::String(state) => STATES.into_iter().find(|known| known.eq_ignore_ascii_case(state)),
            Value::Number(number) => STATES.get(usize::try_from(number.as_u64()?).ok()?).copied(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Applies a roster: all people, or the changes of a delta roster.
    pub(super) fn apply_roster(&mut self, data: &Value) {
        let Some(parts) = data.as_array() else { return };
        if !parts.iter().any(|part| type_of(part) == Some("deltaParticipants")) {
            // A list that holds changes only removes everybody else.
            let ids = parts.iter().filter_map(|person| text(person, "/id"));
            self.people = ids.take(PEOPLE_MAX).collect();
            return;
        }
        for part in parts {
            let Some(people) = part.get("participants").and_then(Value::as_array) else { continue };
            let named: Option<Vec<(String, bool)>> = people
                .iter()
                .map(|person| {
                    let left = person.get("removedState").is_some_and(|state| !state.is_null());
                    text(person, "/info/participantId").map(|id| (id, left))
                })
                .collect();
            // The SDK drops the whole change if it cannot name one of the people.
            let Some(named) = named else { continue };
            if !std::mem::replace(&mut self.had_delta, true) {
                self.people.clear();
            }
            for (id, left) in named {
                if left {
                    self.people.remove(&id);
                } else if self.people.len() < PEOPLE_MAX {
                    self.people.insert(id);
                }
            }
        }
    }

    /// Opens an operation: its notification may come before the response.
    pub(super) fn open(&mut self, context: String, operation: OpenOperation) {
        self.operations.insert(context, operation);
    }

    /// Forgets an operation that the response ended or that was not accepted.
    pub(super) fn forget(&mut self, context: &str) {
        self.operations.remove(context);
    }

    /// Applies a notification about an operation. One that fits no open operation is ignored.
    pub(super) fn apply_operation(&mut self, data: &Value) {
        let (Some(context), Some(name)) = (data.get("clientContext").and_then(Value::as_str), type_of(data))
        else {
            return;
        };
        let Some(end) = OperationEnd::read(data) else { return };
        if self.operations.get(context).is_some_and(|open| open.types.contains(&name))
            && let Some(open) = self.operations.remove(context)
        {
            let _ = open.end.send(end);
        }
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    let text = value.pointer(pointer).and_then(Value::as_str)?;
    Some(text.to_owned()).filter(|text| !text.is_empty() && text.len() <= ID_BYTES_MAX)
}

/// The length of a value's text, about.
fn size_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(parts) => parts.iter().map(size_of).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + size_of(value)).sum(),
    }
}

/// The states that the SDK knows, by number. It does not know `ringing`.
const STATES: [&str; 9] = [
    "incoming",
    "establishing",
    "established",
    "hold",
    "transferring",
    "transferAccepted",
    "redirecting",
    "terminating",
    "terminated",
];

/// With these limits 10,000 calls fit into memory, whatever a sender writes.
const RESOURCE_BYTES_MAX: usize = 16 * 1024;
const MEMBERS_MAX: usize = 128;
const PEOPLE_MAX: usize = 1_000;
const ID_BYTES_MAX: usize = 256;
