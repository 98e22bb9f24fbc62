//! The start of a delivery: the answers that readiness waits for, and the age of the answers that it has.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The progress of a start. A reload hands it on.
#[derive(Debug)]
pub(crate) struct Startup {
    began: Instant,
    /// True once nothing was awaited. What happens to the fleet later makes no gateway unready.
    over: AtomicBool,
}

/// The times of the last answers about the fleet, all of one source.
#[derive(Debug)]
pub(crate) struct SourceTimes {
    /// The time of the source's last good answer, or of its first request.
    read_at: Mutex<Instant>,
    /// True while the source cannot be read.
    failing: AtomicBool,
    /// The time at which a stored fleet was loaded, and its age at that time.
    restored: Mutex<Option<(Instant, Duration)>>,
}

/// An answer that a gateway waits for before it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The first answer of the fleet's source. No stored fleet was loaded either.
    Source,
    /// The first probe of each known instance.
    Probes,
}

impl Startup {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), over: AtomicBool::new(false) })
    }

    /// The answer that is awaited, given that the fleet was read or restored, and whether each known instance
    /// was probed.
    pub(crate) fn awaited(&self, has_fleet: bool, is_probed: impl FnOnce() -> bool) -> Option<Awaited> {
        let now = Instant::now();
        if self.over.load(Relaxed) || now.saturating_duration_since(self.began) >= WAIT_MAX {
            return None;
        }
        if !has_fleet {
            return Some(Awaited::Source);
        }
        if !is_probed() {
            return Some(Awaited::Probes);
        }
        self.over.store(true, Relaxed);
        None
    }
}

impl SourceTimes {
    pub(crate) fn new() -> Self {
        Self {
            read_at: Mutex::new(Instant::now()),
            failing: AtomicBool::new(false),
            restored: Mutex::default(),
        }
    }

    /// The same times, for a delivery with the same source.
    pub(crate) fn copy(&self) -> Self {
        Self {
            read_at: Mutex::new(*lock(&self.read_at)),
            failing: AtomicBool::new(self.is_failing()),
            restored: Mutex::new(*lock(&self.restored)),
        }
    }

    /// Notes a good answer of the source.
    pub(crate) fn source_answered(&self) {
        *lock(&self.read_at) = Instant::now();
        self.failing.store(false, Relaxed);
    }

    /// Notes that the source could not be read.
    pub(crate) fn source_failed(&self) {
        self.failing.store(true, Relaxed);
    }

    /// Returns true if the source could not be read since its last good answer.
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// The time since the last good answer of the source.
    pub(crate) fn source_age(&self) -> Duration {
        let read_at = *lock(&self.read_at);
        Instant::now().saturating_duration_since(read_at)
    }

    /// Notes that a fleet of this age was restored.
    pub(crate) fn restored(&self, age: Duration) {
        *lock(&self.restored) = Some((Instant::now(), age));
    }

    /// The age of the stored fleet, if one was restored.
    pub(crate) fn restored_age(&self, now: Instant) -> Option<Duration> {
        let (loaded_at, age) = (*lock(&self.restored))?;
        Some(age + now.saturating_duration_since(loaded_at))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The longest wait of a start. A gateway that cannot learn its fleet still redirects calls and passes the
/// callbacks of other regions on.
const WAIT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
