//! The problems of a configuration, each with its path and its position in the file.

use std::fmt;

use serde::Serialize;
use toml::de::DeTable;

/// All problems of a configuration, in the order of the file. Displayed one to a line.
#[derive(Clone, PartialEq, Eq)]
pub struct Problems {
    /// The file, for a message. `None` for a text that comes from no file.
    file: Option<String>,
    problems: Vec<Problem>,
}

/// One problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting, like `fleet.instance[2].url`. Empty if the problem concerns the whole file.
    pub path: String,
    /// The problem, and what would be right.
    pub message: String,
    /// The place of the setting, or of the table that lacks it. `None` if the file cannot be read.
    pub position: Option<Position>,
    /// The same place in bytes.
    offset: usize,
}

/// A place in a file. Both numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl Problems {
    /// A problem that belongs to no setting.
    pub(super) fn of_file(message: impl Into<String>) -> Self {
        Self { file: None, problems: vec![Problem::new("", message)] }
    }

    /// The problem of `text` at the byte `offset`. `path` is empty if no setting is known there.
    pub(super) fn of_text(text: &str, offset: usize, path: &str, message: String) -> Self {
        Self::in_order(vec![Problem::new(path, message).at(offset)]).placed_in(text)
    }

    pub(super) fn in_order(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.offset);
        Self { file: None, problems }
    }

    /// The same problems, with their positions in `text`.
    pub(super) fn placed_in(mut self, text: &str) -> Self {
        for problem in &mut self.problems {
            problem.position = Some(Position::of(text, problem.offset));
        }
        self
    }

    /// The first `count` problems, and the number of the others.
    pub(super) fn first(mut self, count: usize) -> Self {
        let others = self.problems.len().saturating_sub(count);
        if others > 1 {
            self.problems.truncate(count);
            let offset = self.problems.last().map_or(0, |last| last.offset);
            self.problems.push(Problem::new("", format!("and {others} more problems")).at(offset));
        }
        self
    }

    /// The same problems, of this file.
    pub(super) fn in_file(self, file: String) -> Self {
        Self { file: Some(file), ..self }
    }

    /// The same problems. If the file cannot be read, with the reason why it was chosen.
    pub(crate) fn of_choice(mut self, choice: &str) -> Self {
        if let [Problem { position: None, message, .. }] = self.problems.as_mut_slice() {
            message.push_str("; ");
            message.push_str(choice);
        }
        self
    }

    /// The file with the problems, for a message.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The problems, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// The number of problems.
    pub fn len(&self) -> usize {
        self.problems.len()
    }

    /// True if there is no problem.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            // The notation of compilers, which editors open.
            match (&self.file, problem.position) {
                (Some(file), Some(Position { line, column })) => write!(f, "{file}:{line}:{column}: ")?,
                (Some(file), None) => write!(f, "{file}: ")?,
                (None, _) => {}
            }
            write!(f, "{problem}")?;
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
        Self { path: path.into(), message: message.into(), position: None, offset: 0 }
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

impl Position {
    /// The position of the byte `offset` of `text`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Self {
            line: 1 + before.bytes().filter(|byte| *byte == b'\n').count(),
            // Editors do not count a byte order mark.
            column: 1 + line.trim_start_matches('\u{feff}').chars().count(),
        }
    }
}

/// Returns the place of a path like `fleet.instance[2].url` in a table, in bytes.
pub(super) fn place_of(table: &DeTable<'_>, path: &str) -> Option<usize> {
    // A name may have a dot of its own.
    if let Some((key, _)) = table.get_key_value(path) {
        return Some(key.span().start);
    }
    let mut table = Some(table);
    let mut place = None;
    for part in path.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else { break };
        let item = index.trim_end_matches(']').parse::<usize>().ok();
        let item = item.and_then(|index| value.get_ref().as_array()?.get(index));
        place = Some(item.map_or_else(|| key.span().start, |item| item.span().start));
        table = item.unwrap_or(value).get_ref().as_table();
    }
    place
}
