//! The sentence at the top of the page: whether the gateway takes calls, or what is wrong and since when.

use serde::Serialize;
use switchboard_delivery::{Awaited, InstanceState};

use super::fleet_rows::FleetSums;

/// The sentence, and how bad it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Headline {
    level: Level,
    text: String,
    /// Unix milliseconds; null if the time is not known, or if nothing is wrong.
    since: Option<u64>,
}

/// The need to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// None.
    Ok,
    /// New calls are taken, but something is wrong; or none are taken for a while, as intended.
    Warn,
    /// New calls are not taken.
    Bad,
}

/// The facts that the sentence follows from. Times are Unix milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) region: &'a str,
    pub(super) now: u64,
    pub(super) started: u64,
    pub(super) is_draining: bool,
    pub(super) workers: usize,
    /// The names of the trusts without a usable key.
    pub(super) trusts_without_keys: Vec<&'a str>,
    pub(super) trusts: usize,
    /// True if a trust ever had keys.
    pub(super) had_keys: bool,
    /// The end of the certificate's validity, if the gateway has one.
    pub(super) certificate_not_after: Option<u64>,
    pub(super) awaited: Option<Awaited>,
    pub(super) is_fleet_known: bool,
    pub(super) fleet: &'a FleetSums,
}

/// Returns the sentence. The first of these conditions decides: a fault in front hides one behind it.
pub(super) fn headline(situation: &Situation<'_>) -> Headline {
    let Situation { region, now, started, fleet, .. } = *situation;
    let is_expired = situation.certificate_not_after.filter(|not_after| *not_after <= now);
    if situation.is_draining {
        return Headline::new(
            Level::Warn,
            format!("{region} drains and stops: another gateway must take over"),
            None,
        );
    }
    if situation.workers == 0 {
        let text = format!("{region} takes no calls: every worker has stopped, restart the gateway");
        return Headline::new(Level::Bad, text, None);
    }
    if situation.trusts_without_keys.len() == situation.trusts {
        let text = format!("{region} takes no calls: no trust has usable keys");
        return Headline::new(Level::Bad, text, (!situation.had_keys).then_some(started));
    }
    if is_expired.is_some() {
        let text = format!("{region} takes no calls: its certificate has expired");
        return Headline::new(Level::Bad, text, is_expired);
    }
    if !situation.is_fleet_known {
        let text =
            format!("{region} takes no new calls: the fleet is unknown, its source has not been read yet");
        return Headline::new(Level::Bad, text, Some(started));
    }
    if situation.awaited == Some(Awaited::Probes) {
        let text = format!("{region} starts: it waits for the first probe of each instance");
        return Headline::new(Level::Warn, text, Some(started));
    }
    if fleet.of(InstanceState::Ready) == 0 {
        return Headline::new(Level::Bad, none_ready(region, fleet), fleet.last_change);
    }
    let concern = concern(situation);
    let level = if concern.is_some() || fleet.failing() > 0 { Level::Warn } else { Level::Ok };
    let text = format!("{region} takes calls{}: {}", concern.unwrap_or_default(), load(fleet));
    Headline::new(level, text, fleet.failing_since)
}

impl Headline {
    fn new(level: Level, text: String, since: Option<u64>) -> Self {
        Self { level, text, since }
    }
}

/// The sentence of a fleet without a ready instance.
fn none_ready(region: &str, fleet: &FleetSums) -> String {
    let full = fleet.of(InstanceState::Full);
    match fleet.total {
        0 => format!("{region} takes no calls: the fleet has no instance"),
        1 => {
            let state = fleet.by_state.keys().next().copied().unwrap_or_default();
            format!("{region} takes no new calls: its only instance is {state}")
        }
        total if total == full => {
            format!("{region} takes no new calls: all {total} instances are full, {}", calls(fleet))
        }
        total => {
            let states = WORST_FIRST.into_iter().map(|state| (fleet.of(state), state));
            let states =
                states.filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}"));
            let states: Vec<_> = states.collect();
            format!("{region} takes no new calls: none of {total} instances is ready, {}", states.join(", "))
        }
    }
}

/// The part of the sentence about something that will take calls away, but not yet.
fn concern(situation: &Situation<'_>) -> Option<String> {
    if let Some(name) = situation.trusts_without_keys.first() {
        return Some(format!(", but trust {name} has no usable keys"));
    }
    let left = situation.certificate_not_after?.checked_sub(situation.now)?;
    match left / DAY_MS {
        0 => Some(", but its certificate expires in less than a day".to_owned()),
        days if days < RENEWAL_DAYS => {
            Some(format!(", but its certificate expires in {}", count(days, "day")))
        }
        _ => None,
    }
}

fn load(fleet: &FleetSums) -> String {
    let total = u64::try_from(fleet.total).unwrap_or(u64::MAX);
    format!("{} of {}, {}", fleet.of(InstanceState::Ready), count(total, "instance"), calls(fleet))
}

fn calls(fleet: &FleetSums) -> String {
    match fleet.capacity {
        Some(capacity) => format!("{} of {}", fleet.calls, count(capacity, "call")),
        None => count(fleet.calls, "call"),
    }
}

fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// The states of instances that are not ready, as the page orders them.
const WORST_FIRST: [InstanceState; 5] = [
    InstanceState::Unreachable,
    InstanceState::Ejected,
    InstanceState::Full,
    InstanceState::Starting,
    InstanceState::Draining,
];

const DAY_MS: u64 = 86_400_000;
/// A certificate is renewed weeks before its end; that of a short life, days before it.
const RENEWAL_DAYS: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100 * DAY_MS;
    const STARTED: u64 = NOW - 60_000;

    fn fleet(states: &[(&'static str, usize)], calls: u64, capacity: Option<u64>) -> FleetSums {
        FleetSums {
            total: states.iter().map(|(_, count)| count).sum(),
            by_state: states.iter().copied().collect(),
            calls,
            capacity,
            last_change: (!states.is_empty()).then_some(NOW - 5000),
            failing_since: states
                .iter()
                .any(|(state, _)| ["unreachable", "ejected"].contains(state))
                .then_some(NOW - 9000),
        }
    }

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut Situation<'_>),
        fleet: &FleetSums,
        level: Level,
        text: &str,
        since: Option<u64>,
    ) {
        let mut situation = Situation {
            region: "emea",
            now: NOW,
            started: STARTED,
            is_draining: false,
            workers: 2,
            trusts_without_keys: Vec::new(),
            trusts: 2,
            had_keys: true,
            certificate_not_after: Some(NOW + 40 * DAY_MS),
            awaited: None,
            is_fleet_known: true,
            fleet,
        };
        change(&mut situation);
        assert_eq!(headline(&situation), Headline::new(level, text.to_owned(), since));
    }

    #[test]
    fn a_gateway_that_takes_calls_says_how_many() {
        use Level::{Ok, Warn};
        let good = fleet(&[("ready", 3), ("draining", 1)], 41, Some(120));
        check(|_| {}, &good, Ok, "emea takes calls: 3 of 4 instances, 41 of 120 calls", None);
        let one = fleet(&[("ready", 1)], 1, None);
        check(|_| {}, &one, Ok, "emea takes calls: 1 of 1 instance, 1 call", None);
        let none = fleet(&[("ready", 2)], 0, Some(1));
        check(|_| {}, &none, Ok, "emea takes calls: 2 of 2 instances, 0 of 1 call", None);
        for state in ["unreachable", "ejected"] {
            let failing = fleet(&[("ready", 3), (state, 1)], 41, Some(120));
            let text = "emea takes calls: 3 of 4 instances, 41 of 120 calls";
            check(|_| {}, &failing, Warn, text, Some(NOW - 9000));
        }
        check(
            |situation| situation.trusts_without_keys = vec!["entra"],
            &good,
            Warn,
            "emea takes calls, but trust entra has no usable keys: 3 of 4 instances, 41 of 120 calls",
            None,
        );
        for (left, expected) in [
            (4 * DAY_MS, None),
            (3 * DAY_MS, None),
            (3 * DAY_MS - 1, Some("2 days")),
            (DAY_MS, Some("1 day")),
            (DAY_MS - 1, Some("less than a day")),
        ] {
            let concern = expected.map(|time| format!(", but its certificate expires in {time}"));
            check(
                |situation| situation.certificate_not_after = Some(NOW + left),
                &good,
                if concern.is_some() { Warn } else { Ok },
                &format!(
                    "emea takes calls{}: 3 of 4 instances, 41 of 120 calls",
                    concern.unwrap_or_default()
                ),
                None,
            );
        }
        check(
            |situation| situation.certificate_not_after = None,
            &good,
            Ok,
            "emea takes calls: 3 of 4 instances, 41 of 120 calls",
            None,
        );
    }

    #[test]
    fn a_gateway_that_takes_no_calls_says_why() {
        use Level::{Bad, Warn};
        let good = fleet(&[("ready", 3)], 41, Some(120));
        let check_all = |change: fn(&mut Situation<'_>), level, text: &str, since| {
            check(change, &good, level, text, since);
        };
        check_all(
            |situation| situation.is_draining = true,
            Warn,
            "emea drains and stops: another gateway must take over",
            None,
        );
        check_all(
            |situation| situation.workers = 0,
            Bad,
            "emea takes no calls: every worker has stopped, restart the gateway",
            None,
        );
        let text = "emea takes no calls: no trust has usable keys";
        check_all(|situation| situation.trusts_without_keys = vec!["skype", "entra"], Bad, text, None);
        check_all(
            |situation| {
                situation.trusts_without_keys = vec!["skype", "entra"];
                situation.had_keys = false;
            },
            Bad,
            text,
            Some(STARTED),
        );
        check_all(
            |situation| situation.certificate_not_after = Some(NOW - 7000),
            Bad,
            "emea takes no calls: its certificate has expired",
            Some(NOW - 7000),
        );
        check_all(
            |situation| situation.is_fleet_known = false,
            Bad,
            "emea takes no new calls: the fleet is unknown, its source has not been read yet",
            Some(STARTED),
        );
        check_all(
            |situation| situation.awaited = Some(Awaited::Probes),
            Warn,
            "emea starts: it waits for the first probe of each instance",
            Some(STARTED),
        );
    }

    #[test]
    fn a_fleet_without_a_ready_instance_says_in_which_states_they_are() {
        let since = Some(NOW - 5000);
        for (states, calls, capacity, text, since) in [
            (&[][..], 0, None, "emea takes no calls: the fleet has no instance", None),
            (
                &[("full", 4)],
                120,
                Some(120),
                "emea takes no new calls: all 4 instances are full, 120 of 120 calls",
                since,
            ),
            (&[("full", 1)], 30, Some(30), "emea takes no new calls: its only instance is full", since),
            (&[("starting", 1)], 0, None, "emea takes no new calls: its only instance is starting", since),
            (
                &[("draining", 1), ("ejected", 2), ("full", 1), ("starting", 1), ("unreachable", 3)],
                9,
                None,
                "emea takes no new calls: none of 8 instances is ready, 3 unreachable, 2 ejected, 1 full, \
                 1 starting, 1 draining",
                since,
            ),
        ] {
            check(|_| {}, &fleet(states, calls, capacity), Level::Bad, text, since);
        }
    }

    #[test]
    fn the_first_condition_hides_the_others() {
        let none = fleet(&[], 0, None);
        let everything = |situation: &mut Situation<'_>| {
            situation.trusts_without_keys = vec!["skype", "entra"];
            situation.is_fleet_known = false;
            situation.certificate_not_after = Some(NOW);
        };
        check(everything, &none, Level::Bad, "emea takes no calls: no trust has usable keys", None);
    }
}
