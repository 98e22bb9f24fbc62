//! Actions that instances reply with, and what Graph then gets.

use serde_json::json;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, gateway::path_of,
    settings::SEALS,
};

const ACTION: &str = "application/vnd.switchboard.action+json";
const ANSWER: &str = r##"{"action":"answer","acceptedModalities":["audio"],"mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}}"##;

/// A gateway that may act, one instance, and what stands for the token endpoint and for Graph.
struct Stage {
    _issuer: Issuer,
    bot: Instance,
    graph: Instance,
    gateway: Gateway,
    token: String,
}

impl Stage {
    async fn set(more: impl FnOnce(Settings) -> Settings) -> Self {
        let issuer = Issuer::start();
        let [bot, graph] = Instance::start_all(["bot-0", "graph"]);
        let origin = graph.url().replace("/api/calls", "");
        let settings = Settings::new(&issuer, &[&bot]).line(
            "app",
            &format!("graph = {{ secret = {{ file = \"{}\" }}, authority = \"{origin}\", endpoint = \"{origin}\" }}", SEALS[1].0),
        );
        let gateway = Gateway::start(&more(settings)).await;
        Self { _issuer: issuer, bot, graph, gateway, token: Token::skype().sign() }
    }

    /// Graph's answers, after a token.
    fn graph_says(&self, replies: &[Reply]) {
        let token = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"made.up.token"}"#;
        self.graph.next(Reply::with(200, &[("Content-Type", "application/json")], token));
        for reply in replies {
            self.graph.next(reply.clone());
        }
    }

    /// The status that the platform gets for a new call, to which the bot replies `action`.
    async fn new_call(&mut self, action: &str) -> (u16, String) {
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], action));
        let answer = Request::webhook(&self.token, bodies::incoming("call-1")).send(&self.gateway).await;
        let uri = self.bot.request().await.field("switchboard-callback-uri").unwrap().to_owned();
        assert!(answer.body.is_empty(), "the action itself is not told to the platform");
        (answer.status(), uri)
    }
}

#[tokio::test]
async fn an_action_is_carried_out_with_the_minted_callback_uri() {
    for (action, path) in [
        (ANSWER, "answer"),
        (r#"{"action":"reject","reason":"busy"}"#, "reject"),
        (
            r#"{"action":"redirect","targets":[{"identity":{"user":{"id":"0a0a0a0a-1111-4aaa-8bbb-000000000002"}}}]}"#,
            "redirect",
        ),
    ] {
        let mut stage = Stage::set(|settings| settings).await;
        stage.graph_says(&[Reply::status(202)]);
        let (status, uri) = stage.new_call(action).await;
        assert_eq!(status, 202, "{path}");
        let token = stage.graph.request().await;
        assert_eq!(token.target(), format!("/{TENANT}/oauth2/v2.0/token"));
        let order = stage.graph.request().await;
        assert_eq!(order.target(), format!("/v1.0/communications/calls/call-1/{path}"));
        assert_eq!(order.field("authorization"), Some("Bearer made.up.token"));
        assert_eq!(order.json()["callbackUri"], json!(uri));
        assert_eq!(
            stage.gateway.metric("switchboard_actions_total", &[("action", path), ("result", "ok")]).await,
            1.0
        );
        stage.bot.expect_nothing();
    }
}

#[tokio::test]
async fn an_action_that_graph_refuses_is_told_to_the_instance() {
    let mut stage = Stage::set(|settings| settings).await;
    let refusal = r#"{"error":{"code":"7504","message":"Insufficient enterprise tenant permissions."}}"#;
    stage.graph_says(&[Reply::with(403, &[("Content-Type", "application/json")], refusal)]);
    let (status, _) = stage.new_call(ANSWER).await;
    assert_eq!(status, 202);
    let told = stage.bot.request().await;
    assert_eq!(told.field("content-type"), Some("application/vnd.switchboard.action-failed+json"));
    assert_eq!(told.field("switchboard-call-id"), Some("call-1"));
    let told = told.json();
    assert_eq!((&told["action"], &told["callId"]), (&json!("answer"), &json!("call-1")));
    assert_eq!(told["error"]["code"], json!("missing_permission"));
    assert_eq!(told["error"]["outcomeUnknown"], json!(false));
    let labels = [("action", "answer"), ("result", "missing_permission")];
    assert_eq!(stage.gateway.metric("switchboard_actions_total", &labels).await, 1.0);
}

#[tokio::test]
async fn an_action_that_cannot_be_done_is_500_and_nobody_else_is_asked() {
    let mut stage = Stage::set(|settings| settings).await;
    for action in ["", "{", r#"{"action":"dance"}"#, r#"{"action":"reject","reason":"busy","more":1}"#] {
        assert_eq!(stage.new_call(action).await.0, 500, "{action}");
    }
    stage.graph.expect_nothing();
    stage.bot.expect_nothing();

    let issuer = Issuer::start();
    let bot = Instance::start("bot-0");
    let without = Gateway::start(&Settings::new(&issuer, &[&bot])).await;
    bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let answer = Request::webhook(&stage.token, bodies::incoming("call-1")).send(&without).await;
    assert_eq!(answer.status(), 500);
}

#[tokio::test]
async fn an_action_in_reply_to_a_callback_changes_nothing() {
    let mut stage = Stage::set(|settings| settings).await;
    stage.graph_says(&[Reply::status(202)]);
    let (_, uri) = stage.new_call(ANSWER).await;
    stage.graph.request().await;
    stage.graph.request().await;
    stage.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let body = bodies::updated("call-1", "established");
    let answer = Request::post(&path_of(&uri), &stage.token, body).send(&stage.gateway).await;
    assert_eq!((answer.status(), answer.body.len()), (202, 0));
    stage.graph.expect_nothing();
    let labels = [("action", "misplaced"), ("result", "ignored")];
    assert_eq!(stage.gateway.metric("switchboard_actions_total", &labels).await, 1.0);
}

#[tokio::test]
async fn a_retry_of_an_acted_call_is_not_acted_on_again() {
    let mut stage = Stage::set(|settings| settings).await;
    stage.graph_says(&[Reply::status(202)]);
    stage.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let request = Request::webhook(&stage.token, bodies::incoming("call-1"))
        .replace("X-Microsoft-Skype-Message-ID", "message-1");
    for _ in 0..2 {
        assert_eq!(request.send(&stage.gateway).await.status(), 202);
    }
    stage.bot.request().await;
    stage.graph.request().await;
    stage.graph.request().await;
    stage.bot.expect_nothing();
    stage.graph.expect_nothing();
}

#[tokio::test]
async fn a_call_that_finds_no_instance_is_rejected_as_busy() {
    let mut stage = Stage::set(|settings| settings.line("placement", "full = \"reject\"")).await;
    stage.graph_says(&[Reply::status(202)]);
    stage.bot.stop().await;
    let answer = Request::webhook(&stage.token, bodies::incoming("call-1")).send(&stage.gateway).await;
    assert_eq!(answer.status(), 202);
    stage.graph.request().await;
    let order = stage.graph.request().await;
    assert_eq!(order.target(), "/v1.0/communications/calls/call-1/reject");
    assert_eq!(order.json(), json!({ "reason": "busy" }));

    // Without Graph it is what it was: no instance.
    stage.graph.stop().await;
    let answer = Request::webhook(&stage.token, bodies::incoming("call-2")).send(&stage.gateway).await;
    assert_eq!(answer.status(), 503);
}
