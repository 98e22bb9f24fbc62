//! The running process: threads, sockets, signals, certificates, and the tasks that outlive a request.
//!
//! Reading order: `serve` (the process), `server` (serve, reload, drain), `worker` (a thread), `connection`,
//! `exchange`, `systemd` (the service manager).

pub mod serve;
pub mod server;
pub mod systemd;

pub(crate) mod certificate;
pub mod connection;
pub(crate) mod descriptors;
mod exchange;
mod signals;
mod state;
pub(crate) mod tasks;
mod worker;
