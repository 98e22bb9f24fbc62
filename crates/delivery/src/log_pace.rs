//! The pace at which an error that lasts is logged.

use std::{borrow::Cow, time::Duration};

use tokio::time::Instant;

/// Logs each kind of error when it starts, and once per [`LOG_AGAIN`] while it lasts.
#[derive(Debug, Default)]
pub(crate) struct LogPace {
    /// The kinds that were logged, and when.
    logged: Vec<(Cow<'static, str>, Instant)>,
}

impl LogPace {
    /// Returns true if an error of this kind is to be logged now.
    pub(crate) fn is_due(&mut self, kind: impl Into<Cow<'static, str>>, now: Instant) -> bool {
        let kind = kind.into();
        match self.logged.iter_mut().find(|(logged, _)| *logged == kind) {
            Some((_, at)) if now.saturating_duration_since(*at) < LOG_AGAIN => false,
            Some((_, at)) => {
                *at = now;
                true
            }
            None => {
                // A writer of ever new mistakes must not fill the memory.
                if self.logged.len() >= KINDS_MAX {
                    self.logged.remove(0);
                }
                self.logged.push((kind, now));
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

/// More kinds than any source but a file has.
const KINDS_MAX: usize = 32;

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
