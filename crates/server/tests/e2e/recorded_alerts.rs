//! The alerts, by series recorded from real gateways: none fires while a gateway is well, and the right ones
//! fire once it is not.
//!
//! A phase is recorded by two scrapes. Then its time is stretched: the change between them is one minute's,
//! and the phase lasts as many minutes as its alerts need. promtool evaluates the rules over these series.

use std::{collections::BTreeMap, process::Command};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    exposition::{promtool, root, run},
    support::{
        Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, flipped, gateway::path_of,
        unix_now, until,
    },
};

/// The samples of one scrape by series, without those of the process.
type Scrape = BTreeMap<String, f64>;

/// The series of one gateway in stretched time: one value per minute, from 0 in Unix seconds on.
#[derive(Debug, Default)]
struct Recording {
    series: BTreeMap<String, Vec<Option<f64>>>,
    minutes: usize,
    tests: Vec<Value>,
}

impl Recording {
    /// Adds a phase: the state of `gateway` before and after `action`, for these minutes. Exactly the
    /// `alerts` fire at its end.
    async fn phase<A: AsyncFnOnce()>(
        &mut self,
        gateway: &Gateway,
        minutes: usize,
        action: A,
        alerts: &[&str],
    ) {
        let before = (scrape(gateway).await, unix_now());
        action().await;
        let after = (scrape(gateway).await, unix_now());
        let first = self.minutes;
        for (name, value) in &after.0 {
            let values = self.series.entry(name.clone()).or_insert_with(|| vec![None; first]);
            let old = before.0.get(name).copied().unwrap_or_default();
            for minute in first..first + minutes {
                let last = values.last().copied().flatten();
                values.push(Some(match kind(name) {
                    Kind::Counter => last.unwrap_or(old) + (value - old),
                    Kind::Gauge => *value,
                    // An event that was repeated has the same age in each minute. Another one gets older.
                    Kind::Timestamp if *value == old && last.is_some() => last.unwrap_or_default(),
                    Kind::Timestamp => seconds(minute) + value - seconds_of(after.1),
                }));
            }
        }
        self.add_up(1.0, minutes);
        self.end_phase(minutes, alerts);
    }

    /// Adds a phase in which the gateway cannot be scraped.
    async fn without(&mut self, gateway: Gateway, minutes: usize, alerts: &[&str]) {
        let address = gateway.admin;
        drop(gateway);
        assert!(TcpStream::connect(address).await.is_err());
        self.add_up(0.0, minutes);
        self.end_phase(minutes, alerts);
    }

    fn add_up(&mut self, up: f64, minutes: usize) {
        self.series.entry("up".to_owned()).or_default().extend(vec![Some(up); minutes]);
    }

    fn end_phase(&mut self, minutes: usize, alerts: &[&str]) {
        self.minutes += minutes;
        for values in self.series.values_mut() {
            values.resize(self.minutes, None);
        }
        let mut alerts = alerts.to_vec();
        alerts.sort_unstable();
        let firing = |name: &&str| json!({"labels": format!("{{alertname={name:?}}}"), "value": 1});
        self.tests.push(json!({
            "expr": "group by (alertname) (ALERTS{alertstate=\"firing\"})",
            "eval_time": format!("{}m", self.minutes - 1),
            "exp_samples": alerts.iter().map(firing).collect::<Vec<_>>(),
        }));
    }

    /// Evaluates the rules over the recorded series.
    fn check(&self) {
        let Some(promtool) = promtool() else { return };
        let series = self.series.iter().map(|(name, values)| {
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            let values =
                values.iter().map(|value| value.map_or_else(|| "_".to_owned(), |value| value.to_string()));
            json!({
                "series": format!("{name}{{job=\"switchboard\",instance=\"gateway\",{labels}"),
                "values": values.collect::<Vec<_>>().join(" "),
            })
        });
        let rules = root().join("deploy/prometheus/alerts.yaml").canonicalize().unwrap();
        let test = json!({
            "rule_files": [rules],
            "evaluation_interval": "1m",
            "tests": [{
                "interval": "1m",
                "input_series": series.collect::<Vec<_>>(),
                "promql_expr_test": self.tests,
            }],
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recorded.test.yaml");
        std::fs::write(&file, test.to_string()).unwrap();
        run(Command::new(promtool).args(["test", "rules"]).arg(file), "");
    }
}

async fn scrape(gateway: &Gateway) -> Scrape {
    let text = String::from_utf8(gateway.admin("/metrics").await.body).unwrap();
    let samples = text.lines().filter(|line| line.starts_with("switchboard_"));
    samples
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Timestamp,
}

/// The kind of a series, by the end of its name.
fn kind(series: &str) -> Kind {
    let name = series.split('{').next().unwrap();
    if ["_total", "_count", "_sum", "_bucket"].iter().any(|end| name.ends_with(end)) {
        Kind::Counter
    } else if name.ends_with("_timestamp_seconds") {
        Kind::Timestamp
    } else {
        Kind::Gauge
    }
}

fn seconds(minute: usize) -> f64 {
    f64::from(u32::try_from(minute).unwrap()) * 60.0
}

fn seconds_of(unix: u64) -> f64 {
    f64::from(u32::try_from(unix).unwrap())
}

fn webhook(call: &str) -> Request {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call))
}

/// Sends a new call and a callback to `path`, and checks both statuses.
async fn a_call(gateway: &Gateway, path: &str, call: &str, statuses: (u16, u16)) {
    let new_call = webhook(call).send(gateway).await;
    let callback = Request::post(path, &Token::skype().sign(), bodies::updated("call-0", "established"));
    assert_eq!((new_call.status(), callback.send(gateway).await.status()), statuses);
}

#[tokio::test]
async fn the_loss_of_all_instances_and_of_the_gateway() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    bot.probe(Reply::with(200, &[], r#"{"state":"ready"}"#));
    let settings =
        Settings::new(&issuer, &[&bot]).line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"");
    let gateway = Gateway::start(&settings).await;
    assert_eq!(webhook("call-0").send(&gateway).await.status(), 202);
    let path = path_of(bot.request().await.field("switchboard-callback-uri").unwrap());
    let mut recording = Recording::default();
    recording.phase(&gateway, 20, async || a_call(&gateway, &path, "call-1", (202, 202)).await, &[]).await;
    bot.stop().await;
    until("an unreachable instance", async || {
        let labels = [("state", "unreachable")];
        (gateway.metric("switchboard_instance_state", &labels).await == 1.0).then_some(())
    })
    .await;
    let alerts = [
        "SwitchboardNoReadyInstance",
        "SwitchboardInstancesFailing",
        "SwitchboardCallsNotPlaced",
        "SwitchboardCallbacksUnreachable",
    ];
    recording
        .phase(&gateway, 20, async || a_call(&gateway, &path, "call-2", (503, 503)).await, &alerts)
        .await;
    recording.without(gateway, 10, &["SwitchboardDown"]).await;
    recording.check();
}

#[tokio::test]
async fn requests_that_a_gateway_refuses() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&bot])).await;
    assert_eq!(webhook("call-0").send(&gateway).await.status(), 202);
    let path = path_of(bot.request().await.field("switchboard-callback-uri").unwrap());
    let mut recording = Recording::default();
    recording.phase(&gateway, 20, async || a_call(&gateway, &path, "call-1", (202, 202)).await, &[]).await;
    let (start, seal) = path.rsplit_once('.').unwrap();
    let wrong = format!("{start}.{}", flipped(seal));
    let refused = async || {
        a_call(&gateway, &wrong, "call-2", (202, 404)).await;
        let foreign = Token::skype().signed_by("stranger").sign();
        for _ in 0..2 {
            let response = Request::webhook(&foreign, bodies::incoming("call-1")).send(&gateway).await;
            assert_eq!(response.status(), 401);
        }
    };
    let alerts = ["SwitchboardRequestsMisrouted", "SwitchboardTokensRefused"];
    recording.phase(&gateway, 20, refused, &alerts).await;
    recording.check();
}

#[tokio::test]
async fn the_loss_of_everything_that_a_gateway_reads() {
    let mut issuer = Issuer::start();
    let bot = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&bot]).line("listen", "health_path = \"/api/health\"");
    let amer = Gateway::start(&settings).await;
    let settings = Settings::new(&issuer, &[])
        .line("keys", "refresh = \"1s\"")
        .peer("amer")
        .table(&format!("health = \"http://{}/api/health\"\n", amer.public))
        .table("[fleet.file]\npath = \"fleet.json\"\n");
    let gateway = Gateway::start_unready(&settings).await;
    let file = gateway.path("fleet.json");
    std::fs::write(&file, format!("[{{\"name\": \"bot-0\", \"url\": \"{}\"}}]", bot.url())).unwrap();
    gateway.wait_for_ready(200).await;
    until("a healthy peer", async || {
        (gateway.metric("switchboard_peer_healthy", &[]).await == 1.0).then_some(())
    })
    .await;
    let mut recording = Recording::default();
    // Keys are fetched and the file is read again.
    let repeated = ["key_last_fetch_success", "fleet_source_last_success"];
    let times = async || {
        let mut times = Vec::new();
        for name in repeated {
            times.push(gateway.metric(&format!("switchboard_{name}_timestamp_seconds"), &[]).await);
        }
        times
    };
    let well = async || {
        let first = times().await;
        let is_later = |times: &[f64]| times.iter().zip(&first).all(|(time, first)| *time >= *first + 2.0);
        until("later times", async || is_later(&times().await).then_some(())).await;
    };
    recording.phase(&gateway, 150, well, &[]).await;

    issuer.go_down().await;
    drop(amer);
    std::fs::write(&file, "[").unwrap();
    gateway.rewrite_text("region = 1\n");
    gateway.signal("HUP");
    gateway.log.message("reload refused: keeping the old configuration").await;
    gateway.log.message("peer region became unhealthy: it receives no redirected calls").await;
    gateway.log.message("keeping the current fleet: its source was not read").await;
    // Fetches fail further on.
    let failed = async || gateway.metric("switchboard_key_fetches_total", &[("result", "failed")]).await;
    let ticks = async || {
        let before = failed().await;
        until("further fetches", async || (failed().await >= before + 4.0).then_some(())).await;
    };
    let alerts = [
        "SwitchboardFleetSourceNotRead",
        "SwitchboardKeysNotRefreshed",
        "SwitchboardPeerUnhealthy",
        "SwitchboardReloadFailed",
    ];
    recording.phase(&gateway, 150, ticks, &alerts).await;
    recording.check();
}

#[tokio::test]
async fn a_gateway_that_starts_without_keys() {
    let gateway = Gateway::start_unready(&Settings::without_fleet(&Issuer::down())).await;
    gateway.log.message("keys not fetched").await;
    let mut recording = Recording::default();
    recording.phase(&gateway, 10, async || (), &["SwitchboardKeysUnusable"]).await;
    recording.check();
}
