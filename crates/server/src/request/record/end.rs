//! `RequestEnd`: the end of a request, as its log event, the live view and its span note it.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use crate::request::outcome::Outcome;

/// The end of a request, for all that notes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestEnd<'r> {
    /// `None` if the client went away.
    pub(super) status: Option<u16>,
    pub(super) outcome: Outcome,
    pub(super) reason: Option<&'static str>,
    pub(super) duration: Duration,
    /// The wall-clock time.
    pub(super) time: SystemTime,
    /// The ids of the record as texts, which costs a check of UTF-8.
    pub(super) chain_id: Option<&'r str>,
    pub(super) message_id: Option<&'r str>,
}

/// A plain value as text.
pub(super) fn as_text(value: &Option<HeaderValue>) -> Option<&str> {
    // `HeaderValue::to_str` reads byte by byte.
    value.as_ref().and_then(|value| str::from_utf8(value.as_bytes()).ok())
}
