//! Actions in an established call: in the responses to callbacks, one after the other at Graph.

use serde_json::{Value, json};

use crate::{
    actions::{ACTION, ANSWER, GraphFixture},
    support::{
        Client, Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, gateway::path_of,
        until,
    },
};

const FAILED: &str = "application/vnd.switchboard.action-failed+json";

fn play(context: &str) -> Value {
    json!({
        "action": "play", "clientContext": context,
        "prompts": [{ "mediaInfo": { "uri": "https://cdn.contoso.com/menu.wav" } }],
    })
}

fn target() -> Value {
    json!({ "identity": { "user": { "id": "0a0a0a0a-1111-4aaa-8bbb-000000000002" } } })
}

impl GraphFixture {
    /// Starts a gateway with one answered call. Returns the path of the callback URI as well.
    async fn answered(more: impl FnOnce(Settings) -> Settings) -> (Self, String) {
        let mut fixture = Self::start(more).await;
        fixture.graph_responds(&[Reply::status(202)]);
        let (status, uri) = fixture.new_call(ANSWER).await;
        assert_eq!(status, 202);
        fixture.graph.request().await;
        fixture.graph.request().await;
        (fixture, path_of(&uri))
    }

    /// The bot responds with `actions` to the next request.
    fn bot_acts(&self, actions: &Value) {
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], &actions.to_string()));
    }

    fn callback(&self, path: &str, body: &str) -> Request {
        Request::post(path, &self.token, body)
    }

    /// Posts a notification of `call_id` to which the bot responds with `actions`.
    async fn acts(&mut self, path: &str, call_id: &str, actions: &Value) {
        self.bot_acts(actions);
        let response =
            self.callback(path, &bodies::updated(call_id, "established")).send(&self.gateway).await;
        assert_eq!((response.status(), response.body.len()), (202, 0), "{actions}");
        assert_eq!(response.field("content-type"), None, "the platform does not receive the actions");
        self.bot.request().await;
    }

    /// Waits for the next request to Graph. Returns its path below the call with its method, and its body.
    async fn at_graph(&mut self) -> (String, Value) {
        let request = self.graph.request().await;
        assert_eq!(request.field("authorization"), Some("Bearer made.up.token"));
        let path = request.target().replace("/v1.0/communications/calls/", "");
        let body = if request.body.is_empty() { Value::Null } else { request.json() };
        (format!("{} {path}", request.method()), body)
    }

    /// Waits for the notice that an action failed.
    async fn notice(&mut self) -> Value {
        let notice = self.bot.request().await;
        assert_eq!(notice.field("content-type"), Some(FAILED));
        notice.json()
    }

    async fn counted(&self, action: &str, result: &str) -> f64 {
        let labels = [("action", action), ("result", result)];
        self.gateway.metric("switchboard_actions_total", &labels).await
    }

    /// Waits until `count` lists and notices are in flight.
    async fn in_progress(&self, count: f64) {
        until(&format!("{count} lists in flight"), async || {
            (self.gateway.metric("switchboard_actions_in_flight", &[]).await == count).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn each_action_is_sent_when_graph_has_accepted_the_one_before() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let (tones, mute) = (json!({ "action": "tones" }), json!({ "action": "mute", "clientContext": "m" }));
    // Graph holds the first one: the platform has its response long before.
    fixture.graph.next(Reply::status(200).held());
    fixture.acts(&path, "call-1", &json!([play("menu"), tones, mute, { "action": "hangup" }])).await;
    let (line, body) = fixture.at_graph().await;
    assert_eq!((line.as_str(), &body["clientContext"]), ("POST call-1/playPrompt", &json!("menu")));
    assert_eq!(body["prompts"][0]["mediaInfo"]["uri"], "https://cdn.contoso.com/menu.wav");
    fixture.in_progress(1.0).await;
    fixture.graph.expect_nothing();
    fixture.graph.release();
    let (line, body) = fixture.at_graph().await;
    assert_eq!(line, "POST call-1/subscribeToTone");
    assert_eq!(body["clientContext"].as_str().map(str::len), Some(36), "generated: {body}");
    assert_eq!(fixture.at_graph().await, ("POST call-1/mute".to_owned(), json!({ "clientContext": "m" })));
    assert_eq!(fixture.at_graph().await, ("DELETE call-1".to_owned(), Value::Null));

    let done = fixture.gateway.log.message("Graph accepted the actions of an instance").await;
    for (field, value) in [
        ("actions", "play,tones,mute,hangup"),
        ("instance", "bot-0"),
        ("call.id", "call-1"),
        ("tenant.id", TENANT),
    ] {
        assert_eq!(done[field], value, "{field}");
    }
    let line = fixture.gateway.log.event("the callback", |event| event["outcome"] == "forwarded").await;
    assert_eq!((&line["action"], &line["action_result"]), (&json!("list"), &json!("queued")));
    for action in ["play", "tones", "mute", "hangup"] {
        assert_eq!(fixture.counted(action, "ok").await, 1.0, "{action}");
    }
    fixture.in_progress(0.0).await;
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn a_list_stops_at_the_first_refusal_and_the_instance_is_notified() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let refusal = r#"{"error":{"code":"7504","message":"Insufficient enterprise tenant permissions."}}"#;
    for reply in [Reply::status(200), Reply::with(403, &[("Content-Type", "application/json")], refusal)] {
        fixture.graph.next(reply);
    }
    let record = json!({ "action": "record", "clientContext": "message" });
    let transfer = json!({ "action": "transfer", "transferTarget": target() });
    fixture.acts(&path, "call-1", &json!([play("menu"), record, transfer])).await;
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    assert_eq!(fixture.at_graph().await.0, "POST call-1/recordResponse");
    let notice = fixture.notice().await;
    let message = notice["error"]["message"].clone();
    assert_eq!(
        notice,
        json!({
            "action": "record", "callId": "call-1", "index": 1, "clientContext": "message",
            "error": { "code": "missing_permission", "message": message, "outcomeUnknown": false },
        })
    );
    for (action, result) in [("play", "ok"), ("record", "missing_permission"), ("transfer", "skipped")] {
        assert_eq!(fixture.counted(action, result).await, 1.0, "{action}");
    }
    let line = fixture.gateway.log.message("Graph did not do the action of an instance").await;
    assert_eq!(
        (&line["action"], &line["index"], &line["reason"], &line["error"]),
        (&json!("record"), &json!(1), &json!("missing_permission"), &message)
    );
    fixture.in_progress(0.0).await;
    fixture.graph.expect_nothing();
    // The next list of the call is none the worse for it.
    fixture.acts(&path, "call-1", &transfer).await;
    let (line, body) = fixture.at_graph().await;
    assert_eq!((line.as_str(), body.get("clientContext")), ("POST call-1/transfer", None));
}

/// A bot without a Graph client has no other way to react to a failure. It gets no second notice: it could
/// respond to each with an action that fails.
#[tokio::test]
async fn a_bot_acts_in_response_to_the_notice_of_a_failure_once() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    for failing in [r#"{"action":"tones"}"#, "{"] {
        fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], failing));
        fixture.graph.next(Reply::status(403));
        if failing == "{" {
            fixture.graph.clear_next();
        }
        // The responses to the notice: actions that Graph refuses.
        fixture.bot_acts(&json!([{ "action": "hangup" }, { "action": "mute" }]));
        fixture.graph.next(Reply::status(404));
        let body = bodies::updated("call-1", "established");
        assert_eq!(fixture.callback(&path, &body).send(&fixture.gateway).await.status(), 202);
        fixture.bot.request().await;
        if failing != "{" {
            assert_eq!(fixture.at_graph().await.0, "POST call-1/subscribeToTone");
        }
        fixture.notice().await;
        assert_eq!(fixture.at_graph().await.0, "DELETE call-1");
        fixture.in_progress(0.0).await;
        fixture.bot.expect_nothing();
        fixture.graph.expect_nothing();
    }
    assert_eq!(fixture.counted("hangup", "call_not_found").await, 2.0);
    assert_eq!(fixture.counted("mute", "skipped").await, 2.0);
}

#[tokio::test]
async fn a_retry_acts_once() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let request = fixture
        .callback(&path, &bodies::updated("call-1", "established"))
        .with("X-Microsoft-Skype-Message-ID", "message-1");
    fixture.graph.next(Reply::status(200).held());
    fixture.bot_acts(&play("menu"));
    // The retries come while Graph is asked, and after it.
    for _ in 0..2 {
        assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    }
    fixture.bot.request().await;
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    fixture.graph.release();
    fixture.in_progress(0.0).await;
    assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    let line = fixture.gateway.log.event("a retry", |event| event["retry"] == "repeated").await;
    assert_eq!((&line["action"], &line["action_result"]), (&json!("play"), &json!("queued")));
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
    // Another message of the same text acts again.
    fixture.bot_acts(&play("menu"));
    let other = request.replace("X-Microsoft-Skype-Message-ID", "message-2");
    assert_eq!(other.send(&fixture.gateway).await.status(), 202);
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
}

/// The platform may be gone before the response: the retry gets it, and the actions go on.
#[tokio::test]
async fn actions_continue_without_their_connection() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let request = fixture
        .callback(&path, &bodies::updated("call-1", "established"))
        .with("X-Microsoft-Skype-Message-ID", "message-1");
    fixture.graph.next(Reply::status(200).held());
    fixture.bot_acts(&json!([play("menu"), { "action": "tones" }]));
    let mut client = Client::connect(fixture.gateway.public).await;
    client.send(request.bytes()).await;
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    client.reset();
    fixture.graph.release();
    assert_eq!(fixture.at_graph().await.0, "POST call-1/subscribeToTone");
    assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    fixture.in_progress(0.0).await;
    fixture.bot.request().await;
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn actions_that_cannot_be_done_are_reported_to_the_instance() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let long = format!("[{}]", vec![r#"{"action":"mute"}"#; 17].join(","));
    let large = format!("{}{}", r#"{"action":"mute"}"#, " ".repeat(64 * 1024));
    let one = bodies::updated("call-1", "established");
    let several = bodies::envelope(&[
        bodies::updated_item("call-1", "established"),
        bodies::updated_item("call-2", "established"),
    ]);
    let none = bodies::envelope(&[bodies::other_item()]);
    let mute = r#"{"action":"mute"}"#;
    for (body, actions, code, message) in [
        (&one, "{", "action_not_json", "line 1, column 1"),
        (&one, ANSWER, "action_wrong_value", "action must be \"play\", "),
        (&one, r#"[{"action":"mute"},{"action":"play"}]"#, "action_missing_member", "[1].prompts is missing"),
        (&one, r#"{"action":"mute","callId":"x"}"#, "action_unknown_member", "callId is unknown"),
        (&one, &long, "action_wrong_value", "1 to 16"),
        (&one, &large, "action_too_large", "65536 bytes"),
        (&several, mute, "several_calls", "several calls"),
        (&none, mute, "no_call", "no call"),
    ] {
        fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], actions));
        let response = fixture.callback(&path, body).send(&fixture.gateway).await;
        assert_eq!((response.status(), response.body.len()), (202, 0), "{code}");
        fixture.bot.request().await;
        let notice = fixture.notice().await;
        assert_eq!((&notice["action"], &notice["error"]["code"]), (&json!("unknown"), &json!(code)));
        assert!(notice["error"]["message"].as_str().unwrap().contains(message), "{notice}");
        assert_eq!(notice.get("callId"), (body == &one).then_some(&json!("call-1")), "{notice}");
        let line = fixture
            .gateway
            .log
            .event(code, |event| event["action_result"] == code && event["outcome"] == "forwarded");
        assert_eq!(line.await["action"], "unknown");
        assert!(fixture.counted("unknown", code).await >= 1.0, "{code}");
    }
    let logged = fixture.gateway.log.message("cannot do the action that an instance replied with").await;
    assert_eq!((&logged["reason"], &logged["call.id"]), (&json!("action_not_json"), &json!("call-1")));
    fixture.graph.expect_nothing();
    fixture.bot.expect_nothing();
}

#[tokio::test]
async fn an_app_without_graph_cannot_act() {
    let issuer = Issuer::start();
    let mut bot = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&bot])).await;
    let token = Token::skype().sign();
    assert_eq!(Request::webhook(&token, bodies::incoming("call-1")).send(&gateway).await.status(), 202);
    let path = path_of(bot.request().await.field("switchboard-callback-uri").unwrap());
    bot.next(Reply::with(200, &[("Content-Type", ACTION)], &play("menu").to_string()));
    let body = bodies::updated("call-1", "established");
    assert_eq!(Request::post(&path, &token, body).send(&gateway).await.status(), 202);
    bot.request().await;
    assert_eq!(bot.request().await.json()["error"]["code"], "graph_not_configured");
}

/// A batch whose items belong to several instances cannot act, and neither can one of several calls.
#[tokio::test]
async fn a_batch_cannot_act() {
    let (mut fixture, _) = GraphFixture::answered(|settings| settings).await;
    // A new call and an item of another call: the instance receives them as two parts.
    let body = bodies::envelope(&[
        bodies::updated_item("call-1", "established"),
        bodies::incoming_item("call-2", "emea"),
    ]);
    fixture.bot.always(Reply::with(200, &[("Content-Type", ACTION)], &play("menu").to_string()));
    let response = Request::webhook(&fixture.token, body).send(&fixture.gateway).await;
    // `play` is no action on a new call, so its part fails as before.
    assert_eq!(response.status(), 503);
    // The two parts, and the notice about the first one, which may come before the second part.
    let mut notices = Vec::new();
    for _ in 0..3 {
        let request = fixture.bot.request().await;
        if request.field("content-type") == Some(FAILED) {
            notices.push(request.json());
        }
    }
    let codes: Vec<_> = notices.iter().map(|notice| &notice["error"]["code"]).collect();
    assert_eq!(codes, ["several_calls"]);
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn an_item_without_callback_uri_acts_as_a_callback_does() {
    let (mut fixture, _) = GraphFixture::answered(|settings| settings).await;
    fixture.bot_acts(&play("menu"));
    let body = bodies::updated("call-1", "established");
    let response = Request::webhook(&fixture.token, body).send(&fixture.gateway).await;
    assert_eq!((response.status(), response.body.len()), (202, 0));
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    let line = fixture.gateway.log.event("the item", |event| event["outcome"] == "unsealed").await;
    assert_eq!((&line["action"], &line["action_result"]), (&json!("play"), &json!("queued")));
}

/// The gateway of the region that owns the call acts. The other one repeats its response to a retry.
#[tokio::test]
async fn actions_in_a_callback_of_another_region_are_done_there() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    let mut settings = Settings::without_fleet(&fixture.issuer)
        .peer_at("emea", &format!("http://{}", fixture.gateway.public));
    settings.region = "amer";
    let other = Gateway::start_unready(&settings).await;
    let request = fixture
        .callback(&path, &bodies::updated("call-1", "established"))
        .with("X-Microsoft-Skype-Message-ID", "message-1");
    fixture.bot_acts(&play("menu"));
    for _ in 0..2 {
        let response = request.send(&other).await;
        assert_eq!((response.status(), response.body.len()), (202, 0));
    }
    assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    fixture.in_progress(0.0).await;
    fixture.bot.request().await;
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn lists_of_one_call_keep_their_order_and_other_calls_do_not_wait() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    fixture.graph.next(Reply::status(200).held());
    fixture.acts(&path, "call-1", &json!([play("one"), play("two")])).await;
    assert_eq!(fixture.at_graph().await.1["clientContext"], "one");
    // A reload changes nothing, except that it forgets the tokens.
    fixture.gateway.signal("HUP");
    fixture.gateway.log.message("configuration reloaded").await;
    fixture.acts(&path, "CALL-1", &play("three")).await;
    fixture.graph.next(GraphFixture::token_response());
    fixture.acts(&path, "call-2", &play("other")).await;
    assert!(fixture.graph.request().await.target().ends_with("/token"));
    assert_eq!(fixture.at_graph().await.1["clientContext"], "other");
    fixture.in_progress(2.0).await;
    fixture.graph.release();
    for context in ["two", "three"] {
        assert_eq!(fixture.at_graph().await.1["clientContext"], context);
    }
}

#[tokio::test]
async fn the_lists_of_a_call_are_limited() {
    let (mut fixture, path) = GraphFixture::answered(|settings| settings).await;
    fixture.graph.always(Reply::status(200).held());
    for _ in 0..8 {
        fixture.acts(&path, "call-1", &play("menu")).await;
    }
    fixture.acts(&path, "call-1", &play("menu")).await;
    assert_eq!(fixture.notice().await["error"]["code"], "too_many_actions");
    fixture.graph.release();
    for _ in 0..8 {
        assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
    }
    fixture.in_progress(0.0).await;
    fixture.graph.expect_nothing();
}

/// Lists outlive their requests, so they have a limit of their own. Nothing was started: the platform posts
/// the notification again.
#[tokio::test]
async fn no_more_lists_are_in_progress_than_requests_may_be_in_flight() {
    let (mut fixture, path) = GraphFixture::answered(|settings| {
        settings.line("limits", "in_flight = 2").line("limits", "in_flight_per_instance = 2")
    })
    .await;
    fixture.graph.always(Reply::status(200).held());
    fixture.acts(&path, "call-1", &play("menu")).await;
    fixture.acts(&path, "call-2", &play("menu")).await;
    fixture.in_progress(2.0).await;
    let request = fixture
        .callback(&path, &bodies::updated("call-3", "established"))
        .with("X-Microsoft-Skype-Message-ID", "message-1");
    fixture.bot_acts(&play("menu"));
    let response = request.send(&fixture.gateway).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    fixture.bot.request().await;
    fixture.graph.release();
    fixture.in_progress(0.0).await;
    fixture.bot_acts(&play("menu"));
    assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    for _ in 0..3 {
        fixture.at_graph().await;
    }
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn a_drain_finishes_lists_and_counts_what_its_deadline_cuts_off() {
    for (deadline, finishes) in [("60s", true), ("1s", false)] {
        let (mut fixture, path) = GraphFixture::answered(|settings| {
            settings.line("listen", &format!("drain = {{ delay = \"0s\", deadline = \"{deadline}\" }}"))
        })
        .await;
        fixture.graph.next(Reply::status(200).held());
        fixture.acts(&path, "call-1", &json!([play("menu"), { "action": "tones" }])).await;
        fixture.acts(&path, "call-1", &json!({ "action": "hangup" })).await;
        assert_eq!(fixture.at_graph().await.0, "POST call-1/playPrompt");
        fixture.gateway.signal("TERM");
        fixture.gateway.log.message("drain started: no longer ready, still accepting connections").await;
        if finishes {
            fixture.graph.release();
            assert_eq!(fixture.at_graph().await.0, "POST call-1/subscribeToTone");
            assert_eq!(fixture.at_graph().await.0, "DELETE call-1");
            assert_eq!(fixture.gateway.exit().await, Some(0));
            continue;
        }
        assert_eq!(fixture.gateway.exit().await, Some(1));
        let line = fixture.gateway.log.message("drain deadline passed: requests were cut off").await;
        assert_eq!((&line["requests"], &line["actions"]), (&json!(0), &json!(2)));
    }
}
