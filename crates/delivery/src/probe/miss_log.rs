//! The missed probes of one instance in the log: one event for each change of the cause.

use switchboard_routing::Name;

use crate::cause::Cause;

/// The cause that was logged last. While probes are missed for it, they are logged at `debug`.
#[derive(Debug, Default)]
pub(super) struct MissLog {
    logged: Option<Cause>,
    hits: u32,
}

impl MissLog {
    pub(super) fn missed(&mut self, instance: &Name, cause: Cause) {
        let reason = cause.label();
        if self.is_news(cause) {
            tracing::info!(%instance, reason, "instance missed a probe");
        } else {
            tracing::debug!(%instance, reason, "instance missed a probe");
        }
    }

    /// Notes a probe with a report.
    pub(super) fn hit(&mut self) {
        self.hits = self.hits.saturating_add(1);
        if self.hits >= HITS {
            self.logged = None;
        }
    }

    fn is_news(&mut self, cause: Cause) -> bool {
        self.hits = 0;
        self.logged.replace(cause) != Some(cause)
    }
}

/// The reports in a row after which the next miss is news, whatever its cause. An instance that misses every
/// other probe is logged once.
const HITS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_news_when_it_changes_and_after_ten_reports() {
        let mut log = MissLog::default();
        for (hits, cause, is_news) in [
            (0, Cause::Refused, true),
            (0, Cause::Refused, false),
            (0, Cause::TlsExpired, true),
            (0, Cause::TlsExpired, false),
            (1, Cause::TlsExpired, false),
            (9, Cause::TlsExpired, false),
            (10, Cause::TlsExpired, true),
            (1, Cause::Refused, true),
        ] {
            (0..hits).for_each(|_| log.hit());
            assert_eq!(log.is_news(cause), is_news, "{hits} {cause}");
        }
    }
}
