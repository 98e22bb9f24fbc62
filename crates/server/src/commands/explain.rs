//! `Explanation`: what would be decided for a notification, rule by rule, and why; for people or as JSON.

use std::{borrow::Cow, fmt};

use serde::Serialize;
use switchboard_delivery::InstanceSettings;
use switchboard_notification::{Call, Envelope, Item, Notifications};
use switchboard_routing::{AffinityKey, Candidate, Decision, RuleOutcome, Traits, hash_name, rank};
use uuid::Uuid;

use crate::{
    cli::ExplainArgs,
    config::{Config, RedirectStatus},
};

/// What would be decided for a notification. Nothing is known of the fleet's health or load, nor of the peers': all are
/// taken for ready.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// The app whose token is assumed.
    app: String,
    /// The tenant whose token is assumed, where one is known.
    tenant: Option<Tenant>,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Tenant {
    id: String,
    /// Whether the command line gave it; otherwise the body did.
    given: bool,
}

/// What the body is, and what becomes of it.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Body {
    /// Answered 204: the platform sends the call again as Graph.
    Legacy { kind: &'static str, status: u16 },
    /// Answered 400.
    Refused { code: &'static str, message: String, status: u16 },
    /// Its items go to one owner, or to several.
    Graph { split: bool, items: Vec<ItemExplained> },
}

#[derive(Debug, Serialize)]
struct ItemExplained {
    kind: &'static str,
    call_id: Option<String>,
    target: Target,
}

/// Where an item goes.
#[derive(Debug, Serialize)]
#[serde(tag = "goes", rename_all = "snake_case")]
enum Target {
    /// A new call: by the region policy, then by the ranking.
    Placed(Box<NewCall>),
    /// About a call that is new in the same body.
    WithNewCall,
    /// To where this gateway placed the call within ten minutes, else to the instance that its id ranks first.
    Owner { probable: Option<String> },
    /// Not about a call.
    WithOthers,
}

/// What is seen of a new call, and what that leads to.
#[derive(Debug, Serialize)]
struct NewCall {
    seen: Seen,
    chain_id: Option<String>,
    thread_id: Option<String>,
    policy_recording: bool,
    budget_ms: u64,
    rules: Vec<RuleExplained>,
    decision: DecisionExplained,
    affinity: Affinity,
    /// The instances in the order in which they would be asked.
    instances: Vec<String>,
}

/// What rules look at, by the names of their settings.
#[derive(Debug, Serialize)]
struct Seen {
    source_region: Option<String>,
    country: Option<String>,
    caller_region: Option<String>,
    media_region: Option<String>,
    tenant: Option<String>,
    organizer_tenant: Option<String>,
    user: Option<String>,
}

#[derive(Debug, Serialize)]
struct RuleExplained {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
}

#[derive(Debug, Serialize)]
struct DecisionExplained {
    reason: &'static str,
    rule: Option<usize>,
    /// The region that serves the call.
    region: String,
    redirect: Option<Redirect>,
}

#[derive(Debug, Serialize)]
struct Redirect {
    status: u16,
    location: String,
}

#[derive(Debug, Serialize)]
struct Affinity {
    key: &'static str,
    value: String,
}

impl Explanation {
    /// What `config` makes of `body`.
    pub(super) fn of(config: &Config, body: &[u8], args: &ExplainArgs) -> Self {
        let app = args.app.or_else(|| config.apps.first().map(|app| app.id)).unwrap_or_default();
        let envelope = Envelope::parse(body);
        let of_body = match &envelope {
            Ok(Envelope::Graph(notifications)) => {
                notifications.items.iter().find_map(|item| item.new_call()?.tenant_id)
            }
            Ok(Envelope::Legacy(_)) | Err(_) => None,
        };
        let given = args.tenant.map(|id| (id, true));
        let tenant = given.or_else(|| of_body.map(|id| (id, false)));
        let caller_region = args.headers.iter().find(|(name, _)| name == CALLER_REGION);
        let context = Context {
            config,
            tenant: tenant.map(|(id, _)| id).unwrap_or_default(),
            caller_region: caller_region.map(|(_, value)| value.as_str()),
            instances: config.delivery.instances.iter().filter(|instance| serves(instance, app)).collect(),
        };
        let body = match envelope {
            Ok(Envelope::Legacy(legacy)) => Body::Legacy { kind: legacy.kind.label(), status: 204 },
            Ok(Envelope::Graph(notifications)) => context.graph(&notifications),
            Err(error) => Body::Refused { code: error.code.label(), message: error.to_string(), status: 400 },
        };
        let tenant = tenant.map(|(id, given)| Tenant { id: id.to_string(), given });
        Self { app: app.to_string(), tenant, body }
    }

    /// The same for programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// What is the same for all items.
struct Context<'c> {
    config: &'c Config,
    tenant: Uuid,
    caller_region: Option<&'c str>,
    /// Those that serve the app.
    instances: Vec<&'c InstanceSettings>,
}

impl Context<'_> {
    fn graph(&self, notifications: &Notifications<'_>) -> Body {
        let items = &notifications.items;
        let mut owners: Vec<String> = items.iter().filter_map(|item| self.owner(item, items)).collect();
        owners.sort_unstable();
        owners.dedup();
        let split = owners.len() > 1;
        Body::Graph { split, items: items.iter().map(|item| self.item(item, items, split)).collect() }
    }

    /// What tells the parts of a batch apart: each new call is one, all else goes by its probable instance.
    fn owner(&self, item: &Item<'_>, items: &[Item<'_>]) -> Option<String> {
        let call_id = item.call_id()?.as_str().to_ascii_lowercase();
        if is_new(&call_id, items) { Some(format!("new {call_id}")) } else { self.probable_owner(&call_id) }
    }

    fn item(&self, item: &Item<'_>, items: &[Item<'_>], split: bool) -> ItemExplained {
        let target = match (item.call_id().map(|id| id.as_str()), item.new_call()) {
            (None, _) => Target::WithOthers,
            (Some(call_id), Some(call)) => Target::Placed(Box::new(self.new_call(call, call_id, split))),
            (Some(call_id), None) if is_new(call_id, items) => Target::WithNewCall,
            (Some(call_id), None) => Target::Owner { probable: self.probable_owner(call_id) },
        };
        let call_id = item.call_id().map(|id| id.as_str().to_owned());
        ItemExplained { kind: item.kind().label(), call_id, target }
    }

    fn new_call(&self, call: &Call<'_>, call_id: &str, split: bool) -> NewCall {
        let config = self.config;
        let traits = Traits { call, call_id, caller_region: self.caller_region, tenant: self.tenant };
        let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let placement = &config.placement;
        let value = placement.key.text(call_id, call, self.tenant).into_owned();
        let budget = if call.policy_recording { placement.recording_budget } else { placement.budget };
        NewCall {
            seen: Seen {
                source_region: owned(&call.source_region),
                country: owned(&call.country),
                caller_region: self.caller_region.map(str::to_owned),
                media_region: owned(&call.media_region),
                tenant: (!self.tenant.is_nil()).then(|| self.tenant.to_string()),
                organizer_tenant: call.organizer_tenant.map(|id| id.to_string()),
                user: owned(&call.observed_user),
            },
            chain_id: owned(&call.chain_id),
            thread_id: owned(&call.thread_id),
            policy_recording: call.policy_recording,
            budget_ms: u64::try_from(budget.as_millis()).unwrap_or(u64::MAX),
            rules: config.policy.explain(&traits).into_iter().map(RuleExplained::from).collect(),
            decision: self.decision(&config.policy.decide(&traits, false, |_| true), split),
            instances: self.ranking(&value),
            affinity: Affinity { key: placement.key.label(), value },
        }
    }

    fn decision(&self, decision: &Decision<'_>, split: bool) -> DecisionExplained {
        let config = self.config;
        let here = || config.region.to_string();
        let (region, reason, redirect) = match decision.redirect {
            None => (here(), decision.reason.label(), None),
            Some(_) if split => (here(), SPLIT, None),
            Some(region) => {
                let location = config.policy.location(region, None).unwrap_or_default();
                let redirect = Redirect { status: status(config.redirect_status), location };
                (region.to_string(), decision.reason.label(), Some(redirect))
            }
        };
        DecisionExplained { reason, rule: decision.rule, region, redirect }
    }

    fn probable_owner(&self, call_id: &str) -> Option<String> {
        self.ranking(call_id).into_iter().next()
    }

    /// The instances that serve the app in the order of a text. Nothing is known of their load.
    fn ranking(&self, text: &str) -> Vec<String> {
        let candidate = |instance: &&InstanceSettings| Candidate {
            name_hash: hash_name(&instance.name),
            weight: instance.weight,
            load: None,
        };
        let candidates: Vec<_> = self.instances.iter().map(candidate).collect();
        rank(AffinityKey::of(text), &candidates)
            .filter_map(|index| self.instances.get(index))
            .map(|instance| instance.name.to_string())
            .collect()
    }
}

impl From<RuleOutcome> for RuleExplained {
    fn from(outcome: RuleOutcome) -> Self {
        match outcome {
            RuleOutcome::Matched => Self { outcome: "matched", condition: None, seen: None },
            RuleOutcome::NotInShare => Self { outcome: "not_in_share", condition: None, seen: None },
            RuleOutcome::Failed { condition, seen } => {
                Self { outcome: "failed", condition: Some(condition), seen }
            }
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "app: {}", self.app)?;
        match &self.tenant {
            Some(Tenant { id, given: true }) => writeln!(f, "tenant: {id}")?,
            Some(Tenant { id, given: false }) => writeln!(f, "tenant: {id}, as the body has it")?,
            None => writeln!(f, "tenant: unknown; --tenant gives the token's")?,
        }
        match &self.body {
            Body::Legacy { kind, status } => {
                write!(
                    f,
                    "body: legacy ({kind}); answered {status}, so that the platform sends it again as Graph"
                )
            }
            Body::Refused { code, message, status } => {
                write!(f, "body: refused with {status}, {code}: {message}")
            }
            Body::Graph { split, items } => {
                let how = if *split {
                    "; of several owners: each gets its items, and nothing is redirected"
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
            Target::Placed(call) => write!(f, "\n{call}"),
            Target::WithNewCall => write!(f, "\n  its call is new in this body: it goes where that goes"),
            Target::Owner { probable } => {
                let owner = probable.as_deref().unwrap_or("nobody, since no instance serves the app");
                write!(f, "\n  not a new call: to where it was placed within ten minutes, else to {owner}")
            }
            Target::WithOthers => write!(f, "\n  not about a call: it goes where the others go"),
        }
    }
}

impl fmt::Display for NewCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recording = if self.policy_recording { "policy-recorded" } else { "not policy-recorded" };
        write!(f, "  new call, {recording}: to be placed within {} ms", self.budget_ms)?;
        let Seen { source_region, country, caller_region, media_region, tenant, organizer_tenant, user } =
            &self.seen;
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
                "nobody, since no instance serves the app".to_owned()
            } else {
                self.instances.join(", then ")
            };
            let Affinity { key, value } = &self.affinity;
            write!(f, "\n  affinity: {key}, {}\n  asked: {instances}", value.escape_debug())?;
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
            (None, _) => write!(f, "matches, but its share leaves this chain out"),
        }
    }
}

impl fmt::Display for DecisionExplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.redirect {
            Some(Redirect { status, location }) => write!(f, "{}, with {status} to {location}", self.region)?,
            None => write!(f, "here in {}", self.region)?,
        }
        match self.rule {
            Some(rule) => write!(f, "; by affinity.rule[{rule}]")?,
            None => write!(f, "; no rule matches")?,
        }
        if self.reason == SPLIT {
            write!(
                f,
                ", which names another region, but nothing of a batch of several owners is redirected"
            )?;
        }
        Ok(())
    }
}

/// Whether an item says that the call is new.
fn is_new(call_id: &str, items: &[Item<'_>]) -> bool {
    items.iter().any(|item| {
        item.new_call().is_some()
            && item.call_id().is_some_and(|id| id.as_str().eq_ignore_ascii_case(call_id))
    })
}

fn serves(instance: &InstanceSettings, app: Uuid) -> bool {
    instance.apps.as_ref().is_none_or(|apps| apps.contains(&app))
}

fn status(status: RedirectStatus) -> u16 {
    match status {
        RedirectStatus::Found => 302,
        RedirectStatus::TemporaryRedirect => 307,
        RedirectStatus::PermanentRedirect => 308,
    }
}

/// The header that a rule's `caller_region` looks at.
const CALLER_REGION: &str = "x-microsoft-skype-caller-region";

/// Why a rule's region is not used for an item of a batch of several owners.
const SPLIT: &str = "split";

#[cfg(test)]
mod tests;
