//! The incarnation of an instance as its probes report it. All snapshots of a fleet share it.

mod history;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use switchboard_routing::Name;
use tokio::{sync::Notify, time::Instant};

pub(crate) use self::history::Standing;
use self::history::{History, Learned};
use crate::cause::{Blame, Cause};

/// The incarnations that the probes of one instance reported. They are known for as long as the instance
/// keeps its name and its address.
#[derive(Debug, Default)]
pub(crate) struct ProbedIncarnation {
    /// False without a probe: then nothing is learned.
    probed: bool,
    history: Mutex<History>,
    /// [`History::is_undecided`], read for each callback.
    undecided: AtomicBool,
    /// A probe is due at once.
    due: Notify,
    /// True once a warning about an incarnation that is not used was logged.
    warned: AtomicBool,
}

impl ProbedIncarnation {
    pub(crate) fn new(probed: bool) -> Self {
        Self { probed, ..Self::default() }
    }

    pub(crate) fn is_probed(&self) -> bool {
        self.probed
    }

    /// The incarnation in use.
    pub(crate) fn current(&self) -> Option<Name> {
        self.history().current().cloned()
    }

    /// Learns from a response to a probe that was sent at `sent`. `interval` is the time between two probes.
    pub(crate) fn reported(
        &self,
        instance: &Name,
        incarnation: Option<&Name>,
        sent: Instant,
        interval: Duration,
    ) {
        let now = Instant::now();
        let mut history = self.history();
        let learned = match incarnation {
            Some(incarnation) => {
                let window = ALTERNATION_MIN.max(interval.saturating_mul(3));
                history.reported(incarnation, sent, now, window)
            }
            None => {
                history.responded(sent);
                Learned::Nothing
            }
        };
        let undecided = history.is_undecided();
        self.undecided.store(undecided, Ordering::Relaxed);
        drop(history);
        if undecided && incarnation.is_some() {
            self.probe_soon();
        }
        let incarnation = incarnation.map_or("0", Name::as_str);
        match learned {
            Learned::Nothing => {}
            Learned::First => tracing::debug!(%instance, incarnation, "instance reports its incarnation"),
            Learned::Replaced(replaced) => {
                tracing::info!(%instance, from = %replaced, to = incarnation, "instance restarted");
            }
            Learned::Mixed => tracing::warn!(
                %instance,
                incarnation,
                "incarnations of an instance are not used: its URL is not one process, or the value changes \
                 while the process runs"
            ),
        }
    }

    /// The time of the last report that named an incarnation. A report without one keeps the last value, and
    /// may come from another process at the same address.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn named_at(&self) -> Option<Instant> {
        self.history().named_at()
    }

    /// Learns from a probe without a report. An instance that was reached and reports nothing has no
    /// incarnation, until it reports one. One that refuses connections has probably ended.
    pub(crate) fn missed(&self, cause: Cause) {
        let mut history = self.history();
        if cause == Cause::Refused {
            history.refused(Instant::now());
        } else if cause.blame() == Blame::Failing || cause.is_response() {
            history.reports_none();
        }
        self.undecided.store(history.is_undecided(), Ordering::Relaxed);
    }

    /// The instance refused a connection: its process has probably ended. A probe is due at once, and no
    /// callback is sent before its report.
    pub(crate) fn refused(&self) {
        let mut history = self.history();
        history.refused(Instant::now());
        self.undecided.store(history.is_undecided(), Ordering::Relaxed);
        drop(history);
        self.probe_soon();
    }

    /// The treatment of a callback for an incarnation. If it is unknown, a probe is due at once.
    pub(crate) fn standing(&self, incarnation: &str) -> Standing {
        if !self.probed {
            return Standing::Alive;
        }
        let standing = self.history().standing(incarnation, Instant::now());
        if standing == Standing::Unknown {
            self.probe_soon();
        }
        standing
    }

    /// The same for the incarnation that the fleet has. Usually this costs one atomic load.
    pub(crate) fn standing_in_fleet(&self, incarnation: &str) -> Standing {
        if self.undecided.load(Ordering::Relaxed) { self.standing(incarnation) } else { Standing::Alive }
    }

    /// Makes the next probe due at once.
    pub(crate) fn probe_soon(&self) {
        self.due.notify_one();
    }

    /// Waits until a probe is due at once.
    pub(crate) async fn probe_due(&self) {
        self.due.notified().await;
    }

    /// Returns true if this is the first warning about an incarnation that is not used.
    pub(crate) fn is_first_warning(&self) -> bool {
        !self.warned.swap(true, Ordering::Relaxed)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A panic while it was held leaves an old history at worst.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A replaced incarnation that is reported again within this time, or within three probes, belongs to another
/// process: a start time never returns.
const ALTERNATION_MIN: Duration = Duration::from_secs(60);
