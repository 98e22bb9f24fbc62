//! The goals of the cost of a request, beside the figures of a run.

use serde_json::{Value, json};

use super::{results::Results, subjects::Server};

/// A figure that is to be at most `limit`.
struct Goal {
    text: &'static str,
    limit: f64,
    /// Empty for a ratio.
    unit: &'static str,
    /// `None` if it was not measured.
    figure: fn(&Results) -> Option<f64>,
}

impl Goal {
    /// The figure, and whether it meets the goal.
    fn judge(&self, results: &Results) -> Option<(f64, bool)> {
        let figure = (self.figure)(results)?;
        Some((figure, figure <= self.limit))
    }
}

/// A line for each goal.
pub(super) fn table(results: &Results) -> Vec<String> {
    let line = |goal: &Goal| {
        let with_unit = |value: f64| format!("{value:.2} {}", goal.unit);
        let (figure, verdict) = match goal.judge(results) {
            Some((figure, true)) => (with_unit(figure), "met"),
            Some((figure, false)) => (with_unit(figure), "not met"),
            None => ("–".to_owned(), "not measured"),
        };
        let (limit, text) = (with_unit(goal.limit), goal.text);
        format!("{text:<56}{:>12}{:>12}  {verdict}", figure.trim_end(), limit.trim_end())
    };
    let head = format!("{:<56}{:>12}{:>12}", "goals", "figure", "at most");
    [head].into_iter().chain(GOALS.iter().map(line)).collect()
}

/// The goals as JSON. A goal that was not measured has no figure.
pub(super) fn json(results: &Results) -> Value {
    let value = |goal: &Goal| {
        let (figure, met) = goal.judge(results).unzip();
        json!({ "goal": goal.text, "figure": figure, "limit": goal.limit, "unit": goal.unit, "met": met })
    };
    GOALS.iter().map(value).collect()
}

const fn ratio(text: &'static str, limit: f64, figure: fn(&Results) -> Option<f64>) -> Goal {
    Goal { text, limit, unit: "", figure }
}

const GOALS: [Goal; 14] = [
    ratio("callback, known token, to nginx", 1.0, |results| results.ratio("callback", Server::Nginx)),
    ratio("callback, new tokens, to a hyper proxy with an RSA check", 1.1, Results::new_token_ratio),
    ratio("legacy body, 204, to hyper", 1.3, |results| results.ratio("legacy", Server::Hyper204)),
    ratio("redirect, 302, to hyper", 1.3, |results| results.ratio("redirect", Server::Hyper302)),
    ratio("new call, fleet of 100, to a callback", 1.5, |results| {
        let callback = results.cpu_us("callback-own", Server::Gateway)?;
        Some(results.cpu_us("new-call", Server::Gateway)? / callback)
    }),
    Goal {
        text: "new call, fleet of 10,000, added to a fleet of 1",
        limit: 40.0,
        unit: "µs",
        figure: |results| {
            let small = results.cpu_us("new-call", Server::SmallFleet)?;
            Some(results.cpu_us("new-call", Server::LargeFleet)? - small)
        },
    },
    ratio("callback, TLS kept alive, to nginx", 1.1, |results| results.ratio("tls", Server::Nginx)),
    ratio("callback, TLS resumed, to nginx", 1.1, |results| results.ratio("tls-resumed", Server::Nginx)),
    ratio("callback, TLS full, to nginx", 1.1, |results| results.ratio("tls-full", Server::Nginx)),
    ratio("callback, two workers, to one worker", 1.05, |results| {
        let one = results.cpu_us("workers", Server::OneWorker)?;
        Some(results.cpu_us("workers", Server::TwoWorkers)? / one)
    }),
    Goal {
        text: "callback, half load, p99 added to the upstream's",
        limit: 0.5,
        unit: "ms",
        figure: |results| Some(results.p99_added_us("half-load", Server::Gateway)? / 1_000.0),
    },
    Goal {
        text: "idle memory",
        limit: 12.0,
        unit: "MiB",
        figure: |results| results.footprint(false).map(|one| mebibytes(one.memory_kib)),
    },
    Goal {
        text: "memory with 10,000 idle connections",
        limit: 150.0,
        unit: "MiB",
        figure: |results| results.footprint(false)?.connected_kib.map(mebibytes),
    },
    Goal {
        text: "memory with 10,000 idle connections, TLS",
        limit: 250.0,
        unit: "MiB",
        figure: |results| results.footprint(true)?.connected_kib.map(mebibytes),
    },
];

#[expect(clippy::as_conversions, reason = "a size of memory is far below 2^53")]
fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::{footprint::Footprint, results::tests::row};

    fn verdict<'a>(lines: &'a [String], goal: &str) -> Vec<&'a str> {
        let line = lines.iter().find_map(|line| line.strip_prefix(goal)).unwrap();
        line.split_whitespace().collect()
    }

    #[test]
    fn each_goal_has_a_line_with_its_verdict() {
        let (start, reload) = (Duration::ZERO, Duration::ZERO);
        let (memory_kib, connected_kib) = (12 * 1024, Some(150 * 1024 + 512));
        let footprint = Footprint { instances: 1, tls: false, start, reload, memory_kib, connected_kib };
        let rows = vec![
            row("callback", &[(Server::Gateway, 21.0), (Server::Nginx, 20.0)]),
            row("new-call", &[(Server::SmallFleet, 20.0), (Server::LargeFleet, 60.0)]),
        ];
        let results = Results { rows, footprints: vec![footprint], ..Results::default() };
        let lines = table(&results);
        assert_eq!(lines.len(), 1 + GOALS.len());
        assert_eq!(verdict(&lines, "callback, known token, to nginx"), ["1.05", "1.00", "not", "met"]);
        let added = verdict(&lines, "new call, fleet of 10,000, added to a fleet of 1");
        assert_eq!(added, ["40.00", "µs", "40.00", "µs", "met"]);
        assert_eq!(verdict(&lines, "idle memory"), ["12.00", "MiB", "12.00", "MiB", "met"]);
        let connected = verdict(&lines, "memory with 10,000 idle connections ");
        assert_eq!(connected, ["150.50", "MiB", "150.00", "MiB", "not", "met"]);
        assert_eq!(verdict(&lines, "callback, TLS full, to nginx"), ["–", "1.10", "not", "measured"]);

        let json = json(&results);
        assert_eq!(json[0]["met"], false);
        assert_eq!(json[0]["figure"], 1.05);
        assert_eq!(json[2]["figure"], Value::Null);
    }
}
