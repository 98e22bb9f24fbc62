//! One try at one instance: answered, not sent, or sent without an answer.

use std::fmt;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use openssl::ssl::SslConnector;
use tokio::time::{Instant, timeout_at};

use crate::{connections::Pool, fleet::Fleet, instance::Endpoint, response::BODY_BYTES_MAX};

/// Sends a request and waits for the head of the answer until `until`.
///
/// A pooled connection that turns out to be closed is no failure: the request that hyper hands back has not been
/// written and goes over the next one.
pub(crate) async fn send(
    pool: &Pool,
    fleet: &Fleet,
    endpoint: &Endpoint,
    tls: &SslConnector,
    request: Request<Full<Bytes>>,
    until: Instant,
) -> Result<Response<Incoming>, Failure> {
    let mut request = request;
    loop {
        let pooled = pool.take(fleet, endpoint.slot, Instant::now());
        let fresh = pooled.is_none();
        let mut sender = match pooled {
            Some(sender) => sender,
            // Boxed, since it is rare and large: a request's future is moved about, and its size is paid every time.
            None => match timeout_at(until, Box::pin(pool.connect(endpoint.target.origin(), tls))).await {
                Ok(Ok(sender)) => sender,
                Ok(Err(cause)) => return Err(Failure::unsent(request, cause)),
                Err(_) => return Err(Failure::unsent(request, Cause::ConnectTimeout)),
            },
        };
        match timeout_at(until, sender.try_send_request(request)).await {
            Ok(Ok(response)) => {
                pool.keep(fleet, endpoint.slot, sender, response.headers(), Instant::now());
                return check(response);
            }
            Ok(Err(mut error)) => match error.take_message() {
                Some(unsent) if fresh => return Err(Failure::unsent(unsent, Cause::Closed)),
                Some(unsent) => request = unsent,
                None => return Err(Failure::Sent(Cause::of(&error.into_error()))),
            },
            // Dropping the future closes the connection, which tells the instance that nobody waits any more.
            Err(_) => return Err(Failure::Sent(Cause::Timeout)),
        }
    }
}

/// Answers that are none.
fn check(response: Response<Incoming>) -> Result<Response<Incoming>, Failure> {
    if response.status().is_informational() {
        // hyper skips 1xx but for 101, and we asked for no other protocol.
        Err(Failure::Sent(Cause::BadHead))
    } else if response.body().size_hint().lower() > BODY_BYTES_MAX {
        Err(Failure::Sent(Cause::AnswerTooLarge))
    } else {
        Ok(response)
    }
}

/// How a try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No byte of the request was written; here it is. (Boxed: the request would make every result large.)
    Unsent(Box<Request<Full<Bytes>>>, Cause),
    /// The request may have reached the instance, which may have acted on it.
    Sent(Cause),
}

impl Failure {
    fn unsent(request: Request<Full<Bytes>>, cause: Cause) -> Self {
        Self::Unsent(Box::new(request), cause)
    }
}

/// Why a try at an instance, or a probe of it, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The host name has no address.
    Lookup,
    /// The resolver did not answer in time.
    LookupTimeout,
    /// Nobody listens.
    Refused,
    /// No connection for another reason.
    Connect,
    /// No connection in time.
    ConnectTimeout,
    /// No TLS: usually the certificate.
    Tls,
    /// TLS took too long.
    TlsTimeout,
    /// The connection ended before an answer.
    Closed,
    /// What came is not the head of an HTTP answer.
    BadHead,
    /// The answer's announced length is over the limit.
    AnswerTooLarge,
    /// No answer in time.
    Timeout,
    /// A new call was answered with 3xx.
    Redirect,
    /// A new call was answered with 502.
    BadGateway,
    /// A new call was answered with 503.
    Unavailable,
    /// A new call was answered with 504.
    GatewayTimeout,
    /// A probe was answered with something else than the instance's state.
    BadReport,
    /// The time was over before the first try.
    NoTime,
}

impl Cause {
    pub(crate) const ALL: [Self; 17] = [
        Self::Lookup,
        Self::LookupTimeout,
        Self::Refused,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Tls,
        Self::TlsTimeout,
        Self::Closed,
        Self::BadHead,
        Self::AnswerTooLarge,
        Self::Timeout,
        Self::Redirect,
        Self::BadGateway,
        Self::Unavailable,
        Self::GatewayTimeout,
        Self::BadReport,
        Self::NoTime,
    ];

    /// A stable name for logs and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Lookup => "lookup",
            Self::LookupTimeout => "lookup_timeout",
            Self::Refused => "refused",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::TlsTimeout => "tls_timeout",
            Self::Closed => "closed",
            Self::BadHead => "bad_head",
            Self::AnswerTooLarge => "answer_too_large",
            Self::Timeout => "timeout",
            Self::Redirect => "redirect",
            Self::BadGateway => "status_502",
            Self::Unavailable => "status_503",
            Self::GatewayTimeout => "status_504",
            Self::BadReport => "bad_report",
            Self::NoTime => "no_time",
        }
    }

    /// Why a try failed, in a few words, for the state of the instance.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Lookup => "a try failed: its name has no address",
            Self::LookupTimeout => "a try failed: the resolver did not answer",
            Self::Refused => "a try failed: connection refused",
            Self::Connect => "a try failed: no connection",
            Self::ConnectTimeout => "a try failed: no connection in time",
            Self::Tls => "a try failed: no TLS",
            Self::TlsTimeout => "a try failed: no TLS in time",
            Self::Closed => "a try failed: connection closed without an answer",
            Self::BadHead => "a try failed: broken answer",
            Self::AnswerTooLarge => "a try failed: answer too large",
            Self::Timeout => "a try failed: no answer in time",
            Self::Redirect => "a try failed: answered a redirect",
            Self::BadGateway => "a try failed: answered 502",
            Self::Unavailable => "a try failed: answered 503",
            Self::GatewayTimeout => "a try failed: answered 504",
            Self::BadReport => "a probe was answered with something else than a state",
            Self::NoTime => "no time was left",
        }
    }

    /// Why an answer to a new call means: ask the next candidate.
    ///
    /// A redirect cannot be followed by us or by the platform: where the call lives is decided here.
    pub(crate) fn of_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::BAD_GATEWAY => Some(Self::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::GatewayTimeout),
            status if status.is_redirection() => Some(Self::Redirect),
            _ => None,
        }
    }

    pub(crate) fn of(error: &hyper::Error) -> Self {
        if error.is_parse() { Self::BadHead } else { Self::Closed }
    }

    /// Whether the instance, having been sent a new call and failed like this, may have acted on it. It has not where
    /// it refused or pointed elsewhere; what a 502 or 504 hides, nobody knows.
    pub(crate) fn leaves_outcome_unknown(self) -> bool {
        !matches!(self, Self::Unavailable | Self::Redirect)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_cause_has_its_own_label_and_words() {
        assert_eq!(Cause::ALL.map(Cause::label).iter().collect::<HashSet<_>>().len(), Cause::ALL.len());
        assert_eq!(Cause::ALL.map(Cause::words).iter().collect::<HashSet<_>>().len(), Cause::ALL.len());
    }

    #[test]
    fn only_a_redirect_and_three_statuses_move_a_new_call_on() {
        let moving: Vec<u16> = (200..600)
            .filter(|code| Cause::of_status(StatusCode::from_u16(*code).unwrap()).is_some())
            .filter(|code| !(300..400).contains(code))
            .collect();
        assert_eq!(moving, [502, 503, 504]);
        assert!((300..400).all(|code| Cause::of_status(StatusCode::from_u16(code).unwrap()).is_some()));
    }
}
