//! The numbers that the page for operators shows.

use std::sync::atomic::Ordering::Relaxed;

use super::recorder::{Metrics, UNKNOWN};
use crate::request::outcome::Outcome;

/// The numbers at one moment. Counts start with the process.
#[derive(Debug)]
pub(crate) struct OverviewNumbers {
    /// Requests in flight.
    pub(crate) in_flight: usize,
    /// The requests of each outcome that occurred.
    pub(crate) outcomes: Vec<(&'static str, u64)>,
    /// The redirected new calls of each region.
    pub(crate) redirects: Vec<(Box<str>, u64)>,
    /// Refused tokens, by trust and reason. The trust is empty if the token names none.
    pub(crate) refusals: Vec<([Box<str>; 2], u64)>,
    /// Worker threads that run.
    pub(crate) workers: usize,
    /// Reloads that applied, and that were refused.
    pub(crate) reloads: (u64, u64),
    /// The end of the certificate's validity, in Unix milliseconds; `None` without a certificate.
    pub(crate) certificate_not_after: Option<u64>,
    /// Lines that the log dropped.
    pub(crate) log_dropped: u64,
    /// Panics in any thread.
    pub(crate) panics: u64,
}

impl Metrics {
    /// Returns the numbers that the page for operators shows.
    pub(crate) fn overview_numbers(&self) -> OverviewNumbers {
        let not_after = Some(self.certificate_not_after.load(Relaxed)).filter(|seconds| *seconds != UNKNOWN);
        OverviewNumbers {
            in_flight: self.in_flight.load(Relaxed),
            outcomes: Outcome::ALL
                .into_iter()
                .zip(self.requests.read())
                .filter(|(_, count)| *count > 0)
                .map(|(outcome, count)| (outcome.label(), count))
                .collect(),
            redirects: self.redirects.read([]).into_iter().map(|([region], count)| (region, count)).collect(),
            refusals: self.rejected.read([]).into_iter().collect(),
            workers: self.workers(),
            reloads: (self.reloads_ok.load(Relaxed), self.reloads_failed.load(Relaxed)),
            certificate_not_after: not_after
                .map(|seconds| u64::try_from(seconds).unwrap_or_default().saturating_mul(1000)),
            log_dropped: self.log.dropped(),
            panics: self.log.panics(),
        }
    }
}
