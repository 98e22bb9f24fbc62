//! `Policy`: which region serves a new call, and where the platform is sent if that is not this one.

mod peer;
mod problem;
mod rule;

use uuid::Uuid;

use self::{peer::RedirectUrl, problem::problems, rule::CompiledRule};
pub use self::{
    peer::{Peer, is_marked},
    problem::InvalidPolicy,
    rule::{Rule, RuleOutcome, Traits},
};
use crate::name::Name;

/// The ordered rules, this region and its peers.
#[derive(Debug)]
pub struct Policy {
    here: Name,
    redirects: Vec<RedirectUrl>,
    rules: Vec<CompiledRule>,
}

/// What the policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// Where the call goes: `None` is here.
    pub redirect: Option<&'p Name>,
    /// The index of the rule that fired, if one did.
    pub rule: Option<usize>,
    /// Why.
    pub reason: DecisionReason,
}

/// Why a call goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionReason {
    /// No rule matched.
    NoRule,
    /// A rule matched and names this region.
    RuleHere,
    /// A rule matched and names another region.
    Rule,
    /// A rule names another region, which is unhealthy.
    Unhealthy,
    /// A rule names another region, but the request has already been redirected once.
    Marked,
}

impl DecisionReason {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::RuleHere => "rule_here",
            Self::Rule => "rule",
            Self::Unhealthy => "unhealthy",
            Self::Marked => "marked",
        }
    }
}

impl Policy {
    /// The policy of region `here`. Refuses the first of `problems`.
    pub fn new(here: Name, peers: Vec<Peer>, rules: Vec<Rule>) -> Result<Self, InvalidPolicy> {
        if let Some(problem) = problems(&here, &peers, &rules).next() {
            return Err(problem);
        }
        Ok(Self {
            redirects: peers.into_iter().map(|peer| RedirectUrl::new(peer, &here)).collect(),
            rules: rules.into_iter().map(CompiledRule::new).collect(),
            here,
        })
    }

    /// All that is wrong with the settings of a policy, in their order: for those who want to mend it in one go.
    pub fn problems(here: &Name, peers: &[Peer], rules: &[Rule]) -> Vec<InvalidPolicy> {
        problems(here, peers, rules).collect()
    }

    /// Where a new call goes. `marked`: the request carries the loop marker. `healthy` is asked at most once.
    ///
    /// The first rule that matches decides, even when its region cannot be used: a later one that matches too was
    /// written for calls that the first one does not take.
    pub fn decide(&self, traits: &Traits<'_>, marked: bool, healthy: impl Fn(&Name) -> bool) -> Decision<'_> {
        let Some((index, rule)) = self.rules.iter().enumerate().find(|(_, rule)| rule.matches(traits)) else {
            return Decision { redirect: None, rule: None, reason: DecisionReason::NoRule };
        };
        let region = rule.serve_in();
        let (redirect, reason) = if *region == self.here {
            (None, DecisionReason::RuleHere)
        } else if marked {
            (None, DecisionReason::Marked)
        } else if !healthy(region) {
            (None, DecisionReason::Unhealthy)
        } else {
            (Some(region), DecisionReason::Rule)
        };
        Decision { redirect, rule: Some(index), reason }
    }

    /// Rule by rule: whether it matches, and the first condition that fails with the value that was seen. The first that
    /// matches decides; those after it are told as well.
    pub fn explain(&self, traits: &Traits<'_>) -> Vec<RuleOutcome> {
        self.rules.iter().map(|rule| rule.explain(traits)).collect()
    }

    /// The `Location` for a redirect to `region`: its webhook, the app segment if the request had one, the marker
    /// `switchboard-from={here}`. `None` if the region is not a peer.
    ///
    /// Made of configuration and the app's id only, so no request can choose where the platform goes.
    pub fn location(&self, region: &Name, app: Option<Uuid>) -> Option<String> {
        let redirect = self.redirects.iter().find(|redirect| *redirect.name() == *region)?;
        Some(redirect.location(app))
    }
}

#[cfg(test)]
mod tests;
