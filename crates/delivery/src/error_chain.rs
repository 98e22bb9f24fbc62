//! An error and its sources, for the log.

use std::error::Error;

/// An error and its sources in one line. auth and server have printers of their own, and delivery may use
/// neither crate.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Some errors repeat their source.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}
