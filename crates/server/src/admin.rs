//! The admin listener: health, readiness, metrics and the fleet, for operators and their tools; never public.
//!
//! Reading order: `listener` (connections), `api` (routes), `access` (checks of the sender), `events` (the
//! live view), `overview` (the state in it), `page` (for a browser).

mod access;
mod api;
mod calls;
mod error;
mod events;
mod fleet_summary;
mod frame_context;
mod instance_json;
mod listener;
mod off_thread;
mod overview;
mod page;
mod response;
mod state;

pub use self::{access::AdminToken, api::AdminApi, events::Feed, listener::serve, state::AdminState};

#[cfg(test)]
mod tests;
