//! The reports of loads, and their summary.

use serde_json::Value;

/// The reports of several loads in one. Each time is the longest of the reports.
#[derive(Debug, Default)]
pub(super) struct LoadSummary {
    pub(super) calls: u64,
    pub(super) completed: u64,
    /// `None` if a report lacks it.
    pub(super) ended_early: Option<u64>,
    pub(super) other_outcomes: u64,
    pub(super) instance_gone: u64,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) retried: u64,
    pub(super) refused: u64,
    pub(super) lost: u64,
    pub(super) lost_with_instance: u64,
    /// `None` if a report lacks it.
    pub(super) misrouted: Option<u64>,
    pub(super) came_twice: u64,
    pub(super) handled_twice: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) took_ms: f64,
    pub(super) gone: Vec<String>,
    /// True if every load reports success.
    pub(super) ok: bool,
}

impl LoadSummary {
    /// Sums up the reports.
    pub(super) fn of(reports: &[Value]) -> Self {
        let mut sum =
            Self { ok: !reports.is_empty(), misrouted: Some(0), ended_early: Some(0), ..Self::default() };
        for report in reports {
            let count = |name: &str| report.get(name).and_then(Value::as_u64);
            let number = |path: &str| report.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
            let all = |name: &str| -> u64 {
                let outcomes = report.get(name).and_then(Value::as_object).into_iter().flatten();
                outcomes.filter_map(|(_, calls)| calls.as_u64()).sum()
            };
            let completed = report.pointer("/outcomes/completed").and_then(Value::as_u64).unwrap_or(0);
            sum.calls += count("calls").unwrap_or(0);
            sum.completed += completed;
            sum.other_outcomes += all("outcomes").saturating_sub(completed);
            sum.instance_gone += all("instance_gone");
            sum.ended_early = sum.ended_early.zip(count("ended_early")).map(|(sum, count)| sum + count);
            sum.sent += count("sent").unwrap_or(0);
            sum.acknowledged += count("acknowledged").unwrap_or(0);
            sum.retried += count("retried").unwrap_or(0);
            sum.refused += count("refused").unwrap_or(0);
            sum.lost += count("lost").unwrap_or(0);
            sum.lost_with_instance += count("lost_with_instance").unwrap_or(0);
            sum.misrouted = sum.misrouted.zip(count("misrouted")).map(|(sum, count)| sum + count);
            // All loads ask the same bots, which count the notifications of all loads together.
            sum.came_twice = sum.came_twice.max(count("came_twice").unwrap_or(0));
            sum.handled_twice += count("handled_twice").unwrap_or(0);
            sum.p50_ms = sum.p50_ms.max(number("/answered/p50_ms"));
            sum.p99_ms = sum.p99_ms.max(number("/answered/p99_ms"));
            sum.max_ms = sum.max_ms.max(number("/answered/max_ms"));
            sum.took_ms = sum.took_ms.max(number("/took_ms"));
            for name in report.get("gone").and_then(Value::as_array).into_iter().flatten() {
                let name = name.as_str().unwrap_or_default().to_owned();
                if !sum.gone.contains(&name) {
                    sum.gone.push(name);
                }
            }
            sum.ok &= report.get("ok") == Some(&Value::Bool(true));
        }
        sum
    }
}

/// The first calls that failed, each with its problem.
pub(super) fn problems(report: &Value) -> Vec<String> {
    let listed = report.get("problems").and_then(Value::as_array).into_iter().flatten();
    let text = |problem: &Value, name: &str| {
        problem.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    listed.map(|problem| format!("{} {}", text(problem, "call"), text(problem, "what"))).collect()
}
