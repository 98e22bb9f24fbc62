//! The parts of a gateway that the admin listener shows and controls.

use std::sync::Arc;

use switchboard_auth::Authenticator;
use switchboard_delivery::{Connections, Delivery};
use switchboard_routing::{CallbackUris, Name, Policy};
use uuid::Uuid;

use crate::{
    admin::access::AdminToken,
    clients::peer_health::PeerHealth,
    config::{EffectiveConfig, Limits},
    observed::Observed,
};

/// The parts that one configuration made. A reload replaces them.
#[derive(Debug)]
pub struct AdminState {
    /// The region that the gateway serves.
    pub region: Name,
    /// The state of the keys.
    pub authenticator: Arc<Authenticator>,
    /// The fleet.
    pub delivery: Arc<Delivery>,
    /// The idle connections to the fleet.
    pub connections: Arc<Connections>,
    /// The callback URIs of the instances.
    pub callbacks: Arc<CallbackUris>,
    /// The rules of the regions.
    pub policy: Arc<Policy>,
    /// The health of the other regions.
    pub(crate) peers: Arc<PeerHealth>,
    /// The observations of the process. The same after a reload.
    pub observed: Arc<Observed>,
    /// The ids of the configured apps.
    pub apps: Vec<Uuid>,
    /// The configuration as operators see it.
    pub config: Arc<EffectiveConfig>,
    /// The time at which it applied, in Unix milliseconds.
    pub config_loaded_ms: u64,
    /// The limits.
    pub limits: Limits,
    /// True if `/metrics` has series of each instance, false if it has their sums.
    pub instance_metrics: bool,
    /// The part by which the wanted size of the fleet exceeds what the present calls need.
    pub head_room: f64,
    /// The token that changes and callback URIs require. Without one, only a loopback listener serves them.
    pub admin_token: Option<AdminToken>,
}
