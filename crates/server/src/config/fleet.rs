//! `[fleet]`: the instances, their source and their probe.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ::url::Url;
use switchboard_auth::AppSettings;
use switchboard_delivery::{
    Discovery, DnsSettings, FileSettings, InstanceSettings, Network, ProbeSettings, UpstreamUrl,
};
#[cfg(feature = "kubernetes")]
use switchboard_delivery::{KubernetesSettings, PodPort};
use switchboard_routing::{CallbackUris, Name, Owner};

use super::{
    ca::{CaCertificates, CaFiles},
    fleet_file::FleetFile,
    instance::instance,
    secret::Surroundings,
    section::{Section, Setting},
};

/// The settings of the fleet.
pub(super) struct Fleet {
    pub(super) instances: Vec<InstanceSettings>,
    pub(super) discovery: Option<Discovery>,
    /// The file of `discovery`.
    pub(super) file: Option<Arc<FleetFile>>,
    pub(super) store: Option<PathBuf>,
    pub(super) name_servers: Vec<SocketAddr>,
    pub(super) keep_leaving: Duration,
    pub(super) slow_start: Duration,
    pub(super) head_room: f64,
    pub(super) probe: Option<ProbeSettings>,
    /// The certificate authorities that are trusted for https instances besides the system's, in PEM.
    pub(super) ca: Option<CaCertificates>,
}

/// Reads the source of the fleet and the probe. `apps`, `listen` and `base` are `None` if they have a problem
/// already.
pub(super) fn fleet(
    root: &Section<'_>,
    around: &Surroundings<'_>,
    apps: Option<&[AppSettings]>,
    listen: Option<SocketAddr>,
    base: Option<&Url>,
) -> Option<Fleet> {
    let section = root.section("fleet");
    let allow = section.or_empty("allow", |setting| {
        setting.each("a list of networks, like [\"10.0.0.0/8\"]", |network| {
            let parsed = network.text("a network, like \"10.0.0.0/8\"")?.parse::<Network>();
            parsed.map_err(|error| network.problem(error.to_string())).ok()
        })
    });
    let listed = section.optional("instance").is_some();
    let has = |sources: &[&'static str]| sources.iter().any(|source| section.optional(source).is_some());
    let found = has(&["dns", "kubernetes", "file"]);
    let sections = if found {
        section.sections("instance")
    } else {
        let right = "write one [[fleet.instance]] or more, each with its name and url, or [fleet.dns], \
                     [fleet.kubernetes] or [fleet.file]";
        section.some_sections("instance", right).unwrap_or_default()
    };
    let mut source = listed.then_some("[[fleet.instance]]");
    let others = [("dns", "[fleet.dns]"), ("kubernetes", "[fleet.kubernetes]"), ("file", "[fleet.file]")];
    for (name, shown) in others {
        if section.optional(name).is_some() {
            match source {
                Some(first) => section.problem(name, format!("the fleet has {first}, too; keep one source")),
                None => source = Some(shown),
            }
        }
    }
    if !has(&["dns", "kubernetes"]) && section.optional("allow").is_some() {
        section.problem("allow", "applies to discovered instances only, not to listed ones; leave it out");
    }
    let (mut names, mut ca_files) = (BTreeSet::new(), CaFiles::new(around));
    let instances: Vec<_> = sections
        .into_iter()
        .map(|section| {
            let instance = instance(&section, &mut ca_files, apps, &mut names);
            section.finish();
            instance
        })
        .collect();
    let dns = section.maybe("dns", |setting| dns(setting.section(), allow.clone()));
    let kubernetes = section.maybe("kubernetes", |setting| kubernetes(setting, allow.clone()));
    let file = section.maybe("file", |setting| {
        let section = setting.section();
        let path = section.required("path", FILE).and_then(|setting| {
            let file = FleetFile::new(around.path(&setting, FILE)?, apps, listen, base);
            if file.is_none() {
                setting.problem(format!("not {FILE}"));
            }
            file.map(Arc::new)
        });
        section.finish();
        path
    });
    let store = section.maybe("store", |setting| {
        if !found {
            setting.problem("stores discovered instances only; listed ones are in this file; leave it out");
            return None;
        }
        around.path(setting, "the path of a folder, like \"/var/lib/switchboard/fleet\"")
    });
    let name_servers = servers(&section, "name_servers");
    let keep_leaving = section.or("keep_leaving", KEEP_LEAVING, |setting| {
        setting.duration(&(Duration::ZERO..=Duration::from_secs(7 * 24 * 3600)))
    });
    let slow_start = section.or("slow_start", Duration::ZERO, |setting| {
        setting.duration(&(Duration::ZERO..=Duration::from_secs(3600)))
    });
    let head_room = section.or("head_room", 0.2, Setting::fraction);
    let probe = section.maybe("probe", |setting| probe(setting.section()));
    let ca = section.maybe("ca", |setting| CaCertificates::read(setting, around));
    let instances: Option<Vec<_>> = instances.into_iter().collect();
    let by_file = |file: &Arc<FleetFile>| {
        Discovery::File(FileSettings { path: file.path().to_owned(), file: Arc::<FleetFile>::clone(file) })
    };
    let discovery = match (dns, kubernetes, &file) {
        (Some(dns), Some(kubernetes), Some(file)) => {
            Some(dns.map(Discovery::Dns).or(kubernetes).or_else(|| file.as_ref().map(by_file)))
        }
        (_, _, _) => None,
    };
    if let (Some(instances), Some(discovery), Some(Some(_))) = (&instances, &discovery, &ca)
        && !uses_tls(instances, discovery.as_ref())
    {
        section.problem("ca", "applies to https instances only; leave it out");
    }
    section.finish();
    let (instances, discovery) = (instances?, discovery?);
    if instances.is_empty() && discovery.is_none() {
        return None;
    }
    Some(Fleet {
        instances,
        discovery,
        file: file?,
        store: store?,
        name_servers: name_servers?,
        keep_leaving: keep_leaving?,
        slow_start: slow_start?,
        head_room: head_room?,
        probe: probe?,
        ca: ca?,
    })
}

fn uses_tls(instances: &[InstanceSettings], discovery: Option<&Discovery>) -> bool {
    let is_secure = |one: &InstanceSettings| {
        one.url.is_secure() || one.callback_url.as_ref().is_some_and(UpstreamUrl::is_secure)
    };
    match discovery {
        Some(Discovery::Dns(dns)) => dns.secure,
        #[cfg(feature = "kubernetes")]
        Some(Discovery::Kubernetes(kubernetes)) => kubernetes.secure,
        // Its content may change.
        Some(Discovery::File(_)) => true,
        None => instances.iter().any(is_secure),
    }
}

/// Reads the DNS servers under `key`; none means those of the system.
fn servers(section: &Section<'_>, key: &'static str) -> Option<Vec<SocketAddr>> {
    section.or_empty(key, |setting| {
        setting.each("a list of addresses, like [\"10.0.0.53:53\"]", |server| {
            server.parse("an address and port, like \"10.0.0.53:53\"", |text| text.parse().ok())
        })
    })
}

fn dns(section: Section<'_>, allow: Option<Vec<Network>>) -> Option<DnsSettings> {
    let right = "a DNS name: of the instances' addresses, or of SRV records if it begins with \"_\"";
    let name = section
        .required("name", right)
        .and_then(|setting| setting.parse(right, |text| is_dns_name(text).then(|| Box::<str>::from(text))));
    let services = name.as_ref().is_some_and(|name| name.starts_with('_'));
    let port = if services {
        let port = section.optional("port");
        if let Some(port) = &port {
            port.problem("SRV records name the ports themselves; leave it out");
        }
        port.is_none().then_some(0)
    } else {
        let port = section.required("port", "the port of the instances, 1 to 65535");
        port.and_then(|port| u16::try_from(port.integer(1..=65_535)?).ok())
    };
    let (secure, path) = scheme_and_path(&section);
    let refresh = section.or("refresh", Duration::from_secs(30), |setting| {
        setting.duration(&(Duration::from_secs(1)..=Duration::from_secs(3600)))
    });
    let servers = servers(&section, "servers");
    section.finish();
    Some(DnsSettings {
        name: name?,
        port: port?,
        secure: secure?,
        path: path?,
        refresh: refresh?,
        servers: servers?,
        allow: allow?,
    })
}

#[cfg(feature = "kubernetes")]
fn kubernetes(setting: &Setting<'_>, allow: Option<Vec<Network>>) -> Option<Discovery> {
    let section = setting.section();
    let label = |setting: &Setting<'_>, right: &str| {
        setting.parse(right, |text| KubernetesSettings::is_label(text).then(|| Box::<str>::from(text)))
    };
    let namespace = section.maybe("namespace", |setting| label(setting, "the name of a namespace"));
    let right = "the name of the service whose pods are the instances";
    let service = section.required("service", right).and_then(|setting| label(&setting, right));
    let right = "the port of the pods, 1 to 65535, or the name of a port of the service";
    let port = section.required("port", right).and_then(|setting| {
        if setting.is_text() {
            setting.parse(right, |text| {
                KubernetesSettings::is_label(text).then(|| PodPort::Named(Box::<str>::from(text)))
            })
        } else {
            u16::try_from(setting.integer(1..=65_535)?).ok().map(PodPort::Number)
        }
    });
    let (secure, path) = scheme_and_path(&section);
    section.finish();
    Some(Discovery::Kubernetes(KubernetesSettings {
        namespace: namespace?,
        service: service?,
        port: port?,
        secure: secure?,
        path: path?,
        allow: allow?,
    }))
}

#[cfg(not(feature = "kubernetes"))]
fn kubernetes(setting: &Setting<'_>, _: Option<Vec<Network>>) -> Option<Discovery> {
    setting.problem(
        "this build cannot follow Kubernetes; build it with `cargo build --release --features kubernetes`",
    );
    None
}

/// Reads the scheme (true for https) and the path of discovered instances.
fn scheme_and_path(section: &Section<'_>) -> (Option<bool>, Option<Box<str>>) {
    let secure = section.word_or("scheme", false, &[("http", false), ("https", true)]);
    let path = section.or("path", "/api/calls".into(), |setting| {
        // Parse it behind a host, as it will be used.
        setting.parse("a path like \"/api/calls\"; {app} in it stands for the app id", |text| {
            let target = text.starts_with('/').then(|| UpstreamUrl::parse(&format!("http://host{text}")))?;
            target.is_ok().then(|| Box::<str>::from(text))
        })
    });
    (secure, path)
}

/// True for labels of 1 to 63 letters, digits, `-` and `_`, at most 253 characters (RFC 1035, section 2.3.4),
/// and no address.
fn is_dns_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label) && name.parse::<std::net::IpAddr>().is_err()
}

/// Checks that the callback URI of each instance is short enough for the platform.
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

fn probe(section: Section<'_>) -> Option<ProbeSettings> {
    if !section.is_present() {
        return None;
    }
    let path = section.required("path", "the path of the probe, like \"/healthz\"").and_then(|setting| {
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
    Some(ProbeSettings { path: path?, interval: interval?, is_forwarded: false })
}

const FILE: &str = "the path of a file that ends in .json or .toml, like \"/run/switchboard/fleet.json\"";

/// The default of `keep_leaving`: calls last up to a day.
const KEEP_LEAVING: Duration = Duration::from_secs(24 * 3600);
