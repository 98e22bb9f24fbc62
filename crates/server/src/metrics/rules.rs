//! The decisions of the rules of the region policy, followed and in a dry run.

use std::fmt;

use switchboard_routing::{Decision, Name, Policy};

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

    /// Writes the counters. Those of the rules of `policy` are there before a rule has matched.
    pub(super) fn encode(&self, policy: &Policy, families: &mut Families<'_>) -> fmt::Result {
        let rules: Vec<_> =
            policy.rules().map(|(index, region, is_dry)| (index.to_string(), region, is_dry)).collect();
        let of_rules = |in_dry_run| {
            rules
                .iter()
                .filter(move |(.., is_dry)| *is_dry == in_dry_run)
                .map(|(index, region, _)| [&**index, region.as_str()])
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
