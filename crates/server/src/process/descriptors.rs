//! File descriptors: as many as the process may have.
//!
//! Shells, service managers and container runtimes start a process with a soft limit of 1024 or so, for the sake of programs
//! that use `select`, and leave it to the others to raise it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Limits;

/// Raises the soft limit to the hard one, and says so where that is less than the limits of the configuration may need.
pub(crate) fn provide(limits: &Limits) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // An unlimited number may be more than the system has; then the soft limit stays as it is.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let descriptors = getrlimit(Resource::Nofile).current;
    // One for each connection of the platform's, one for each request on its way to an instance.
    let needed = u64::try_from(limits.connections.saturating_add(limits.in_flight)).unwrap_or(u64::MAX);
    if descriptors.is_some_and(|descriptors| descriptors < needed) {
        tracing::warn!(
            descriptors,
            needed,
            "fewer file descriptors than limits.connections and limits.in_flight may need"
        );
    }
}
