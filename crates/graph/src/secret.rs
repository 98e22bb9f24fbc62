//! `Secret`: a text that `Debug` does not show.

use std::fmt;

/// A text that `Debug` does not show.
#[derive(Clone)]
pub(crate) struct Secret(Box<str>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// Returns the text, for the request that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
