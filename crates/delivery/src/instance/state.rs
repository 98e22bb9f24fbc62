//! The states of an instance.

use std::fmt;

/// The state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Not probed yet. It takes no new calls.
    Starting,
    /// It takes new calls.
    Ready,
    /// At its capacity.
    Full,
    /// Draining, as its probe, its source or the operator says.
    Draining,
    /// It failed calls. It takes none for a while, and then one at a time until it responds to one.
    Ejected,
    /// It missed its probes, refuses connections, or is not ready according to its source.
    Unreachable,
    /// No longer in the fleet.
    Gone,
}

impl InstanceState {
    /// All states, for metrics that have one line per state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Ready,
        Self::Full,
        Self::Draining,
        Self::Ejected,
        Self::Unreachable,
        Self::Gone,
    ];

    /// A stable name for `/fleet`, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Unreachable => "unreachable",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
