//! `ActionError`: what is wrong with an action, where, and what would be right.

use std::fmt;

use crate::text::printable;

/// What is wrong with an action. It holds no text of the action but names of members, which are escaped and cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionError {
    at: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    TooLarge { limit_bytes: usize },
    NotJson { line: usize, column: usize },
    Duplicate,
    Unknown { known: &'static [&'static str] },
    Missing { must: &'static str },
    Wrong { must: &'static str },
}

impl ActionError {
    pub(crate) fn too_large(limit_bytes: usize) -> Self {
        Self { at: String::new(), problem: Problem::TooLarge { limit_bytes } }
    }

    pub(super) fn not_json(line: usize, column: usize) -> Self {
        Self { at: String::new(), problem: Problem::NotJson { line, column } }
    }

    pub(super) fn duplicate(at: String) -> Self {
        Self { at, problem: Problem::Duplicate }
    }

    pub(super) fn unknown(at: String, known: &'static [&'static str]) -> Self {
        Self { at, problem: Problem::Unknown { known } }
    }

    pub(super) fn missing(at: String, must: &'static str) -> Self {
        Self { at, problem: Problem::Missing { must } }
    }

    pub(super) fn wrong(at: impl Into<String>, must: &'static str) -> Self {
        Self { at: at.into(), problem: Problem::Wrong { must } }
    }

    /// The same, seen from where `path` is a member.
    pub(super) fn inside(mut self, path: &str) -> Self {
        self.at = join(path, &self.at);
        self
    }

    /// Where, like `targets[3].identity`; empty for the whole.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self.problem {
            Problem::TooLarge { .. } => "action_too_large",
            Problem::NotJson { .. } => "action_not_json",
            Problem::Duplicate => "action_duplicate_member",
            Problem::Unknown { .. } => "action_unknown_member",
            Problem::Missing { .. } => "action_missing_member",
            Problem::Wrong { .. } => "action_wrong_value",
        }
    }
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            f.write_str("the action ")?;
        } else {
            write!(f, "{} ", self.at)?;
        }
        match &self.problem {
            Problem::TooLarge { limit_bytes } => write!(f, "has more than {limit_bytes} bytes"),
            Problem::NotJson { line, column } => {
                write!(f, "is not JSON that can be read: line {line}, column {column}")
            }
            Problem::Duplicate => f.write_str("is there twice"),
            Problem::Unknown { known } => write!(f, "is unknown; known here are {}", known.join(", ")),
            Problem::Missing { must } => write!(f, "is missing; it {must}"),
            Problem::Wrong { must } => f.write_str(must),
        }
    }
}

impl std::error::Error for ActionError {}

/// The path of a member that an action names itself.
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

/// Our longest is `isContentSharingNotificationEnabled`.
const NAME_CHARS_MAX: usize = 48;
