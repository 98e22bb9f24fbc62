//! The parts that all sources share: the error, its log, names of instances, and limits.

use std::{borrow::Cow, net::IpAddr};

use openssl::sha::sha256;
use switchboard_routing::Name;
use tokio::time::{Duration, Instant};

pub(crate) use crate::member::INSTANCES_MAX;
use crate::{error_chain::printable, log_pace::LogPace, resolver::LookupError, startup::SourceTimes};

/// A source could not be read, or its content is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    /// The source does not respond, or responds with an error.
    #[error("no usable response: {0}")]
    NoResponse(String),
    /// The file cannot be read. The text says why.
    #[error("{0}")]
    Unreadable(String),
    /// The file is not a list of instances. The text has its problems.
    #[error("{0}")]
    Malformed(String),
    /// The source lists no instance.
    #[error("it lists no instance")]
    Empty,
    /// The source lists more instances than a fleet can have.
    #[error("it lists {count} instances, more than the limit of {INSTANCES_MAX}")]
    TooMany {
        /// The number of instances.
        count: usize,
    },
    /// The source lists an address that no instance may have.
    #[error("it lists {address}, which is {why}; fleet.allow permits it")]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// The kind of address.
        why: &'static str,
    },
    /// Two instances have one name.
    #[cfg(feature = "kubernetes")]
    #[error("it lists two instances named {0}")]
    Doubled(String),
    /// A host name that is not valid in a URL.
    #[error("it lists {0}, which is not a valid host name")]
    NotAHost(String),
    /// No SRV record makes an instance.
    #[error("none of its records makes an instance, for example: {0}")]
    NoUsableRecord(String),
    /// A response that this kind of source never sends.
    #[cfg(feature = "kubernetes")]
    #[error("its response makes no sense: {0}")]
    Nonsense(String),
    /// The source does not know the service.
    #[cfg(feature = "kubernetes")]
    #[error("the service has no EndpointSlice")]
    NoService,
    /// No endpoint is a pod with an address and the port.
    #[cfg(feature = "kubernetes")]
    #[error("none of its {endpoints} endpoints is a pod with an address and the port")]
    Unusable {
        /// The number of endpoints.
        endpoints: usize,
    },
}

impl SourceError {
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::NoResponse(_) => "unanswered",
            Self::Unreadable(_) => "unreadable",
            Self::Malformed(_) => "malformed",
            Self::Empty => "empty",
            Self::TooMany { .. } => "too_many",
            Self::Forbidden { .. } => "forbidden_address",
            #[cfg(feature = "kubernetes")]
            Self::Doubled(_) => "doubled_name",
            Self::NotAHost(_) => "not_a_host",
            Self::NoUsableRecord(_) => "unusable",
            #[cfg(feature = "kubernetes")]
            Self::Nonsense(_) => "nonsense",
            #[cfg(feature = "kubernetes")]
            Self::NoService => "no_service",
            #[cfg(feature = "kubernetes")]
            Self::Unusable { .. } => "unusable",
        }
    }

    /// The kind of error for the pace of the log. Of a file, each text is a kind: the operator who corrects
    /// one mistake sees the next one at once.
    fn kind(&self) -> Cow<'static, str> {
        match self {
            Self::Unreadable(text) | Self::Malformed(text) => text.clone().into(),
            Self::NoResponse(_)
            | Self::Empty
            | Self::TooMany { .. }
            | Self::Forbidden { .. }
            | Self::NotAHost(_)
            | Self::NoUsableRecord(_) => self.label().into(),
            #[cfg(feature = "kubernetes")]
            Self::Doubled(_) | Self::Nonsense(_) | Self::NoService | Self::Unusable { .. } => {
                self.label().into()
            }
        }
    }
}

impl From<LookupError> for SourceError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NoResponse(error) => Self::NoResponse(error),
            LookupError::NoRecords => Self::Empty,
            LookupError::NotAName => Self::NotAHost("a name".into()),
        }
    }
}

/// Logs the errors of a source, at the pace of [`LogPace`].
#[derive(Debug, Default)]
pub(super) struct SourceLog {
    pace: LogPace,
}

impl SourceLog {
    /// Notes that the source was not read.
    pub(super) fn failed(&mut self, source: &str, error: &SourceError, times: &SourceTimes, now: Instant) {
        times.source_failed();
        if self.pace.is_due(error.kind(), now) {
            tracing::warn!(
                source,
                reason = error.label(),
                error = error.to_string(),
                "keeping the current fleet: its source was not read"
            );
        }
    }

    /// Notes that the source was read, and that its content is usable.
    pub(super) fn succeeded(&mut self, source: &str) {
        if self.pace.ended() {
            tracing::info!(source, "fleet source is readable again");
        }
    }
}

/// The name of an instance, from the name that its source uses.
///
/// A valid name stays as it is. In any other, invalid characters become dashes, and the end is replaced by a
/// hash of the whole, so that two instances never share a name.
pub(super) fn instance_name(text: &str) -> Name {
    if let Ok(name) = Name::parse(text) {
        return name;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let start: String = text.chars().take(CHARS_KEPT).map(plain).collect();
    let hash: String = sha256(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Name::parse(&format!("{start}-{hash}")).expect("at most 63 of the alphabet of names")
}

/// A text that a source sent, escaped and cut for the log.
pub(super) fn loggable(text: &str) -> String {
    printable(text, LOGGED_CHARS_MAX)
}

/// The time for which a source may list no instance before its instances leave. It is longer than a zone
/// takes to reload, a selector to be corrected or a deployment to be replaced. It is shorter than the time
/// until an address is reassigned.
pub(super) const EMPTY_HOLD: Duration = Duration::from_secs(300);
/// With a dash and sixteen digits of the hash these are the 63 characters of a name.
const CHARS_KEPT: usize = 46;
/// The characters of a text that are logged.
const LOGGED_CHARS_MAX: usize = 400;
