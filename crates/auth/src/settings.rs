//! The settings of trusts, apps and keys, and the check that they are safe.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use url::Url;
use uuid::Uuid;

use crate::{
    discovery::{has_userinfo, is_loopback},
    issuer::{IssuerPattern, guid},
};

/// One issuer family: the address of its keys, its issuers and its allowed callers. Plain data.
#[derive(Clone, Debug)]
pub struct TrustSettings {
    /// The name, for logs, metrics and the file name of the store: 1 to 63 of `A-Z a-z 0-9 . _ -`, not
    /// starting with a dot.
    pub name: String,
    /// The URL of the discovery document: https, or http to a loopback host.
    pub metadata: Url,
    /// The accepted issuers, byte for byte. `{tid}` stands for the token's tenant.
    pub issuers: Vec<String>,
    /// The accepted `appid` or `azp`. Required if an issuer contains a tenant: any application of any tenant
    /// can obtain a token of such an issuer for any audience.
    pub callers: Vec<Uuid>,
    /// The SHA-256 of the certificate authorities that the `Fetch` of this trust accepts besides those of the
    /// system; `None` without any. Keys are worth no more than the authority that vouched for the endpoint,
    /// so keys of other authorities are fetched again at once.
    pub ca_digest: Option<[u8; 32]>,
}

/// An app that the platform may call.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The app id. It is the audience of the app's tokens.
    pub id: Uuid,
    /// The accepted tenants.
    pub tenants: Tenants,
    /// The accepted audiences besides the id.
    pub audiences: Vec<String>,
}

/// The accepted tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// All tenants.
    Any,
    /// These tenants.
    Only(Vec<Uuid>),
}

/// The times of fetches, and the time for which keys are kept.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    /// The time between fetches in the background, plus or minus 5 %.
    pub refresh: Duration,
    /// The time between fetches that unknown key ids cause.
    pub cooldown: Duration,
    /// The time for which keys are used while the endpoint does not respond.
    pub keep_stale: Duration,
    /// The folder in which the last usable sets are stored.
    pub store: Option<PathBuf>,
}

/// A setting that is not safe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidAuthSettings {
    /// The setting, like `trust[1].callers`.
    pub path: String,
    /// The problem, and what would be right.
    pub problem: String,
}

/// Returns all problems, in the order of the settings.
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

/// Checks each trust on its own and against the trusts before it. Returns each issuer with the index of its
/// trust.
fn check_trusts(trusts: &[&TrustSettings], problems: &mut Problems) -> Vec<(IssuerPattern, usize)> {
    if trusts.is_empty() {
        problems.add("trust", "at least one is needed");
    }
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut issuers: Vec<(IssuerPattern, usize)> = Vec::new();
    for (at, trust) in trusts.iter().enumerate() {
        let path = |member: &str| format!("trust[{at}].{member}");
        if !is_name(&trust.name) {
            problems.add(path("name"), "must be 1 to 63 of A-Z a-z 0-9 . _ - and not start with a dot");
        }
        // In lower case, since the name is a file name and some file systems ignore case.
        if let Some(other) = names.insert(trust.name.to_ascii_lowercase(), at) {
            problems.add(path("name"), format!("is also the name of trust[{other}]; names must differ"));
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
                problems.add(
                    path,
                    format!("is also an issuer of trust[{other}]; each issuer must belong to one trust"),
                );
            } else {
                issuers.push((pattern, at));
            }
        }
        if has_tenant && trust.callers.is_empty() {
            problems.add(
                path("callers"),
                "must name the calling service, since any application can get a token of an issuer with a \
                 tenant in it",
            );
        }
    }
    issuers
}

/// Checks the apps: each audience must belong to one app.
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
            // The platform's meeting tokens have the issuer as their audience, and notifications contain
            // them.
            let as_issuer = IssuerPattern::parse(audience).ok();
            if as_issuer.is_some_and(|audience| issuers.iter().any(|(issuer, _)| issuer.overlaps(&audience)))
            {
                problems.add(path, "is an issuer; tokens for an issuer are not for an app");
                continue;
            }
            // GUIDs are equal in any case: find the id of another app in each spelling.
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
        problems.add(
            "keys.cooldown",
            "must not be zero: unauthenticated senders could cause a fetch per request",
        );
    }
    if keys.keep_stale <= keys.refresh {
        problems.add(
            "keys.keep_stale",
            "must be longer than keys.refresh, or keys would expire between two fetches",
        );
    }
}

/// Longer times are mistakes, and could overflow a clock.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// The problems found so far.
struct Problems(Vec<InvalidAuthSettings>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        self.0.push(InvalidAuthSettings { path: path.into(), problem: problem.into() });
    }
}

/// Returns true if `name` is a safe file name on every file system.
fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
