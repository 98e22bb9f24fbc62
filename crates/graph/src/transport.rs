//! The `Transport` trait: the network as this crate sees it.

use std::{fmt, pin::Pin};

use tokio::time::Instant;
use url::Url;

use crate::text::printable;

/// The network as this crate sees it: one HTTP request at a time.
///
/// An implementation follows no redirects, checks the certificate, and logs nothing of a request: its head
/// and its body contain credentials. Its errors decide whether a call may be answered twice. So
/// [`TransportErrorKind::Unreachable`] and [`TransportErrorKind::Tls`] mean that no byte of the request was
/// written. Once a status has arrived the result is `Ok`, even if the body breaks off.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request`, and gives up at its deadline.
    ///
    /// # Errors
    ///
    /// No status arrived.
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>>;
}

/// A request to send. The transport adds `Host` and `Content-Length`, even if the length is 0.
pub struct GraphRequest {
    /// The method.
    pub method: GraphMethod,
    /// The URL: https, or http to a loopback host or to the endpoint of a managed identity.
    pub url: Url,
    /// The headers. Names are in lower case and occur once; values are visible ASCII and blanks. One may be a
    /// credential.
    pub headers: Vec<(&'static str, String)>,
    /// The body: empty, JSON or a form. A form contains a credential.
    pub body: Vec<u8>,
    /// The time from which the response is no longer needed.
    pub deadline: Instant,
    /// The limit of the response's body. A longer body becomes [`GraphResponseBody::TooLarge`] and need not
    /// be read.
    pub body_bytes_max: usize,
}

/// Shows neither header values nor the body: both contain credentials.
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

/// The methods that this crate uses.
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
    /// Returns the method as HTTP spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A response.
pub struct GraphResponse {
    /// The status, 100 to 599.
    pub status: u16,
    /// The headers whose value is text, with names in any case and in any order.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it was read.
    pub body: GraphResponseBody,
}

impl GraphResponse {
    /// Returns the value of the first header `name`, which is in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Returns the body if it is complete and has at most `bytes_max` bytes. The transport may not have
    /// checked the limit.
    pub(crate) fn whole_body(&self, bytes_max: usize) -> Option<&[u8]> {
        match &self.body {
            GraphResponseBody::Whole(bytes) if bytes.len() <= bytes_max => Some(bytes),
            GraphResponseBody::Whole(_) | GraphResponseBody::TooLarge | GraphResponseBody::CutOff => None,
        }
    }
}

/// Shows no byte of the body: the body of a token endpoint is a credential.
impl fmt::Debug for GraphResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphResponse")
            .field("status", &self.status)
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// The body of a response.
pub enum GraphResponseBody {
    /// The complete body.
    Whole(Vec<u8>),
    /// The body is longer than the limit, by its length or as it arrived.
    TooLarge,
    /// The body broke off, or was incomplete at the deadline.
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

/// An error that prevented a status from arriving. `Display` is safe in a log, whatever `detail` contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportError {
    /// The kind of error: it decides whether the request may be repeated.
    pub kind: TransportErrorKind,
    /// The step that failed and its error, for the log. It contains no byte of the request.
    pub detail: String,
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.meaning(), printable(&self.detail, DETAIL_CHARS_MAX))
    }
}

impl std::error::Error for TransportError {}

/// The kinds of [`TransportError`], by what they mean for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// There is no connection: no byte of the request was written.
    Unreachable,
    /// There is no TLS session, or not with the right peer: no byte of the request was written.
    Tls,
    /// The connection broke after something may have been written, or the response is not HTTP.
    Lost,
    /// The deadline passed after something may have been written.
    TimedOut,
}

impl TransportErrorKind {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// Returns the stable name of the same error of a token request.
    pub(crate) fn token_label(self) -> &'static str {
        self.row().1
    }

    /// Returns true if the peer may have acted on the request.
    pub(crate) fn is_outcome_unknown(self) -> bool {
        self.row().2
    }

    /// Returns the meaning, to follow the name of the peer.
    fn meaning(self) -> &'static str {
        self.row().3
    }

    /// The label, the label of a token request, whether the outcome is unknown, the meaning.
    fn row(self) -> (&'static str, &'static str, bool, &'static str) {
        match self {
            Self::Unreachable => ("unreachable", "token_unreachable", false, "could not be reached"),
            Self::Tls => ("tls", "token_tls", false, "has no TLS that can be trusted"),
            Self::Lost => ("lost", "token_lost", true, "broke the connection"),
            Self::TimedOut => ("timeout", "token_timeout", true, "did not respond in time"),
        }
    }
}

/// A detail may repeat text from the network.
const DETAIL_CHARS_MAX: usize = 200;

/// The name of this crate in requests (RFC 9110 section 10.1.5).
pub(crate) const USER_AGENT: &str = concat!("switchboard-graph/", env!("CARGO_PKG_VERSION"));

/// The limit of a response with a token. A token has 2 KiB; with many groups or roles it has several times as
/// much.
pub(crate) const TOKEN_BODY_BYTES_MAX: usize = 64 * 1024;
