//! The series of the instances: one for each instance, or sums over all of them.

use std::{collections::BTreeMap, fmt};

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use switchboard_delivery::{InstanceState, InstanceStatus};

use crate::metrics::families::Families;

/// The instances, and whether each has series of its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstanceSeries<'s> {
    pub(super) instances: &'s [InstanceStatus],
    /// If false, the series are sums over all instances, without the label `instance`.
    pub(super) is_per_instance: bool,
}

impl<'s> InstanceSeries<'s> {
    pub(super) fn encode(&self, families: &mut Families<'_>) -> fmt::Result {
        families.gauges(
            "instance_state",
            "1 for the current state of an instance, 0 for the others",
            self.series_by("state", |status| {
                InstanceState::ALL.map(|state| (state.label(), u64::from(state == status.state)))
            }),
        )?;
        families.counters(
            "instance_transitions",
            "Changes of the state of an instance, by new state",
            self.series_by("state", |status| {
                status.entered.iter().map(|(state, times)| (state.label(), *times))
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
        self.counters(families, "placements", "New calls that an instance accepted", |status| {
            Some(status.placed)
        })?;
        self.counters(families, "instance_callbacks", "Callbacks that an instance responded to", |status| {
            Some(status.callbacks)
        })?;
        self.counters(families, "attempts", "Attempts to forward a request to an instance", |status| {
            Some(status.attempts)
        })?;
        families.counters(
            "attempt_failures",
            "Failed attempts by instance and reason; a new call goes to the next candidate",
            self.series_by("reason", |status| status.failures.iter().copied()),
        )?;
        self.counters(
            families,
            "probes_missed",
            "Probes without a valid response from an instance",
            |status| Some(status.missed_probes),
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
        match self.numbers(number) {
            Numbers::Each(series) => families.gauges(name, help, series),
            Numbers::Sum(sum) => families.gauge(name, help, &sum),
            Numbers::None => Ok(()),
        }
    }

    /// Writes a counter.
    fn counters(
        &self,
        families: &mut Families<'_>,
        name: &str,
        help: &str,
        number: impl Fn(&'s InstanceStatus) -> Option<u64>,
    ) -> fmt::Result {
        match self.numbers(number) {
            Numbers::Each(series) => families.counters(name, help, series),
            Numbers::Sum(sum) => families.counter(name, help, sum),
            Numbers::None => Ok(()),
        }
    }

    fn numbers(&self, number: impl Fn(&'s InstanceStatus) -> Option<u64>) -> Numbers<'s> {
        let series = self.series(|status| number(status).map(|value| (None, value)));
        match series.as_slice() {
            _ if self.is_per_instance => Numbers::Each(series),
            [(_, sum)] => Numbers::Sum(*sum),
            _ => Numbers::None,
        }
    }

    /// The series of a number that has a further label.
    fn series_by<I>(
        &self,
        name: &'static str,
        numbers: impl Fn(&'s InstanceStatus) -> I,
    ) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (&'static str, u64)>,
    {
        self.series(|status| {
            numbers(status).into_iter().map(move |(label, value)| (Some((name, label)), value))
        })
    }

    fn series<I>(&self, numbers: impl Fn(&'s InstanceStatus) -> I) -> Vec<(Labels<'s>, u64)>
    where
        I: IntoIterator<Item = (OtherLabel, u64)>,
    {
        if self.is_per_instance {
            let of_one = |status: &'s InstanceStatus| {
                let instance = Some(status.name.as_str());
                numbers(status).into_iter().map(move |(other, value)| (Labels { instance, other }, value))
            };
            return self.instances.iter().flat_map(of_one).collect();
        }
        let mut sums = BTreeMap::<OtherLabel, u64>::new();
        for (other, value) in self.instances.iter().flat_map(&numbers) {
            let sum = sums.entry(other).or_default();
            *sum = sum.saturating_add(value);
        }
        sums.into_iter().map(|(other, sum)| (Labels { instance: None, other }, sum)).collect()
    }
}

/// The numbers of a family without further labels.
enum Numbers<'s> {
    Each(Vec<(Labels<'s>, u64)>),
    Sum(u64),
    /// No instance has a number.
    None,
}

/// The labels of one series.
#[derive(Clone, Copy, Debug)]
struct Labels<'s> {
    instance: Option<&'s str>,
    other: OtherLabel,
}

/// A label besides `instance`: its name and its value.
type OtherLabel = Option<(&'static str, &'static str)>;

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let instance = self.instance.map(|name| ("instance", name));
        for label in instance.into_iter().chain(self.other) {
            label.encode(encoder.encode_label())?;
        }
        Ok(())
    }
}
