//! `RefusedSender`: the error of an authentication, and the token that caused it.

use std::{error::Error, fmt};

use crate::{AuthError, token_summary::TokenSummary};

/// A sender that is refused, and its token as far as it was read.
#[derive(Debug)]
pub struct RefusedSender {
    /// The reason.
    pub error: AuthError,
    /// The unproven content of the token, as a log may show it.
    pub token: TokenSummary,
}

impl RefusedSender {
    /// Returns the exact problem in words. It has numbers, ids, and names from this crate's own lists.
    pub fn problem(&self) -> String {
        self.error.source().map_or_else(|| self.error.to_string(), ToString::to_string)
    }
}

impl fmt::Display for RefusedSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for RefusedSender {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
