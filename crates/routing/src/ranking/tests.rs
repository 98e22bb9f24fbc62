//! The properties of the ranking, and its bounded loads.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashSet},
};

use proptest::prelude::*;

use super::{AffinityKey, Candidate, Load, choose, fill_order, hash_name, rank};
use crate::name::Name;

fn bot(number: usize) -> Candidate {
    weighing(number, 1)
}

fn weighing(number: usize, weight: u32) -> Candidate {
    let name = Name::parse(&format!("bot-{number}")).unwrap();
    Candidate { name_hash: hash_name(&name), weight, load: None }
}

fn fleet(size: usize) -> Vec<Candidate> {
    (0..size).map(bot).collect()
}

fn call(number: usize) -> AffinityKey {
    AffinityKey::of(&format!("491f0b00-6aee-11ef-a87f-{number:012x}"))
}

fn order(key: AffinityKey, candidates: &[Candidate]) -> Vec<usize> {
    rank(key, candidates).collect()
}

fn first(key: AffinityKey, candidates: &[Candidate]) -> Option<usize> {
    rank(key, candidates).next()
}

#[test]
fn hashes_of_keys_and_names_are_stable() {
    assert_eq!(AffinityKey::of("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7"), AffinityKey(0x7a19_3ba7_2f13_1f04));
    assert_eq!(AffinityKey::of("491F0B00-6AEE-11EF-A87F-0D9E4BA7D6C7"), AffinityKey(0x7a19_3ba7_2f13_1f04));
    assert_eq!(hash_name(&Name::parse("bot-0").unwrap()), 0xd280_38c1_6746_32b8);
    assert_eq!(hash_name(&Name::parse("BOT-0").unwrap()), 0x88e0_0a8b_3b12_41d8);
}

#[test]
fn orders_are_stable() {
    assert_eq!(order(call(1), &fleet(6)), [5, 1, 0, 3, 2, 4]);
    let weighted: Vec<Candidate> =
        (1..=6).map(|number| weighing(usize::try_from(number).unwrap(), number)).collect();
    assert_eq!(order(call(1), &weighted), [5, 4, 2, 3, 0, 1]);
}

#[test]
fn an_empty_fleet_has_no_order() {
    let mut none = rank(call(0), &[]);
    assert_eq!((none.next(), none.next()), (None, None));
}

#[test]
fn the_iterator_knows_its_length() {
    let fleet = fleet(3);
    let mut order = rank(call(0), &fleet);
    let mut left = vec![order.size_hint()];
    while order.next().is_some() {
        left.push(order.size_hint());
    }
    assert_eq!(left, [3, 2, 1, 0].map(|left| (left, Some(left))));
}

fn any_load() -> impl Strategy<Value = Option<Load>> {
    prop::option::of((0..40_u32, 0..40_u32).prop_map(|(calls, capacity)| Load { calls, capacity }))
}

fn any_fleet() -> impl Strategy<Value = Vec<Candidate>> {
    let weights = prop_oneof![Just(1..=1_u32), Just(0..=9_u32), Just(1..=u32::MAX)];
    let candidates =
        weights.prop_flat_map(|weights| prop::collection::vec((any::<u64>(), weights, any_load()), 0..24));
    candidates.prop_map(|list| {
        list.into_iter().map(|(name_hash, weight, load)| Candidate { name_hash, weight, load }).collect()
    })
}

/// Returns the expected order, computed slowly: all sorted by score, then the first without overload moved to
/// the front.
fn expected(key: AffinityKey, candidates: &[Candidate]) -> Vec<usize> {
    let score = |candidate: &Candidate| {
        let unit = crate::hash::unit(crate::hash::mix(key.0 ^ candidate.name_hash));
        -f64::from(candidate.weight.max(1)) / unit.ln()
    };
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (&candidates[a], &candidates[b]);
        score(b).total_cmp(&score(a)).then(b.name_hash.cmp(&a.name_hash))
    });
    let loads = || candidates.iter().filter_map(|candidate| candidate.load).filter(|load| load.capacity > 0);
    let calls: f64 = loads().map(|load| f64::from(load.calls)).sum();
    let capacity: f64 = loads().map(|load| f64::from(load.capacity)).sum();
    let over = |index: &usize| {
        candidates[*index].load.filter(|load| load.capacity > 0).is_some_and(|load| {
            let (own_calls, own_capacity) = (f64::from(load.calls), f64::from(load.capacity));
            own_calls / own_capacity > 0.5 && own_calls * capacity * 4.0 > calls * own_capacity * 5.0
        })
    };
    if let Some(at) = order.iter().position(|index| !over(index)) {
        let chosen = order.remove(at);
        order.insert(0, chosen);
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_follows_scores_and_loads(key in any::<u64>(), fleet in any_fleet()) {
        prop_assert_eq!(order(AffinityKey(key), &fleet), expected(AffinityKey(key), &fleet));
    }

    /// Each candidate has a part of its greatest weight now, or takes no call.
    #[test]
    fn the_choice_is_the_first_candidate_that_takes_calls(
        key in any::<u64>(),
        fleet in any_fleet(),
        parts in prop::collection::vec(prop::option::of(1..4_u32), 24),
        split in 0..24_usize,
    ) {
        let key = AffinityKey(key);
        let now = |index: usize| {
            let candidate = fleet[index];
            parts[index].map(|part| Candidate { weight: candidate.weight / part, ..candidate })
        };
        let at_most = |index: usize| (index, Candidate { load: None, ..fleet[index] });
        let split = split.min(fleet.len());
        let lists = [(0..split).map(at_most), (split..fleet.len()).map(at_most)];
        let (indices, candidates): (Vec<_>, Vec<_>) =
            (0..fleet.len()).filter_map(|index| Some((index, now(index)?))).unzip();
        let expected = expected(key, &candidates).first().map(|at| indices[*at]);
        prop_assert_eq!(choose(key, lists, now), expected);
    }

    #[test]
    fn each_candidate_occurs_once(key in any::<u64>(), fleet in any_fleet()) {
        let mut found = order(AffinityKey(key), &fleet);
        prop_assert_eq!(&found, &order(AffinityKey(key), &fleet));
        found.sort_unstable();
        prop_assert_eq!(found, (0..fleet.len()).collect::<Vec<_>>());
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        key in any::<u64>(),
        fleet in any_fleet(),
        rotation in 0..24_usize,
    ) {
        let names = |list: &[Candidate]| -> Vec<u64> {
            order(AffinityKey(key), list).into_iter().map(|index| list[index].name_hash).collect()
        };
        let mut turned = fleet.clone();
        turned.rotate_left(rotation.min(fleet.len()));
        prop_assert_eq!(names(&turned), names(&fleet));
        turned.reverse();
        prop_assert_eq!(names(&turned), names(&fleet));
    }

    #[test]
    fn a_removed_candidate_does_not_change_the_order_of_the_others(
        key in any::<u64>(),
        mut fleet in any_fleet(),
        removed in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!fleet.is_empty());
        for candidate in &mut fleet {
            candidate.load = None;
        }
        let removed = removed.index(fleet.len());
        let names = |list: &[Candidate]| -> Vec<u64> {
            order(AffinityKey(key), list).into_iter().map(|index| list[index].name_hash).collect()
        };
        let mut before = names(&fleet);
        let left = fleet.remove(removed).name_hash;
        before.retain(|name| *name != left);
        prop_assert_eq!(names(&fleet), before);
    }

    #[test]
    fn an_overloaded_candidate_is_not_first(key in any::<u64>(), size in 2..12_usize) {
        let mut fleet = fleet(size);
        for candidate in &mut fleet {
            candidate.load = Some(Load { calls: 1, capacity: 10 });
        }
        let crowded = first(AffinityKey(key), &fleet).unwrap();
        fleet[crowded].load = Some(Load { calls: 9, capacity: 10 });
        let unloaded: Vec<_> = fleet.iter().map(|candidate| Candidate { load: None, ..*candidate }).collect();
        let plain = expected(AffinityKey(key), &unloaded);
        let found = order(AffinityKey(key), &fleet);
        prop_assert_eq!(found[..2].to_vec(), vec![plain[1], crowded]);
        prop_assert_eq!(&found[2..], &plain[2..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_fill_order_is_total_and_depends_on_names_and_weights_alone(
        fleet in any_fleet(),
        rotation in 0..24_usize,
    ) {
        let mut found: Vec<_> = fill_order(&fleet).collect();
        let names = |list: &[Candidate]| -> Vec<u64> {
            fill_order(list).map(|index| list[index].name_hash).collect()
        };
        let mut turned: Vec<_> = fleet.iter().map(|one| Candidate { load: None, ..*one }).collect();
        turned.rotate_left(rotation.min(fleet.len()));
        prop_assert_eq!(names(&turned), names(&fleet));
        turned.reverse();
        prop_assert_eq!(names(&turned), names(&fleet));
        found.sort_unstable();
        prop_assert_eq!(found, (0..fleet.len()).collect::<Vec<_>>());
    }

    #[test]
    fn a_new_instance_changes_no_place_of_the_fill_order_but_its_own(
        fleet in any_fleet(),
        name_hash: u64,
        weight: u32,
    ) {
        let before: Vec<_> = fill_order(&fleet).collect();
        let new = fleet.len();
        let grown: Vec<_> =
            fleet.iter().copied().chain([Candidate { name_hash, weight, load: None }]).collect();
        let after: Vec<_> = fill_order(&grown).filter(|index| *index != new).collect();
        prop_assert_eq!(after, before);
    }

    #[test]
    fn a_load_is_below_a_share_exactly_if_its_calls_are(
        calls in 0..300_u32,
        capacity in 0..300_u32,
        percent in 0..=100_u32,
    ) {
        let load = Load { calls, capacity };
        prop_assert_eq!(load.is_below(f64::from(percent) / 100.0), calls * 100 < percent * capacity);
    }
}

#[test]
fn the_fill_order_is_stable() {
    assert_eq!(fill_order(&fleet(8)).collect::<Vec<_>>(), [0, 6, 5, 2, 7, 1, 4, 3]);
}

/// The state of an instance is read from memory all over: a pass that reads it for all takes twice as long.
#[test]
fn few_of_ten_thousand_are_asked_for_their_state() {
    let load = Some(Load { calls: 1, capacity: 3 });
    for (light, heavy) in [(1, 1), (1, 3), (100, 1000)] {
        let candidates: Vec<_> = (0..10_000)
            .map(|number| weighing(number, if number % 3 == 0 { heavy } else { light }))
            .map(|candidate| Candidate { load, ..candidate })
            .collect();
        let asked = Cell::new(0);
        for number in 0..50 {
            let now = |index: usize| {
                asked.set(asked.get() + 1);
                Some(candidates[index])
            };
            assert!(choose(call(number), [candidates.iter().copied().enumerate()], now).is_some());
        }
        assert!(asked.get() < 50 * 20, "{}", asked.get());
    }
}

#[test]
fn a_new_instance_takes_its_share_and_no_other_call_moves() {
    const CALLS: usize = 4_000;
    for size in [1, 3, 9] {
        let (before, after) = (fleet(size), fleet(size + 1));
        let mut moved = 0_usize;
        for number in 0..CALLS {
            let (old, new) = (first(call(number), &before), first(call(number), &after));
            if old != new {
                assert_eq!(new, Some(size), "only to the new instance");
                moved += 1;
            }
        }
        let fair = CALLS / (size + 1);
        assert!(moved.abs_diff(fair) < fair / 5, "{moved} of {CALLS} moved to one of {}", size + 1);
    }
}

#[test]
fn a_change_of_one_weight_moves_calls_to_or_from_that_instance_only() {
    let equal = fleet(5);
    let mut heavier = equal.clone();
    heavier[2].weight = 3;
    for number in 0..1_000 {
        let (old, new) = (first(call(number), &equal), first(call(number), &heavier));
        assert!(old == new || new == Some(2), "{old:?} to {new:?}");
    }
}

#[test]
fn calls_are_distributed_by_weight() {
    const CALLS: usize = 12_000;
    let fleet: Vec<Candidate> =
        [1, 2, 3, 6].into_iter().enumerate().map(|(number, weight)| weighing(number, weight)).collect();
    let mut taken = BTreeMap::new();
    for number in 0..CALLS {
        *taken.entry(first(call(number), &fleet).unwrap()).or_insert(0_usize) += 1;
    }
    for (index, part) in [1_000_usize, 2_000, 3_000, 6_000].into_iter().enumerate() {
        assert!(taken[&index].abs_diff(part) < part / 8, "{taken:?}");
    }
}

#[test]
fn the_calls_of_a_failed_instance_are_spread_over_all_others() {
    let fleet = fleet(6);
    let seconds: HashSet<usize> = (0..400)
        .map(|number| order(call(number), &fleet))
        .filter(|order| order[0] == 3)
        .map(|order| order[1])
        .collect();
    assert_eq!(seconds, HashSet::from([0, 1, 2, 4, 5]));
}

/// `loads` are those of three instances in the order in which the key ranks them. `expected` is the order of
/// the attempts.
#[track_caller]
fn check_loads(loads: [Option<(u32, u32)>; 3], expected: [usize; 3]) {
    let mut fleet = fleet(3);
    let ranked = order(call(7), &fleet);
    for (&index, load) in ranked.iter().zip(loads) {
        fleet[index].load = load.map(|(calls, capacity)| Load { calls, capacity });
    }
    assert_eq!(order(call(7), &fleet), expected.map(|place| ranked[place]), "{loads:?}");
}

#[test]
fn an_overloaded_instance_comes_second() {
    check_loads([Some((90, 100)), Some((10, 100)), Some((10, 100))], [1, 0, 2]);
    check_loads([Some((90, 100)), Some((80, 100)), Some((10, 100))], [2, 0, 1]);
}

#[test]
fn up_to_half_full_loads_do_not_matter() {
    check_loads([Some((50, 100)), Some((0, 100)), Some((0, 100))], [0, 1, 2]);
    check_loads([Some((51, 100)), Some((0, 100)), Some((0, 100))], [1, 0, 2]);
}

#[test]
fn up_to_25_percent_above_the_mean_loads_do_not_matter() {
    check_loads([Some((75, 100)), Some((60, 100)), Some((45, 100))], [0, 1, 2]); // 60 × 1.25
    check_loads([Some((76, 100)), Some((60, 100)), Some((44, 100))], [1, 0, 2]);
    check_loads([Some((99, 100)), Some((99, 100)), Some((99, 100))], [0, 1, 2]);
}

#[test]
fn the_mean_is_calls_over_capacity_of_the_fleet() {
    // 6 of 10 against 606 of 1020; a mean of the three ratios would be 0.2.
    check_loads([Some((6, 10)), Some((0, 10)), Some((600, 1_000))], [0, 1, 2]);
}

#[test]
fn without_a_report_loads_do_not_matter() {
    check_loads([None, Some((1, 100)), Some((1, 100))], [0, 1, 2]);
    check_loads([Some((90, 100)), None, Some((1, 100))], [1, 0, 2]);
    check_loads([Some((90, 100)), None, None], [0, 1, 2]); // its own load is the mean
    check_loads([Some((9, 0)), Some((0, 0)), Some((1, 100))], [0, 1, 2]);
}

#[test]
fn the_greatest_loads_and_weights_do_not_overflow() {
    check_loads([Some((u32::MAX, u32::MAX)), Some((0, u32::MAX)), Some((0, u32::MAX))], [1, 0, 2]);
    check_loads([Some((u32::MAX, 1)), Some((u32::MAX, 1)), Some((u32::MAX, 1))], [0, 1, 2]);
    let extremes = [weighing(0, u32::MAX), weighing(1, 0)];
    assert!((0..100).all(|number| order(call(number), &extremes) == [0, 1]));
}
