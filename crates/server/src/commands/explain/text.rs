//! An explanation as lines for people.

use std::fmt;

use super::{
    AffinityExplained, AssumedTenant, BodyExplained, DecisionExplained, DryRunExplained, Explanation,
    FilledExplained, ItemExplained, ItemTarget, NewCallExplained, RedirectExplained, RuleExplained, SPLIT,
    SeenProperties,
};

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(token) = &self.token {
            write!(f, "{token}")?;
        }
        if let Some(callback) = &self.callback {
            let space = if self.token.is_some() { "\n\n" } else { "" };
            write!(f, "{space}{callback}")?;
        }
        let Some(body) = &self.body else { return Ok(()) };
        if self.token.is_some() || self.callback.is_some() {
            write!(f, "\n\n")?;
        }
        writeln!(f, "app: {}", self.app)?;
        match &self.tenant {
            Some(AssumedTenant { id, given: true }) => writeln!(f, "tenant: {id}")?,
            Some(AssumedTenant { id, given: false }) => writeln!(f, "tenant: {id}, from the body")?,
            None => writeln!(f, "tenant: unknown; set the tenant of the token with --tenant")?,
        }
        write!(f, "{body}")
    }
}

impl fmt::Display for BodyExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Legacy { kind, status } => {
                write!(
                    f,
                    "body: legacy ({kind}); the gateway responds {status}, and the platform sends it again \
                     as Graph"
                )
            }
            Self::Refused { code, message, status } => {
                write!(f, "body: refused with {status}, {code}: {message}")
            }
            Self::Graph { split, items } => {
                let how = if *split {
                    "; of several owners: each gets its items, and no call is redirected"
                } else {
                    ""
                };
                write!(f, "body: Graph, items: {}{how}", items.len())?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "\n\nitem {index}: {}{item}", item.kind)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for ItemExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(call_id) = &self.call_id {
            write!(f, "\n  call id: {}", call_id.escape_debug())?;
        }
        match &self.target {
            ItemTarget::Placed(call) => write!(f, "\n{call}"),
            ItemTarget::WithNewCall => {
                write!(f, "\n  about a call that is new in this body: goes to the same instance")
            }
            ItemTarget::Owner { probable } => {
                let owner = probable.as_deref().unwrap_or("no instance: none serves the app");
                write!(
                    f,
                    "\n  not a new call: goes where it was placed in the last ten minutes, else to {owner}"
                )
            }
            ItemTarget::WithOthers => write!(f, "\n  not about a call: goes with the first part"),
        }
    }
}

impl fmt::Display for NewCallExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recording = if self.policy_recording { "policy-recorded" } else { "not policy-recorded" };
        write!(f, "  new call, {recording}: an instance must accept it within {} ms", self.budget_ms)?;
        let SeenProperties {
            source_region,
            country,
            caller_region,
            media_region,
            tenant,
            organizer_tenant,
            user,
        } = &self.seen;
        let values = [
            ("chain id", &self.chain_id),
            ("thread", &self.thread_id),
            ("source_region", source_region),
            ("country", country),
            ("caller_region", caller_region),
            ("media_region", media_region),
            ("tenant", tenant),
            ("organizer_tenant", organizer_tenant),
            ("user", user),
        ];
        for (name, value) in values {
            if let Some(value) = value {
                write!(f, "\n  {name}: {}", value.escape_debug())?;
            }
        }
        for (index, rule) in self.rules.iter().enumerate() {
            write!(f, "\n  affinity.rule[{index}]: {rule}")?;
            if self.decision.rule == Some(index) {
                write!(f, "; decides")?;
            }
        }
        write!(f, "\n  decision: {}", self.decision)?;
        if self.decision.redirect.is_none() {
            let instances = if self.instances.is_empty() {
                "no instance: none serves the app".to_owned()
            } else {
                self.instances.join(", then ")
            };
            let mut when = "";
            if let Some(FilledExplained { share, instances }) =
                self.filled.as_ref().filter(|_| !self.instances.is_empty())
            {
                let order = instances.join(", then ");
                write!(f, "\n  filled: {order}; the first below {share} of its capacity takes the call")?;
                when = ", if none is below";
            }
            let AffinityExplained { key, value } = &self.affinity;
            write!(f, "\n  affinity: {key}, {}\n  asked{when}: {instances}", value.escape_debug())?;
        }
        Ok(())
    }
}

impl fmt::Display for RuleExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.condition, &self.seen) {
            (Some(condition), Some(seen)) => {
                write!(f, "does not match: {condition} is {}", seen.escape_debug())
            }
            (Some(condition), None) => write!(f, "does not match: the call has no {condition}"),
            (None, _) if self.outcome == "matched" => write!(f, "matches"),
            (None, _) => write!(f, "matches, but its share does not include this chain"),
        }?;
        match &self.dry_run {
            Some(DryRunExplained { region, redirect: true, .. }) => {
                write!(f, "; would redirect to {region} (dry run), goes on")
            }
            Some(DryRunExplained { region, redirect: false, .. }) => {
                write!(f, "; would serve it here in {region} (dry run), goes on")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for DecisionExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.redirect {
            Some(RedirectExplained { status, location }) => {
                write!(f, "{}, with {status} to {location}", self.region)?
            }
            None => write!(f, "here in {}", self.region)?,
        }
        match self.rule {
            Some(rule) => write!(f, "; by affinity.rule[{rule}]")?,
            None => write!(f, "; no rule matches")?,
        }
        if self.reason == SPLIT {
            write!(f, ", which names another region; no call of a batch is redirected")?;
        }
        Ok(())
    }
}
