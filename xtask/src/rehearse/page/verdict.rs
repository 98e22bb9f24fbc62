//! The plans of the page's scene, the figures that it measures, and the rules that these must keep.

use std::{fmt, time::Duration};

use crate::rehearse::load_report::LoadSummary;

/// The extent of the scene.
pub(in crate::rehearse) struct PagePlan {
    pub(super) about: &'static str,
    /// Calls per second.
    pub(super) rate: u32,
    /// The duration of each call.
    pub(super) duration: &'static str,
    /// In each round, every [`Act`] is done once.
    pub(super) rounds: u32,
    pub(super) round_length: Duration,
}

/// Ten minutes. The page has the same number of updates at any rate: one a second.
pub(in crate::rehearse) const WHOLE: PagePlan = PagePlan {
    about: "ten minutes, 20 calls per second of 5 s",
    rate: 20,
    duration: "5s",
    rounds: 30,
    round_length: Duration::from_secs(20),
};

/// Two rounds. The memory after so short a time says nothing.
pub(in crate::rehearse) const SHORT: PagePlan = PagePlan {
    about: "two rounds of changes, 20 calls per second of 1 s",
    rate: 20,
    duration: "1s",
    rounds: 2,
    round_length: Duration::from_secs(1),
};

/// A change that the page must show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// An operator drains an instance.
    Drain,
    /// The operator ends the drain.
    Resume,
    /// An instance is killed.
    Kill,
    /// It is started again.
    Restart,
    /// An issuer signs with a new key.
    RotateKey,
}

impl Act {
    pub(super) const ALL: [Self; 5] = [Self::Drain, Self::Resume, Self::Kill, Self::Restart, Self::RotateKey];

    fn about(self) -> &'static str {
        match self {
            Self::Drain => "an instance drains",
            Self::Resume => "it takes calls again",
            Self::Kill => "an instance is killed",
            Self::Restart => "it is started again",
            Self::RotateKey => "a key rotates",
        }
    }
}

/// The times of one change.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShownChange {
    act: Act,
    /// From the time at which the gateway knew of the change: it had responded to the drain or resume,
    /// `/fleet` had the new state of the instance, or `/metrics` the new generation of keys. Both are asked
    /// every 20 ms.
    since_known: Duration,
    /// From the change itself: before the request to drain or resume and before the kill, after the instance
    /// has said that it has started, and after the issuer has the key.
    since_made: Duration,
}

impl ShownChange {
    /// All times are in Unix milliseconds. The page may show a change before the gateway is asked for it.
    pub(super) fn new(act: Act, made_ms: u64, known_ms: u64, shown_ms: u64) -> Self {
        let since = |time: u64| Duration::from_millis(shown_ms.saturating_sub(time));
        Self { act, since_known: since(known_ms), since_made: since(made_ms) }
    }
}

impl fmt::Display for ShownChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (known, made) = (self.since_known.as_secs_f64(), self.since_made.as_secs_f64());
        write!(f, "{}: shown {known:.2} s after the gateway knew, {made:.2} s in all", self.act.about())
    }
}

/// The memory of the page, so many minutes after it was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeapSample {
    pub(super) minutes: usize,
    pub(super) bytes: u64,
}

/// The violations of the rules.
pub(super) fn judge(
    plan: &PagePlan,
    changes: &[ShownChange],
    heaps: &[HeapSample],
    problems: &[String],
    load: &LoadSummary,
) -> Vec<String> {
    let mut violations: Vec<String> =
        problems.iter().map(|problem| format!("error in the page: {problem}")).collect();
    for act in Act::ALL {
        let of_act = changes.iter().filter(|change| change.act == act);
        let late = of_act.clone().filter(|change| change.since_known > SHOWN_TIME_MAX).count();
        if late > 0 {
            violations.push(format!("{}: shown after more than 2 s, {late} times", act.about()));
        }
        let (found, expected) = (of_act.count(), usize::try_from(plan.rounds).unwrap_or(usize::MAX));
        if found != expected {
            violations.push(format!("{}: {found} times of {expected}", act.about()));
        }
    }
    if plan.round_length * plan.rounds >= Duration::from_secs(600) {
        match growth(heaps) {
            None => violations.push("the memory was not measured after two and ten minutes".to_owned()),
            Some(ratio) if ratio > HEAP_RATIO_MAX => {
                violations.push(format!("the memory after ten minutes is {ratio:.2} times that after two"));
            }
            Some(_) => {}
        }
    }
    if load.completed == 0 {
        violations.push("no call was completed, so the scene proves nothing".to_owned());
    }
    if load.misrouted != Some(0) || load.lost > 0 {
        violations.push(format!("misrouted notifications: {:?}; lost ones: {}", load.misrouted, load.lost));
    }
    violations
}

/// The memory after ten minutes as a multiple of that after two.
fn growth(heaps: &[HeapSample]) -> Option<f64> {
    let after = |minutes| heaps.iter().find(|sample| sample.minutes == minutes).map(|sample| sample.bytes);
    Some(to_mb(after(10)?) / to_mb(after(2)?))
}

/// The figures, a line each.
pub(super) fn table(
    changes: &[ShownChange],
    heaps: &[HeapSample],
    problems: &[String],
    load: &LoadSummary,
) -> Vec<String> {
    let mut lines = vec![
        format!("  {:<24} {:>5}  {:^17}  {:^17}", "shown in the page", "", "since it is known", "in all"),
        format!(
            "  {:<24} {:>5}  {:>8} {:>8}  {:>8} {:>8}",
            "", "times", "median", "maximum", "median", "maximum"
        ),
    ];
    for act in Act::ALL {
        let of_act = || changes.iter().filter(move |change| change.act == act);
        let [known, all] = [
            spread(of_act().map(|change| change.since_known).collect()),
            spread(of_act().map(|change| change.since_made).collect()),
        ];
        lines.push(format!("  {:<24} {:>5}  {known}  {all}", act.about(), of_act().count()));
    }
    let row = |name: &str, value: String| format!("  {name:<34} {value:>10}");
    for sample in heaps.iter().filter(|sample| [2, 10].contains(&sample.minutes)) {
        let name = format!("memory after {} minutes", sample.minutes);
        lines.push(row(&name, format!("{:.2} MB", to_mb(sample.bytes))));
    }
    lines.extend(growth(heaps).map(|ratio| row("  ratio", format!("{ratio:.2}"))));
    lines.push(row("errors in the page", problems.len().to_string()));
    lines.push(row("calls", load.calls.to_string()));
    lines.push(row("completed", load.completed.to_string()));
    lines.push(row("of a killed instance", load.instance_gone.to_string()));
    lines.push(row("other outcomes", load.other_outcomes.to_string()));
    lines.push(row("notifications", load.sent.to_string()));
    lines.push(row("refused", load.refused.to_string()));
    lines.push(row("lost", load.lost.to_string()));
    lines.push(row(
        "misrouted",
        load.misrouted.map_or_else(|| "unknown".to_owned(), |count| count.to_string()),
    ));
    lines
}

/// Bytes as megabytes.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a heap has far less than 2^52 bytes")]
pub(super) fn to_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// The median and the maximum, in seconds.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let seconds = |time: Option<&Duration>| {
        time.map_or_else(|| "-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    format!("{:>8} {:>8}", seconds(times.get(times.len() / 2)), seconds(times.last()))
}

const SHOWN_TIME_MAX: Duration = Duration::from_secs(2);
const HEAP_RATIO_MAX: f64 = 1.2;

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(rounds: u32, shown_ms: u64) -> Vec<ShownChange> {
        let round = || Act::ALL.map(|act| ShownChange::new(act, 1000, 1400, shown_ms));
        (0..rounds).flat_map(|_| round()).collect()
    }

    fn heaps(after_two: u64, after_ten: u64) -> Vec<HeapSample> {
        let after = |minutes, bytes| HeapSample { minutes, bytes };
        vec![after(0, 9), after(2, after_two), after(9, 9_000_000_000), after(10, after_ten)]
    }

    #[track_caller]
    fn check(changes: &[ShownChange], heaps: &[HeapSample], problems: &[String], expected: &str) {
        let load = LoadSummary { calls: 9, completed: 9, misrouted: Some(0), ..LoadSummary::default() };
        assert_eq!(judge(&WHOLE, changes, heaps, problems, &load).join("; "), expected);
    }

    #[test]
    fn the_page_shows_each_change_in_time_and_does_not_grow() {
        let (good, calm) = (changes(30, 3400), heaps(4_000_000, 4_800_000));
        check(&good, &calm, &[], "");
        let mut late = good.clone();
        late[0] = ShownChange::new(Act::Drain, 1000, 1400, 3401);
        check(&late, &calm, &[], "an instance drains: shown after more than 2 s, 1 times");
        check(&good[1..], &calm, &[], "an instance drains: 29 times of 30");
        let grown = heaps(4_000_000, 4_900_000);
        check(&good, &grown, &[], "the memory after ten minutes is 1.23 times that after two");
        check(&good, &calm[..3], &[], "the memory was not measured after two and ten minutes");
        check(&good, &calm, &["exception: x".to_owned()], "error in the page: exception: x");
    }

    #[test]
    fn a_page_without_calls_proves_nothing() {
        let load = LoadSummary { misrouted: Some(0), ..LoadSummary::default() };
        let violations = judge(&SHORT, &changes(2, 1500), &[], &[], &load);
        assert_eq!(violations, ["no call was completed, so the scene proves nothing"]);
    }
}
