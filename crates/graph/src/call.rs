//! `GraphCall`: what Graph tells of one, as far as it says whether it lives.

use serde_json::Value;

use crate::text::printable;

/// A call, as Graph shows it (Microsoft Graph REST reference, "call: get").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphCall {
    /// Its state, where Graph says it.
    pub state: Option<GraphCallState>,
    /// How it ended, where Graph says it.
    pub result: Option<CallResult>,
}

impl GraphCall {
    /// `None` if `body` is no object. A member of another type is left out: Graph has shown numbers as strings.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let call = document.as_object()?;
        let number =
            |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        let result = call.get("resultInfo").filter(|info| info.is_object()).map(|info| CallResult {
            code: info.get("code").and_then(number),
            subcode: info.get("subcode").and_then(number),
        });
        Some(Self { state: call.get("state").and_then(Value::as_str).map(GraphCallState::of), result })
    }
}

/// How a call ended: `408`, `8537` is a keep-alive that did not come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// Graph's `code`.
    pub code: Option<i64>,
    /// Graph's `subcode`.
    pub subcode: Option<i64>,
}

/// Graph's `callState`, compared without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphCallState {
    /// Waits to be answered.
    Incoming,
    /// Is being connected.
    Establishing,
    /// Rings.
    Ringing,
    /// Is connected.
    Established,
    /// Is on hold.
    Hold,
    /// Is being transferred.
    Transferring,
    /// A transfer was accepted.
    TransferAccepted,
    /// Is being redirected.
    Redirecting,
    /// Is ending.
    Terminating,
    /// Has ended.
    Terminated,
    /// Something newer than this list; printable, at most 32 characters.
    Other(String),
}

impl GraphCallState {
    fn of(text: &str) -> Self {
        let known = [
            ("incoming", Self::Incoming),
            ("establishing", Self::Establishing),
            ("ringing", Self::Ringing),
            ("established", Self::Established),
            ("hold", Self::Hold),
            ("transferring", Self::Transferring),
            ("transferAccepted", Self::TransferAccepted),
            ("redirecting", Self::Redirecting),
            ("terminating", Self::Terminating),
            ("terminated", Self::Terminated),
        ];
        let found = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map_or_else(|| Self::Other(printable(text, STATE_CHARS_MAX)), |(_, state)| state)
    }
}

const STATE_CHARS_MAX: usize = 32;
