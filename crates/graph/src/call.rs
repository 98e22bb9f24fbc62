//! `GraphCall`: the state of a call, as Graph reports it.

use serde_json::Value;

use crate::text::printable;

/// The state of a call, as Graph reports it (Microsoft Graph REST reference, "call: get").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphCall {
    /// The state, if Graph reports it.
    pub state: Option<GraphCallState>,
    /// The result, if Graph reports it.
    pub result: Option<CallResult>,
}

impl GraphCall {
    /// Parses a call; `None` if `body` is not an object. A member of another type counts as absent. Numbers
    /// may be strings: Graph has sent them.
    pub(crate) fn parse(body: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(body).ok()?;
        let call = document.as_object()?;
        let result = call.get("resultInfo").and_then(CallResult::read);
        Some(Self { state: call.get("state").and_then(Value::as_str).map(GraphCallState::of), result })
    }
}

/// The result of a call. For example, `408` with `8537` means that no keep-alive arrived in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// Graph's `code`.
    pub code: Option<i64>,
    /// Graph's `subcode`.
    pub subcode: Option<i64>,
}

impl CallResult {
    /// Reads a `resultInfo`; `None` if it is not an object.
    pub(crate) fn read(info: &Value) -> Option<Self> {
        let number =
            |value: &Value| value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
        info.is_object().then(|| Self {
            code: info.get("code").and_then(number),
            subcode: info.get("subcode").and_then(number),
        })
    }
}

/// Graph's `callState`. Its words are compared without regard to ASCII case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphCallState {
    /// The call waits to be answered.
    Incoming,
    /// The call is being connected.
    Establishing,
    /// The call rings.
    Ringing,
    /// The call is connected.
    Established,
    /// The call is on hold.
    Hold,
    /// The call is being transferred.
    Transferring,
    /// A transfer was accepted.
    TransferAccepted,
    /// The call is being redirected.
    Redirecting,
    /// The call is ending.
    Terminating,
    /// The call has ended.
    Terminated,
    /// A state that this version does not know: printable, at most 32 characters.
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
