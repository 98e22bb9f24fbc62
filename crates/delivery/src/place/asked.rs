//! The instances that a new call was sent to.

use std::sync::atomic::{AtomicBool, Ordering};

use super::limits::ATTEMPTS_MAX;
use crate::instance::Tracker;

/// The instance of each attempt of a call, in the order of the attempts.
#[derive(Clone, Copy, Default)]
pub(super) struct AskedInstances<'a>([Option<Asked<'a>>; ATTEMPTS_MAX]);

#[derive(Clone, Copy)]
struct Asked<'a> {
    tracker: &'a Tracker,
    /// True if it has received the call.
    written: &'a AtomicBool,
    /// It responded that it was busy, and has not acted on the call.
    was_busy: bool,
}

impl<'a> AskedInstances<'a> {
    /// Notes the instance of the attempt at `index`.
    pub(super) fn add(&mut self, index: usize, tracker: &'a Tracker, written: &'a AtomicBool) {
        if let Some(asked) = self.0.get_mut(index) {
            *asked = Some(Asked { tracker, written, was_busy: false });
        }
    }

    /// Notes that the instance was busy.
    pub(super) fn was_busy(&mut self, tracker: &Tracker) {
        for asked in self.0.iter_mut().flatten().filter(|asked| std::ptr::eq(asked.tracker, tracker)) {
            asked.was_busy = true;
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<&'a Tracker> {
        self.0.iter().flatten().map(|asked| asked.tracker).collect()
    }

    /// The instances that may not be asked again: they have received the call and may act on it, or refused
    /// it.
    pub(super) fn decided(&self) -> Vec<&'a Tracker> {
        let asked = self.0.iter().flatten();
        let decided = asked.filter(|asked| asked.written.load(Ordering::Relaxed) && !asked.was_busy);
        decided.map(|asked| asked.tracker).collect()
    }
}
