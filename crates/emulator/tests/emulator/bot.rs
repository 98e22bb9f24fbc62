//! The small bot over HTTP: its calls, health, refusals, drain and actions.

use std::time::Duration;

use serde_json::json;
use switchboard_emulator::{
    AnswerMode, Behaviour, Bot, BotSettings, CallOutcome, Client, Platform, Protocol, parse_http_url,
};

use crate::support::{call_to, get, platform, played, post, request};

/// A notification of the new call `a1`.
const NEW_CALL: &str = r#"{"value":[
    {"changeType":"created","resource":"/app/calls/a1","resourceData":{"state":"incoming"}}
]}"#;

async fn bot(platform: &Platform, capacity: Option<usize>) -> Bot {
    let incarnation = Some("0b1e3f5c-7a2d-4c1e".to_owned());
    let settings = BotSettings::new("bot-<0>", parse_http_url(platform.origin()).unwrap());
    let settings = BotSettings { capacity, incarnation, ..settings };
    Bot::start(settings, Client::new(None).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_bot_takes_a_call_without_a_gateway() {
    let platform = platform().await;
    let bot = bot(&platform, Some(2)).await;
    let webhook = format!("http://{}/api/calls", bot.address());
    let (_, _, end) = played(platform.call(call_to(&webhook)).unwrap()).await;
    assert!(end.ok, "{end:?}");

    let calls = bot.calls();
    let [call] = calls.calls.as_slice() else { panic!("one call: {calls:?}") };
    assert_eq!(call.notifications, ["incoming", "establishing", "established", "roster", "terminated"]);
    assert_eq!((call.state.as_str(), call.count, call.duplicates), ("ended", 5, 0));
    assert_eq!((calls.taken, calls.active, calls.strays), (1, 0, 0));
    assert_eq!(get(bot.address(), "/calls").await.json(), serde_json::to_value(&calls).unwrap());
    let page = get(bot.address(), "/").await;
    assert!(
        page.body.contains(&call.id) && page.body.contains("bot-&lt;0&gt;") && !page.body.contains("<0>")
    );
    assert!(page.head.to_ascii_lowercase().contains("content-security-policy"));
}

#[tokio::test]
async fn a_bot_that_hangs_on_notifications_still_answers_its_probe() {
    let platform = platform().await;
    let fail = Some("hang".parse().unwrap());
    let settings = BotSettings {
        behaviour: Behaviour { fail, ..Behaviour::default() },
        ..BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap())
    };
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    let notification = post(bot.address(), "/api/calls", NEW_CALL);
    let probe = async { get(bot.address(), "/healthz").await.json() };
    tokio::select! {
        biased;
        reply = notification => panic!("the bot responded {}", reply.status),
        health = probe => assert_eq!((&health["state"], &health["calls"]), (&json!("ready"), &json!(0))),
    }
    assert_eq!(bot.calls().taken, 0);
}

#[tokio::test]
async fn health_has_state_calls_and_capacity() {
    let platform = platform().await;
    let unbounded = bot(&platform, None).await;
    let expected = json!({"state": "ready", "calls": 0, "incarnation": "0b1e3f5c-7a2d"});
    assert_eq!(get(unbounded.address(), "/healthz").await.json(), expected);
    let full = bot(&platform, Some(0)).await;
    let expected = json!({"state": "full", "calls": 0, "capacity": 0, "incarnation": "0b1e3f5c-7a2d"});
    assert_eq!(get(full.address(), "/healthz").await.json(), expected);

    let mut call = call_to(&format!("http://{}/", full.address()));
    call.protocol = Protocol::Graph;
    call.answer_within = Duration::from_millis(300);
    call.expect = CallOutcome::Undelivered;
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok || end.outcome == "unanswered", "{end:?}");
    assert_eq!(full.calls().taken, 0);
}

#[tokio::test]
async fn a_new_call_for_another_incarnation_is_refused() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let other = NEW_CALL.replace("a1", "b2");
    for (incarnation, body, status) in [
        ("0b1e3f5c-7a2e", NEW_CALL, 503),
        ("0b1e3f5c-7a2d", NEW_CALL, 202),
        // The call is not new to this bot, so its own callback URI names this incarnation.
        ("0b1e3f5c-7a2e", NEW_CALL, 202),
        ("0", &other, 202),
    ] {
        let headers = [("Switchboard-Incarnation", incarnation)];
        let response = crate::support::send(bot.address(), "POST", "/", &headers, body).await;
        assert_eq!(response.status, status, "{incarnation}");
    }
    assert_eq!((bot.calls().taken, bot.calls().refused), (2, 0));
    // Each process reports another incarnation unless it is given.
    let settings = BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap());
    let mut seen = std::collections::HashSet::new();
    for _ in 0..2 {
        let bot = Bot::start(settings.clone(), Client::new(None).unwrap()).await.unwrap();
        let incarnation = get(bot.address(), "/healthz").await.json()["incarnation"].clone();
        assert_eq!(incarnation.as_str().unwrap().len(), BotSettings::INCARNATION_BYTES);
        assert!(seen.insert(incarnation.to_string()));
    }
}

#[tokio::test]
async fn a_notification_about_an_unknown_call_is_a_stray() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let body = json!({"value": [
        {
            "changeType": "updated",
            "resource": "/app/calls/not-mine",
            "resourceData": {"state": "established"},
        },
    ]});
    for _ in 0..3 {
        assert_eq!(post(bot.address(), "/anything", &body.to_string()).await.status, 202);
    }
    let calls = get(bot.address(), "/calls").await.json();
    assert_eq!((&calls["strays"], &calls["calls"]), (&json!(3), &json!([])));
    assert_eq!(calls["stray_calls"][0], json!({"id": "not-mine", "kind": "established"}));
}

#[tokio::test]
async fn a_repeated_notification_is_counted_as_a_duplicate() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let address = bot.address();
    let body = NEW_CALL;
    let head = "X-Microsoft-Skype-Message-ID: m1\r\nSwitchboard-Callback-Uri: http://127.0.0.1:9/cb";
    let length = body.len();
    let text = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{head}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    for _ in 0..2 {
        assert_eq!(crate::support::exchange(address, &text).await.status, 202);
    }
    let calls = bot.calls();
    assert_eq!((calls.taken, calls.calls[0].count, calls.calls[0].duplicates), (1, 2, 1));
    assert_eq!(calls.calls[0].callback_uri, "http://127.0.0.1:9/cb");
}

#[tokio::test]
async fn a_body_that_is_not_a_notification_is_refused() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let legacy = r#"{"id":"1","participants":[],"callState":"incoming"}"#;
    assert_eq!(post(bot.address(), "/", legacy).await.status, 204);
    let escaping = r#"{"value":[{"changeType":"created","resource":"/app/calls/..%2f","resourceData":{}}]}"#;
    let deep = "[".repeat(10_000);
    for body in ["", "null", "{}", r#"{"value":[]}"#, r#"{"value":[7]}"#, escaping, deep.as_str()] {
        assert_eq!(post(bot.address(), "/", body).await.status, 400, "{}", body.len());
    }
    assert_eq!(get(bot.address(), "/nothing").await.status, 404);
    assert_eq!(request(bot.address(), "DELETE", "/", "").await.status, 405);
    assert_eq!(bot.calls().strays, 0);
}

#[tokio::test]
async fn a_draining_bot_takes_no_new_call_until_it_resumes() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let new_call = |id: &str| {
        json!({"value": [{
            "changeType": "created",
            "resource": format!("/app/calls/{id}"),
            "resourceData": {"state": "incoming"},
        }]})
        .to_string()
    };
    let drained = post(bot.address(), "/drain", "").await;
    let expected = json!({"state": "draining", "calls": 0, "incarnation": "0b1e3f5c-7a2d"});
    assert_eq!(drained.json(), expected);
    assert_eq!(post(bot.address(), "/", &new_call("a1")).await.status, 503);
    assert!(bot.calls().draining && get(bot.address(), "/").await.body.contains("(draining)"));
    assert_eq!(post(bot.address(), "/resume", "").await.json()["state"], "ready");
    assert_eq!(post(bot.address(), "/", &new_call("a1")).await.status, 202);
}

#[tokio::test]
async fn a_draining_bot_stops_after_its_last_call() {
    let platform = platform().await;
    let bot = bot(&platform, None).await;
    let address = bot.address();
    let mut call = call_to(&format!("http://{address}/api/calls"));
    call.duration = Duration::from_secs(60);
    let timeline = platform.call(call).unwrap();
    while bot.calls().calls.iter().all(|call| call.state != "established") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let call_id = bot.calls().calls[0].id.clone();
    let drained = tokio::spawn(bot.drain());
    while get(address, "/healthz").await.json()["state"] != "draining" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(post(address, "/", NEW_CALL).await.status, 503);
    let path = format!("/v1.0/communications/calls/{call_id}");
    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 204);
    let (words, _, end) = played(timeline).await;
    assert!(end.ok && words.last().is_some_and(|last| last == "terminated 202"), "{end:?} {words:?}");
    drained.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "the bot still listens");
}

#[tokio::test]
async fn a_response_asks_the_gateway_for_an_action() {
    let platform = platform().await;
    let body = NEW_CALL;
    for (answer, action) in [
        (AnswerMode::Action, "answer"),
        (AnswerMode::ActionReject, "reject"),
        (AnswerMode::ActionRedirect, "redirect"),
    ] {
        let behaviour = Behaviour { answer, ..Behaviour::default() };
        let settings = BotSettings {
            behaviour,
            ..BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap())
        };
        let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
        let reply = post(bot.address(), "/", body).await;
        let content_type = "content-type: application/vnd.switchboard.action+json";
        assert!(reply.head.to_ascii_lowercase().contains(content_type), "{}", reply.head);
        assert_eq!((reply.status, &reply.json()["action"]), (200, &json!(action)));
        // The same call again, as if the first response was lost. It is taken once and gets its action again.
        let again = post(bot.address(), "/", body).await;
        assert_eq!((again.status, &again.body), (200, &reply.body));
        let calls = bot.calls();
        let active = usize::from(answer == AnswerMode::Action);
        assert_eq!((calls.taken, calls.active, calls.calls[0].count), (1, active, 2));
    }
}

#[tokio::test]
async fn a_failed_action_ends_the_call_for_the_bot() {
    let platform = platform().await;
    let behaviour = Behaviour { answer: AnswerMode::Action, ..Behaviour::default() };
    let settings =
        BotSettings { behaviour, ..BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap()) };
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    assert_eq!(post(bot.address(), "/", NEW_CALL).await.status, 200);
    assert_eq!((bot.calls().calls[0].state.as_str(), bot.calls().active), ("taken", 1));

    let body = r#"{"action":"answer","callId":"A1","error":{
        "code":"missing_permission","message":"Graph <said> no","outcomeUnknown":false}}"#;
    let headers = [("Content-Type", "application/vnd.switchboard.action-failed+json")];
    assert_eq!(crate::support::send(bot.address(), "POST", "/", &headers, body).await.status, 202);
    let calls = bot.calls();
    assert_eq!((calls.calls[0].state.as_str(), calls.active), ("failed", 0));
    let why = "the gateway's answer failed: missing_permission; Graph <said> no";
    assert_eq!(calls.calls[0].failure.as_deref(), Some(why));
    // The platform did not send it, so it is not counted as a notification.
    assert_eq!(
        (calls.calls[0].count, &calls.calls[0].notifications[..]),
        (1, ["incoming", "action failed"].map(str::to_owned).as_slice())
    );
    let page = get(bot.address(), "/").await.body;
    assert!(
        page.contains("failed: the gateway&#39;s answer failed: missing_permission; Graph &lt;said&gt; no"),
        "{page}"
    );
}

#[tokio::test]
async fn an_action_with_unknown_outcome_leaves_the_call_active() {
    let platform = platform().await;
    let behaviour = Behaviour { answer: AnswerMode::Action, ..Behaviour::default() };
    let settings =
        BotSettings { behaviour, ..BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap()) };
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    let item = |change: &str, state: &str| {
        let item =
            json!({"changeType": change, "resource": "/app/calls/a1", "resourceData": {"state": state}});
        json!({"value": [item]}).to_string()
    };
    assert_eq!(post(bot.address(), "/", &item("created", "incoming")).await.status, 200);
    let body = r#"{"action":"answer","callId":"a1","error":{"code":"timeout","outcomeUnknown":true}}"#;
    let headers = [("Content-Type", "application/vnd.switchboard.action-failed+json; charset=utf-8")];
    assert_eq!(crate::support::send(bot.address(), "POST", "/", &headers, body).await.status, 202);
    assert_eq!((bot.calls().active, bot.calls().calls[0].state.as_str()), (1, "taken"));
    assert_eq!(post(bot.address(), "/", &item("updated", "established")).await.status, 202);
    let call = bot.calls().calls[0].clone();
    let why = "the gateway's answer may have failed: timeout";
    assert_eq!((call.state.as_str(), call.failure.as_deref()), ("established", Some(why)));
    assert!(
        get(bot.address(), "/")
            .await
            .body
            .contains("established: the gateway&#39;s answer may have failed: timeout")
    );
}
