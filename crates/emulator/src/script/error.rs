//! The error of reading a script: what is wrong, and where.

use std::fmt;

use crate::words::InvalidWord;

/// The text is not a script.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidScript {
    pub(super) line: Option<usize>,
    /// The number and the action of the step.
    pub(super) step: Option<(usize, String)>,
    pub(super) problem: ScriptProblem,
}

impl fmt::Display for InvalidScript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}")?;
        }
        if let Some((number, action)) = &self.step {
            let comma = if self.line.is_some() { ", " } else { "" };
            write!(f, "{comma}step {number} ({})", action.escape_debug())?;
        }
        let colon = if self.line.is_some() || self.step.is_some() { ": " } else { "" };
        write!(f, "{colon}{}", self.problem)
    }
}

impl std::error::Error for InvalidScript {}

/// A problem of a script or of one step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScriptProblem {
    #[error("longer than {} KiB", SCRIPT_BYTES_MAX / 1_024)]
    TooLong,
    #[error("{}", .0.replace("expected u32", "expected a whole number"))]
    Syntax(String),
    #[error("a script has 1 to {STEPS_MAX} steps, each a [[step]]")]
    StepCount,
    #[error("do {0}")]
    Action(InvalidWord),
    #[error("{member} is not for this step, which takes {}", list(.takes))]
    ExtraMember { member: &'static str, takes: &'static [&'static str] },
    #[error("{0} is needed")]
    MissingMember(&'static str),
    #[error("{member}: {why}")]
    Value { member: &'static str, why: String },
    #[error("ends the call, so it must be the last step")]
    NotLast,
}

fn list(takes: &[&str]) -> String {
    takes.iter().copied().chain(["after"]).collect::<Vec<_>>().join(", ")
}

pub(super) const SCRIPT_BYTES_MAX: usize = 64 * 1024;
pub(super) const STEPS_MAX: usize = 1_000;
