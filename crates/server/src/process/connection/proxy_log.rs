//! The log lines about connections without the header of a proxy that `listen.proxies` requires, or with one
//! that it does not expect. A flood of them must not fill the log.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{process::connection::proxy_header::ProxyHeaderError, telemetry::Chain};

/// The lines of the public listener: of each kind at most one a minute.
#[derive(Debug, Default)]
pub(crate) struct ProxyLog {
    refused: Mutex<Pace>,
    unexpected: Mutex<Pace>,
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

/// The time of the last line, and the connections since then.
#[derive(Debug, Default)]
struct Pace {
    last_line: Option<Instant>,
    connections: u64,
}

/// Counts a connection. Returns the number of connections for a line, if one is due.
fn next_line(pace: &Mutex<Pace>) -> Option<u64> {
    let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
    pace.connections += 1;
    let now = Instant::now();
    let is_due = pace.last_line.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
    is_due.then(|| {
        pace.last_line = Some(now);
        std::mem::take(&mut pace.connections)
    })
}

/// The time between two lines of a kind.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_a_minute_has_the_number_of_connections() {
        let pace = Mutex::default();
        assert_eq!(next_line(&pace), Some(1));
        for _ in 0..10_000 {
            assert_eq!(next_line(&pace), None);
        }
        tokio::time::advance(PAUSE).await;
        assert_eq!(next_line(&pace), Some(10_001));
        assert_eq!(next_line(&pace), None);
    }
}
