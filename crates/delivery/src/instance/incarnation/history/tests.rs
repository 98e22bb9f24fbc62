//! Incarnations learned from reports: cases as data, and the laws of alternating reports.

use proptest::prelude::*;

use super::{Learned::*, Standing::*, *};

const WINDOW: Duration = Duration::from_secs(60);

/// One event, with what must follow from it.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A report of this incarnation, of a probe sent now.
    Report(&'static str, Expected),
    /// A report of a probe that was sent this many seconds ago.
    Late(&'static str, u64, Expected),
    /// A report without an incarnation.
    ReportWithout,
    /// A probe that reached the instance and has no report.
    Missed,
    /// The instance refuses a connection.
    Refused,
    /// A callback for this incarnation.
    Callback(&'static str, Standing),
}
use Step::*;

#[derive(Clone, Copy, Debug)]
enum Expected {
    Same,
    IsFirst,
    Replaces(&'static str),
    AreMixed,
}
use Expected::*;

impl Expected {
    fn learned(self) -> Learned {
        match self {
            Same => Nothing,
            IsFirst => First,
            Replaces(incarnation) => Replaced(name(incarnation)),
            AreMixed => Mixed,
        }
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// Checks steps, each at its second, and the incarnation in use after them.
#[track_caller]
fn check(steps: &[(u64, Step)], in_use: Option<&str>) {
    let start = Instant::now();
    let mut history = History::default();
    for (second, step) in steps {
        let now = start + Duration::from_secs(*second);
        match *step {
            Report(incarnation, expected) => {
                let learned = history.reported(&name(incarnation), now, now, WINDOW);
                assert_eq!(learned, expected.learned(), "{second} {step:?}");
            }
            Late(incarnation, ago, expected) => {
                let sent = now - Duration::from_secs(ago);
                let learned = history.reported(&name(incarnation), sent, now, WINDOW);
                assert_eq!(learned, expected.learned(), "{second} {step:?}");
            }
            ReportWithout => history.responded(now),
            Missed => history.reports_none(),
            Refused => history.refused(now),
            Callback(incarnation, expected) => {
                assert_eq!(history.standing(incarnation, now), expected, "{second} {step:?}");
            }
        }
    }
    assert_eq!(history.current().map(Name::as_str), in_use);
}

#[test]
fn a_restart_is_confirmed_by_a_second_report() {
    check(
        &[
            (0, Report("a", IsFirst)),
            (5, Report("a", Same)),
            (10, Report("b", Replaces("a"))),
            (10, Callback("a", Unknown)),
            (10, Callback("b", Alive)),
            (11, Report("b", Same)),
            (11, Callback("a", Gone)),
            (11, Callback("b", Alive)),
            (12, Report("c", Replaces("b"))),
            (13, Report("c", Same)),
            (14, Callback("a", Gone)),
            (14, Callback("b", Gone)),
        ],
        Some("c"),
    );
}

#[test]
fn an_unknown_incarnation_waits_for_a_probe_that_was_sent_after_the_callback() {
    check(
        &[
            (0, Report("a", IsFirst)),
            (10, Callback("b", Unknown)),
            (11, Late("a", 2, Same)),
            (11, Callback("b", Unknown)),
            (12, Report("a", Same)),
            (12, Callback("b", Gone)),
        ],
        Some("a"),
    );
    // The callback came through another gateway, which had probed the new process already.
    check(
        &[
            (0, Report("a", IsFirst)),
            (10, Callback("b", Unknown)),
            (10, Report("b", Replaces("a"))),
            (10, Callback("b", Alive)),
        ],
        Some("b"),
    );
}

#[test]
fn nothing_is_known_before_the_first_report() {
    check(&[(0, Callback("a", Unknown)), (1, Report("a", IsFirst)), (1, Callback("a", Alive))], Some("a"));
    check(
        &[
            (0, Callback("a", Unknown)),
            (1, Report("b", IsFirst)),
            (1, Callback("a", Unknown)),
            (2, Report("b", Same)),
            (2, Callback("a", Gone)),
        ],
        Some("b"),
    );
}

#[test]
fn an_instance_that_reports_no_incarnation_gets_every_callback() {
    check(&[(0, Callback("a", Unknown)), (1, ReportWithout), (1, Callback("a", Alive))], None);
    check(&[(0, Callback("a", Unknown)), (1, Missed), (1, Callback("a", Alive))], None);
    check(&[(0, Callback("0", Alive))], None);
}

#[test]
fn a_report_without_an_incarnation_keeps_the_last_one() {
    check(
        &[
            (0, Report("a", IsFirst)),
            (5, ReportWithout),
            (6, Missed),
            (7, Callback("a", Alive)),
            (8, Callback("b", Unknown)),
            (9, ReportWithout),
            (9, Callback("b", Unknown)),
            (9, Callback("0", Alive)),
        ],
        Some("a"),
    );
}

#[test]
fn an_incarnation_that_returns_within_a_minute_is_not_used() {
    let mixed = [
        (0, Report("a", IsFirst)),
        (5, Report("b", Replaces("a"))),
        (5, Callback("a", Unknown)),
        (10, Report("a", AreMixed)),
        (10, Callback("a", Alive)),
        (10, Callback("b", Alive)),
        (10, Callback("c", Alive)),
        (15, Report("b", Same)),
        (20, Report("b", Same)),
        (20, Callback("a", Alive)),
        (614, Report("b", Same)),
        (614, Callback("a", Alive)),
    ];
    check(&mixed, None);
    // Ten minutes with one incarnation only: the other process has gone.
    let settled = [(615, Report("b", IsFirst)), (620, Callback("a", Unknown)), (620, Report("b", Same))];
    check(&[&mixed[..], &settled, &[(621, Callback("a", Gone))]].concat(), Some("b"));
    // Three processes.
    check(
        &[
            (0, Report("a", IsFirst)),
            (5, Report("b", Replaces("a"))),
            (10, Report("c", Replaces("b"))),
            (15, Report("a", AreMixed)),
        ],
        None,
    );
    // After a minute it is a restart, for example of a version that was rolled back.
    check(
        &[
            (0, Report("a", IsFirst)),
            (5, Report("b", Replaces("a"))),
            (6, Report("b", Same)),
            (65, Report("a", Replaces("b"))),
            (65, Callback("a", Alive)),
            (66, Report("a", Same)),
            (66, Callback("b", Gone)),
        ],
        Some("a"),
    );
}

#[test]
fn a_value_that_changes_with_each_report_is_not_used() {
    check(
        &[
            (0, Report("a", IsFirst)),
            (5, Report("b", Replaces("a"))),
            (10, Report("c", Replaces("b"))),
            (10, Callback("a", Unknown)),
            (15, Report("d", AreMixed)),
            (15, Callback("a", Alive)),
        ],
        None,
    );
    // A bot that crashes again and again reports each incarnation twice.
    let mut steps = vec![(0, Report("0a", IsFirst))];
    for (second, (before, now)) in [("0a", "1a"), ("1a", "2a"), ("2a", "3a"), ("3a", "4a")].iter().enumerate()
    {
        let second = u64::try_from(second).unwrap() * 10 + 10;
        steps.extend([(second, Report(now, Replaces(before))), (second + 1, Report(now, Same))]);
    }
    check(&steps, Some("4a"));
}

#[test]
fn a_refused_connection_is_in_doubt_until_the_next_report() {
    check(
        &[
            (0, Report("a", IsFirst)),
            (1, Refused),
            (1, Callback("a", Unknown)),
            (1, Missed),
            (1, Callback("a", Unknown)),
            (2, Late("a", 2, Same)),
            (2, Callback("a", Unknown)),
            (3, Report("a", Same)),
            (3, Callback("a", Alive)),
        ],
        Some("a"),
    );
    check(
        &[(0, Report("a", IsFirst)), (1, Refused), (2, ReportWithout), (2, Callback("a", Alive))],
        Some("a"),
    );
    // Without an incarnation nothing could tell the processes apart.
    check(&[(0, ReportWithout), (1, Refused), (1, Callback("a", Alive))], None);
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// Reports and callbacks, some seconds apart: `(seconds, is_report, index of the incarnation)`.
fn events() -> impl Strategy<Value = Vec<(u64, bool, usize)>> {
    prop::collection::vec((0_u64..40, any::<bool>(), 0..NAMES.len()), 0..40)
}

proptest! {
    #[test]
    fn no_callback_is_refused_before_two_reports_in_a_row_named_another_incarnation(events in events()) {
        let mut now = Instant::now();
        let mut history = History::default();
        let mut reports: Vec<usize> = Vec::new();
        for (seconds, is_report, at) in events {
            now += Duration::from_secs(seconds);
            if is_report {
                history.reported(&name(NAMES[at]), now, now, WINDOW);
                reports.push(at);
            } else if history.standing(NAMES[at], now) == Gone {
                let since = reports.iter().rposition(|reported| *reported == at).map_or(0, |last| last + 1);
                let confirmed = reports[since..].windows(2).any(|two| two[0] == two[1]);
                prop_assert!(confirmed, "{at} is gone after {reports:?}");
            }
            prop_assert!(history.others.len() <= OTHERS_MAX);
        }
    }

    #[test]
    fn incarnations_that_alternate_are_not_used_and_no_callback_is_refused(
        before in 0_u64..4,
        gaps in prop::collection::vec(1_u64..30, 2..40),
    ) {
        let mut now = Instant::now();
        let mut history = History::default();
        for _ in 0..before {
            now += Duration::from_secs(5);
            history.reported(&name("a"), now, now, WINDOW);
        }
        let mut warnings = 0;
        for (at, gap) in gaps.iter().enumerate() {
            for callback in ["a", "b"] {
                prop_assert_ne!(history.standing(callback, now), Gone);
            }
            now += Duration::from_secs(*gap);
            let learned = history.reported(&name(["b", "a"][at % 2]), now, now, WINDOW);
            warnings += u32::from(learned == Mixed);
        }
        if before > 0 || gaps.len() > 2 {
            prop_assert_eq!((history.current(), warnings), (None, 1));
        }
    }
}
