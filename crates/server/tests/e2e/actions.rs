//! Actions that instances reply with, and what Graph then gets.

use serde_json::json;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, gateway::path_of,
    instance::ATTEMPT, settings::SEALS,
};

pub(crate) const ACTION: &str = "application/vnd.switchboard.action+json";
pub(crate) const ANSWER: &str = r##"{"action":"answer","acceptedModalities":["audio"],"mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}}"##;

/// A gateway that may act, one instance, and what stands for the token endpoint and for Graph.
pub(crate) struct Stage {
    _issuer: Issuer,
    pub(crate) bot: Instance,
    pub(crate) graph: Instance,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
}

impl Stage {
    pub(crate) async fn set(more: impl FnOnce(Settings) -> Settings) -> Self {
        Self::set_around(|settings, _| more(settings)).await
    }

    /// `more` gets the origin of Graph and of the token endpoint, too.
    pub(crate) async fn set_around(more: impl FnOnce(Settings, &str) -> Settings) -> Self {
        let issuer = Issuer::start();
        let [bot, graph] = Instance::start_all(["bot-0", "graph"]);
        let origin = graph.url().replace("/api/calls", "");
        let settings = Settings::new(&issuer, &[&bot]).line(
            "app",
            &format!("graph = {{ secret = {{ file = \"{}\" }}, authority = \"{origin}\", endpoint = \"{origin}\" }}", SEALS[1].0),
        );
        let gateway = Gateway::start(&more(settings, &origin)).await;
        Self { _issuer: issuer, bot, graph, gateway, token: Token::skype().sign() }
    }

    /// Graph's answers, after a token.
    pub(crate) fn graph_says(&self, replies: &[Reply]) {
        self.graph.next(Self::token());
        for reply in replies {
            self.graph.next(reply.clone());
        }
    }

    /// What the token endpoint says.
    pub(crate) fn token() -> Reply {
        let token = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"made.up.token"}"#;
        Reply::with(200, &[("Content-Type", "application/json")], token)
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
async fn an_action_that_cannot_be_read_says_why() {
    let mut stage = Stage::set(|settings| settings.line("placement", "budget = \"1s\"")).await;
    let headed = |bytes: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Type: {ACTION}\r\nContent-Length: {bytes}\r\n\r\n{body}")
            .into_bytes()
    };
    let padded = format!("{ANSWER}{}", " ".repeat(64 * 1024 + 1 - ANSWER.len()));
    for (reason, reply) in [
        ("action_too_large", Reply::Bytes(headed(padded.len(), &padded))),
        ("action_broken_off", Reply::Cut(headed(ANSWER.len() + 1, ANSWER))),
        ("action_too_slow", Reply::Bytes(headed(ANSWER.len() + 1, ANSWER))),
    ] {
        stage.bot.next(reply);
        let answer = Request::webhook(&stage.token, bodies::incoming("call-1")).send(&stage.gateway).await;
        assert_eq!(answer.status(), 500, "{reason}");
        stage.bot.request().await;
        let line = stage
            .gateway
            .log
            .event(reason, |event| event["outcome"] == "bad_action" && event["reason"] == reason);
        assert_eq!(line.await["instance"], "bot-0");
        let labels = [("action", "unknown"), ("result", reason)];
        assert_eq!(stage.gateway.metric("switchboard_actions_total", &labels).await, 1.0, "{reason}");
    }
    // One byte less is as much as an action may have.
    let whole = padded.strip_suffix(' ').unwrap();
    stage.graph_says(&[Reply::status(202)]);
    assert_eq!(stage.new_call(whole).await.0, 202);
    stage.graph.request().await;
    stage.graph.request().await;
    stage.graph.expect_nothing();
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
    let line = stage.gateway.log.event("a rejection", |event| event["outcome"] == "rejected_as_busy").await;
    assert_eq!((&line["action"], &line["action_result"]), (&json!("reject_as_busy"), &json!("ok")));

    // Without Graph it is what it was: no instance.
    stage.graph.stop().await;
    let answer = Request::webhook(&stage.token, bodies::recording("call-2")).send(&stage.gateway).await;
    assert_eq!(answer.status(), 503);
    let line = stage.gateway.log.event("a refusal", |event| event["outcome"] == "not_placed").await;
    assert_eq!((&line["reason"], &line["action_result"]), (&json!("refused"), &json!("unreachable")));
}

#[tokio::test]
async fn a_call_that_an_instance_may_still_answer_is_neither_rejected_nor_sent_on() {
    let alone = bodies::incoming("call-1");
    let batch = bodies::envelope(&[
        bodies::incoming_item("call-1", "emea"),
        bodies::updated_item("another", "established"),
    ]);
    for (full, body, reason) in [
        ("reject", &alone, "outcome_unknown"),
        ("overflow:amer", &alone, "outcome_unknown"),
        ("reject", &batch, "part_failed"),
        ("overflow:amer", &batch, "part_failed"),
    ] {
        let mut stage = Stage::set(|settings| {
            settings
                .peer("amer")
                .line("callback", "patience = \"1500ms\"")
                .line("placement", &format!("full = \"{full}\""))
                .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()))
        })
        .await;
        stage.bot.always(Reply::Never);
        let answer = Request::webhook(&stage.token, body.as_str()).send(&stage.gateway).await;
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{full} {reason}");
        let line = stage.gateway.log.message("request finished").await;
        assert_eq!((&line["reason"], &line["outcome_unknown"]), (&json!(reason), &json!(1)), "{full}");
        assert_eq!(stage.gateway.metric("switchboard_outcomes_unknown_total", &[]).await, 1.0, "{full}");
        assert_eq!(stage.gateway.metric("switchboard_redirects_total", &[]).await, 0.0, "{full}");
        // Nor when the platform tries again, and nobody can be asked.
        stage.bot.stop().await;
        let again = Request::webhook(&stage.token, body.as_str()).send(&stage.gateway).await;
        assert_eq!(again.status(), 503, "{full} {reason}");
        let line = stage.gateway.log.nth(1, "the second refusal", |event| event["outcome"].is_string()).await;
        assert_eq!((&line["reason"], &line["outcome_unknown"]), (&json!(reason), &json!(null)), "{full}");
        stage.graph.expect_nothing();
    }
}
