//! The state machine: sequences of events, and the states after them.

use proptest::prelude::*;
use switchboard_routing::Load;

use super::*;
use crate::cause::Cause;

const READY: Event = reported(ReportedState::Ready, None, None);
const FULL: Event = reported(ReportedState::Full, None, None);
const DRAINING: Event = reported(ReportedState::Draining, None, None);
const FAILED: Event = Event::CallFailed(Cause::Timeout);

const fn reported(state: ReportedState, calls: Option<u32>, capacity: Option<u32>) -> Event {
    Event::Reported(Report { state, calls, capacity })
}

/// Checks the state after each of `events`, which are a millisecond apart.
#[track_caller]
fn check(probed: bool, events: &[Event], expected: &[InstanceState]) {
    let mut now = Instant::now();
    let mut health = Health::new(probed, SourceState::Ready, now);
    let mut states = Vec::new();
    for event in events {
        now += Duration::from_millis(1);
        let before = health.state();
        let change = health.step(*event, now);
        let after = health.state();
        assert_eq!(
            change.map(|change| (change.from, change.to)),
            (before != after).then_some((before, after))
        );
        states.push(after);
    }
    assert_eq!(states, expected, "{events:?}");
}

use InstanceState::{Draining, Full, Ready, Starting, Unreachable};

#[test]
fn the_first_report_decides_the_first_state() {
    check(true, &[], &[]);
    assert_eq!(Health::new(true, SourceState::Ready, Instant::now()).state(), Starting);
    check(true, &[READY], &[Ready]);
    check(true, &[FULL], &[Full]);
    check(true, &[DRAINING], &[Draining]);
    check(true, &[Event::ProbeMissed, Event::ProbeMissed, READY], &[Starting, Starting, Ready]);
}

#[test]
fn an_instance_is_unreachable_after_three_misses_in_a_row_and_back_after_two_hits_in_a_row() {
    let missed = Event::ProbeMissed;
    check(true, &[READY, missed, missed, READY, missed, missed], &[Ready; 6]);
    check(true, &[READY, missed, missed, missed], &[Ready, Ready, Ready, Unreachable]);
    check(
        true,
        &[missed, missed, missed, READY, missed, READY, READY],
        &[Starting, Starting, Unreachable, Unreachable, Unreachable, Unreachable, Ready],
    );
    check(
        true,
        &[missed, missed, missed, DRAINING, FULL],
        &[Starting, Starting, Unreachable, Unreachable, Full],
    );
    check(true, &[DRAINING, missed, missed, missed], &[Draining, Draining, Draining, Unreachable]);
}

#[test]
fn a_failed_attempt_ejects_until_the_next_hit() {
    check(true, &[READY, FAILED, READY], &[Ready, Unreachable, Ready]);
    check(true, &[READY, FAILED, Event::ProbeMissed, READY], &[Ready, Unreachable, Unreachable, Ready]);
    check(true, &[READY, FAILED, Event::CallbackResponded], &[Ready, Unreachable, Unreachable]);
    // Two more misses make it an outage.
    let missed = Event::ProbeMissed;
    check(
        true,
        &[READY, FAILED, missed, missed, missed, READY, READY],
        &[Ready, Unreachable, Unreachable, Unreachable, Unreachable, Unreachable, Ready],
    );
}

#[test]
fn a_failed_attempt_does_not_change_a_reported_state() {
    check(true, &[FULL, FAILED], &[Full, Full]);
    check(true, &[DRAINING, FAILED], &[Draining, Draining]);
}

#[test]
fn calls_at_the_capacity_are_full() {
    let load = |calls, capacity| reported(ReportedState::Ready, Some(calls), Some(capacity));
    check(true, &[load(9, 10), load(10, 10), load(11, 10), load(9, 10)], &[Ready, Full, Full, Ready]);
    check(true, &[load(0, 0)], &[Full]);
    check(true, &[reported(ReportedState::Draining, Some(10), Some(10))], &[Draining]);
    check(true, &[reported(ReportedState::Ready, Some(10), None)], &[Ready]);
}

#[test]
fn without_a_probe_attempts_are_the_probe() {
    check(
        false,
        &[FAILED, Event::CallbackResponded, FAILED, Event::AttemptStarted],
        &[Unreachable, Ready, Unreachable, Unreachable],
    );
    // A late response to a probe that was switched off.
    check(false, &[FULL, Event::ProbeMissed, Event::ProbeMissed, Event::ProbeMissed], &[Ready; 4]);
}

#[test]
fn without_a_probe_a_failed_instance_backs_off_and_is_then_half_open() {
    let start = Instant::now();
    let mut health = Health::new(false, SourceState::Ready, start);
    health.step(FAILED, start);
    assert_eq!(health.backoff_until(), Some(start + BACKOFF));
    let later = start + BACKOFF * 2;
    health.step(Event::AttemptStarted, later);
    assert_eq!(health.backoff_until(), Some(later + BACKOFF));
    health.step(Event::CallbackResponded, later);
    assert_eq!((health.state(), health.backoff_until()), (Ready, None));
    health.step(Event::AttemptStarted, later);
    assert_eq!(health.backoff_until(), None);
}

#[test]
fn the_operators_drain_overrides_the_probe_until_resume() {
    check(
        true,
        &[READY, Event::Drained, READY, FULL, Event::Resumed],
        &[Ready, Draining, Draining, Draining, Full],
    );
    check(true, &[DRAINING, Event::Drained, Event::Resumed], &[Draining; 3]);
    check(
        false,
        &[Event::Drained, Event::CallbackResponded, FAILED, Event::Resumed],
        &[Draining, Draining, Draining, Unreachable],
    );
}

#[test]
fn a_probe_can_be_switched_on_and_off() {
    check(false, &[Event::ProbeConfigured(true), FULL], &[Ready, Full]);
    check(true, &[FULL, Event::ProbeConfigured(false)], &[Full, Ready]);
    check(true, &[Event::ProbeConfigured(false)], &[Ready]);
    check(false, &[FAILED, Event::ProbeConfigured(true), READY], &[Unreachable, Unreachable, Ready]);
    check(true, &[Event::Drained, Event::ProbeConfigured(false)], &[Draining, Draining]);
}

#[test]
fn the_source_overrides_the_probe_and_the_operator_overrides_both() {
    use SourceState::{NotReady, Terminating, Unlisted};
    let offered = Event::SourceChanged;
    check(
        true,
        &[READY, offered(NotReady), READY, offered(SourceState::Ready)],
        &[Ready, Unreachable, Unreachable, Ready],
    );
    check(true, &[READY, offered(Terminating), READY], &[Ready, Draining, Draining]);
    check(
        true,
        &[READY, offered(Unlisted), READY, offered(SourceState::Ready)],
        &[Ready, Draining, Draining, Ready],
    );
    check(false, &[offered(Unlisted), FAILED, Event::CallbackResponded], &[Draining; 3]);
    check(true, &[Event::Drained, offered(NotReady), Event::Resumed], &[Draining, Draining, Unreachable]);
    check(
        true,
        &[Event::Drained, offered(SourceState::Removed), Event::Resumed],
        &[Draining, InstanceState::Gone, InstanceState::Gone],
    );
    let new = Health::new(false, NotReady, Instant::now());
    assert_eq!((new.state(), new.reason()), (Starting, "its pod is not ready yet"));
}

#[test]
fn between_reports_placed_calls_count_and_ended_calls_do_not() {
    let load = |calls, capacity| reported(ReportedState::Ready, Some(calls), Some(capacity));
    let (started, accepted, refused, ended) =
        (Event::AttemptStarted, Event::CallAccepted, Event::CallNotAccepted, Event::CallEnded);
    // A pending call takes the last place.
    check(true, &[load(8, 10), started, started, refused, accepted], &[Ready, Ready, Full, Ready, Ready]);
    check(true, &[load(9, 10), started, accepted, ended], &[Ready, Full, Full, Ready]);
    check(true, &[load(10, 10), ended, started, accepted], &[Full, Ready, Full, Full]);
    // Calls accepted before the probe was sent are in its report; later calls may be missing.
    check(
        true,
        &[
            load(8, 10),
            started,
            accepted,
            Event::ProbeSent,
            started,
            accepted,
            load(9, 10),
            Event::ProbeSent,
            load(8, 10),
        ],
        &[Ready, Ready, Ready, Ready, Full, Full, Full, Full, Ready],
    );
    // A reported `full` stands, whatever the estimate.
    check(true, &[FULL, ended], &[Full, Full]);
}

#[test]
fn the_expected_calls_are_the_report_plus_placed_minus_ended_calls() {
    let now = Instant::now();
    let mut health = Health::new(true, SourceState::Ready, now);
    assert_eq!(health.load_estimate().expected_calls(), None);
    let report = reported(ReportedState::Ready, Some(3), Some(10));
    for event in [
        report,
        Event::AttemptStarted,
        Event::AttemptStarted,
        Event::CallAccepted,
        Event::CallEnded,
        Event::CallEnded,
    ] {
        health.step(event, now);
    }
    assert_eq!(health.load_estimate().expected_calls(), Some(3));
    assert_eq!(health.load_estimate().load(), Some(Load { calls: 3, capacity: 10 }));
}

/// A change of state with its history: with a probe or without, the first state of the source, the earlier
/// events, the event that changes it, the old and the new state, and the reason.
struct Case(bool, SourceState, &'static [Event], Event, InstanceState, InstanceState, &'static str);

const LOAD_LOW: Event = reported(ReportedState::Ready, Some(0), Some(1));
const LOAD_HIGH: Event = reported(ReportedState::Ready, Some(1), Some(1));
const MISSED: Event = Event::ProbeMissed;
const NOT_READY: Event = Event::SourceChanged(SourceState::NotReady);
const LISTED: Event = Event::SourceChanged(SourceState::Ready);
const TERMINATING: Event = Event::SourceChanged(SourceState::Terminating);
const LEFT: Event = Event::SourceChanged(SourceState::Unlisted);
const GONE: Event = Event::SourceChanged(SourceState::Removed);

const NOT_READY_YET: &str = "its pod is not ready yet";
const POD_NOT_READY: &str = "its pod is not ready";
const TERMINATES: &str = "its pod is terminating";
const UNLISTED: &str = "no longer listed";
const BY_OPERATOR: &str = "drained by the operator";
const SAYS_READY: &str = "its probe says ready";
const SAYS_FULL: &str = "its probe says full";
const SAYS_DRAINING: &str = "its probe says draining";
const AT_CAPACITY: &str = "calls reached its capacity";
const MISSED_PROBES: &str = "missed its probes";
const RESPONDED: &str = "responded to a request";
const AN_ATTEMPT: &str = "attempt failed: no response in time";
const LEFT_FLEET: &str = "left the fleet";

/// Every possible change of state, with every reason for it.
const TRANSITIONS: &[Case] = {
    use InstanceState::Gone;
    use SourceState::{NotReady as Unready, Ready as Listed};
    &[
        Case(true, Listed, &[], READY, Starting, Ready, SAYS_READY),
        Case(true, Listed, &[], FULL, Starting, Full, SAYS_FULL),
        Case(true, Listed, &[], LOAD_HIGH, Starting, Full, AT_CAPACITY),
        Case(true, Listed, &[], DRAINING, Starting, Draining, SAYS_DRAINING),
        Case(true, Listed, &[], Event::Drained, Starting, Draining, BY_OPERATOR),
        Case(true, Listed, &[], TERMINATING, Starting, Draining, TERMINATES),
        Case(true, Listed, &[], LEFT, Starting, Draining, UNLISTED),
        Case(true, Listed, &[MISSED, MISSED], MISSED, Starting, Unreachable, MISSED_PROBES),
        Case(true, Listed, &[], NOT_READY, Starting, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[], GONE, Starting, Gone, LEFT_FLEET),
        Case(true, Listed, &[], Event::ProbeConfigured(false), Starting, Ready, NO_PROBE),
        Case(false, Unready, &[], LISTED, Starting, Ready, NO_PROBE),
        Case(true, Unready, &[READY], LISTED, Starting, Ready, SAYS_READY),
        Case(true, Unready, &[FULL], LISTED, Starting, Full, SAYS_FULL),
        Case(true, Unready, &[LOAD_HIGH], LISTED, Starting, Full, AT_CAPACITY),
        Case(true, Unready, &[DRAINING], LISTED, Starting, Draining, SAYS_DRAINING),
        Case(true, Unready, &[MISSED; 3], LISTED, Starting, Unreachable, MISSED_PROBES),
        Case(false, Unready, &[FAILED], LISTED, Starting, Unreachable, AN_ATTEMPT),
        Case(true, Listed, &[READY], FULL, Ready, Full, SAYS_FULL),
        Case(true, Listed, &[READY], LOAD_HIGH, Ready, Full, AT_CAPACITY),
        Case(true, Listed, &[LOAD_LOW], Event::AttemptStarted, Ready, Full, AT_CAPACITY),
        Case(true, Listed, &[READY], DRAINING, Ready, Draining, SAYS_DRAINING),
        Case(true, Listed, &[READY], Event::Drained, Ready, Draining, BY_OPERATOR),
        Case(true, Listed, &[READY], TERMINATING, Ready, Draining, TERMINATES),
        Case(true, Listed, &[READY], LEFT, Ready, Draining, UNLISTED),
        Case(true, Listed, &[READY, MISSED, MISSED], MISSED, Ready, Unreachable, MISSED_PROBES),
        Case(true, Listed, &[READY], FAILED, Ready, Unreachable, AN_ATTEMPT),
        Case(false, Listed, &[], FAILED, Ready, Unreachable, AN_ATTEMPT),
        Case(true, Listed, &[READY], NOT_READY, Ready, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[READY], GONE, Ready, Gone, LEFT_FLEET),
        Case(true, Listed, &[FULL], READY, Full, Ready, SAYS_READY),
        Case(true, Listed, &[LOAD_HIGH], Event::CallEnded, Full, Ready, SAYS_READY),
        Case(
            true,
            Listed,
            &[LOAD_LOW, Event::AttemptStarted],
            Event::CallNotAccepted,
            Full,
            Ready,
            SAYS_READY,
        ),
        Case(true, Listed, &[FULL], Event::ProbeConfigured(false), Full, Ready, NO_PROBE),
        Case(true, Listed, &[FULL], DRAINING, Full, Draining, SAYS_DRAINING),
        Case(true, Listed, &[FULL], Event::Drained, Full, Draining, BY_OPERATOR),
        Case(true, Listed, &[FULL], TERMINATING, Full, Draining, TERMINATES),
        Case(true, Listed, &[FULL], LEFT, Full, Draining, UNLISTED),
        Case(true, Listed, &[FULL, MISSED, MISSED], MISSED, Full, Unreachable, MISSED_PROBES),
        Case(true, Listed, &[LOAD_LOW, Event::AttemptStarted], FAILED, Full, Unreachable, AN_ATTEMPT),
        Case(true, Listed, &[FULL], NOT_READY, Full, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[FULL], GONE, Full, Gone, LEFT_FLEET),
        Case(true, Listed, &[Event::Drained], Event::Resumed, Draining, Starting, NOT_PROBED),
        Case(true, Listed, &[TERMINATING], LISTED, Draining, Starting, NOT_PROBED),
        Case(true, Unready, &[TERMINATING], NOT_READY, Draining, Starting, NOT_READY_YET),
        Case(true, Listed, &[DRAINING], READY, Draining, Ready, SAYS_READY),
        Case(false, Listed, &[LEFT], LISTED, Draining, Ready, NO_PROBE),
        Case(false, Listed, &[FAILED, LEFT, Event::CallbackResponded], LISTED, Draining, Ready, RESPONDED),
        Case(true, Listed, &[DRAINING], FULL, Draining, Full, SAYS_FULL),
        Case(true, Listed, &[LOAD_HIGH, Event::Drained], Event::Resumed, Draining, Full, AT_CAPACITY),
        Case(true, Listed, &[DRAINING, MISSED, MISSED], MISSED, Draining, Unreachable, MISSED_PROBES),
        Case(false, Listed, &[FAILED, Event::Drained], Event::Resumed, Draining, Unreachable, AN_ATTEMPT),
        Case(true, Listed, &[LEFT], NOT_READY, Draining, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[DRAINING], GONE, Draining, Gone, LEFT_FLEET),
        Case(true, Listed, &[NOT_READY], LISTED, Unreachable, Starting, NOT_PROBED),
        Case(true, Listed, &[READY, FAILED], READY, Unreachable, Ready, SAYS_READY),
        Case(true, Listed, &[MISSED, MISSED, MISSED, READY], READY, Unreachable, Ready, SAYS_READY),
        Case(false, Listed, &[FAILED], Event::CallbackResponded, Unreachable, Ready, RESPONDED),
        Case(true, Listed, &[READY, FAILED], Event::ProbeConfigured(false), Unreachable, Ready, NO_PROBE),
        Case(true, Listed, &[READY, FAILED], FULL, Unreachable, Full, SAYS_FULL),
        Case(true, Listed, &[READY, FAILED], LOAD_HIGH, Unreachable, Full, AT_CAPACITY),
        Case(true, Listed, &[READY, FAILED], DRAINING, Unreachable, Draining, SAYS_DRAINING),
        Case(true, Listed, &[READY, FAILED], Event::Drained, Unreachable, Draining, BY_OPERATOR),
        Case(true, Listed, &[NOT_READY], TERMINATING, Unreachable, Draining, TERMINATES),
        Case(true, Listed, &[NOT_READY], LEFT, Unreachable, Draining, UNLISTED),
        Case(true, Listed, &[NOT_READY], GONE, Unreachable, Gone, LEFT_FLEET),
    ]
};

#[test]
fn every_change_of_state_occurs() {
    for Case(probed, source_state, before, event, from, to, reason) in TRANSITIONS {
        let now = Instant::now();
        let mut health = Health::new(*probed, *source_state, now);
        for earlier in *before {
            health.step(*earlier, now);
        }
        let later = now + Duration::from_secs(1);
        let change = health.step(*event, later);
        let expected = StateChange { from: *from, to: *to, reason };
        assert_eq!(change, Some(expected), "{before:?} {event:?}");
        assert_eq!((health.state(), health.reason(), health.since()), (*to, *reason, later));
    }
}

/// All events except the removal, after which there are none: an instance that comes back has a new tracker.
fn any_later_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => any_event(),
        2 => Just(Event::ProbeSent),
        2 => Just(Event::CallAccepted),
        2 => Just(Event::CallNotAccepted),
        2 => Just(Event::CallEnded),
        1 => any::<bool>().prop_map(Event::ProbeConfigured),
        4 => prop_oneof![Just(NOT_READY), Just(LISTED), Just(TERMINATING), Just(LEFT)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// The table contains every pair of states, and every reason per state. (The reason after `draining` or
    /// `unreachable` depends on the state below.)
    #[test]
    fn there_are_no_other_changes_of_state(
        probed in any::<bool>(),
        not_ready in any::<bool>(),
        events in proptest::collection::vec(any_later_event(), 0..60),
        gone in any::<bool>(),
    ) {
        let now = Instant::now();
        let source_state = if not_ready { SourceState::NotReady } else { SourceState::Ready };
        let mut health = Health::new(probed, source_state, now);
        for event in events.into_iter().chain(gone.then_some(GONE)) {
            if let Some(StateChange { from, to, reason }) = health.step(event, now) {
                let leads = TRANSITIONS.iter().any(|Case(.., start, end, _)| (*start, *end) == (from, to));
                let explains = TRANSITIONS.iter().any(|Case(.., end, why)| (*end, *why) == (to, reason));
                prop_assert!(leads && explains, "{} to {}: {}", from, to, reason);
            }
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    let state =
        prop_oneof![Just(ReportedState::Ready), Just(ReportedState::Full), Just(ReportedState::Draining)];
    let number = || proptest::option::of(0..5_u32);
    prop_oneof![
        4 => (state, number(), number())
            .prop_map(|(state, calls, capacity)| reported(state, calls, capacity)),
        4 => Just(Event::ProbeMissed),
        1 => Just(Event::AttemptStarted),
        2 => Just(FAILED),
        1 => Just(Event::CallbackResponded),
        1 => Just(Event::Drained),
        1 => Just(Event::Resumed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With a probe, an instance takes new calls only if its last report said so, and no later event speaks
    /// against it.
    #[test]
    fn a_full_draining_silent_or_failing_instance_is_never_ready(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let now = Instant::now();
        let mut health = Health::new(true, SourceState::Ready, now);
        let (mut reported_ready, mut drained, mut misses, mut failed) = (false, false, 0, false);
        for event in events {
            health.step(event, now);
            match event {
                Event::Reported(Report { state, calls, capacity }) => {
                    let at_capacity = calls.zip(capacity).is_some_and(|(calls, capacity)| calls >= capacity);
                    reported_ready = state == ReportedState::Ready && !at_capacity;
                    misses = 0;
                    failed = false;
                }
                Event::ProbeMissed => misses += 1,
                Event::CallFailed(_) => failed |= reported_ready,
                Event::Drained => drained = true,
                Event::Resumed => drained = false,
                Event::ProbeSent
                | Event::AttemptStarted
                | Event::CallResponded
                | Event::CallbackResponded
                | Event::CallbackFailed(_)
                | Event::RaceLost
                | Event::ProbeConfigured(_)
                | Event::SourceChanged(_)
                | Event::CallAccepted
                | Event::CallNotAccepted
                | Event::CallEnded => {}
            }
            if health.state() == Ready {
                prop_assert!(reported_ready && !drained && misses < 3 && !failed);
            }
        }
        // It always comes back after the operator's resume and two hits.
        for event in [Event::Resumed, READY, READY] {
            health.step(event, now);
        }
        prop_assert_eq!(health.state(), Ready);
    }

    /// Without a probe, only the operator excludes an instance completely.
    #[test]
    fn without_a_probe_only_the_operator_excludes_an_instance(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let now = Instant::now();
        let mut health = Health::new(false, SourceState::Ready, now);
        let mut drained = false;
        for event in events {
            health.step(event, now);
            match event {
                Event::Drained => drained = true,
                Event::Resumed => drained = false,
                Event::Reported(_)
                | Event::ProbeMissed
                | Event::AttemptStarted
                | Event::CallFailed(_)
                | Event::CallResponded
                | Event::CallbackResponded
                | Event::CallbackFailed(_)
                | Event::RaceLost
                | Event::ProbeConfigured(_)
                | Event::ProbeSent
                | Event::SourceChanged(_)
                | Event::CallAccepted
                | Event::CallNotAccepted
                | Event::CallEnded => {}
            }
            prop_assert_eq!(health.state() == Draining, drained);
            prop_assert!(drained || matches!(health.state(), Ready | Unreachable));
        }
    }
}
