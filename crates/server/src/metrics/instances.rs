//! The series of the instances: one for each instance, or sums over all of them.
//!
//! The label of an instance is `bot`. Prometheus has a label `instance` of its own, for the gateway.

use std::{collections::BTreeMap, fmt};

use switchboard_delivery::{InstanceState, InstanceStatus, attempt_failures};

use crate::metrics::families::Families;

/// The instances, and whether each has series of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstanceSeries<'s> {
    pub(super) instances: &'s [InstanceStatus],
    /// If false, the series are sums over all instances, without the label `bot`.
    pub(super) is_per_instance: bool,
}

impl<'s> InstanceSeries<'s> {
    pub(super) fn encode(&self, families: &mut Families<'_>) -> fmt::Result {
        let states = || InstanceState::ALL.map(InstanceState::label).into_iter();
        families.gauges(
            "instance_state",
            "1 for the current state of an instance, 0 for the others",
            self.series_by("state", states(), |status| {
                InstanceState::ALL.map(|state| (state.label(), u64::from(state == status.state)))
            }),
        )?;
        families.counters(
            "instance_transitions",
            "Changes of the state of an instance, by new state",
            self.series_by("state", states(), |status| {
                InstanceState::ALL.map(|state| {
                    let entered = status.entered.iter().find(|(one, _)| *one == state);
                    (state.label(), entered.map_or(0, |(_, times)| *times))
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
        self.counters(families, "placements", "New calls that an instance accepted", |status| status.placed)?;
        self.counters(families, "instance_callbacks", "Callbacks that an instance responded to", |status| {
            status.callbacks
        })?;
        self.counters(families, "attempts", "Attempts to forward a request to an instance", |status| {
            status.attempts
        })?;
        families.counters(
            "attempt_failures",
            "Failed attempts by instance and reason; a new call goes to the next candidate",
            // Not all reasons for each instance: they are many, and few occur.
            self.series_by("reason", attempt_failures(), |status| status.failures.iter().copied()),
        )?;
        self.counters(
            families,
            "probes_missed",
            "Probes without a valid response from an instance",
            |status| status.missed_probes,
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
        families.gauges(name, help, self.series([], |status| Some((None, number(status)?))))
    }

    /// Writes a counter.
    fn counters(
        &self,
        families: &mut Families<'_>,
        name: &str,
        help: &str,
        number: impl Fn(&'s InstanceStatus) -> u64,
    ) -> fmt::Result {
        families.counters(name, help, self.series([None], |status| Some((None, number(status)))))
    }

    /// The series of a number that has a further label. The sums have all its values.
    fn series_by<I>(
        &self,
        name: &'static str,
        values: impl Iterator<Item = &'static str>,
        numbers: impl Fn(&'s InstanceStatus) -> I,
    ) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (&'static str, u64)>,
    {
        self.series(values.map(|value| Some((name, value))), |status| {
            numbers(status).into_iter().map(move |(label, value)| (Some((name, label)), value))
        })
    }

    fn series<I>(
        &self,
        known: impl IntoIterator<Item = OtherLabel>,
        numbers: impl Fn(&'s InstanceStatus) -> I,
    ) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (OtherLabel, u64)>,
    {
        if self.is_per_instance {
            let of_one = |status: &'s InstanceStatus| {
                let bot = ("bot", status.name.as_str());
                let labels = move |other: OtherLabel| [bot].into_iter().chain(other).collect();
                numbers(status).into_iter().map(move |(other, value)| (labels(other), value))
            };
            return self.instances.iter().flat_map(of_one).collect();
        }
        let mut sums: BTreeMap<OtherLabel, u64> = known.into_iter().map(|label| (label, 0)).collect();
        for (other, value) in self.instances.iter().flat_map(&numbers) {
            let sum = sums.entry(other).or_default();
            *sum = sum.saturating_add(value);
        }
        sums.into_iter().map(|(other, sum)| (other.into_iter().collect(), sum)).collect()
    }
}

/// The labels of one series.
type Labels<'s> = Vec<(&'s str, &'s str)>;

/// A label besides `bot`: its name and its value.
type OtherLabel = Option<(&'static str, &'static str)>;
