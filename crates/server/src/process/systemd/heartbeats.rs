//! The heartbeats of the parts that the watchdog supervises.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::watch;

/// All supervised parts. A probe is a round: every part must respond to it before the next one.
///
/// A probe instead of a timer in each part: without a watchdog there are no probes, and no thread wakes.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    round: watch::Sender<u64>,
    parts: Mutex<Vec<Arc<Part>>>,
}

impl Default for Heartbeats {
    fn default() -> Self {
        Self { round: watch::Sender::new(0), parts: Mutex::default() }
    }
}

impl Heartbeats {
    /// Adds a part. It must respond to each probe from now on.
    pub(crate) fn register(self: &Arc<Self>, name: impl Into<String>) -> Heartbeat {
        let rounds = self.round.subscribe();
        let responded = AtomicU64::new(*rounds.borrow());
        let part = Arc::new(Part { name: name.into(), responded });
        self.lock().push(Arc::clone(&part));
        Heartbeat { part, of: Arc::clone(self), rounds }
    }

    /// Probes every part.
    pub(super) fn probe(&self) {
        self.round.send_modify(|round| *round = round.wrapping_add(1));
    }

    /// Returns the names of the parts that have not responded to the last probe.
    pub(super) fn silent(&self) -> Vec<String> {
        let round = *self.round.borrow();
        let parts = self.lock();
        let silent = parts.iter().filter(|part| part.responded.load(Relaxed) != round);
        silent.map(|part| part.name.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Part>>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Part {
    name: String,
    /// The last probe that it has responded to.
    responded: AtomicU64,
}

/// The responses of one part.
///
/// A part that is dropped stays in the list and is silent: a thread that panics drops it.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    part: Arc<Part>,
    of: Arc<Heartbeats>,
    rounds: watch::Receiver<u64>,
}

impl Heartbeat {
    /// Waits for the next probe and responds to it. The loop of the part calls this again and again; it may
    /// be cancelled.
    pub(crate) async fn respond(&mut self) {
        if self.rounds.changed().await.is_err() {
            // Cannot happen: `of` has the sender.
            std::future::pending::<()>().await;
        }
        let round = *self.rounds.borrow_and_update();
        self.part.responded.store(round, Relaxed);
    }

    /// Removes the part, which has done its work.
    pub(crate) fn end(self) {
        self.of.lock().retain(|part| !Arc::ptr_eq(part, &self.part));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_silent_from_a_probe_until_its_response() {
        let all = Arc::new(Heartbeats::default());
        all.probe();
        let mut first = all.register("first");
        let mut second = all.register("second");
        assert!(all.silent().is_empty(), "registered after the probe");
        all.probe();
        first.respond().await;
        assert_eq!(all.silent(), ["second"]);
        second.respond().await;
        assert!(all.silent().is_empty());
    }

    #[tokio::test]
    async fn a_part_that_ends_is_not_silent_and_a_dropped_one_is() {
        let all = Arc::new(Heartbeats::default());
        let (ends, dropped) = (all.register("ends"), all.register("dropped"));
        ends.end();
        drop(dropped);
        all.probe();
        assert_eq!(all.silent(), ["dropped"]);
    }
}
