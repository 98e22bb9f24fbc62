//! The `Transport` trait: all that this crate asks of the network.

use std::{fmt, pin::Pin};

use tokio::time::Instant;
use url::Url;

use crate::text::printable;

/// All that this crate asks of the network: one HTTP request.
///
/// The implementation follows no redirects, checks the certificate, and keeps nothing of a request in a log: its head
/// and its body hold credentials. What it says of a failure decides whether a call may be answered twice, so
/// [`TransportErrorKind::Unreachable`] and [`TransportErrorKind::Tls`] are for requests of which no byte was written.
/// Once a status has come the result is `Ok`, whatever becomes of the body.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` and gives up at its deadline.
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>>;
}

/// What is to be sent. `Host` and `Content-Length` (0 too) are the transport's to add.
pub struct GraphRequest {
    /// The method.
    pub method: GraphMethod,
    /// https, or http on this machine.
    pub url: Url,
    /// Names in lower case, each once; values are visible ASCII and blanks. One of them may be a credential.
    pub headers: Vec<(&'static str, String)>,
    /// Empty, JSON or a form; a form holds a credential.
    pub body: Vec<u8>,
    /// When nobody waits for the answer any more.
    pub deadline: Instant,
    /// Of the answer's body. More is [`GraphResponseBody::TooLarge`], and need not be read.
    pub body_bytes_max: usize,
}

/// Credentials are in the head and in the body, so neither is shown.
impl fmt::Debug for GraphRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("GraphRequest")
            .field("method", &self.method)
            .field("url", &self.url.as_str())
            .field("headers", &names)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The methods that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphMethod {
    /// GET.
    Get,
    /// POST.
    Post,
    /// DELETE.
    Delete,
}

impl GraphMethod {
    /// As HTTP spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// What came back.
pub struct GraphResponse {
    /// 100 to 599.
    pub status: u16,
    /// Those whose value is text, in any case and order.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it is worth having.
    pub body: GraphResponseBody,
}

impl GraphResponse {
    /// The value of the first `name`, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The whole body, if it is there and within `bytes_max`: a transport's word is not enough.
    pub(crate) fn whole_body(&self, bytes_max: usize) -> Option<&[u8]> {
        match &self.body {
            GraphResponseBody::Whole(bytes) if bytes.len() <= bytes_max => Some(bytes),
            GraphResponseBody::Whole(_) | GraphResponseBody::TooLarge | GraphResponseBody::CutOff => None,
        }
    }
}

/// A token endpoint's body is a credential.
impl fmt::Debug for GraphResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphResponse")
            .field("status", &self.status)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The body of an answer.
pub enum GraphResponseBody {
    /// All of it.
    Whole(Vec<u8>),
    /// More than was asked for, by its length or as it came.
    TooLarge,
    /// It broke off, or was not all there by the deadline.
    CutOff,
}

impl fmt::Debug for GraphResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "Whole([{} bytes])", bytes.len()),
            Self::TooLarge => f.write_str("TooLarge"),
            Self::CutOff => f.write_str("CutOff"),
        }
    }
}

/// Why no status came. `Display` is fit for a log whatever `detail` holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// What that means for the request.
    pub failure: TransportErrorKind,
    /// For the log: which step failed and why, without a byte of the request.
    pub detail: String,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.failure.meaning(), printable(&self.detail, DETAIL_CHARS_MAX))
    }
}

impl std::error::Error for TransportError {}

/// What a failure means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// No connection: no byte of the request was written.
    Unreachable,
    /// No TLS session, or not with whom it should be: no byte of the request was written.
    Tls,
    /// The connection broke after something may have been written, or what came was not HTTP.
    Lost,
    /// The deadline passed after something may have been written.
    TimedOut,
}

impl TransportErrorKind {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Lost => "lost",
            Self::TimedOut => "timeout",
        }
    }

    /// Whether the other side may have acted.
    pub(crate) fn is_outcome_unknown(self) -> bool {
        match self {
            Self::Unreachable | Self::Tls => false,
            Self::Lost | Self::TimedOut => true,
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Unreachable => "could not be reached",
            Self::Tls => "has no TLS that can be trusted",
            Self::Lost => "broke the connection",
            Self::TimedOut => "did not answer in time",
        }
    }
}

/// A detail comes from the transport and may repeat what the network sent.
const DETAIL_CHARS_MAX: usize = 200;
