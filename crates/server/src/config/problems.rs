//! The problems of a configuration, each with its path.

use std::fmt;

/// All problems of a configuration, in the order of the file. Displayed one to a line.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, like `fleet.instance[2].url`. Empty if the problem concerns the whole file.
    pub path: String,
    /// The problem, and what would be right.
    pub message: String,
    /// The place in the file, in bytes.
    offset: usize,
}

impl Problems {
    /// A problem that belongs to no setting.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self(vec![Problem::new("", message)])
    }

    pub(super) fn in_order(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.offset);
        Self(problems)
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// The number of problems.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is no problem.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Problems {}

impl Problem {
    pub(super) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), offset: 0 }
    }

    pub(super) fn at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}
