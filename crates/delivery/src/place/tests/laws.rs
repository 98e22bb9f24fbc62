//! The laws of placement, whatever the instances do.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use super::simulated::*;
use crate::{PlaceError, PlacementLimits};

/// A call that arrives some milliseconds after the start.
#[derive(Clone, Debug)]
struct ArrivingCall {
    after_ms: u64,
    limits: PlacementLimits,
}

fn act() -> impl Strategy<Value = Act> {
    let status = prop::sample::select(vec![200, 202, 302, 400, 401, 403, 404, 429, 500, 502, 503, 504]);
    let after_ms = prop_oneof![Just(0), 0..5000_u64];
    prop_oneof![
        2 => Just(Act::Refuse),
        2 => Just(Act::Hang),
        1 => after_ms.clone().prop_map(Act::Close),
        1 => prop::sample::select(vec![0, 1, 90]).prop_map(Act::Limit),
        1 => after_ms.clone().prop_map(Act::StaleKeys),
        6 => (status, after_ms).prop_map(|(status, after_ms)| Act::Respond(status, after_ms)),
    ]
}

fn call() -> impl Strategy<Value = ArrivingCall> {
    let limits = (100..13_000_u64, any::<bool>())
        .prop_map(|(budget, is_recorded)| if is_recorded { recorded(budget) } else { unrecorded(budget) });
    (0..6000_u64, limits).prop_map(|(after_ms, limits)| ArrivingCall { after_ms, limits })
}

/// Returns true if the instance may have acted on a call that it was given up on.
fn hides_outcome(act: Act) -> bool {
    matches!(act, Act::Hang | Act::Close(_) | Act::Respond(502 | 504, _))
}

async fn check(acts: &[Act], calls: &[ArrivingCall]) -> Result<(), TestCaseError> {
    let fleet = Arc::new(SimulatedFleet::new(acts));
    let placing = calls.iter().cloned().enumerate().map(|(at, call)| {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move {
            sleep(Duration::from_millis(call.after_ms)).await;
            let arrived = Instant::now();
            (fleet.place(&format!("call-{at}"), call.limits).await, arrived.elapsed())
        })
    });
    let mut results = Vec::new();
    for call in placing.collect::<Vec<_>>() {
        results.push(call.await.unwrap());
    }
    for (at, ((result, took), call)) in results.into_iter().zip(calls).enumerate() {
        let id = format!("call-{at}");
        let seen: Vec<SeenCall> = fleet.seen().into_iter().filter(|seen| seen.call_id == id).collect();
        let mut asked: Vec<usize> = seen.iter().map(|seen| seen.instance).collect();
        prop_assert!(took <= call.limits.budget + Duration::from_millis(1), "{took:?}");
        let (attempts, unknown) = match &result {
            Ok(response) => (response.attempts, response.outcome_unknown),
            Err(PlaceError::AllFailed { attempts, outcome_unknown, .. }) => (*attempts, *outcome_unknown),
            Err(PlaceError::AllDeclined { attempts, .. }) => (*attempts, 0),
            Err(_) => (0, 0),
        };
        prop_assert!(
            attempts <= 5 && seen.len() <= usize::try_from(attempts).unwrap(),
            "{result:?} {seen:?}"
        );
        prop_assert!(unknown <= call.limits.outcome_unknown_max, "{result:?}");
        let hidden = asked.iter().filter(|instance| hides_outcome(acts[**instance])).count();
        prop_assert!(hidden <= usize::try_from(call.limits.outcome_unknown_max).unwrap(), "{seen:?}");
        // No instance receives a call twice, unless it was busy.
        asked.retain(|instance| !matches!(acts[*instance], Act::Respond(503, _)));
        asked.sort_unstable();
        let received = asked.len();
        asked.dedup();
        prop_assert_eq!(asked.len(), received);
        // A call is accepted by an instance, and an acceptance that is in time is not lost.
        let status = result.as_ref().map_or(0, |response| response.status.as_u16());
        if (200..300).contains(&status) {
            let by = result.unwrap().instance;
            let accepted = asked.iter().find(|instance| fleet.name(**instance) == by.as_str());
            prop_assert!(
                accepted.is_some_and(|at| matches!(acts[*at], Act::Respond(200..300, _) | Act::StaleKeys(_)))
            );
        } else {
            let end = Duration::from_millis(call.after_ms) + call.limits.budget;
            let lost = seen.iter().find(|seen| match acts[seen.instance] {
                Act::Respond(200..300, after_ms) => seen.at + Duration::from_millis(after_ms + 1) < end,
                Act::StaleKeys(until_ms) => {
                    seen.at >= Duration::from_millis(until_ms) && seen.at + Duration::from_millis(1) < end
                }
                Act::Respond(..) | Act::Limit(_) | Act::Close(_) | Act::Hang | Act::Refuse => false,
            });
            prop_assert!(lost.is_none(), "{result:?} {lost:?}");
        }
    }
    let counters = fleet.delivery.placement_counters();
    let calls = u64::try_from(calls.len()).unwrap();
    prop_assert!(counters.hedges + counters.further_attempts <= 30 + calls / 5, "{counters:?}");
    prop_assert_eq!(counters.waiting, 0);
    prop_assert!(fleet.delivery.instances().iter().all(|one| one.in_flight == 0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn attempts_stay_within_their_bounds_and_no_acceptance_is_lost(
        acts in prop::collection::vec(act(), 1..9),
        calls in prop::collection::vec(call(), 1..8),
    ) {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(check(&acts, &calls))?;
    }
}
