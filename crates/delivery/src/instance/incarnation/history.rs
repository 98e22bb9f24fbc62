//! The incarnations that the probes of one instance reported, as a pure function of reports and time.

use std::{collections::VecDeque, time::Duration};

use switchboard_routing::Name;
use tokio::time::Instant;

/// The incarnations of one instance, by the reports of its probes.
///
/// A callback for an incarnation is refused for good once a report named another one, and a probe that was
/// sent later confirmed that: a single report may come from the other of two processes behind one URL.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The incarnation last reported.
    current: Option<Name>,
    /// The incarnations that are not current, the newest last.
    others: VecDeque<Other>,
    /// True once the instance was reached by a probe. If it then reports no incarnation, it has none.
    responded: bool,
    /// Reports in a row that each named another incarnation than the one before.
    changes: u32,
    /// Set while the reports come from more than one process.
    mixed: Option<Mixed>,
    /// The last time at which the instance refused a connection, until its next report.
    refused_at: Option<Instant>,
    /// The time of the last report that named an incarnation.
    named_at: Option<Instant>,
}

/// An incarnation that is not current.
#[derive(Debug)]
struct Other {
    incarnation: Name,
    /// The time at which it was replaced, or at which a callback first named it.
    since: Instant,
    /// True if it was current before.
    replaced: bool,
    /// True once a probe that was sent after `since` reported another one.
    gone: bool,
}

/// Reports that come from more than one process.
#[derive(Debug)]
struct Mixed {
    last: Name,
    /// The time since which each report names `last`.
    since: Instant,
}

/// The conclusion from one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// It is the current incarnation, or the reports are of no use.
    Nothing,
    /// It is the first one known.
    First,
    /// Another process has taken the place of this incarnation.
    Replaced(Name),
    /// The reports come from more than one process, so none of their incarnations is used from now on.
    Mixed,
}

/// The treatment of a callback for an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing shows that it has ended.
    Alive,
    /// It was replaced.
    Gone,
    /// The next report decides.
    Unknown,
}

impl History {
    /// The time of the last report that named an incarnation.
    #[cfg(feature = "kubernetes")]
    pub(super) fn named_at(&self) -> Option<Instant> {
        self.named_at
    }

    /// Learns from a report, of a probe that was sent at `sent`. A replaced incarnation that is reported
    /// again within `window` belongs to another process.
    pub(super) fn reported(
        &mut self,
        incarnation: &Name,
        sent: Instant,
        now: Instant,
        window: Duration,
    ) -> Learned {
        self.responded(sent);
        self.named_at = Some(now);
        if let Some(mixed) = &mut self.mixed {
            if mixed.last != *incarnation {
                *mixed = Mixed { last: incarnation.clone(), since: now };
                return Learned::Nothing;
            }
            if now.saturating_duration_since(mixed.since) < MIXED_MIN {
                return Learned::Nothing;
            }
            self.mixed = None;
        }
        match self.current.replace(incarnation.clone()) {
            Some(current) if current == *incarnation => {
                self.changes = 0;
                for other in self.others.iter_mut().filter(|other| other.since <= sent) {
                    other.gone = true;
                }
                Learned::Nothing
            }
            None => {
                self.forget(incarnation);
                Learned::First
            }
            Some(replaced) => {
                self.changes = self.changes.saturating_add(1);
                let recently =
                    |other: &Other| other.replaced && now.saturating_duration_since(other.since) < window;
                let returned =
                    self.others.iter().any(|other| other.incarnation == *incarnation && recently(other));
                if returned || self.changes >= CHANGES_MAX {
                    let mixed = Mixed { last: incarnation.clone(), since: now };
                    *self = Self { mixed: Some(mixed), responded: true, ..Self::default() };
                    return Learned::Mixed;
                }
                self.forget(incarnation);
                self.forget(&replaced);
                self.note(Other { incarnation: replaced.clone(), since: now, replaced: true, gone: false });
                Learned::Replaced(replaced)
            }
        }
    }

    /// The instance was probed, and reports no incarnation.
    pub(super) fn reports_none(&mut self) {
        self.responded = true;
    }

    /// The instance reported, with or without an incarnation. The probe was sent at `sent`.
    pub(super) fn responded(&mut self, sent: Instant) {
        self.responded = true;
        self.refused_at = self.refused_at.filter(|at| *at > sent);
    }

    /// The instance refused a connection. If an incarnation is known, its process has probably ended.
    pub(super) fn refused(&mut self, now: Instant) {
        if self.current.is_some() {
            self.refused_at = Some(now);
        }
    }

    /// The treatment of a callback for an incarnation.
    pub(super) fn standing(&mut self, incarnation: &str, now: Instant) -> Standing {
        // Minted before any report, or while the reports were of no use.
        if incarnation == "0" || self.mixed.is_some() {
            return Standing::Alive;
        }
        match &self.current {
            None if self.responded => return Standing::Alive,
            Some(current) if current.as_str() == incarnation => {
                return if self.refused_at.is_some() { Standing::Unknown } else { Standing::Alive };
            }
            None | Some(_) => {}
        }
        if let Some(other) = self.others.iter().find(|other| other.incarnation.as_str() == incarnation) {
            return if other.gone { Standing::Gone } else { Standing::Unknown };
        }
        if let Ok(incarnation) = Name::parse(incarnation) {
            self.note(Other { incarnation, since: now, replaced: false, gone: false });
        }
        Standing::Unknown
    }

    /// The incarnation in use.
    pub(super) fn current(&self) -> Option<&Name> {
        self.current.as_ref()
    }

    /// Returns true if the next report decides about an incarnation.
    pub(super) fn is_undecided(&self) -> bool {
        self.refused_at.is_some() || self.others.iter().any(|other| !other.gone)
    }

    fn note(&mut self, other: Other) {
        if self.others.len() >= OTHERS_MAX {
            self.others.pop_front();
        }
        self.others.push_back(other);
    }

    fn forget(&mut self, incarnation: &Name) {
        self.others.retain(|other| other.incarnation != *incarnation);
    }
}

/// The incarnations of one name that are remembered besides the current one. A callback for an older one is
/// refused again after one more probe.
const OTHERS_MAX: usize = 16;
/// Reports in a row with a new incarnation each, after which none is used: the value is no start time, or
/// many processes share the URL.
const CHANGES_MAX: u32 = 3;
/// The time for which one incarnation alone is reported before it is used again.
const MIXED_MIN: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;
