//! The recorded instructions per request, and the comparison with new ones.

use std::{collections::BTreeMap, fs, path::Path};

use serde::Deserialize;

use super::instructions::Count;

/// The instructions per request that each row may cost.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Budget {
    /// The environment in which the counts were taken.
    environment: String,
    instructions: BTreeMap<String, u64>,
}

/// The result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No row differs by more than the tolerance.
    Within,
    /// Some rows cost less than their budget by more than the tolerance, and none costs more.
    Cheaper(Vec<String>),
    /// Some rows cost more.
    Exceeded(Vec<String>),
    /// The counts cannot be compared.
    OtherEnvironment(String),
}

impl Budget {
    /// The budget that these counts just meet.
    pub(super) fn of(environment: &str, counts: &[Count]) -> Self {
        let instructions = counts.iter().map(|count| (count.name.to_owned(), count.instructions));
        Self { environment: environment.to_owned(), instructions: instructions.collect() }
    }

    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read {FILE}: {error}"))?;
        toml::from_str(&text).map_err(|error| format!("{FILE}: {error}"))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        fs::write(path, self.text()).map_err(|error| format!("cannot write {FILE}: {error}"))
    }

    fn text(&self) -> String {
        let counts = self.instructions.iter().map(|(name, count)| format!("{name} = {count}\n"));
        let counts: String = counts.collect();
        format!("{HEAD}environment = \"{}\"\n\n[instructions]\n{counts}", self.environment)
    }

    /// Compares the counts. A row without a budget exceeds it.
    pub(super) fn judge(&self, environment: &str, counts: &[Count]) -> Verdict {
        if environment != self.environment {
            return Verdict::OtherEnvironment(format!(
                "it is for {}, and this is {environment}",
                self.environment
            ));
        }
        let (mut exceeded, mut cheaper) = (Vec::new(), Vec::new());
        for count in counts {
            let name = count.name;
            let Some(budget) = self.instructions.get(name).copied() else {
                exceeded.push(format!("{name} has no budget in {FILE}"));
                continue;
            };
            let now = count.instructions;
            let tolerance = budget * TOLERANCE_PERCENT / 100;
            let text = format!("{name} costs {now} instructions, and its budget is {budget}");
            if now > budget + tolerance {
                exceeded.push(text);
            } else if now + tolerance < budget {
                cheaper.push(text);
            }
        }
        match (exceeded.is_empty(), cheaper.is_empty()) {
            (false, _) => Verdict::Exceeded(exceeded),
            (true, false) => Verdict::Cheaper(cheaper),
            (true, true) => Verdict::Within,
        }
    }
}

/// The file of the budget, in the folder of the workspace.
pub(super) const FILE: &str = "xtask/bench-budget.toml";
const TOLERANCE_PERCENT: u64 = 3;
const HEAD: &str = "# Instructions per request in user space, which the gate compares with new ones.
# Written by `cargo xtask bench --instructions --record`.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::traffic::Mode;

    fn count(mode: Mode, instructions: u64) -> Count {
        Count { name: mode.name(), instructions, groups: Vec::new() }
    }

    #[test]
    fn three_percent_more_is_too_much() {
        let budget = Budget::of("here", &[count(Mode::Callback, 100_000), count(Mode::Legacy, 50_000)]);
        let judge = |callback, legacy| {
            budget.judge("here", &[count(Mode::Callback, callback), count(Mode::Legacy, legacy)])
        };
        assert_eq!(judge(103_000, 48_500), Verdict::Within);
        let text = |text: &str| vec![text.to_owned()];
        assert_eq!(
            judge(103_001, 40_000),
            Verdict::Exceeded(text("callback costs 103001 instructions, and its budget is 100000"))
        );
        assert_eq!(
            judge(100_000, 40_000),
            Verdict::Cheaper(text("legacy costs 40000 instructions, and its budget is 50000"))
        );
        let without = budget.judge("here", &[count(Mode::NewCall, 1)]);
        assert!(matches!(without, Verdict::Exceeded(_)), "{without:?}");
    }

    #[test]
    fn counts_of_another_environment_are_not_compared() {
        let budget = Budget::of("here", &[count(Mode::Callback, 100_000)]);
        let verdict = budget.judge("there", &[count(Mode::Callback, 900_000)]);
        assert_eq!(verdict, Verdict::OtherEnvironment("it is for here, and this is there".to_owned()));
    }

    #[test]
    fn a_budget_is_read_as_it_was_written() {
        let budget = Budget::of("here", &[count(Mode::Callback, 100_000), count(Mode::NewCall, 2)]);
        assert_eq!(toml::from_str::<Budget>(&budget.text()).unwrap(), budget);
    }
}
