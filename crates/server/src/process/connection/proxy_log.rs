//! The log lines about connections without the header of a proxy that `listen.proxies` requires, or with one
//! that it does not expect. A flood of them must not fill the log.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;

use crate::{
    process::connection::{counted_line::CountedLine, proxy_header::ProxyHeaderError},
    telemetry::Chain,
};

/// The lines of the public listener: of each kind at most one a minute.
#[derive(Debug, Default)]
pub(crate) struct ProxyLog {
    refused: Mutex<CountedLine>,
    unexpected: Mutex<CountedLine>,
}

impl ProxyLog {
    /// A connection from a network of proxies was closed: it does not begin with a valid header.
    pub(crate) fn refused(&self, address: IpAddr, error: &ProxyHeaderError) {
        if let Some(connections) = next_line(&self.refused) {
            tracing::warn!(
                client.address = %address,
                error = %Chain(error),
                connections,
                "refusing a connection of listen.proxies: it must begin with a header of the PROXY protocol"
            );
        }
    }

    /// A connection begins with a header, which the gateway does not expect from its address.
    pub(crate) fn unexpected(&self, address: IpAddr) {
        if let Some(connections) = next_line(&self.unexpected) {
            tracing::warn!(
                client.address = %address,
                connections,
                "cannot read a connection: it begins with a header of the PROXY protocol, and listen.proxies \
                 does not have its address with protocol = \"proxy\""
            );
        }
    }
}

fn next_line(line: &Mutex<CountedLine>) -> Option<u64> {
    line.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now())
}
