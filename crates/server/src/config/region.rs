//! `region`, `[callback]`, `[[peer]]`, `[affinity]`: the calls of this region, and their callback URIs.

use std::{collections::BTreeSet, time::Duration};

use ::url::Url;
use serde_json::Value;
use switchboard_delivery::{Orphaned, UpstreamUrl};
use switchboard_routing::{CallbackUris, Name, Peer, Policy, Rule, SealKey};

use super::{
    guid,
    model::{PeerSettings, RedirectStatus},
    secret::{SECRET, Surroundings},
    section::{Section, Setting},
    url,
    written::Written,
};

pub(super) fn name(root: &Section<'_>) -> Option<Name> {
    root.required("region", "the name of the region that this gateway serves, like \"emea\"")
        .as_ref()
        .and_then(parse_name)
}

/// Parses the name of a region or an instance.
pub(super) fn parse_name(setting: &Setting<'_>) -> Option<Name> {
    setting.parse("a name like \"bot-0\", of 1 to 63 of A-Z a-z 0-9 . _ -", |text| Name::parse(text).ok())
}

/// The settings of callbacks.
pub(super) struct Callback {
    pub(super) base: Url,
    pub(super) uris: CallbackUris,
    pub(super) patience: Duration,
    pub(super) orphaned: Orphaned,
}

/// Reads `[callback]`. `path` is `None` if it has a problem already.
pub(super) fn callback(
    root: &Section<'_>,
    around: &Surroundings<'_>,
    path: Option<&str>,
) -> Option<Callback> {
    let section = root.section("callback");
    let base = section
        .required("base", &format!("the origin of callbackUris, like \"{BASE}\""))
        .and_then(|setting| origin(&setting, BASE, "leave it out: listen.callback_path sets the path"));
    let seal = section.required("seal", SEAL);
    let seal = seal.and_then(|setting| {
        let mut ids = BTreeSet::new();
        let keys = setting.each(SEAL, |key| seal_key(key, around, &mut ids))?;
        if keys.is_empty() {
            setting.problem(format!("empty: no callbackUri could be sealed; write {SEAL}"));
        }
        (!keys.is_empty()).then_some(keys)
    });
    let patience = section.or("patience", Duration::from_secs(8), |setting| {
        setting.duration(&(Duration::from_millis(1)..=Duration::from_secs(60)))
    });
    let words = [("refuse", Orphaned::Refuse), ("reassign", Orphaned::Reassign)];
    let orphaned = section.word_or("orphaned", Orphaned::Refuse, &words);
    let uris = match (&base, seal, path) {
        (Some(base), Some(seal), Some(path)) => {
            let uris = CallbackUris::new(base, path, seal);
            uris.map_err(|error| section.problem("base", error.to_string())).ok()
        }
        _ => None,
    };
    section.finish();
    Some(Callback { base: base?, uris: uris?, patience: patience?, orphaned: orphaned? })
}

/// Parses a URL without a path. `like` is an example; `advice` says what to do about a path.
fn origin(setting: &Setting<'_>, like: &str, advice: &str) -> Option<Url> {
    let url = url::secure_without_query(setting, like)?;
    let is_bare = url.path() == "/";
    if !is_bare {
        setting.problem(format!("has a path; {advice}"));
    }
    is_bare.then_some(url)
}

fn seal_key(setting: &Setting<'_>, around: &Surroundings<'_>, ids: &mut BTreeSet<String>) -> Option<SealKey> {
    let section = setting.table("{ id = \"k1\", secret = { env = \"NAME\" } }");
    let id = section.required("id", "a name for the key, like \"k1\"").and_then(|setting| {
        let id = setting.parse("a name like \"k1\", of 1 to 63 of A-Z a-z 0-9 _ -", |text| {
            (!text.contains('.') && Name::parse(text).is_ok()).then_some(text)
        })?;
        let is_new = ids.insert(id.to_owned());
        if !is_new {
            setting.problem("another key has the same id; give each its own");
        }
        is_new.then_some(id)
    });
    let secret =
        section.required("secret", SECRET).and_then(|setting| around.base64_secret(&setting, SEAL_BYTES_MIN));
    section.finish();
    match SealKey::new(id?, secret?.expose()) {
        Ok(key) => Some(key),
        Err(error) => {
            setting.problem(error.to_string());
            None
        }
    }
}

/// The other regions, and the rules that give calls to them.
pub(super) struct Affinity {
    pub(super) peers: Vec<PeerSettings>,
    pub(super) policy: Policy,
    pub(super) status: RedirectStatus,
}

/// Reads `[[peer]]` and `[affinity]`. `here` is `None` if it has a problem already.
pub(super) fn affinity(root: &Section<'_>, here: Option<&Name>) -> Option<Affinity> {
    let mut names = BTreeSet::new();
    let peers: Vec<_> =
        root.sections("peer").into_iter().map(|section| peer(section, here, &mut names)).collect();
    let peers: Option<Vec<_>> = peers.into_iter().collect();
    let section = root.section("affinity");
    let status = section.or("status", RedirectStatus::Found, |setting| {
        setting.number_of(&[
            (302, RedirectStatus::Found),
            (307, RedirectStatus::TemporaryRedirect),
            (308, RedirectStatus::PermanentRedirect),
        ])
    });
    // A peer with a problem does not make every rule that names it a problem.
    let regions = if peers.is_some() { here.map(|here| (here, &names)) } else { None };
    let rules: Vec<_> = section.sections("rule").into_iter().map(|section| rule(section, regions)).collect();
    let rules: Option<Vec<_>> = rules.into_iter().collect();
    section.finish();
    let (here, peers, rules) = (here?, peers?, rules?);
    let known = peers.iter().map(|peer| Peer { name: peer.name.clone(), webhook: peer.webhook.clone() });
    match Policy::new(here.clone(), known.collect(), rules) {
        Ok(policy) => Some(Affinity { peers, policy, status: status? }),
        // The checks above find all problems with their places in the file. This is for a check that only the
        // policy has.
        Err(error) => {
            root.problem(&error.path(), error.to_string());
            None
        }
    }
}

impl Written for RedirectStatus {
    fn written(&self) -> Value {
        Value::from(match self {
            Self::Found => 302,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        })
    }
}

fn peer(section: Section<'_>, here: Option<&Name>, names: &mut BTreeSet<Name>) -> Option<PeerSettings> {
    let name = section.required("name", "the name of another region, like \"amer\"").and_then(|setting| {
        let name = parse_name(&setting)?;
        if here == Some(&name) {
            setting.problem("the region of this gateway; name another one");
            return None;
        }
        let is_new = names.insert(name.clone());
        if !is_new {
            setting.problem("another [[peer]] has the same name; write each region once");
        }
        is_new.then_some(name)
    });
    let webhook = section
        .required("webhook", &format!("the URL of its webhook, like \"{WEBHOOK}\""))
        .and_then(|setting| url::secure_without_query(&setting, WEBHOOK));
    let callback = section.maybe("callback", |setting| {
        let url = origin(setting, PEER, "leave it out: a proxied callback keeps its path")?;
        UpstreamUrl::parse(url.as_str()).map_err(|error| setting.problem(error.to_string())).ok()
    });
    let health = section.maybe("health", |setting| url::secure(setting, HEALTH));
    section.finish();
    Some(PeerSettings { name: name?, webhook: webhook?, callback: callback?, health: health? })
}

/// Reads a rule. `regions`: this region and the others, if they have no problem.
fn rule(section: Section<'_>, regions: Option<(&Name, &BTreeSet<Name>)>) -> Option<Rule> {
    let texts = |name, like: &str| {
        section.or_empty(name, |setting| {
            let right = format!("a list of texts, like [{like:?}]");
            let one = |value: &Setting<'_>| value.text(&format!("a text, like {like:?}")).map(str::to_owned);
            not_empty(setting, setting.each(&right, one))
        })
    };
    let tenants = |name| {
        section.or_empty(name, |setting| {
            let one = |tenant: &Setting<'_>| guid::guid(tenant).map(|id| id.hyphenated().to_string());
            not_empty(setting, setting.each(&format!("a list of tenant ids, each {}", guid::GUID), one))
        })
    };
    let source_region = texts("source_region", "amer");
    let country = texts("country", "US");
    let caller_region = texts("caller_region", "amer");
    let media_region = texts("media_region", "USEA");
    let tenant = tenants("tenant");
    let organizer_tenant = tenants("organizer_tenant");
    let user = texts("user", "112f7296-5fa4-42ca-bae8-6a692b15d4b8");
    let share = section.or("share", 1.0, Setting::fraction);
    let serve_in =
        section.required("serve_in", "the name of this region or of a [[peer]]").and_then(|setting| {
            let name = parse_name(&setting)?;
            if let Some((here, peers)) = regions
                && name != *here
                && !peers.contains(&name)
            {
                let known: Vec<_> = [here].into_iter().chain(peers).map(Name::as_str).collect();
                setting.problem(format!("not a known region; the regions are {}", known.join(", ")));
                return None;
            }
            Some(name)
        });
    let dry_run = section.or("dry_run", false, Setting::boolean);
    section.finish();
    Some(Rule {
        source_region: source_region?,
        country: country?,
        caller_region: caller_region?,
        media_region: media_region?,
        tenant: tenant?,
        organizer_tenant: organizer_tenant?,
        user: user?,
        share: share?,
        serve_in: serve_in?,
        dry_run: dry_run?,
    })
}

/// Refuses an empty list: an operator could mean that it matches nothing or everything.
fn not_empty<T>(setting: &Setting<'_>, values: Option<Vec<T>>) -> Option<Vec<T>> {
    let values = values?;
    if values.is_empty() {
        setting.problem("empty; name a value, or leave the condition out");
        return None;
    }
    Some(values)
}

const BASE: &str = "https://emea.bots.contoso.com";

const PEER: &str = "https://amer.bots.contoso.com";

const WEBHOOK: &str = "https://amer.bots.contoso.com/api/calls";

const HEALTH: &str = "https://amer.bots.contoso.com/api/health";

const SEAL: &str = "a list of keys, like [{ id = \"k1\", secret = { env = \"NAME\" } }]";

/// The shortest MAC key: as long as the hash (RFC 2104 section 3).
const SEAL_BYTES_MIN: usize = 32;
