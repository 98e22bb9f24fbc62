//! The gateway as an HTTP client: of key issuers, of Graph, and of the peer gateways.
//!
//! Requests to instances do not use these clients. `switchboard-delivery` has a pool for them that belongs to
//! one worker thread and knows if a byte of a request was written.

pub(crate) mod fetch;
pub(crate) mod graph;
pub(crate) mod graph_calls;
mod http_client;
pub(crate) mod peer_health;

pub(crate) use self::http_client::tls_client;
