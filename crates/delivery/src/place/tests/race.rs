//! The race: shares, hedges, the first acceptance, refusals, and the bounds of one call.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::time::Instant;

use super::simulated::{Act::*, *};
use crate::{InstanceState, PlaceError, PlacementLimits};

/// Checks a call: the status of the response or the error, the milliseconds until then, and the instances
/// that received it, in this order.
#[track_caller]
fn check<'a>(
    acts: &'a [Act],
    limits: PlacementLimits,
    expected: (Result<u16, PlaceError>, u128, &'a [usize]),
) -> impl Future<Output = SimulatedFleet> + use<'a> {
    let caller = std::panic::Location::caller();
    async move {
        let fleet = SimulatedFleet::new(acts);
        let placed = fleet.place("call", limits).await.map(|response| response.status.as_u16());
        assert_eq!((placed, fleet.elapsed_ms(), &*fleet.asked()), expected, "{acts:?} {caller}");
        fleet
    }
}

fn failed(attempts: u32, outcome_unknown: u32, last: &'static str) -> Result<u16, PlaceError> {
    Err(PlaceError::AllFailed { attempts, outcome_unknown, last })
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_is_slower_than_its_share_still_takes_the_call() {
    let slow = Respond(202, 1300);
    for count in 1..6 {
        let asked: &[usize] = match count {
            1 | 2 => &[0],
            _ => &[0, 1],
        };
        let fleet = check(&vec![slow; count], recorded(3500), (Ok(202), 1300, asked)).await;
        assert_eq!(fleet.states(), vec![InstanceState::Ready; count]);
    }
    // The platform gives a call 15 s, and this bot needs 4 s.
    let slower = Respond(202, 4000);
    check(&[slower; 3], unrecorded(12_000), (Ok(202), 4000, &[0, 1])).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_acceptance_wins_and_the_other_attempt_ends() {
    let fleet = check(&[Hang, Respond(202, 10)], recorded(3500), (Ok(202), 1760, &[0, 1])).await;
    let counters = fleet.delivery.placement_counters();
    assert_eq!((counters.hedges, counters.further_attempts, counters.races_lost), (1, 0, 1));
    // One lost race is no failure.
    assert_eq!(fleet.states(), [InstanceState::Ready; 2]);
    assert_eq!((fleet.status(0).counts.failures, fleet.status(0).in_flight), (vec![], 0));
    assert_eq!((fleet.status(0).counts.placed, fleet.status(1).counts.placed), (0, 1));
    let response = fleet.place("call", recorded(3500)).await.unwrap();
    assert_eq!((response.attempts, response.outcome_unknown), (2, 1));
    assert_eq!(response.instance.as_str(), fleet.name(1));
}

#[tokio::test(start_paused = true)]
async fn the_call_belongs_to_the_instance_that_accepted_it() {
    let fleet = check(&[Hang, Respond(202, 10)], recorded(3500), (Ok(202), 1760, &[0, 1])).await;
    let owner = fleet.delivery.probable_owner("call", APP).unwrap();
    assert_eq!(owner.as_str(), fleet.name(1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_without_a_response_fails_its_instance_once_and_stays_open() {
    let fleet = SimulatedFleet::new(&[Respond(202, 4000)]);
    let placed = async {
        let response = fleet.place("call", unrecorded(12_000)).await.unwrap();
        (response.status.as_u16(), fleet.elapsed_ms())
    };
    let failed_at = async {
        while fleet.status(0).state == InstanceState::Ready {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fleet.elapsed_ms()
    };
    let (placed, failed_at) = tokio::join!(placed, failed_at);
    assert_eq!(placed, (202, 4000));
    assert!((3000..=3001).contains(&failed_at), "{failed_at}");
    assert_eq!(fleet.status(0).counts.failures, [("timeout", 1)]);
    assert_eq!(fleet.status(0).counts.placed, 1);
    // A failure after the time-out is no second one.
    let fleet = check(&[Close(4000)], unrecorded(12_000), (failed(1, 1, "closed"), 4000, &[0])).await;
    assert_eq!(fleet.status(0).counts.failures, [("timeout", 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_budget_fails_only_instances_that_had_a_whole_attempt() {
    let fleet = check(&[Hang; 5], recorded(3500), (failed(2, 2, "timeout"), 3500, &[0, 1])).await;
    assert_eq!(fleet.states()[..2], [InstanceState::Ejected, InstanceState::Ready]);
    assert_eq!(fleet.status(1).counts.failures, [("timeout", 1)]);
    let fleet = check(&[Hang; 5], recorded(2900), (failed(2, 2, "timeout"), 2900, &[0, 1])).await;
    assert_eq!(fleet.states(), [InstanceState::Ready; 5]);
}

#[tokio::test(start_paused = true)]
async fn two_attempts_of_a_recorded_call_and_three_of_another_may_have_an_unknown_outcome() {
    check(&[Hang; 9], recorded(4500), (failed(2, 2, "timeout"), 4500, &[0, 1])).await;
    check(&[Hang; 9], unrecorded(12_000), (failed(3, 3, "timeout"), 12_000, &[0, 1, 2])).await;
    check(&[Close(0); 9], recorded(3500), (failed(2, 2, "closed"), 0, &[0, 1])).await;
    check(&[Respond(502, 0); 9], unrecorded(9000), (failed(3, 3, "status_502"), 0, &[0, 1, 2])).await;
    // An attempt whose outcome becomes known makes room for another one.
    let acts = [Hang, Respond(503, 500), Respond(202, 0)];
    check(&acts, recorded(3500), (Ok(202), 1667, &[0, 1, 2])).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_has_at_most_five_attempts_of_any_kind() {
    for (status, label) in [(503, "status_503"), (302, "redirect")] {
        let acts = [Respond(status, 0); 40];
        check(&acts, unrecorded(12_000), (failed(5, 0, label), 0, &[0, 1, 2, 3, 4])).await;
    }
    for (status, last) in [(401, "status_401"), (429, "status_429")] {
        let acts = [Respond(status, 0); 40];
        let declined = Err(PlaceError::AllDeclined { attempts: 5, last });
        check(&acts, unrecorded(12_000), (declined, 0, &[0, 1, 2, 3, 4])).await;
    }
    let fleet = check(&[Refuse; 40], unrecorded(12_000), (failed(5, 0, "refused"), 0, &[])).await;
    let counters = fleet.delivery.placement_counters();
    assert_eq!((counters.attempts_exhausted, counters.further_attempts), (1, 0));
    let mixed = [Refuse, Respond(503, 0), Refuse, Respond(401, 0), Close(0), Respond(202, 0)];
    check(&mixed, unrecorded(12_000), (failed(5, 1, "closed"), 0, &[1, 3, 4])).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_open_attempts() {
    let refusal = Respond(400, 2000);
    check(&[refusal, Respond(202, 1500)], recorded(3500), (Ok(202), 3250, &[0, 1])).await;
    check(&[refusal, Hang], recorded(3500), (Ok(400), 3500, &[0, 1])).await;
    check(&[refusal, Respond(500, 500)], recorded(3500), (Ok(400), 2250, &[0, 1])).await;
    check(&[refusal, Respond(503, 500)], recorded(3500), (Ok(400), 2250, &[0, 1])).await;
    // No further candidate is asked after a refusal.
    check(&[Hang, Respond(404, 0), Respond(202, 0)], unrecorded(12_000), (Ok(404), 12_000, &[0, 1])).await;
    check(&[Respond(500, 10), Respond(202, 0)], unrecorded(12_000), (Ok(500), 10, &[0])).await;
}

#[tokio::test(start_paused = true)]
async fn the_next_candidate_is_asked_at_once_when_an_attempt_ends() {
    check(&[Respond(503, 100), Respond(202, 0)], recorded(3500), (Ok(202), 100, &[0, 1])).await;
    // But not beside a hedge that still has time.
    let acts = [Respond(503, 1500), Respond(202, 1000), Respond(202, 0)];
    check(&acts, recorded(3500), (Ok(202), 2167, &[0, 1])).await;
}

#[tokio::test(start_paused = true)]
async fn without_retry_budget_an_open_attempt_goes_on_alone_and_a_failed_one_is_the_last() {
    let spent = |acts: &[Act]| {
        let fleet = SimulatedFleet::new(acts);
        let written = AtomicBool::new(true);
        while fleet.delivery.placement.take_retry(false, &written, Instant::now()).is_some() {}
        fleet
    };
    let fleet = spent(&[Respond(202, 2000), Respond(202, 0)]);
    let response = fleet.place("call", recorded(3500)).await.unwrap();
    assert_eq!((response.attempts, fleet.elapsed_ms(), &*fleet.asked()), (1, 2000, &[0][..]));
    let before = fleet.delivery.placement_counters();
    assert_eq!((before.hedges, before.retries_refused), (0, 2));

    let fleet = spent(&[Respond(503, 0), Respond(202, 0)]);
    let error = fleet.place("call", recorded(3500)).await.unwrap_err();
    assert_eq!(Err(error), failed(1, 0, "status_503"));
    // Ten seconds later there is budget again.
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(fleet.place("call", recorded(3500)).await.unwrap().status, 202);

    // A connection that failed does not count, neither before the first written attempt nor after it.
    let fleet = spent(&[Refuse, Respond(202, 0)]);
    assert_eq!(fleet.place("call", recorded(3500)).await.unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_written_is_given_back_to_the_retry_budget() {
    let fleet = SimulatedFleet::new(&[Respond(503, 0), Refuse, Refuse, Refuse, Respond(503, 0)]);
    fleet.place("call", unrecorded(12_000)).await.unwrap_err();
    let counters = fleet.delivery.placement_counters();
    assert_eq!((counters.hedges, counters.further_attempts), (0, 1));
    let written = AtomicBool::new(true);
    let left = std::iter::from_fn(|| fleet.delivery.placement.take_retry(false, &written, Instant::now()));
    assert_eq!(left.count(), 29);
}

#[tokio::test(start_paused = true)]
async fn a_slow_fleet_gets_at_most_a_fifth_more_requests() {
    let fleet = Arc::new(SimulatedFleet::new(&[Respond(202, 2000); 8]));
    let place = |_| {
        let fleet = Arc::clone(&fleet);
        tokio::spawn(async move { fleet.place("call", recorded(3500)).await.unwrap().status })
    };
    for call in (0..400).map(place).collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), 202);
    }
    assert_eq!(fleet.asked().len(), 400 + 400 / 5);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_goes_to_an_instance_that_becomes_eligible_meanwhile() {
    let fleet = SimulatedFleet::new(&[Hang, Respond(202, 0)]);
    fleet.delivery.drain(fleet.name(1));
    let resumed = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        fleet.delivery.resume(fleet.name(1));
    };
    let (placed, ()) = tokio::join!(fleet.place("call", unrecorded(12_000)), resumed);
    assert_eq!((placed.unwrap().status.as_u16(), fleet.elapsed_ms()), (202, 5000));
    assert_eq!(fleet.asked(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_goes_back_to_an_instance_that_was_busy() {
    let fleet = SimulatedFleet::new(&[Respond(503, 0), Hang]);
    let free = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fleet.listen(0, Respond(202, 0));
    };
    let (placed, ()) = tokio::join!(fleet.place("call", unrecorded(12_000)), free);
    // The share of the second attempt, 3 s, is longer than the ejection of the first instance.
    let response = placed.unwrap();
    assert_eq!((response.status.as_u16(), response.attempts, response.outcome_unknown), (202, 3, 1));
    assert_eq!((fleet.elapsed_ms(), fleet.asked()), (3000, vec![0, 1, 0]));
    // Without an open attempt it is not asked again: the call fails at once.
    check(&[Respond(503, 0); 2], unrecorded(12_000), (failed(2, 0, "status_503"), 0, &[0, 1])).await;
}

/// A source that comes and goes: the second instance is in the fleet again only after the call has arrived.
#[tokio::test(start_paused = true)]
async fn a_call_goes_to_an_instance_of_a_fleet_that_replaces_the_one_it_started_in() {
    for (first, back_ms, placed_ms) in [
        (Hang, 5000, 5000),
        (Respond(503, 6000), 5000, 5000),
        // No attempt is open between the failure and the next attempt.
        (Respond(503, 1000), 500, 1000),
    ] {
        let fleet = SimulatedFleet::new(&[first, Respond(202, 0)]);
        let all = fleet.delivery.fleet.load().members();
        let first_only = all.iter().filter(|one| one.name.as_str() == fleet.name(0)).cloned().collect();
        fleet.delivery.replace_fleet(|_| Some((first_only, true)));
        let replaced = async {
            tokio::time::sleep(Duration::from_millis(back_ms)).await;
            fleet.delivery.replace_fleet(|_| Some((all, true)));
        };
        let (placed, ()) = tokio::join!(fleet.place("call", unrecorded(12_000)), replaced);
        assert_eq!(placed.unwrap().status, 202, "{first:?}");
        assert_eq!((fleet.elapsed_ms(), fleet.asked()), (placed_ms, vec![0, 1]), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lack_of_descriptors_costs_a_call_no_attempt() {
    let fleet = SimulatedFleet::new(&[Respond(202, 0), Respond(202, 0)]);
    fleet.wires.exhaust(8);
    let response = fleet.place("call", unrecorded(12_000)).await.unwrap();
    assert_eq!((response.status.as_u16(), response.attempts), (202, 1));
    assert_eq!(fleet.states(), [InstanceState::Ready; 2]);
    // Whether the other instance would have refused it, too, is not known: a 403 is final.
    let fleet = SimulatedFleet::new(&[Respond(403, 0), Respond(202, 0)]);
    let placed = async { fleet.place("call", recorded(3500)).await };
    let exhausted = async {
        while fleet.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        fleet.wires.exhaust(1000);
    };
    let (placed, ()) = tokio::join!(placed, exhausted);
    assert_eq!(placed.unwrap_err().label(), "all_failed");
}
