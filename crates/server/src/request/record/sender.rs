//! `RecordedSender`: the sender of a request as its log event shows it.

use std::sync::Arc;

use switchboard_auth::{AuthError, Caller, RefusedSender, Sender, TokenSummary};

/// The sender of a request.
#[derive(Debug, Default)]
pub(super) enum RecordedSender {
    /// No token was checked.
    #[default]
    Unknown,
    Accepted(Arc<Caller>),
    /// Not authenticated, or not allowed. Boxed: most senders are accepted.
    Refused(Box<RefusedSender>),
}

impl RecordedSender {
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_))
    }

    /// Returns the sender if its token proves it, also one that is not allowed.
    pub(super) fn proven(&self) -> Option<&Sender> {
        match self {
            Self::Unknown => None,
            Self::Accepted(caller) => Some(caller),
            Self::Refused(refused) => match &refused.error {
                AuthError::Forbidden(_, sender) => Some(sender),
                AuthError::KeysUnavailable { .. }
                | AuthError::KeyNotFetched { .. }
                | AuthError::Rejected(..) => None,
            },
        }
    }

    /// Returns the refusal of the sender.
    pub(super) fn refused(&self) -> Option<&RefusedSender> {
        match self {
            Self::Unknown | Self::Accepted(_) => None,
            Self::Refused(refused) => Some(refused),
        }
    }

    /// Returns the content of an unproven token. That of a proven one is in the sender.
    pub(super) fn unproven_token(&self) -> Option<&TokenSummary> {
        if self.proven().is_some() { None } else { self.refused().map(|refused| &refused.token) }
    }
}
