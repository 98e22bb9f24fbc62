//! The observations of this process for the operators' live view: calls, decisions, refusals, log lines.
//!
//! All of it is bounded and best effort. **No decision about a request may read it**: it may lack a call, or
//! have an old state of it. Routing has its own memory, in `delivery`.
//!
//! Reading order: `calls` (the memory of calls), `events` (decisions, refusals, reloads), `lines` (the log
//! lines of requests, while an operator reads them).

mod calls;
mod events;
mod lines;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

use self::events::Latest;
pub(crate) use self::{
    calls::{CallKind, CallMemory, CallSighting, FoundCalls, RememberedCall, TERMINATED},
    events::{Decision, LastReload, ObservedRefusal},
    lines::{LineReader, NewLines, RequestLine, RequestLines},
};
use crate::wall_clock::unix_ms;

/// The observations of this process. All threads share them, and they outlive a reload.
#[derive(Debug)]
pub struct Observed {
    started_ms: u64,
    /// Unix milliseconds; 0 before the first one.
    last_notification_ms: AtomicU64,
    calls: CallMemory,
    decisions: Latest<Decision>,
    refusals: Latest<ObservedRefusal>,
    last_reload: Mutex<Option<LastReload>>,
    lines: Arc<RequestLines>,
}

impl Observed {
    /// No observations. The process has started at `now`.
    pub fn new(now: SystemTime) -> Self {
        Self {
            started_ms: unix_ms(now),
            last_notification_ms: AtomicU64::new(0),
            calls: CallMemory::default(),
            decisions: Latest::new(DECISIONS_MAX),
            refusals: Latest::new(REFUSALS_MAX),
            last_reload: Mutex::default(),
            lines: Arc::default(),
        }
    }

    /// The start of the process, in Unix milliseconds.
    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// The time of the last notification of an authenticated sender, in Unix milliseconds.
    pub(crate) fn last_notification_ms(&self) -> Option<u64> {
        Some(self.last_notification_ms.load(Relaxed)).filter(|ms| *ms > 0)
    }

    /// The calls, as far as this gateway saw them.
    pub(crate) fn calls(&self) -> &CallMemory {
        &self.calls
    }

    /// The latest decisions on new calls, the newest first.
    pub(crate) fn decisions(&self) -> Vec<Decision> {
        self.decisions.newest_first()
    }

    /// The latest refusals of senders and requests, the newest first.
    pub(crate) fn refusals(&self) -> Vec<ObservedRefusal> {
        self.refusals.newest_first()
    }

    /// The last reload, if there was one.
    pub(crate) fn last_reload(&self) -> Option<LastReload> {
        self.last_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The log lines of requests, for the operators who read them.
    pub(crate) fn lines(&self) -> &Arc<RequestLines> {
        &self.lines
    }

    /// A request of an authenticated sender ended.
    pub(crate) fn note_notification(&self, now_ms: u64) {
        // Thousands of requests in the same millisecond write the shared cache line once.
        if self.last_notification_ms.load(Relaxed) != now_ms {
            self.last_notification_ms.store(now_ms, Relaxed);
        }
    }

    /// The gateway decided on a new call.
    pub(crate) fn note_decision(&self, decision: Decision) {
        self.decisions.push(decision);
    }

    /// The gateway refused a sender or a request.
    pub(crate) fn note_refusal(&self, refusal: ObservedRefusal) {
        self.refusals.push(refusal);
    }

    /// A reload applied, or was refused because of `problem`.
    pub(crate) fn note_reload(&self, problem: Option<&str>, now: SystemTime) {
        let reload = LastReload::new(problem, unix_ms(now));
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }
}

/// More than an operator reads at once.
const DECISIONS_MAX: usize = 50;
/// The same, with longer texts.
const REFUSALS_MAX: usize = 20;
