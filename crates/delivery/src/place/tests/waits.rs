//! The wait of a call without candidates, and the errors of calls that no instance took.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::simulated::{Act::*, *};
use crate::{
    InstanceState, PlaceError,
    instance::{Event, Report, ReportedState},
};

const READY: ReportedState = ReportedState::Ready;
const FULL: ReportedState = ReportedState::Full;

fn report(fleet: &SimulatedFleet, instance: usize, state: ReportedState) {
    let report = Report { state, calls: None, capacity: None };
    learn(fleet, instance, Event::Reported(report));
}

fn learn(fleet: &SimulatedFleet, instance: usize, event: Event) {
    let snapshot = fleet.delivery.fleet.load();
    snapshot.instance(fleet.name(instance)).unwrap().tracker.learn(event, Instant::now());
}

fn miss(fleet: &SimulatedFleet, instance: usize) {
    (0..3).for_each(|_| learn(fleet, instance, Event::ProbeMissed(crate::cause::Cause::Timeout)));
}

async fn after(ms: u64) {
    sleep(Duration::from_millis(ms)).await;
}

/// Checks the error of a call, and the milliseconds until then.
async fn check(fleet: &SimulatedFleet, expected: PlaceError, ms: u128) {
    let started = Instant::now();
    let error = fleet.place("call", unrecorded(12_000)).await.unwrap_err();
    assert_eq!((error, started.elapsed().as_millis()), (expected, ms));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_an_instance_that_is_starting() {
    let fleet = SimulatedFleet::with(&[Respond(202, 0)], probed);
    let ready = async {
        after(500).await;
        report(&fleet, 0, READY);
    };
    let (placed, ()) = tokio::join!(fleet.place("call", recorded(3500)), ready);
    assert_eq!((placed.unwrap().status.as_u16(), fleet.elapsed_ms()), (202, 500));
    let counters = fleet.delivery.placement_counters();
    assert_eq!((counters.waits, counters.waits_successful, counters.waiting), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_at_most_1200_ms_and_within_its_budget() {
    let fleet = SimulatedFleet::with(&[Respond(202, 0)], probed);
    check(&fleet, PlaceError::NoneReachable, 1200).await;
    let before = fleet.elapsed_ms();
    let error = fleet.place("call", recorded(1000)).await.unwrap_err();
    assert_eq!((error, fleet.elapsed_ms() - before), (PlaceError::NoneReachable, 700));
    let error = fleet.place("call", recorded(0)).await.unwrap_err();
    assert_eq!(error, PlaceError::AllFailed { attempts: 0, outcome_unknown: 0, last: "no_time" });
}

#[tokio::test(start_paused = true)]
async fn a_call_does_not_wait_for_a_fleet_that_reports_full_or_draining() {
    let fleet = SimulatedFleet::with(&[Respond(202, 0); 3], probed);
    report(&fleet, 0, FULL);
    report(&fleet, 1, ReportedState::Draining);
    fleet.delivery.drain(fleet.name(2));
    check(&fleet, PlaceError::Full, 0).await;
    // An instance that is down does not count.
    fleet.delivery.resume(fleet.name(2));
    miss(&fleet, 2);
    check(&fleet, PlaceError::Full, 0).await;
    // One that is not known to be down may have room.
    let fleet = SimulatedFleet::with(&[Respond(202, 0); 2], probed);
    report(&fleet, 0, FULL);
    check(&fleet, PlaceError::Full, 1200).await;
    // If all are down, none is full.
    miss(&fleet, 0);
    miss(&fleet, 1);
    check(&fleet, PlaceError::NoneReachable, 1200).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_refused_calls_is_busy_and_not_full() {
    let fleet = SimulatedFleet::with(&[Respond(503, 0); 2], probed);
    report(&fleet, 0, FULL);
    report(&fleet, 1, READY);
    check(&fleet, PlaceError::AllFailed { attempts: 1, outcome_unknown: 0, last: "status_503" }, 0).await;
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_calls_wait() {
    let fleet = SimulatedFleet::with(&[Respond(202, 0)], |settings| {
        probed(settings);
        settings.waiting_max = 2;
    });
    let place = async || {
        let error = fleet.place("call", unrecorded(12_000)).await.unwrap_err();
        (error, fleet.elapsed_ms())
    };
    let (one, two, three) = tokio::join!(place(), place(), place());
    let error = PlaceError::NoneReachable;
    assert_eq!([one, two, three], [(error.clone(), 1200), (error.clone(), 1200), (error, 0)]);
    let counters = fleet.delivery.placement_counters();
    assert_eq!((counters.waits, counters.waits_successful, counters.waits_refused), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_an_instance_that_is_restarting() {
    let fleet = SimulatedFleet::new(&[Refuse]);
    let restarted = async {
        after(700).await;
        fleet.listen(0, Respond(202, 0));
    };
    let (placed, ()) = tokio::join!(fleet.place("call", recorded(3500)), restarted);
    let response = placed.unwrap();
    // It is asked again at the end of its ejection.
    assert_eq!((response.status.as_u16(), response.attempts, fleet.elapsed_ms()), (202, 2, 1000));
    let fleet = SimulatedFleet::new(&[Refuse]);
    check(&fleet, PlaceError::AllFailed { attempts: 3, outcome_unknown: 0, last: "refused" }, 1200).await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_has_unready_instances_probed_at_once() {
    let fleet = SimulatedFleet::with(&[Refuse; 3], probed);
    let running = tokio::spawn(Arc::clone(&fleet.delivery).run());
    after(150_000).await;
    assert_eq!(fleet.states(), [InstanceState::Unreachable; 3]);
    fleet.listen(1, Respond(202, 0));
    after(5000).await;
    // The next probe by the clock is due in 25 s, and it needs two.
    let arrived = Instant::now();
    let response = fleet.place("call", recorded(3500)).await.unwrap();
    assert_eq!((response.status.as_u16(), response.instance.as_str()), (202, fleet.name(1)));
    assert!(arrived.elapsed() < Duration::from_millis(500), "{:?}", arrived.elapsed());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_call_is_refused_at_once_if_no_instance_serves_its_app_or_the_fleet_is_not_known() {
    check(&SimulatedFleet::new(&[]), PlaceError::NoInstance, 0).await;
    let fleet = SimulatedFleet::with(&[Respond(202, 0)], |settings| {
        settings.instances[0].apps = Some(vec![uuid::Uuid::from_u128(9)]);
    });
    check(&fleet, PlaceError::NoInstance, 0).await;
    let fleet = SimulatedFleet::new(&[]);
    fleet.delivery.replace_fleet(|fleet| Some((fleet.members(), false)));
    check(&fleet, PlaceError::FleetUnknown, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_replaced_fleet_ends_the_wait() {
    let fleet = SimulatedFleet::with(&[Respond(202, 0)], probed);
    let replaced = async {
        after(300).await;
        report(&fleet, 0, READY);
        fleet.delivery.replace_fleet(|fleet| Some((fleet.members(), true)));
    };
    let (placed, ()) = tokio::join!(fleet.place("call", recorded(3500)), replaced);
    assert_eq!((placed.unwrap().status.as_u16(), fleet.elapsed_ms()), (202, 300));
}
