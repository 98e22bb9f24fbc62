//! The counts of the log.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The number of dropped lines and of panics. Clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct LogCounts {
    dropped: Arc<AtomicU64>,
    panics: Arc<AtomicU64>,
}

impl LogCounts {
    /// The lines that were not written, because stderr was too slow or refused them.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// The panics in any thread, contained or not.
    pub fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    pub(super) fn add_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Relaxed);
    }

    pub(super) fn add_panic(&self) {
        self.panics.fetch_add(1, Relaxed);
    }
}
