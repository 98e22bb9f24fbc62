//! The options that name a server and the requests that it gets.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::connector::Tls;

/// The server that gets requests, and the requests.
#[derive(Clone, Debug, Args)]
pub(crate) struct Target {
    #[arg(long)]
    pub(crate) to: SocketAddr,
    /// The number of connections.
    #[arg(long)]
    pub(crate) connections: usize,
    /// A file of requests that all have the same length.
    #[arg(long)]
    pub(crate) requests: PathBuf,
    /// The length of a request in bytes.
    #[arg(long)]
    pub(crate) length: usize,
    /// The number in the message id of the first request. Each request has the next number.
    #[arg(long)]
    pub(crate) first_message: u64,
    /// Use TLS, without a check of the certificate.
    #[arg(long)]
    pub(crate) tls: Option<Tls>,
}
