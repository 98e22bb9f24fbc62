//! The parts of a configuration, each of them valid.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ::url::Url;
use ipnet::IpNet;
use switchboard_auth::TrustSettings;
use switchboard_delivery::UpstreamUrl;
use switchboard_notification::Call;
use switchboard_routing::Name;
use tracing::Level;
use uuid::Uuid;

use super::{ca::CaCertificates, secret::Secret};
use crate::telemetry::Format;

/// The public listener: the webhook and the callbacks.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address to bind; port 0 takes a free port.
    pub address: SocketAddr,
    /// The certificate; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The path that the platform posts to, like `/api/calls`.
    pub webhook_path: String,
    /// The first segments of the path of a callback, like `/api/callbacks`.
    pub callback_path: String,
    /// The path at which peers ask for the health of this region.
    pub health_path: Option<String>,
    /// The path at which balancers ask whether this gateway is ready.
    pub ready_path: Option<String>,
    /// The proxies in front of the listener, which say where a connection or a request comes from.
    pub proxies: Option<Proxies>,
    /// The times of a drain.
    pub drain: Drain,
}

/// The proxies in front of the public listener, and the way in which they name the address of a sender.
///
/// The address is for the log. Nothing is authenticated by it.
#[derive(Clone, Debug)]
pub struct Proxies {
    /// The networks from which proxies connect; at least one.
    pub networks: Vec<IpNet>,
    /// The way in which they name the address.
    pub protocol: ProxyProtocol,
}

/// The way in which proxies name the address of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A header of the PROXY protocol, version 1 or 2, before all other bytes of a connection.
    Header,
    /// The field `X-Forwarded-For` of each request.
    XForwardedFor,
}

impl Proxies {
    /// Returns true if `address` is in one of the networks.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }
}

/// A certificate chain and its key, in PEM. They existed and matched when the configuration was read.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The two times of a drain, both from SIGTERM.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    /// The time in which new connections are still served: the balancer needs to notice the drain.
    pub delay: Duration,
    /// The time at which the gateway cuts the requests that are still in flight.
    pub deadline: Duration,
}

/// The admin listener.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The address to bind; never public.
    pub address: SocketAddr,
    /// True if `/metrics` has series of each instance, false if it has their sums.
    pub instance_metrics: bool,
    /// The token that every POST and the callback URI of an instance require. Without it, only a loopback
    /// listener serves them.
    pub token: Option<Secret>,
}

/// One issuer family, and the way to its documents.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Its name, documents, issuers and callers.
    pub settings: TrustSettings,
    /// The certificate authorities that are trusted for its documents besides the system's.
    pub ca: Option<CaCertificates>,
}

/// Another region.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Its name.
    pub name: Name,
    /// The URL that its calls are redirected to.
    pub webhook: Url,
    /// The origin of its gateway, which takes its callbacks. Without it this gateway refuses them.
    pub callback: Option<UpstreamUrl>,
    /// The URL that reports whether it can take a call.
    pub health: Option<Url>,
}

/// The status of a redirect to another region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 302, as Microsoft's documents have it.
    Found,
    /// 307, as Microsoft's recording sample has it.
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

/// The rules by which a new call is placed on an instance.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The property of a call that decides in which order instances are asked.
    pub key: AffinityBy,
    /// The time from the arrival of a new call until an instance must have accepted it; less than the
    /// platform's 15 s.
    pub budget: Duration,
    /// The same for a policy-recorded call; less than the platform's 5 s.
    pub recording_budget: Duration,
    /// The treatment of a call that no instance took.
    pub full: Full,
}

/// The property of a call that decides in which order instances are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityBy {
    /// The call id: calls spread evenly.
    Call,
    /// `callChainId`: the legs of a call meet on one instance.
    Chain,
    /// `chatInfo.threadId`: the calls of a meeting meet on one instance.
    Thread,
    /// The token's tenant.
    Tenant,
}

impl AffinityBy {
    /// Returns the text that is hashed for a call: its id if the notification lacks the property.
    pub fn text<'c>(self, call_id: &'c str, call: &'c Call<'_>, tenant: Uuid) -> Cow<'c, str> {
        match self {
            Self::Call => call_id.into(),
            Self::Chain => call.chain_id.as_deref().unwrap_or(call_id).into(),
            Self::Thread => call.thread_id.as_deref().unwrap_or(call_id).into(),
            Self::Tenant => tenant.hyphenated().to_string().into(),
        }
    }

    /// The name in the configuration.
    pub fn label(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Chain => "chain",
            Self::Thread => "thread",
            Self::Tenant => "tenant",
        }
    }
}

/// The treatment of a new call that no instance took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// 503 with `Retry-After`.
    Refuse,
    /// The platform is redirected to this region.
    Overflow(Name),
    /// Graph rejects the call as busy.
    Reject,
}

/// The limits of size, number and idle time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The bytes of a body.
    pub body: usize,
    /// The bytes of all bodies in memory together.
    pub body_memory: usize,
    /// The bytes of a head.
    pub head: usize,
    /// The connections of the public listener.
    pub connections: usize,
    /// The connections of one source address that had no authenticated sender.
    pub connections_per_source: Option<usize>,
    /// The requests in flight.
    pub in_flight: usize,
    /// The requests in flight to one instance, beyond which its callbacks are refused.
    pub in_flight_per_instance: u64,
    /// The time for which a connection may be idle between two requests.
    pub idle: Duration,
}

/// The settings of the log.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// The format of an event.
    pub format: Format,
    /// The lowest level that is logged.
    pub level: Level,
}
