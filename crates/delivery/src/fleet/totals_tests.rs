//! The sums of counters while instances leave and restart.

use super::{tests::*, *};
use crate::{InstanceState, cause::Cause, instance::InstanceCounts};

/// Applies snapshots one after the other, and checks that no sum falls.
struct Totals {
    fleet: Fleet,
    last: InstanceCounts,
    now: Instant,
}

impl Totals {
    fn new(members: &[Member]) -> Self {
        let now = Instant::now();
        let fleet = Fleet::new(members.to_vec(), true, &settings(false), None, now);
        Self { fleet, last: InstanceCounts::default(), now }
    }

    /// Applies the next snapshot, and returns the one before.
    fn apply(&mut self, members: &[Member]) -> Fleet {
        let next = Fleet::new(members.to_vec(), true, &settings(false), Some(&self.fleet), self.now);
        self.read();
        let before = std::mem::replace(&mut self.fleet, next);
        self.read();
        before
    }

    #[track_caller]
    fn read(&mut self) -> &InstanceCounts {
        let counts = self.fleet.instance_totals();
        let numbers = |counts: &InstanceCounts| {
            let InstanceCounts { placed, callbacks, attempts, missed_probes, failures: _, entered: _ } =
                counts;
            [*placed, *callbacks, *attempts, *missed_probes]
        };
        assert!(numbers(&counts).iter().zip(numbers(&self.last)).all(|(now, before)| *now >= before));
        for (label, before) in &self.last.failures {
            assert!(counts.failures.iter().any(|(one, now)| one == label && now >= before), "{label}");
        }
        for (state, before) in &self.last.entered {
            assert!(counts.entered.iter().any(|(one, now)| one == state && now >= before), "{state}");
        }
        self.last = counts;
        &self.last
    }

    fn tracker(&self, name: &str) -> Arc<crate::instance::Tracker> {
        Arc::clone(&self.fleet.instance(name).unwrap().tracker)
    }
}

#[test]
fn the_sums_keep_the_counters_of_instances_that_leave_or_restart() {
    let mut totals = Totals::new(&[member("bot-0", "1"), member("bot-1", "1")]);
    for name in ["bot-0", "bot-1"] {
        totals.tracker(name).count_attempt();
        totals.tracker(name).count_callback();
    }
    totals.tracker("bot-0").probe_missed(Cause::Timeout, totals.now, totals.now);
    totals.tracker("bot-0").count_failure(Cause::Timeout, Duration::ZERO);

    // bot-0 restarts, bot-1 leaves. A request to the old bot-0 is still in flight.
    let of_request = totals.tracker("bot-0");
    drop(totals.apply(&[member("bot-0", "2")]));
    assert_eq!((totals.read().attempts, totals.read().callbacks), (2, 2));
    totals.tracker("bot-0").count_attempt();
    of_request.count_callback();
    assert_eq!((totals.read().attempts, totals.read().callbacks), (3, 3));

    // The request outlives some snapshots.
    for incarnation in ["3", "4", "5"] {
        drop(totals.apply(&[member("bot-0", incarnation)]));
        of_request.count_callback();
        totals.tracker("bot-0").count_attempt();
    }
    drop(of_request);
    for incarnation in ["6", "7", "8"] {
        drop(totals.apply(&[member("bot-0", incarnation)]));
    }
    let counts = totals.read();
    assert_eq!((counts.attempts, counts.callbacks, counts.missed_probes), (6, 6, 1));
    assert_eq!(counts.failures, [("timeout", 1)]);
    assert_eq!(counts.entered.iter().find(|(state, _)| *state == InstanceState::Gone).unwrap().1, 8);
}

/// The counters of instances that left are not kept one by one, except the few that are shown.
#[test]
fn many_departures_leave_one_sum() {
    let mut totals = Totals::new(&[member("bot-0", "0")]);
    for at in 1..=300 {
        totals.tracker(&format!("bot-{}", at - 1)).count_attempt();
        drop(totals.apply(&[member(&format!("bot-{at}"), "0")]));
    }
    assert_eq!(totals.read().attempts, 300);
    assert_eq!(totals.fleet.departed.open(), 101);
}
