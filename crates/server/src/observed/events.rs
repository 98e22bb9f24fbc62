//! The latest decisions, refusals and reloads. Their JSON is documented in `docs/admin.md`.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Serialize, Serializer};

/// A decision on a new call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decision {
    /// Unix milliseconds.
    pub(crate) time: u64,
    pub(crate) call: Option<Box<str>>,
    pub(crate) chain: Option<Box<str>>,
    /// The rule of the region policy that matched.
    #[serde(serialize_with = "rule_path")]
    pub(crate) rule: Option<usize>,
    /// `here`, `redirect`, `overflow`, `reject` or `refuse`.
    pub(crate) decision: &'static str,
    /// The region that the platform was redirected to.
    pub(crate) region: Option<Box<str>>,
    /// The instance that took the call.
    pub(crate) instance: Option<Box<str>>,
    pub(crate) outcome: &'static str,
}

/// A refusal of a sender or a request, with nothing that its log line lacks.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ObservedRefusal {
    /// Unix milliseconds.
    pub(crate) time: u64,
    pub(crate) outcome: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) trust: Option<Box<str>>,
    pub(crate) client: Box<str>,
    pub(crate) problem: Option<Box<str>>,
}

/// The result of a reload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LastReload {
    /// Unix milliseconds.
    pub(crate) time: u64,
    pub(crate) ok: bool,
    pub(crate) problem: Option<Box<str>>,
}

impl LastReload {
    pub(super) fn new(problem: Option<&str>, time: u64) -> Self {
        Self { time, ok: problem.is_none(), problem: problem.map(bounded) }
    }
}

impl ObservedRefusal {
    /// The problem in words, of bounded length.
    pub(crate) fn bounded_problem(problem: Option<&str>) -> Option<Box<str>> {
        problem.map(bounded)
    }
}

/// The latest few values.
#[derive(Debug)]
pub(super) struct Latest<T> {
    max: usize,
    values: Mutex<VecDeque<T>>,
}

impl<T: Clone> Latest<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, values: Mutex::default() }
    }

    pub(super) fn push(&self, value: T) {
        let mut values = self.lock();
        if values.len() >= self.max {
            values.pop_front();
        }
        values.push_back(value);
    }

    pub(super) fn newest_first(&self) -> Vec<T> {
        self.lock().iter().rev().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The start of a text. The log has the rest.
fn bounded(text: &str) -> Box<str> {
    text.get(..text.floor_char_boundary(PROBLEM_BYTES_MAX)).unwrap_or_default().into()
}

/// Writes the path of a rule in the configuration.
fn rule_path<S: Serializer>(rule: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    match rule {
        Some(index) => serializer.collect_str(&format_args!("affinity.rule[{index}]")),
        None => serializer.serialize_none(),
    }
}

/// The longest problem: a reload of a thousand instances may have hundreds of lines of them.
const PROBLEM_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_values_are_kept_in_order() {
        let latest = Latest::new(3);
        assert_eq!(latest.newest_first(), Vec::<u32>::new());
        for number in 0..10 {
            latest.push(number);
        }
        assert_eq!(latest.newest_first(), [9, 8, 7]);
    }

    #[test]
    fn a_rule_has_its_path_in_the_configuration() {
        let mut decision = Decision {
            time: 7,
            call: Some("c".into()),
            chain: None,
            rule: Some(2),
            decision: "redirect",
            region: Some("amer".into()),
            instance: None,
            outcome: "redirected",
        };
        let json = serde_json::json!({
            "time": 7, "call": "c", "chain": null, "rule": "affinity.rule[2]", "decision": "redirect",
            "region": "amer", "instance": null, "outcome": "redirected",
        });
        assert_eq!(serde_json::to_value(&decision).unwrap(), json);
        decision.rule = None;
        assert!(serde_json::to_string(&decision).unwrap().contains(r#""rule":null"#));
    }

    #[test]
    fn a_long_problem_is_cut_between_two_characters() {
        let reload = LastReload::new(Some(&"é".repeat(5000)), 1);
        assert_eq!(reload.problem.map(|problem| problem.len()), Some(PROBLEM_BYTES_MAX));
        assert!(LastReload::new(None, 1).ok);
    }
}
