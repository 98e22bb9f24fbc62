//! `GraphOperation`: an operation, as Graph's response to its request shows it.

use serde_json::Value;

use crate::{CallResult, text::printable};

/// An operation that Graph has accepted (Microsoft Graph REST reference, "commsOperation"). All of it is
/// optional: with any success, Graph has accepted the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphOperation {
    /// Its id, at most 128 characters.
    pub id: Option<String>,
    /// Its state. `Running` means that a notification follows; `Failed`, that Graph accepted the request and
    /// the operation failed at once.
    pub status: OperationStatus,
    /// The text of the request, at most 256 characters.
    pub client_context: Option<String>,
    /// The result, if there is one already.
    pub result: Option<CallResult>,
    /// Graph's message about the result, at most 300 characters. It may name people, so do not log it.
    pub message: Option<String>,
}

impl GraphOperation {
    /// Reads the body of a success. A member of another type counts as absent.
    pub(crate) fn read(body: Option<&[u8]>) -> Self {
        let document: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        let text = |value: Option<&Value>, chars_max| {
            value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(|it| printable(it, chars_max))
        };
        let info = document.get("resultInfo");
        Self {
            id: text(document.get("id"), ID_CHARS_MAX),
            status: OperationStatus::of(document.get("status").and_then(Value::as_str)),
            client_context: text(document.get("clientContext"), CONTEXT_CHARS_MAX),
            result: info.and_then(CallResult::read),
            message: text(info.and_then(|info| info.get("message")), MESSAGE_CHARS_MAX),
        }
    }
}

/// Graph's `operationStatus`. Its words are compared without regard to ASCII case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationStatus {
    /// It has not started.
    NotStarted,
    /// It is going on.
    Running,
    /// It has ended.
    Completed,
    /// It has failed.
    Failed,
    /// Graph did not say, or said a word that this version does not know: wait for the notification.
    Unknown,
}

impl OperationStatus {
    fn of(text: Option<&str>) -> Self {
        let known = [
            ("notStarted", Self::NotStarted),
            ("running", Self::Running),
            ("completed", Self::Completed),
            ("failed", Self::Failed),
        ];
        let found = known.into_iter().find(|(name, _)| text.is_some_and(|it| name.eq_ignore_ascii_case(it)));
        found.map_or(Self::Unknown, |(_, status)| status)
    }
}

/// Real ids are GUIDs.
const ID_CHARS_MAX: usize = 128;
const CONTEXT_CHARS_MAX: usize = 256;
const MESSAGE_CHARS_MAX: usize = 300;
