//! `[[fleet.instance]]`: one instance of the static list, or of a fleet file.

use std::collections::BTreeSet;

use switchboard_auth::AppSettings;
use switchboard_delivery::{InstanceSettings, InvalidUpstreamUrl, UpstreamUrl};
use switchboard_routing::Name;
use uuid::Uuid;

use super::{
    ca::CaFiles,
    guid::{GUID, guid},
    region::parse_name,
    section::{Section, Setting},
};

/// Reads one instance, and leaves further settings to the caller. `apps` is `None` if they have a problem
/// already; `names` are those of the instances so far.
pub(super) fn instance(
    section: &Section<'_>,
    ca_files: &mut CaFiles<'_>,
    apps: Option<&[AppSettings]>,
    names: &mut BTreeSet<Name>,
) -> Option<InstanceSettings> {
    let name = section
        .required("name", "a name like \"bot-0\", which stays the same as long as its calls last")
        .and_then(|setting| {
            let name = parse_name(&setting)?;
            let is_new = names.insert(name.clone());
            if !is_new {
                setting.problem("another instance has the same name; give each its own");
            }
            is_new.then_some(name)
        });
    let url = section.required("url", "the URL for new calls, like \"http://10.0.0.10:3978/api/calls\"");
    let url = url.as_ref().and_then(target);
    let callback_url = section.maybe("callback_url", target);
    let own_apps = section.maybe("apps", |setting| {
        let ids: Vec<Uuid> = setting.each(&format!("a list of app ids, each {GUID}"), |id| {
            let app = guid(id)?;
            let is_known = apps.is_none_or(|apps| apps.iter().any(|known| known.id == app));
            if !is_known {
                id.problem("not the id of an [[app]]; add the app");
            }
            is_known.then_some(app)
        })?;
        if ids.is_empty() {
            setting.problem("empty: the instance would serve no app; name one, or leave it out to serve all");
        }
        (!ids.is_empty()).then_some(ids)
    });
    let host = section.maybe("host", |setting| valid(setting, HOST, UpstreamUrl::with_host));
    let tls_name = section.maybe("tls_name", |setting| valid(setting, TLS_NAME, UpstreamUrl::with_tls_name));
    let urls = [url.as_ref(), callback_url.as_ref().and_then(Option::as_ref)];
    let is_plain = url.is_some() && !urls.into_iter().flatten().any(UpstreamUrl::is_secure);
    let ca = section.maybe("ca", |setting| {
        if is_plain {
            setting.problem(HTTPS_ONLY);
            return None;
        }
        ca_files.anchors(setting)
    });
    let weight = section.or("weight", 1, |setting| u32::try_from(setting.integer(1..=1000)?).ok());
    if is_plain && let Some(Some(_)) = tls_name {
        section.problem("tls_name", HTTPS_ONLY);
    }
    let (host, tls_name, ca) = (host?, tls_name?, ca?);
    let renamed = |url: UpstreamUrl| {
        let url = host.map_or(Ok(url.clone()), |host| url.with_host(host)).ok()?;
        let url = tls_name.map_or(Ok(url.clone()), |name| url.with_tls_name(name)).ok()?;
        Some(url.with_trust_anchors(ca.as_ref()))
    };
    Some(InstanceSettings {
        name: name?,
        url: renamed(url?)?,
        callback_url: match callback_url? {
            Some(url) => Some(renamed(url)?),
            None => None,
        },
        apps: own_apps?,
        weight: weight?,
    })
}

fn target(setting: &Setting<'_>) -> Option<UpstreamUrl> {
    if let Some(mistake) = setting.written().and_then(super::url::host_mistake) {
        setting.problem(mistake);
        return None;
    }
    match UpstreamUrl::parse(setting.text(TARGET)?) {
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

/// Reads a name that `apply` accepts.
fn valid<'t>(
    setting: &Setting<'t>,
    right: &str,
    apply: fn(UpstreamUrl, &str) -> Result<UpstreamUrl, InvalidUpstreamUrl>,
) -> Option<&'t str> {
    let text = setting.text(right)?;
    let any_url = UpstreamUrl::parse("https://host/").expect("it is a URL");
    match apply(any_url, text) {
        Ok(_) => Some(text),
        Err(error) => {
            setting.problem(error.to_string());
            None
        }
    }
}

const HTTPS_ONLY: &str = "applies to an https URL only; leave it out";
const HOST: &str = "a host with or without a port, like \"bots.contoso.com\"";
const TLS_NAME: &str = "a DNS name, like \"bots.contoso.com\"";
const TARGET: &str = "an absolute URL like \"http://10.0.0.10:3978/api/calls\"";
