//! `GraphRefusal`: a response of Graph that is not a success, in any of its shapes.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{GraphResponse, retry::retry_after, secret::Secret, text::printable};

/// A response of Graph that is not a success. `Display` is one line that says what to do. It leaves out
/// Graph's own message, which may contain names of people and phone numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphRefusal {
    /// The meaning.
    pub kind: GraphRefusalKind,
    /// The HTTP status.
    pub status: u16,
    code: Option<String>,
    request_id: Option<String>,
    message: Option<String>,
}

impl GraphRefusal {
    /// Reads both shapes of the calls service, and one inside the other. With any other body (HTML, empty,
    /// too large) the status decides. `token` is the request's token; a text that repeats it is dropped.
    pub(crate) fn read(response: &GraphResponse, token: &Secret, now: SystemTime) -> Self {
        let document = response.whole_body(BODY_BYTES_MAX).and_then(|body| serde_json::from_slice(body).ok());
        let error = document.as_ref().map(ErrorDocument::read).unwrap_or_default();
        let request_id = response.header(REQUEST_ID).map(str::to_owned).or(error.request_id);
        let bounded = |text: Option<String>, chars_max| {
            text.filter(|text| !text.is_empty() && !text.contains(token.expose()))
                .map(|text| printable(&text, chars_max))
        };
        let code = bounded(error.code, CODE_CHARS_MAX);
        Self {
            kind: GraphRefusalKind::of(response.status, code.as_deref(), retry_after(response, now)),
            status: response.status,
            code,
            request_id: bounded(request_id, REQUEST_ID_CHARS_MAX),
            message: bounded(error.message, MESSAGE_CHARS_MAX),
        }
    }

    /// The refusal for a success without the expected content.
    pub(crate) fn unexpected(response: &GraphResponse) -> Self {
        Self {
            kind: GraphRefusalKind::Unexpected,
            status: response.status,
            code: None,
            request_id: response.header(REQUEST_ID).map(|id| printable(id, REQUEST_ID_CHARS_MAX)),
            message: None,
        }
    }

    /// Returns Graph's code, like `7504`: printable, at most 64 characters.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns the id that Microsoft's support asks for: printable, at most 64 characters.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Returns Graph's own message, for the bot that sent the request: printable, at most 300 characters. It
    /// may repeat identities and phone numbers of the request, so do not log it.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }
}

impl fmt::Display for GraphRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.meaning())?;
        if let GraphRefusalKind::Throttled { retry_after: Some(wait) }
        | GraphRefusalKind::Unavailable { retry_after: Some(wait) } = self.kind
        {
            write!(f, ", for {} s", wait.as_secs_f64())?;
        }
        write!(f, " (Graph responded {}", self.status)?;
        match &self.code {
            Some(code) => write!(f, ", code {code}")?,
            None => f.write_str(" without a code")?,
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request-id {id}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for GraphRefusal {}

/// The meaning of a refusal. A code says more than a status, so the code decides first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphRefusalKind {
    /// 8522 or 404: the call has ended, or was answered too late.
    CallNotFound,
    /// 7505: the token is of another tenant than the call.
    TenantMismatch,
    /// 7504 or 403.
    MissingPermission,
    /// 7503: the bot is not registered with the calling service.
    UnregisteredApp,
    /// 409 or 412: the call was already answered, rejected or redirected, or it is ending. Graph's response
    /// to a second answer is not documented.
    Conflict,
    /// 429: too many requests.
    Throttled {
        /// The wait that Graph asks for.
        retry_after: Option<Duration>,
    },
    /// 8529: the limit of ten thousand calls a month.
    MonthlyLimit,
    /// Any other 4xx.
    BadRequest,
    /// 401, also with a new token.
    Unauthorized,
    /// 503.
    Unavailable {
        /// The wait that Graph asks for.
        retry_after: Option<Duration>,
    },
    /// Any other 5xx, or 9999: Graph may have acted.
    Server,
    /// Not a response of the calls API: a redirect, or a success without the requested call.
    Unexpected,
}

impl GraphRefusalKind {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// Returns true if Graph may have acted on the request. 503 with `Retry-After` asks to try again later,
    /// so Graph did nothing.
    pub(crate) fn is_outcome_unknown(self) -> bool {
        self.row().1
    }

    fn meaning(self) -> &'static str {
        self.row().2
    }

    /// The label, whether the outcome is unknown, and the meaning with what to do.
    fn row(self) -> (&'static str, bool, &'static str) {
        match self {
            Self::CallNotFound => {
                ("call_not_found", false, "the call is not there: it has ended, or the request came too late")
            }
            Self::TenantMismatch => {
                ("tenant_mismatch", false, "the call is of another tenant than the token")
            }
            Self::MissingPermission => (
                "missing_permission",
                false,
                "the app lacks a permission in the call's tenant: grant it, and have an administrator \
                 consent",
            ),
            Self::UnregisteredApp => (
                "not_registered",
                false,
                "the app is not registered for calling: enable calling in the bot's Teams channel",
            ),
            Self::Conflict => {
                ("conflict", false, "the call was already answered, rejected, redirected or ended")
            }
            Self::Throttled { .. } => {
                ("throttled", false, "the app makes too many requests and is throttled")
            }
            Self::MonthlyLimit => {
                ("monthly_limit", false, "the app has reached its limit of calls for this month")
            }
            Self::BadRequest => ("bad_request", false, "Graph does not accept the request"),
            Self::Unauthorized => {
                ("unauthorized", false, "Graph accepts no token of this app, not even a new one")
            }
            Self::Unavailable { retry_after: Some(_) } => ("unavailable", false, "Graph is unavailable"),
            Self::Unavailable { retry_after: None } => {
                ("unavailable", true, "Graph is unavailable, the outcome is unknown")
            }
            Self::Server => ("server", true, "Graph failed, the outcome is unknown"),
            Self::Unexpected => {
                ("unexpected", false, "the response is not one of the calls API: check the endpoint")
            }
        }
    }

    fn of(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Self {
        match (code, status) {
            (Some("8522"), _) => Self::CallNotFound,
            (Some("7503"), _) => Self::UnregisteredApp,
            (Some("7504"), _) => Self::MissingPermission,
            (Some("7505"), _) => Self::TenantMismatch,
            (Some("8529"), _) => Self::MonthlyLimit,
            (_, 401) => Self::Unauthorized,
            (_, 403) => Self::MissingPermission,
            (_, 404) => Self::CallNotFound,
            (_, 409 | 412) => Self::Conflict,
            (Some("TooManyRequests"), _) | (_, 429) => Self::Throttled { retry_after },
            (_, 400..=499) => Self::BadRequest,
            (_, 503) => Self::Unavailable { retry_after },
            (Some("9999"), _) | (_, 500..=599) => Self::Server,
            (_, _) => Self::Unexpected,
        }
    }
}

/// The content of an error document, unbounded and unescaped.
#[derive(Debug, Default)]
struct ErrorDocument {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl ErrorDocument {
    /// Reads `{"error":{"code","message","innerError"}}` of Graph (Microsoft Graph documentation, "Error
    /// responses"), or `{"errorCode","message"}` of the calls service. The second has been observed as text
    /// in the message of the first.
    fn read(document: &Value) -> Self {
        let Some(error) = document.get("error") else {
            return Self {
                code: document.get("errorCode").and_then(text),
                message: document.get("message").and_then(text),
                request_id: None,
            };
        };
        let inner = error.get("innerError").or_else(|| error.get("innererror"));
        let outer = Self {
            code: error.get("code").and_then(text),
            message: error.get("message").and_then(text),
            request_id: inner.and_then(|inner| inner.get(REQUEST_ID)).and_then(text),
        };
        let wrapped = outer.message.as_deref().filter(|message| message.starts_with('{'));
        let wrapped: Option<Value> = wrapped.and_then(|message| serde_json::from_str(message).ok());
        match wrapped.as_ref().and_then(|document| document.get("errorCode")).and_then(text) {
            Some(code) => Self {
                code: Some(code),
                message: wrapped.as_ref().and_then(|document| document.get("message")).and_then(text),
                ..outer
            },
            None => outer,
        }
    }
}

/// Codes are strings; numbers are accepted, too.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|number| number.to_string()))
}

/// Graph's id of a request, as a header and as a member of an error document.
const REQUEST_ID: &str = "request-id";
/// Graph's errors have less than 1 KiB.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
const CODE_CHARS_MAX: usize = 64;
const REQUEST_ID_CHARS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 300;
