//! The settings of the log.

use tracing::Level;

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object per line, for collectors.
    Json,
    /// `time LEVEL target: message name=value …`, for people.
    Text,
}

/// The current settings. A reload replaces them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSettings {
    pub(super) format: Format,
    pub(super) level: Level,
    /// True if the text format may use colour.
    pub(super) colour: bool,
}
