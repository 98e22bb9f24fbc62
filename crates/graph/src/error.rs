//! `GraphError`: the errors of an action on a call.

use crate::{GraphRefusal, TokenError, TransportError};

/// An error of an action on a call. `Display` is one line for the operator. It tells a wrong credential, a
/// missing permission and a network failure apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// There is no token, so nothing was sent to Graph. The credential or the token endpoint is at fault.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Graph did not respond. The network is at fault.
    #[error("Graph {}; {}", .0, consequence(.0))]
    Transport(TransportError),
    /// Graph refused.
    #[error(transparent)]
    Refused(#[from] GraphRefusal),
    /// The deadline passed before anything was sent: the token endpoint is slow, the actions before this one
    /// took too long, or the deadline was too early.
    #[error("the deadline passed before the request could be sent; nothing was sent to Graph")]
    DeadlinePassed,
}

impl GraphError {
    /// Returns a stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Token(error) => error.label(),
            Self::Transport(error) => error.kind.label(),
            Self::Refused(refusal) => refusal.kind.label(),
            Self::DeadlinePassed => "deadline_passed",
        }
    }

    /// Returns true if Graph may have acted on the request. An answer is then not repeated.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Transport(error) => error.kind.is_outcome_unknown(),
            Self::Refused(refusal) => refusal.kind.is_outcome_unknown(),
            Self::Token(_) | Self::DeadlinePassed => false,
        }
    }
}

fn consequence(error: &TransportError) -> &'static str {
    if error.kind.is_outcome_unknown() { "the outcome is unknown" } else { "nothing was sent" }
}
