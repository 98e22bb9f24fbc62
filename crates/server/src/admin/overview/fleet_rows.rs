//! The instances as the page shows them, and what changed in them since the last frame.

use std::collections::{BTreeMap, btree_map::Entry};

use serde::Serialize;
use switchboard_delivery::{InstanceCounts, InstanceState, InstanceStatus};
use switchboard_routing::Name;

use super::moment::{FrameTime, Moment};
use crate::admin::instance_json::whole_ms;

/// The rows of the last frame, by name.
#[derive(Debug, Default)]
pub(super) struct FleetRows {
    rows: BTreeMap<Name, FleetRow>,
}

impl FleetRows {
    /// Replaces the rows. Returns what changed, or `None` if nothing did.
    pub(super) fn update(&mut self, instances: &[InstanceStatus], now: FrameTime) -> Option<FleetEvent<'_>> {
        let rows: BTreeMap<_, _> = one_of_each_name(instances)
            .into_iter()
            .map(|(name, status)| (name.clone(), FleetRow::new(status, self.rows.get(name), now)))
            .collect();
        let last = std::mem::replace(&mut self.rows, rows);
        let changed: Vec<_> = self
            .rows
            .iter()
            .filter(|(name, row)| last.get(*name) != Some(*row))
            .map(|(_, row)| row)
            .collect();
        let removed: Vec<_> = last
            .into_keys()
            .filter(|name| !self.rows.contains_key(name))
            .map(|name| name.to_string())
            .collect();
        (!changed.is_empty() || !removed.is_empty()).then_some(FleetEvent {
            full: false,
            instances: changed,
            removed,
        })
    }

    /// Returns all rows.
    pub(super) fn full(&self) -> FleetEvent<'_> {
        FleetEvent { full: true, instances: self.rows.values().collect(), removed: Vec::new() }
    }

    /// Returns the sums over the instances that are not gone.
    pub(super) fn sums(&self) -> FleetSums {
        let mut sums = FleetSums { capacity: Some(0), ..FleetSums::default() };
        for row in self.rows.values().filter(|row| row.state != InstanceState::Gone.label()) {
            sums.total += 1;
            *sums.by_state.entry(row.state).or_default() += 1;
            sums.calls += row.calls();
            sums.capacity = sums.capacity.zip(row.capacity).map(|(sum, capacity)| sum + u64::from(capacity));
            let since = row.since.unix_ms;
            sums.last_change = sums.last_change.max(Some(since));
            if FAILING.iter().any(|state| state.label() == row.state) {
                sums.failing_since = Some(sums.failing_since.map_or(since, |first| first.min(since)));
            }
        }
        sums.capacity = sums.capacity.filter(|capacity| *capacity > 0);
        sums
    }
}

/// One status for each name. A successor hides the incarnation that it replaced.
fn one_of_each_name(instances: &[InstanceStatus]) -> BTreeMap<&Name, &InstanceStatus> {
    let mut chosen = BTreeMap::new();
    for status in instances {
        match chosen.entry(&status.name) {
            Entry::Vacant(entry) => {
                entry.insert(status);
            }
            Entry::Occupied(mut entry) if is_successor(status, entry.get()) => {
                entry.insert(status);
            }
            Entry::Occupied(_) => {}
        }
    }
    chosen
}

fn is_successor(status: &InstanceStatus, other: &InstanceStatus) -> bool {
    let is_gone = |status: &InstanceStatus| status.state == InstanceState::Gone;
    match (is_gone(status), is_gone(other)) {
        (false, true) => true,
        (true, true) => status.since < other.since,
        (_, false) => false,
    }
}

/// The data of the event `fleet`.
#[derive(Debug, Serialize)]
pub(super) struct FleetEvent<'a> {
    /// True if `instances` are all that there are.
    full: bool,
    instances: Vec<&'a FleetRow>,
    /// The names of the instances that left.
    removed: Vec<String>,
}

/// One instance. Unknown values are null, and times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct FleetRow {
    name: String,
    incarnation: String,
    state: &'static str,
    reason: &'static str,
    since: Moment,
    calls: Option<u32>,
    calls_expected: Option<u32>,
    calls_counted: usize,
    capacity: Option<u32>,
    in_flight: u64,
    placed: u64,
    callbacks: u64,
    attempts: u64,
    failures: BTreeMap<&'static str, u64>,
    missed_probes: u64,
    last_miss: Option<&'static str>,
    /// True while an operator drains it.
    drained: bool,
}

impl FleetRow {
    fn new(status: &InstanceStatus, last: Option<&Self>, now: FrameTime) -> Self {
        // Without `..`: a new member of the status must be shown, or refused here.
        let InstanceStatus {
            name,
            incarnation,
            state,
            is_drained,
            since,
            reason,
            calls,
            calls_expected,
            calls_counted,
            capacity,
            in_flight,
            counts,
            last_miss,
            last_probe: _,   // it changes with each probe
            restored_age: _, // the reason says it
        } = status;
        let InstanceCounts { placed, callbacks, attempts, failures, missed_probes, entered: _ } = counts;
        let last = last.filter(|last| last.state == state.label());
        Self {
            name: name.to_string(),
            incarnation: incarnation.to_string(),
            state: state.label(),
            reason,
            since: Moment::before(now, whole_ms(*since), last.map(|last| last.since)),
            calls: *calls,
            calls_expected: *calls_expected,
            calls_counted: *calls_counted,
            capacity: *capacity,
            in_flight: *in_flight,
            placed: *placed,
            callbacks: *callbacks,
            attempts: *attempts,
            failures: failures.iter().copied().filter(|(_, times)| *times > 0).collect(),
            missed_probes: *missed_probes,
            last_miss: *last_miss,
            drained: *is_drained,
        }
    }

    /// The calls as placement expects them, else the counted ones of this gateway.
    fn calls(&self) -> u64 {
        let expected = self.calls_expected.or(self.calls).map(u64::from);
        expected.unwrap_or_else(|| u64::try_from(self.calls_counted).unwrap_or(u64::MAX))
    }
}

/// The sums over the instances that are not gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FleetSums {
    pub(super) total: usize,
    /// The number of instances in each state that occurs.
    pub(super) by_state: BTreeMap<&'static str, usize>,
    pub(super) calls: u64,
    /// `None` unless each instance reports it.
    pub(super) capacity: Option<u64>,
    /// The time of the last change of a state.
    pub(super) last_change: Option<u64>,
    /// The time since which an instance fails.
    pub(super) failing_since: Option<u64>,
}

impl FleetSums {
    /// Returns the number of instances in a state.
    pub(super) fn of(&self, state: InstanceState) -> usize {
        self.by_state.get(state.label()).copied().unwrap_or_default()
    }

    /// Returns the number of instances that fail.
    pub(super) fn failing(&self) -> usize {
        FAILING.into_iter().map(|state| self.of(state)).sum()
    }
}

/// The states that an operator must look at.
const FAILING: [InstanceState; 2] = [InstanceState::Unreachable, InstanceState::Ejected];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::tests::instance;

    const NOW: u64 = 1_000_000;

    /// The time of a frame so long after the first one.
    fn after(elapsed_ms: u64) -> FrameTime {
        FrameTime { unix_ms: NOW + elapsed_ms, elapsed_ms }
    }

    fn named(name: &str, state: InstanceState, since_s: u64) -> InstanceStatus {
        InstanceStatus { state, since: Duration::from_secs(since_s), ..instance(name) }
    }

    #[track_caller]
    fn changes(
        rows: &mut FleetRows,
        instances: &[InstanceStatus],
        elapsed_ms: u64,
        expected: Option<(&[&str], &[&str])>,
    ) {
        let event =
            rows.update(instances, after(elapsed_ms)).map(|event| serde_json::to_value(event).unwrap());
        let names = |list: &Value, key: Option<&str>| -> Vec<String> {
            let name = |one: &Value| key.map_or(one, |key| &one[key]).as_str().unwrap().to_owned();
            list.as_array().unwrap().iter().map(name).collect()
        };
        let found =
            event.map(|event| (names(&event["instances"], Some("name")), names(&event["removed"], None)));
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(found, expected.map(|(changed, removed)| (owned(changed), owned(removed))));
    }

    #[test]
    fn only_changed_rows_are_sent() {
        use InstanceState::{Gone, Ready, Unreachable};
        let mut rows = FleetRows::default();
        changes(&mut rows, &[], 0, None);
        let both = [named("bot-0", Ready, 9), named("bot-1", Ready, 9)];
        changes(&mut rows, &both, 0, Some((&["bot-0", "bot-1"], &[])));
        // A second later, read 3 ms later.
        let both = [named("bot-0", Ready, 10), named("bot-1", Ready, 10)];
        changes(&mut rows, &both, 1003, None);
        changes(&mut rows, &[both[0].clone(), named("bot-1", Unreachable, 0)], 1000, Some((&["bot-1"], &[])));
        changes(&mut rows, &both[..1], 1000, Some((&[], &["bot-1"])));
        // The successor of an instance that is gone has its row.
        let gone = named("bot-0", Gone, 3);
        for instances in [[gone.clone(), both[0].clone()], [both[0].clone(), gone.clone()]] {
            changes(&mut rows, &instances, 1000, None);
        }
        changes(&mut rows, &[named("bot-0", Gone, 9), gone], 0, Some((&["bot-0"], &[])));
        assert_eq!(rows.rows.values().next().unwrap().since.unix_ms, NOW - 3000);
    }

    #[test]
    fn a_row_has_no_member_that_changes_by_itself() {
        let mut rows = FleetRows::default();
        rows.update(&[instance("bot-0")], after(0));
        let text = serde_json::to_string_pretty(&rows.full()).unwrap();
        expect![[r#"
            {
              "full": true,
              "instances": [
                {
                  "name": "bot-0",
                  "incarnation": "0",
                  "state": "draining",
                  "reason": "an operator drains it",
                  "since": 997000,
                  "calls": 4,
                  "calls_expected": 5,
                  "calls_counted": 2,
                  "capacity": null,
                  "in_flight": 1,
                  "placed": 10,
                  "callbacks": 11,
                  "attempts": 12,
                  "failures": {
                    "connect": 2,
                    "timeout": 1
                  },
                  "missed_probes": 6,
                  "last_miss": "timeout",
                  "drained": true
                }
              ],
              "removed": []
            }"#]]
        .assert_eq(&text);
    }

    #[test]
    fn sums_leave_out_instances_that_are_gone() {
        use InstanceState::{Ejected, Gone, Ready};
        let with = |name, state, calls_expected, capacity| InstanceStatus {
            calls_expected,
            capacity,
            ..named(name, state, 1)
        };
        let mut rows = FleetRows::default();
        rows.update(
            &[
                with("bot-0", Ready, Some(3), Some(10)),
                InstanceStatus { since: Duration::from_secs(8), ..with("bot-1", Ejected, Some(4), Some(20)) },
                with("bot-2", Gone, Some(50), None),
            ],
            after(0),
        );
        let sums = rows.sums();
        assert_eq!((sums.total, sums.calls, sums.capacity, sums.failing()), (2, 7, Some(30), 1));
        assert_eq!((sums.last_change, sums.failing_since), (Some(NOW - 1000), Some(NOW - 8000)));
        assert_eq!(json!(sums.by_state), json!({"ready": 1, "ejected": 1}));

        // Without a report the counted calls stand in, and the capacity is unknown.
        let unreported = InstanceStatus { calls: None, ..with("bot-0", Ready, None, None) };
        rows.update(&[unreported, with("bot-1", Ready, Some(1), Some(5))], after(0));
        let sums = rows.sums();
        assert_eq!((sums.calls, sums.capacity), (3, None));
        assert_eq!(FleetRows::default().sums().capacity, None);
    }
}
