//! The reasons for which an attempt at an instance, or a probe of it, fails.

use std::fmt;

use http::{Response, StatusCode};

use crate::{headers::LOOP, tls_failure::TlsFailure};

/// Declares `Cause`. Each row of the table is one variant: its documentation, its label, and its reason in
/// two parts. The second part is the cause itself; the first says what it did to an attempt.
macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $label:literal, $effect:literal $text:literal;)*) => {
        /// The reason for which an attempt at an instance, or a probe of it, failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Cause {
            $($(#[$doc])* $variant,)*
        }

        impl Cause {
            pub(crate) const ALL: [Self; [$($label),*].len()] = [$(Self::$variant),*];

            /// A stable name for logs and metrics.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The cause in a few words, for the state of the instance.
            pub(crate) const fn reason(self) -> &'static str {
                match self { $(Self::$variant => concat!($effect, $text),)* }
            }

            /// The same for an instance that is half-open after a failure with this cause.
            pub(crate) const fn half_open_reason(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($effect, $text, "; half-open, one call at a time"),)*
                }
            }

            /// The same for an instance that missed its probes, the last one with this cause.
            pub(crate) const fn missed_reason(self) -> &'static str {
                match self { $(Self::$variant => concat!("missed its probes: ", $text),)* }
            }
        }
    };
}

causes! {
    /// The host name has no address.
    Lookup = "lookup", "attempt failed: " "host name has no address";

    /// The resolver did not respond in time.
    LookupTimeout = "lookup_timeout", "attempt failed: " "resolver did not respond";

    /// The instance does not listen.
    Refused = "refused", "attempt failed: " "connection refused";

    /// No connection for another reason.
    Connect = "connect", "attempt failed: " "no connection";

    /// No connection in time.
    ConnectTimeout = "connect_timeout", "attempt failed: " "no connection in time";

    /// The two sides do not agree on a TLS handshake, or the server ended it.
    Tls = "tls", "attempt failed: " "TLS handshake failed";

    /// The server does not speak TLS.
    NotTls = "not_tls", "attempt failed: " "server does not speak TLS on this port";

    /// A certificate in the server's chain has expired.
    TlsExpired = "tls_expired", "attempt failed: " "certificate has expired";

    /// A certificate in the server's chain is not valid yet.
    TlsNotYetValid = "tls_not_yet_valid", "attempt failed: " "certificate is not valid yet";

    /// The server's certificate is self-signed, or its chain ends at an authority that is not trusted.
    TlsUnknownAuthority = "tls_unknown_authority",
        "attempt failed: " "certificate is of an unknown authority";

    /// The server sent no certificate of the issuer of its own, and that issuer is no trusted authority.
    TlsMissingIssuer = "tls_missing_issuer",
        "attempt failed: " "certificate was sent without its intermediate, or is of an unknown authority";

    /// The server's certificate is for other names.
    TlsWrongName = "tls_wrong_name", "attempt failed: " "certificate is for another name";

    /// The server's certificate fails another check.
    TlsUntrusted = "tls_untrusted", "attempt failed: " "certificate is not trusted";

    /// The TLS handshake took too long.
    TlsTimeout = "tls_timeout", "attempt failed: " "TLS handshake timed out";

    /// The connection ended before a response.
    Closed = "closed", "attempt failed: " "connection closed without a response";

    /// The bytes received are not the head of an HTTP response.
    BadHead = "bad_head", "attempt failed: " "response is not valid HTTP";

    /// The response, or its announced length, is over the limit.
    ResponseTooLarge = "answer_too_large", "attempt failed: " "response too large";

    /// No response in time.
    Timeout = "timeout", "attempt failed: " "no response in time";

    /// Three other instances in a row accepted a new call first.
    RacesLost = "races_lost", "attempts failed: " "three other instances in a row responded sooner";

    /// The gateway itself has no descriptor, port or memory left. No instance is to blame.
    Exhausted = "exhausted", "attempt failed: " "the gateway has no descriptors, ports or memory left";

    /// The response to a new call or a probe was 3xx.
    Redirect = "redirect", "attempt failed: " "response was a redirect";

    /// The response was 401: the keys of the instance are old.
    Unauthorized = "status_401", "" "response was 401";

    /// The response was 403.
    Forbidden = "status_403", "" "response was 403";

    /// The response was 429.
    TooManyRequests = "status_429", "" "response was 429";

    /// The response to a new call or a probe was 502.
    BadGateway = "status_502", "attempt failed: " "response was 502";

    /// The response to a new call was 503.
    Unavailable = "status_503", "attempt failed: " "response was 503";

    /// The response to a new call or a probe was 504.
    GatewayTimeout = "status_504", "attempt failed: " "response was 504";

    /// A gateway refused the request because a gateway sent it: the URL of the instance leads to a gateway.
    Loop = "loop", "attempt failed: " "the URL leads to a gateway";

    /// The response to a probe was 404.
    NotFound = "status_404", "" "response was 404";

    /// The response to a probe was 400, as of a server that knows itself by another name.
    BadRequest = "status_400", "" "response was 400";

    /// The response to a probe was 500.
    ServerError = "status_500", "" "response was 500";

    /// The response to a probe has another status than 2xx and 503.
    BadStatus = "bad_status", "" "response has a status other than 2xx, 400, 404, 500 and 503";

    /// The response to a probe is not a valid report.
    BadReport = "bad_report", "" "response is not a valid report";

    /// The time was over before the first attempt.
    NoTime = "no_time", "" "no time was left";
}

/// Returns the labels of the failures of attempts and probes, for documents and metrics.
pub fn attempt_failures() -> impl Iterator<Item = &'static str> {
    Cause::ALL.into_iter().map(Cause::label)
}

impl Cause {
    /// The cause for which a response to a new call sends the call to the next candidate; `None` if it does
    /// not.
    ///
    /// Neither the gateway nor the platform can follow a redirect of an instance: the gateway decides which
    /// instance gets a call.
    pub(crate) fn of_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::UNAUTHORIZED => Some(Self::Unauthorized),
            StatusCode::FORBIDDEN => Some(Self::Forbidden),
            StatusCode::TOO_MANY_REQUESTS => Some(Self::TooManyRequests),
            StatusCode::BAD_GATEWAY => Some(Self::BadGateway),
            StatusCode::SERVICE_UNAVAILABLE => Some(Self::Unavailable),
            StatusCode::GATEWAY_TIMEOUT => Some(Self::GatewayTimeout),
            status if status.is_redirection() => Some(Self::Redirect),
            _ => None,
        }
    }

    /// The cause of a response: as `of_status`, but a gateway's own refusal is not that of an instance.
    pub(crate) fn of_response<B>(response: &Response<B>) -> Option<Self> {
        match Self::of_status(response.status()) {
            Some(Self::Unavailable) if response.headers().contains_key(&LOOP) => Some(Self::Loop),
            cause => cause,
        }
    }

    /// The cause of a response to a probe whose status is neither 2xx nor 503.
    pub(crate) fn of_probe_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::BAD_REQUEST => Self::BadRequest,
            StatusCode::INTERNAL_SERVER_ERROR => Self::ServerError,
            status => Self::of_status(status).unwrap_or(Self::BadStatus),
        }
    }

    /// The cause of a failed TLS handshake.
    pub(crate) fn of_tls(failure: &TlsFailure) -> Self {
        match failure {
            TlsFailure::Expired { .. } => Self::TlsExpired,
            TlsFailure::NotYetValid { .. } => Self::TlsNotYetValid,
            TlsFailure::SelfSigned { .. } | TlsFailure::UnknownAuthority { .. } => Self::TlsUnknownAuthority,
            TlsFailure::MissingIssuer { .. } => Self::TlsMissingIssuer,
            TlsFailure::WrongName { .. } => Self::TlsWrongName,
            TlsFailure::Untrusted { .. } => Self::TlsUntrusted,
            TlsFailure::NotTls => Self::NotTls,
            TlsFailure::Closed | TlsFailure::Handshake { .. } => Self::Tls,
        }
    }

    /// Returns true for 401, 403 and 429: the instance is well and does not take the request. The gateway has
    /// proved the token, so the sender is not to blame.
    pub(crate) fn is_declined(self) -> bool {
        matches!(self, Self::Unauthorized | Self::Forbidden | Self::TooManyRequests)
    }

    /// Returns true if a probe that was missed for this cause got the head of a response, so that the
    /// instance accepts connections.
    pub(crate) fn is_response(self) -> bool {
        matches!(
            self,
            Self::ResponseTooLarge
                | Self::Redirect
                | Self::Unauthorized
                | Self::Forbidden
                | Self::TooManyRequests
                | Self::BadGateway
                | Self::GatewayTimeout
                | Self::NotFound
                | Self::BadRequest
                | Self::ServerError
                | Self::BadStatus
                | Self::BadReport
        )
    }

    /// Returns true if an instance that received a new call and failed with this cause may have acted on it.
    /// It has not if it refused the call or redirected it; a 502 or 504 of a proxy hides the outcome.
    pub(crate) fn leaves_outcome_unknown(self) -> bool {
        !self.is_declined() && !matches!(self, Self::Unavailable | Self::Redirect | Self::Loop)
    }
}

/// The conclusion from a failure about the health of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The instance cannot be connected to.
    Unreachable,
    /// The instance is slow or broken.
    Failing,
    /// The instance is busy.
    Busy,
    /// The failure says nothing about the instance.
    None,
}

impl Cause {
    /// The conclusion about the instance.
    pub(crate) fn blame(self) -> Blame {
        match self {
            Self::Lookup
            | Self::LookupTimeout
            | Self::Refused
            | Self::Connect
            | Self::ConnectTimeout
            | Self::Tls
            | Self::NotTls
            | Self::TlsExpired
            | Self::TlsNotYetValid
            | Self::TlsUnknownAuthority
            | Self::TlsMissingIssuer
            | Self::TlsWrongName
            | Self::TlsUntrusted
            | Self::TlsTimeout => Blame::Unreachable,
            Self::Closed
            | Self::BadHead
            | Self::ResponseTooLarge
            | Self::Timeout
            | Self::RacesLost
            | Self::Redirect
            | Self::BadGateway
            | Self::GatewayTimeout => Blame::Failing,
            Self::Unavailable => Blame::Busy,
            Self::Exhausted
            | Self::Unauthorized
            | Self::Forbidden
            | Self::TooManyRequests
            | Self::NotFound
            | Self::BadRequest
            | Self::ServerError
            | Self::BadStatus
            | Self::BadReport
            | Self::Loop
            | Self::NoTime => Blame::None,
        }
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

    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_cause_has_its_own_label_and_reason() {
        assert_eq!(Cause::ALL.map(Cause::label).iter().collect::<HashSet<_>>().len(), Cause::ALL.len());
        assert_eq!(Cause::ALL.map(Cause::reason).iter().collect::<HashSet<_>>().len(), Cause::ALL.len());
    }

    #[test]
    fn only_a_503_of_a_gateway_is_a_loop() {
        let cause = |status: u16, marked: bool| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if marked {
                response.headers_mut().insert(&LOOP, HeaderValue::from_static("true"));
            }
            Cause::of_response(&response)
        };
        assert_eq!(cause(503, true), Some(Cause::Loop));
        assert_eq!(cause(503, false), Some(Cause::Unavailable));
        assert_eq!(cause(502, true), Some(Cause::BadGateway));
        assert_eq!(cause(202, true), None);
    }

    #[test]
    fn only_a_redirect_and_six_statuses_send_a_new_call_to_the_next_candidate() {
        let moving: Vec<u16> = (200..600)
            .filter(|code| Cause::of_status(StatusCode::from_u16(*code).unwrap()).is_some())
            .filter(|code| !(300..400).contains(code))
            .collect();
        assert_eq!(moving, [401, 403, 429, 502, 503, 504]);
        assert!((300..400).all(|code| Cause::of_status(StatusCode::from_u16(code).unwrap()).is_some()));
    }
}
