//! The text of `/metrics` as Prometheus' own tools read it; and what names its metrics: the documents, the
//! alerts with their tests, and the board.
//!
//! The tools are promtool and the parser of OpenMetrics in Prometheus' Python client, which
//! `./install-packages` unpacks into `target/tools`. Without them, what needs them is skipped; with `CI=true`
//! that is a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{
    Client, Gateway, Instance, Issuer, OTHER_APP, Reply, Request, Settings, Token, bodies, gateway::path_of,
    until,
};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,\
    application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// The text of one gateway in both formats.
#[derive(Debug)]
struct Scraped {
    text: String,
    open_metrics: String,
}

impl Scraped {
    async fn of(gateway: &Gateway) -> Self {
        let scrape = async |accept: &str, expected: &str| {
            let response = gateway.admin_request(Request::get("/metrics").with("Accept", accept)).await;
            assert_eq!(response.field("content-type"), Some(expected));
            String::from_utf8(response.body).unwrap()
        };
        Self {
            text: scrape("*/*", "text/plain; version=0.0.4; charset=utf-8").await,
            open_metrics: scrape(OPEN_METRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8")
                .await,
        }
    }
}

/// The texts of two gateways that have all metrics together: one with instances, calls and failures, and one
/// with TLS and a fleet that it does not find.
async fn scraped() -> &'static [Scraped; 2] {
    static SCRAPED: OnceCell<[Scraped; 2]> = OnceCell::const_new();
    SCRAPED
        .get_or_init(async || {
            let issuer = Issuer::start();
            [busy(&issuer).await, searching(&issuer).await]
        })
        .await
}

async fn busy(issuer: &Issuer) -> Scraped {
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    for instance in &instances {
        let report = r#"{"state":"ready","calls":2,"capacity":1000}"#;
        instance.probe(Reply::with(200, &[("Content-Type", "application/json")], report));
    }
    instances[1].always(Reply::status(429));
    let settings = Settings::new(issuer, &[&instances[0], &instances[1]])
        .instance("bot-2", "http://127.0.0.1:9/api/calls", "")
        .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
        .table(&format!("[[app]]\nid = \"{OTHER_APP}\"\n"))
        .peer("amer")
        .peer("apac")
        .rule("amer")
        .table("[[affinity.rule]]\nsource_region = [\"apac\"]\nserve_in = \"apac\"\ndry_run = true\n");
    let gateway = Gateway::start(&settings).await;
    let token = Token::skype().sign();
    until("the unreachable instance", async || {
        let labels = [("bot", "bot-2"), ("state", "unreachable")];
        (gateway.metric("switchboard_instance_state", &labels).await == 1.0).then_some(())
    })
    .await;
    let mut calls = 0;
    while instances[1].request_now().is_none() {
        calls += 1;
        assert!(calls < 64, "one of two instances received all calls");
        let call = Request::webhook(&token, bodies::incoming(&format!("call-{calls}")));
        assert_eq!(call.send(&gateway).await.status(), 202);
    }
    let path = path_of(instances[0].request().await.field("switchboard-callback-uri").unwrap());
    for (request, status) in [
        (Request::post(&path, &token, bodies::updated("call-0", "established")), 202),
        (Request::post(&format!("{path}x"), &token, ""), 404),
        (Request::webhook(&token, bodies::incoming_from("call-9", "amer")), 302),
        (Request::webhook(&token, bodies::legacy()), 204),
        (Request::webhook(&Token::skype().signed_by("stranger").sign(), "{}"), 401),
        (Request::webhook("x", "{}"), 401),
        (Request::get("/nowhere"), 404),
    ] {
        assert_eq!(request.send(&gateway).await.status(), status, "{request:?}");
    }
    Scraped::of(&gateway).await
}

async fn searching(issuer: &Issuer) -> Scraped {
    // No process listens on port 9 of loopback.
    let mut settings = Settings::new(issuer, &[]).table(
        "[fleet.dns]\nname = \"_calls._tcp.example\"\nrefresh = \"1s\"\nservers = [\"127.0.0.1:9\"]\n",
    );
    settings.tls = true;
    let gateway = Gateway::start_unready(&settings).await;
    // The keys are fetched, and then have a time.
    until("the keys", async || (gateway.metric("switchboard_keys", &[]).await == 2.0).then_some(())).await;
    Scraped::of(&gateway).await
}

/// The metrics of both gateways: each name with its labels, and these with their values.
#[derive(Debug, Default)]
struct Exposed(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Exposed {
    async fn read() -> Self {
        let mut exposed = Self::default();
        for line in scraped().await.iter().flat_map(|one| one.text.lines()) {
            if line.starts_with('#') {
                continue;
            }
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let known = exposed.0.entry(name.to_owned()).or_default();
            for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once("=\"").unwrap();
                let value = value.trim_end_matches('"').to_owned();
                known.entry(label.to_owned()).or_default().insert(value);
            }
        }
        exposed
    }

    /// Fails if `query` names a metric, a label or a value that no gateway exposes.
    #[track_caller]
    fn check(&self, query: &str) {
        let (mut rest, mut labels, mut metrics) = (query, BTreeSet::from(TARGET_LABELS), 0);
        while let Some(start) = rest.find(|char: char| char.is_ascii_alphabetic()) {
            let (_, word_and_rest) = rest.split_at(start);
            let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
            let end = word_and_rest.find(|char| !is_part(char)).unwrap_or(word_and_rest.len());
            let (word, after) = word_and_rest.split_at(end);
            rest = after;
            if word.starts_with("switchboard_") || word.starts_with("process_") {
                let known = self.0.get(word).unwrap_or_else(|| panic!("{word} is not exposed: {query}"));
                labels.extend(known.keys().map(String::as_str));
                rest = Self::check_matchers(known, after, query);
            } else if word == "up" {
                rest = Self::check_matchers(&BTreeMap::new(), after, query);
            } else {
                continue;
            }
            metrics += 1;
        }
        assert!(metrics > 0, "{query}");
        // The labels by which series are grouped and joined.
        for clause in ["by (", "on (", "without (", "ignoring ("] {
            for list in query.split(clause).skip(1) {
                for label in list.split(')').next().unwrap().split(',').map(str::trim) {
                    assert!(labels.contains(label), "{label} is no label: {query}");
                }
            }
        }
    }

    /// Checks the matchers in braces at the start of `text`, and returns the text after them.
    #[track_caller]
    fn check_matchers<'t>(known: &BTreeMap<String, BTreeSet<String>>, text: &'t str, query: &str) -> &'t str {
        let Some(text) = text.strip_prefix('{') else { return text };
        let (matchers, after) = text.split_once('}').unwrap();
        for matcher in matchers.split("\",").map(str::trim) {
            let (label, value) = matcher.split_at(matcher.find(['=', '!']).unwrap());
            let value = value.trim_start_matches(['=', '!', '~']).trim_matches('"');
            if TARGET_LABELS.contains(&label) {
                continue;
            }
            let values = known.get(label).unwrap_or_else(|| panic!("{label} is no label: {query}"));
            for value in value.split('|') {
                let exists = match value.strip_prefix(".*") {
                    Some(end) => values.iter().any(|known| known.ends_with(end)),
                    None => values.contains(value) || ANY_VALUE.contains(&label),
                };
                assert!(exists, "{label} is never {value:?}: {query}");
            }
        }
        after
    }
}

/// The labels that a scrape adds.
const TARGET_LABELS: [&str; 2] = ["job", "instance"];
/// Labels whose values differ between builds.
const ANY_VALUE: [&str; 2] = ["version", "revision"];

#[tokio::test]
async fn promtool_accepts_the_text_format() {
    let Some(promtool) = promtool() else { return };
    for Scraped { text, .. } in scraped().await {
        let output = run(Command::new(&promtool).args(["check", "metrics"]), text);
        assert_eq!(output, "", "{text}");
    }
}

#[tokio::test]
async fn the_parser_of_open_metrics_reads_every_sample() {
    let Some(python) = python() else { return };
    let script = "import sys\n\
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse\n\
        print(sum(len(family.samples) for family in parse(sys.stdin.read())))";
    for Scraped { open_metrics, .. } in scraped().await {
        let samples = open_metrics.lines().filter(|line| !line.starts_with('#')).count();
        let output = run(Command::new(&python).args(["-c", script]), open_metrics);
        assert_eq!(output.trim(), samples.to_string());
    }
}

#[tokio::test]
async fn a_head_request_gets_the_head_of_the_metrics() {
    let issuer = Issuer::start();
    let gateway = Gateway::start_unready(&Settings::without_fleet(&issuer)).await;
    let mut client = Client::connect(gateway.admin).await;
    let request = format!("HEAD /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", gateway.admin);
    client.send(request).await;
    let (_, response) = client.closed().await;
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    let length = response.split("content-length: ").nth(1).unwrap().split('\r').next().unwrap();
    assert!(length.parse::<usize>().unwrap() > 10_000, "{response}");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

/// The tables of docs/metrics.md: name, type, labels, meaning.
#[tokio::test]
async fn the_documented_metrics_are_the_exposed_ones() {
    let mut exposed = BTreeMap::new();
    let labels = Exposed::read().await;
    for line in scraped().await.iter().flat_map(|one| one.text.lines()) {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.to_owned() };
        let labels: BTreeSet<_> = labels.0[&sample].keys().cloned().collect();
        exposed.insert(name.to_owned(), (kind.to_owned(), labels));
    }
    let mut documented = BTreeMap::new();
    for row in current_metrics(&read("docs/metrics.md")).lines() {
        let Some(row) = row.strip_prefix("| `").filter(|row| is_metric(row)) else { continue };
        let [name, kind, labels, meaning] =
            row.trim_end_matches(" |").splitn(4, " | ").collect::<Vec<_>>()[..]
        else {
            panic!("{row}")
        };
        assert!(!meaning.is_empty(), "{row}");
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let name = name.trim_end_matches('`').to_owned();
        assert!(documented.insert(name, (kind.to_owned(), labels)).is_none(), "{row}");
    }
    assert_eq!(documented, exposed);
}

/// All documents and manifests, so that no page keeps an old name.
#[tokio::test]
async fn every_page_names_metrics_that_are_exposed() {
    let exposed = Exposed::read().await;
    let names: BTreeSet<_> = exposed.0.keys().map(String::as_str).collect();
    let is_known = |name: &str| {
        names.contains(name)
            || names.contains(format!("{name}_count").as_str())
            || names.iter().any(|known| name.ends_with('_') && known.starts_with(name))
    };
    let pages = std::fs::read_dir(root().join("docs")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path()).filter(|path| path.extension().unwrap() == "md");
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let text = current_metrics(&text);
        for (start, _) in text.match_indices("switchboard_") {
            let (_, name) = text.split_at(start);
            let is_part = |char: char| char.is_ascii_lowercase() || char == '_';
            let (name, _) = name.split_at(name.find(|char| !is_part(char)).unwrap_or(name.len()));
            let is_other = ["switchboard_emulator", "switchboard_recording"].contains(&name);
            assert!(is_other || is_known(name), "{}: {name}", page.display());
        }
    }
}

#[tokio::test]
async fn the_queries_of_the_board_name_metrics_that_are_exposed() {
    let exposed = Exposed::read().await;
    let board: Value = serde_json::from_str(&read("deploy/grafana/switchboard.json")).unwrap();
    let queries = queries_of(&board);
    assert!(queries.len() > 50, "{queries:?}");
    let mut rules = Vec::new();
    for (number, query) in queries.iter().enumerate() {
        exposed.check(query);
        let query = query.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$instance", ".*");
        assert!(!query.contains('$'), "{query}");
        rules.push(json!({"record": format!("board:query:{number}"), "expr": query}));
    }
    let Some(promtool) = promtool() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("board.yaml");
    let groups = json!({"groups": [{"name": "board", "rules": rules}]});
    std::fs::write(&path, groups.to_string()).unwrap();
    run(Command::new(promtool).args(["check", "rules"]).arg(path), "");
}

#[tokio::test]
async fn the_alerts_and_their_tests_name_series_that_are_exposed() {
    let exposed = Exposed::read().await;
    for (_, rule) in alerts() {
        exposed.check(rule["expr"].as_str().unwrap());
    }
    let tests = yaml("deploy/prometheus/alerts.test.yaml");
    let tests = tests["tests"].as_array().unwrap();
    for series in tests.iter().flat_map(|test| test["input_series"].as_array().unwrap()) {
        exposed.check(series["series"].as_str().unwrap());
    }
}

/// Each alert has a test in which it fires, and a page that says what it means, what to look at and what to
/// do.
#[test]
fn every_alert_is_tested_and_has_a_page() {
    let document = read("docs/alerts.md");
    let mut pages: BTreeMap<_, _> = document
        .split("\n### ")
        .skip(1)
        .map(|page| page.split_once('\n').unwrap())
        .map(|(heading, text)| (heading, text.split("\n## ").next().unwrap()))
        .collect();
    let tests = yaml("deploy/prometheus/alerts.test.yaml");
    let tests = tests["tests"].as_array().unwrap().iter();
    let tests: Vec<_> = tests.flat_map(|test| test["alert_rule_test"].as_array().unwrap()).collect();
    for (name, rule) in alerts() {
        let fires = |test: &&&Value| test["alertname"] == *name && test["exp_alerts"].is_array();
        assert!(tests.iter().any(|test| fires(&test)), "{name} never fires");
        let page = pages.remove(name.as_str()).unwrap_or_else(|| panic!("no page of {name}"));
        for part in ["\n- Meaning: ", "\n- Look at: ", "\n- Do: "] {
            assert!(page.contains(part), "{name} has no {part:?}");
        }
        let anchor = format!("/docs/alerts.md#{}", name.to_lowercase());
        let url = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert!(url.ends_with(&anchor), "{name}: {url}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        assert!(rule["annotations"]["summary"].is_string(), "{name}");
    }
    assert!(pages.is_empty(), "pages of no alert: {:?}", pages.keys());
}

/// Returns the alerts by name.
fn alerts() -> Vec<(String, Value)> {
    let rules = yaml("deploy/prometheus/alerts.yaml");
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    let alerts: Vec<_> =
        rules.map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule.clone())).collect();
    assert!(alerts.len() > 20);
    alerts
}

/// Returns all queries of a board.
fn queries_of(board: &Value) -> Vec<&str> {
    match board {
        Value::Array(values) => values.iter().flat_map(queries_of).collect(),
        Value::Object(members) => {
            let own = members.get("expr").and_then(Value::as_str);
            own.into_iter().chain(members.values().flat_map(queries_of)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Returns a page without its table of the names that metrics had before.
fn current_metrics(page: &str) -> &str {
    page.split("\n## Names before 0.1\n").next().unwrap()
}

fn is_metric(row: &str) -> bool {
    row.starts_with("switchboard_") || row.starts_with("process_")
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn promtool() -> Option<PathBuf> {
    installed(&["promtool", "target/tools/promtool"], &["--version"])
}

fn python() -> Option<PathBuf> {
    let programs = ["target/tools/openmetrics/bin/python", "python3"];
    installed(&programs, &["-c", "import prometheus_client.openmetrics.parser"])
}

/// Returns the first of `programs` that runs `probe`. Without one, what needs it is skipped.
fn installed(programs: &[&str], probe: &[&str]) -> Option<PathBuf> {
    let path = |program: &&str| if program.contains('/') { root().join(program) } else { program.into() };
    let runs = |program: &PathBuf| {
        let mut command = Command::new(program);
        command.args(probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let found = programs.iter().map(path).find(runs);
    let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
    assert!(found.is_some() || !is_ci, "none of {programs:?} runs {probe:?}; run ./install-packages");
    found
}

/// Runs a command with this input, and returns all of its output. Fails if the command does.
#[track_caller]
pub(crate) fn run(command: &mut Command, input: &str) -> String {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The tools read all input before they write.
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
