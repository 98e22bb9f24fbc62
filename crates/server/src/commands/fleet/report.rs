//! The result of `switchboard fleet`: a report, or an error.

use std::io;

use crate::commands::gateways::AskError;

/// The output of a command, and the problems that it met.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// For stdout; nothing if empty.
    pub(super) text: String,
    /// For stderr.
    pub(super) problems: Vec<String>,
    /// True if the command failed although it has a result.
    pub(super) is_failed: bool,
}

impl Report {
    /// The report of a command that succeeded.
    pub(super) fn of(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// An error of `switchboard fleet`, with what would be right.
#[derive(Debug, thiserror::Error)]
pub(super) enum FleetError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(
        "{instance} reports no call count, so the gateway cannot tell when it is empty; return \
         {{\"calls\":n}} from its probe, or drain it without --wait"
    )]
    NoCallCount { instance: String },
    #[error("{instance} no longer drains: it was resumed, or the gateway was restarted; drain it again")]
    Resumed { instance: String },
    #[error("{instance} left the fleet before it reported the end of its last call")]
    Left { instance: String },
    #[error("cannot wait for Ctrl-C")]
    Signal(#[source] io::Error),
    #[error("cannot write")]
    Write(#[source] io::Error),
}
