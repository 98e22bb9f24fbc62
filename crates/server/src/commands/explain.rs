//! `Explanation`: the decisions about a notification, a callback and a token, rule by rule. `text` writes
//! them for people, `json` for programs.

mod callback;
mod text;
mod token;

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use switchboard_delivery::{Fill, InstanceSettings};
use switchboard_notification::{Envelope, InvalidNotification, Notifications};
use switchboard_routing::{AffinityKey, Candidate, Name, RuleOutcome, fill_order, hash_name, rank};
use uuid::Uuid;

use self::callback::CallbackExplained;
pub(super) use self::token::TokenExplained;
use crate::{
    cli::ExplainArgs,
    config::Config,
    request::{
        plan::{Destination, Knowledge, NewCallPlan, PlanContext, PlannedPart},
        received::caller_region,
        refusal::Refusal,
        reply::Reply,
    },
};

/// The decisions about a notification.
///
/// The command does not know the health and load of instances, nor the health of peers. It treats all of them
/// as ready.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// The app whose token is assumed.
    app: String,
    /// The tenant whose token is assumed, if one is known.
    tenant: Option<AssumedTenant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<TokenExplained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackExplained>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<BodyExplained>,
}

#[derive(Debug, Serialize)]
struct AssumedTenant {
    id: String,
    /// True if the command line or its token gives it. Otherwise it comes from the body.
    given: bool,
}

/// The kind of the body, and what the gateway does with it.
#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum BodyExplained {
    /// The platform sends the call again as Graph.
    Legacy { kind: &'static str, status: u16 },
    /// Not a notification.
    Refused { code: &'static str, message: String, status: u16 },
    /// Its items go to one owner, or to several.
    Graph { split: bool, items: Vec<ItemExplained> },
}

#[derive(Debug, Serialize)]
struct ItemExplained {
    kind: &'static str,
    call_id: Option<String>,
    target: ItemTarget,
}

/// The destination of an item.
#[derive(Debug, Serialize)]
#[serde(tag = "goes", rename_all = "snake_case")]
enum ItemTarget {
    /// A new call: by the region policy, then by the ranking.
    Placed(Box<NewCallExplained>),
    /// About a call that the same body announces.
    WithNewCall,
    /// To the instance on which this gateway placed the call within ten minutes, else to the first in the
    /// ranking.
    Owner { probable: Option<String> },
    /// Not about a call.
    WithOthers,
}

/// The properties of a new call, and the decisions that follow from them.
#[derive(Debug, Serialize)]
struct NewCallExplained {
    seen: SeenProperties,
    chain_id: Option<String>,
    thread_id: Option<String>,
    policy_recording: bool,
    budget_ms: u64,
    rules: Vec<RuleExplained>,
    decision: DecisionExplained,
    /// Set if new calls fill the instances one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    filled: Option<FilledExplained>,
    affinity: AffinityExplained,
    /// The instances in the order in which the gateway asks them, if none is to be filled.
    instances: Vec<String>,
}

/// The order of `placement.fill = "pack"`.
#[derive(Debug, Serialize)]
struct FilledExplained {
    /// The part of its capacity up to which an instance is filled.
    share: f64,
    instances: Vec<String>,
}

/// The properties that rules look at, by the names of their settings.
#[derive(Debug, Serialize)]
struct SeenProperties {
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
    /// The decision of a rule in a dry run that matches and was reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<DryRunExplained>,
}

/// The decision of a rule in a dry run.
#[derive(Debug, Serialize)]
struct DryRunExplained {
    reason: &'static str,
    /// The region that would serve the call.
    region: String,
    redirect: bool,
}

#[derive(Debug, Serialize)]
struct DecisionExplained {
    reason: &'static str,
    rule: Option<usize>,
    /// The region that serves the call.
    region: String,
    redirect: Option<RedirectExplained>,
}

#[derive(Debug, Serialize)]
struct RedirectExplained {
    status: u16,
    location: String,
}

#[derive(Debug, Serialize)]
struct AffinityExplained {
    key: &'static str,
    value: String,
}

impl Explanation {
    /// Explains `body`, `token`, and the callback URI of the options, with the settings of `config`.
    pub(super) fn of(
        config: &Config,
        body: Option<&[u8]>,
        token: Option<TokenExplained>,
        args: &ExplainArgs,
    ) -> Self {
        let app = args.app.or_else(|| token.as_ref()?.app).or_else(|| config.apps.first().map(|app| app.id));
        let app = app.unwrap_or_default();
        let envelope = body.map(Envelope::parse);
        let of_body = match &envelope {
            Some(Ok(Envelope::Graph(notifications))) => {
                notifications.items.iter().find_map(|item| item.new_call()?.tenant_id)
            }
            Some(Ok(Envelope::Legacy(_)) | Err(_)) | None => None,
        };
        let given = args.tenant.or_else(|| token.as_ref()?.tenant).map(|id| (id, true));
        let tenant = given.or_else(|| of_body.map(|id| (id, false)));
        let headers = headers(&args.headers);
        let explainer = Explainer {
            config,
            context: PlanContext {
                policy: &config.policy,
                placement: &config.placement,
                redirect_status: config.redirect_status,
                tenant: tenant.map(|(id, _)| id).unwrap_or_default(),
                app_in_path: None,
                caller_region: caller_region(&headers),
                is_redirected: false,
            },
            instances: config.delivery.instances.iter().filter(|instance| serves(instance, app)).collect(),
        };
        let body = envelope.map(|envelope| match envelope {
            Ok(Envelope::Legacy(legacy)) => {
                BodyExplained::Legacy { kind: legacy.kind.label(), status: Reply::ASK_FOR_GRAPH.as_u16() }
            }
            Ok(Envelope::Graph(notifications)) => explainer.graph(&notifications),
            Err(error) => BodyExplained::refused(error),
        });
        let tenant = tenant.map(|(id, given)| AssumedTenant { id: id.to_string(), given });
        let callback = args.callback.as_deref().map(|uri| CallbackExplained::of(config, uri, args));
        Self { app: app.to_string(), tenant, token, callback, body }
    }

    /// The explanation for programs.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl BodyExplained {
    fn refused(error: InvalidNotification) -> Self {
        let refusal = Refusal::from(error);
        Self::Refused {
            code: refusal.reason,
            message: refusal.message().unwrap_or_default().to_owned(),
            status: refusal.outcome.refusal_status().as_u16(),
        }
    }
}

/// The parts of an explanation that are the same for all items.
struct Explainer<'c> {
    config: &'c Config,
    context: PlanContext<'c>,
    /// The instances that serve the app.
    instances: Vec<&'c InstanceSettings>,
}

impl<'c> Explainer<'c> {
    fn graph(&self, notifications: &Notifications<'_>) -> BodyExplained {
        let knowledge = Knowledge {
            is_healthy: &|_| true,
            probable_owner: &|call_id| self.ranking(call_id).next().cloned(),
        };
        let plan = self.context.plan(notifications, knowledge);
        let explained = notifications.items.iter().enumerate().map(|(index, item)| ItemExplained {
            kind: item.kind().label(),
            call_id: item.call_id().map(|id| id.as_str().to_owned()),
            target: match plan.parts.iter().find(|part| part.items.contains(&index)) {
                Some(part) if item.call_id().is_some() => self.target(part, index),
                Some(_) | None => ItemTarget::WithOthers,
            },
        });
        BodyExplained::Graph { split: plan.is_batch(), items: explained.collect() }
    }

    fn target(&self, part: &PlannedPart<'_>, index: usize) -> ItemTarget {
        match &part.destination {
            Destination::NewCall(plan) if plan.item == index => {
                ItemTarget::Placed(Box::new(self.new_call(part.call_id, plan)))
            }
            Destination::NewCall(_) => ItemTarget::WithNewCall,
            Destination::ProbableOwner(owner) => {
                ItemTarget::Owner { probable: owner.as_ref().map(Name::to_string) }
            }
        }
    }

    fn new_call(&self, call_id: &str, plan: &NewCallPlan<'_>) -> NewCallExplained {
        let call = plan.call;
        let owned = |text: &Option<Cow<'_, str>>| text.as_deref().map(str::to_owned);
        let tenant = self.context.tenant;
        NewCallExplained {
            seen: SeenProperties {
                source_region: owned(&call.source_region),
                country: owned(&call.country),
                caller_region: self.context.caller_region.map(str::to_owned),
                media_region: owned(&call.media_region),
                tenant: (!tenant.is_nil()).then(|| tenant.to_string()),
                organizer_tenant: call.organizer_tenant.map(|id| id.to_string()),
                user: owned(&call.observed_user),
            },
            chain_id: owned(&call.chain_id),
            thread_id: owned(&call.thread_id),
            policy_recording: call.policy_recording,
            budget_ms: u64::try_from(plan.budget.as_millis()).unwrap_or(u64::MAX),
            rules: self.rules(call_id, plan),
            decision: self.decision(plan),
            filled: match self.config.delivery.fill {
                Fill::Spread => None,
                Fill::Pack { share } => Some(FilledExplained { share, instances: self.fill_order() }),
            },
            instances: self.ranking(&plan.affinity).map(Name::to_string).collect(),
            affinity: AffinityExplained {
                key: self.config.placement.key.label(),
                value: plan.affinity.to_string(),
            },
        }
    }

    fn rules(&self, call_id: &str, plan: &NewCallPlan<'_>) -> Vec<RuleExplained> {
        let traits = self.context.traits(call_id, plan.call);
        let outcomes = self.config.policy.explain(&traits).into_iter().enumerate();
        let explained = outcomes.map(|(index, outcome)| {
            let shadow = plan.shadows.iter().find(|shadow| shadow.rule == Some(index));
            let dry_run = shadow.map(|shadow| DryRunExplained {
                reason: shadow.reason.label(),
                region: shadow.redirect.unwrap_or(&self.config.region).to_string(),
                redirect: shadow.redirect.is_some(),
            });
            RuleExplained { dry_run, ..RuleExplained::from(outcome) }
        });
        explained.collect()
    }

    fn decision(&self, plan: &NewCallPlan<'_>) -> DecisionExplained {
        let redirection = plan.redirect.and_then(|region| self.context.redirection(region));
        // The plan drops the redirect of a call in a batch.
        let is_dropped = plan.decision.redirect.is_some() && plan.redirect.is_none();
        DecisionExplained {
            reason: if is_dropped { SPLIT } else { plan.decision.reason.label() },
            rule: plan.decision.rule,
            region: plan.redirect.unwrap_or(&self.config.region).to_string(),
            redirect: redirection.map(|redirection| RedirectExplained {
                status: redirection.status.status().as_u16(),
                location: redirection.location.to_str().unwrap_or_default().to_owned(),
            }),
        }
    }

    /// The instances that serve the app, in the order of a text.
    fn ranking(&self, text: &str) -> impl Iterator<Item = &'c Name> {
        let ranked: Vec<_> = rank(AffinityKey::of(text), &self.candidates()).collect();
        ranked.into_iter().filter_map(|index| self.instances.get(index)).map(|instance| &instance.name)
    }

    /// The instances that serve the app, in the order in which new calls fill them.
    fn fill_order(&self) -> Vec<String> {
        let order = fill_order(&self.candidates());
        order.filter_map(|index| Some(self.instances.get(index)?.name.to_string())).collect()
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |instance: &&InstanceSettings| Candidate {
            name_hash: hash_name(&instance.name),
            weight: instance.weight,
            load: None,
        };
        self.instances.iter().map(candidate).collect()
    }
}

impl From<RuleOutcome> for RuleExplained {
    fn from(outcome: RuleOutcome) -> Self {
        let (outcome, condition, seen) = match outcome {
            RuleOutcome::Matched => ("matched", None, None),
            RuleOutcome::OutsideShare => ("not_in_share", None, None),
            RuleOutcome::Failed { condition, seen } => ("failed", Some(condition), seen),
        };
        Self { outcome, condition, seen, dry_run: None }
    }
}

/// The header fields of the command line. A field that no HTTP request can have is left out.
fn headers(fields: &[(String, String)]) -> HeaderMap {
    let field = |(name, value): &(String, String)| {
        Some((HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter_map(field) {
        headers.append(name, value);
    }
    headers
}

fn serves(instance: &InstanceSettings, app: Uuid) -> bool {
    instance.apps.as_ref().is_none_or(|apps| apps.contains(&app))
}

/// The reason of a call in a batch whose rule names another region.
const SPLIT: &str = "split";

#[cfg(test)]
mod tests;
