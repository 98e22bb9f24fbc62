//! One request, from its head to the response.

pub(crate) mod act;
pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod forwarded;
pub(crate) mod handle;
pub mod outcome;
pub(crate) mod plain;
pub(crate) mod plan;
pub(crate) mod reason;
pub(crate) mod received;
pub(crate) mod record;
pub(crate) mod refusal;
pub(crate) mod reply;
pub(crate) mod retries;
pub(crate) mod route;
pub(crate) mod sender;
