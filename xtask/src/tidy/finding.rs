//! A violation of a rule, with its file and line.

use std::fmt;

use super::tree::File;

/// One violation.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: String,
    /// From 1.
    pub(super) line: usize,
    /// Says what is wrong, and what would be right.
    pub(super) text: String,
}

impl Finding {
    pub(super) fn new(file: &File, line: usize, text: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}
