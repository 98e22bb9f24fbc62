//! Tests of the configuration through `Config::parse`.

mod effective;
mod file;

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use expect_test::expect;
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    x509::{X509, X509NameBuilder},
};
use switchboard_auth::Tenants;
use switchboard_auth::TrustSettings;
use switchboard_delivery::{Discovery, DnsSettings, Fill, Orphaned, TrustAnchors, UpstreamUrl};
#[cfg(feature = "kubernetes")]
use switchboard_delivery::{KubernetesSettings, PodPort};
use switchboard_routing::Owner;

use super::*;
use crate::telemetry::Format;

/// 32 bytes of 0x2a.
const SEAL: &str = "KioqKioqKioqKioqKioqKioqKioqKioqKioqKioqKio=";

pub(crate) const MINIMAL: &str = include_str!("../../../../fixtures/config/minimal.toml");
const EXAMPLE: &str = include_str!("../../../../fixtures/config/example.toml");
const LOCAL: &str = include_str!("../../../../fixtures/config/local.toml");
const DNS: &str = include_str!("../../../../fixtures/config/dns.toml");
const KUBERNETES: &str = include_str!("../../../../fixtures/config/kubernetes.toml");
const FILE: &str = include_str!("../../../../fixtures/config/file.toml");
const FIVE_MISTAKES: &str = include_str!("../../../../fixtures/config/five-mistakes.toml");

/// The environment variables that the fixtures and the tests name.
fn env(name: &str) -> Option<String> {
    match name {
        "SEAL" | "SWITCHBOARD_SEAL_K1" | "SWITCHBOARD_SEAL_K2" => Some(SEAL.to_owned()),
        "SHORT" => Some("c2hvcnQ=".to_owned()),
        "SWITCHBOARD_ADMIN_TOKEN" => Some("open-sesame-open-sesame".to_owned()),
        "SWITCHBOARD_APP_SECRET" => Some("app-secret~1".to_owned()),
        "NOT_BASE64" => Some("open sesame".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Parses a configuration in a folder without files. The schema accepts each one that is valid.
pub(crate) fn parse(text: &str) -> Result<Config, Problems> {
    let config = Config::parse(text, Path::new("/nonexistent"), env);
    if config.is_ok() {
        settings::check_schema_accepts(text);
    }
    config
}

/// Returns a certificate and its key, in PEM.
pub(crate) fn certificate() -> (Vec<u8>, Vec<u8>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key: PKey<Private> = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
}

/// Returns a folder with the files that the example names.
fn example_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate();
    fs::write(folder.path().join("tls.crt"), &certificate).unwrap();
    fs::write(folder.path().join("tls.key"), key).unwrap();
    fs::write(folder.path().join("extra-ca.pem"), certificate).unwrap();
    fs::write(folder.path().join("seal-k1"), format!("{SEAL}\r\n")).unwrap();
    folder
}

/// Returns the smallest configuration with `changes`: each one replaces a text that occurs once.
#[track_caller]
fn changed(changes: &[(&str, &str)]) -> String {
    let mut text = MINIMAL.replace("SWITCHBOARD_SEAL_K1", "SEAL");
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    text
}

/// Checks that the smallest configuration, followed by `more`, has exactly these problems.
#[track_caller]
fn refused(more: &str, expected: &str) {
    refused_text(&format!("{}{more}", changed(&[])), expected);
}

/// Checks that a configuration has exactly these problems.
#[track_caller]
fn refused_text(text: &str, expected: &str) {
    let problems = parse(text).map(|_| "no problem").unwrap_err();
    assert_eq!(problems.to_string(), expected);
}

/// Returns the parsed smallest configuration, followed by `more`.
#[track_caller]
fn accepted(more: &str) -> Config {
    parse(&format!("{}{more}", changed(&[]))).unwrap()
}

#[test]
fn the_example_is_valid_and_uses_every_setting() {
    let folder = example_files();
    let config = Config::parse(EXAMPLE, folder.path(), env).unwrap();
    assert_eq!(config.region.as_str(), "emea");
    assert_eq!(config.listen.health_path.as_deref(), Some("/api/health"));
    assert_eq!(config.listen.ready_path.as_deref(), Some("/api/ready"));
    assert_eq!(config.listen.tls.unwrap().key, folder.path().join("tls.key"));
    assert_eq!(config.admin.token.unwrap().expose(), b"open-sesame-open-sesame");
    assert_eq!(config.apps.len(), 1);
    assert_eq!(config.trusts.len(), 2);
    let ca = config.trusts[1].ca.as_ref().unwrap();
    assert_eq!((ca.certificates.len(), Some(ca.digest)), (1, config.trusts[1].settings.ca_digest));
    assert_eq!(config.keys.store, Some(PathBuf::from("/var/lib/switchboard/keys")));
    assert_eq!(config.peers[0].health.as_ref().unwrap().path(), "/api/health");
    assert_eq!(
        config.delivery.instances[0].callback_url.as_ref().unwrap().to_string(),
        "http://10.0.0.10:3978/api/callbacks"
    );
    assert_eq!(config.delivery.probe.unwrap().path, "/healthz");
    assert_eq!(config.instances_ca.unwrap().certificates.len(), 1);
    let named = UpstreamUrl::parse("https://10.0.0.11:3978/api/calls").unwrap();
    let named = named.with_host("bots.contoso.com").unwrap().with_tls_name("bots.contoso.com").unwrap();
    let pem = fs::read(folder.path().join("extra-ca.pem")).unwrap();
    let named = named.with_trust_anchors(Some(&Arc::new(TrustAnchors::from_pem(&pem).unwrap())));
    assert_eq!(config.delivery.instances[1].url, named);
    for setting in [
        "region",
        "cloud",
        "address",
        "tls",
        "webhook_path",
        "callback_path",
        "health_path",
        "ready_path",
        "drain",
        "body_memory",
        "token",
        "instance_metrics",
        "id",
        "tenants",
        "audiences",
        "name",
        "metadata",
        "issuers",
        "callers",
        "ca",
        "refresh",
        "cooldown",
        "keep_stale",
        "store",
        "base",
        "seal",
        "patience",
        "orphaned",
        "webhook",
        "health",
        "status",
        "source_region",
        "country",
        "caller_region",
        "media_region",
        "tenant",
        "organizer_tenant",
        "user",
        "share",
        "serve_in",
        "key",
        "budget",
        "recording_budget",
        "attempt",
        "eject_share",
        "full",
        "url",
        "callback_url",
        "apps",
        "weight",
        "host",
        "tls_name",
        "path",
        "interval",
        "authorization",
        "x_forwarded",
        "body",
        "head",
        "connections",
        "in_flight",
        "in_flight_per_instance",
        "idle",
        "format",
        "level",
    ] {
        assert!(EXAMPLE.lines().any(|line| line.starts_with(&format!("{setting} = "))), "{setting}");
    }
}

/// Returns all blocks marked as TOML in README.md and docs/*.md, each with the name of its document.
fn blocks_in_documents() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut documents: Vec<_> =
        pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect();
    documents.push(root.join("README.md"));
    let blocks = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        // The emulator's scripts and the file of a fleet are not configurations.
        let is_other =
            |block: &&str| ["[[step]]", "[[instance]]"].iter().any(|start| block.starts_with(start));
        let blocks = text.split("```toml\n").skip(1).filter(|block| !is_other(block));
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        blocks.map(|rest| (name.clone(), rest.split("```").next().unwrap().to_owned())).collect::<Vec<_>>()
    };
    documents.into_iter().flat_map(blocks).collect()
}

#[test]
fn the_documents_contain_the_fixtures() {
    let blocks: Vec<_> = blocks_in_documents().into_iter().map(|(_, text)| text).collect();
    for fixture in [MINIMAL, EXAMPLE, LOCAL, DNS, KUBERNETES, FILE] {
        assert!(blocks.iter().any(|text| text == fixture), "the documents must contain:\n{fixture}");
    }
}

#[test]
fn every_configuration_in_the_documents_loads() {
    let folder = example_files();
    for (name, text) in blocks_in_documents() {
        let Err(problems) = Config::parse(&text, folder.path(), env) else { continue };
        // A block may be a part of a configuration: settings may be missing, but none may be invalid.
        let is_lacking =
            |message: &str| !cfg!(feature = "kubernetes") && message.starts_with("this build cannot");
        let invalid: Vec<_> = problems
            .iter()
            .filter(|problem| !problem.message.starts_with("missing; ") && !is_lacking(&problem.message))
            .collect();
        assert!(invalid.is_empty(), "{name}: {invalid:?}\n{text}");
    }
}

#[test]
fn the_built_in_trusts_equal_those_of_the_example() {
    let folder = example_files();
    let example = Config::parse(EXAMPLE, folder.path(), env).unwrap();
    let minimal = parse(MINIMAL).unwrap();
    for (written, built_in) in example.trusts.iter().zip(&minimal.trusts) {
        // The example also shows the setting `ca`.
        let written = TrustSettings { ca_digest: None, ..written.settings.clone() };
        assert_eq!(format!("{written:?}"), format!("{:?}", built_in.settings));
    }
    assert_eq!(minimal.trusts.len(), 2);
}

#[test]
fn five_mistakes_are_five_problems() {
    let problems = parse(FIVE_MISTAKES).unwrap_err();
    assert_eq!(problems.len(), 5);
    expect![[r#"
        listen.webhok_path: unknown setting; the nearest known one is `webhook_path`
        app[0].id: not a GUID like "0efc74f7-41c3-47a4-8775-7259bfef4241"
        callback.base: plain http is for loopback hosts only; write https
        callback.patience: not a duration with its unit, like "5s", "3500ms", "10m" or "1h"
        fleet.instance[0].url: not an absolute URL like "http://10.0.0.10:3978/api/calls""#]]
    .assert_eq(&problems.to_string());
}

#[test]
fn every_optional_setting_has_its_default() {
    let config = parse(MINIMAL).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(config.listen.address.to_string(), "0.0.0.0:8443");
    assert!(config.listen.tls.is_none());
    assert_eq!(config.listen.webhook_path, "/api/calls");
    assert_eq!(config.listen.callback_path, "/api/callbacks");
    assert_eq!(config.listen.health_path, None);
    assert_eq!(config.listen.ready_path, None);
    assert!(config.listen.proxies.is_none());
    assert!(config.admin.instance_metrics);
    assert_eq!(config.listen.drain.delay, seconds(5));
    assert_eq!(config.listen.drain.deadline, seconds(10));
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9090");
    assert_eq!(config.admin.token, None);
    assert_eq!(config.apps[0].tenants, Tenants::Any);
    assert!(config.apps[0].audiences.is_empty());
    assert_eq!(config.keys.refresh, seconds(3600));
    assert_eq!(config.keys.cooldown, seconds(30));
    assert_eq!(config.keys.keep_stale, seconds(24 * 3600));
    assert_eq!(config.keys.store, None);
    assert_eq!(config.delivery.patience, seconds(8));
    assert_eq!(config.delivery.orphaned, Orphaned::Refuse);
    assert!(config.peers.is_empty());
    assert_eq!(config.redirect_status, RedirectStatus::Found);
    assert_eq!(config.placement.key, AffinityBy::Call);
    assert_eq!(config.placement.budget, seconds(12));
    assert_eq!(config.placement.recording_budget, Duration::from_millis(3500));
    assert_eq!(config.placement.full, Full::Refuse);
    assert_eq!(config.delivery.attempt, seconds(3));
    assert!((config.delivery.eject_share - 0.5).abs() < 1e-9);
    assert_eq!(config.delivery.region, config.region);
    assert_eq!(config.delivery.instances[0].callback_url, None);
    assert_eq!(config.delivery.instances[0].apps, None);
    assert_eq!(config.delivery.instances[0].weight, 1);
    assert!(config.delivery.probe.is_none());
    assert!(config.delivery.authorization);
    assert!(!config.x_forwarded);
    assert!(config.instances_ca.is_none());
    assert_eq!(config.limits.body, 4 << 20);
    assert_eq!(config.limits.body_memory, 256 << 20);
    assert_eq!(config.limits.head, 16 << 10);
    assert_eq!(config.limits.connections, 10_000);
    assert_eq!(config.limits.connections_per_source, None);
    assert_eq!(config.limits.in_flight, 10_000);
    assert_eq!(config.delivery.in_flight_per_instance, 2500);
    assert_eq!(config.limits.idle, seconds(75));
    assert_eq!(config.log.format, Format::Json);
    assert_eq!(config.log.level, tracing::Level::INFO);
}

#[test]
fn a_missing_setting_is_named() {
    refused_text(
        "",
        "region: missing; it must be the name of the region that this gateway serves, like \"emea\"\n\
         app: missing; write one [[app]] or more, each with its id\n\
         callback.base: missing; it must be the origin of callbackUris, like \
         \"https://emea.bots.contoso.com\"\n\
         callback.seal: missing; it must be a list of keys, like \
         [{ id = \"k1\", secret = { env = \"NAME\" } }]\n\
         fleet.instance: missing; write one [[fleet.instance]] or more, each with its name and url, \
         or [fleet.dns], [fleet.kubernetes] or [fleet.file]",
    );
    refused(
        "[[fleet.instance]]\n[[app]]\n",
        "fleet.instance[1].name: missing; it must be a name like \"bot-0\", which stays the same as long as \
         its calls last\n\
         fleet.instance[1].url: missing; it must be the URL for new calls, like \"http://10.0.0.10:3978/api/calls\"\n\
         app[1].id: missing; it must be a GUID like \"0efc74f7-41c3-47a4-8775-7259bfef4241\"",
    );
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_known_one() {
    for (text, path, nearest) in [
        ("[limit]\n", "limit", "limits"),
        ("[limits]\nbodies = 1\n", "limits.bodies", "body"),
        ("[listen]\ndrain = { dealy = \"5s\" }\n", "listen.drain.dealy", "delay"),
        ("[admin]\ntoken = { env = \"SEAL\", fil = \"a\" }\n", "admin.token.fil", "file"),
        ("[fleet.probe]\npath = \"/\"\nintervall = \"5s\"\n", "fleet.probe.intervall", "interval"),
        // A key may contain a control sequence of a terminal.
        ("[log]\n\"levels\\u001b[31m\" = 1\n", "log.levels\\u{1b}[31m", "level"),
    ] {
        refused(text, &format!("{path}: unknown setting; the nearest known one is `{nearest}`"));
    }
}

#[test]
fn an_unknown_setting_like_no_known_one_gets_the_names_of_all() {
    refused("[log]\nverbose = true\n", "log.verbose: unknown setting; the known ones are `format`, `level`");
    // The nearest names are far off: `probe` and `callback_url`.
    let instance = "[[fleet.instance]]\nname = \"b\"\nurl = \"http://10.0.0.9/\"\nzone = \"a\"\n";
    for (text, path) in [("[fleet]\nport = 1\n", "fleet.port"), (instance, "fleet.instance[1].zone")] {
        let problems = parse(&format!("{}{text}", changed(&[]))).map(|_| ()).unwrap_err().to_string();
        let expected = format!("{path}: unknown setting; the known ones are ");
        assert!(problems.starts_with(&expected), "{problems}");
    }
}

#[cfg(not(feature = "kubernetes"))]
#[test]
fn a_build_without_kubernetes_says_how_to_build_with_it() {
    refused_text(
        KUBERNETES,
        "fleet.kubernetes: this build cannot follow Kubernetes; build it with \
         `cargo build --release --features kubernetes`",
    );
}

#[cfg(feature = "kubernetes")]
#[test]
fn a_kubernetes_service_can_be_the_source_of_the_fleet() {
    let in_kubernetes = |settings: &str| {
        let (start, rest) = KUBERNETES.split_once("[fleet.kubernetes]\n").unwrap();
        let (_, rest) = rest.split_once("\n\n").unwrap();
        format!("{start}[fleet.kubernetes]\n{settings}\n{rest}")
    };
    let discovered = |text: &str| parse(text).unwrap().delivery.discovery.unwrap();
    let shown = KubernetesSettings {
        namespace: Some("media".into()),
        service: "bots".into(),
        port: PodPort::Number(3978),
        secure: false,
        path: "/api/calls".into(),
        allow: Vec::new(),
    };
    assert_eq!(discovered(KUBERNETES), Discovery::Kubernetes(shown.clone()));
    let least = KubernetesSettings { namespace: None, port: PodPort::Named("calls".into()), ..shown };
    let text = in_kubernetes("service = \"bots\"\nport = \"calls\"\n");
    assert_eq!(discovered(&text), Discovery::Kubernetes(least.clone()));
    let other = KubernetesSettings {
        secure: true,
        path: "/{app}/calls".into(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        ..least
    };
    let more = "scheme = \"https\"\npath = \"/{app}/calls\"\n[fleet]\nallow = [\"127.0.0.0/8\"]\n";
    assert_eq!(
        discovered(&text.replace("\"calls\"\n", &format!("\"calls\"\n{more}"))),
        Discovery::Kubernetes(other)
    );

    let service = "the name of the service whose pods are the instances";
    let port = "the port of the pods, 1 to 65535, or the name of a port of the service";
    refused_text(
        &in_kubernetes(""),
        &format!(
            "fleet.kubernetes.service: missing; it must be {service}\n\
             fleet.kubernetes.port: missing; it must be {port}"
        ),
    );
    for wrong in ["", "Bots", "-bots", "bots-", "bots.media", "bots/../secrets", &"a".repeat(64)] {
        refused_text(
            &in_kubernetes(&format!("service = \"{wrong}\"\nnamespace = \"{wrong}\"\nport = \"{wrong}\"\n")),
            &format!(
                "fleet.kubernetes.service: not {service}\n\
                 fleet.kubernetes.namespace: not the name of a namespace\n\
                 fleet.kubernetes.port: not {port}"
            ),
        );
    }
    refused_text(
        &in_kubernetes("service = \"bots\"\nport = 0\n"),
        "fleet.kubernetes.port: not a whole number from 1 to 65535",
    );
    let sources =
        in_kubernetes("service = \"bots\"\nport = 1\n[fleet.dns]\nname = \"bots.example\"\nport = 1\n");
    refused_text(&sources, "fleet.kubernetes: the fleet has [fleet.dns], too; keep one source");
    refused(
        "[fleet.kubernetes]\nservice = \"bots\"\nport = 1\n",
        "fleet.kubernetes: the fleet has [[fleet.instance]], too; keep one source",
    );
}

/// Returns the smallest configuration whose instances are discovered by DNS.
#[track_caller]
fn in_dns(more: &str) -> String {
    let listed = "[[fleet.instance]]\nname = \"bot-0\"\nurl = \"http://10.0.0.10:3978/api/calls\"\n";
    changed(&[(listed, &format!("[fleet.dns]\nname = \"bots.example\"\nport = 3978\n{more}"))])
}

#[test]
fn instances_are_filled_if_placement_packs() {
    assert_eq!(parse(MINIMAL).unwrap().delivery.fill, Fill::Spread);
    for (text, expected) in [
        ("fill = \"spread\"", Fill::Spread),
        ("fill = \"pack\"", Fill::Pack { share: 0.8 }),
        ("fill = \"pack\"\nfill_share = 1\nkey = \"call\"", Fill::Pack { share: 1.0 }),
    ] {
        assert_eq!(parse(&format!("{MINIMAL}\n[placement]\n{text}\n")).unwrap().delivery.fill, expected);
    }
}

#[test]
fn dns_can_be_the_source_of_the_fleet() {
    assert!(parse(DNS).unwrap().delivery.discovery.is_some());
    let config = parse(&in_dns("")).unwrap();
    assert!(config.delivery.instances.is_empty());
    assert_eq!(config.delivery.keep_leaving, Duration::from_secs(86_400));
    assert_eq!(config.delivery.slow_start, Duration::ZERO);
    assert!(config.delivery.name_servers.is_empty());
    let expected = DnsSettings {
        name: "bots.example".into(),
        port: 3978,
        secure: false,
        path: "/api/calls".into(),
        refresh: Duration::from_secs(30),
        servers: Vec::new(),
        allow: Vec::new(),
    };
    assert_eq!(config.delivery.discovery, Some(Discovery::Dns(expected)));
    let more = "scheme = \"https\"\npath = \"/{app}/calls\"\nrefresh = \"5s\"\n\
                servers = [\"127.0.0.1:5353\"]\n\
                [fleet]\nallow = [\"127.0.0.0/8\", \"::1\"]\nkeep_leaving = \"1h\"\nslow_start = \"30s\"\n\
                store = \"fleet\"\nname_servers = [\"127.0.0.2:53\"]\n";
    assert_eq!(config.delivery.store, None);
    let config = parse(&in_dns(more)).unwrap();
    assert_eq!(config.delivery.store, Some(PathBuf::from("/nonexistent/fleet")));
    assert_eq!(config.delivery.name_servers, ["127.0.0.2:53".parse().unwrap()]);
    assert_eq!(config.delivery.keep_leaving, Duration::from_secs(3600));
    assert_eq!(config.delivery.slow_start, Duration::from_secs(30));
    let Some(Discovery::Dns(dns)) = config.delivery.discovery else { panic!("not by DNS") };
    assert!(dns.secure);
    assert_eq!((&*dns.path, dns.refresh), ("/{app}/calls", Duration::from_secs(5)));
    assert_eq!(dns.servers, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(dns.allow.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.0/8", "::1/128"]);
    let services = in_dns("").replace("bots.example\"\nport = 3978", "_calls._tcp.bots.example.\"");
    let Some(Discovery::Dns(dns)) = parse(&services).unwrap().delivery.discovery else {
        panic!("not by DNS")
    };
    assert_eq!(&*dns.name, "_calls._tcp.bots.example.");
}

#[test]
fn all_problems_of_a_source_are_found() {
    let name = "a DNS name: of the instances' addresses, or of SRV records if it begins with \"_\"";
    refused_text(
        &in_dns("").replace("\nname = \"bots.example\"\nport = 3978\n", "\n"),
        &format!(
            "fleet.dns.name: missing; it must be {name}\n\
             fleet.dns.port: missing; it must be the port of the instances, 1 to 65535"
        ),
    );
    for wrong in ["", "10.0.0.1", "a..b", "a b", "bots.example:80", "ä.example", &"a".repeat(64)] {
        let text = in_dns("").replace("\"bots.example\"", &format!("\"{wrong}\""));
        refused_text(&text, &format!("fleet.dns.name: not {name}"));
    }
    refused_text(
        &in_dns("").replace("bots.example", "_calls._tcp.bots.example"),
        "fleet.dns.port: SRV records name the ports themselves; leave it out",
    );
    refused_text(&in_dns("refresh = \"0s\"\n"), "fleet.dns.refresh: not from 1s to 1h");
    refused_text(&in_dns("scheme = \"ftp\"\n"), "fleet.dns.scheme: not \"http\" or \"https\"");
    refused_text(
        &in_dns("path = \"/{tenant}\"\n"),
        "fleet.dns.path: not a path like \"/api/calls\"; {app} in it stands for the app id",
    );
    refused_text(
        &in_dns("servers = [\"localhost\"]\n"),
        "fleet.dns.servers[0]: not an address and port, like \"10.0.0.53:53\"",
    );
    refused_text(
        &in_dns("[fleet]\nname_servers = [\"10.0.0.53\"]\n"),
        "fleet.name_servers[0]: not an address and port, like \"10.0.0.53:53\"",
    );
    refused_text(
        &in_dns("[fleet]\nallow = [\"10.0.0.1/8\"]\n"),
        "fleet.allow[0]: not a network like 10.0.0.0/8 or fd00::/8, without bits behind its mask",
    );
    refused(
        "[fleet.dns]\nname = \"bots.example\"\nport = 3978\n",
        "fleet.dns: the fleet has [[fleet.instance]], too; keep one source",
    );
    refused_text(
        &changed(&[("[[fleet.instance]]", "[fleet]\nallow = [\"10.0.0.0/8\"]\n[[fleet.instance]]")]),
        "fleet.allow: applies to discovered instances only, not to listed ones; leave it out",
    );
    refused_text(
        &changed(&[("[[fleet.instance]]", "[fleet]\nstore = \"fleet\"\n[[fleet.instance]]")]),
        "fleet.store: stores discovered instances only; listed ones are in this file; leave it out",
    );
    refused_text(
        &in_dns("[fleet]\nstore = \"\"\n"),
        "fleet.store: not the path of a folder, like \"/var/lib/switchboard/fleet\"",
    );
}

#[test]
fn a_file_can_be_the_source_of_the_fleet() {
    let path = "the path of a file that ends in .json or .toml, like \"/run/switchboard/fleet.json\"";
    let in_file = |settings: &str| FILE.replace("path = \"/run/switchboard/fleet.json\"", settings);
    let config = parse(FILE).unwrap();
    let Some(Discovery::File(file)) = &config.delivery.discovery else { panic!("not by file") };
    assert_eq!(file.path, Path::new("/run/switchboard/fleet.json"));
    assert!(config.delivery.instances.is_empty());
    // Relative paths start at the folder of the configuration. The file need not exist.
    let config = parse(&in_file("path = \"fleet.toml\"")).unwrap();
    assert_eq!(config.fleet_file.unwrap().path(), Path::new("/nonexistent/fleet.toml"));
    for (settings, expected) in [
        ("", format!("fleet.file.path: missing; it must be {path}")),
        ("path = \"/run/fleet\"", format!("fleet.file.path: not {path}")),
        ("path = \"/run/fleet.yaml\"", format!("fleet.file.path: not {path}")),
        ("path = 1", format!("fleet.file.path: not {path}")),
        (
            "path = \"fleet.json\"\nrefresh = \"1s\"",
            "fleet.file.refresh: unknown setting; the known ones are `path`".to_owned(),
        ),
    ] {
        refused_text(&in_file(settings), &expected);
    }
    refused_text(
        &FILE.replace("store =", "allow = [\"127.0.0.0/8\"]\nstore ="),
        "fleet.allow: applies to discovered instances only, not to listed ones; leave it out",
    );
    refused(
        "[fleet.file]\npath = \"fleet.json\"\n",
        "fleet.file: the fleet has [[fleet.instance]], too; keep one source",
    );
    refused_text(
        &in_dns("[fleet.file]\npath = \"fleet.json\"\n"),
        "fleet.file: the fleet has [fleet.dns], too; keep one source",
    );
}

#[test]
fn an_invalid_value_gets_a_message_with_a_valid_one() {
    const GUID: &str = "not a GUID like \"0efc74f7-41c3-47a4-8775-7259bfef4241\"";
    const ADDRESS: &str = "not an IP address and a port, like \"127.0.0.1:9090\" or \"[::]:8443\"";
    const PATH: &str =
        "not a path like \"/api/calls\", of letters, digits and -._~, without a slash at its end";
    const DURATION: &str = "not a duration with its unit, like \"5s\", \"3500ms\", \"10m\" or \"1h\"";
    const SIZE: &str = "not a size with its unit, like \"1MiB\", \"16KiB\" or \"512B\"";
    const PLAIN: &str = "plain http is for loopback hosts only; write https";
    const PEER: &str =
        "not an absolute URL like \"https://amer.bots.contoso.com\", without user, password and fragment";
    const WEBHOOK: &str = "not an absolute URL like \"https://amer.bots.contoso.com/api/calls\", \
         without user, password and fragment";
    const INSTANCE: &str = "not an absolute URL like \"http://10.0.0.10:3978/api/calls\"";
    const OVERLAP: &str = "overlaps with webhook_path: one path is below the other; use separate paths, like \
         \"/api/calls\" and \"/api/callbacks\"";
    let trust = |setting: &str| {
        format!(
            "[[trust]]\nname = \"t\"\nmetadata = \"https://a.example/\"\n\
             issuers = [\"https://a.example\"]\n{setting}\n"
        )
    };
    let peer = "[[peer]]\nname = \"amer\"\nwebhook = \"https://amer.example/api/calls\"\n";
    let instance = |setting: &str| format!("{setting}\n");
    for (more, path, expected) in [
        ("[listen]\naddress = \"localhost:80\"", "listen.address", ADDRESS),
        ("[listen]\naddress = 8443", "listen.address", ADDRESS),
        ("[listen]\nwebhook_path = \"api/calls\"", "listen.webhook_path", PATH),
        ("[listen]\nwebhook_path = \"/\"", "listen.webhook_path", PATH),
        ("[listen]\nwebhook_path = \"/api/calls/\"", "listen.webhook_path", PATH),
        ("[listen]\nwebhook_path = \"/api//calls\"", "listen.webhook_path", PATH),
        ("[listen]\nwebhook_path = \"/api/../calls\"", "listen.webhook_path", PATH),
        ("[listen]\nwebhook_path = \"/api/%63alls\"", "listen.webhook_path", PATH),
        ("[listen]\ncallback_path = \"/api/calls\"", "listen.callback_path", OVERLAP),
        ("[listen]\nwebhook_path = \"/api\"", "listen.callback_path", OVERLAP),
        (
            "[listen]\nhealth_path = \"/api/callbacks/health\"",
            "listen.health_path",
            &OVERLAP.replace("webhook_path", "callback_path"),
        ),
        (
            "[listen]\nhealth_path = \"/api/health\"\nready_path = \"/api/health\"",
            "listen.ready_path",
            &OVERLAP.replace("webhook_path", "health_path"),
        ),
        (
            "[listen]\nproxies = { networks = [\"10.0.0.0/33\"], protocol = \"proxy\" }",
            "listen.proxies.networks[0]",
            "not a network like \"10.0.0.0/8\" or an address like \"10.0.0.4\"",
        ),
        (
            "[listen]\nproxies = { networks = [], protocol = \"proxy\" }",
            "listen.proxies.networks",
            "empty; write a list of networks, like [\"10.0.0.0/8\"]",
        ),
        (
            "[listen]\nproxies = { networks = [\"::1\"], protocol = \"forwarded\" }",
            "listen.proxies.protocol",
            "not \"proxy\" or \"x-forwarded-for\"",
        ),
        (
            "[listen]\nproxies = { networks = [\"::1\"] }",
            "listen.proxies.protocol",
            "missing; it must be \"proxy\" or \"x-forwarded-for\"",
        ),
        (
            "[listen]\nproxies = [\"10.0.0.0/8\"]",
            "listen.proxies",
            "not { networks = [\"10.0.0.0/8\"], protocol = \"proxy\" }",
        ),
        ("[listen]\ndrain = { delay = \"2h\" }", "listen.drain.delay", "not from 0ms to 1h"),
        (
            "[listen]\ndrain = { delay = \"20s\", deadline = \"15s\" }",
            "listen.drain.deadline",
            "shorter than listen.drain.delay, which is 20s; both count from SIGTERM",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:8443\"",
            "admin.address",
            "the same as listen.address; give the admin listener its own, like \"127.0.0.1:9090\"",
        ),
        (
            "[admin]\ntoken = {}",
            "admin.token",
            "not exactly one of { env = \"NAME\" } and { file = \"path\" }",
        ),
        (
            "[admin]\ntoken = { env = \"SEAL\", file = \"a\" }",
            "admin.token",
            "not exactly one of { env = \"NAME\" } and { file = \"path\" }",
        ),
        (
            "[admin]\ntoken = { env = \"NOT_THERE\" }",
            "admin.token.env",
            "the environment has no variable NOT_THERE, or it is not valid text",
        ),
        (
            "[admin]\ntoken = { file = \"a\" }",
            "admin.token.file",
            "/nonexistent/a cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[admin]\ntoken = { env = \"EMPTY\" }",
            "admin.token",
            "not a token that a header can carry; it must be printable ASCII without spaces",
        ),
        ("[[app]]\nid = \"{0efc74f7-41c3-47a4-8775-7259bfef4241}\"", "app[1].id", GUID),
        (
            "[[app]]\nid = \"0EFC74F7-41C3-47A4-8775-7259BFEF4241\"",
            "app[1].id",
            "another [[app]] has the same id; write each app once",
        ),
        (
            "[[app]]\nid = \"1efc74f7-41c3-47a4-8775-7259bfef4241\"\ntenants = []",
            "app[1].tenants",
            "empty: the gateway would accept no tenant; write [\"*\"] or tenant ids",
        ),
        (
            "[[app]]\nid = \"1efc74f7-41c3-47a4-8775-7259bfef4241\"\n\
             tenants = [\"*\", \"1efc74f7-41c3-47a4-8775-7259bfef4241\"]",
            "app[1].tenants",
            "\"*\" beside tenant ids; write one or the other",
        ),
        (
            "[[app]]\nid = \"1efc74f7-41c3-47a4-8775-7259bfef4241\"\ntenants = [\"contoso\"]",
            "app[1].tenants[0]",
            "not \"*\" or a GUID like \"0efc74f7-41c3-47a4-8775-7259bfef4241\"",
        ),
        (
            "[[app]]\nid = \"1efc74f7-41c3-47a4-8775-7259bfef4241\"\n\
             audiences = [\"https://graph.microsoft.com\"]",
            "app[1].audiences",
            "https://graph.microsoft.com is an issuer; leave it out: an audience is the recipient of a token",
        ),
        (
            "[[app]]\nid = \"1efc74f7-41c3-47a4-8775-7259bfef4241\"\n\
             audiences = [\"https://sts.windows.net/1efc74f7-41c3-47a4-8775-7259bfef4241/\"]",
            "app[1].audiences",
            "https://sts.windows.net/1efc74f7-41c3-47a4-8775-7259bfef4241/ is an issuer; leave it out: an \
             audience is the recipient of a token",
        ),
        (&trust("name2 = 1"), "trust[0].name2", "unknown setting; the nearest known one is `name`"),
        (&trust("callers = [\"x\"]"), "trust[0].callers[0]", GUID),
        (
            &trust("ca = \"ca.pem\""),
            "trust[0].ca",
            "/nonexistent/ca.pem cannot be read: No such file or directory (os error 2)",
        ),
        (
            "[[trust]]\nname = \"t\"\nmetadata = \"http://a.example/\"\nissuers = [\"https://a.example\"]",
            "trust[0].metadata",
            PLAIN,
        ),
        (
            "[[trust]]\nname = \"../t\"\nmetadata = \"https://a.example/\"\nissuers = [\"https://a.example\"]",
            "trust[0].name",
            "not a name like \"skype\", of 1 to 63 of A-Z a-z 0-9 _ -",
        ),
        (
            "[[trust]]\nname = \"t\"\nmetadata = \"https://a.example/\"\nissuers = []",
            "trust[0].issuers",
            "empty: the gateway would accept no token; write a list of issuers, like \
             [\"https://api.botframework.com\"]",
        ),
        (
            "[[trust]]\nname = \"t\"\nmetadata = \"https://a.example/\"\n\
             issuers = [\"https://a.example/{tenant}\"]",
            "trust[0].issuers[0]",
            "not an issuer like \"https://sts.windows.net/{tid}/\", with at most one {tid} for the tenant",
        ),
        (
            "[[trust]]\nname = \"t\"\nmetadata = \"https://a.example/\"\nissuers = [\"https://a.example/{tid}\"]",
            "trust[0].callers",
            "missing; it must name the calling service, [\"26a18ebc-cdf7-4a6a-91cb-beb352805e81\"], where an \
             issuer contains {tid}: any application of any tenant can obtain a token for an app",
        ),
        ("[keys]\nrefresh = \"1\"", "keys.refresh", DURATION),
        ("[keys]\nrefresh = \"0s\"", "keys.refresh", "not from 1s to 1d"),
        ("[keys]\ncooldown = \"2h\"", "keys.cooldown", "not from 100ms to 1h"),
        ("[keys]\nkeep_stale = \"31d\"", "keys.keep_stale", "not from 1s to 30d"),
        (
            "[keys]\nstore = \"\"",
            "keys.store",
            "not the path of a folder, like \"/var/lib/switchboard/keys\"",
        ),
        (
            "[[peer]]\nname = \"emea\"\nwebhook = \"https://a.example/\"",
            "peer[0].name",
            "the region of this gateway; name another one",
        ),
        ("[[peer]]\nname = \"amer\"\nwebhook = \"a.example\"", "peer[0].webhook", WEBHOOK),
        (
            "[[peer]]\nname = \"amer\"\nwebhook = \"https://a.example/?x=1\"",
            "peer[0].webhook",
            "has a query; leave it out",
        ),
        ("[[peer]]\nname = \"amer\"\nwebhook = \"https://u@a.example/\"", "peer[0].webhook", WEBHOOK),
        (
            "[[peer]]\nname = \"am/er\"\nwebhook = \"https://a.example/\"",
            "peer[0].name",
            "not a name like \"bot-0\", of 1 to 63 of A-Z a-z 0-9 . _ -",
        ),
        (&format!("{peer}health = \"http://a.example/\""), "peer[0].health", PLAIN),
        (&format!("{peer}callback = \"http://a.example\""), "peer[0].callback", PLAIN),
        (&format!("{peer}callback = \"a.example\""), "peer[0].callback", PEER),
        (
            &format!("{peer}callback = \"https://a.example/api/callbacks\""),
            "peer[0].callback",
            "has a path; leave it out: a proxied callback keeps its path",
        ),
        (
            &format!("{peer}callback = \"https://a.example:0\""),
            "peer[0].callback",
            "port 0 cannot be connected to; write the real one",
        ),
        (
            &format!("{peer}{peer}"),
            "peer[1].name",
            "another [[peer]] has the same name; write each region once",
        ),
        ("[affinity]\nstatus = 301", "affinity.status", "not 302 or 307 or 308"),
        ("[affinity]\nstatus = 303", "affinity.status", "not 302 or 307 or 308"),
        (
            "[[affinity.rule]]\nserve_in = \"apac\"",
            "affinity.rule[0].serve_in",
            "not a known region; the regions are emea",
        ),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\nshare = 1.1",
            "affinity.rule[0].share",
            "not a number from 0.0 to 1.0",
        ),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\nshare = nan",
            "affinity.rule[0].share",
            "not a number from 0.0 to 1.0",
        ),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\ntenant = [\"contoso\"]",
            "affinity.rule[0].tenant[0]",
            GUID,
        ),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\ncountry = []",
            "affinity.rule[0].country",
            "empty; name a value, or leave the condition out",
        ),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\ncountry = \"US\"",
            "affinity.rule[0].country",
            "not a list of texts, like [\"US\"]",
        ),
        (
            "[placement]\nkey = \"user\"",
            "placement.key",
            "not \"call\" or \"chain\" or \"thread\" or \"tenant\"",
        ),
        (
            "[placement]\nbudget = \"15s\"",
            "placement.budget",
            "not less than 15s, the time after which the platform gives the call up",
        ),
        (
            "[placement]\nrecording_budget = \"5s\"",
            "placement.recording_budget",
            "not less than 5s, the time after which the platform gives the call up",
        ),
        ("[placement]\neject_share = 1.5", "placement.eject_share", "not a number from 0.0 to 1.0"),
        ("[placement]\nfill = \"full\"", "placement.fill", "not \"spread\" or \"pack\""),
        (
            "[placement]\nfill = \"pack\"\nkey = \"chain\"",
            "placement.fill",
            "\"pack\" fills the instances in one order, and placement.key = \"chain\" would have no effect; \
             leave the key out, or write \"spread\"",
        ),
        (
            "[placement]\nfill_share = 0.5",
            "placement.fill_share",
            "applies to placement.fill = \"pack\" only; write it, too, or leave this out",
        ),
        (
            "[placement]\nfill = \"pack\"\nfill_share = 0.0",
            "placement.fill_share",
            "0 fills no instance; write a number above it, like 0.8",
        ),
        (
            "[placement]\nfill = \"pack\"\nfill_share = 80",
            "placement.fill_share",
            "not a number from 0.0 to 1.0",
        ),
        ("[fleet]\nhead_room = 20", "fleet.head_room", "not a number from 0.0 to 1.0"),
        (
            "[[affinity.rule]]\nserve_in = \"emea\"\ndry_run = \"yes\"",
            "affinity.rule[0].dry_run",
            "not true or false",
        ),
        (
            "[placement]\nbudget = \"2s\"\nattempt = \"3s\"",
            "placement.attempt",
            "longer than placement.budget, which is 2s",
        ),
        (
            "[placement]\nfull = \"overflow:amer\"",
            "placement.full",
            "overflows to amer, which is not a [[peer]]; add it",
        ),
        (
            "[placement]\nfull = \"overflow\"",
            "placement.full",
            "not \"refuse\", \"overflow:REGION\" or \"reject\"",
        ),
        (&instance("url2 = 1"), "fleet.instance[0].url2", "unknown setting; the nearest known one is `url`"),
        (&instance("weight = 0"), "fleet.instance[0].weight", "not a whole number from 1 to 1000"),
        (&instance("weight = 1001"), "fleet.instance[0].weight", "not a whole number from 1 to 1000"),
        (&instance("weight = -1"), "fleet.instance[0].weight", "not a whole number from 1 to 1000"),
        (&instance("callback_url = \"ftp://a\""), "fleet.instance[0].callback_url", INSTANCE),
        (
            &instance("apps = [\"1efc74f7-41c3-47a4-8775-7259bfef4241\"]"),
            "fleet.instance[0].apps[0]",
            "not the id of an [[app]]; add the app",
        ),
        (
            &instance("apps = []"),
            "fleet.instance[0].apps",
            "empty: the instance would serve no app; name one, or leave it out to serve all",
        ),
        (
            "[[fleet.instance]]\nname = \"bot-0\"\nurl = \"http://a/\"",
            "fleet.instance[1].name",
            "another instance has the same name; give each its own",
        ),
        (
            "[fleet.probe]\npath = \"healthz\"",
            "fleet.probe.path",
            "not a path like \"/healthz\", with or without a query",
        ),
        (
            "[fleet.probe]\npath = \"/healthz\"\ninterval = \"1ms\"",
            "fleet.probe.interval",
            "not from 10ms to 1h",
        ),
        (
            "host = \"user@bots.contoso.com\"",
            "fleet.instance[0].host",
            "not a host with or without a port, like bots.contoso.com",
        ),
        ("tls_name = \"10.0.0.10\"", "fleet.instance[0].tls_name", "not a DNS name, like bots.contoso.com"),
        (
            "tls_name = \"bots.contoso.com\"",
            "fleet.instance[0].tls_name",
            "applies to an https URL only; leave it out",
        ),
        ("ca = \"ca.pem\"", "fleet.instance[0].ca", "applies to an https URL only; leave it out"),
        (
            "[fleet]\nca = \"ca.pem\"",
            "fleet.ca",
            "/nonexistent/ca.pem cannot be read: No such file or directory (os error 2)",
        ),
        ("[forward]\nx_forwarded = 1", "forward.x_forwarded", "not true or false"),
        ("[forward]\nauthorization = \"yes\"", "forward.authorization", "not true or false"),
        ("[limits]\nbody = \"1M\"", "limits.body", SIZE),
        ("[limits]\nbody = \"17MiB\"", "limits.body", "not from 1KiB to 16MiB"),
        ("[limits]\nbody_memory = \"3MiB\"", "limits.body_memory", "less than limits.body, which is 4MiB"),
        ("[limits]\nhead = \"4KiB\"", "limits.head", "not from 8KiB to 256KiB"),
        ("[limits]\nconnections = 0", "limits.connections", "not a whole number from 1 to 1000000"),
        (
            "[limits]\nconnections_per_source = 0",
            "limits.connections_per_source",
            "not a whole number from 1 to 1000000",
        ),
        (
            "[limits]\nin_flight = 99999999999999999999",
            "limits.in_flight",
            "not a whole number from 1 to 1000000",
        ),
        (
            "[limits]\nin_flight = 99\nin_flight_per_instance = 100",
            "limits.in_flight_per_instance",
            "more than limits.in_flight, which is 99",
        ),
        ("[limits]\nidle = \"10ms\"", "limits.idle", "not from 100ms to 1h"),
        ("[log]\nformat = \"xml\"", "log.format", "not \"json\" or \"text\""),
        (
            "[log]\nlevel = \"INFO\"",
            "log.level",
            "not \"error\" or \"warn\" or \"info\" or \"debug\" or \"trace\"",
        ),
    ] {
        let text = format!("{}{more}\n", changed(&[]));
        refused_text(&text, &format!("{path}: {expected}"));
    }
}

#[test]
fn a_value_in_place_of_a_table_gets_a_message_with_the_table() {
    const SECRET: &str =
        "{ env = \"NAME\" } or { file = \"path\" }; the configuration never holds the secret itself";
    let header = |header: &str| format!("a table; write {header} and its settings below it");
    for (more, path, expected) in [
        ("[listen]\ntls = \"tls.crt\"", "listen.tls", "{ certificate = \"tls.crt\", key = \"tls.key\" }"),
        ("[listen]\ndrain = 5", "listen.drain", &*header("[listen.drain]")),
        ("[admin]\ntoken = \"abc\"", "admin.token", SECRET),
        ("[fleet]\nprobe = \"/healthz\"", "fleet.probe", &header("[fleet.probe]")),
        ("[affinity]\nrule = [\"amer\"]", "affinity.rule[0]", &header("[[affinity.rule]]")),
    ] {
        // Inserted above `[[fleet.instance]]`, so that `[fleet]` comes before its sub-tables.
        let text = changed(&[("[[fleet.instance]]", &format!("{more}\n[[fleet.instance]]"))]);
        refused_text(&text, &format!("{path}: not {expected}"));
    }
    let seal = "{ id = \"k1\", secret = { env = \"SEAL\" } }";
    for (text, path, expected) in [
        ("\"abc\"", "callback.seal[0]", "{ id = \"k1\", secret = { env = \"NAME\" } }"),
        ("{ id = \"k1\", secret = \"abc\" }", "callback.seal[0].secret", SECRET),
    ] {
        refused_text(&changed(&[(seal, text)]), &format!("{path}: not {expected}"));
    }
    refused_text(&with_graph("secret = \"abc\"", ""), &format!("app[0].graph.secret: not {SECRET}"));
    refused_text(
        &changed(&[("[callback]", "graph = \"abc\"\n[callback]")]),
        &format!("app[0].graph: not {}", header("[app.graph]")),
    );
    for name in ["listen", "admin", "keys", "affinity", "placement", "forward", "limits", "log"] {
        refused_text(
            &format!("{name} = 1\n{}", changed(&[])),
            &format!("{name}: not {}", header(&format!("[{name}]"))),
        );
    }
}

#[test]
fn contradictions_between_sections_are_found() {
    refused(
        "[keys]\nrefresh = \"2h\"\nkeep_stale = \"1h\"\n\
         [[trust]]\nname = \"a\"\nmetadata = \"https://a.example/\"\nissuers = [\"https://a.example\"]\n\
         [[trust]]\nname = \"b\"\nmetadata = \"https://b.example/\"\nissuers = [\"https://a.example\"]\n",
        "keys.keep_stale: must be longer than keys.refresh, or keys would expire between two fetches\n\
         trust[1].issuers[0]: is also an issuer of trust[0]; each issuer must belong to one trust",
    );
}

#[test]
fn the_callback_base_is_an_origin() {
    let base = "\"https://emea.bots.contoso.com\"";
    let url =
        "not an absolute URL like \"https://emea.bots.contoso.com\", without user, password and fragment";
    for (text, expected) in [
        ("\"https://a.example/x\"", "has a path; leave it out: listen.callback_path sets the path"),
        ("\"https://a.example/?x\"", "has a query; leave it out"),
        ("\"https://a.example/#x\"", url),
        ("\"http://a.example\"", "plain http is for loopback hosts only; write https"),
        ("\"https:a.example\"", url),
        ("1", url),
    ] {
        refused_text(&changed(&[(base, text)]), &format!("callback.base: {expected}"));
    }
    for text in ["\"http://localhost:8443\"", "\"http://127.0.0.1\"", "\"http://[::1]:8443/\""] {
        parse(&changed(&[(base, text)])).unwrap();
    }
}

#[test]
fn seal_keys_have_different_ids_and_enough_bytes() {
    let seal = "{ id = \"k1\", secret = { env = \"SEAL\" } }";
    let another = "{ id = \"k2\", secret = { env = \"SEAL\" } }";
    parse(&changed(&[(seal, &format!("{seal}, {another}"))])).unwrap();
    for (text, path, expected) in [
        (
            "",
            "seal",
            "empty: no callbackUri could be sealed; write a list of keys, like \
             [{ id = \"k1\", secret = { env = \"NAME\" } }]",
        ),
        (&*format!("{seal}, {seal}"), "seal[1].id", "another key has the same id; give each its own"),
        (
            "{ id = \"k.1\", secret = { env = \"SEAL\" } }",
            "seal[0].id",
            "not a name like \"k1\", of 1 to 63 of A-Z a-z 0-9 _ -",
        ),
        (
            "{ id = \"k1\", secret = { env = \"EMPTY\" } }",
            "seal[0].secret",
            "0 bytes; at least 32 are required: `switchboard keygen` makes a secret",
        ),
        (
            "{ id = \"k1\", secret = { env = \"SHORT\" } }",
            "seal[0].secret",
            "5 bytes; at least 32 are required: `switchboard keygen` makes a secret",
        ),
        (
            "{ id = \"k1\", secret = { env = \"NOT_BASE64\" } }",
            "seal[0].secret",
            "not base64; `switchboard keygen` makes a secret",
        ),
        (
            "{ id = \"k1\" }",
            "seal[0].secret",
            "missing; it must be { env = \"NAME\" } or { file = \"path\" }; the configuration never holds \
             the secret itself",
        ),
    ] {
        refused_text(&changed(&[(seal, text)]), &format!("callback.{path}: {expected}"));
    }
}

#[test]
fn a_callback_uri_that_is_too_long_is_a_problem() {
    let name = "b".repeat(63);
    let region = "e".repeat(63);
    let base = format!("https://{}.{}.example", "a".repeat(60), "a".repeat(60));
    let text = changed(&[
        ("bot-0", &name),
        ("\"emea\"", &format!("\"{region}\"")),
        ("https://emea.bots.contoso.com", &base),
    ]);
    let problems = parse(&text).map(|_| ()).unwrap_err().to_string();
    assert!(problems.starts_with("fleet.instance[0].name: the callback URI would have "), "{problems}");
}

#[test]
fn each_cloud_has_its_own_trusts() {
    const METADATA: &str = "skype_metadata = \"https://keys.example/metadata\"\n";
    for (cloud, more, skype, entra, callers) in [
        ("public", "", "api.aps.skype.com", "login.microsoftonline.com", 1),
        ("public", METADATA, "keys.example", "login.microsoftonline.com", 1),
        ("china", "", "pma.teams.microsoftonline.cn", "login.partner.microsoftonline.cn", 1),
        ("gcc-high", METADATA, "keys.example", "login.microsoftonline.us", 2),
        ("dod", METADATA, "keys.example", "login.microsoftonline.us", 2),
    ] {
        let config = parse(&format!("cloud = \"{cloud}\"\n{more}{}", changed(&[]))).unwrap();
        let hosts: Vec<_> =
            config.trusts.iter().map(|trust| trust.settings.metadata.host_str().unwrap()).collect();
        assert_eq!(hosts, [skype, entra], "{cloud}");
        assert_eq!(config.trusts[0].settings.issuers[0], "https://api.botframework.com");
        let v2 = format!("https://{entra}/{{tid}}/v2.0");
        assert_eq!(config.trusts[1].settings.issuers.last(), Some(&v2));
        for trust in &config.trusts {
            assert_eq!(trust.settings.callers.len(), callers, "{cloud}");
        }
    }
}

#[test]
fn an_unknown_cloud_is_a_problem_with_and_without_trusts() {
    let cloud = |name: &str, more: &str| format!("cloud = \"{name}\"\n{}{more}", changed(&[]));
    let trust =
        "[[trust]]\nname = \"t\"\nmetadata = \"http://127.0.0.1:1/\"\nissuers = [\"https://a.example\"]\n";
    for name in ["gcch", "Public", ""] {
        for trust in ["", trust] {
            refused_text(
                &cloud(name, trust),
                "cloud: not \"public\" or \"gcc-high\" or \"dod\" or \"china\"",
            );
        }
    }
    assert_eq!(parse(&cloud("china", trust)).unwrap().trusts.len(), 1);
}

#[test]
fn the_government_clouds_need_the_address_of_the_keys() {
    let cloud = |name: &str| format!("cloud = \"{name}\"\n{}", changed(&[]));
    for name in ["gcc-high", "dod"] {
        refused_text(
            &cloud(name),
            &format!(
                "skype_metadata: missing; Microsoft does not publish the address of the keys of \"{name}\": \
                 write the URL that Microsoft gave you, or [[trust]]"
            ),
        );
    }
    let trust =
        "[[trust]]\nname = \"t\"\nmetadata = \"http://127.0.0.1:1/\"\nissuers = [\"https://a.example\"]\n";
    assert_eq!(parse(&format!("{}{trust}", cloud("dod"))).unwrap().trusts.len(), 1);
    refused_text(
        &format!("skype_metadata = \"https://a.example/\"\n{}{trust}", cloud("dod")),
        "skype_metadata: has no effect beside [[trust]]; write it as the `metadata` of a [[trust]]",
    );
}

#[test]
fn a_certificate_and_its_key_must_match() {
    let folder = example_files();
    let (_, another_key) = certificate();
    fs::write(folder.path().join("another.key"), another_key).unwrap();
    fs::write(folder.path().join("text"), "no PEM").unwrap();
    let check = |tls: &str, expected: &str| {
        let text = format!("{}[listen]\ntls = {tls}\n", changed(&[]));
        let problems = Config::parse(&text, folder.path(), env).map(|_| ()).unwrap_err();
        assert_eq!(problems.to_string(), expected);
    };
    check(
        "{ certificate = \"tls.crt\", key = \"another.key\" }",
        "listen.tls: the key does not belong to the certificate; use two files that were made together",
    );
    check(
        "{ certificate = \"text\", key = \"text\" }",
        "listen.tls.certificate: not a PEM file with a certificate, which has a line \
         -----BEGIN CERTIFICATE-----\n\
         listen.tls.key: not a PEM file with a private key without a password",
    );
    check("{ certificate = \"tls.crt\" }", "listen.tls.key: missing; it must be the path of a PEM file");
    let absent = folder.path().join("absent");
    check(
        "{ certificate = \"tls.crt\", key = \"absent\" }",
        &format!(
            "listen.tls.key: {} cannot be read: No such file or directory (os error 2)",
            absent.display()
        ),
    );
}

#[test]
fn secrets_are_in_no_debug_output() {
    let folder = example_files();
    let config = Config::parse(EXAMPLE, folder.path(), env).unwrap();
    let text = format!("{config:?}");
    for secret in ["open-sesame", "app-secret", "****", "KioqKio", "42, 42"] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn a_short_budget_shortens_the_default_attempt() {
    let config = accepted("[placement]\nbudget = \"2s\"\n");
    assert_eq!(config.delivery.attempt, Duration::from_secs(2));
}

#[test]
fn every_value_of_an_enumeration_is_accepted() {
    let peer = "[[peer]]\nname = \"amer\"\nwebhook = \"https://amer.example/api/calls\"\n";
    for (status, expected) in [
        (302, RedirectStatus::Found),
        (307, RedirectStatus::TemporaryRedirect),
        (308, RedirectStatus::PermanentRedirect),
    ] {
        assert_eq!(accepted(&format!("[affinity]\nstatus = {status}\n")).redirect_status, expected);
    }
    for (key, expected) in [
        ("call", AffinityBy::Call),
        ("chain", AffinityBy::Chain),
        ("thread", AffinityBy::Thread),
        ("tenant", AffinityBy::Tenant),
    ] {
        let config = accepted(&format!("[placement]\nkey = \"{key}\"\n"));
        assert_eq!(config.placement.key, expected);
        assert_eq!(config.placement.key.label(), key);
    }
    let overflow = accepted(&format!("[placement]\nfull = \"overflow:amer\"\n{peer}")).placement.full;
    assert_eq!(overflow, Full::Overflow(Name::parse("amer").unwrap()));
    let orphaned =
        parse(&changed(&[("[[fleet", "orphaned = \"reassign\"\n[[fleet")])).unwrap().delivery.orphaned;
    assert_eq!(orphaned, Orphaned::Reassign);
}

/// Returns the smallest configuration whose app has `graph`, followed by `more`.
pub(crate) fn with_graph(graph: &str, more: &str) -> String {
    changed(&[("[callback]", &format!("graph = {{ {graph} }}\n[callback]"))]) + more
}

#[test]
fn proxies_are_networks_or_addresses() {
    let text = format!(
        "{MINIMAL}\n[listen]\nproxies = {{ networks = [\"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\"], \
         protocol = \"x-forwarded-for\" }}\n"
    );
    let proxies = parse(&text).unwrap().listen.proxies.unwrap();
    assert_eq!(proxies.protocol, ProxyProtocol::XForwardedFor);
    for (address, expected) in [
        ("10.255.0.1", true),
        ("::ffff:10.0.0.1", true),
        ("11.0.0.1", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("2001:db8:1::1", true),
        ("::1", false),
    ] {
        assert_eq!(proxies.contains(address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn an_app_can_have_a_graph_credential() {
    let secret = "secret = { env = \"SWITCHBOARD_APP_SECRET\" }";
    let config = parse(&with_graph(secret, "[placement]\nfull = \"reject\"\n")).unwrap();
    let (app, graph) = &config.graph[0];
    assert_eq!(*app, config.apps[0].id);
    assert_eq!(graph.authority().as_str(), "https://login.microsoftonline.com/");
    assert_eq!(graph.endpoint().as_str(), "https://graph.microsoft.com/");
    assert_eq!(config.placement.full, Full::Reject);
    assert!(parse(MINIMAL).unwrap().graph.is_empty());

    let own = "authority = \"http://127.0.0.1:4000\", endpoint = \"https://graph.example\"";
    let config = parse(&with_graph(&format!("{secret}, {own}"), "")).unwrap();
    assert_eq!(config.graph[0].1.authority().as_str(), "http://127.0.0.1:4000/");
    assert_eq!(config.graph[0].1.endpoint().as_str(), "https://graph.example/");

    parse(&with_graph("federated_token = \"/var/run/secrets/token\"", "")).unwrap();
    let folder = example_files();
    let pair = |key: &str| with_graph(&format!("certificate = \"tls.crt\", key = \"{key}\""), "");
    // The key of the example is not an RSA key. The problem does not contain any of its bytes.
    let problems = Config::parse(&pair("tls.key"), folder.path(), env).unwrap_err().to_string();
    assert_eq!(problems, "app[0].graph.key: must be an RSA key: assertions are signed with PS256");
}

#[test]
fn an_invalid_graph_setting_gets_a_message_with_a_valid_one() {
    let one_credential = "app[0].graph: needs exactly one credential: secret = { env = \"NAME\" } or \
                          { file = \"path\" }, \
                          certificate and key (two PEM files), federated_token (a file), \
                          federated_identity = { client_id = \"GUID\" } or managed_identity = \
                          { tenant = \"GUID\" }";
    let secret = "secret = { env = \"SWITCHBOARD_APP_SECRET\" }";
    for (graph, expected) in [
        ("", one_credential),
        ("certificate = \"tls.crt\"", one_credential),
        (&*format!("{secret}, federated_token = \"f\""), one_credential),
        (
            &format!("{secret}, endpoint = \"http://graph.example\""),
            "app[0].graph.endpoint: plain http is for loopback hosts only; write https",
        ),
        (
            &format!("{secret}, endpoit = \"https://graph.example\""),
            "app[0].graph.endpoit: unknown setting; the nearest known one is `endpoint`",
        ),
        (
            "secret = { env = \"EMPTY\" }",
            "app[0].graph.secret: must be 1 to 1024 visible ASCII characters, without blanks and line breaks",
        ),
    ] {
        refused_text(&with_graph(graph, ""), expected);
    }
    refused(
        "[placement]\nfull = \"reject\"\n",
        "placement.full: \"reject\" needs Graph, and app[0] has no [app.graph]; add it",
    );
}

const TENANT: &str = "11111111-2222-4333-8444-555555555555";

/// The app has `credential`, in an environment with these variables. Returns the identity endpoint and the
/// only tenant, or the problems.
fn identity(credential: &str, variables: &[(&str, &str)]) -> Result<(String, Option<String>), String> {
    let text = with_graph(credential, "");
    let found = |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    let env = |name: &str| found(name).map(str::to_owned).or_else(|| env(name));
    let config = Config::parse(&text, Path::new("/nonexistent"), env).map_err(|error| error.to_string())?;
    let graph = &config.graph[0].1;
    let endpoint = graph.identity_endpoint().map(ToString::to_string).unwrap();
    Ok((endpoint, graph.only_tenant().map(|tenant| tenant.to_string())))
}

#[test]
fn an_app_can_have_a_managed_identity() {
    const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
    const APP_SERVICE: &str = "http://169.254.130.2:8081/msi/token";
    let app_service = [("IDENTITY_ENDPOINT", APP_SERVICE), ("IDENTITY_HEADER", "h3ad3r")];
    let managed = format!("managed_identity = {{ tenant = \"{TENANT}\" }}");
    let federated = format!("federated_identity = {{ client_id = \"{TENANT}\" }}");
    let own = "http://127.0.0.1:4000/metadata/identity/oauth2/token";
    let at = |credential: &str| credential.replace(" }", &format!(", endpoint = \"{own}\" }}"));
    let empty = [("IDENTITY_ENDPOINT", ""), ("IDENTITY_HEADER", "")];
    let managed_tenant = Some(TENANT.to_owned());
    for (credential, variables, expected, tenant) in [
        (&managed, &[][..], METADATA, &managed_tenant),
        (&managed, &empty, METADATA, &managed_tenant),
        (&managed, &app_service, APP_SERVICE, &managed_tenant),
        (&at(&managed), &app_service, own, &managed_tenant),
        (&federated, &[], METADATA, &None),
        (&federated, &app_service, APP_SERVICE, &None),
        (&at(&federated), &app_service, own, &None),
        (&"federated_identity = {}".to_owned(), &[], METADATA, &None),
    ] {
        let found = identity(credential, variables).unwrap();
        assert_eq!((found.0.as_str(), &found.1), (expected, tenant), "{credential}");
    }
}

#[test]
fn an_invalid_managed_identity_gets_a_message_with_a_valid_one() {
    let at = "app[0].graph.managed_identity";
    let managed = |more: &str| format!("managed_identity = {{ tenant = \"{TENANT}\"{more} }}");
    let app_service = |endpoint, header| [("IDENTITY_ENDPOINT", endpoint), ("IDENTITY_HEADER", header)];
    let url = format!("{at}: needs an IDENTITY_ENDPOINT that is an http or https URL");
    let secret = "s3cr3t two";
    for (credential, variables, expected) in [
        ("managed_identity = {}".to_owned(), vec![], format!("{at}.tenant: missing; it must be a GUID")),
        (managed(", client = \"a\""), vec![], format!("{at}.client: unknown setting")),
        (managed(", client_id = \"a\""), vec![], format!("{at}.client_id: not a GUID")),
        ("managed_identity = true".to_owned(), vec![], format!("{at}: not a table like {{ client_id")),
        (
            managed(", endpoint = \"http://169.254.169.254/\""),
            vec![],
            format!("{at}.endpoint: plain http is for loopback hosts only"),
        ),
        (
            format!("{}, authority = \"https://login.example\"", managed("")),
            vec![],
            "app[0].graph.authority: not used with managed_identity".to_owned(),
        ),
        (
            format!("{}, federated_token = \"f\"", managed("")),
            vec![],
            "app[0].graph: needs exactly one credential".to_owned(),
        ),
        (managed(""), app_service("localhost:1", "a").to_vec(), url.clone()),
        (managed(""), app_service("http://u:p@localhost:1/", "a").to_vec(), url),
        (
            managed(""),
            app_service("http://localhost:1/", secret).to_vec(),
            format!("{at}: needs an IDENTITY_HEADER of"),
        ),
        (
            managed(""),
            app_service("http://localhost:1/", "").to_vec(),
            format!("{at}: needs IDENTITY_HEADER beside IDENTITY_ENDPOINT"),
        ),
    ] {
        let problems = identity(&credential, &variables).unwrap_err();
        assert!(problems.starts_with(&expected), "{problems}\nexpected: {expected}");
        assert!(!problems.contains('\n') && !problems.contains("s3cr3t"), "{problems}");
    }
    let other = "tenants = [\"0efc74f7-41c3-47a4-8775-7259bfef4241\"]";
    let text = changed(&[("[callback]", &format!("{other}\ngraph = {{ {} }}\n[callback]", managed("")))]);
    refused_text(&text, &format!("{at}.tenant: not among the tenants of the app; add it there"));
}

#[test]
fn the_first_seal_key_signs_and_all_are_accepted() {
    let two = |first: &str, second: &str| {
        let key = |id: &str| format!("{{ id = \"{id}\", secret = {{ env = \"SEAL\" }} }}");
        let both = format!("{}, {}", key(first), key(second));
        parse(&changed(&[(&key("k1"), &both)])).unwrap()
    };
    let (before, after) = (two("k1", "k2"), two("k2", "k1"));
    let owner = Owner {
        region: before.region.clone(),
        instance: before.delivery.instances[0].name.clone(),
        incarnation: Name::parse("0").unwrap(),
    };
    let app = before.apps[0].id;
    let uri = before.callback.mint(&owner, app);
    assert!(uri.contains("/emea/bot-0/k1.0."), "{uri}");
    assert!(after.callback.mint(&owner, app).contains("/k2.0."));
    let path = uri.strip_prefix("https://emea.bots.contoso.com").unwrap();
    assert!(after.callback.open(&after.callback.parse(path).unwrap(), app).is_ok());
}

#[test]
fn an_empty_required_list_is_a_problem() {
    refused_text(
        "region = \"emea\"\napp = []\ntrust = []\n[fleet]\ninstance = []\n[callback]\n\
         base = \"https://a.example\"\nseal = []\n",
        "app: empty; write one [[app]] or more, each with its id\n\
         trust: empty; write at least one [[trust]], or none for the two of the cloud\n\
         fleet.instance: empty; write one [[fleet.instance]] or more, each with its name and url, or \
         [fleet.dns], [fleet.kubernetes] or [fleet.file]\n\
         callback.seal: empty: no callbackUri could be sealed; write a list of keys, like \
         [{ id = \"k1\", secret = { env = \"NAME\" } }]",
    );
    refused_text(
        &format!("app = 1\n{}", changed(&[("[[app]]\nid = \"0efc74f7-41c3-47a4-8775-7259bfef4241\"\n", "")])),
        "app: not a list of tables, each under [[app]]",
    );
}

/// Checks that an invalid configuration has at least one problem.
fn is_config_or_problems(text: &str) {
    if let Err(problems) = parse(text) {
        assert!(!problems.is_empty(), "{text}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,200}") {
        is_config_or_problems(&text);
    }

    #[test]
    fn no_value_of_a_setting_makes_the_parser_panic(
        index in 0usize..60,
        value in "[-0-9a-z\"'\\[\\]{}=., %/:]{0,20}",
    ) {
        let lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        let mut settings = lines.iter().enumerate().filter(|(_, line)| line.contains(" = "));
        if let Some((at, line)) = settings.nth(index) {
            let mut changed = lines.clone();
            changed[at] = format!("{} = {value}", line.split(" = ").next().unwrap());
            is_config_or_problems(&changed.join("\n"));
        }
    }
}

#[test]
fn the_requests_in_flight_to_an_instance_are_a_quarter_by_default() {
    for (more, expected) in [
        ("in_flight = 200", 50),
        ("in_flight = 3", 1),
        ("in_flight_per_instance = 10000", 10_000),
        ("in_flight = 7\nin_flight_per_instance = 7", 7),
    ] {
        let config = accepted(&format!("[limits]\n{more}\n"));
        assert_eq!(config.delivery.in_flight_per_instance, expected, "{more}");
    }
}

#[test]
fn an_instance_cannot_be_the_gateway_itself() {
    let problem = |setting: &str, other: &str| {
        format!(
            "fleet.instance[0].{setting}: leads to this gateway, whose {other} has the same host and port; \
             write the URL at which the bot itself listens"
        )
    };
    let own = "url = \"http://10.0.0.10:3978/api/calls\"";
    let with = |lines: &str| changed(&[(own, lines)]);
    for url in ["http://127.0.0.1:8443/api/calls", "https://localhost:8443/bot", "http://0.0.0.0:8443/"] {
        refused_text(&with(&format!("url = \"{url}\"")), &problem("url", "listen.address"));
        let lines = format!("{own}\ncallback_url = \"{url}\"");
        refused_text(&with(&lines), &problem("callback_url", "listen.address"));
    }
    let base = "url = \"https://emea.bots.contoso.com/api/calls\"";
    refused_text(&with(base), &problem("url", "callback.base"));
    for url in ["http://127.0.0.1:3978/", "https://emea.bots.contoso.com:8444/", "http://bot-0:8443/"] {
        parse(&with(&format!("url = \"{url}\""))).unwrap();
    }
    // The listener has another address, or a port that is not known yet.
    for listen in ["127.0.0.2:8443", "127.0.0.1:0"] {
        let text = with("url = \"http://127.0.0.1:8443/\"");
        parse(&format!("{text}[listen]\naddress = \"{listen}\"\n")).unwrap();
    }
}
