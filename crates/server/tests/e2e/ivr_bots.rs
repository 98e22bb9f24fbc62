//! The IVR bots of docs/bots.md, as they are there: whole calls in which they act by responding only.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    actions::GraphFixture,
    support::{
        Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, gateway::path_of, settings::SEALS,
    },
};

const DOCUMENT: &str = include_str!("../../../../docs/bots.md");
const DESK: &str = "0a0a0a0a-1111-4aaa-8bbb-000000000002";

/// A bot of the documentation, as a process.
struct Bot {
    process: Child,
    output: BufReader<ChildStdout>,
    port: u16,
    _folder: TempDir,
}

impl Bot {
    /// Starts the bot in `language`. `None` without its runtime, `program`; with `CI=true` that is a failure.
    fn start(language: &str, program: &str, file: &str) -> Option<Self> {
        let (_, section) = DOCUMENT.split_once("\n## An IVR without a Graph client\n").unwrap();
        let (_, code) = section.split_once(&format!("```{language}\n")).unwrap();
        let (code, _) = code.split_once("```").unwrap();
        assert!(code.lines().count() < 60, "{language}: {} lines", code.lines().count());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, code).unwrap();
        let started = Command::new(program)
            .arg(path)
            .env("PORT", "0")
            .env("MENU", "http://cdn.example/menu.wav")
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "no {program}: {error}");
                return None;
            }
        };
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut bot = Self { process, output, port: 0, _folder: folder };
        bot.port = bot.line().strip_prefix("listening on port ").unwrap().parse().unwrap();
        Some(bot)
    }

    /// Waits for the next line of the bot's output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A gateway before the bot, and a simulated Graph.
struct Fixture {
    _issuer: Issuer,
    bot: Bot,
    graph: Instance,
    gateway: Gateway,
    token: String,
    callback: String,
}

impl Fixture {
    async fn start(bot: Bot) -> Self {
        let issuer = Issuer::start();
        let graph = Instance::start("graph");
        let origin = graph.url().replace("/api/calls", "");
        let secret = format!("secret = {{ file = \"{}\" }}", SEALS[1].0);
        let settings = Settings::new(&issuer, &[])
            .instance("bot-0", &format!("http://127.0.0.1:{}/api/calls", bot.port), "")
            .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
            .line(
                "app",
                &format!("graph = {{ {secret}, authority = \"{origin}\", endpoint = \"{origin}\" }}"),
            );
        let gateway = Gateway::start(&settings).await;
        graph.next(GraphFixture::token_response());
        let token = Token::skype().sign();
        Self { _issuer: issuer, bot, graph, gateway, token, callback: String::new() }
    }

    /// Posts a new call, which the bot answers.
    async fn answered(&mut self) {
        let response = Request::webhook(&self.token, bodies::incoming("call-1")).send(&self.gateway).await;
        assert_eq!(response.status(), 202);
        self.graph.request().await;
        let body = self.at_graph("POST call-1/answer").await;
        self.callback = path_of(body["callbackUri"].as_str().unwrap());
    }

    /// Posts a notification of the call at its callback URI.
    async fn notify(&self, item: Value) {
        let body = bodies::envelope(&[item]);
        let response = Request::post(&self.callback, &self.token, body).send(&self.gateway).await;
        assert_eq!((response.status(), response.body.len()), (202, 0));
    }

    async fn key(&self, tone: &str) {
        let mut item = bodies::updated_item("call-1", "established");
        item["resourceData"]["toneInfo"] =
            json!({ "@odata.type": "#microsoft.graph.toneInfo", "sequenceId": 1, "tone": tone });
        self.notify(item).await;
    }

    /// Waits for the next request to Graph. Returns its body.
    async fn at_graph(&mut self, expected: &str) -> Value {
        let request = self.graph.request().await;
        let path = request.target().replace("/v1.0/communications/calls/", "");
        assert_eq!(format!("{} {path}", request.method()), expected);
        if request.body.is_empty() { Value::Null } else { request.json() }
    }
}

fn operation(kind: &str, context: &str, more: &Value) -> Value {
    let mut data = json!({
        "@odata.type": format!("#microsoft.graph.{kind}Operation"),
        "id": "0fe0623f", "clientContext": context, "status": "completed",
    });
    data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = "/communications/calls/call-1/operations/0fe0623f";
    json!({ "changeType": "deleted", "resource": path, "resourceUrl": path, "resourceData": data })
}

async fn leads_calls(bot: Option<Bot>) {
    let Some(bot) = bot else { return };
    let mut fixture = Fixture::start(bot).await;
    fixture.answered().await;
    fixture.notify(bodies::updated_item("call-1", "establishing")).await;
    fixture.notify(bodies::updated_item("call-1", "established")).await;
    let body = fixture.at_graph("POST call-1/playPrompt").await;
    assert_eq!(body["prompts"][0]["mediaInfo"]["uri"], "http://cdn.example/menu.wav");
    fixture.at_graph("POST call-1/subscribeToTone").await;
    let path = "/communications/calls/call-1/participants";
    let roster = json!([{ "@odata.type": "#microsoft.graph.participant", "id": "1" }]);
    fixture
        .notify(
            json!({ "changeType": "updated", "resource": path, "resourceUrl": path, "resourceData": roster }),
        )
        .await;
    fixture.notify(operation("playPrompt", "menu", &json!({}))).await;
    fixture.key("Tone5").await;
    fixture.key("Tone1").await;
    let body = fixture.at_graph("POST call-1/recordResponse").await;
    assert_eq!((&body["clientContext"], &body["stopTones"]), (&json!("message"), &json!(["#"])));
    let location = json!({ "recordingLocation": "https://file.example/1" });
    fixture.notify(operation("record", "message", &location)).await;
    let body = fixture.at_graph("POST call-1/transfer").await;
    assert_eq!(body["transferTarget"]["identity"]["user"]["id"], DESK);
    assert_eq!(fixture.bot.line(), "recorded: https://file.example/1");
    fixture.notify(bodies::updated_item("call-1", "terminated")).await;
    fixture.graph.expect_nothing();

    // Another call: the caller is transferred at once, which Graph refuses, and so the bot hangs up. Graph
    // refuses that, too.
    fixture.graph.next(Reply::status(202));
    fixture.graph.next(Reply::status(403));
    fixture.graph.next(Reply::status(404));
    let response = Request::webhook(&fixture.token, bodies::incoming("call-1")).send(&fixture.gateway).await;
    assert_eq!(response.status(), 202);
    fixture.at_graph("POST call-1/answer").await;
    fixture.key("tone2").await;
    fixture.at_graph("POST call-1/transfer").await;
    fixture.at_graph("DELETE call-1").await;
    assert!(fixture.bot.line().starts_with("failed: "));
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn the_python_bot_leads_calls_by_responding_only() {
    leads_calls(Bot::start("python", "python3", "bot.py")).await;
}

#[tokio::test]
async fn the_node_bot_leads_calls_by_responding_only() {
    leads_calls(Bot::start("javascript", "node", "bot.mjs")).await;
}
