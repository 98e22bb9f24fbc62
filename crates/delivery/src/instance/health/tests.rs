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

/// A change of state, and how it comes about: with a probe or without, what the source said first, what happened before, and
/// what changes it.
struct Case(bool, Offer, &'static [Event], Event, InstanceState, InstanceState, &'static str);

const LOAD_LOW: Event = reported(ReportedState::Ready, Some(0), Some(1));
const LOAD_HIGH: Event = reported(ReportedState::Ready, Some(1), Some(1));
const MISSED: Event = Event::Missed;
const NOT_READY: Event = Event::Offered(Offer::NotReady);
const OFFERED: Event = Event::Offered(Offer::Ready);
const TERMINATING: Event = Event::Offered(Offer::Terminating);
const LEFT: Event = Event::Offered(Offer::Left);
const GONE: Event = Event::Offered(Offer::Gone);

const NOT_READY_YET: &str = "its pod is not ready yet";
const POD_NOT_READY: &str = "its pod is not ready";
const ENDING: &str = "its pod is about to end";
const UNLISTED: &str = "is no longer listed";
const BY_OPERATOR: &str = "drained by the operator";
const SAYS_READY: &str = "its probe says ready";
const SAYS_FULL: &str = "its probe says full";
const SAYS_DRAINING: &str = "its probe says draining";
const AT_CAPACITY: &str = "calls reached its capacity";
const MISSED_PROBES: &str = "missed its probes";
const ANSWERED: &str = "answered a request";
const A_TRY: &str = "a try failed";
const LEFT_FLEET: &str = "left the fleet";

/// Every change of state that there is, and every reason for it.
const TRANSITIONS: &[Case] = {
    use InstanceState::Gone;
    use Offer::{NotReady as Withheld, Ready as Offered};
    &[
        Case(true, Offered, &[], READY, Starting, Ready, SAYS_READY),
        Case(true, Offered, &[], FULL, Starting, Full, SAYS_FULL),
        Case(true, Offered, &[], LOAD_HIGH, Starting, Full, AT_CAPACITY),
        Case(true, Offered, &[], DRAINING, Starting, Draining, SAYS_DRAINING),
        Case(true, Offered, &[], Event::Drained, Starting, Draining, BY_OPERATOR),
        Case(true, Offered, &[], TERMINATING, Starting, Draining, ENDING),
        Case(true, Offered, &[], LEFT, Starting, Draining, UNLISTED),
        Case(true, Offered, &[MISSED, MISSED], MISSED, Starting, Unreachable, MISSED_PROBES),
        Case(true, Offered, &[], NOT_READY, Starting, Unreachable, POD_NOT_READY),
        Case(true, Offered, &[], GONE, Starting, Gone, LEFT_FLEET),
        Case(true, Offered, &[], Event::Probing(false), Starting, Ready, NO_PROBE),
        Case(false, Withheld, &[], OFFERED, Starting, Ready, NO_PROBE),
        Case(true, Withheld, &[READY], OFFERED, Starting, Ready, SAYS_READY),
        Case(true, Withheld, &[FULL], OFFERED, Starting, Full, SAYS_FULL),
        Case(true, Withheld, &[LOAD_HIGH], OFFERED, Starting, Full, AT_CAPACITY),
        Case(true, Withheld, &[DRAINING], OFFERED, Starting, Draining, SAYS_DRAINING),
        Case(true, Withheld, &[MISSED; 3], OFFERED, Starting, Unreachable, MISSED_PROBES),
        Case(false, Withheld, &[FAILED], OFFERED, Starting, Unreachable, A_TRY),
        Case(true, Offered, &[READY], FULL, Ready, Full, SAYS_FULL),
        Case(true, Offered, &[READY], LOAD_HIGH, Ready, Full, AT_CAPACITY),
        Case(true, Offered, &[LOAD_LOW], Event::TryBegan, Ready, Full, AT_CAPACITY),
        Case(true, Offered, &[READY], DRAINING, Ready, Draining, SAYS_DRAINING),
        Case(true, Offered, &[READY], Event::Drained, Ready, Draining, BY_OPERATOR),
        Case(true, Offered, &[READY], TERMINATING, Ready, Draining, ENDING),
        Case(true, Offered, &[READY], LEFT, Ready, Draining, UNLISTED),
        Case(true, Offered, &[READY, MISSED, MISSED], MISSED, Ready, Unreachable, MISSED_PROBES),
        Case(true, Offered, &[READY], FAILED, Ready, Unreachable, A_TRY),
        Case(false, Offered, &[], FAILED, Ready, Unreachable, A_TRY),
        Case(true, Offered, &[READY], NOT_READY, Ready, Unreachable, POD_NOT_READY),
        Case(true, Offered, &[READY], GONE, Ready, Gone, LEFT_FLEET),
        Case(true, Offered, &[FULL], READY, Full, Ready, SAYS_READY),
        Case(true, Offered, &[LOAD_HIGH], Event::Ended, Full, Ready, SAYS_READY),
        Case(true, Offered, &[LOAD_LOW, Event::TryBegan], Event::NotAccepted, Full, Ready, SAYS_READY),
        Case(true, Offered, &[FULL], Event::Probing(false), Full, Ready, NO_PROBE),
        Case(true, Offered, &[FULL], DRAINING, Full, Draining, SAYS_DRAINING),
        Case(true, Offered, &[FULL], Event::Drained, Full, Draining, BY_OPERATOR),
        Case(true, Offered, &[FULL], TERMINATING, Full, Draining, ENDING),
        Case(true, Offered, &[FULL], LEFT, Full, Draining, UNLISTED),
        Case(true, Offered, &[FULL, MISSED, MISSED], MISSED, Full, Unreachable, MISSED_PROBES),
        Case(true, Offered, &[LOAD_LOW, Event::TryBegan], FAILED, Full, Unreachable, A_TRY),
        Case(true, Offered, &[FULL], NOT_READY, Full, Unreachable, POD_NOT_READY),
        Case(true, Offered, &[FULL], GONE, Full, Gone, LEFT_FLEET),
        Case(true, Offered, &[Event::Drained], Event::Resumed, Draining, Starting, NOT_PROBED),
        Case(true, Offered, &[TERMINATING], OFFERED, Draining, Starting, NOT_PROBED),
        Case(true, Withheld, &[TERMINATING], NOT_READY, Draining, Starting, NOT_READY_YET),
        Case(true, Offered, &[DRAINING], READY, Draining, Ready, SAYS_READY),
        Case(false, Offered, &[LEFT], OFFERED, Draining, Ready, NO_PROBE),
        Case(false, Offered, &[FAILED, LEFT, Event::Answered], OFFERED, Draining, Ready, ANSWERED),
        Case(true, Offered, &[DRAINING], FULL, Draining, Full, SAYS_FULL),
        Case(true, Offered, &[LOAD_HIGH, Event::Drained], Event::Resumed, Draining, Full, AT_CAPACITY),
        Case(true, Offered, &[DRAINING, MISSED, MISSED], MISSED, Draining, Unreachable, MISSED_PROBES),
        Case(false, Offered, &[FAILED, Event::Drained], Event::Resumed, Draining, Unreachable, A_TRY),
        Case(true, Offered, &[LEFT], NOT_READY, Draining, Unreachable, POD_NOT_READY),
        Case(true, Offered, &[DRAINING], GONE, Draining, Gone, LEFT_FLEET),
        Case(true, Offered, &[NOT_READY], OFFERED, Unreachable, Starting, NOT_PROBED),
        Case(true, Offered, &[READY, FAILED], READY, Unreachable, Ready, SAYS_READY),
        Case(true, Offered, &[MISSED, MISSED, MISSED, READY], READY, Unreachable, Ready, SAYS_READY),
        Case(false, Offered, &[FAILED], Event::Answered, Unreachable, Ready, ANSWERED),
        Case(true, Offered, &[READY, FAILED], Event::Probing(false), Unreachable, Ready, NO_PROBE),
        Case(true, Offered, &[READY, FAILED], FULL, Unreachable, Full, SAYS_FULL),
        Case(true, Offered, &[READY, FAILED], LOAD_HIGH, Unreachable, Full, AT_CAPACITY),
        Case(true, Offered, &[READY, FAILED], DRAINING, Unreachable, Draining, SAYS_DRAINING),
        Case(true, Offered, &[READY, FAILED], Event::Drained, Unreachable, Draining, BY_OPERATOR),
        Case(true, Offered, &[NOT_READY], TERMINATING, Unreachable, Draining, ENDING),
        Case(true, Offered, &[NOT_READY], LEFT, Unreachable, Draining, UNLISTED),
        Case(true, Offered, &[NOT_READY], GONE, Unreachable, Gone, LEFT_FLEET),
    ]
};

#[test]
fn every_change_of_state_can_be_made_to_happen() {
    for Case(probed, offer, before, event, from, to, reason) in TRANSITIONS {
        let now = Instant::now();
        let mut health = Health::new(*probed, *offer, now);
        for earlier in *before {
            health.step(*earlier, now);
        }
        let later = now + Duration::from_secs(1);
        let change = health.step(*event, later);
        let expected = Change { from: *from, to: *to, reason };
        assert_eq!(change, Some(expected), "{before:?} {event:?}");
        assert_eq!((health.state(), health.reason(), health.since()), (*to, *reason, later));
    }
}

/// All events but `Gone`, after which there are none: who comes back is another one.
fn anything() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => any_event(),
        2 => Just(Event::ProbeBegan),
        2 => Just(Event::Accepted),
        2 => Just(Event::NotAccepted),
        2 => Just(Event::Ended),
        1 => any::<bool>().prop_map(Event::Probing),
        4 => prop_oneof![Just(NOT_READY), Just(OFFERED), Just(TERMINATING), Just(LEFT)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    /// The table has them all: from where to where, and for each state why. (Which reason a return from `draining` or
    /// `unreachable` has depends on what is found beneath.)
    #[test]
    fn there_are_no_other_changes_of_state(
        probed in any::<bool>(),
        withheld in any::<bool>(),
        events in proptest::collection::vec(anything(), 0..60),
        gone in any::<bool>(),
    ) {
        let now = Instant::now();
        let offer = if withheld { Offer::NotReady } else { Offer::Ready };
        let mut health = Health::new(probed, offer, now);
        for event in events.into_iter().chain(gone.then_some(GONE)) {
            if let Some(Change { from, to, reason }) = health.step(event, now) {
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
