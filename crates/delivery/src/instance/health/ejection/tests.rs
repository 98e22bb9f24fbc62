//! The episodes: when they start, how long they last, and what ends them.

use proptest::prelude::*;

use super::*;

/// An ejection, and the time.
struct Timeline {
    ejection: Ejection,
    now: Instant,
}

impl Timeline {
    fn new() -> Self {
        Self { ejection: Ejection::default(), now: Instant::now() }
    }

    fn fails(&mut self, cause: Cause) {
        self.ejection.call_failed(cause, self.now, |_| true);
    }

    /// Waits for the trial, which fails; returns the seconds that it waited.
    fn next_trial_fails(&mut self, cause: Cause) -> f64 {
        let at = self.ejection.next_trial().unwrap();
        let waited = at - self.now;
        self.now = at;
        self.ejection.attempt_started();
        let number = self.ejection.number().unwrap();
        self.fails(cause);
        self.ejection.trial_ended(number);
        waited.as_secs_f64()
    }

    fn succeeds(&mut self) {
        self.ejection.attempt_started();
        let number = self.ejection.number();
        self.ejection.call_responded();
        if let Some(number) = number {
            self.ejection.trial_ended(number);
        }
    }

    /// The seconds until the next trial.
    fn wait(&self) -> Option<f64> {
        self.ejection.next_trial().map(|at| at.saturating_duration_since(self.now).as_secs_f64())
    }
}

#[test]
fn the_time_doubles_with_each_episode() {
    for (cause, expected) in [
        (Cause::Timeout, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (Cause::Refused, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]),
        (Cause::Unavailable, [1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0, 5.0]),
    ] {
        let mut timeline = Timeline::new();
        timeline.fails(cause);
        let waits = expected.map(|_| timeline.next_trial_fails(cause));
        assert_eq!(waits, expected, "{cause}");
    }
    // A busy instance that then fails is not ejected for a minute, nor a failing one that is then busy.
    let mut timeline = Timeline::new();
    timeline.fails(Cause::Unavailable);
    for _ in 0..10 {
        timeline.next_trial_fails(Cause::Unavailable);
    }
    timeline.next_trial_fails(Cause::Timeout);
    assert_eq!(timeline.wait(), Some(8.0));
    timeline.next_trial_fails(Cause::Unavailable);
    assert_eq!(timeline.wait(), Some(5.0));
    assert_eq!(timeline.next_trial_fails(Cause::Timeout), 5.0);
    assert_eq!(timeline.wait(), Some(16.0));
}

#[test]
fn failures_during_an_ejection_do_not_lengthen_it() {
    let mut timeline = Timeline::new();
    for _ in 0..100 {
        timeline.fails(Cause::Timeout);
        timeline.now += Duration::from_millis(9);
    }
    assert!(timeline.wait().unwrap() < 0.2);
    // Nor does a call that was sent before it and fails after it.
    timeline.now += EJECTION_MIN;
    timeline.fails(Cause::Timeout);
    assert_eq!(timeline.wait(), Some(0.0));
    assert!(timeline.ejection.is_half_open(timeline.now));
}

#[test]
fn one_call_at_a_time_until_one_succeeds() {
    let mut timeline = Timeline::new();
    timeline.fails(Cause::Timeout);
    timeline.now += EJECTION_MIN;
    let number = timeline.ejection.number().unwrap();
    timeline.ejection.attempt_started();
    assert_eq!(timeline.wait(), None);
    // The call was given up, and its outcome is not known.
    timeline.ejection.trial_ended(number);
    assert_eq!(timeline.wait(), Some(0.0));
    timeline.ejection.attempt_started();
    // It stays open after it has failed: its end is none of a trial in the next episode.
    timeline.fails(Cause::Timeout);
    timeline.now += EJECTION_MIN * 2;
    timeline.ejection.attempt_started();
    timeline.ejection.trial_ended(number);
    assert_eq!(timeline.wait(), None);
    timeline.ejection.call_responded();
    assert_eq!(timeline.ejection.cause(), None);
}

#[test]
fn a_response_counts_if_its_call_was_sent_after_the_failure() {
    let mut timeline = Timeline::new();
    timeline.fails(Cause::Unavailable);
    timeline.ejection.call_responded();
    assert!(timeline.ejection.cause().is_some());
    // A last resort, before the end of the ejection.
    timeline.succeeds();
    assert_eq!(timeline.ejection.cause(), None);
}

#[test]
fn a_run_of_successes_resets_the_time() {
    for (successes, expected) in [(9, 8.0), (10, 1.0)] {
        let mut timeline = Timeline::new();
        timeline.fails(Cause::Timeout);
        for _ in 0..2 {
            timeline.next_trial_fails(Cause::Timeout);
        }
        for _ in 0..successes {
            timeline.succeeds();
        }
        timeline.fails(Cause::Timeout);
        assert_eq!(timeline.wait(), Some(expected), "{successes}");
    }
}

#[test]
fn three_lost_races_in_a_row_are_a_failure() {
    let lost = |timeline: &mut Timeline| timeline.ejection.race_lost(timeline.now, |_| true);
    let mut timeline = Timeline::new();
    for _ in 0..10 {
        lost(&mut timeline);
        lost(&mut timeline);
        timeline.succeeds();
    }
    assert_eq!(timeline.ejection.cause(), None);
    for _ in 0..3 {
        lost(&mut timeline);
    }
    assert_eq!((timeline.ejection.cause(), timeline.wait()), (Some(Cause::RacesLost), Some(1.0)));
}

#[test]
fn beyond_the_share_an_instance_is_half_open_at_once() {
    let mut timeline = Timeline::new();
    for _ in 0..5 {
        timeline.ejection.call_failed(Cause::Timeout, timeline.now, |_| false);
        assert_eq!((timeline.wait(), timeline.ejection.counted_until(timeline.now)), (Some(0.0), None));
        timeline.ejection.attempt_started();
    }
    // That was no episode, so the next one is the first.
    timeline.fails(Cause::Timeout);
    assert_eq!(timeline.wait(), Some(1.0));
    assert!(timeline.ejection.counted_until(timeline.now).is_some());
    // A refused connection needs no place in the share.
    let mut timeline = Timeline::new();
    timeline.ejection.call_failed(Cause::Refused, timeline.now, |_| unreachable!("not asked"));
    assert_eq!((timeline.wait(), timeline.ejection.counted_until(timeline.now)), (Some(1.0), None));
}

proptest! {
    /// Whatever happens, an ejection is over within a minute, and at most one trial at a time is given out.
    #[test]
    fn an_ejection_ends_and_lets_one_call_through(
        steps in proptest::collection::vec((0..6_u8, 0..5_000_u64), 0..100),
    ) {
        let mut timeline = Timeline::new();
        let mut trials: Vec<Option<u32>> = Vec::new();
        for (step, wait_ms) in steps {
            timeline.now += Duration::from_millis(wait_ms);
            match step {
                0 => timeline.fails(Cause::Timeout),
                1 => timeline.fails(Cause::Unavailable),
                2 => timeline.ejection.callback_failed(Cause::Timeout, timeline.now, |_| true),
                3 if timeline.wait() == Some(0.0) => {
                    timeline.ejection.attempt_started();
                    trials.push(timeline.ejection.number());
                    prop_assert_eq!(timeline.wait(), None);
                }
                4 => _ = timeline.ejection.call_responded(),
                _ => if let Some(number) = trials.pop().flatten() {
                    timeline.ejection.trial_ended(number);
                },
            }
            prop_assert!(timeline.wait().is_none_or(|wait| wait <= 60.0));
        }
        for number in trials.into_iter().flatten() {
            timeline.ejection.trial_ended(number);
        }
        timeline.now += EJECTION_MAX;
        prop_assert!(timeline.ejection.cause().is_none() || timeline.wait() == Some(0.0));
    }
}
