//! The log lines about slots that are all in use. A flood of connections must not fill the log as well.

use std::time::Duration;

use tokio::time::Instant;

/// The lines of one listener.
#[derive(Debug)]
pub(super) struct SlotLog {
    listener: &'static str,
    last_eviction: Option<Instant>,
    last_line: Option<Instant>,
    /// Connections refused since the last line about them.
    refused: u64,
}

impl SlotLog {
    pub(super) fn new(listener: &'static str) -> Self {
        Self { listener, last_eviction: None, last_line: None, refused: 0 }
    }

    /// A connection was evicted for another one. An episode of evictions has one line, however long it is.
    pub(super) fn evicted(&mut self, now: Instant) {
        if has_passed(PAUSE, self.last_eviction.replace(now), now) {
            tracing::warn!(
                listener = self.listener,
                "evicting connections without an authenticated sender: all slots are in use"
            );
        }
    }

    /// A connection was refused. At most one line a minute has the number since the last one.
    pub(super) fn refused(&mut self, reason: &'static str, now: Instant) {
        self.refused += 1;
        if has_passed(PAUSE, self.last_line, now) {
            self.last_line = Some(now);
            let connections = std::mem::take(&mut self.refused);
            tracing::warn!(listener = self.listener, reason, connections, "refusing connections");
        }
    }
}

fn has_passed(pause: Duration, since: Option<Instant>, now: Instant) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) >= pause)
}

/// The time without evictions that ends an episode, and the time between two lines about refusals.
const PAUSE: Duration = Duration::from_secs(60);
