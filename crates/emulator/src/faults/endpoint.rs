//! The faults of an endpoint: of an issuer's documents, the token endpoint or the calls API.

use std::{fmt, time::Duration};

use crate::{
    encoding::{duration_text, parse_duration},
    entra,
    graph::{self, Calls},
    words::words,
};

/// The endpoints that a fault can strike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// The documents of an issuer.
    Issuer,
    /// The token endpoint.
    Login,
    /// The calls API.
    Graph,
}

/// A fault of an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EndpointFault {
    Plain(PlainFault),
    /// The regular response, later.
    Slow(Duration),
    Status {
        status: u16,
        retry_after: Option<String>,
    },
    /// An error code of the service.
    Code(u32),
}

words! {
    /// The faults of an endpoint that take no argument.
    pub(crate) enum PlainFault {
        /// The connection closes without a response.
        Down = "down",
        /// No response comes, and the connection stays open.
        Hang = "hang",
        /// The request takes effect, and the connection closes without a response.
        Lost = "lost",
        /// A page of a proxy.
        Html = "html",
        /// An empty body.
        Empty = "empty",
        /// Half of the regular response, with the matching length.
        Truncated = "truncated",
        /// More bytes than a client should read.
        Huge = "huge",
        /// A byte now and then.
        Drip = "drip",
        /// A key set without keys.
        NoKeys = "no-keys",
        /// A key set with the right key ids and other keys.
        WrongKeys = "wrong-keys",
        /// A redirect to an address that no client should follow.
        Redirect = "redirect",
    }
}

impl PlainFault {
    /// Returns true if the endpoint can have the fault.
    fn is_of(self, endpoint: Endpoint) -> bool {
        let documents = endpoint == Endpoint::Issuer;
        match self {
            Self::Lost => !documents,
            Self::NoKeys | Self::WrongKeys | Self::Redirect => documents,
            Self::Down | Self::Hang | Self::Html | Self::Empty => true,
            Self::Truncated | Self::Huge | Self::Drip => true,
        }
    }
}

impl Endpoint {
    /// Returns the values of its faults, for messages.
    pub(super) fn takes(self) -> String {
        let plain = PlainFault::ALL.iter().filter(|fault| fault.is_of(self)).map(|fault| fault.label());
        let words = plain.chain(["slow:DURATION"]).collect::<Vec<_>>().join(", ");
        match self {
            Self::Issuer => format!("one of {words}, or a status like 500 or 503:2 (Retry-After)"),
            Self::Login => format!(
                "one of {words}, a status like 500 or 429:2 (Retry-After), \
                 or an AADSTS code ({})",
                numbers(self.codes())
            ),
            Self::Graph => format!(
                "one of {words}, a status like 500 or 429:2.128 (Retry-After), \
                 or a code of the calls API ({})",
                numbers(self.codes())
            ),
        }
    }

    /// Returns the error codes that a fault may name.
    fn codes(self) -> &'static [u32] {
        match self {
            Self::Issuer => &[],
            Self::Login => &entra::CODES,
            Self::Graph => &graph::CODES,
        }
    }
}

impl EndpointFault {
    pub(super) fn parse(text: &str, endpoint: Endpoint) -> Option<Self> {
        if let Some(duration) = text.strip_prefix("slow:") {
            return parse_duration(duration).ok().map(Self::Slow);
        }
        if let Ok(plain) = text.parse::<PlainFault>() {
            return plain.is_of(endpoint).then_some(Self::Plain(plain));
        }
        let (number, retry_after) = match text.split_once(':') {
            Some((number, retry_after)) => (number, Some(retry_after)),
            None => (text, None),
        };
        if !number.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let code: u32 = number.parse().ok()?;
        match u16::try_from(code) {
            Ok(status @ 400..=599) => retry_after
                .is_none_or(is_decimal)
                .then(|| Self::Status { status, retry_after: retry_after.map(str::to_owned) }),
            _ => (retry_after.is_none() && endpoint.codes().contains(&code)).then_some(Self::Code(code)),
        }
    }

    /// Returns true for the faults of a key set that leave the metadata alone.
    pub(super) fn is_of_keys(&self) -> bool {
        matches!(self, Self::Plain(PlainFault::NoKeys | PlainFault::WrongKeys))
    }

    /// Returns true if the key set has the right key ids and other keys.
    pub(crate) fn is_wrong_keys(&self) -> bool {
        matches!(self, Self::Plain(PlainFault::WrongKeys))
    }

    /// Returns true if the response is that of a proxy before the endpoint.
    pub(crate) fn is_of_proxy(&self) -> bool {
        matches!(self, Self::Plain(PlainFault::Html))
    }

    /// Returns the status that a client of the calls API sees, if the fault decides it.
    pub(crate) fn graph_status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Code(code) => Some(Calls::status_of(*code).as_u16()),
            Self::Plain(plain) => matches!(plain, PlainFault::Html | PlainFault::Empty).then_some(200),
            Self::Slow(_) => None,
        }
    }
}

impl fmt::Display for EndpointFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(plain) => plain.fmt(f),
            Self::Slow(duration) => write!(f, "slow:{}", duration_text(*duration)),
            Self::Status { status, retry_after: None } => write!(f, "{status}"),
            Self::Status { status, retry_after: Some(after) } => write!(f, "{status}:{after}"),
            Self::Code(code) => write!(f, "{code}"),
        }
    }
}

/// Returns true for digits, optionally followed by a point and digits.
pub(super) fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit());
    digits(whole) && digits(fraction)
}

fn numbers(codes: &[u32]) -> String {
    codes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
