//! Packing: the instance that the next call fills, and the fleets that this leaves.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use switchboard_routing::{AffinityKey, Load, rank};
use tokio::time::Instant;
use uuid::Uuid;

use super::*;
use crate::{
    cause::Cause,
    fleet::{
        Fleet, FleetSettings,
        tests::{APP, READY, learn, member, order, settings},
    },
    instance::{Event, Report},
    member::Member,
    settings::Fill,
};

const SHARE: f64 = 0.8;

fn packing(slow_start: Duration) -> FleetSettings {
    FleetSettings { fill: Fill::Pack { share: SHARE }, slow_start, ..settings(true) }
}

fn bots(count: usize) -> Vec<Member> {
    (0..count).map(|at| member(&format!("bot-{at}"), "0")).collect()
}

/// A fleet whose instances have reported that they are ready, without a load.
fn packed(count: usize, now: Instant) -> Fleet {
    let fleet = Fleet::new(bots(count), true, &packing(Duration::ZERO), None, now);
    (0..count).for_each(|at| learn(&fleet, &format!("bot-{at}"), Event::Reported(READY), now));
    fleet
}

fn report(fleet: &Fleet, name: &str, load: Option<(u32, u32)>, now: Instant) {
    let (calls, capacity) = load.unzip();
    learn(fleet, name, Event::ProbeSent, now);
    learn(fleet, name, Event::Reported(Report { calls, capacity, ..READY }), now);
}

/// The names of the instances in the order in which they are filled.
fn names(fleet: &Fleet) -> Vec<String> {
    let places = &fleet.pack.as_ref().unwrap().places;
    let mut names: Vec<_> = fleet.instances.iter().map(|one| one.name().to_string()).collect();
    let by_name: BTreeMap<_, _> = names.iter().cloned().zip(places.iter().copied()).collect();
    names.sort_by_key(|name| by_name[name]);
    names
}

#[test]
fn the_first_instance_below_the_share_takes_the_call_whatever_its_key() {
    let now = Instant::now();
    let fleet = packed(4, now);
    let filled = names(&fleet);
    for name in &filled {
        report(&fleet, name, Some((0, 10)), now);
    }
    for call in 0..20 {
        assert_eq!(order(&fleet, &format!("call-{call}"), now), filled, "each is below the share");
    }
    report(&fleet, &filled[0], Some((8, 10)), now);
    report(&fleet, &filled[1], Some((7, 10)), now);
    for call in 0..20 {
        let found = order(&fleet, &format!("call-{call}"), now);
        assert_eq!(found, [&filled[1], &filled[2], &filled[3], &filled[0]].map(Clone::clone));
    }
}

#[test]
fn calls_that_are_placed_and_not_reported_yet_fill_an_instance() {
    let now = Instant::now();
    let fleet = packed(3, now);
    let filled = names(&fleet);
    for name in &filled {
        report(&fleet, name, Some((0, 10)), now);
    }
    let mut taken = Vec::new();
    let mut pending = Vec::new();
    for call in 0..17 {
        let first = fleet.candidates(APP, AffinityKey::of(&format!("call-{call}"))).next(now).unwrap();
        taken.push(first.instance.name().to_string());
        let reserved = first.instance.tracker.reserve(now, first.eligibility).unwrap();
        // Every other one has no response yet.
        if call % 2 == 0 { pending.push(reserved) } else { reserved.accepted(None, now) }
    }
    let expected: Vec<_> =
        [8, 8, 1].iter().zip(&filled).flat_map(|(count, name)| vec![name.clone(); *count]).collect();
    assert_eq!(taken, expected);
    pending.into_iter().for_each(|call| call.not_accepted(now));
}

#[test]
fn if_all_are_filled_calls_are_spread() {
    let now = Instant::now();
    let fleet = packed(6, now);
    let spread = Fleet::new(bots(6), true, &settings(true), None, now);
    for at in 0..6 {
        for fleet in [&fleet, &spread] {
            report(fleet, &format!("bot-{at}"), Some((8 + at % 2, 10)), now);
        }
    }
    for call in 0..50 {
        let call = format!("call-{call}");
        assert_eq!(order(&fleet, &call, now), order(&spread, &call, now));
    }
}

#[test]
fn an_instance_without_a_capacity_takes_calls_if_no_other_is_to_be_filled() {
    let now = Instant::now();
    let fleet = packed(3, now);
    let spread = Fleet::new(bots(3), true, &settings(true), None, now);
    (0..3).for_each(|at| learn(&spread, &format!("bot-{at}"), Event::Reported(READY), now));
    let same = |call: usize| {
        order(&fleet, &format!("call-{call}"), now) == order(&spread, &format!("call-{call}"), now)
    };
    assert!((0..20).all(same), "no instance reports one");
    report(&fleet, "bot-1", Some((3, 10)), now);
    assert!((0..20).all(|call| order(&fleet, &format!("call-{call}"), now)[0] == "bot-1"));
    for fleet in [&fleet, &spread] {
        report(fleet, "bot-1", Some((9, 10)), now);
    }
    assert!((0..20).all(same), "the one that reports it is filled");
}

/// A new instance has the place of its name at once. It takes one call at once, and more as it warms up.
#[tokio::test(start_paused = true)]
async fn a_new_instance_is_filled_as_it_warms_up() {
    let start = Instant::now();
    let slow_start = Duration::from_secs(100);
    let fleet = Fleet::new(bots(2), true, &packing(slow_start), None, start);
    let [first, second] = names(&fleet).try_into().unwrap();
    report(&fleet, &second, Some((0, 100)), start);
    tokio::time::advance(slow_start).await;
    let ready = Instant::now();
    report(&fleet, &first, Some((0, 100)), ready);
    for (seconds, calls, takes_it) in [
        (0, 0, true),
        (0, 1, false),
        (10, 7, true),
        (10, 8, false),
        (50, 39, true),
        (50, 40, false),
        (100, 79, true),
        (100, 80, false),
    ] {
        let now = ready + Duration::from_secs(seconds);
        report(&fleet, &first, Some((calls, 100)), now);
        assert_eq!(order(&fleet, "call", now)[0] == first, takes_it, "{calls} after {seconds} s");
    }
}

#[test]
fn an_ejected_instance_is_a_last_resort_and_then_takes_one_call_in_its_place() {
    let start = Instant::now();
    let fleet = packed(3, start);
    let filled = names(&fleet);
    for name in &filled {
        report(&fleet, name, Some((1, 10)), start);
    }
    let last = [&filled[1], &filled[2], &filled[0]].map(Clone::clone);
    learn(&fleet, &filled[0], Event::CallFailed(Cause::Timeout), start);
    assert_eq!(order(&fleet, "call", start), last);
    let later = start + Duration::from_secs(1);
    assert_eq!(order(&fleet, "call", later), filled);
    let trial = fleet.instance(&filled[0]).unwrap().tracker.reserve(later, Eligibility::Eligible).unwrap();
    assert_eq!(order(&fleet, "call", later), last, "half-open, with a call under way");
    trial.not_accepted(later);
}

/// Sixty calls on twenty instances for ten. Each call that ends is replaced by a new one. Probes report from
/// time to time, as they do between calls.
fn empty_instances(fill: Fill, seed: u64) -> usize {
    const INSTANCES: usize = 20;
    const LIVE: usize = 60;
    let mut random = fastrand::Rng::with_seed(seed);
    let now = Instant::now();
    let fleet = Fleet::new(bots(INSTANCES), true, &FleetSettings { fill, ..settings(true) }, None, now);
    let mut live: Vec<(String, usize)> = Vec::new();
    let mut next = random.u64(..u64::MAX / 2);
    for step in 0..10 * LIVE {
        if step % 7 == 0 {
            for at in 0..INSTANCES {
                let calls = live.iter().filter(|(_, owner)| *owner == at).count();
                let calls = u32::try_from(calls).unwrap();
                report(&fleet, &format!("bot-{at}"), Some((calls, 10)), now);
            }
        }
        if live.len() == LIVE {
            let (call, owner) = live.swap_remove(random.usize(..live.len()));
            fleet.instances[owner].tracker.call_ended(&call, now);
        }
        next += 1;
        let call = format!("call-{next}");
        let first = fleet.candidates(APP, AffinityKey::of(&call)).next(now).unwrap();
        first.instance.tracker.reserve(now, first.eligibility).unwrap().accepted(Some(&call), now);
        let owner = fleet.by_name[first.instance.name()];
        live.push((call, owner));
    }
    (0..INSTANCES).filter(|at| live.iter().all(|(_, owner)| owner != at)).count()
}

#[test]
fn packing_leaves_instances_empty() {
    let median = |fill| {
        let mut found: Vec<_> = (0..200).map(|seed| empty_instances(fill, seed)).collect();
        found.sort_unstable();
        found[100]
    };
    let (pack, spread) = (median(Fill::Pack { share: SHARE }), median(Fill::Spread));
    assert!(pack >= 12 && spread <= 3, "empty of 20: pack {pack}, spread {spread}");
}

fn any_event() -> impl Strategy<Value = Option<Event>> {
    let event = prop_oneof![
        Just(Event::Drained),
        Just(Event::CallFailed(Cause::Timeout)),
        Just(Event::RateLimited(Duration::from_secs(9))),
        Just(Event::ProbeMissed(Cause::Timeout)),
    ];
    prop::option::weighted(0.3, event)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Two gateways with the same knowledge of the same instances ask them in the same order: first each that
    /// is below the share, in the one order of all, then the others by rank. Each is asked once.
    #[test]
    fn gateways_with_the_same_view_fill_alike(
        instances in prop::collection::vec(
            (1..4_u32, prop::option::of(1..3_u128), any_event(), prop::option::of((0..20_u32, 1..20_u32))),
            1..24,
        ),
        slow_start in prop_oneof![Just(0_u64), Just(60)],
        seconds in 0..90_u64,
        turn in any::<prop::sample::Index>(),
        salt in any::<u32>(),
    ) {
        let start = Instant::now();
        let now = start + Duration::from_secs(seconds);
        let members: Vec<_> = instances
            .iter()
            .enumerate()
            .map(|(at, (weight, app, ..))| Member {
                weight: *weight,
                apps: app.map(|app| vec![Uuid::from_u128(app)]),
                ..member(&format!("bot-{at}"), "0")
            })
            .collect();
        let mut turned = members.clone();
        turned.rotate_left(turn.index(instances.len()));
        let key = format!("{salt}");
        let view = |members, fill| {
            let settings = FleetSettings { fill, ..packing(Duration::from_secs(slow_start)) };
            let fleet = Fleet::new(members, true, &settings, None, start);
            for (at, (_, _, event, load)) in instances.iter().enumerate() {
                let name = format!("bot-{at}");
                report(&fleet, &name, *load, start);
                event.iter().for_each(|event| learn(&fleet, &name, *event, start));
            }
            fleet
        };
        let pack = Fill::Pack { share: SHARE };
        let fleet = view(members.clone(), pack);
        let found = order(&fleet, &key, now);
        prop_assert_eq!(&found, &order(&view(turned, pack), &key, now));

        let clock = fleet.clock(now);
        let is_filled = |name: &String| {
            let at = fleet.by_name[name.as_str()];
            let rankable = fleet.rankable(APP).into_iter().flatten().find(|one| one.at == at).unwrap();
            let load = rankable.candidate(clock).load.unwrap_or(Load { calls: 0, capacity: 0 });
            let warmth = f64::from(rankable.candidate(clock).weight) / f64::from(rankable.at_most().weight);
            rankable.eligibility(clock) == Eligibility::Eligible
                && f64::from(load.calls) < SHARE * warmth * f64::from(load.capacity) - 1e-6
        };
        let mut expected: Vec<_> =
            names(&fleet).into_iter().filter(|name| found.contains(name) && is_filled(name)).collect();
        if expected.is_empty() {
            // The first of all is the one that bounded loads choose.
            expected = order(&view(members, Fill::Spread), &key, now);
        } else {
            for eligibility in [Eligibility::Eligible, Eligibility::LastResort] {
                let others = fleet.rankable(APP).into_iter().flatten();
                let (names, candidates): (Vec<_>, Vec<_>) = others
                    .filter(|one| one.eligibility(clock) == eligibility)
                    .map(|one| {
                        let candidate = Candidate { load: None, ..one.candidate(clock) };
                        (fleet.instances[one.at].name().to_string(), candidate)
                    })
                    .filter(|(name, _)| !expected.contains(name))
                    .unzip();
                expected.extend(rank(AffinityKey::of(&key), &candidates).map(|at| names[at].clone()));
            }
        }
        prop_assert_eq!(found, expected);
    }

    /// The fill order is total, and a new instance changes no place but its own.
    #[test]
    fn a_new_instance_gets_a_place_and_moves_no_other(count in 1..40_usize, weight in 1..1000_u32) {
        let now = Instant::now();
        let before = packed(count, now);
        let new = Member { weight, ..member("the-new-one", "0") };
        let members = before.members().into_iter().chain([new]).collect();
        let after = Fleet::new(members, true, &packing(Duration::ZERO), Some(&before), now);
        let mut places = after.pack.as_ref().unwrap().places.clone();
        places.sort_unstable();
        prop_assert_eq!(places, (0..=count).collect::<Vec<_>>());
        let mut found = names(&after);
        found.retain(|name| name != "the-new-one");
        prop_assert_eq!(found, names(&before));
    }
}
