//! The calls that the control API shows: the live ones, and the latest of the ended ones.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::call_record::CallRecord;

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

    /// Keeps a call, and forgets the oldest ones beyond the limits.
    pub(crate) fn keep(&self, record: &Arc<CallRecord>) {
        let mut calls = self.lock();
        calls.push_back(Arc::clone(record));
        let mut bytes: usize = calls.iter().map(|call| call.bytes()).sum();
        while calls.len() > CALLS_MAX || (bytes > BYTES_MAX && calls.len() > 1) {
            let Some(forgotten) = calls.pop_front() else { break };
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
