//! The log lines about slots that are all in use. A flood of connections must not fill the log as well.

use std::time::Duration;

use tokio::time::Instant;

use crate::process::connection::counted_line::CountedLine;

/// The lines of one listener.
#[derive(Debug)]
pub(super) struct SlotLog {
    listener: &'static str,
    last_eviction: Option<Instant>,
    refused: CountedLine,
}

impl SlotLog {
    pub(super) fn new(listener: &'static str) -> Self {
        Self { listener, last_eviction: None, refused: CountedLine::default() }
    }

    /// A connection was evicted for another one. An episode of evictions has one line, however long it is.
    pub(super) fn evicted(&mut self, now: Instant) {
        let last = self.last_eviction.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE) {
            tracing::warn!(listener = self.listener, "evicting idle connections: all slots are in use");
        }
    }

    /// A connection was refused. At most one line a minute has the number since the last one.
    pub(super) fn refused(&mut self, reason: &'static str, now: Instant) {
        if let Some(connections) = self.refused.count(now) {
            tracing::warn!(listener = self.listener, reason, connections, "refusing connections");
        }
    }
}

/// The time without evictions that ends an episode.
const PAUSE: Duration = Duration::from_secs(60);
