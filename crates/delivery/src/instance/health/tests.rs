//! The state machine: sequences of events, and the states after them.

use std::time::Duration;

use proptest::prelude::*;
use switchboard_routing::Load;

use super::*;
use crate::instance::{
    event::{Report, ReportedState},
    placed_calls::CallKey,
};

const READY: Event = reported(ReportedState::Ready, None, None);
const FULL: Event = reported(ReportedState::Full, None, None);
const DRAINING: Event = reported(ReportedState::Draining, None, None);
const FAILED: Event = Event::CallFailed(Cause::Timeout);
const REFUSED: Event = Event::CallFailed(Cause::Refused);
const STARTED: Event = Event::AttemptStarted;
const RESPONDED: Event = Event::CallResponded;
const ACCEPTED: Event = Event::CallAccepted(None);

/// A step of an instance that may be ejected.
fn step(health: &mut Health, event: Event, now: Instant) -> Option<StateChange> {
    health.step(event, now, |_| true)
}

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
        let before = health.state(now);
        let change = step(&mut health, *event, now);
        let after = health.state(now);
        assert_eq!(
            change.map(|change| (change.from, change.to)),
            (before != after).then_some((before, after))
        );
        states.push(after);
    }
    assert_eq!(states, expected, "{events:?}");
}

use InstanceState::{Draining, Ejected, Full, Ready, Starting, Unreachable};

#[test]
fn the_first_report_decides_the_first_state() {
    check(true, &[], &[]);
    let now = Instant::now();
    assert_eq!(Health::new(true, SourceState::Ready, now).state(now), Starting);
    check(true, &[READY], &[Ready]);
    check(true, &[FULL], &[Full]);
    check(true, &[DRAINING], &[Draining]);
    check(true, &[MISSED, MISSED, READY], &[Starting, Starting, Ready]);
}

#[test]
fn an_instance_is_unreachable_after_three_misses_in_a_row_and_back_after_two_hits_in_a_row() {
    let missed = MISSED;
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
fn the_reason_names_the_cause_of_the_last_miss() {
    let now = Instant::now();
    let mut health = Health::new(true, SourceState::Ready, now);
    for (cause, reason) in [
        (Cause::Refused, "not probed yet"),
        (Cause::Refused, "not probed yet"),
        (Cause::TlsExpired, "missed its probes: certificate has expired"),
        (Cause::NotFound, "missed its probes: response was 404"),
    ] {
        step(&mut health, Event::ProbeMissed(cause), now);
        assert_eq!((health.reason(now), health.last_miss()), (reason, Some(cause)));
    }
    for event in [READY, READY] {
        step(&mut health, event, now);
    }
    assert_eq!((health.reason(now), health.last_miss()), (SAYS_READY, Some(Cause::NotFound)));
}

#[test]
fn a_failed_call_ejects_until_a_later_call_succeeds_whatever_the_probe_says() {
    for probed in [true, false] {
        let before: &[Event] = if probed { &[READY] } else { &[] };
        let events = [before, &[FAILED, READY, READY, STARTED, RESPONDED]].concat();
        let states = [&[Ready; 1][..before.len()], &[Ejected, Ejected, Ejected, Ejected, Ready]].concat();
        check(probed, &events, &states);
    }
    // A response to a call that was sent before the failure is not news.
    check(true, &[READY, FAILED, RESPONDED, READY], &[Ready, Ejected, Ejected, Ejected]);
    // Three misses make it an outage, and the ejection applies again after it.
    let missed = MISSED;
    check(
        true,
        &[READY, FAILED, missed, missed, missed, READY, READY],
        &[Ready, Ejected, Ejected, Ejected, Unreachable, Unreachable, Ejected],
    );
}

#[test]
fn a_failure_that_says_nothing_about_the_instance_changes_nothing() {
    for cause in Cause::ALL.into_iter().filter(|cause| cause.blame() == Blame::None) {
        for probed in [true, false] {
            let events = [READY, Event::CallFailed(cause), Event::CallbackFailed(cause)];
            check(probed, &events, &[Ready; 3]);
        }
    }
}

#[test]
fn an_instance_that_refuses_connections_is_unreachable_until_a_later_probe_is_a_hit() {
    let sent = Event::ProbeSent;
    check(true, &[READY, REFUSED, sent, READY], &[Ready, Unreachable, Unreachable, Ready]);
    // The probe was sent before the attempt failed.
    check(
        true,
        &[READY, sent, REFUSED, READY, sent, READY],
        &[Ready, Ready, Unreachable, Unreachable, Unreachable, Ready],
    );
    // What it reports counts all the same.
    check(true, &[READY, sent, REFUSED, DRAINING], &[Ready, Ready, Unreachable, Draining]);
    check(
        true,
        &[READY, REFUSED, sent, MISSED, sent, READY],
        &[Ready, Unreachable, Unreachable, Unreachable, Unreachable, Ready],
    );
    // Without a probe a call finds out.
    check(false, &[REFUSED, READY, STARTED, RESPONDED], &[Unreachable, Unreachable, Unreachable, Ready]);
}

#[test]
fn a_failed_attempt_does_not_change_a_reported_state() {
    check(true, &[FULL, FAILED], &[Full, Full]);
    check(true, &[FULL, REFUSED], &[Full, Full]);
    check(true, &[DRAINING, FAILED], &[Draining, Draining]);
}

#[test]
fn the_new_calls_that_an_instance_is_given_after_a_failure() {
    let now = Instant::now();
    for (probed, events, expected) in [
        (true, vec![READY, FAILED], Admission::TrialFrom(now + EJECTION_MIN)),
        (false, vec![FAILED], Admission::TrialFrom(now + EJECTION_MIN)),
        (false, vec![REFUSED], Admission::TrialFrom(now + EJECTION_MIN)),
        (true, vec![READY, FAILED, STARTED], Admission::LastResort),
        (true, vec![READY, REFUSED], Admission::LastResort),
        (true, vec![READY, FAILED, MISSED, MISSED, MISSED], Admission::None),
        (true, vec![READY, REFUSED, MISSED, MISSED, MISSED], Admission::None),
        (true, vec![READY, FAILED, NOT_READY], Admission::None),
        (true, vec![LOAD_HIGH, FAILED], Admission::None),
        (true, vec![], Admission::None),
        (true, vec![READY, FAILED, Event::Drained], Admission::None),
        (true, vec![READY], Admission::All),
    ] {
        let mut health = Health::new(probed, SourceState::Ready, now);
        for event in &events {
            step(&mut health, *event, now);
        }
        assert_eq!(health.admission(), expected, "{events:?}");
    }
}

#[test]
fn the_reason_says_whether_an_ejected_instance_is_half_open() {
    let now = Instant::now();
    let mut health = Health::new(true, SourceState::Ready, now);
    step(&mut health, READY, now);
    step(&mut health, FAILED, now);
    assert_eq!(health.reason(now), "attempt failed: no response in time");
    let half_open = "attempt failed: no response in time; half-open, one call at a time";
    assert_eq!(health.reason(now + EJECTION_MIN), half_open);
    step(&mut health, STARTED, now + EJECTION_MIN);
    assert_eq!(health.reason(now + EJECTION_MIN), half_open);
    step(&mut health, RESPONDED, now + EJECTION_MIN);
    assert_eq!(health.reason(now + EJECTION_MIN), "responded to a new call");
    // Beyond the share of the fleet it is half-open at once.
    health.step(FAILED, now + EJECTION_MIN, |_| false);
    assert_eq!((health.state(now), health.reason(now + EJECTION_MIN)), (Ejected, half_open));
}

#[test]
fn only_an_absence_makes_an_instance_cold() {
    for (probed, events, cold) in [
        (true, vec![], true),
        (true, vec![READY], false),
        (false, vec![], false),
        (true, vec![READY, FAILED], false),
        (true, vec![READY, REFUSED], false),
        (false, vec![REFUSED], false),
        (true, vec![READY, FULL], false),
        (true, vec![READY, Event::Drained], false),
        (true, vec![READY, MISSED, MISSED], false),
        (true, vec![READY, MISSED, MISSED, MISSED], true),
        (true, vec![READY, MISSED, MISSED, MISSED, READY, FULL], true),
        (true, vec![READY, FAILED, MISSED, MISSED, MISSED, READY, READY], true),
        (true, vec![READY, Event::Drained, MISSED, MISSED, MISSED, READY, READY], true),
        (true, vec![READY, NOT_READY], true),
        (true, vec![READY, NOT_READY, LISTED], false),
    ] {
        let now = Instant::now();
        let mut health = Health::new(probed, SourceState::Ready, now);
        for event in &events {
            step(&mut health, *event, now);
        }
        assert_eq!(health.is_cold(), cold, "{events:?}");
    }
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
fn an_instance_that_responds_with_429_is_full_for_the_time_that_it_asks_for() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    for probed in [true, false] {
        let mut health = Health::new(probed, SourceState::Ready, start);
        step(&mut health, READY, start);
        step(&mut health, Event::RateLimited(Duration::from_secs(5)), start);
        // A shorter time, and a report, do not end it.
        step(&mut health, Event::RateLimited(Duration::from_secs(1)), at(1));
        step(&mut health, READY, at(2));
        let states = [0, 4, 5].map(|seconds| health.state(at(seconds)));
        assert_eq!(states, [Full, Full, Ready], "{probed}");
        assert_eq!(health.full_until(), Some(at(5)));
        // It is not ejected: afterwards it takes all calls that rank it first.
        assert_eq!(health.admission(), Admission::All);
        // The change back is logged with the next event.
        let change = step(&mut health, STARTED, at(9)).map(|change| (change.from, change.to));
        assert_eq!(change, Some((Full, Ready)));
        // Draining and unreachable count first.
        step(&mut health, Event::RateLimited(Duration::from_secs(5)), at(9));
        step(&mut health, Event::Drained, at(9));
        assert_eq!(health.state(at(9)), Draining);
    }
}

#[test]
fn a_late_response_to_a_probe_that_was_switched_off_changes_nothing() {
    check(false, &[FULL, MISSED, MISSED, MISSED], &[Ready; 4]);
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
        &[Event::Drained, RESPONDED, FAILED, Event::Resumed],
        &[Draining, Draining, Draining, Ejected],
    );
}

#[test]
fn a_probe_can_be_switched_on_and_off() {
    check(false, &[Event::ProbeConfigured(true), FULL], &[Ready, Full]);
    check(true, &[FULL, Event::ProbeConfigured(false)], &[Full, Ready]);
    check(true, &[Event::ProbeConfigured(false)], &[Ready]);
    check(false, &[FAILED, Event::ProbeConfigured(true), READY], &[Ejected; 3]);
    check(true, &[READY, FAILED, Event::ProbeConfigured(false)], &[Ready, Ejected, Ejected]);
    check(false, &[REFUSED, Event::ProbeConfigured(true), READY], &[Unreachable, Unreachable, Unreachable]);
    check(
        false,
        &[REFUSED, Event::ProbeConfigured(true), Event::ProbeSent, READY],
        &[Unreachable, Unreachable, Unreachable, Ready],
    );
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
    // A drain by the source ends neither an ejection nor the drain by the operator.
    check(
        false,
        &[FAILED, offered(SourceState::Draining), offered(SourceState::Ready)],
        &[Ejected, Draining, Ejected],
    );
    check(
        true,
        &[READY, offered(SourceState::Draining), Event::Drained, Event::Resumed, offered(SourceState::Ready)],
        &[Ready, Draining, Draining, Draining, Ready],
    );
    check(
        true,
        &[READY, offered(Unlisted), READY, offered(SourceState::Ready)],
        &[Ready, Draining, Draining, Ready],
    );
    check(false, &[offered(Unlisted), FAILED, offered(SourceState::Ready)], &[Draining, Draining, Ready]);
    check(true, &[Event::Drained, offered(NotReady), Event::Resumed], &[Draining, Draining, Unreachable]);
    check(
        true,
        &[Event::Drained, offered(SourceState::Removed), Event::Resumed],
        &[Draining, InstanceState::Gone, InstanceState::Gone],
    );
    let now = Instant::now();
    let new = Health::new(false, NotReady, now);
    assert_eq!((new.state(now), new.reason(now)), (Starting, "its pod is not ready yet"));
}

#[test]
fn between_reports_placed_calls_count_and_ended_calls_do_not() {
    let load = |calls, capacity| reported(ReportedState::Ready, Some(calls), Some(capacity));
    let (started, refused) = (STARTED, Event::CallNotAccepted);
    let (accepted, ended) = (Event::CallAccepted(Some(CALL)), Event::CallEnded(CALL));
    // A pending call takes the last place.
    check(true, &[load(8, 10), started, started, refused, accepted], &[Ready, Ready, Full, Ready, Ready]);
    check(true, &[load(9, 10), started, accepted, ended], &[Ready, Full, Full, Ready]);
    // A call that was not placed here, and one that has ended already, free no place.
    check(true, &[load(10, 10), ended], &[Full, Full]);
    check(
        true,
        &[load(9, 10), started, accepted, ended, started, ended],
        &[Ready, Full, Full, Ready, Full, Full],
    );
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
    check(true, &[FULL, started, accepted, ended], &[Full; 4]);
}

#[test]
fn the_expected_calls_are_the_report_plus_placed_minus_ended_calls() {
    let now = Instant::now();
    let mut health = Health::new(true, SourceState::Ready, now);
    assert_eq!(health.load_estimate().expected_calls(), None);
    let report = reported(ReportedState::Ready, Some(3), Some(10));
    for event in [
        report,
        STARTED,
        STARTED,
        Event::CallAccepted(Some(CALL)),
        Event::CallEnded(CALL),
        Event::CallEnded(CALL),
    ] {
        step(&mut health, event, now);
    }
    assert_eq!(health.load_estimate().expected_calls(), Some(4));
    assert_eq!(health.load_estimate().load(), Some(Load { calls: 4, capacity: 10 }));
}

/// A change of state with its history: with a probe or without, the first state of the source, the earlier
/// events, the event that changes it, the old and the new state, and the reason.
struct Case(bool, SourceState, &'static [Event], Event, InstanceState, InstanceState, &'static str);

const LOAD_LOW: Event = reported(ReportedState::Ready, Some(0), Some(1));
const LOAD_HIGH: Event = reported(ReportedState::Ready, Some(1), Some(1));
const MISSED: Event = Event::ProbeMissed(Cause::Timeout);
const CALL: CallKey = CallKey::numbered(1);
const CALL_ACCEPTED: Event = Event::CallAccepted(Some(CALL));
const NOT_READY: Event = Event::SourceChanged(SourceState::NotReady);
const LISTED: Event = Event::SourceChanged(SourceState::Ready);
const TERMINATING: Event = Event::SourceChanged(SourceState::Terminating);
const LEFT: Event = Event::SourceChanged(SourceState::Unlisted);
const GONE: Event = Event::SourceChanged(SourceState::Removed);

const NOT_PROBED: &str = "not probed yet";
const NO_PROBE: &str = "no probe is configured";
const NOT_READY_YET: &str = "its pod is not ready yet";
const POD_NOT_READY: &str = "its pod is not ready";
const TERMINATES: &str = "its pod is terminating";
const UNLISTED: &str = "no longer listed";
const BY_OPERATOR: &str = "drained by the operator";
const SAYS_READY: &str = "its probe says ready";
const SAYS_FULL: &str = "its probe says full";
const SAYS_DRAINING: &str = "its probe says draining";
const AT_CAPACITY: &str = "calls reached its capacity";
const MISSED_PROBES: &str = "missed its probes: no response in time";
const HAS_RESPONDED: &str = "responded to a new call";
const TIMED_OUT: &str = "attempt failed: no response in time";
const WAS_REFUSED: &str = "attempt failed: connection refused";
const LEFT_FLEET: &str = "left the fleet";
const WAS_429: &str = "responded with 429 and Retry-After";
const LIMITED: Event = Event::RateLimited(Duration::from_secs(5));
const LIMITED_SHORTLY: Event = Event::RateLimited(Duration::from_millis(100));

const LAST_PLACE_TAKEN: &[Event] = &[LOAD_LOW, STARTED, CALL_ACCEPTED];

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
        Case(true, Listed, &[READY], FULL, Ready, Full, SAYS_FULL),
        Case(true, Listed, &[READY], LOAD_HIGH, Ready, Full, AT_CAPACITY),
        Case(true, Listed, &[LOAD_LOW], Event::AttemptStarted, Ready, Full, AT_CAPACITY),
        Case(true, Listed, &[READY], LIMITED, Ready, Full, WAS_429),
        Case(true, Listed, &[READY], DRAINING, Ready, Draining, SAYS_DRAINING),
        Case(true, Listed, &[READY], Event::Drained, Ready, Draining, BY_OPERATOR),
        Case(true, Listed, &[READY], TERMINATING, Ready, Draining, TERMINATES),
        Case(true, Listed, &[READY], LEFT, Ready, Draining, UNLISTED),
        Case(true, Listed, &[READY, MISSED, MISSED], MISSED, Ready, Unreachable, MISSED_PROBES),
        Case(true, Listed, &[READY], FAILED, Ready, Ejected, TIMED_OUT),
        Case(false, Listed, &[], FAILED, Ready, Ejected, TIMED_OUT),
        Case(true, Listed, &[READY], REFUSED, Ready, Unreachable, WAS_REFUSED),
        Case(false, Listed, &[], REFUSED, Ready, Unreachable, WAS_REFUSED),
        Case(true, Listed, &[READY], NOT_READY, Ready, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[READY], GONE, Ready, Gone, LEFT_FLEET),
        Case(true, Listed, &[FULL], READY, Full, Ready, SAYS_READY),
        Case(true, Listed, &[READY, LIMITED_SHORTLY], Event::ProbeSent, Full, Ready, SAYS_READY),
        Case(true, Listed, LAST_PLACE_TAKEN, Event::CallEnded(CALL), Full, Ready, SAYS_READY),
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
        Case(true, Listed, &[LOAD_LOW, STARTED, FAILED], Event::CallNotAccepted, Full, Ejected, TIMED_OUT),
        Case(true, Listed, &[FULL, FAILED], READY, Full, Ejected, TIMED_OUT),
        Case(true, Listed, &[LOAD_LOW, STARTED], REFUSED, Full, Unreachable, WAS_REFUSED),
        Case(true, Listed, &[FULL], NOT_READY, Full, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[FULL], GONE, Full, Gone, LEFT_FLEET),
        Case(true, Listed, &[Event::Drained], Event::Resumed, Draining, Starting, NOT_PROBED),
        Case(true, Listed, &[TERMINATING], LISTED, Draining, Starting, NOT_PROBED),
        Case(true, Unready, &[TERMINATING], NOT_READY, Draining, Starting, NOT_READY_YET),
        Case(true, Listed, &[DRAINING], READY, Draining, Ready, SAYS_READY),
        Case(false, Listed, &[LEFT], LISTED, Draining, Ready, NO_PROBE),
        Case(false, Listed, &[FAILED, STARTED, RESPONDED, LEFT], LISTED, Draining, Ready, HAS_RESPONDED),
        Case(true, Listed, &[DRAINING], FULL, Draining, Full, SAYS_FULL),
        Case(true, Listed, &[LOAD_HIGH, Event::Drained], Event::Resumed, Draining, Full, AT_CAPACITY),
        Case(true, Listed, &[DRAINING, MISSED, MISSED], MISSED, Draining, Unreachable, MISSED_PROBES),
        Case(false, Listed, &[FAILED, Event::Drained], Event::Resumed, Draining, Ejected, TIMED_OUT),
        Case(false, Listed, &[REFUSED, Event::Drained], Event::Resumed, Draining, Unreachable, WAS_REFUSED),
        Case(true, Listed, &[LEFT], NOT_READY, Draining, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[DRAINING], GONE, Draining, Gone, LEFT_FLEET),
        Case(true, Listed, &[NOT_READY], LISTED, Unreachable, Starting, NOT_PROBED),
        Case(true, Listed, &[READY, FAILED, STARTED], RESPONDED, Ejected, Ready, HAS_RESPONDED),
        Case(false, Listed, &[FAILED, STARTED], RESPONDED, Ejected, Ready, HAS_RESPONDED),
        Case(true, Listed, &[READY, FAILED], FULL, Ejected, Full, SAYS_FULL),
        Case(true, Listed, &[READY, FAILED], LOAD_HIGH, Ejected, Full, AT_CAPACITY),
        Case(true, Listed, &[READY, FAILED], LIMITED, Ejected, Full, WAS_429),
        Case(true, Listed, &[READY, FAILED], DRAINING, Ejected, Draining, SAYS_DRAINING),
        Case(true, Listed, &[READY, FAILED], Event::Drained, Ejected, Draining, BY_OPERATOR),
        Case(true, Listed, &[READY, FAILED], TERMINATING, Ejected, Draining, TERMINATES),
        Case(true, Listed, &[READY, FAILED], LEFT, Ejected, Draining, UNLISTED),
        Case(true, Listed, &[READY, FAILED, MISSED, MISSED], MISSED, Ejected, Unreachable, MISSED_PROBES),
        Case(true, Listed, &[READY, FAILED], REFUSED, Ejected, Unreachable, WAS_REFUSED),
        Case(true, Listed, &[READY, FAILED], NOT_READY, Ejected, Unreachable, POD_NOT_READY),
        Case(true, Listed, &[READY, FAILED], GONE, Ejected, Gone, LEFT_FLEET),
        Case(true, Listed, &[READY, REFUSED, Event::ProbeSent], READY, Unreachable, Ready, SAYS_READY),
        Case(
            true,
            Listed,
            &[READY, FAILED, REFUSED, Event::ProbeSent],
            READY,
            Unreachable,
            Ejected,
            TIMED_OUT,
        ),
        Case(true, Listed, &[MISSED, MISSED, MISSED, READY], READY, Unreachable, Ready, SAYS_READY),
        Case(false, Listed, &[REFUSED, STARTED], RESPONDED, Unreachable, Ready, HAS_RESPONDED),
        Case(true, Listed, &[READY, REFUSED], Event::ProbeConfigured(false), Unreachable, Ready, NO_PROBE),
        Case(true, Listed, &[READY, REFUSED], FULL, Unreachable, Full, SAYS_FULL),
        Case(true, Listed, &[READY, REFUSED, Event::ProbeSent], LOAD_HIGH, Unreachable, Full, AT_CAPACITY),
        Case(true, Listed, &[READY, REFUSED], DRAINING, Unreachable, Draining, SAYS_DRAINING),
        Case(true, Listed, &[READY, REFUSED], Event::Drained, Unreachable, Draining, BY_OPERATOR),
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
            step(&mut health, *earlier, now);
        }
        let later = now + Duration::from_millis(500);
        let change = step(&mut health, *event, later);
        let expected = StateChange { from: *from, to: *to, reason };
        assert_eq!(change, Some(expected), "{before:?} {event:?}");
        assert_eq!((health.state(later), health.reason(later), health.since()), (*to, *reason, later));
    }
}

/// All events except the removal, after which there are none: an instance that comes back has a new tracker.
fn any_later_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => any_event(),
        2 => Just(Event::ProbeSent),
        2 => proptest::option::of(Just(CALL)).prop_map(Event::CallAccepted),
        2 => Just(Event::CallbackFailed(Cause::Timeout)),
        2 => Just(Event::CallNotAccepted),
        2 => Just(Event::CallEnded(CALL)),
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
            if let Some(StateChange { from, to, reason }) = step(&mut health, event, now) {
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
        4 => Just(MISSED),
        1 => Just(Event::AttemptStarted),
        2 => Just(FAILED),
        1 => Just(REFUSED),
        1 => Just(RESPONDED),
        1 => Just(Event::Drained),
        1 => Just(Event::Resumed),
        1 => (1..60_u64).prop_map(|seconds| Event::RateLimited(Duration::from_secs(seconds))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With a probe, an instance is ready only if its last report said so, it did not miss its probes, and it
    /// responded to a call since it failed one.
    #[test]
    fn a_full_draining_silent_or_failing_instance_is_never_ready(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let now = Instant::now();
        let mut health = Health::new(true, SourceState::Ready, now);
        let (mut reported_ready, mut drained, mut misses, mut failed) = (false, false, 0, false);
        let (mut was_probed_ready, mut is_absent) = (false, false);
        for event in events {
            step(&mut health, event, now);
            match event {
                Event::Reported(Report { state, calls, capacity }) => {
                    let at_capacity = calls.zip(capacity).is_some_and(|(calls, capacity)| calls >= capacity);
                    was_probed_ready |= state == ReportedState::Ready;
                    reported_ready = state == ReportedState::Ready && !at_capacity;
                    misses = 0;
                }
                Event::ProbeMissed(_) => misses += 1,
                // Before the first report there are no calls.
                Event::CallFailed(cause) => {
                    failed |= cause == Cause::Timeout && was_probed_ready && misses < 3 && !is_absent;
                }
                Event::CallResponded => failed = false,
                Event::Drained => drained = true,
                Event::Resumed => drained = false,
                Event::ProbeSent
                | Event::AttemptStarted
                | Event::RateLimited(_)
                | Event::CallbackFailed(_)
                | Event::RaceLost
                | Event::ProbeConfigured(_)
                | Event::SourceChanged(_)
                | Event::CallAccepted(_)
                | Event::CallNotAccepted
                | Event::CallEnded(_) => {}
            }
            is_absent = health.probes.is_absent();
            if health.state(now) == Ready {
                prop_assert!(reported_ready && !drained && misses < 3 && !failed);
            }
        }
        // It always comes back after the operator's resume, two hits, and a response to a call.
        let sent = Event::ProbeSent;
        for event in [Event::Resumed, sent, READY, READY, STARTED, RESPONDED, ACCEPTED, sent, READY] {
            step(&mut health, event, now);
        }
        prop_assert_eq!(health.state(now + Duration::from_secs(60)), Ready);
    }

    /// Without a probe, only the operator excludes an instance completely for longer than a minute.
    #[test]
    fn without_a_probe_only_the_operator_excludes_an_instance(
        events in proptest::collection::vec(any_event(), 0..40),
    ) {
        let now = Instant::now();
        let mut health = Health::new(false, SourceState::Ready, now);
        let mut drained = false;
        for event in events {
            step(&mut health, event, now);
            drained = event == Event::Drained || drained && event != Event::Resumed;
            let later = now + Duration::from_secs(60);
            prop_assert_eq!(health.state(later) == Draining, drained);
            prop_assert!(drained || matches!(health.state(later), Ready | Ejected | Unreachable));
        }
    }
}
