//! The decisions of the rules of the region policy, followed and in a dry run.

use std::{collections::BTreeMap, fmt};

use switchboard_routing::{Decision, Name, Policy, RuleEffect};

use crate::metrics::{families::Families, series::LabelledCounters};

/// New calls by rule, and by the region that the rule chose.
#[derive(Debug, Default)]
pub(crate) struct RuleCounters {
    decided: LabelledCounters<2>,
    shadowed: LabelledCounters<2>,
}

impl RuleCounters {
    /// Counts the decision about a new call. `here` is this region.
    pub(crate) fn decided(&self, decision: &Decision<'_>, here: &Name) {
        count(&self.decided, decision, here);
    }

    /// Counts the decision of a rule in a dry run.
    pub(crate) fn shadowed(&self, decision: &Decision<'_>, here: &Name) {
        count(&self.shadowed, decision, here);
    }

    /// Returns the number of new calls of each rule of `policy`, in their order, and of calls that no rule
    /// matched.
    pub(crate) fn by_rule(&self, policy: &Policy) -> (Vec<u64>, u64) {
        let (decided, shadowed) = (self.decided.read([]), self.shadowed.read([]));
        let of = |counts: &BTreeMap<[Box<str>; 2], u64>, rule: &str| {
            counts.iter().filter(|([of, _], _)| **of == *rule).map(|(_, count)| count).sum()
        };
        let of_rule = |(index, rule): (usize, RuleEffect<'_>)| {
            of(if rule.dry_run { &shadowed } else { &decided }, &index.to_string())
        };
        (policy.rules().enumerate().map(of_rule).collect(), of(&decided, NO_RULE))
    }

    /// Writes the counters. Those of the rules of `policy` are there before a rule has matched.
    pub(super) fn encode(&self, policy: &Policy, families: &mut Families<'_>) -> fmt::Result {
        let rules: Vec<_> =
            policy.rules().enumerate().map(|(index, rule)| (index.to_string(), rule)).collect();
        let of_rules = |in_dry_run| {
            let those = rules.iter().filter(move |(_, rule)| rule.dry_run == in_dry_run);
            those.map(|(index, rule)| [&**index, rule.serve_in.as_str()])
        };
        let none = policy.has_rules().then_some([NO_RULE, policy.here().as_str()]);
        for (name, help, counters, known) in [
            (
                "rules_decided",
                "New calls by the affinity rule that decided, or none, and by the region that it chose",
                &self.decided,
                of_rules(false).chain(none).collect::<Vec<_>>(),
            ),
            (
                "rules_shadowed",
                "New calls that an affinity rule in a dry run matched, by the region that it would choose",
                &self.shadowed,
                of_rules(true).collect(),
            ),
        ] {
            families.counters(
                name,
                help,
                counters
                    .read(known)
                    .iter()
                    .map(|([rule, region], count)| ([("rule", &**rule), ("region", &**region)], *count)),
            )?;
        }
        Ok(())
    }
}

fn count(counters: &LabelledCounters<2>, decision: &Decision<'_>, here: &Name) {
    let rule = decision.rule.map(|rule| rule.to_string());
    let region = decision.redirect.unwrap_or(here);
    counters.increment([rule.as_deref().unwrap_or(NO_RULE), region.as_str()]);
}

/// The rule of a call that no rule matches.
const NO_RULE: &str = "none";
