//! The admin listener: health, readiness, metrics and the fleet, for operators and their tools; never public.
//!
//! Reading order: `listener` (connections), `api` (routes), `access` (checks of the sender).

mod access;
mod api;
mod error;
mod instance_json;
mod listener;
mod response;
mod state;

pub use self::{access::AdminToken, api::AdminApi, listener::serve, state::AdminState};

#[cfg(test)]
mod tests;
