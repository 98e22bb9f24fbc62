//! The gateway as a client: of key issuers, of Graph, and of the gateways of other regions.

pub(crate) mod fetch;
pub(crate) mod graph;
pub(crate) mod graph_calls;
pub(crate) mod peer_health;
