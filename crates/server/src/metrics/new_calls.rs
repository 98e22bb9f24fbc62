//! The numbers of new calls, by app.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use switchboard_delivery::Histogram;
use uuid::Uuid;

use super::series::{OutcomeCounters, index_of};
use crate::request::outcome::Outcome;

/// The outcomes of new calls by app, and the time to answer them.
#[derive(Debug, Default)]
pub(crate) struct NewCallMetrics {
    /// The apps for which calls came. None is ever removed: a reload may bring it back.
    by_app: ArcSwap<Vec<(Uuid, Arc<OutcomeCounters>)>>,
    pub(super) seconds: Histogram,
    /// Of calls for policy-based recording, for which the platform waits less long.
    pub(super) recorded_seconds: Histogram,
}

impl NewCallMetrics {
    /// Records that a request with `count` new calls for `app` ended `duration` after its arrival.
    /// `is_recorded`: they are for policy-based recording.
    pub(crate) fn record(
        &self,
        app: Uuid,
        outcome: Outcome,
        count: u64,
        is_recorded: bool,
        duration: Duration,
    ) {
        if find(&self.by_app.load(), app).is_none() {
            self.by_app.rcu(|apps| {
                let mut apps = Vec::clone(apps);
                if find(&apps, app).is_none() {
                    apps.push((app, Arc::default()));
                }
                apps
            });
        }
        if let Some(counters) = find(&self.by_app.load(), app) {
            counters.add(index_of(outcome), count);
        }
        // The time of a call that is redirected or refused says nothing about the instances.
        if outcome.is_done() {
            (if is_recorded { &self.recorded_seconds } else { &self.seconds }).observe(duration);
        }
    }

    /// Returns the counts of these apps, and of others for which calls came, by outcome.
    pub(super) fn read(&self, apps: &[Uuid]) -> Vec<(Uuid, [u64; Outcome::ALL.len()])> {
        let counted = self.by_app.load();
        let none = |app: &&Uuid| find(&counted, **app).is_none();
        let none = apps.iter().filter(none).map(|app| (*app, OutcomeCounters::default().read()));
        counted.iter().map(|(app, counters)| (*app, counters.read())).chain(none).collect()
    }
}

fn find(apps: &[(Uuid, Arc<OutcomeCounters>)], app: Uuid) -> Option<&OutcomeCounters> {
    apps.iter().find(|(one, _)| *one == app).map(|(_, counters)| &**counters)
}
