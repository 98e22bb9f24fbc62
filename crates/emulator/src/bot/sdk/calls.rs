//! All calls of a bot on the calling SDK, and the effect of each item on them.

use std::collections::{HashMap, VecDeque};

use serde_json::{Value, json};

use super::{
    call::SdkCall,
    notification::{Change, SdkItem, Subject, type_of},
};

/// The calls that the SDK knows.
#[derive(Debug, Default)]
pub(super) struct SdkCalls {
    calls: HashMap<String, SdkCall>,
    /// The ids in the order in which the calls came.
    order: VecDeque<String>,
    /// Items about unknown calls. A call that the bot creates gets them once it is known.
    unknown: VecDeque<SdkItem>,
}

/// The effect of an item that reaches the bot's own code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// Nothing for the bot to do.
    Noted,
    /// A new call, to be answered, with its id.
    NewCall(String),
    /// A handler decides about a participant who joins.
    Joining,
}

impl SdkCalls {
    /// Applies an item. `handles_joining` is true if the bot set the handlers for people who join and leave.
    pub(super) fn apply(&mut self, item: &SdkItem, scenario: Option<&str>, handles_joining: bool) -> Applied {
        let Some(subject) = &item.subject else { return Applied::Noted };
        let kind = type_of(&item.data);
        if matches!(kind, Some("participantJoiningNotification" | "participantLeftNotification")) {
            return self.apply_joining(item, subject, handles_joining);
        }
        if subject.depth == 0 {
            return self.apply_to_call(item, subject, scenario);
        }
        let Some(call) = self.calls.get_mut(&subject.call) else {
            self.keep(item);
            return Applied::Noted;
        };
        match (subject.collection.as_deref(), subject.depth) {
            (Some("participants"), 1) => call.apply_roster(&item.data),
            (Some("operations"), _) => call.apply_operation(&item.data),
            _ => {}
        }
        Applied::Noted
    }

    fn apply_to_call(&mut self, item: &SdkItem, subject: &Subject, scenario: Option<&str>) -> Applied {
        let named = item.data.get("id").and_then(Value::as_str).map(str::to_ascii_lowercase);
        let id = match item.change {
            // Where the id and the path differ, the id holds. Without an id there is no new call.
            Change::Created => match named {
                Some(id) => id,
                None => return Applied::Noted,
            },
            Change::Updated | Change::Deleted => subject.call.clone(),
        };
        if item.change == Change::Deleted {
            self.remove(&id);
            return Applied::Noted;
        }
        if let Some(call) = self.calls.get_mut(&id) {
            call.merge(&item.data);
            if let Some(scenario) = scenario {
                call.scenario = Some(scenario.to_owned());
            }
            return Applied::Noted;
        }
        if item.change == Change::Updated {
            self.keep(item);
            return Applied::Noted;
        }
        let mut call = SdkCall { scenario: scenario.map(str::to_owned), ..SdkCall::default() };
        call.merge(&item.data);
        self.insert(&id, call);
        Applied::NewCall(id)
    }

    /// Applies a participant who joins or leaves, which reaches the handler in some shapes only.
    fn apply_joining(&mut self, item: &SdkItem, subject: &Subject, handles_joining: bool) -> Applied {
        let reaches = matches!(
            (item.change, subject.depth),
            (Change::Updated | Change::Deleted, 0) | (Change::Created, 1)
        );
        if item.change == Change::Deleted && subject.depth == 0 && !handles_joining {
            self.remove(&subject.call);
            return Applied::Noted;
        }
        let joining = type_of(&item.data) == Some("participantJoiningNotification");
        let has_call = item.data.get("call").is_some_and(Value::is_object);
        if joining && reaches && handles_joining && has_call && self.calls.contains_key(&subject.call) {
            Applied::Joining
        } else {
            Applied::Noted
        }
    }

    /// Adds a call that the bot created or took over, and applies the items that came before.
    pub(super) fn insert(&mut self, id: &str, call: SdkCall) {
        while self.order.len() >= CALLS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.calls.remove(&oldest);
        }
        self.order.push_back(id.to_owned());
        self.calls.insert(id.to_owned(), call);
        let is_its = |item: &SdkItem| item.subject.as_ref().is_some_and(|subject| subject.call == id);
        let (its, others) = std::mem::take(&mut self.unknown).into_iter().partition(is_its);
        self.unknown = others;
        let its: VecDeque<SdkItem> = its;
        for item in its {
            self.apply(&item, None, false);
        }
    }

    fn remove(&mut self, id: &str) {
        if self.calls.remove(id).is_some() {
            self.order.retain(|known| known != id);
        }
    }

    fn keep(&mut self, item: &SdkItem) {
        // A roster of a call that is not known can be large, and the next one is complete again.
        let small = item.data.as_object().is_some_and(|members| members.len() <= KEPT_MEMBERS_MAX);
        if small && item.data.to_string().len() <= KEPT_BYTES_MAX {
            if self.unknown.len() >= UNKNOWN_MAX {
                self.unknown.pop_front();
            }
            self.unknown.push_back(item.clone());
        }
    }

    /// The calls as `GET /sdk/calls` shows them, the newest 1,000.
    pub(super) fn show(&self) -> Value {
        let shown = self.order.iter().rev().take(SHOWN_MAX).filter_map(|id| {
            let call = self.calls.get(id)?;
            Some(json!({
                "id": id,
                "state": call.state(),
                "people": call.people.len(),
                "openOperations": call.operations.len(),
                "resource": call.resource,
            }))
        });
        json!({"calls": shown.collect::<Vec<_>>()})
    }

    pub(super) fn get(&self, id: &str) -> Option<&SdkCall> {
        self.calls.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut SdkCall> {
        self.calls.get_mut(id)
    }

    /// The newest call.
    pub(super) fn newest(&self) -> Option<&str> {
        self.order.back().map(String::as_str)
    }
}

const CALLS_MAX: usize = 10_000;
const SHOWN_MAX: usize = 1_000;

/// As many as the SDK keeps.
const UNKNOWN_MAX: usize = 1_000;
const KEPT_MEMBERS_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 4 * 1024;
