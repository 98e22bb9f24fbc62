//! The calls that the control API shows: the live ones, and the latest of the ended ones.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::call_record::{CallRecord, CallStage};

/// The kept calls of a platform. The oldest ones are forgotten first.
#[derive(Debug)]
pub(crate) struct History {
    /// Oldest first.
    calls: Mutex<VecDeque<Arc<CallRecord>>>,
    changes: broadcast::Sender<Uuid>,
}

impl Default for History {
    fn default() -> Self {
        Self { calls: Mutex::default(), changes: broadcast::Sender::new(CHANGES_MAX) }
    }
}

impl History {
    /// Returns the sender that receives the id of each call that changes or is forgotten.
    pub(crate) fn changes(&self) -> &broadcast::Sender<Uuid> {
        &self.changes
    }

    /// Keeps a call, and forgets others beyond the limits: the oldest one that has ended, or else the oldest.
    pub(crate) fn keep(&self, record: &Arc<CallRecord>) {
        let mut calls = self.lock();
        calls.push_back(Arc::clone(record));
        let mut bytes: usize = calls.iter().map(|call| call.bytes()).sum();
        while calls.len() > CALLS_MAX || (bytes > BYTES_MAX && calls.len() > 1) {
            let ended = calls.iter().position(|call| call.state().stage() == CallStage::Terminated);
            let Some(forgotten) = calls.remove(ended.unwrap_or(0)) else { break };
            bytes -= forgotten.bytes().min(bytes);
            forgotten.announce();
        }
        drop(calls);
        record.announce();
    }

    /// Returns a call.
    pub(crate) fn get(&self, id: Uuid) -> Option<Arc<CallRecord>> {
        self.lock().iter().find(|call| call.facts.id == id).cloned()
    }

    /// Returns all calls, the newest first.
    pub(crate) fn newest_first(&self) -> Vec<Arc<CallRecord>> {
        self.lock().iter().rev().cloned().collect()
    }

    /// Forgets a call and returns it.
    pub(crate) fn forget(&self, id: Uuid) -> Option<Arc<CallRecord>> {
        let mut calls = self.lock();
        let position = calls.iter().position(|call| call.facts.id == id)?;
        let forgotten = calls.remove(position)?;
        forgotten.announce();
        Some(forgotten)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<CallRecord>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const CALLS_MAX: usize = 200;
/// Calls of a load are not kept, so this holds some hundred large ones.
const BYTES_MAX: usize = 64 << 20;
/// A reader that falls further behind reads all summaries again.
const CHANGES_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call_record::tests::facts;

    #[test]
    fn a_live_call_outlasts_the_ended_ones() {
        let history = History::default();
        let keep = |number: usize, stage: CallStage| {
            let id = Uuid::from_u128(number.try_into().unwrap());
            let record = CallRecord::new(facts(id), history.changes().clone(), true);
            record.enter(stage);
            history.keep(&Arc::new(record));
            id
        };
        let live = keep(0, CallStage::Established);
        let ended = keep(1, CallStage::Terminated);
        for number in 2..=CALLS_MAX {
            keep(number, CallStage::Terminated);
        }
        assert!(history.get(live).is_some() && history.get(ended).is_none());
        for number in CALLS_MAX + 1..=3 * CALLS_MAX {
            keep(number, CallStage::Established);
        }
        assert_eq!((history.newest_first().len(), history.get(live).is_some()), (CALLS_MAX, false));
    }
}
