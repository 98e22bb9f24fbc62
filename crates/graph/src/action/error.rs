//! `InvalidAction`: a mistake in an action, with its place and with what would be right.

use crate::text::printable;

/// A mistake in an action. It contains no text of the action except names of members, which are escaped and
/// cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}", if at.is_empty() { "the action" } else { at })]
pub struct InvalidAction {
    at: String,
    problem: ActionProblem,
}

/// The mistake, without its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ActionProblem {
    #[error("has more than {limit_bytes} bytes")]
    TooLarge { limit_bytes: usize },
    #[error("is not JSON, or is nested too deeply: line {line}, column {column}")]
    InvalidJson { line: usize, column: usize },
    #[error("occurs twice")]
    Duplicate,
    #[error("is unknown; known here are {}", known.join(", "))]
    Unknown { known: &'static [&'static str] },
    #[error("is missing; it {must}")]
    Missing { must: &'static str },
    #[error("{must}")]
    InvalidValue { must: &'static str },
}

impl InvalidAction {
    pub(super) fn too_large(limit_bytes: usize) -> Self {
        Self { at: String::new(), problem: ActionProblem::TooLarge { limit_bytes } }
    }

    pub(super) fn invalid_json(line: usize, column: usize) -> Self {
        Self { at: String::new(), problem: ActionProblem::InvalidJson { line, column } }
    }

    pub(super) fn duplicate(at: String) -> Self {
        Self { at, problem: ActionProblem::Duplicate }
    }

    pub(super) fn unknown(at: String, known: &'static [&'static str]) -> Self {
        Self { at, problem: ActionProblem::Unknown { known } }
    }

    pub(super) fn missing(at: String, must: &'static str) -> Self {
        Self { at, problem: ActionProblem::Missing { must } }
    }

    /// `must` says what the value must be.
    pub(crate) fn value(at: impl Into<String>, must: &'static str) -> Self {
        Self { at: at.into(), problem: ActionProblem::InvalidValue { must } }
    }

    /// Returns the same error with `path` before its place.
    pub(super) fn inside(mut self, path: &str) -> Self {
        self.at = join(path, &self.at);
        self
    }

    /// Returns the place, like `targets[3].identity`. It is empty for the whole action.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Returns a stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self.problem {
            ActionProblem::TooLarge { .. } => "action_too_large",
            ActionProblem::InvalidJson { .. } => "action_not_json",
            ActionProblem::Duplicate => "action_duplicate_member",
            ActionProblem::Unknown { .. } => "action_unknown_member",
            ActionProblem::Missing { .. } => "action_missing_member",
            ActionProblem::InvalidValue { .. } => "action_wrong_value",
        }
    }
}

/// Returns the path of a member whose name comes from the action.
pub(super) fn member(path: &str, name: &str) -> String {
    join(path, &printable(name, NAME_CHARS_MAX))
}

fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// The longest known name is `isContentSharingNotificationEnabled`.
const NAME_CHARS_MAX: usize = 48;
