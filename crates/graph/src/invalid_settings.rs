//! `InvalidGraphSettings`: a setting that cannot work.

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidGraphSettings {
    /// The setting, like `graph.certificate`.
    pub path: String,
    /// The problem, and what would be right. It contains no part of a secret.
    pub problem: String,
}

impl InvalidGraphSettings {
    pub(crate) fn new(path: &str, problem: &str) -> Self {
        Self { path: path.to_owned(), problem: problem.to_owned() }
    }
}
