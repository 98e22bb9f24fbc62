//! `CountedLine`: the pace of a log line about connections, of which a flood must not fill the log.

use std::time::Duration;

use tokio::time::Instant;

/// At most one line a minute, with the number of connections since the last one.
#[derive(Debug, Default)]
pub(super) struct CountedLine {
    last: Option<Instant>,
    connections: u64,
}

impl CountedLine {
    /// Counts a connection. Returns the number of connections for a line, if one is due.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.connections = self.connections.saturating_add(1);
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        is_due.then(|| {
            self.last = Some(now);
            std::mem::take(&mut self.connections)
        })
    }
}

/// The time between two lines.
const PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_minute_has_the_number_of_connections() {
        let mut line = CountedLine::default();
        let start = Instant::now();
        assert_eq!(line.count(start), Some(1));
        for _ in 0..10_000 {
            assert_eq!(line.count(start + PAUSE / 2), None);
        }
        assert_eq!(line.count(start + PAUSE), Some(10_001));
        assert_eq!(line.count(start + PAUSE), None);
    }
}
