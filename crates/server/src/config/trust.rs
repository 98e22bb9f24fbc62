//! `[[app]]`, `[[trust]]`, `[keys]`: the apps that the gateway serves, and the issuers that it trusts.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use switchboard_auth::{
    AppSettings, Authenticator, KeyPolicy, Tenants, TrustSettings, key_store_is_writable_by_others,
};
use switchboard_graph::GraphSettings;
use uuid::Uuid;

use super::{
    ca::CaCertificates,
    cloud::{self, CALLING_SERVICE, Cloud, SKYPE_METADATA},
    file_time::within_limit,
    graph,
    guid::{GUID, guid, parse_guid},
    model::Trust,
    secret::{Surroundings, shown},
    section::{Section, Setting},
    url,
    written::Written,
};

/// Reads the apps, and the calls API of those for which the gateway acts. `cloud` is `None` if it has a
/// problem already.
pub(super) fn apps(
    root: &Section<'_>,
    around: &Surroundings<'_>,
    cloud: Option<Cloud>,
) -> Option<Vec<(AppSettings, Option<GraphSettings>)>> {
    let sections = root.some_sections("app", "write one [[app]] or more, each with its id")?;
    let mut seen = BTreeSet::new();
    let apps: Vec<_> = sections.into_iter().map(|section| app(section, around, cloud, &mut seen)).collect();
    apps.into_iter().collect()
}

fn app(
    section: Section<'_>,
    around: &Surroundings<'_>,
    cloud: Option<Cloud>,
    seen: &mut BTreeSet<Uuid>,
) -> Option<(AppSettings, Option<GraphSettings>)> {
    let id = section.required("id", GUID).and_then(|setting| {
        let id = guid(&setting)?;
        let is_new = seen.insert(id);
        if !is_new {
            setting.problem("another [[app]] has the same id; write each app once");
        }
        is_new.then_some(id)
    });
    let tenants = section.or("tenants", Tenants::Any, tenants);
    let audiences = section.or_empty("audiences", |setting| {
        setting.each("a list of audiences, like [\"api://bots.contoso.com\"]", |audience| {
            audience.text("an audience, like \"api://bots.contoso.com\"").map(str::to_owned)
        })
    });
    let graph = graph::graph(&section, around, id, tenants.as_ref(), cloud);
    section.finish();
    Some((AppSettings { id: id?, tenants: tenants?, audiences: audiences? }, graph?))
}

fn tenants(setting: &Setting<'_>) -> Option<Tenants> {
    let items = setting.each("[\"*\"] or a list of tenant ids", |tenant| {
        tenant.parse(&format!("\"*\" or {GUID}"), |text| match text {
            "*" => Some(None),
            _ => parse_guid(text).map(Some),
        })
    })?;
    if items.is_empty() {
        setting.problem("empty: the gateway would accept no tenant; write [\"*\"] or tenant ids");
        return None;
    }
    if items == [None] {
        return Some(Tenants::Any);
    }
    let ids: Option<Vec<_>> = items.into_iter().collect();
    if ids.is_none() {
        setting.problem("\"*\" beside tenant ids; write one or the other");
    }
    ids.map(Tenants::Only)
}

/// Reads the trusts, or takes those of the cloud. `cloud` is `None` if it has a problem already.
pub(super) fn trusts(
    root: &Section<'_>,
    around: &Surroundings<'_>,
    cloud: Option<Cloud>,
) -> Option<Vec<Trust>> {
    if root.optional("trust").is_none() {
        let trusts = cloud?.trusts(root)?;
        root.note_default("trust", trusts.written());
        return Some(trusts);
    }
    cloud::refuse_skype_metadata(root);
    let sections =
        root.some_sections("trust", "write at least one [[trust]], or none for the two of the cloud")?;
    let mut names = BTreeSet::new();
    let trusts: Vec<_> = sections.into_iter().map(|section| trust(section, around, &mut names)).collect();
    trusts.into_iter().collect()
}

fn trust(section: Section<'_>, around: &Surroundings<'_>, names: &mut BTreeSet<String>) -> Option<Trust> {
    let name = section.required("name", "a name for logs and metrics").and_then(|setting| {
        // The name is also that of the file in the store.
        let name = setting.parse("a name like \"skype\", of 1 to 63 of A-Z a-z 0-9 _ -", |text| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
            ((1..=63).contains(&text.len()) && text.bytes().all(fits)).then(|| text.to_owned())
        })?;
        // The file system of the store may ignore case.
        let is_new = names.insert(name.to_ascii_lowercase());
        if !is_new {
            setting.problem("another [[trust]] has the same name; give each its own");
        }
        is_new.then_some(name)
    });
    let metadata = section
        .required("metadata", &format!("the URL of the OpenID configuration, like \"{SKYPE_METADATA}\""));
    let metadata = metadata.and_then(|setting| url::secure(&setting, SKYPE_METADATA));
    let issuers = section.required("issuers", ISSUERS).and_then(|setting| {
        let issuers = setting.each(ISSUERS, issuer)?;
        if issuers.is_empty() {
            setting.problem(format!("empty: the gateway would accept no token; write {ISSUERS}"));
        }
        (!issuers.is_empty()).then_some(issuers)
    });
    let callers = section.or_empty("callers", |setting| {
        setting.each(&format!("a list of app ids, like [\"{CALLING_SERVICE}\"]"), guid)
    });
    if let (Some(issuers), Some(callers)) = (&issuers, &callers)
        && callers.is_empty()
        && issuers.iter().any(|issuer| issuer.contains(TENANT))
    {
        let message = format!(
            "missing; it must name the calling service, [\"{CALLING_SERVICE}\"], where an issuer contains \
             {TENANT}: any application of any tenant can obtain a token for an app"
        );
        section.problem("callers", message);
    }
    let ca = section.maybe("ca", |setting| CaCertificates::read(setting, around));
    section.finish();
    let ca = ca?;
    let settings = TrustSettings {
        name: name?,
        metadata: metadata?,
        issuers: issuers?,
        callers: callers?,
        ca_digest: ca.as_ref().map(|ca| ca.digest),
    };
    Some(Trust { settings, ca })
}

fn issuer(setting: &Setting<'_>) -> Option<String> {
    setting
        .parse(
            "an issuer like \"https://sts.windows.net/{tid}/\", with at most one {tid} for the tenant",
            |text| {
                let secure = text.starts_with("https://") || text.starts_with("http://");
                let placeholders = text.matches(TENANT).count();
                let braces = text.matches(['{', '}']).count();
                let graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
                (secure && graphic && placeholders <= 1 && braces == 2 * placeholders).then_some(text)
            },
        )
        .map(str::to_owned)
}

pub(super) fn keys(root: &Section<'_>, around: &Surroundings<'_>) -> Option<KeyPolicy> {
    let section = root.section("keys");
    let day = Duration::from_secs(24 * 3600);
    let refresh = section.or("refresh", Duration::from_secs(3600), |setting| {
        setting.duration(&(Duration::from_secs(1)..=day))
    });
    let cooldown = section.or("cooldown", Duration::from_secs(30), |setting| {
        setting.duration(&(Duration::from_millis(100)..=Duration::from_secs(3600)))
    });
    let keep_stale =
        section.or("keep_stale", day, |setting| setting.duration(&(Duration::from_secs(1)..=30 * day)));
    let store = section.maybe("store", |setting| {
        let folder = around.path(setting, "the path of a folder, like \"/var/lib/switchboard/keys\"")?;
        if around.without_secrets {
            return Some(folder);
        }
        match within_limit(&folder, key_store_is_writable_by_others) {
            Ok(false) => Some(folder),
            Ok(true) => {
                setting.problem(
                    "other users may write the folder, and so decide which tokens are accepted; take the \
                     permission from them: chmod go-w",
                );
                None
            }
            Err(hangs) => {
                setting.problem(format!("{} cannot be examined: {hangs}", shown(&folder)));
                None
            }
        }
    });
    section.finish();
    Some(KeyPolicy { refresh: refresh?, cooldown: cooldown?, keep_stale: keep_stale?, store: store? })
}

/// Checks the apps and trusts against each other, and asks the authenticator for what it would refuse.
pub(super) fn check_together(root: &Section<'_>, apps: &[AppSettings], trusts: &[Trust], keys: &KeyPolicy) {
    let issuers = || trusts.iter().flat_map(|trust| &trust.settings.issuers);
    for (index, app) in apps.iter().enumerate() {
        for audience in
            app.audiences.iter().filter(|audience| issuers().any(|issuer| is_of(audience, issuer)))
        {
            let message =
                format!("{audience} is an issuer; leave it out: an audience is the recipient of a token");
            root.problem(&format!("app[{index}].audiences"), message);
        }
    }
    if root.has_problems() {
        return;
    }
    let trusts: Vec<_> = trusts.iter().map(|trust| trust.settings.clone()).collect();
    for error in Authenticator::problems(&trusts, apps, keys) {
        root.problem(&error.path, error.problem);
    }
}

/// True if `text` is `issuer`, with any tenant in the place of its placeholder.
fn is_of(text: &str, issuer: &str) -> bool {
    match issuer.split_once(TENANT) {
        Some((before, after)) => text
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|tenant| tenant == TENANT || parse_guid(tenant).is_some()),
        None => text == issuer,
    }
}

impl Written for Tenants {
    fn written(&self) -> Value {
        match self {
            Self::Any => Value::from(vec!["*"]),
            Self::Only(tenants) => tenants.iter().map(|tenant| tenant.hyphenated().to_string()).collect(),
        }
    }
}

/// The trusts of a cloud.
impl Written for Vec<Trust> {
    fn written(&self) -> Value {
        let trust = |trust: &Trust| {
            // Without `..`: a new setting must be shown.
            let Trust { settings, ca: _ } = trust;
            let TrustSettings { name, metadata, issuers, callers, ca_digest: _ } = settings;
            let callers: Vec<_> = callers.iter().map(|caller| caller.hyphenated().to_string()).collect();
            json!({
                "name": name, "metadata": metadata.as_str(), "issuers": issuers, "callers": callers,
                "ca": null,
            })
        };
        self.iter().map(trust).collect()
    }
}

const ISSUERS: &str = "a list of issuers, like [\"https://api.botframework.com\"]";

/// The placeholder of the token's tenant in an issuer.
const TENANT: &str = "{tid}";
