//! What delivery is told: plain data, already valid.

use std::{net::SocketAddr, time::Duration};

use http::uri::PathAndQuery;
use switchboard_routing::Name;
use uuid::Uuid;

use crate::{network::Network, upstream_url::UpstreamUrl};

/// What delivery is told.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    /// This region.
    pub region: Name,
    /// The static list. Names are distinct; of two instances with one name the first is kept.
    pub instances: Vec<InstanceSettings>,
    /// Where instances are found; then the list is empty.
    pub discovery: Option<Discovery>,
    /// How long an instance that is no longer listed, and that may still be there, keeps its callbacks at most.
    pub keep_leaving: Duration,
    /// Over how long the weight of an instance rises that has just become ready; zero: at once.
    pub slow_start: Duration,
    /// Without it every instance is taken for ready until a try fails.
    pub probe: Option<ProbeSettings>,
    /// The longest try of a new call.
    pub attempt: Duration,
    /// How long a callback is tried, from its arrival.
    pub patience: Duration,
    /// Callbacks of instances that are gone.
    pub orphaned: Orphaned,
    /// Whether `Authorization` is forwarded.
    pub authorization: bool,
}

/// One instance of the static list.
#[derive(Clone, Debug)]
pub struct InstanceSettings {
    /// Its name.
    pub name: Name,
    /// Where new calls go; http or https; `{app}` stands for the app id.
    pub url: UpstreamUrl,
    /// Where callbacks go; `url` if `None`.
    pub callback_url: Option<UpstreamUrl>,
    /// The apps that it serves; all if `None`.
    pub apps: Option<Vec<Uuid>>,
    /// Its share relative to others, at least 1.
    pub weight: u32,
}

/// Where instances are found that are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// By a name.
    Dns(DnsSettings),
    /// By the EndpointSlices of a service.
    #[cfg(feature = "kubernetes")]
    Kubernetes(KubernetesSettings),
}

impl Discovery {
    /// Returns true if both find the same instances, so that the instances found by one stand until the other is read.
    pub(crate) fn finds_same_instances(&self, other: &Self) -> bool {
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

/// Instances that DNS names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// The name. One that begins with `_` has SRV records, one for each instance; any other has addresses.
    pub name: Box<str>,
    /// The port of addresses; SRV records have their own.
    pub port: u16,
    /// https instead of http; `name`, or the target of a record, is what the certificate must be for.
    pub secure: bool,
    /// The path of new calls and callbacks; `{app}` stands for the app id.
    pub path: Box<str>,
    /// The longest time between two look-ups. Records that are valid for less are looked up sooner.
    pub refresh: Duration,
    /// Who is asked; the system's resolvers if empty.
    pub servers: Vec<SocketAddr>,
    /// The addresses that instances may have besides the usual ones.
    pub allow: Vec<Network>,
}

/// Instances that are the pods of a service.
#[cfg(feature = "kubernetes")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesSettings {
    /// The namespace, a DNS label; if `None` that of the kubeconfig's context, in a cluster that of the gateway's own pod.
    pub namespace: Option<Box<str>>,
    /// The service, a DNS label.
    pub service: Box<str>,
    /// The port of the pods.
    pub port: PodPort,
    /// https instead of http; `{service}.{namespace}.svc` is what the certificate must be for.
    pub secure: bool,
    /// The path of new calls and callbacks; `{app}` stands for the app id.
    pub path: Box<str>,
    /// The addresses that instances may have besides the usual ones.
    pub allow: Vec<Network>,
}

#[cfg(feature = "kubernetes")]
impl KubernetesSettings {
    /// Whether a text can be a namespace or a service: a DNS label (RFC 1123), 1 to 63 of a-z, 0-9 and `-`, which does not stand
    /// at an end.
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
    /// This one, whether or not the service has it.
    Number(u16),
    /// That which the service has under this name; pods may differ in the number.
    Named(Box<str>),
}

/// How instances are asked for their state.
#[derive(Clone, Debug)]
pub struct ProbeSettings {
    /// The path of the GET, on the host and port of the instance's `url`. See [`ProbeSettings::is_path`].
    pub path: String,
    /// Between two probes of one instance.
    pub interval: Duration,
}

impl ProbeSettings {
    /// Whether a text can be a probe's path: it starts with a slash and can stand in a request line, query included.
    /// With any other path every probe is a miss.
    pub fn is_path(text: &str) -> bool {
        Self::request_path(text).is_some()
    }

    pub(crate) fn request_path(text: &str) -> Option<PathAndQuery> {
        let graphic = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if text.starts_with('/') && graphic { PathAndQuery::try_from(text).ok() } else { None }
    }
}

/// What to do with a callback of an instance, or an incarnation of it, that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// 410.
    Refuse,
    /// The instance that the call id ranks first, marked `Switchboard-Orphaned: true`.
    Reassign,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_path_starts_with_a_slash_and_fits_a_request_line() {
        for path in ["/", "/healthz", "/health?deep=1", "/a%20b"] {
            assert!(ProbeSettings::is_path(path), "{path}");
        }
        for path in ["", "healthz", "http://h/healthz", "/a b", "/a#b", "/a\r\nX: y", "/ä"] {
            assert!(!ProbeSettings::is_path(path), "{path}");
        }
    }
}
