//! `switchboard check --against`: the settings that a reload would change.

use std::{fmt, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::output::is_unsafe;
use crate::config::{Change, Config, Problems, changes, shown, shown_value};

/// The changes from another configuration to the one that is checked.
pub(super) struct Comparison {
    /// The other file, for a message.
    file: String,
    changes: Vec<Change>,
}

/// One change, for programs.
#[derive(Debug, Serialize)]
pub(super) struct ChangeRow<'c> {
    path: &'c str,
    old: &'c Value,
    new: &'c Value,
    needs_restart: bool,
}

impl Comparison {
    /// Compares `new` with the file `old`. Reads no secret and no file that `old` names: they may be gone,
    /// and only their sources are compared.
    ///
    /// # Errors
    ///
    /// The old configuration cannot be read, or is not valid.
    pub(super) fn load(old: &Path, new: &Config) -> Result<Self, Problems> {
        let old_config = Config::load_without_secrets(old)?;
        Ok(Self { file: shown(old), changes: changes(&old_config.effective, &new.effective) })
    }

    /// The changes for programs.
    pub(super) fn rows(&self) -> Vec<ChangeRow<'_>> {
        self.changes.iter().map(ChangeRow::of).collect()
    }
}

impl<'c> ChangeRow<'c> {
    fn of(change: &'c Change) -> Self {
        let Change { path, old, new, needs_restart } = change;
        Self { path, old, new, needs_restart: *needs_restart }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, changes } = self;
        let count = match changes.len() {
            0 => return write!(f, "against {file}: no setting changes"),
            1 => "1 setting changes".to_owned(),
            count => format!("{count} settings change"),
        };
        write!(f, "against {file}: {count}")?;
        let width = changes.iter().map(|change| change.path.chars().count()).max().unwrap_or_default();
        for Change { path, old, new, needs_restart } in changes {
            let [path, old, new] =
                [path.clone(), shown_value(old), shown_value(new)].map(|text| plain(&text));
            let mark = if *needs_restart { "  (needs a restart)" } else { "" };
            write!(f, "\n  {path:width$}  {old} -> {new}{mark}")?;
        }
        let fixed: Vec<_> =
            changes.iter().filter(|change| change.needs_restart).map(|change| change.path.as_str()).collect();
        if !fixed.is_empty() {
            write!(
                f,
                "\na reload would be refused as a whole: it cannot change {}; restart the gateway",
                fixed.join(", ")
            )?;
        }
        Ok(())
    }
}

/// The text without the characters that a terminal obeys.
fn plain(text: &str) -> String {
    text.chars().map(|char| if is_unsafe(char) { '?' } else { char }).collect()
}
