//! The calls that a bot remembers, within bounds, and the documents that show them.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::item::NotificationItem;
use crate::load::LedgerSummary;

/// The calls of a bot: `GET /calls`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCalls {
    /// The bot's name.
    pub name: String,
    /// True if the bot takes no new calls.
    pub draining: bool,
    /// Calls that have not ended.
    pub active: usize,
    /// New calls taken since the start.
    pub taken: u64,
    /// New calls refused because the bot was full.
    pub refused: u64,
    /// Notifications about calls that this bot did not take.
    pub strays: u64,
    /// The latest 100 of these notifications.
    pub stray_calls: Vec<Stray>,
    /// The latest 1,000 calls, oldest first.
    pub calls: Vec<BotCall>,
}

/// One call of a bot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotCall {
    /// The call id.
    pub id: String,
    /// `taken`, `answered`, `establishing`, `established`, `ended`, `declined` or `failed`.
    pub state: String,
    /// The callback URI that the bot hands to Graph.
    pub callback_uri: String,
    /// The tenant, as the gateway's header or the body names it.
    pub tenant: Option<String>,
    /// True if a recording policy invited the bot.
    pub recorded: bool,
    /// The kinds of the first 16 notifications, in order.
    pub notifications: Vec<String>,
    /// The number of notifications, listed or not.
    pub count: u64,
    /// The number of notifications that repeated an earlier message id.
    pub duplicates: u64,
    /// The reason why the call failed, or a failure during the call.
    pub failure: Option<String>,
    /// The first 64 requests of a bot on the calling SDK that have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<BotOperation>,
}

/// A request of a bot on the calling SDK.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BotOperation {
    /// The name, like `playPrompt`.
    pub name: String,
    /// `accepted`, `completed` or `failed`.
    pub outcome: String,
    /// The reason of a failure.
    pub message: Option<String>,
}

/// A notification about a call that the bot did not take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stray {
    /// The call id.
    pub id: String,
    /// The kind of the notification.
    pub kind: String,
}

/// The calls that the bot remembers.
#[derive(Debug, Default)]
pub(super) struct CallLedger {
    calls: BTreeMap<String, LedgerEntry>,
    /// The call ids in the order in which the bot took the calls.
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
struct LedgerEntry {
    call: BotCall,
    message_ids: VecDeque<String>,
    over: bool,
}

impl CallLedger {
    /// Adds a new call.
    pub(super) fn take(&mut self, call: BotCall) {
        while self.order.len() >= CALLS_MAX {
            // Evict the oldest call that has ended. If no call has ended, evict the oldest one.
            let over = self.order.iter().position(|id| self.calls.get(id).is_some_and(|entry| entry.over));
            let Some(id) = self.order.remove(over.unwrap_or(0)) else { break };
            if self.calls.remove(&id).is_some_and(|entry| !entry.over) {
                self.active = self.active.saturating_sub(1);
            }
        }
        self.active += 1;
        self.taken += 1;
        self.order.push_back(call.id.clone());
        self.calls.insert(call.id.clone(), LedgerEntry { call, message_ids: VecDeque::new(), over: false });
    }

    /// Notes an item under its call, or as a stray.
    pub(super) fn note(&mut self, item: &NotificationItem, message_id: Option<&str>) {
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

    /// The call as it is shown.
    pub(super) fn call_mut(&mut self, id: &str) -> Option<&mut BotCall> {
        self.calls.get_mut(id).map(|entry| &mut entry.call)
    }

    /// Notes that Graph accepted the answer.
    pub(super) fn answered(&mut self, id: &str) {
        if let Some(call) = self.call_mut(id)
            && call.state == "taken"
        {
            call.state = "answered".to_owned();
        }
    }

    /// Notes that the bot rejected or redirected the call.
    pub(super) fn declined(&mut self, id: &str) {
        if let Some(entry) = self.calls.get_mut(id)
            && !entry.over
        {
            entry.over = true;
            entry.call.state = "declined".to_owned();
            self.active = self.active.saturating_sub(1);
        }
    }

    /// The document of `GET /calls`.
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

    /// The document of `GET /ledger`.
    pub(super) fn summary(&self) -> LedgerSummary {
        LedgerSummary {
            calls: self.calls.iter().map(|(id, entry)| (id.clone(), entry.call.count)).collect(),
            strays: self.strays_by_call.clone(),
            duplicates: self.duplicates,
        }
    }

    /// Notes that the gateway did not do the requested action. The call has failed.
    pub(super) fn action_failed(&mut self, id: &str, why: &str) {
        self.list(id, "action failed");
        self.fail(id, why.to_owned());
    }

    /// Notes that the outcome of the requested action is unknown. Later notifications of the call show it.
    pub(super) fn action_in_doubt(&mut self, id: &str, why: &str) {
        self.list(id, "action failed");
        if let Some(call) = self.call_mut(id) {
            call.failure = Some(why.to_owned());
        }
    }

    /// Lists a kind among the notifications without counting it: the platform did not send it.
    fn list(&mut self, id: &str, kind: &str) {
        if let Some(call) = self.call_mut(id)
            && call.notifications.len() < NOTIFICATIONS_MAX
        {
            call.notifications.push(kind.to_owned());
        }
    }

    /// Notes a request that has ended.
    pub(super) fn note_operation(&mut self, id: &str, operation: BotOperation) {
        if let Some(call) = self.call_mut(id)
            && call.operations.len() < OPERATIONS_MAX
        {
            call.operations.push(operation);
        }
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.calls.contains_key(id)
    }

    /// Notes that the call has failed.
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

/// Bounds the memory of a bot, with the limits below: usually 1 KiB a call. Enough for a load of some
/// thousand calls.
const CALLS_MAX: usize = 20_000;
/// A longer document would be of no use.
const LISTED_MAX: usize = 1_000;
const NOTIFICATIONS_MAX: usize = 16;
const MESSAGE_IDS_MAX: usize = 32;
const OPERATIONS_MAX: usize = 64;
const STRAYS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_live_calls_are_kept_longest() {
        let mut ledger = CallLedger::default();
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
            operations: Vec::new(),
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
