//! The series of the instances: one for each instance, or sums over all of them.
//!
//! The label of an instance is `bot`. Prometheus has a label `instance` of its own, for the gateway.

use std::{collections::BTreeMap, fmt};

use switchboard_delivery::{InstanceCounts, InstanceState, InstanceStatus, attempt_failures};

use crate::metrics::families::Families;

/// The instances, and whether each has series of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstanceSeries<'s> {
    pub(super) instances: &'s [InstanceStatus],
    /// The counters of all instances since the start, with those of the instances that left. If they are
    /// given, no instance has series of its own: counters are these, gauges are sums over `instances`.
    pub(super) totals: Option<&'s InstanceCounts>,
}

impl<'s> InstanceSeries<'s> {
    pub(super) fn encode(&self, families: &mut Families<'_>) -> fmt::Result {
        let states = || InstanceState::ALL.map(InstanceState::label);
        families.gauges(
            "instance_state",
            "1 for the current state of an instance, 0 for the others",
            self.gauge_series(states().map(|state| Some(("state", state))), |status| {
                InstanceState::ALL
                    .map(|state| (Some(("state", state.label())), u64::from(state == status.state)))
            }),
        )?;
        families.counters(
            "instance_transitions",
            "Changes of the state of an instance, by new state",
            self.counter_series(states().map(|state| Some(("state", state))), |counts| {
                InstanceState::ALL.map(|state| {
                    let entered = counts.entered.iter().find(|(one, _)| *one == state);
                    (Some(("state", state.label())), entered.map_or(0, |(_, times)| *times))
                })
            }),
        )?;
        self.gauges(
            families,
            "instance_calls_expected",
            "Reported calls, plus calls placed since then, minus ended calls: the load that placement uses",
            |status| status.calls_expected.map(u64::from),
        )?;
        self.gauges(
            families,
            "instance_calls_counted",
            "Calls that this gateway placed at an instance and that have not ended",
            |status| u64::try_from(status.calls_counted).ok(),
        )?;
        self.gauges(families, "instance_calls", "Calls that an instance reports", |status| {
            status.calls.map(u64::from)
        })?;
        self.gauges(families, "instance_capacity", "Calls that an instance reports it can hold", |status| {
            status.capacity.map(u64::from)
        })?;
        self.gauges(
            families,
            "instance_requests_in_flight",
            "Requests in flight to an instance",
            |status| Some(status.in_flight),
        )?;
        self.counters(families, "placements", "New calls that an instance accepted", |counts| counts.placed)?;
        self.counters(families, "instance_callbacks", "Callbacks that an instance responded to", |counts| {
            counts.callbacks
        })?;
        self.counters(families, "attempts", "Attempts to forward a request to an instance", |counts| {
            counts.attempts
        })?;
        families.counters(
            "attempt_failures",
            "Failed attempts by instance and reason; a new call goes to the next candidate",
            // Not all reasons for each instance: they are many, and few occur.
            self.counter_series(attempt_failures().map(|reason| Some(("reason", reason))), |counts| {
                counts.failures.iter().map(|(reason, count)| (Some(("reason", *reason)), *count))
            }),
        )?;
        self.counters(
            families,
            "probes_missed",
            "Probes without a valid response from an instance",
            |counts| counts.missed_probes,
        )
    }

    /// Writes a gauge. An instance that does not know its number has no series.
    fn gauges(
        &self,
        families: &mut Families<'_>,
        name: &str,
        help: &str,
        number: impl Fn(&'s InstanceStatus) -> Option<u64>,
    ) -> fmt::Result {
        families.gauges(name, help, self.gauge_series([], |status| Some((None, number(status)?))))
    }

    /// Writes a counter.
    fn counters(
        &self,
        families: &mut Families<'_>,
        name: &str,
        help: &str,
        number: impl Fn(&'s InstanceCounts) -> u64,
    ) -> fmt::Result {
        families.counters(name, help, self.counter_series([None], |counts| Some((None, number(counts)))))
    }

    /// The series of a gauge: of each instance, or the sums. The sums have all the `known` labels.
    fn gauge_series<I>(
        &self,
        known: impl IntoIterator<Item = OtherLabel>,
        numbers: impl Fn(&'s InstanceStatus) -> I,
    ) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (OtherLabel, u64)>,
    {
        match self.totals {
            Some(_) => sums(known, self.instances.iter().flat_map(numbers)),
            None => self.of_each(numbers),
        }
    }

    /// The series of a counter: of each instance, or the totals. The totals have all the `known` labels.
    fn counter_series<I>(
        &self,
        known: impl IntoIterator<Item = OtherLabel>,
        numbers: impl Fn(&'s InstanceCounts) -> I,
    ) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (OtherLabel, u64)>,
    {
        match self.totals {
            Some(totals) => sums(known, numbers(totals)),
            None => self.of_each(|status| numbers(&status.counts)),
        }
    }

    fn of_each<I>(&self, numbers: impl Fn(&'s InstanceStatus) -> I) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (OtherLabel, u64)>,
    {
        let of_one = |status: &'s InstanceStatus| {
            let bot = ("bot", status.name.as_str());
            let labels = move |other: OtherLabel| [bot].into_iter().chain(other).collect();
            numbers(status).into_iter().map(move |(other, value)| (labels(other), value))
        };
        self.instances.iter().flat_map(of_one).collect()
    }
}

/// The sums of `values` by label, 0 for a `known` label without values.
fn sums<'s>(
    known: impl IntoIterator<Item = OtherLabel>,
    values: impl IntoIterator<Item = (OtherLabel, u64)>,
) -> Vec<(Labels<'s>, u64)> {
    let mut sums: BTreeMap<OtherLabel, u64> = known.into_iter().map(|label| (label, 0)).collect();
    for (other, value) in values {
        let sum = sums.entry(other).or_default();
        *sum = sum.saturating_add(value);
    }
    sums.into_iter().map(|(other, sum)| (other.into_iter().collect(), sum)).collect()
}

/// The labels of one series.
type Labels<'s> = Vec<(&'s str, &'s str)>;

/// A label besides `bot`: its name and its value.
type OtherLabel = Option<(&'static str, &'static str)>;
