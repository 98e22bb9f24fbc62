//! The commands that the process receives while it serves.

/// A command to a serving process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessCommand {
    /// Read the configuration again (SIGHUP).
    Reload,
    /// Drain and stop (SIGTERM, SIGINT). A second one skips the delay for the balancer, a third one the
    /// deadline.
    Drain,
}
