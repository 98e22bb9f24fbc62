//! The settings of a delivery: plain data, already valid.

mod fleet_file;
mod instance;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use http::uri::PathAndQuery;
use switchboard_routing::Name;

pub use self::{
    fleet_file::{FileInstance, FileSettings, FleetFile, ParsedFile},
    instance::InstanceSettings,
};
use crate::{
    network::Network,
    upstream_url::{InvalidUpstreamUrl, UpstreamUrl},
};

/// The settings of a delivery. See the [crate documentation](crate) for a complete example.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// This region.
    pub region: Name,
    /// The static list. Names are distinct. If two instances have one name, the first is kept.
    pub instances: Vec<InstanceSettings>,
    /// The source of instances that are not listed; then the list is empty.
    pub discovery: Option<Discovery>,
    /// The folder in which the instances that `discovery` finds are stored, for a restart while the source is
    /// away. [`Delivery::run_store`](crate::Delivery::run_store) reads and writes it.
    pub store: Option<PathBuf>,
    /// The DNS servers for the names of listed instances; the system's resolvers if empty. The hosts file
    /// comes first either way.
    pub name_servers: Vec<SocketAddr>,
    /// The longest time for which an instance that is no longer listed, and that may still run, keeps its
    /// callbacks.
    pub keep_leaving: Duration,
    /// The time over which the weight of an instance rises that has just become ready. With zero it rises at
    /// once.
    pub slow_start: Duration,
    /// The way in which new calls fill the instances.
    pub fill: Fill,
    /// The probe. Without it every instance is treated as ready until an attempt fails.
    pub probe: Option<ProbeSettings>,
    /// The time after which an attempt of a new call without a response is a failure of its instance. It also
    /// bounds the share of the budget after which the next instance is asked.
    pub attempt: Duration,
    /// The most new calls that wait for an instance at a time, because none can be asked.
    pub waiting_max: usize,
    /// The part of the fleet that may be ejected at once for slow or failed responses, 0 to 1. At least one
    /// instance may be.
    pub eject_share: f64,
    /// The time for which a callback may be attempted, from its arrival.
    pub patience: Duration,
    /// The most requests in flight to one instance with which it still gets another callback.
    pub in_flight_per_instance: u64,
    /// The treatment of callbacks whose instance is gone.
    pub orphaned: Orphaned,
    /// True if `Authorization` is forwarded.
    pub authorization: bool,
}

/// The way in which new calls fill the instances.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// Each call goes to the instance that its own key ranks first.
    Spread,
    /// The instances are filled one after the other, in one order for all calls. An instance that reports no
    /// capacity cannot be filled. If there is none to fill, calls are spread.
    Pack {
        /// The part of its capacity up to which an instance is filled, 0 to 1.
        share: f64,
    },
}

/// The source of instances that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// The addresses or SRV records of a DNS name.
    Dns(DnsSettings),
    /// The EndpointSlices of a Kubernetes service.
    #[cfg(feature = "kubernetes")]
    Kubernetes(KubernetesSettings),
    /// A file that another program replaces.
    File(FileSettings),
}

impl Discovery {
    /// Returns true if both find the same instances, so that the instances found by one stand until the other
    /// is read.
    pub(crate) fn finds_same_instances(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dns(one), Self::Dns(other)) => one.name == other.name,
            #[cfg(feature = "kubernetes")]
            (Self::Kubernetes(one), Self::Kubernetes(other)) => {
                one.namespace == other.namespace && one.service == other.service
            }
            // A file that was moved lists the same fleet.
            (Self::File(_), Self::File(_)) => true,
            (Self::File(_), Self::Dns(_)) | (Self::Dns(_), Self::File(_)) => false,
            #[cfg(feature = "kubernetes")]
            (Self::Kubernetes(_), Self::Dns(_) | Self::File(_))
            | (Self::Dns(_) | Self::File(_), Self::Kubernetes(_)) => false,
        }
    }

    /// The source and the settings that decide where its instances are reached. A stored fleet belongs to
    /// one such text.
    pub(crate) fn identity(&self) -> String {
        match self {
            Self::Dns(DnsSettings { name, port, secure, path, .. }) => {
                format!("dns {}://{name}:{port}{path}", scheme(*secure))
            }
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(KubernetesSettings { namespace, service, port, secure, path, .. }) => {
                let namespace = namespace.as_deref().unwrap_or_default();
                let port = match port {
                    PodPort::Number(number) => number.to_string(),
                    PodPort::Named(name) => name.to_string(),
                };
                format!("kubernetes {}://{service}.{namespace}:{port}{path}", scheme(*secure))
            }
            Self::File(FileSettings { path, .. }) => format!("file {}", path.display()),
        }
    }

    /// The URL of an instance that was found on this host and port. A file has whole URLs.
    pub(crate) fn url(&self, host: &str, port: u16) -> Result<UpstreamUrl, InvalidUpstreamUrl> {
        let (secure, path) = match self {
            Self::Dns(DnsSettings { secure, path, .. }) => (*secure, path),
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(KubernetesSettings { secure, path, .. }) => (*secure, path),
            Self::File(_) => return Err(InvalidUpstreamUrl::Relative),
        };
        UpstreamUrl::of_parts(secure, host, port, path)
    }

    /// The networks that instances may be in besides the usual ones.
    pub(crate) fn allow(&self) -> &[Network] {
        match self {
            Self::Dns(settings) => &settings.allow,
            #[cfg(feature = "kubernetes")]
            Self::Kubernetes(settings) => &settings.allow,
            Self::File(_) => &[],
        }
    }
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// Instances discovered by DNS.
///
/// ```
/// use std::time::Duration;
///
/// use switchboard_delivery::DnsSettings;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dns = DnsSettings {
///     name: "bots.default.svc.cluster.local".into(),
///     port: 3978,
///     secure: false,
///     path: "/api/calls".into(),
///     refresh: Duration::from_secs(30),
///     servers: Vec::new(),
///     allow: vec!["127.0.0.0/8".parse()?],
/// };
/// # let _ = dns;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The name. A name that starts with `_` has SRV records, one per instance; any other has addresses.
    pub name: Box<str>,
    /// The port of addresses; SRV records have their own.
    pub port: u16,
    /// True for https. The certificate must be for `name`, or for the target of the SRV record.
    pub secure: bool,
    /// The path of new calls and callbacks; `{app}` stands for the app id.
    pub path: Box<str>,
    /// The longest time between two look-ups. Records with a shorter TTL are looked up sooner.
    pub refresh: Duration,
    /// The DNS servers; the system's resolvers if empty.
    pub servers: Vec<SocketAddr>,
    /// Networks that instances may be in although their addresses are forbidden by default (loopback,
    /// link-local, …).
    pub allow: Vec<Network>,
}

/// Instances that are the pods of a Kubernetes service.
///
/// ```
/// use switchboard_delivery::{KubernetesSettings, PodPort};
///
/// assert!(KubernetesSettings::is_label("bots"));
/// let kubernetes = KubernetesSettings {
///     namespace: None,
///     service: "bots".into(),
///     port: PodPort::Named("calls".into()),
///     secure: false,
///     path: "/api/calls".into(),
///     allow: Vec::new(),
/// };
/// # let _ = kubernetes;
/// ```
#[cfg(feature = "kubernetes")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// The namespace, a DNS label. If `None`, the namespace of the kubeconfig's context, or in a cluster the
    /// namespace of the gateway's own pod.
    pub namespace: Option<Box<str>>,
    /// The service, a DNS label.
    pub service: Box<str>,
    /// The port of the pods.
    pub port: PodPort,
    /// True for https. The certificate must be for `{service}.{namespace}.svc`.
    pub secure: bool,
    /// The path of new calls and callbacks; `{app}` stands for the app id.
    pub path: Box<str>,
    /// Networks that instances may be in although their addresses are forbidden by default (loopback,
    /// link-local, …).
    pub allow: Vec<Network>,
}

#[cfg(feature = "kubernetes")]
impl KubernetesSettings {
    /// Returns true if a text can name a namespace or a service. It is a DNS label (RFC 1123): 1 to 63 of
    /// a-z, 0-9 and `-`, with no `-` at either end.
    pub fn is_label(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&text.len())
            && text.bytes().all(plain)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
}

/// A port of pods.
#[cfg(feature = "kubernetes")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPort {
    /// This number, whether or not the service has it.
    Number(u16),
    /// The port that the service has under this name. Its number may differ between pods.
    Named(Box<str>),
}

/// The probe that asks instances for their state.
///
/// ```
/// use std::time::Duration;
///
/// use switchboard_delivery::ProbeSettings;
///
/// let interval = Duration::from_secs(5);
/// let probe = ProbeSettings { path: "/healthz".into(), interval, is_forwarded: false };
/// assert!(ProbeSettings::is_path(&probe.path));
/// ```
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// The path of the GET, on the host and port of the instance's `url`. See [`ProbeSettings::is_path`].
    pub path: String,
    /// The time between two probes of one instance.
    pub interval: Duration,
    /// True if a probe has `X-Forwarded-Proto: https`, so that a bot that redirects http to https responds
    /// itself.
    pub is_forwarded: bool,
}

impl ProbeSettings {
    /// Returns true if a text can be the path of a probe: it starts with a slash and is valid in a request
    /// line, query included. With any other path every probe is a miss.
    pub fn is_path(text: &str) -> bool {
        Self::request_path(text).is_some()
    }

    pub(crate) fn request_path(text: &str) -> Option<PathAndQuery> {
        let graphic = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if text.starts_with('/') && graphic { PathAndQuery::try_from(text).ok() } else { None }
    }
}

/// The treatment of a callback whose instance, or whose incarnation of it, is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// Respond with 410.
    Refuse,
    /// Forward it to the instance that the call id ranks first, marked `Switchboard-Orphaned: true`.
    Reassign,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_path_starts_with_a_slash_and_is_valid_in_a_request_line() {
        for path in ["/", "/healthz", "/health?deep=1", "/a%20b"] {
            assert!(ProbeSettings::is_path(path), "{path}");
        }
        for path in ["", "healthz", "http://h/healthz", "/a b", "/a#b", "/a\r\nX: y", "/ä"] {
            assert!(!ProbeSettings::is_path(path), "{path}");
        }
    }
}
