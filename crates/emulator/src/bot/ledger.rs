//! What a bot remembers of its calls, within bounds, and how it shows it.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::item::Item;
use crate::load::Ledger as Brief;

/// The calls of a bot: `GET /calls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCalls {
    /// The bot's name.
    pub name: String,
    /// Whether it takes no new call any more.
    pub draining: bool,
    /// Calls that are alive now.
    pub active: usize,
    /// New calls taken since the start.
    pub taken: u64,
    /// New calls refused because the bot was full.
    pub refused: u64,
    /// Notifications about calls that this bot was never given.
    pub strays: u64,
    /// The latest of those: call id and kind.
    pub stray_calls: Vec<Stray>,
    /// The latest 1,000 calls, oldest first.
    pub calls: Vec<BotCall>,
}

/// One call of a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCall {
    /// The call id.
    pub id: String,
    /// `taken`, `answering`, `answered`, `establishing`, `established`, `ended`, `declined` or `failed`.
    pub state: String,
    /// Where callbacks were asked for.
    pub callback_uri: String,
    /// The tenant, as the gateway says it.
    pub tenant: Option<String>,
    /// Whether a recording policy invited the bot.
    pub recorded: bool,
    /// The kinds of its notifications in order; the first 64.
    pub notifications: Vec<String>,
    /// How many notifications came, whether or not they are listed.
    pub count: u64,
    /// How many of them came again under a message id that was seen before.
    pub duplicates: u64,
    /// Why it failed, or what failed while it lived.
    pub failure: Option<String>,
}

/// A notification about a call that is not the bot's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stray {
    /// The call id.
    pub id: String,
    /// What it was about.
    pub kind: String,
}

/// What the bot remembers.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    calls: BTreeMap<String, Entry>,
    /// Ids of calls in the order in which they were taken.
    order: VecDeque<String>,
    pub(super) active: usize,
    taken: u64,
    pub(super) refused: u64,
    strays: u64,
    stray_calls: VecDeque<Stray>,
    strays_by_call: HashMap<String, u64>,
    duplicates: u64,
}

#[derive(Debug)]
struct Entry {
    call: BotCall,
    message_ids: VecDeque<String>,
    over: bool,
}

impl Ledger {
    pub(super) fn take(&mut self, call: BotCall) {
        while self.order.len() >= CALLS_MAX {
            // The oldest call that is over goes first; when all are alive the oldest one is forgotten.
            let over = self.order.iter().position(|id| self.calls.get(id).is_some_and(|entry| entry.over));
            let Some(id) = self.order.remove(over.unwrap_or(0)) else { break };
            if self.calls.remove(&id).is_some_and(|entry| !entry.over) {
                self.active = self.active.saturating_sub(1);
            }
        }
        self.active += 1;
        self.taken += 1;
        self.order.push_back(call.id.clone());
        self.calls.insert(call.id.clone(), Entry { call, message_ids: VecDeque::new(), over: false });
    }

    pub(super) fn note(&mut self, item: &Item, message_id: Option<&str>) {
        let Some(entry) = self.calls.get_mut(&item.call_id) else {
            self.strays += 1;
            if self.strays_by_call.len() < CALLS_MAX || self.strays_by_call.contains_key(&item.call_id) {
                *self.strays_by_call.entry(item.call_id.clone()).or_default() += 1;
            }
            if self.stray_calls.len() >= STRAYS_MAX {
                self.stray_calls.pop_front();
            }
            self.stray_calls.push_back(Stray { id: item.call_id.clone(), kind: item.kind.clone() });
            return;
        };
        entry.call.count += 1;
        if let Some(id) = message_id {
            if entry.message_ids.iter().any(|seen| seen == id) {
                entry.call.duplicates += 1;
                self.duplicates += 1;
            } else {
                if entry.message_ids.len() >= MESSAGE_IDS_MAX {
                    entry.message_ids.pop_front();
                }
                entry.message_ids.push_back(id.to_owned());
            }
        }
        if entry.call.notifications.len() < NOTIFICATIONS_MAX {
            entry.call.notifications.push(item.kind.clone());
        }
        if matches!(item.kind.as_str(), "establishing" | "established") && !entry.over {
            entry.call.state.clone_from(&item.kind);
        }
        if item.end && !entry.over {
            entry.over = true;
            entry.call.state = "ended".to_owned();
            self.active = self.active.saturating_sub(1);
        }
    }

    /// The call as it is shown, to be changed.
    pub(super) fn call_mut(&mut self, id: &str) -> Option<&mut BotCall> {
        self.calls.get_mut(id).map(|entry| &mut entry.call)
    }

    /// The gateway or Graph has the answer.
    pub(super) fn answered(&mut self, id: &str) {
        if let Some(call) = self.call_mut(id)
            && matches!(call.state.as_str(), "taken" | "answering")
        {
            call.state = "answered".to_owned();
        }
    }

    /// The bot does not want the call.
    pub(super) fn declined(&mut self, id: &str) {
        if let Some(entry) = self.calls.get_mut(id)
            && !entry.over
        {
            entry.over = true;
            entry.call.state = "declined".to_owned();
            self.active = self.active.saturating_sub(1);
        }
    }

    /// What `GET /calls` shows.
    pub(super) fn show(&self, name: &str, draining: bool) -> BotCalls {
        let skipped = self.order.len().saturating_sub(LISTED_MAX);
        BotCalls {
            name: name.to_owned(),
            draining,
            active: self.active,
            taken: self.taken,
            refused: self.refused,
            strays: self.strays,
            stray_calls: self.stray_calls.iter().cloned().collect(),
            calls: self
                .order
                .iter()
                .skip(skipped)
                .filter_map(|id| self.calls.get(id))
                .map(|entry| entry.call.clone())
                .collect(),
        }
    }

    /// What `GET /ledger` tells.
    pub(super) fn brief(&self) -> Brief {
        Brief {
            calls: self.calls.iter().map(|(id, entry)| (id.clone(), entry.call.count)).collect(),
            strays: self.strays_by_call.clone(),
            duplicates: self.duplicates,
        }
    }

    /// The gateway could not do what it was asked for, and surely did not.
    pub(super) fn action_failed(&mut self, id: &str, why: &str) {
        self.list(id, "action failed");
        self.fail(id, why.to_owned());
    }

    /// The gateway does not know whether it was done; the call's notifications will tell.
    pub(super) fn action_in_doubt(&mut self, id: &str, why: &str) {
        self.list(id, "action failed");
        if let Some(call) = self.call_mut(id) {
            call.failure = Some(why.to_owned());
        }
    }

    /// Among its notifications, but not counted: the platform did not send it.
    fn list(&mut self, id: &str, kind: &str) {
        if let Some(call) = self.call_mut(id)
            && call.notifications.len() < NOTIFICATIONS_MAX
        {
            call.notifications.push(kind.to_owned());
        }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.calls.contains_key(id)
    }

    pub(super) fn fail(&mut self, id: &str, why: String) {
        if let Some(entry) = self.calls.get_mut(id)
            && !entry.over
        {
            entry.over = true;
            entry.call.state = "failed".to_owned();
            entry.call.failure = Some(why);
            self.active = self.active.saturating_sub(1);
        }
    }
}

/// Bounds what a bot remembers, with those below: 1 KiB a call as a rule, enough for a load of some thousand calls.
const CALLS_MAX: usize = 20_000;
/// A page or a document of more would be of no use.
const LISTED_MAX: usize = 1_000;
const NOTIFICATIONS_MAX: usize = 16;
const MESSAGE_IDS_MAX: usize = 32;
const STRAYS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_living_calls_are_kept_longest() {
        let mut ledger = Ledger::default();
        let call = |id: usize| BotCall {
            id: id.to_string(),
            state: "taken".to_owned(),
            callback_uri: String::new(),
            tenant: None,
            recorded: false,
            notifications: Vec::new(),
            count: 0,
            duplicates: 0,
            failure: None,
        };
        for id in 0..CALLS_MAX {
            ledger.take(call(id));
        }
        ledger.fail("5", "for the test".to_owned());
        ledger.take(call(CALLS_MAX));
        assert_eq!((ledger.calls.len(), ledger.active), (CALLS_MAX, CALLS_MAX));
        assert!(!ledger.calls.contains_key("5") && ledger.calls.contains_key("0"));
        ledger.take(call(CALLS_MAX + 1));
        assert_eq!((ledger.calls.len(), ledger.active), (CALLS_MAX, CALLS_MAX));
        assert!(!ledger.calls.contains_key("0"));
    }
}
