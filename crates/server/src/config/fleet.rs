//! `[placement]`, `[fleet]`: the instances, and how a new call finds one.

use std::{collections::BTreeSet, time::Duration};

use switchboard_auth::AppSettings;
use switchboard_delivery::{InstanceSettings, ProbeSettings, Target};
use switchboard_graph::Settings as GraphSettings;
use switchboard_routing::{CallbackUris, Name, Owner};
use uuid::Uuid;

use super::{
    AffinityBy, Full, PeerSettings, Placement,
    region::parse_name,
    section::{Section, Setting},
    trust::guid,
    unit,
};

/// How a call is placed, and the longest try of one instance. `peers` and `graph`, which has an element for each app, are
/// `None` where they are wrong already.
pub(super) fn placement(
    root: &Section<'_>,
    peers: Option<&[PeerSettings]>,
    graph: Option<&[Option<GraphSettings>]>,
) -> Option<(Placement, Duration)> {
    let section = root.section("placement");
    let keys = [
        ("call", AffinityBy::Call),
        ("chain", AffinityBy::Chain),
        ("thread", AffinityBy::Thread),
        ("tenant", AffinityBy::Tenant),
    ];
    let key = section.or("key", AffinityBy::Call, |setting| setting.word(&keys));
    let budget = section.or("budget", Duration::from_secs(12), |setting| less_than(setting, CALL_LIMIT));
    let recording_budget = section
        .or("recording_budget", Duration::from_millis(3500), |setting| less_than(setting, RECORDING_LIMIT));
    // The default is cut to the budget: who writes a short budget need not write this one too.
    let default = budget.map_or(ATTEMPT, |budget| budget.min(ATTEMPT));
    let attempt = section.or("attempt", default, |setting| {
        let attempt = setting.duration(&(Duration::from_millis(1)..=CALL_LIMIT))?;
        let longest = budget.filter(|budget| attempt > *budget);
        if let Some(budget) = longest {
            setting.problem(format!("longer than placement.budget, which is {}", unit::show(budget)));
        }
        longest.is_none().then_some(attempt)
    });
    let full = section.or("full", Full::Refuse, |setting| full(setting, peers, graph));
    section.finish();
    let placement =
        Placement { key: key?, budget: budget?, recording_budget: recording_budget?, full: full? };
    Some((placement, attempt?))
}

fn less_than(setting: &Setting<'_>, limit: Duration) -> Option<Duration> {
    let duration = setting.duration(&(Duration::from_millis(1)..=Duration::from_secs(3600)))?;
    if duration >= limit {
        let limit = unit::show(limit);
        setting.problem(format!("not less than {limit}: by then the platform has given the call up"));
        return None;
    }
    Some(duration)
}

fn full(
    setting: &Setting<'_>,
    peers: Option<&[PeerSettings]>,
    graph: Option<&[Option<GraphSettings>]>,
) -> Option<Full> {
    let text = setting.text(FULL)?;
    if text == "refuse" {
        return Some(Full::Refuse);
    }
    if text == "reject" {
        // Without a credential nobody could be told that the line is busy.
        let lacking = graph.and_then(|graph| graph.iter().position(Option::is_none));
        if let Some(index) = lacking {
            setting.problem(format!("\"reject\" goes through Graph, and app[{index}] has no [app.graph]"));
        }
        return lacking.is_none().then_some(Full::Reject);
    }
    let region = text.strip_prefix("overflow:").and_then(|name| Name::parse(name).ok());
    let Some(region) = region else {
        setting.problem(format!("not {FULL}"));
        return None;
    };
    if peers.is_some_and(|peers| peers.iter().all(|peer| peer.name != region)) {
        setting.problem(format!("overflows to {region}, which is no [[peer]]"));
        return None;
    }
    Some(Full::Overflow(region))
}

/// The instances and how they are probed. `apps` is `None` where they are wrong already.
pub(super) fn fleet(
    root: &Section<'_>,
    apps: Option<&[AppSettings]>,
) -> Option<(Vec<InstanceSettings>, Option<ProbeSettings>)> {
    let section = root.section("fleet");
    for source in ["dns", "kubernetes"] {
        section.unsupported(source, "list the instances under [[fleet.instance]]");
    }
    section.unsupported("allow", "every instance that is listed is reached");
    // Who names a source of a later version is told that, and not to write what it would have replaced.
    let sections = if ["dns", "kubernetes"].iter().any(|source| section.optional(source).is_some()) {
        section.sections("instance")
    } else {
        let right = "write one [[fleet.instance]] or more, each with its name and url";
        section.some_sections("instance", right).unwrap_or_default()
    };
    let mut names = BTreeSet::new();
    let instances: Vec<_> = sections.into_iter().map(|section| instance(section, apps, &mut names)).collect();
    let probe = section.maybe("probe", |setting| probe(setting.section()));
    section.finish();
    let instances: Option<Vec<_>> = instances.into_iter().collect();
    Some((instances.filter(|instances| !instances.is_empty())?, probe?))
}

fn instance(
    section: Section<'_>,
    apps: Option<&[AppSettings]>,
    names: &mut BTreeSet<Name>,
) -> Option<InstanceSettings> {
    let name = section.required("name", "a name that stays the same for the life of its calls").and_then(
        |setting| {
            let name = parse_name(&setting)?;
            let is_new = names.insert(name.clone());
            if !is_new {
                setting.problem("another [[fleet.instance]] has the same name");
            }
            is_new.then_some(name)
        },
    );
    let url =
        section.required("url", "where it takes new calls, an http or https URL").as_ref().and_then(target);
    let callback_url = section.maybe("callback_url", target);
    let own_apps = section.maybe("apps", |setting| {
        let ids: Vec<Uuid> = setting.each("a list of app ids", |id| {
            let app = guid(id)?;
            let is_known = apps.is_none_or(|apps| apps.iter().any(|known| known.id == app));
            if !is_known {
                id.problem("not the id of an [[app]]");
            }
            is_known.then_some(app)
        })?;
        if ids.is_empty() {
            setting.problem("empty: it would serve nothing; name an app, or leave it out to serve all");
        }
        (!ids.is_empty()).then_some(ids)
    });
    let weight = section.or("weight", 1, |setting| u32::try_from(setting.integer(1..=1000)?).ok());
    section.finish();
    Some(InstanceSettings {
        name: name?,
        url: url?,
        callback_url: callback_url?,
        apps: own_apps?,
        weight: weight?,
    })
}

/// Whether the callback URI of each instance is short enough for the platform.
pub(super) fn check_uris(
    root: &Section<'_>,
    region: &Name,
    uris: &CallbackUris,
    instances: &[InstanceSettings],
) {
    let incarnation = Name::parse("0").expect("a digit is a name");
    for (index, instance) in instances.iter().enumerate() {
        let owner = Owner {
            region: region.clone(),
            instance: instance.name.clone(),
            incarnation: incarnation.clone(),
        };
        if let Err(error) = uris.check(owner.as_ref()) {
            root.problem(&format!("fleet.instance[{index}].name"), error.to_string());
        }
    }
}

fn target(setting: &Setting<'_>) -> Option<Target> {
    match Target::parse(setting.text(TARGET)?) {
        Ok(target) => Some(target),
        Err(error) => {
            match error.label() {
                "syntax" | "relative" | "scheme" => setting.problem(format!("not {TARGET}")),
                _ => setting.problem(error.to_string()),
            }
            None
        }
    }
}

fn probe(section: Section<'_>) -> Option<ProbeSettings> {
    if !section.is_present() {
        return None;
    }
    let path = section.required("path", "what is asked for, like \"/healthz\"").and_then(|setting| {
        setting.parse("a path like \"/healthz\", with or without a query", |text| {
            let path: http::uri::PathAndQuery = text.parse().ok()?;
            (text.starts_with('/') && !text.starts_with("//") && path.as_str() == text)
                .then(|| text.to_owned())
        })
    });
    let interval = section.or("interval", Duration::from_secs(5), |setting| {
        setting.duration(&(Duration::from_millis(10)..=Duration::from_secs(3600)))
    });
    section.finish();
    Some(ProbeSettings { path: path?, interval: interval? })
}

const FULL: &str = "\"refuse\", \"overflow:REGION\" or \"reject\"";

const TARGET: &str = "an absolute http or https URL";

/// The longest try of one instance, by default: three fit into the budget, one after the other.
const ATTEMPT: Duration = Duration::from_secs(3);

/// A call must be answered within 15 s (Microsoft Graph, call: answer).
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// A policy-recorded call within 5 s (the same document).
const RECORDING_LIMIT: Duration = Duration::from_secs(5);
