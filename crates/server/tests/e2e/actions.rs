//! Actions in the responses of instances, and the requests to Graph that follow.

use serde_json::json;
use tokio::net::UdpSocket;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, instance::ATTEMPT,
    port::Port, settings::SEALS, until,
};

pub(crate) const ACTION: &str = "application/vnd.switchboard.action+json";
pub(crate) const ANSWER: &str = "{\"action\":\"answer\",\"acceptedModalities\":[\"audio\"],\"mediaConfig\":\
{\"@odata.type\":\"#microsoft.graph.serviceHostedMediaConfig\"}}";

/// A gateway that may act on calls, one bot, and a server that simulates the token endpoint and Graph.
pub(crate) struct GraphFixture {
    pub(crate) issuer: Issuer,
    pub(crate) bot: Instance,
    pub(crate) graph: Instance,
    pub(crate) gateway: Gateway,
    pub(crate) token: String,
}

impl GraphFixture {
    /// Starts all of them, with the settings that `more` returns.
    pub(crate) async fn start(more: impl FnOnce(Settings) -> Settings) -> Self {
        Self::start_with_origin(|settings, _| more(settings)).await
    }

    /// As `start`; `more` also receives the origin of Graph and of the token endpoint.
    pub(crate) async fn start_with_origin(more: impl FnOnce(Settings, &str) -> Settings) -> Self {
        Self::start_with_variables(more, &[]).await
    }

    /// The same, with these variables of the gateway.
    pub(crate) async fn start_with_variables(
        more: impl FnOnce(Settings, &str) -> Settings,
        variables: &[(&str, &str)],
    ) -> Self {
        let issuer = Issuer::start();
        let [bot, graph] = Instance::start_all(["bot-0", "graph"]);
        let origin = graph.url().replace("/api/calls", "");
        let secret = format!("secret = {{ file = \"{}\" }}", SEALS[1].0);
        let settings = Settings::new(&issuer, &[&bot]).line(
            "app",
            &format!("graph = {{ {secret}, authority = \"{origin}\", endpoint = \"{origin}\" }}"),
        );
        let gateway = Gateway::start_with_variables(&more(settings, &origin), variables).await;
        Self { issuer, bot, graph, gateway, token: Token::skype().sign() }
    }

    /// As `start`, with a bot that reports that it is full, and `placement.full = "reject"`.
    pub(crate) async fn start_full() -> Self {
        let fixture = Self::start(|settings| {
            settings
                .line("placement", "full = \"reject\"")
                .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
        })
        .await;
        fixture.becomes("full").await;
        fixture
    }

    /// Lets the bot report another state, and waits until the gateway knows it.
    pub(crate) async fn becomes(&self, state: &str) {
        self.bot.probe(Reply::with(200, &[], &format!("{{\"state\":\"{state}\"}}")));
        until(&format!("the bot is {state}"), async || {
            (self.gateway.admin("/fleet").await.json()[0]["state"] == state).then_some(())
        })
        .await;
    }

    /// Sets the responses of Graph, after one of the token endpoint.
    pub(crate) fn graph_responds(&self, replies: &[Reply]) {
        self.graph.next(Self::token_response());
        for reply in replies {
            self.graph.next(reply.clone());
        }
    }

    /// A response of the token endpoint.
    pub(crate) fn token_response() -> Reply {
        let token = r#"{"token_type":"Bearer","expires_in":3599,"access_token":"made.up.token"}"#;
        Reply::with(200, &[("Content-Type", "application/json")], token)
    }

    /// Posts a new call to which the bot responds with `action`.
    ///
    /// Returns the status that the platform receives, and the callback URI that the bot received.
    pub(crate) async fn new_call(&mut self, action: &str) -> (u16, String) {
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], action));
        let response = Request::webhook(&self.token, bodies::incoming("call-1")).send(&self.gateway).await;
        let uri = self.bot.request().await.field("switchboard-callback-uri").unwrap().to_owned();
        assert!(response.body.is_empty(), "the platform does not receive the action");
        (response.status(), uri)
    }
}

#[tokio::test]
async fn an_action_reaches_graph_with_the_minted_callback_uri() {
    for (action, path) in [
        (ANSWER, "answer"),
        (r#"{"action":"reject","reason":"busy"}"#, "reject"),
        (
            "{\"action\":\"redirect\",\"targets\":\
             [{\"identity\":{\"user\":{\"id\":\"0a0a0a0a-1111-4aaa-8bbb-000000000002\"}}}]}",
            "redirect",
        ),
    ] {
        let mut fixture = GraphFixture::start(|settings| settings).await;
        fixture.graph_responds(&[Reply::status(202)]);
        let (status, uri) = fixture.new_call(action).await;
        assert_eq!(status, 202, "{path}");
        let token = fixture.graph.request().await;
        assert_eq!(token.target(), format!("/{TENANT}/oauth2/v2.0/token"));
        let request = fixture.graph.request().await;
        assert_eq!(request.target(), format!("/v1.0/communications/calls/call-1/{path}"));
        assert_eq!(request.field("authorization"), Some("Bearer made.up.token"));
        assert_eq!(request.json()["callbackUri"], json!(uri));
        assert_eq!(
            fixture.gateway.metric("switchboard_actions_total", &[("action", path), ("result", "ok")]).await,
            1.0
        );
        fixture.bot.expect_nothing();
    }
}

#[tokio::test]
async fn the_instance_is_notified_when_graph_refuses_its_action() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    let refusal = r#"{"error":{"code":"7504","message":"Insufficient enterprise tenant permissions."}}"#;
    fixture.graph_responds(&[Reply::with(403, &[("Content-Type", "application/json")], refusal)]);
    let (status, _) = fixture.new_call(ANSWER).await;
    assert_eq!(status, 202);
    let notice = fixture.bot.request().await;
    assert_eq!(notice.field("content-type"), Some("application/vnd.switchboard.action-failed+json"));
    assert_eq!(notice.field("switchboard-call-id"), Some("call-1"));
    let notice = notice.json();
    assert_eq!((&notice["action"], &notice["callId"]), (&json!("answer"), &json!("call-1")));
    assert_eq!(notice["error"]["code"], json!("missing_permission"));
    assert_eq!(notice["error"]["outcomeUnknown"], json!(false));
    let labels = [("action", "answer"), ("result", "missing_permission")];
    assert_eq!(fixture.gateway.metric("switchboard_actions_total", &labels).await, 1.0);
}

#[tokio::test]
async fn an_invalid_action_is_500_and_no_other_instance_is_tried() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    for action in ["", "{", r#"{"action":"dance"}"#, r#"{"action":"reject","reason":"busy","more":1}"#] {
        assert_eq!(fixture.new_call(action).await.0, 500, "{action}");
    }
    fixture.graph.expect_nothing();
    fixture.bot.expect_nothing();

    let issuer = Issuer::start();
    let bot = Instance::start("bot-0");
    let without = Gateway::start(&Settings::new(&issuer, &[&bot])).await;
    bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let response = Request::webhook(&fixture.token, bodies::incoming("call-1")).send(&without).await;
    assert_eq!(response.status(), 500);
}

#[tokio::test]
async fn an_unreadable_action_is_logged_with_its_reason() {
    let mut fixture = GraphFixture::start(|settings| settings.line("placement", "budget = \"1s\"")).await;
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
        fixture.bot.next(reply);
        let response =
            Request::webhook(&fixture.token, bodies::incoming("call-1")).send(&fixture.gateway).await;
        assert_eq!(response.status(), 500, "{reason}");
        fixture.bot.request().await;
        let line = fixture
            .gateway
            .log
            .event(reason, |event| event["outcome"] == "bad_action" && event["reason"] == reason);
        assert_eq!(line.await["instance"], "bot-0");
        let labels = [("action", "unknown"), ("result", reason)];
        assert_eq!(fixture.gateway.metric("switchboard_actions_total", &labels).await, 1.0, "{reason}");
    }
    // One byte less is the largest allowed action.
    let whole = padded.strip_suffix(' ').unwrap();
    fixture.graph_responds(&[Reply::status(202)]);
    assert_eq!(fixture.new_call(whole).await.0, 202);
    fixture.graph.request().await;
    fixture.graph.request().await;
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn a_retry_does_not_repeat_the_action() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    fixture.graph_responds(&[Reply::status(202)]);
    fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let request = Request::webhook(&fixture.token, bodies::incoming("call-1"))
        .replace("X-Microsoft-Skype-Message-ID", "message-1");
    for _ in 0..2 {
        assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    }
    fixture.bot.request().await;
    fixture.graph.request().await;
    fixture.graph.request().await;
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn a_call_is_rejected_as_busy_when_the_fleet_is_full() {
    let mut fixture = GraphFixture::start_full().await;
    fixture.graph_responds(&[Reply::status(202)]);
    let response = Request::webhook(&fixture.token, bodies::incoming("call-1")).send(&fixture.gateway).await;
    assert_eq!(response.status(), 202);
    fixture.graph.request().await;
    let request = fixture.graph.request().await;
    assert_eq!(request.target(), "/v1.0/communications/calls/call-1/reject");
    assert_eq!(request.json(), json!({ "reason": "busy" }));
    let line = fixture.gateway.log.event("a rejection", |event| event["outcome"] == "rejected_as_busy").await;
    assert_eq!((&line["action"], &line["action_result"]), (&json!("reject_as_busy"), &json!("ok")));

    // If Graph is unreachable, the call is refused.
    fixture.graph.stop().await;
    let response = Request::webhook(&fixture.token, bodies::recording("call-2")).send(&fixture.gateway).await;
    assert_eq!(response.status(), 503);
    let line = fixture.gateway.log.event("a refusal", |event| event["outcome"] == "not_placed").await;
    assert_eq!((&line["reason"], &line["action_result"]), (&json!("full"), &json!("unreachable")));
}

#[tokio::test]
async fn a_call_that_an_instance_may_still_answer_is_neither_rejected_nor_redirected() {
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
        let mut fixture = GraphFixture::start(|settings| {
            settings
                .peer("amer")
                .line("callback", "patience = \"1500ms\"")
                .line("placement", &format!("full = \"{full}\""))
                .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()))
        })
        .await;
        fixture.bot.always(Reply::Never);
        let response = Request::webhook(&fixture.token, body.as_str()).send(&fixture.gateway).await;
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")), "{full} {reason}");
        let line = fixture.gateway.log.message("request finished").await;
        assert_eq!((&line["reason"], &line["outcome_unknown"]), (&json!(reason), &json!(1)), "{full}");
        assert_eq!(fixture.gateway.metric("switchboard_outcomes_unknown_total", &[]).await, 1.0, "{full}");
        assert_eq!(fixture.gateway.metric("switchboard_redirects_total", &[]).await, 0.0, "{full}");
        // Once the instance is dead, the call may go to another region. A rejection would be final, and the
        // fleet is not full.
        fixture.bot.stop().await;
        let again = Request::webhook(&fixture.token, body.as_str()).send(&fixture.gateway).await;
        let overflows = full == "overflow:amer" && reason == "outcome_unknown";
        assert_eq!(again.status(), if overflows { 302 } else { 503 }, "{full} {reason}");
        fixture.graph.expect_nothing();
    }
}

/// A rejection is final, so it needs a fleet that says that it is full.
#[tokio::test]
async fn a_call_is_not_rejected_while_the_fleet_is_not_known_or_cannot_be_reached() {
    let issuer = Issuer::start();
    let mut graph = Instance::start("graph");
    let settings = {
        let origin = graph.url().replace("/api/calls", "");
        let secret = format!("secret = {{ file = \"{}\" }}", SEALS[1].0);
        Settings::new(&issuer, &[])
            .line(
                "app",
                &format!("graph = {{ {secret}, authority = \"{origin}\", endpoint = \"{origin}\" }}"),
            )
            .line("placement", "full = \"reject\"")
            .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
    };
    // It receives queries and does not respond.
    let resolver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let silent = resolver.local_addr().unwrap();
    let unknown = settings
        .clone()
        .table(&format!("[fleet.dns]\nname = \"bots.example\"\nport = 3978\nservers = [\"{silent}\"]\n"));
    let starting = Instance::start("bot-0");
    starting.probe(Reply::Never);
    let closed = Port::reserve();
    for (settings, outcome, reason) in [
        (unknown, "fleet_unknown", "fleet_unknown"),
        (settings.clone().instance("bot-0", &starting.url(), ""), "not_placed", "none_reachable"),
        (
            settings.clone().instance("bot-0", &format!("http://{}/", closed.address), ""),
            "not_placed",
            "none_reachable",
        ),
    ] {
        let gateway = Gateway::start_unready(&settings).await;
        for trust in ["skype", "entra"] {
            gateway
                .log
                .event("the keys", |event| event["message"] == "keys refreshed" && event["trust"] == trust)
                .await;
        }
        let call = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
        let refused = call.send(&gateway).await;
        assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")), "{outcome}");
        let line = gateway.log.message("request finished").await;
        assert_eq!((&line["outcome"], &line["reason"]), (&json!(outcome), &json!(reason)));
        graph.expect_nothing();
    }
}
