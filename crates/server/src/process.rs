//! The running process: threads, sockets, signals, certificates, and the tasks that outlive a request.

pub mod connection;
mod descriptors;
pub mod serve;
pub mod server;
pub(crate) mod tasks;
pub(crate) mod tls;
pub(crate) mod worker;
