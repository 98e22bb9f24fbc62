//! The state machine, as sequences of events and what must hold after each.

use proptest::prelude::*;

use super::*;

const READY: Event = reported(ReportedState::Ready, None, None);
const FULL: Event = reported(ReportedState::Full, None, None);
const DRAINING: Event = reported(ReportedState::Draining, None, None);
const FAILED: Event = Event::TryFailed("a try failed");

const fn reported(state: ReportedState, calls: Option<u32>, capacity: Option<u32>) -> Event {
    Event::Reported(Report { state, calls, capacity })
}

/// The states after each of `events`, a millisecond apart.
#[track_caller]
fn check(probed: bool, events: &[Event], expected: &[InstanceState]) {
    let mut now = Instant::now();
    let mut health = Health::new(probed, Offer::Ready, now);
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
fn the_first_report_ends_the_start() {
    check(true, &[], &[]);
    assert_eq!(Health::new(true, Offer::Ready, Instant::now()).state(), Starting);
    check(true, &[READY], &[Ready]);
    check(true, &[FULL], &[Full]);
    check(true, &[DRAINING], &[Draining]);
    check(true, &[Event::Missed, Event::Missed, READY], &[Starting, Starting, Ready]);
}

#[test]
fn an_instance_is_unreachable_after_three_misses_in_a_row_and_back_after_two_hits_in_a_row() {
    let missed = Event::Missed;
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
fn a_failed_try_demotes_until_the_next_hit() {
    check(true, &[READY, FAILED, READY], &[Ready, Unreachable, Ready]);
    check(true, &[READY, FAILED, Event::Missed, READY], &[Ready, Unreachable, Unreachable, Ready]);
    check(true, &[READY, FAILED, Event::Answered], &[Ready, Unreachable, Unreachable]);
    // Two more misses than that are an outage.
    let missed = Event::Missed;
    check(
        true,
        &[READY, FAILED, missed, missed, missed, READY, READY],
        &[Ready, Unreachable, Unreachable, Unreachable, Unreachable, Unreachable, Ready],
    );
}

#[test]
fn a_failed_try_does_not_change_what_an_instance_said_of_itself() {
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
fn without_a_probe_tries_are_the_probe() {
    check(
        false,
        &[FAILED, Event::Answered, FAILED, Event::TryBegan],
        &[Unreachable, Ready, Unreachable, Unreachable],
    );
    // A late answer to a probe that was switched off.
    check(false, &[FULL, Event::Missed, Event::Missed, Event::Missed], &[Ready; 4]);
}

#[test]
fn without_a_probe_a_failed_instance_rests_and_then_one_call_at_a_time_tries_it() {
    let start = Instant::now();
    let mut health = Health::new(false, Offer::Ready, start);
    health.step(FAILED, start);
    assert_eq!(health.rests_until(), Some(start + REST));
    let later = start + REST * 2;
    health.step(Event::TryBegan, later);
    assert_eq!(health.rests_until(), Some(later + REST));
    health.step(Event::Answered, later);
    assert_eq!((health.state(), health.rests_until()), (Ready, None));
    health.step(Event::TryBegan, later);
    assert_eq!(health.rests_until(), None);
}

#[test]
fn the_operators_drain_hides_what_the_probe_says_and_resume_shows_it_again() {
    check(
        true,
        &[READY, Event::Drained, READY, FULL, Event::Resumed],
        &[Ready, Draining, Draining, Draining, Full],
    );
    check(true, &[DRAINING, Event::Drained, Event::Resumed], &[Draining; 3]);
    check(
        false,
        &[Event::Drained, Event::Answered, FAILED, Event::Resumed],
        &[Draining, Draining, Draining, Unreachable],
    );
}

#[test]
fn a_probe_can_be_switched_on_and_off() {
    check(false, &[Event::Probing(true), FULL], &[Ready, Full]);
    check(true, &[FULL, Event::Probing(false)], &[Full, Ready]);
    check(true, &[Event::Probing(false)], &[Ready]);
    check(false, &[FAILED, Event::Probing(true), READY], &[Unreachable, Unreachable, Ready]);
    check(true, &[Event::Drained, Event::Probing(false)], &[Draining, Draining]);
}

#[test]
fn the_source_is_heard_before_the_probe_and_the_operator_before_both() {
    use Offer::{Left, NotReady, Terminating};
    let offered = Event::Offered;
    check(
        true,
        &[READY, offered(NotReady), READY, offered(Offer::Ready)],
        &[Ready, Unreachable, Unreachable, Ready],
    );
    check(true, &[READY, offered(Terminating), READY], &[Ready, Draining, Draining]);
    check(true, &[READY, offered(Left), READY, offered(Offer::Ready)], &[Ready, Draining, Draining, Ready]);
    check(false, &[offered(Left), FAILED, Event::Answered], &[Draining; 3]);
    check(true, &[Event::Drained, offered(NotReady), Event::Resumed], &[Draining, Draining, Unreachable]);
    check(
        true,
        &[Event::Drained, offered(Offer::Gone), Event::Resumed],
        &[Draining, InstanceState::Gone, InstanceState::Gone],
    );
    let new = Health::new(false, NotReady, Instant::now());
    assert_eq!((new.state(), new.reason()), (Starting, "its pod is not ready yet"));
}

#[test]
fn between_reports_what_was_placed_counts_and_what_ended_does_not() {
    let load = |calls, capacity| reported(ReportedState::Ready, Some(calls), Some(capacity));
    let (began, accepted, refused, ended) =
        (Event::TryBegan, Event::Accepted, Event::NotAccepted, Event::Ended);
    // The last place is taken while the call is only offered.
    check(true, &[load(8, 10), began, began, refused, accepted], &[Ready, Ready, Full, Ready, Ready]);
    check(true, &[load(9, 10), began, accepted, ended], &[Ready, Full, Full, Ready]);
    check(true, &[load(10, 10), ended, began, accepted], &[Full, Ready, Full, Full]);
    // What was accepted before the probe was sent is in its report; what came after need not be.
    check(
        true,
        &[
            load(8, 10),
            began,
            accepted,
            Event::ProbeBegan,
            began,
            accepted,
            load(9, 10),
            Event::ProbeBegan,
            load(8, 10),
        ],
        &[Ready, Ready, Ready, Ready, Full, Full, Full, Full, Ready],
    );
    // Its own word is not argued with.
    check(true, &[FULL, ended], &[Full, Full]);
}

#[test]
fn the_expected_calls_are_the_report_with_what_came_and_went() {
    let now = Instant::now();
    let mut health = Health::new(true, Offer::Ready, now);
    assert_eq!(health.expected_calls(), None);
    let report = reported(ReportedState::Ready, Some(3), Some(10));
    for event in [report, Event::TryBegan, Event::TryBegan, Event::Accepted, Event::Ended, Event::Ended] {
        health.step(event, now);
    }
    assert_eq!(health.expected_calls(), Some(3));
    assert_eq!(health.load(), Some(Load { calls: 3, capacity: 10 }));
}

fn any_event() -> impl Strategy<Value = Event> {
    let state =
        prop_oneof![Just(ReportedState::Ready), Just(ReportedState::Full), Just(ReportedState::Draining)];
    let number = || proptest::option::of(0..5_u32);
    prop_oneof![
        4 => (state, number(), number()).prop_map(|(state, calls, capacity)| reported(state, calls, capacity)),
        4 => Just(Event::Missed),
        1 => Just(Event::TryBegan),
        2 => Just(FAILED),
        1 => Just(Event::Answered),
        1 => Just(Event::Drained),
        1 => Just(Event::Resumed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// An instance that counts a call when it accepts it never has more than it can hold, however probes, tries and ends are
    /// interleaved: `steps` are what happens next, and a report is as old as its probe.
    #[test]
    fn one_gateway_never_exceeds_a_capacity(capacity in 1..5_u32, steps in proptest::collection::vec(0..6_u8, 0..60)) {
        let now = Instant::now();
        let mut health = Health::new(true, Offer::Ready, now);
        let report = |calls| reported(ReportedState::Ready, Some(calls), Some(capacity));
        let (mut actual, mut under_way, mut probed) = (0_u32, 0_u32, None);
        health.step(report(0), now);
        for step in steps {
            match step {
                0 => {
                    health.step(Event::ProbeBegan, now);
                    probed = Some(actual);
                }
                1 => if let Some(calls) = probed.take() {
                    health.step(report(calls), now);
                },
                2 | 3 if health.state() == Ready => {
                    health.step(Event::TryBegan, now);
                    under_way += 1;
                }
                4 if under_way > 0 => {
                    under_way -= 1;
                    actual += 1;
                    health.step(Event::Accepted, now);
                }
                5 if actual > 0 => {
                    actual -= 1;
                    health.step(Event::Ended, now);
                }
                _ => {}
            }
            prop_assert!(actual <= capacity, "{actual} of {capacity}");
        }
    }

    /// Whatever happens: with a probe an instance takes new calls only if its last report said so, and nothing since
    /// then speaks against it.
    #[test]
    fn a_full_draining_silent_or_failing_instance_is_never_ready(events in proptest::collection::vec(any_event(), 0..40)) {
        let now = Instant::now();
        let mut health = Health::new(true, Offer::Ready, now);
        let (mut willing, mut drained, mut misses, mut failed) = (false, false, 0, false);
        for event in events {
            health.step(event, now);
            match event {
                Event::Reported(Report { state, calls, capacity }) => {
                    let at_capacity = calls.zip(capacity).is_some_and(|(calls, capacity)| calls >= capacity);
                    willing = state == ReportedState::Ready && !at_capacity;
                    misses = 0;
                    failed = false;
                }
                Event::Missed => misses += 1,
                Event::TryFailed(_) => failed |= willing,
                Event::Drained => drained = true,
                Event::Resumed => drained = false,
                Event::ProbeBegan
                | Event::TryBegan
                | Event::Answered
                | Event::Probing(_)
                | Event::Offered(_)
                | Event::Accepted
                | Event::NotAccepted
                | Event::Ended => {}
            }
            if health.state() == Ready {
                prop_assert!(willing && !drained && misses < 3 && !failed);
            }
        }
        // And it always comes back: two hits after the operator's resume.
        for event in [Event::Resumed, READY, READY] {
            health.step(event, now);
        }
        prop_assert_eq!(health.state(), Ready);
    }

    /// Without a probe only the operator keeps an instance from being asked at all.
    #[test]
    fn without_a_probe_only_the_operator_takes_an_instance_out(events in proptest::collection::vec(any_event(), 0..40)) {
        let now = Instant::now();
        let mut health = Health::new(false, Offer::Ready, now);
        let mut drained = false;
        for event in events {
            health.step(event, now);
            match event {
                Event::Drained => drained = true,
                Event::Resumed => drained = false,
                Event::Reported(_)
                | Event::Missed
                | Event::TryBegan
                | Event::TryFailed(_)
                | Event::Answered
                | Event::Probing(_)
                | Event::ProbeBegan
                | Event::Offered(_)
                | Event::Accepted
                | Event::NotAccepted
                | Event::Ended => {}
            }
            prop_assert_eq!(health.state() == Draining, drained);
            prop_assert!(drained || matches!(health.state(), Ready | Unreachable));
        }
    }
}
