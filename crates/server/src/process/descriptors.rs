//! The process's limit on file descriptors.
//!
//! Shells, service managers and container runtimes start a process with a soft limit of about 1024, because
//! programs that use `select` cannot handle more. Other programs have to raise it themselves.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Raises the soft limit to the hard limit, and warns if that is less than the configured limits may need.
pub(crate) fn raise_limit(limits: &Limits) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // An unlimited number may be more than the system supports. Then the soft limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let descriptors = getrlimit(Resource::Nofile).current;
    // One per public connection, and one per request that is forwarded to an instance.
    let needed = u64::try_from(limits.connections.saturating_add(limits.in_flight)).unwrap_or(u64::MAX);
    if descriptors.is_some_and(|descriptors| descriptors < needed) {
        tracing::warn!(
            descriptors,
            needed,
            "file descriptor limit is lower than limits.connections and limits.in_flight may need"
        );
    }
}
