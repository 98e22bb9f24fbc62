//! `GraphRefusal`: what Graph says instead of doing what it was asked, in whatever shape it says it.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{GraphResponse, credential::Secret, retry::retry_after, text::printable};

/// An answer of Graph that is no success. `Display` is one line that says what to do; it leaves out Graph's own message,
/// which may name people and numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphRefusal {
    /// What it means.
    pub kind: GraphRefusalKind,
    /// The HTTP status.
    pub status: u16,
    code: Option<String>,
    request_id: Option<String>,
    message: Option<String>,
}

impl GraphRefusal {
    /// Both shapes of the calls service, one inside the other, and anything else: HTML, nothing, too much. `token` is
    /// what the request carried; a message that repeats it is dropped.
    pub(crate) fn read(response: &GraphResponse, token: &Secret, now: SystemTime) -> Self {
        let document = response.whole_body(BODY_BYTES_MAX).and_then(|body| serde_json::from_slice(body).ok());
        let said = document.as_ref().map(Said::read).unwrap_or_default();
        let request_id = response.header("request-id").map(str::to_owned).or(said.request_id);
        let bounded = |text: Option<String>, chars_max| {
            text.filter(|text| !text.is_empty() && !text.contains(token.expose()))
                .map(|text| printable(&text, chars_max))
        };
        let code = bounded(said.code, CODE_CHARS_MAX);
        Self {
            kind: GraphRefusalKind::of(response.status, code.as_deref(), retry_after(response, now)),
            status: response.status,
            code,
            request_id: bounded(request_id, REQUEST_ID_CHARS_MAX),
            message: bounded(said.message, MESSAGE_CHARS_MAX),
        }
    }

    /// An answer that should have been a success and is none.
    pub(crate) fn unexpected(response: &GraphResponse) -> Self {
        Self {
            kind: GraphRefusalKind::Unexpected,
            status: response.status,
            code: None,
            request_id: response.header("request-id").map(|id| printable(id, REQUEST_ID_CHARS_MAX)),
            message: None,
        }
    }

    /// Graph's code, like `7504`: printable, at most 64 characters.
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// What Microsoft's support asks for: printable, at most 64 characters.
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Graph's own words, for whoever sent the request: printable, at most 300 characters. They may repeat identities
    /// and numbers of the request, so they are not for a log.
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
        write!(f, " (Graph said {}", self.status)?;
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

/// What a refusal means. A code says more than a status, so it is looked at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphRefusalKind {
    /// 8522 or 404: it has ended, or was answered too late.
    CallNotFound,
    /// 7505: the token is of another tenant than the call.
    TenantMismatch,
    /// 7504 or 403.
    MissingPermission,
    /// 7503: the bot was not made known to the calling service.
    NotRegistered,
    /// 409 or 412: somebody has answered, rejected or redirected it, or it is ending. What Graph says to a second answer
    /// is not documented.
    Conflict,
    /// 429: too many requests.
    Throttled {
        /// What Graph asks to wait.
        retry_after: Option<Duration>,
    },
    /// 8529: ten thousand calls a month.
    MonthlyLimit,
    /// Any other 4xx.
    BadRequest,
    /// 401, to a fresh token too.
    Unauthorized,
    /// 503.
    Unavailable {
        /// What Graph asks to wait.
        retry_after: Option<Duration>,
    },
    /// Any other 5xx, or 9999: Graph may have acted.
    Server,
    /// No answer that the calls API has: a redirect, or a success without the call that was asked for.
    Unexpected,
}

impl GraphRefusalKind {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::CallNotFound => "call_not_found",
            Self::TenantMismatch => "tenant_mismatch",
            Self::MissingPermission => "missing_permission",
            Self::NotRegistered => "not_registered",
            Self::Conflict => "conflict",
            Self::Throttled { .. } => "throttled",
            Self::MonthlyLimit => "monthly_limit",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable { .. } => "unavailable",
            Self::Server => "server",
            Self::Unexpected => "unexpected",
        }
    }

    fn of(status: u16, code: Option<&str>, retry_after: Option<Duration>) -> Self {
        match (code, status) {
            (Some("8522"), _) => Self::CallNotFound,
            (Some("7503"), _) => Self::NotRegistered,
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

    /// Whether Graph may have acted all the same. 503 with `Retry-After` asks to come again, so nothing was done.
    pub(crate) fn is_outcome_unknown(self) -> bool {
        match self {
            Self::Server | Self::Unavailable { retry_after: None } => true,
            Self::CallNotFound
            | Self::TenantMismatch
            | Self::MissingPermission
            | Self::NotRegistered
            | Self::Conflict
            | Self::Throttled { .. }
            | Self::MonthlyLimit
            | Self::BadRequest
            | Self::Unauthorized
            | Self::Unavailable { retry_after: Some(_) }
            | Self::Unexpected => false,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::CallNotFound => "the call is not there: it has ended, or this came too late",
            Self::TenantMismatch => "the call is of another tenant than the token",
            Self::MissingPermission => {
                "the app lacks a permission in the call's tenant: grant it, and have an administrator consent"
            }
            Self::NotRegistered => {
                "the app is not registered for calling: enable calling in the bot's Teams channel"
            }
            Self::Conflict => "the call was answered, rejected, redirected or ended already",
            Self::Throttled { .. } => "the app makes too many requests and is throttled",
            Self::MonthlyLimit => "the app has had all the calls that it may have this month",
            Self::BadRequest => "Graph does not accept the request",
            Self::Unauthorized => "Graph accepts no token of this app, however fresh",
            Self::Unavailable { retry_after: Some(_) } => "Graph is unavailable",
            Self::Unavailable { retry_after: None } => "Graph is unavailable, the outcome is unknown",
            Self::Server => "Graph failed, the outcome is unknown",
            Self::Unexpected => "this is no answer of the calls API: check the endpoint",
        }
    }
}

/// What an error document says, unbounded and unescaped.
#[derive(Debug, Default)]
struct Said {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl Said {
    /// `{"error":{"code","message","innerError"}}` of Graph (Microsoft Graph documentation, "Error responses"), or
    /// `{"errorCode","message"}` of the calls service. Observed too: the latter as text in the former's message.
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
            request_id: inner.and_then(|inner| inner.get("request-id")).and_then(text),
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

/// Codes come as strings; numbers would be no surprise.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|number| number.to_string()))
}

/// Graph's errors have less than 1 KiB.
pub(crate) const BODY_BYTES_MAX: usize = 64 * 1024;
const CODE_CHARS_MAX: usize = 64;
const REQUEST_ID_CHARS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 300;
