//! Instances that are found, not listed. Each way of finding them has a file.
//!
//! All keep one rule: what cannot be read, makes no sense, or names an address at which no instance is, changes nothing. The
//! last good state holds, and the log says why.

mod dns;
#[cfg(feature = "kubernetes")]
mod kubernetes;

use std::net::IpAddr;

use openssl::sha::sha256;
use switchboard_routing::Name;
use tokio::time::{Duration, Instant};

use self::dns::Dns;
#[cfg(feature = "kubernetes")]
use self::kubernetes::Kubernetes;
use crate::{Delivery, Discovery};

impl Delivery {
    /// Keeps the fleet as its source says, until it is dropped.
    pub(crate) async fn discover(&self) {
        match &self.settings.discovery {
            None => std::future::pending().await,
            Some(Discovery::Dns(settings)) => Dns::new(settings).follow(self).await,
            #[cfg(feature = "kubernetes")]
            Some(Discovery::Kubernetes(settings)) => Kubernetes::new(settings).follow(self).await,
        }
    }
}

impl Discovery {
    /// Whether what one has found can stand for the other until that is read: the same instances by other means.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(one), Self::Dns(other)) => one.name == other.name,
            #[cfg(feature = "kubernetes")]
            (Self::Kubernetes(one), Self::Kubernetes(other)) => {
                one.namespace == other.namespace && one.service == other.service
            }
            #[cfg(feature = "kubernetes")]
            (Self::Dns(_), Self::Kubernetes(_)) | (Self::Kubernetes(_), Self::Dns(_)) => false,
        }
    }
}

/// Why a source was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// It does not answer, or says that it cannot.
    #[error("not answered: {0}")]
    Unanswered(String),
    /// It names nobody.
    #[error("it names no instance")]
    Empty,
    /// It names more than a fleet has.
    #[error("it names {count} instances, and {INSTANCES_MAX} is the most")]
    TooMany {
        /// How many it names.
        count: usize,
    },
    /// It names an address at which no instance is.
    #[error("it names {address}, which is {why}; fleet.allow allows it")]
    Forbidden {
        /// The address.
        address: IpAddr,
        /// What it is.
        why: &'static str,
    },
    /// Two instances would have one name.
    #[error("two of its instances are named {0}")]
    Doubled(String),
    /// A name that cannot stand in a URL.
    #[error("it names a host that is none: {0}")]
    NotAHost(String),
    /// It says what none of its kind says.
    #[cfg(feature = "kubernetes")]
    #[error("its answer makes no sense: {0}")]
    Nonsense(String),
    /// It does not know the service.
    #[cfg(feature = "kubernetes")]
    #[error("there is no EndpointSlice of the service")]
    NoService,
    /// Nobody whom it names can be reached or told from others.
    #[cfg(feature = "kubernetes")]
    #[error("none of its {endpoints} endpoints is a pod with an address and the port")]
    Unusable {
        /// How many it names.
        endpoints: usize,
    },
}

impl Fault {
    fn label(&self) -> &'static str {
        match self {
            Self::Unanswered(_) => "unanswered",
            Self::Empty => "empty",
            Self::TooMany { .. } => "too_many",
            Self::Forbidden { .. } => "forbidden_address",
            Self::Doubled(_) => "doubled_name",
            Self::NotAHost(_) => "not_a_host",
            #[cfg(feature = "kubernetes")]
            Self::Nonsense(_) => "nonsense",
            #[cfg(feature = "kubernetes")]
            Self::NoService => "no_service",
            #[cfg(feature = "kubernetes")]
            Self::Unusable { .. } => "unusable",
        }
    }
}

/// Tells the log of faults: each kind when it begins, and now and then while it lasts.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    last: Option<(&'static str, Instant)>,
}

impl Faults {
    fn tell(&mut self, source: &str, fault: &Fault, now: Instant) {
        let told = self.last.is_some_and(|(label, at)| {
            label == fault.label() && now.saturating_duration_since(at) < TELL_AGAIN
        });
        if !told {
            self.last = Some((fault.label(), now));
            tracing::warn!(
                source,
                reason = fault.label(),
                error = fault.to_string(),
                "the fleet's source was not read; its last good state holds"
            );
        }
    }

    fn over(&mut self, source: &str) {
        if self.last.take().is_some() {
            tracing::info!(source, "the fleet's source is read again");
        }
    }
}

/// What others call an instance, as a name: as it is; if it is too long or has other characters in it, these become dashes and
/// the end a hash of the whole, so that two never share a name.
fn instance_name(text: &str) -> Name {
    if let Ok(name) = Name::parse(text) {
        return name;
    }
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let start: String = text.chars().take(CHARS_KEPT).map(plain).collect();
    let hash: String = sha256(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Name::parse(&format!("{start}-{hash}")).expect("at most 63 of the alphabet of names")
}

/// Twice the fleets that we measure with (10,000 instances place a call in tens of microseconds). A UDP answer has some
/// thirty addresses, one over TCP, of 64 KiB, some four thousand: more is a mistake or an attack.
const INSTANCES_MAX: usize = 20_000;
/// How long a source may name nobody before its instances leave: longer than a zone is reloaded, a mistake in a selector is
/// noticed or a deployment is replaced, shorter than an address waits for its next owner.
const EMPTY_HOLD: Duration = Duration::from_secs(300);
/// With a dash and sixteen digits of the hash these are the 63 of a name.
const CHARS_KEPT: usize = 46;
/// How often a fault that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);
