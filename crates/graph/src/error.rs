//! `GraphError`: why nothing was done, or nobody knows whether something was.

use crate::{GraphRefusal, TokenError, TransportError};

/// Why an action on a call failed. `Display` is one line for the operator: a wrong credential, a missing permission and
/// a dead network each say so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// No token could be had, so nothing was asked of Graph: our credential, or the token endpoint.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// No answer of Graph: the network.
    #[error("Graph {}; {}", .0, consequence(.0))]
    Transport(TransportError),
    /// Graph said no.
    #[error(transparent)]
    Refused(#[from] GraphRefusal),
    /// The deadline passed before anything was sent: the token endpoint is slow, or it was too late from the start.
    #[error("the deadline passed while waiting for a token, nothing was sent to Graph")]
    DeadlinePassed,
}

impl GraphError {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Token(error) => error.label(),
            Self::Transport(error) => error.failure.label(),
            Self::Refused(refusal) => refusal.kind.label(),
            Self::DeadlinePassed => "deadline_passed",
        }
    }

    /// Whether Graph may have acted all the same. Then an answer is not repeated.
    pub fn is_outcome_unknown(&self) -> bool {
        match self {
            Self::Transport(error) => error.failure.is_outcome_unknown(),
            Self::Refused(refusal) => refusal.kind.is_outcome_unknown(),
            Self::Token(_) | Self::DeadlinePassed => false,
        }
    }
}

fn consequence(error: &TransportError) -> &'static str {
    if error.failure.is_outcome_unknown() { "the outcome is unknown" } else { "nothing was sent" }
}
