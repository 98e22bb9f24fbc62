//! `Attempts`: the attempts to deliver a request, as its log event counts them.

use switchboard_delivery::{ForwardError, PlaceError, ProxyError, UpstreamResponse};

/// The attempts to deliver a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    pub(super) made: u32,
    /// The attempts of a new call that ended after the request had been written: the instance may have acted.
    pub(super) outcome_unknown: u32,
}

impl Attempts {
    pub(crate) fn of_response(response: &UpstreamResponse) -> Self {
        Self { made: response.attempts, outcome_unknown: response.outcome_unknown }
    }

    pub(crate) fn of_place_error(error: &PlaceError) -> Self {
        match error {
            PlaceError::FleetUnknown
            | PlaceError::NoInstance
            | PlaceError::Full
            | PlaceError::NoneReachable => Self::default(),
            PlaceError::AllDeclined { attempts, .. } => Self { made: *attempts, outcome_unknown: 0 },
            PlaceError::AllFailed { attempts, outcome_unknown, .. } => {
                Self { made: *attempts, outcome_unknown: *outcome_unknown }
            }
        }
    }

    pub(crate) fn of_forward_error(error: &ForwardError) -> Self {
        match error {
            ForwardError::Declined { attempts, .. } | ForwardError::Unreachable { attempts, .. } => {
                Self { made: *attempts, outcome_unknown: 0 }
            }
            ForwardError::FleetUnknown
            | ForwardError::Gone { .. }
            | ForwardError::IncarnationUnknown { .. }
            | ForwardError::NoInstance
            | ForwardError::OverCapacity { .. } => Self::default(),
        }
    }

    pub(super) fn of_proxy_error(error: &ProxyError) -> Self {
        match error {
            ProxyError::Unreachable { attempts, .. } => Self { made: *attempts, outcome_unknown: 0 },
            ProxyError::UnknownPeer => Self::default(),
        }
    }
}
