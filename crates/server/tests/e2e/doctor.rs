//! `switchboard doctor`: one healthy setup, and one fault at a time.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};

use crate::{
    actions::GraphFixture,
    support::{
        APP, Document, Gateway, Instance, Issuer, Reply, Settings, TENANT,
        gateway::{BINARY, CONFIG},
        settings::BASE,
        soon,
        tls::Identity,
        unix_now,
    },
};

/// A gateway and everything that its configuration names, all healthy, and one faulty server of each kind.
struct Setup {
    folder: TempDir,
    /// The text of a configuration without a fault.
    healthy: String,
    gateway: Gateway,
    issuer: Issuer,
    graph: Instance,
    /// The gateway of the other region.
    there: Gateway,
    /// Its health and its callbacks.
    peer: Instance,
    instance: Instance,
    keyless: Issuer,
    refusing_graph: Instance,
    /// A server whose clock is ten minutes ahead.
    early: Instance,
    expired: u16,
    unknown: u16,
    _servers: JoinSet<()>,
}

/// The names of the certificate of `Setup::gateway`, which does not have the address.
const NAMES: &str = "not for 127.0.0.1 but for emea.bots.example, localhost";

/// A port on which no process listens.
const CLOSED: &str = "http://127.0.0.1:9";

impl Setup {
    async fn start() -> Self {
        let (issuer, keyless) = (Issuer::start(), Issuer::start());
        keyless.skype(Document::Text(200, r#"{"keys":[]}"#.into()));
        let [instance, peer, graph, refusing_graph, early] =
            Instance::start_all(["bot-0", "amer", "graph", "refusing", "early"]);
        peer.probe(Reply::status(200));
        graph.always(GraphFixture::token_response());
        let refusal = r#"{"error":"invalid_client","error_codes":[7000215]}"#;
        refusing_graph.always(Reply::with(401, &[], refusal));
        let date = http_date(unix_now() + 600);
        early.probe(Reply::with(405, &[("Date", &date)], ""));

        let there = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
        let settings = Settings::new(&issuer, &[&instance])
            .line("fleet.probe", "path = \"/healthz\"")
            .line("app", &format!("tenants = [\"{TENANT}\"]"))
            .line("app", "[app.graph]\nsecret = { file = \"seal-k1\" }")
            .line("app", &format!("authority = \"{}\"", origin(&graph)))
            .table(&format!("[[peer]]\nname = \"amer\"\nwebhook = \"{}\"\n", webhook(&there)))
            .table(&format!("callback = \"{peer}\"\nhealth = \"{peer}/api/health\"\n", peer = origin(&peer)));
        let mut of_gateway = settings.clone();
        of_gateway.tls = true;
        let gateway = Gateway::start(&of_gateway).await;
        let base = format!("https://localhost:{}", gateway.public.port());
        let healthy = settings.render().replace(BASE, &base);

        let folder = tempfile::tempdir().unwrap();
        let mut trusted = std::fs::read(gateway.path("tls.crt")).unwrap();
        let (expired, unknown) = (Identity::expired(7), Identity::new(8));
        trusted.extend(expired.pem());
        std::fs::write(folder.path().join("trusted.pem"), trusted).unwrap();
        std::fs::copy(gateway.path("seal-k1"), folder.path().join("seal-k1")).unwrap();
        let mut servers = JoinSet::new();
        let [expired, unknown] = [expired, unknown].map(|identity| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            let port = listener.local_addr().unwrap().port();
            servers.spawn(identity.serve(tokio::net::TcpListener::from_std(listener).unwrap()));
            port
        });
        Self {
            folder,
            healthy,
            gateway,
            issuer,
            graph,
            there,
            peer,
            instance,
            keyless,
            refusing_graph,
            early,
            expired,
            unknown,
            _servers: servers,
        }
    }

    /// Runs `doctor` on a configuration.
    async fn run(&self, text: &str, more: &[&str]) -> Output {
        std::fs::write(self.path(CONFIG), text).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["doctor", "--config"]).arg(self.path(CONFIG)).args(more);
        self.finish(command).await
    }

    async fn finish(&self, mut command: Command) -> Output {
        command.env("SSL_CERT_FILE", self.path("trusted.pem")).env_remove("SSL_CERT_DIR");
        let command = command.stdin(Stdio::null()).kill_on_drop(true).output();
        soon("doctor", command).await.unwrap()
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn base(&self) -> String {
        format!("https://localhost:{}", self.gateway.public.port())
    }
}

/// The webhook of a gateway without TLS.
fn webhook(gateway: &Gateway) -> String {
    format!("http://{}/api/calls", gateway.public)
}

/// The scheme, host and port of a simulated server.
fn origin(server: &Instance) -> String {
    format!("http://127.0.0.1:{}", server.port())
}

/// A time as HTTP writes it (RFC 9110 section 5.6.7).
fn http_date(unix_seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(unix_seconds))
}

/// The output of `--json`.
#[track_caller]
fn report(output: &Output, code: i32) -> Value {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    assert_eq!(stderr, "", "there is progress on a terminal only");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["ok"], code == 0, "{stdout}");
    report
}

/// The area, the subject and the status of each finding.
fn findings(report: &Value) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| ["area", "subject", "status"].map(|name| text(&row[name]));
    report["findings"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn a_healthy_setup_has_no_fault() {
    let setup = Setup::start().await;
    let report = report(&setup.run(&setup.healthy, &["--json"]).await, 0);
    let config = setup.path(CONFIG).to_str().unwrap().to_owned();
    let expected: Vec<_> = [
        ("configuration", config.as_str()),
        ("descriptors", "this process"),
        ("callback.base", &setup.base()),
        ("trust", "skype"),
        ("trust", "entra"),
        ("instance", "bot-0"),
        ("peer", "amer webhook"),
        ("peer", "amer health"),
        ("peer", "amer callback"),
        ("graph", APP),
        ("clock", "this machine"),
    ]
    .map(|(area, subject)| [area, subject, "ok"].map(str::to_owned))
    .into();
    // The machine of the test may have a low limit of descriptors.
    let found: Vec<_> = findings(&report)
        .into_iter()
        .map(|[area, subject, status]| match area.as_str() {
            "descriptors" => [area, subject, "ok".to_owned()],
            _ => [area, subject, status],
        })
        .collect();
    assert_eq!(found, expected, "{report:#}");
    assert!(report["findings"].as_array().unwrap().iter().all(|row| {
        let is_ok = row["status"] == "ok";
        row["advice"].is_null() == is_ok && !row["detail"].as_str().unwrap().is_empty()
    }));

    // For people: the same, aligned, without colours and progress.
    let output = setup.run(&setup.healthy, &[]).await;
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(text.lines().count(), expected.len() + 1, "{text}");
    for (line, [area, subject, _]) in text.lines().zip(&expected) {
        let column = text.lines().next().unwrap().find(&config).unwrap();
        assert_eq!(line.get(9..9 + area.len()), Some(area.as_str()), "{text}");
        assert_eq!(line.get(column..column + subject.len()), Some(subject.as_str()), "{text}");
    }
}

/// A fault: the text to replace in the healthy configuration, and the one line that changes.
struct Case {
    from: String,
    to: String,
    area: &'static str,
    subject: String,
    status: &'static str,
    /// A part of the detail.
    detail: &'static str,
}

fn cases(setup: &Setup) -> Vec<Case> {
    let case = |area: &'static str, subject: &str, detail: &'static str, from: &str, to: &str| Case {
        from: from.to_owned(),
        to: to.to_owned(),
        area,
        subject: subject.to_owned(),
        status: "failed",
        detail,
    };
    let warning = |case: Case| Case { status: "warning", ..case };
    let base = |to: &str, detail| case("callback.base", to, detail, &setup.base(), to);
    let expired = format!("https://localhost:{}", setup.expired);
    let unknown = format!("https://localhost:{}", setup.unknown);
    let other_name = format!("https://127.0.0.1:{}", setup.gateway.public.port());
    let early = origin(&setup.early);
    let skype = setup.issuer.metadata("skype");
    let trust = |to: &str, detail| case("trust", "skype", detail, &skype, to);
    let instance = setup.instance.url();
    let closed_instance = format!("{CLOSED}/api/calls");
    let health = format!("{}/api/health", origin(&setup.peer));
    let peer = format!("callback = \"{}\"", origin(&setup.peer));
    let there = webhook(&setup.there);
    let peer_webhook =
        |to: &str, detail| case("peer", "amer webhook", detail, &there, &format!("{to}/api/calls"));
    let graph = origin(&setup.graph);
    let credential = format!("secret = {{ file = \"seal-k1\" }}\nauthority = \"{graph}\"");
    let identity = |at: &str| {
        format!("managed_identity = {{ tenant = \"{TENANT}\", endpoint = \"{at}/metadata/identity\" }}")
    };
    let refusing = identity(&origin(&setup.refusing_graph));
    vec![
        base(CLOSED, "Connection refused"),
        base(&expired, "certificate"),
        base(&unknown, "certificate"),
        base(&other_name, "certificate"),
        // A bot in place of the gateway.
        warning(base(&origin(&setup.graph), "responds 200 to GET /api/calls")),
        trust(&format!("{CLOSED}/metadata"), "Connection refused"),
        trust(&format!("{unknown}/metadata"), "certificate"),
        trust(&setup.keyless.metadata("skype"), "no usable key in the set"),
        trust(&format!("{}/metadata", origin(&setup.graph)), "not an OpenID configuration"),
        trust(&format!("{early}/metadata"), "status 405"),
        case("instance", "bot-0", "connection refused", &instance, &closed_instance),
        case("instance", "bot-0", "", &instance, &format!("{early}/api/calls")),
        // The names of a certificate that is for another one.
        case("instance", "bot-0", NAMES, &instance, &format!("{other_name}/api/calls")),
        case("instance", "bot-0", "expired at", &instance, &format!("{expired}/api/calls")),
        case("peer", "amer callback", NAMES, &peer, &format!("callback = \"{other_name}\"")),
        peer_webhook(CLOSED, "Connection refused"),
        peer_webhook(&other_name, NAMES),
        peer_webhook(&expired, "expired at"),
        peer_webhook(&unknown, "self-signed"),
        peer_webhook(&early, "responds 202 to POST /api/calls without a token"),
        case("peer", "amer health", "Connection refused", &health, CLOSED),
        case("peer", "amer health", "responds 405", &health, &format!("{early}/api/health")),
        case("peer", "amer callback", "connection refused", &peer, &format!("callback = \"{CLOSED}\"")),
        case("graph", APP, "AADSTS7000215", &graph, &origin(&setup.refusing_graph)),
        case("graph", APP, "the token endpoint", &graph, CLOSED),
        case("graph", APP, "AADSTS7000215", &credential, &refusing),
        case("graph", APP, "Connection refused", &credential, &identity(CLOSED)),
    ]
}

#[tokio::test]
async fn each_fault_is_one_line_with_what_to_do() {
    let setup = Setup::start().await;
    for Case { from, to, area, subject, status, detail } in cases(&setup) {
        assert_eq!(setup.healthy.matches(&from).count(), 1, "{from}");
        let text = setup.healthy.replace(&from, &to);
        let code = i32::from(status == "failed");
        let report = report(&setup.run(&text, &["--json"]).await, code);
        let rows = report["findings"].as_array().unwrap();
        let row = rows.iter().find(|row| row["area"] == area && row["subject"] == *subject);
        let row = row.unwrap_or_else(|| panic!("{to}: no {area} {subject} in {report:#}"));
        assert_eq!(row["status"], status, "{to}: {report:#}");
        assert!(row["detail"].as_str().unwrap().contains(detail), "{to}: {report:#}");
        assert!(row["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{to}: {report:#}");
        // No other line changes, except that of the clock if no response has a date.
        let others: Vec<_> = findings(&report)
            .into_iter()
            .filter(|found| found[2] == "failed" || found[2] == "warning")
            .filter(|found| found[0] != area && found[0] != "descriptors" && found[0] != "clock")
            .collect();
        assert!(others.is_empty(), "{to}: {others:?}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_found_by_the_dates_of_responses() {
    let setup = Setup::start().await;
    let early = origin(&setup.early);
    // A webhook that responds as a gateway does, but without a date.
    let dateless = format!("{}/api/calls", origin(&setup.refusing_graph));
    let text = setup.healthy.replace(&setup.base(), &early).replace(&webhook(&setup.there), &dateless);
    let report = report(&setup.run(&text, &["--json"]).await, 1);
    let failed: Vec<_> = findings(&report).into_iter().filter(|found| found[2] == "failed").collect();
    assert_eq!(failed, [["clock", "this machine", "failed"].map(str::to_owned)], "{report:#}");
    let rows = report["findings"].as_array().unwrap();
    let detail = rows.iter().find(|row| row["area"] == "clock").unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("s behind 127.0.0.1"), "{detail}");
    assert!(!setup.gateway.log.text().contains("ERROR"));
}

#[tokio::test]
async fn a_low_limit_of_descriptors_is_a_warning_and_an_instance_that_drains_too() {
    let setup = Setup::start().await;
    setup.instance.probe(Reply::status(503));
    std::fs::write(setup.path(CONFIG), &setup.healthy).unwrap();
    let mut command = Command::new("sh");
    let script = "ulimit -n 256 && exec \"$0\" \"$@\"";
    command.args(["-c", script, BINARY, "doctor", "--json", "--config"]).arg(setup.path(CONFIG));
    let report = report(&setup.finish(command).await, 0);
    let warnings: Vec<_> = findings(&report).into_iter().filter(|found| found[2] == "warning").collect();
    assert_eq!(
        warnings,
        [["descriptors", "this process", "warning"], ["instance", "bot-0", "warning"]]
            .map(|row| row.map(str::to_owned)),
        "{report:#}"
    );
}

#[tokio::test]
async fn an_invalid_configuration_is_not_examined() {
    let setup = Setup::start().await;
    let output = setup.run("region = 1\n", &["--json"]).await;
    assert_eq!(output.status.code(), Some(64));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["problems"][0]["path"], "region");
    assert_eq!(report["problems"][0]["line"], 1);
}
