//! Local exhaustion: this process, or its machine, has no descriptor, port or memory left for a socket.
//!
//! No upstream is to blame for it. Descriptors and ports belong to the process and its machine, so the count
//! and the log belong to the process, too.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

#[cfg(unix)]
use rustix::io::Errno;
use tokio::time::Instant;

/// Returns true if `error` says that there is no descriptor, port or memory left for a socket.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    code(error).is_some_and(|code| EXHAUSTED.contains(&code))
}

/// Returns true if `error` of a connect to `address` says that there is no descriptor, port or memory left.
///
/// `EADDRNOTAVAIL` also means that this machine has no address of that kind, as for `::1` where IPv6 is
/// switched off. Connecting a datagram socket sends nothing, and fails in that case only.
pub(super) fn prevents_connect(error: &io::Error, address: SocketAddr) -> bool {
    if !is_exhaustion(error) {
        return false;
    }
    let unspecified = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let reached = || UdpSocket::bind((unspecified, 0))?.connect(address);
    let has_no_address = error.kind() == io::ErrorKind::AddrNotAvailable
        && reached().is_err_and(|error| code(&error).is_none_or(|code| !NO_DESCRIPTOR.contains(&code)));
    !has_no_address
}

#[cfg(unix)]
fn code(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

#[cfg(not(unix))]
fn code(error: &io::Error) -> Option<i32> {
    error.raw_os_error()
}

/// Counts an exhaustion, and logs the first of each [`LOG_INTERVAL`].
pub(super) fn note(operation: &'static str, error: &io::Error) {
    COUNT.fetch_add(1, Relaxed);
    let now = Instant::now();
    {
        let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_some_and(|logged| now.saturating_duration_since(logged) < LOG_INTERVAL) {
            return;
        }
        *logged = Some(now);
    }
    tracing::error!(operation, %error, "gateway has no descriptors, ports or memory left for sockets");
}

/// The exhaustions so far.
pub(super) fn count() -> u64 {
    COUNT.load(Relaxed)
}

#[cfg(unix)]
const EXHAUSTED: [Errno; 5] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL, Errno::NOMEM];
/// `WSAEMFILE`, `WSAENOBUFS`, `WSAEADDRNOTAVAIL` and `WSA_NOT_ENOUGH_MEMORY` of Windows.
#[cfg(not(unix))]
const EXHAUSTED: [i32; 4] = [10_024, 10_055, 10_049, 8];
/// There is no descriptor left in the process, or in the system.
#[cfg(unix)]
const NO_DESCRIPTOR: [Errno; 2] = [Errno::MFILE, Errno::NFILE];
#[cfg(not(unix))]
const NO_DESCRIPTOR: [i32; 1] = [10_024];
/// Often enough to see that it lasts. The metric has each of them.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
static COUNT: AtomicU64 = AtomicU64::new(0);
static LOGGED: Mutex<Option<Instant>> = Mutex::new(None);

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lack_of_descriptors_ports_or_memory_is_exhaustion() {
        let local: SocketAddr = "127.0.0.1:9".parse().unwrap();
        for errno in EXHAUSTED {
            assert!(prevents_connect(&errno.into(), local), "{errno}");
        }
        for errno in [Errno::CONNREFUSED, Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::TIMEDOUT] {
            assert!(!prevents_connect(&errno.into(), local), "{errno}");
        }
        assert!(!prevents_connect(&io::ErrorKind::AddrNotAvailable.into(), local));
    }

    #[test]
    fn an_address_that_this_machine_cannot_reach_is_no_exhaustion() {
        // A link-local address without a zone: no machine has a route to it.
        let unreachable: SocketAddr = "[fe80::1]:9".parse().unwrap();
        assert!(!prevents_connect(&Errno::ADDRNOTAVAIL.into(), unreachable));
        assert!(prevents_connect(&Errno::MFILE.into(), unreachable));
    }
}
