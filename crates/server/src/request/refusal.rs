//! `Refusal`: a request that the gateway refuses, and the one place where errors become refusals.

use switchboard_auth::AuthError;
use switchboard_delivery::{ForwardError, PlaceError, ProxyError};
use switchboard_notification::InvalidNotification;
use switchboard_routing::SealError;

use crate::request::{outcome::Outcome, reason::Reason};

/// A refused request: the outcome decides the status, the reason is for logs and metrics.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) outcome: Outcome,
    /// A stable name for the exact problem.
    pub(crate) reason: &'static str,
    /// The problem in the body of an authenticated sender: the only text that a response carries.
    message: Option<String>,
    allow: Option<&'static str>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason) -> Self {
        Self::labelled(reason.outcome(), reason.label())
    }

    /// A refusal for a reason of another crate, which labels it.
    pub(crate) fn labelled(outcome: Outcome, reason: &'static str) -> Self {
        Self { outcome, reason, message: None, allow: None }
    }

    /// `allow`: the method that the path has.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new(Reason::Method) }
    }

    /// A new call that no instance took and that an instance may still answer: nothing else may be done with
    /// it.
    pub(crate) fn outcome_unknown() -> Self {
        Self::new(Reason::OutcomeUnknown)
    }

    /// The problem in words, for the log and the response.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The method that the path has, if the request has another.
    pub(crate) fn allow(&self) -> Option<&'static str> {
        self.allow
    }
}

impl From<&AuthError> for Refusal {
    fn from(error: &AuthError) -> Self {
        let outcome = match error {
            AuthError::KeysUnavailable { .. } => Outcome::KeysUnavailable,
            AuthError::KeyNotFetched { .. } => Outcome::KeyNotFetched,
            AuthError::Rejected(..) => Outcome::Unauthenticated,
            AuthError::Forbidden(..) => Outcome::Forbidden,
        };
        Self::labelled(outcome, error.label())
    }
}

impl From<SealError> for Refusal {
    fn from(error: SealError) -> Self {
        Self::labelled(Outcome::WrongSeal, error.label())
    }
}

/// The text of the error holds no text of the body.
impl From<InvalidNotification> for Refusal {
    fn from(error: InvalidNotification) -> Self {
        let refusal = Self::labelled(Outcome::NotANotification, error.code.label());
        Self { message: Some(error.to_string()), ..refusal }
    }
}

impl From<&PlaceError> for Refusal {
    fn from(error: &PlaceError) -> Self {
        match error {
            PlaceError::FleetUnknown => Self::labelled(Outcome::FleetUnknown, error.label()),
            PlaceError::NoInstance | PlaceError::Full | PlaceError::NoneReachable => {
                Self::labelled(Outcome::NotPlaced, error.label())
            }
            PlaceError::AllDeclined { last, .. } => Self::labelled(Outcome::Declined, last),
            PlaceError::AllFailed { last, .. } => Self::labelled(Outcome::NotPlaced, last),
        }
    }
}

impl From<&ForwardError> for Refusal {
    fn from(error: &ForwardError) -> Self {
        match error {
            ForwardError::NoInstance => Self::new(Reason::NoInstance),
            ForwardError::FleetUnknown => Self::new(Reason::FleetUnknown),
            ForwardError::Gone { .. } => Self::new(Reason::InstanceGone),
            ForwardError::IncarnationUnknown { .. } => Self::new(Reason::IncarnationUnknown),
            ForwardError::OverCapacity { .. } => Self::new(Reason::TooManyInFlightToInstance),
            ForwardError::Declined { last, .. } => Self::labelled(Outcome::Declined, last),
            ForwardError::Unreachable { last, .. } => Self::labelled(Outcome::Unreachable, last),
        }
    }
}

impl From<&ProxyError> for Refusal {
    fn from(error: &ProxyError) -> Self {
        match error {
            ProxyError::UnknownPeer => Self::new(Reason::AnotherRegion),
            ProxyError::Unreachable { last, .. } => Self::labelled(Outcome::Unreachable, last),
        }
    }
}

#[cfg(test)]
mod documented;
