//! The process's limit on file descriptors.
//!
//! Shells, service managers and container runtimes start a process with a soft limit of about 1024, because
//! programs that use `select` cannot handle more. Other programs have to raise it themselves.

use crate::config::Limits;

/// Raises the soft limit to the hard limit, and warns if that is less than the configured limits may need.
pub(crate) fn raise_limit(limits: &Limits) {
    raise_soft_limit();
    let descriptors = soft_limit();
    let needed = needed(limits);
    if descriptors.is_some_and(|descriptors| descriptors < needed) {
        tracing::warn!(
            descriptors,
            needed,
            "file descriptor limit is lower than limits.connections and limits.in_flight may need"
        );
    }
}

#[cfg(unix)]
fn raise_soft_limit() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let maximum = hard_limit();
    // An unlimited number may be more than the system supports. Then the soft limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Other systems have no such limit.
#[cfg(not(unix))]
fn raise_soft_limit() {}

/// The limit that applies; `None` if there is none.
pub(crate) fn soft_limit() -> Option<u64> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let limit = None;
    limit
}

/// The hard limit, to which the gateway raises its own; `None` if there is none.
pub(crate) fn hard_limit() -> Option<u64> {
    #[cfg(unix)]
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    #[cfg(not(unix))]
    let limit = None;
    limit
}

/// The descriptors that the limits may need: one per public connection, one per request that is forwarded to
/// an instance, and the idle connections.
pub(crate) fn needed(limits: &Limits) -> u64 {
    let needed = limits
        .connections
        .saturating_add(evictions_max(limits.connections))
        .saturating_add(limits.in_flight)
        .saturating_add(idle_connections_max())
        .saturating_add(OTHERS);
    u64::try_from(needed).unwrap_or(u64::MAX)
}

/// The evicted connections of the public listener that may be open still while `limit` others are.
pub(crate) fn evictions_max(limit: usize) -> usize {
    (limit / 8).max(64)
}

/// The idle connections to the fleet that the gateway keeps at most: an eighth of the descriptors, since they
/// are the least useful ones.
pub(crate) fn idle_connections_max() -> usize {
    let descriptors = soft_limit().and_then(|limit| usize::try_from(limit).ok());
    descriptors.map_or(IDLE_CONNECTIONS_MAX, |descriptors| (descriptors / 8).min(IDLE_CONNECTIONS_MAX))
}

/// Some 100 MiB: a connection takes 25 KiB, one with TLS 55. Most end after 1.5 s, so it takes 2,700 requests
/// a second, each to another instance, to reach it.
const IDLE_CONNECTIONS_MAX: usize = 4096;
/// Probes, key issuers, Graph, the admin listener, files, and what the runtimes of the threads need.
const OTHERS: usize = 512;
