//! The conclusion of a call, before it is compared with the expected outcome.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use url::Url;

use crate::{
    call::CallOutcome,
    timeline::{CallEnd, milliseconds},
};

/// The conclusion of a call.
pub(super) struct Conclusion {
    pub(super) outcome: CallOutcome,
    pub(super) reason: String,
    /// The status that refused the call, if one did.
    pub(super) status: Option<StatusCode>,
    /// The time from placing the call to the bot's decision.
    pub(super) answered: Option<Duration>,
    pub(super) callback: Option<Url>,
}

impl Conclusion {
    pub(super) fn new(outcome: CallOutcome, reason: String) -> Self {
        Self { outcome, reason, status: None, answered: None, callback: None }
    }

    /// Returns the conclusion of a call for which OpenSSL has no randomness.
    pub(super) fn no_randomness() -> Self {
        Self::new(CallOutcome::Lost, "openssl has no randomness".to_owned())
    }

    /// Returns the last event of the timeline.
    pub(super) fn into_end(self, expected: CallOutcome, started: Instant) -> CallEnd {
        CallEnd {
            outcome: self.outcome.label().to_owned(),
            ok: self.outcome == expected,
            reason: self.reason,
            status: self.status.map(|status| status.as_u16()),
            answered_ms: self.answered.map(milliseconds),
            callback_uri: self.callback.map(String::from),
            took_ms: milliseconds(started.elapsed()),
        }
    }
}
