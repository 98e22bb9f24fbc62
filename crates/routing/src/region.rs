//! `Policy`: the region that serves a new call, and the redirect if it is another one.

mod peer;
mod problem;
mod rule;

use uuid::Uuid;

use self::{peer::RedirectUrl, problem::problems, rule::CompiledRule};
pub use self::{
    peer::{Peer, is_marked},
    problem::InvalidPolicy,
    rule::{Rule, RuleEffect, RuleOutcome, Traits},
};
use crate::name::Name;

/// The region policy: ordered rules, this region and its peers.
///
/// ```
/// use switchboard_notification::Call;
/// use switchboard_routing::{DecisionReason, Name, Peer, Policy, Rule, Traits};
/// use url::Url;
/// use uuid::uuid;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let amer = Name::parse("amer")?;
/// let peer = Peer { name: amer.clone(), webhook: Url::parse("https://amer.bots.contoso.com/api/calls")? };
/// let rule = Rule { country: vec!["US".into()], ..Rule::to(amer.clone()) };
/// let policy = Policy::new(Name::parse("emea")?, vec![peer], vec![rule])?;
///
/// let call = Call { country: Some("US".into()), ..Call::default() };
/// let tenant = uuid!("72f988bf-86f1-41af-91ab-2d7cd011db47");
/// let traits = Traits { call: &call, call_id: "6d1c0b00-77a3", caller_region: None, tenant };
/// assert_eq!(policy.decide(&traits, false, |_region| true).redirect, Some(&amer));
///
/// // An unhealthy region gets no calls.
/// assert_eq!(policy.decide(&traits, false, |_region| false).reason, DecisionReason::Unhealthy);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Policy {
    here: Name,
    redirects: Vec<RedirectUrl>,
    rules: Vec<CompiledRule>,
    has_dry_runs: bool,
}

/// The decision of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The other region that serves the call; `None` if this region does.
    pub redirect: Option<&'p Name>,
    /// The index of the rule that matched, if one did.
    pub rule: Option<usize>,
    /// The reason.
    pub reason: DecisionReason,
}

/// The reason of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionReason {
    /// No rule matched.
    NoRule,
    /// A rule matched and names this region.
    RuleHere,
    /// A rule matched and names another region.
    Rule,
    /// A rule matched and names another region, which is unhealthy.
    Unhealthy,
    /// A rule matched and names another region, but the request has been redirected before.
    Marked,
}

impl DecisionReason {
    /// Returns a stable name for logs and metrics.
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
    /// Creates the policy of region `here`.
    ///
    /// # Errors
    ///
    /// The settings are wrong. The error is the first of [`Policy::problems`].
    pub fn new(here: Name, peers: Vec<Peer>, rules: Vec<Rule>) -> Result<Self, InvalidPolicy> {
        if let Some(problem) = problems(&here, &peers, &rules).next() {
            return Err(problem);
        }
        Ok(Self {
            has_dry_runs: rules.iter().any(|rule| rule.dry_run),
            redirects: peers.into_iter().map(|peer| RedirectUrl::new(peer, &here)).collect(),
            rules: rules.into_iter().map(CompiledRule::new).collect(),
            here,
        })
    }

    /// Returns all problems of the settings of a policy, in their order.
    pub fn problems(here: &Name, peers: &[Peer], rules: &[Rule]) -> Vec<InvalidPolicy> {
        problems(here, peers, rules).collect()
    }

    /// Decides the region of a new call. `marked` says that the request carries the loop marker. `healthy` is
    /// called at most once.
    ///
    /// The first rule that matches and is in no dry run decides, even if its region cannot be used: a later
    /// rule was written for calls that the first one does not take.
    pub fn decide(&self, traits: &Traits<'_>, marked: bool, healthy: impl Fn(&Name) -> bool) -> Decision<'_> {
        let decides = |(_, rule): &(usize, &CompiledRule)| !rule.is_dry_run() && rule.matches(traits);
        match self.rules.iter().enumerate().find(decides) {
            Some((index, rule)) => self.decision_of(index, rule, marked, healthy),
            None => Decision { redirect: None, rule: None, reason: DecisionReason::NoRule },
        }
    }

    /// Returns the shadows of a decision: the decisions of the rules in a dry run that match and were
    /// reached, in their order. A rule is reached if it stands before the one that decided.
    pub fn shadows<'p>(
        &'p self,
        decision: &Decision<'_>,
        traits: &Traits<'_>,
        marked: bool,
        healthy: impl Fn(&Name) -> bool,
    ) -> Vec<Decision<'p>> {
        if !self.has_dry_runs {
            return Vec::new();
        }
        let reached = self.rules.iter().take(decision.rule.unwrap_or(usize::MAX)).enumerate();
        reached
            .filter(|(_, rule)| rule.is_dry_run() && rule.matches(traits))
            .map(|(index, rule)| self.decision_of(index, rule, marked, &healthy))
            .collect()
    }

    /// The decision of a rule that matches.
    fn decision_of<'p>(
        &'p self,
        index: usize,
        rule: &'p CompiledRule,
        marked: bool,
        healthy: impl Fn(&Name) -> bool,
    ) -> Decision<'p> {
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

    /// The region of this policy.
    pub fn here(&self) -> &Name {
        &self.here
    }

    /// Returns true if there are rules.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// Returns what each rule does with the calls that it matches, in their order.
    pub fn rules(&self) -> impl Iterator<Item = RuleEffect<'_>> {
        self.rules.iter().map(CompiledRule::effect)
    }

    /// Returns the outcome of each rule: whether it matches, or the first condition that fails with the
    /// call's value. The first rule that matches and is in no dry run decides; the outcomes of later rules
    /// are included.
    pub fn explain(&self, traits: &Traits<'_>) -> Vec<RuleOutcome> {
        self.rules.iter().map(|rule| rule.explain(traits)).collect()
    }

    /// Returns the `Location` for a redirect to `region`: its webhook, the app segment if the request had
    /// one, and the marker `switchboard-from={here}`. `None` if the region is not a peer.
    ///
    /// It consists of configuration and the app's id only, so no request can choose the target.
    pub fn location(&self, region: &Name, app: Option<Uuid>) -> Option<String> {
        let redirect = self.redirects.iter().find(|redirect| *redirect.name() == *region)?;
        Some(redirect.location(app))
    }
}

#[cfg(test)]
mod tests;
