//! One request, from its head to the response: who sent it, what becomes of it, and what the log says.

pub(crate) mod act;
pub(crate) mod handle;
pub mod outcome;
pub(crate) mod received;
pub(crate) mod record;
pub(crate) mod reply;
pub(crate) mod retries;
