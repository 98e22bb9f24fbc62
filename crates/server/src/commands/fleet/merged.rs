//! `MergedFleet`: the fleets of several gateways as one.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::Serialize;

use super::instance::FleetInstance;
use crate::{
    commands::gateways::{AskError, Gateways},
    telemetry::Chain,
};

/// The instances of the gateways that responded, and the errors of the others.
#[derive(Debug)]
pub(super) struct MergedFleet {
    /// In the order of the gateways; those with the same name stand together.
    pub(super) instances: Vec<MergedInstance>,
    /// The gateways that responded, by their index.
    pub(super) responded: Vec<usize>,
    /// The others.
    pub(super) errors: Vec<(usize, AskError)>,
}

/// An instance, as several gateways see it.
#[derive(Debug)]
pub(super) struct MergedInstance {
    /// The instance as if one gateway had served it: the latest report, and sums.
    pub(super) total: FleetInstance,
    /// The instance as each gateway sees it, by the index of the gateway.
    pub(super) at: Vec<(usize, FleetInstance)>,
}

impl MergedFleet {
    /// Merges the responses of `gateways`, in their order.
    pub(super) fn of(
        gateways: &Gateways,
        responses: Vec<Result<(Vec<FleetInstance>, Bytes), AskError>>,
    ) -> Self {
        let (mut fleets, mut errors) = (Vec::new(), Vec::new());
        for (index, response) in responses.into_iter().enumerate() {
            match response {
                Ok((fleet, _)) => fleets.push((index, fleet)),
                Err(error) => errors.push((index, error)),
            }
        }
        let responded = fleets.iter().map(|(index, _)| *index).collect();
        let names = |indices: &[usize]| gateways.names(indices.iter().copied());
        Self { instances: merge(fleets, &names), responded, errors }
    }

    /// The errors, one for each gateway that did not respond.
    pub(super) fn problems(&self) -> Vec<String> {
        self.errors.iter().map(|(_, error)| Chain(error).to_string()).collect()
    }

    /// The names of the gateways that did not respond.
    pub(super) fn failed(&self, gateways: &Gateways) -> String {
        gateways.names(self.errors.iter().map(|(index, _)| *index))
    }

    /// The instances as a table shows them. A name that is not unique has its incarnation.
    pub(super) fn rows(self) -> Vec<FleetInstance> {
        let mut rows: Vec<_> = self.instances.into_iter().map(|instance| instance.total).collect();
        let mut counts: HashMap<String, usize> = HashMap::new();
        for row in &rows {
            *counts.entry(row.name.clone()).or_default() += 1;
        }
        for row in &mut rows {
            if counts.get(&row.name).is_some_and(|count| *count > 1) {
                row.name = format!("{}/{}", row.name, row.incarnation);
            }
        }
        rows
    }

    /// The instances for programs: `docs/admin.md` documents it.
    pub(super) fn json(&self, gateways: &Gateways) -> String {
        let url = |index: usize| gateways.get(index).map_or("", |gateway| gateway.url());
        let asked = gateways.iter().enumerate().map(|(index, gateway)| AskedGateway {
            gateway: gateway.url(),
            error: self.errors.iter().find(|(of, _)| *of == index).map(|(_, error)| Chain(error).to_string()),
        });
        let instances = self.instances.iter().map(|MergedInstance { total, at }| {
            let at: Vec<_> = at.iter().map(|(index, instance)| SeenAt::new(url(*index), instance)).collect();
            let first = at.first().map(|seen| seen.state);
            let agreed = at.len() == self.responded.len() && at.iter().all(|seen| Some(seen.state) == first);
            MergedJson {
                name: &total.name,
                incarnation: &total.incarnation,
                state: first.filter(|_| agreed),
                calls: total.calls,
                capacity: total.capacity,
                calls_expected: total.calls_now(),
                calls_counted: total.calls_counted,
                placed: total.placed,
                callbacks: total.callbacks,
                in_flight: total.in_flight,
                failures: &total.failures,
                last_probe_ms: total.last_probe_ms,
                at,
            }
        });
        let document = FleetDocument { gateways: asked.collect(), instances: instances.collect() };
        serde_json::to_string_pretty(&document).unwrap_or_default()
    }
}

/// Merges the fleets of gateways, each with its index. `names` names gateways for people.
pub(super) fn merge(
    fleets: Vec<(usize, Vec<FleetInstance>)>,
    names: &dyn Fn(&[usize]) -> String,
) -> Vec<MergedInstance> {
    let responded: Vec<usize> = fleets.iter().map(|(index, _)| *index).collect();
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut order: HashMap<String, usize> = HashMap::new();
    let mut merged: Vec<Vec<(usize, FleetInstance)>> = Vec::new();
    for (index, fleet) in fleets {
        for instance in fleet {
            let next = merged.len();
            order.entry(instance.name.clone()).or_insert(next);
            let place = *places.entry((instance.name.clone(), instance.incarnation.clone())).or_insert(next);
            match merged.get_mut(place) {
                Some(at) => at.push((index, instance)),
                None => merged.push(vec![(index, instance)]),
            }
        }
    }
    merged.sort_by_key(|at| at.first().and_then(|(_, instance)| order.get(&instance.name)).copied());
    let total = |at: Vec<(usize, FleetInstance)>| {
        let missing: Vec<_> =
            responded.iter().copied().filter(|index| at.iter().all(|(of, _)| of != index)).collect();
        MergedInstance { total: total(&at, &missing, names), at }
    };
    merged.into_iter().map(total).collect()
}

/// An instance as if one gateway had served it.
fn total(
    at: &[(usize, FleetInstance)],
    missing: &[usize],
    names: &dyn Fn(&[usize]) -> String,
) -> FleetInstance {
    let instances = || at.iter().map(|(_, instance)| instance);
    // The latest report.
    let Some(latest) = instances().min_by_key(|one| (one.last_probe_ms.is_none(), one.last_probe_ms)) else {
        return FleetInstance::default();
    };
    let sum = |of: fn(&FleetInstance) -> u64| instances().map(of).fold(0, u64::saturating_add);
    // Each gateway adds the calls that it has placed since its report, and subtracts the ended ones.
    let change = |of: fn(u64, u64) -> u64| {
        let changes = instances().filter_map(|one| Some(of(one.calls_now()?, one.calls?)));
        changes.fold(0, u64::saturating_add)
    };
    let (begun, ended) = (
        change(|expected, reported| expected.saturating_sub(reported)),
        change(|expected, reported| reported.saturating_sub(expected)),
    );
    let mut failures = BTreeMap::new();
    for (reason, count) in instances().flat_map(|one| &one.failures) {
        let sum: &mut u64 = failures.entry(reason.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
    let (state, reason) = verdicts(at, missing, names);
    FleetInstance {
        name: latest.name.clone(),
        incarnation: latest.incarnation.clone(),
        state,
        since_ms: instances().map(|one| one.since_ms).min().unwrap_or_default(),
        reason,
        calls: latest.calls,
        calls_expected: latest.calls.map(|calls| calls.saturating_add(begun).saturating_sub(ended)),
        calls_counted: sum(|one| one.calls_counted),
        capacity: latest.capacity,
        placed: sum(|one| one.placed),
        callbacks: sum(|one| one.callbacks),
        in_flight: sum(|one| one.in_flight),
        failures,
        last_probe_ms: latest.last_probe_ms,
    }
}

/// The states of an instance and their reasons. If gateways disagree: `ready|draining`, and the gateways of
/// each.
fn verdicts(
    at: &[(usize, FleetInstance)],
    missing: &[usize],
    names: &dyn Fn(&[usize]) -> String,
) -> (String, String) {
    let mut states: Vec<&str> = Vec::new();
    let mut verdicts: Vec<((&str, &str), Vec<usize>)> = Vec::new();
    for (index, instance) in at {
        if !states.contains(&instance.state.as_str()) {
            states.push(&instance.state);
        }
        let verdict = (instance.state.as_str(), instance.reason.as_str());
        match verdicts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, indices)) => indices.push(*index),
            None => verdicts.push((verdict, vec![*index])),
        }
    }
    if let ([((state, reason), _)], []) = (verdicts.as_slice(), missing) {
        return ((*state).to_owned(), (*reason).to_owned());
    }
    let verdict = |((state, reason), indices): &((&str, &str), Vec<usize>)| {
        format!("{state} at {}: {reason}", names(indices))
    };
    let mut reasons: Vec<_> = verdicts.iter().map(verdict).collect();
    if !missing.is_empty() {
        states.push("-");
        reasons.push(format!("not listed by {}", names(missing)));
    }
    (states.join("|"), reasons.join("; "))
}

#[derive(Serialize)]
struct FleetDocument<'a> {
    gateways: Vec<AskedGateway<'a>>,
    instances: Vec<MergedJson<'a>>,
}

#[derive(Serialize)]
struct AskedGateway<'a> {
    gateway: &'a str,
    error: Option<String>,
}

#[derive(Serialize)]
struct MergedJson<'a> {
    name: &'a str,
    incarnation: &'a str,
    /// `None` if the gateways disagree.
    state: Option<&'a str>,
    calls: Option<u64>,
    capacity: Option<u64>,
    calls_expected: Option<u64>,
    calls_counted: u64,
    placed: u64,
    callbacks: u64,
    in_flight: u64,
    failures: &'a BTreeMap<String, u64>,
    last_probe_ms: Option<u64>,
    at: Vec<SeenAt<'a>>,
}

/// The members that are not the same at all gateways and have no sum.
#[derive(Serialize)]
struct SeenAt<'a> {
    gateway: &'a str,
    state: &'a str,
    since_ms: u64,
    reason: &'a str,
}

impl<'a> SeenAt<'a> {
    fn new(gateway: &'a str, instance: &'a FleetInstance) -> Self {
        let FleetInstance { state, since_ms, reason, .. } = instance;
        Self { gateway, state, since_ms: *since_ms, reason }
    }
}
