//! The error of everything in this crate, for the reader of a failed test.

/// An error of the browser, or of the page in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrowserError(pub(crate) String);
