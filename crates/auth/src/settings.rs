//! What an operator says of trusts, apps and keys, and which of it could not be safe.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use url::Url;
use uuid::Uuid;

use crate::{
    discovery::{has_userinfo, is_loopback},
    issuer::{IssuerPattern, guid},
};

/// One issuer family: where its keys are published, what it calls itself, who may call. Plain data.
#[derive(Clone, Debug)]
pub struct TrustSettings {
    /// Its name, for logs, metrics and the store's file name: 1 to 63 of `A-Z a-z 0-9 . _ -`, not beginning
    /// with a dot.
    pub name: String,
    /// The discovery document; https, or http on this machine.
    pub metadata: Url,
    /// Accepted issuers, byte for byte; `{tid}` stands for the token's tenant.
    pub issuers: Vec<String>,
    /// Accepted `appid`/`azp`; required where an issuer contains a tenant, for any application of any tenant
    /// can obtain a token of such an issuer for any audience.
    pub callers: Vec<Uuid>,
}

/// An app that may be called.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The app id: the audience of its tokens.
    pub id: Uuid,
    /// Accepted tenants.
    pub tenants: Tenants,
    /// Accepted audiences besides the id.
    pub audiences: Vec<String>,
}

/// Accepted tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// All.
    Any,
    /// These.
    Only(Vec<Uuid>),
}

/// When to fetch keys, and how long to keep them.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    /// Between fetches ahead of need, give or take 5 %.
    pub refresh: Duration,
    /// Between fetches caused by unknown key ids.
    pub cooldown: Duration,
    /// How long keys that worked outlive a silent endpoint.
    pub keep_stale: Duration,
    /// Folder for the last good sets.
    pub store: Option<PathBuf>,
}

/// Settings that could not be safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidAuthSettings {
    /// The setting, like `trust[1].callers`.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Everything that is wrong, in the order of the settings.
pub(crate) fn problems(
    trusts: &[&TrustSettings],
    apps: &[AppSettings],
    keys: &KeyPolicy,
) -> Vec<InvalidAuthSettings> {
    let mut problems = Problems(Vec::new());
    let issuers = check_trusts(trusts, &mut problems);
    check_apps(apps, &issuers, &mut problems);
    check_keys(keys, &mut problems);
    problems.0
}

/// The trusts, each on its own and against those before it. Returns the issuers with the trust that has each.
fn check_trusts(trusts: &[&TrustSettings], problems: &mut Problems) -> Vec<(IssuerPattern, usize)> {
    if trusts.is_empty() {
        problems.add("trust", "at least one is needed");
    }
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut issuers: Vec<(IssuerPattern, usize)> = Vec::new();
    for (at, trust) in trusts.iter().enumerate() {
        let path = |member: &str| format!("trust[{at}].{member}");
        if !is_name(&trust.name) {
            problems.add(path("name"), "must be 1 to 63 of A-Z a-z 0-9 . _ - and not begin with a dot");
        }
        // Case folded, since the name is a file's and some file systems do so.
        if let Some(other) = names.insert(trust.name.to_ascii_lowercase(), at) {
            problems.add(path("name"), format!("is that of trust[{other}]; names must differ"));
        }
        if !(trust.metadata.scheme() == "https"
            || trust.metadata.scheme() == "http" && is_loopback(&trust.metadata))
        {
            problems.add(path("metadata"), "must be https (http for loopback hosts only)");
        } else if has_userinfo(&trust.metadata) || trust.metadata.fragment().is_some() {
            problems.add(path("metadata"), "must have neither userinfo nor fragment");
        }
        if trust.issuers.is_empty() {
            problems.add(path("issuers"), "at least one is needed");
        }
        let mut has_tenant = false;
        for (nth, issuer) in trust.issuers.iter().enumerate() {
            let path = format!("trust[{at}].issuers[{nth}]");
            let pattern = match IssuerPattern::parse(issuer) {
                Ok(pattern) => pattern,
                Err(problem) => {
                    problems.add(path, problem);
                    continue;
                }
            };
            has_tenant |= pattern.has_tenant();
            if let Some((_, other)) = issuers.iter().find(|(other, _)| other.overlaps(&pattern)) {
                problems
                    .add(path, format!("is also an issuer of trust[{other}]; a token must have one trust"));
            } else {
                issuers.push((pattern, at));
            }
        }
        if has_tenant && trust.callers.is_empty() {
            problems.add(
                path("callers"),
                "must name the calling service, since any application can get a token of an issuer with a tenant in it",
            );
        }
    }
    issuers
}

/// The apps: each audience leads to one of them.
fn check_apps(apps: &[AppSettings], issuers: &[(IssuerPattern, usize)], problems: &mut Problems) {
    if apps.is_empty() {
        problems.add("app", "at least one is needed");
    }
    let mut audiences: HashMap<String, usize> = HashMap::new();
    for (at, app) in apps.iter().enumerate() {
        if let Some(other) = audiences.insert(app.id.to_string(), at) {
            problems.add(format!("app[{at}].id"), format!("is also an audience of app[{other}]"));
        }
        if matches!(&app.tenants, Tenants::Only(tenants) if tenants.is_empty()) {
            problems.add(format!("app[{at}].tenants"), "at least one is needed; \"*\" accepts all");
        }
    }
    for (at, app) in apps.iter().enumerate() {
        for (nth, audience) in app.audiences.iter().enumerate() {
            let path = format!("app[{at}].audiences[{nth}]");
            if audience.is_empty() {
                problems.add(path, "must not be empty");
                continue;
            }
            // The platform's meeting tokens carry the issuer as their audience and travel inside
            // notifications.
            let as_issuer = IssuerPattern::parse(audience).ok();
            if as_issuer.is_some_and(|audience| issuers.iter().any(|(issuer, _)| issuer.overlaps(&audience)))
            {
                problems.add(path, "is an issuer; tokens for an issuer are not for an app");
                continue;
            }
            // GUIDs compare in any case, so an id that another app has must be found however it is written.
            let same = guid(audience).map_or_else(|| audience.clone(), |id| id.to_string());
            match audiences.insert(same, at) {
                Some(other) if other != at => {
                    problems.add(path, format!("is also an audience of app[{other}]"))
                }
                Some(_) | None => {}
            }
        }
    }
}

fn check_keys(keys: &KeyPolicy, problems: &mut Problems) {
    for (name, time) in
        [("refresh", keys.refresh), ("cooldown", keys.cooldown), ("keep_stale", keys.keep_stale)]
    {
        if time > TIME_MAX {
            problems.add(format!("keys.{name}"), "must be at most a year");
        }
    }
    if keys.refresh.is_zero() {
        problems.add("keys.refresh", "must not be zero");
    }
    if keys.cooldown.is_zero() {
        problems.add("keys.cooldown", "must not be zero: anyone could make us fetch without end");
    }
    if keys.keep_stale <= keys.refresh {
        problems.add(
            "keys.keep_stale",
            "must be longer than keys.refresh, or keys would die between two fetches",
        );
    }
}

/// Longer ones are mistakes, and could overflow a clock.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// A list that is added to with less ink.
struct Problems(Vec<InvalidAuthSettings>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push(InvalidAuthSettings { path: path.into(), problem: problem.into() });
    }
}

/// Fit for a file name anywhere.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
