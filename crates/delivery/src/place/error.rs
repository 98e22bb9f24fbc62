//! `PlaceError`: a new call that no instance took.

/// A new call was not placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The fleet's source was not read yet.
    #[error("the fleet is not known yet")]
    FleetUnknown,
    /// No instance of the fleet serves the app.
    #[error("no instance serves the app")]
    NoInstance,
    /// Every instance that serves the app and can be reached reports full or draining, and at least one does.
    #[error("every instance that can be reached is full or draining")]
    Full,
    /// No instance that serves the app could be asked, also after a wait: each is starting or unreachable.
    #[error("no instance can be reached")]
    NoneReachable,
    /// Every instance that was asked declined the call with 401, 403 or 429, and not all of them with 403.
    #[error("all {attempts} attempts were declined, the last one with {last}")]
    AllDeclined {
        /// The number of attempts.
        attempts: u32,
        /// The label of the last response, like `status_401`.
        last: &'static str,
    },
    /// Every instance that was asked failed, or the budget ran out.
    #[error("all {attempts} attempts failed, the last one with {last}")]
    AllFailed {
        /// The number of attempts.
        attempts: u32,
        /// The attempts after which the instance may have acted on the call.
        outcome_unknown: u32,
        /// The label of the last failure.
        last: &'static str,
    },
}

impl PlaceError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::FleetUnknown => "fleet_unknown",
            Self::NoInstance => "no_instance",
            Self::Full => "full",
            Self::NoneReachable => "none_reachable",
            Self::AllDeclined { .. } => "all_declined",
            Self::AllFailed { .. } => "all_failed",
        }
    }
}
