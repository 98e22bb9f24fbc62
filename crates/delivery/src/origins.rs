//! The origins at which a fleet or the peer gateways are reached, and the endpoints there.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::HeaderValue;
use switchboard_routing::Name;

use crate::{
    names::Names,
    upstream_url::{Hostname, Origin, UpstreamUrl},
};

/// An origin, and the incarnation of the process behind it. Two requests can share a connection if both are
/// equal: a process that was replaced may still serve the connections that it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ProcessOrigin {
    pub(crate) origin: Origin,
    pub(crate) incarnation: Name,
}

/// All origins of one snapshot of the fleet, or of the peer gateways. A pool keeps one slot for each.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    list: Vec<ProcessOrigin>,
    generation: u64,
    trust: u64,
}

/// The destination of requests of one kind.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) url: UpstreamUrl,
    /// The index of its origin in [`Origins`], and in each pool.
    pub(crate) slot: usize,
    /// The value of `Host`.
    pub(crate) host: HeaderValue,
}

impl Origins {
    pub(crate) fn list(&self) -> &[ProcessOrigin] {
        &self.list
    }

    /// The hosts that are names, to be looked up.
    pub(crate) fn names(&self) -> Names {
        let mut names = Names::default();
        for ProcessOrigin { origin, .. } in &self.list {
            if let Hostname::Name(name) = &origin.host {
                names.share(Arc::clone(name));
            }
        }
        names
    }

    /// Grows with each `Origins` of this process, so that a pool can tell the newer of two.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Equal for origins that share the trust anchors of TLS connections.
    pub(crate) fn trust(&self) -> u64 {
        self.trust
    }

    /// A trust number that no other settings have.
    pub(crate) fn next_trust() -> u64 {
        NUMBERS.fetch_add(1, Ordering::Relaxed)
    }
}

/// Collects the origins of endpoints.
#[derive(Debug)]
pub(crate) struct OriginsBuilder {
    origins: Origins,
    /// The index of each origin in the list.
    slots: HashMap<ProcessOrigin, usize>,
}

impl OriginsBuilder {
    pub(crate) fn new(trust: u64, count: usize) -> Self {
        let generation = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let origins = Origins { list: Vec::new(), generation, trust };
        Self { origins, slots: HashMap::with_capacity(count) }
    }

    /// The endpoint at `url`, of the process with this incarnation. Endpoints of one process with one origin
    /// share a slot.
    pub(crate) fn endpoint(&mut self, url: UpstreamUrl, incarnation: &Name) -> Endpoint {
        let origin = url.origin();
        let host = url.host_value();
        let key = ProcessOrigin { origin: origin.clone(), incarnation: incarnation.clone() };
        let next = self.origins.list.len();
        let slot = *self.slots.entry(key).or_insert_with_key(|key| {
            self.origins.list.push(key.clone());
            next
        });
        Endpoint { url, slot, host }
    }

    pub(crate) fn finish(self) -> Origins {
        self.origins
    }
}

/// Numbers generations and trust. Only their order matters.
static NUMBERS: AtomicU64 = AtomicU64::new(1);
