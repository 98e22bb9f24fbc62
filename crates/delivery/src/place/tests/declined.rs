//! Instances that decline: their keys are old (401), or they limit requests (429). The gateway has proved the
//! token, so the sender is not to blame.

use std::time::Duration;

use switchboard_routing::{Name, Owner};
use tokio::time::{Instant, advance};

use super::simulated::{Act::*, *};
use crate::{Connections, ForwardError, InstanceState, PlaceError, UpstreamResponse};

fn owner(fleet: &SimulatedFleet) -> Owner {
    let name = |text: &str| Name::parse(text).unwrap();
    Owner { region: name("emea"), instance: name(fleet.name(0)), incarnation: name("0") }
}

/// Forwards a callback to the first instance, and an item without a seal, which also goes there. Returns the
/// result of both, if they are the same.
async fn forward(act: Act, patience_ms: u64) -> (SimulatedFleet, Result<u16, ForwardError>, u128, u32) {
    let mut results = Vec::new();
    for sealed in [true, false] {
        let fleet = SimulatedFleet::with(&[act], |settings| {
            settings.patience = Duration::from_millis(patience_ms);
        });
        let (connections, outbound) = (Connections::default(), outbound("call"));
        let forwarded = if sealed {
            fleet.delivery.forward(&connections, &outbound, owner(&fleet).as_ref()).await
        } else {
            fleet.delivery.forward_unsealed(&connections, &outbound).await
        };
        let attempts = match &forwarded {
            Ok(UpstreamResponse { attempts, .. }) | Err(ForwardError::Declined { attempts, .. }) => *attempts,
            Err(_) => 0,
        };
        let (took, status) = (fleet.elapsed_ms(), forwarded.map(|response| response.status.as_u16()));
        results.push((fleet, status, took, attempts));
    }
    let unsealed = results.pop().unwrap();
    let sealed = results.pop().unwrap();
    assert_eq!((&sealed.1, sealed.2, sealed.3), (&unsealed.1, unsealed.2, unsealed.3));
    sealed
}

#[tokio::test(start_paused = true)]
async fn a_callback_goes_once_more_to_an_instance_with_old_keys() {
    let (fleet, result, took, attempts) = forward(StaleKeys(500), 8000).await;
    assert_eq!((result, took, attempts), (Ok(202), 1000, 2));
    assert_eq!(fleet.asked(), [0, 0]);
    assert_eq!(fleet.states(), [InstanceState::Ready]);
    let status = fleet.status(0);
    let counts = status.counts;
    assert_eq!((counts.failures, counts.callbacks, counts.attempts), (vec![("status_401", 1)], 1, 2));
    assert_eq!(status.in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_401_to_a_callback_is_not_relayed() {
    let (fleet, result, took, _) = forward(StaleKeys(60_000), 8000).await;
    let declined = |fleet: &SimulatedFleet, attempts| {
        let instance = owner(fleet).instance;
        Err(ForwardError::Declined { instance, last: "status_401", attempts })
    };
    assert_eq!((result, took), (declined(&fleet, 2), 1000));
    assert_eq!(fleet.asked(), [0, 0]);
    assert_eq!(fleet.states(), [InstanceState::Ready]);
    assert_eq!(fleet.status(0).counts.failures, [("status_401", 2)]);
    // The patience has no room for a second attempt.
    let (fleet, result, took, _) = forward(StaleKeys(60_000), 900).await;
    assert_eq!((result, took), (declined(&fleet, 1), 0));
    assert_eq!(fleet.status(0).counts.failures, [("status_401", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_replaced_the_one_with_old_keys_gets_no_callback_of_it() {
    let fleet = SimulatedFleet::new(&[StaleKeys(500)]);
    let replaced = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let mut members = fleet.delivery.fleet.load().members();
        members[0].incarnation = Name::parse("next").unwrap();
        fleet.delivery.replace_fleet(|_| Some((members, true)));
    };
    let (owner, connections) = (owner(&fleet), Connections::default());
    let outbound = outbound("call");
    let forwarded = fleet.delivery.forward(&connections, &outbound, owner.as_ref());
    let (forwarded, ()) = tokio::join!(forwarded, replaced);
    assert_eq!(forwarded.unwrap_err().label(), "declined");
    assert_eq!(fleet.asked(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_403_and_a_429_to_a_callback_are_relayed_and_counted() {
    for (act, status, failure, state) in [
        (Respond(403, 0), 403, "status_403", InstanceState::Ready),
        (Respond(429, 0), 429, "status_429", InstanceState::Ready),
        (Limit(20), 429, "status_429", InstanceState::Full),
    ] {
        let (fleet, result, took, attempts) = forward(act, 8000).await;
        assert_eq!((result, took, attempts), (Ok(status), 0, 1));
        assert_eq!(fleet.states(), [state]);
        assert_eq!(fleet.status(0).counts.failures, [(failure, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_limits_requests_gets_no_new_call_for_the_time_that_it_asks_for() {
    for (retry_after, full_for) in [(0, 0), (20, 20), (3600, 60)] {
        let fleet = SimulatedFleet::new(&[Limit(retry_after), Respond(202, 0)]);
        let place = async |asked: &[usize]| {
            let before = fleet.asked().len();
            assert_eq!(fleet.place("call", recorded(3500)).await.unwrap().status, 202);
            assert_eq!(fleet.asked()[before..], *asked, "{retry_after}");
        };
        place(&[0, 1]).await;
        assert_eq!(fleet.status(0).counts.failures, [("status_429", 1)]);
        if full_for == 0 {
            assert_eq!(fleet.states(), [InstanceState::Ready; 2]);
            place(&[0, 1]).await;
            continue;
        }
        advance(Duration::from_millis(full_for * 1000 - 1)).await;
        assert_eq!(fleet.states(), [InstanceState::Full, InstanceState::Ready]);
        place(&[1]).await;
        advance(Duration::from_millis(2)).await;
        assert_eq!(fleet.states(), [InstanceState::Ready; 2]);
        place(&[0, 1]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_limits_requests_is_full() {
    let fleet = SimulatedFleet::new(&[Limit(20); 2]);
    let place = async || {
        let started = Instant::now();
        let error = fleet.place("call", unrecorded(12_000)).await.unwrap_err();
        (error, started.elapsed().as_millis())
    };
    assert_eq!(place().await, (PlaceError::AllDeclined { attempts: 2, last: "status_429" }, 0));
    assert!(!fleet.delivery.can_take_call());
    assert_eq!(place().await, (PlaceError::Full, 0));
    assert_eq!(fleet.asked(), [0, 1]);
    advance(Duration::from_secs(20)).await;
    assert!(fleet.delivery.can_take_call());
    assert_eq!(place().await, (PlaceError::AllDeclined { attempts: 2, last: "status_429" }, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_every_instance_declined_has_an_error_of_its_own() {
    let all_failed = |last| PlaceError::AllFailed { attempts: 2, outcome_unknown: 0, last };
    let all_declined = |last| PlaceError::AllDeclined { attempts: 2, last };
    for (acts, expected) in [
        ([Respond(401, 0), Respond(401, 0)], all_declined("status_401")),
        ([Respond(403, 0), Respond(401, 0)], all_declined("status_401")),
        ([Respond(429, 0), Respond(403, 0)], all_declined("status_403")),
        ([Respond(503, 0), Respond(401, 0)], all_failed("status_401")),
        ([Respond(401, 0), Refuse], all_failed("refused")),
    ] {
        let fleet = SimulatedFleet::new(&acts);
        assert_eq!(fleet.place("call", recorded(3500)).await.unwrap_err(), expected, "{acts:?}");
    }
    let fleet = SimulatedFleet::new(&[Respond(403, 0); 2]);
    assert_eq!(fleet.place("call", recorded(3500)).await.unwrap().status, 403);
}
