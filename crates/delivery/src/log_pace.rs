//! The pace at which an error that lasts is logged.

use std::time::Duration;

use tokio::time::Instant;

/// Logs each kind of error when it starts, and once per [`LOG_AGAIN`] while it lasts.
#[derive(Debug, Default)]
pub(crate) struct LogPace {
    /// The kinds that were logged, by label, and when.
    logged: Vec<(&'static str, Instant)>,
}

impl LogPace {
    /// Returns true if an error of this kind is to be logged now.
    pub(crate) fn is_due(&mut self, label: &'static str, now: Instant) -> bool {
        match self.logged.iter_mut().find(|(logged, _)| *logged == label) {
            Some((_, at)) if now.saturating_duration_since(*at) < LOG_AGAIN => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                self.logged.push((label, now));
                true
            }
        }
    }

    /// Notes that no error lasts. Returns true if one was logged.
    pub(crate) fn ended(&mut self) -> bool {
        !std::mem::take(&mut self.logged).is_empty()
    }
}

/// The interval at which an error that lasts is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_logged_when_it_starts_and_each_minute() {
        let mut pace = LogPace::default();
        assert!(!pace.ended());
        let start = Instant::now();
        for (second, label, is_due) in [
            (0, "unanswered", true),
            (1, "unanswered", false),
            (2, "empty", true),
            (3, "unanswered", false),
            (59, "unanswered", false),
            (60, "unanswered", true),
            (61, "unanswered", false),
            (62, "empty", true),
        ] {
            assert_eq!(pace.is_due(label, start + Duration::from_secs(second)), is_due, "{second} {label}");
        }
        assert!(pace.ended());
        assert!(!pace.ended());
        assert!(pace.is_due("empty", start + Duration::from_secs(63)));
    }
}
