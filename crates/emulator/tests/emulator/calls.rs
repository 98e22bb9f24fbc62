//! Calls to a scripted webhook: notifications, redirects, retries, and their limits.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::{CallKind, CallOutcome, Platform, Protocol};

use crate::support::{APP, Act, Webhook, call_to, get, platform, played, post, request, verify};

const CALLBACK: &str = "/callbacks/bot-0";

/// A webhook that responds 204 to the legacy form, answers new calls, and acknowledges all else.
async fn good_webhook(platform: &Platform) -> Webhook {
    Webhook::start(platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}{CALLBACK}", seen.header("host").unwrap())),
        _ => Act::status(202),
    })
    .await
}

#[tokio::test]
async fn a_call_goes_from_legacy_to_terminated() {
    let platform = platform().await;
    let webhook = good_webhook(&platform).await;
    let (steps, _, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert!(end.ok && end.outcome == "completed", "{end:?}");
    assert_eq!(end.callback_uri, Some(format!("http://{}{CALLBACK}", webhook.address)));
    assert!(end.answered_ms.is_some());
    let expected = [
        "incoming (legacy) 204",
        "answer 202",
        "incoming 202",
        "establishing 202",
        "established 202",
        "roster 202",
        "terminated 202",
    ];
    // The answer, the response to the first notification and the next one overlap.
    let (mut steps, mut expected) = (steps, expected.map(str::to_owned).to_vec());
    assert_eq!(steps.last(), expected.last());
    steps.sort();
    expected.sort();
    assert_eq!(steps, expected);

    let seen = webhook.seen();
    let kinds = ["legacy", "incoming", "establishing", "established", "participants", "terminated"];
    assert_eq!(webhook.kinds(), kinds);
    let keys = get(platform.address(), "/v1/keys").await.json();
    let mut message_ids = Vec::new();
    for (index, request) in seen.iter().enumerate() {
        assert_eq!(request.path, if index < 2 { "/api/calls" } else { CALLBACK });
        assert_eq!(request.header("user-agent"), Some("Microsoft-Skype/3.0,(Calling/1.0)"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("accept"), Some("application/json"));
        assert_eq!(request.header("connection"), Some("close"));
        assert_eq!(
            request.header("x-microsoft-skype-chain-id"),
            seen[0].header("x-microsoft-skype-chain-id")
        );
        let first = index < 2;
        assert_eq!(request.header("x-microsoft-skype-caller-region"), first.then_some("emea"));
        assert_eq!(request.header("scenario-id").is_none(), first);
        for name in ["ms-teams-ring", "ms-teams-partition", "ms-teams-region"] {
            assert!(request.header(name).is_some(), "{name}");
        }
        let token = request.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
        let (_, claims, _) = verify(token, &keys).unwrap();
        assert_eq!(claims["aud"], APP.to_string().as_str());
        message_ids.push(request.header("x-microsoft-skype-message-id").unwrap().to_owned());
    }
    message_ids.sort();
    message_ids.dedup();
    assert_eq!(message_ids.len(), seen.len());
    let incoming = &seen[1].body["value"][0]["resourceData"];
    assert_eq!(seen[0].body["id"], incoming["id"], "the same call in both forms");
    assert_eq!(Some(incoming["callChainId"].as_str().unwrap()), seen[1].header("x-microsoft-skype-chain-id"));
}

#[tokio::test]
async fn a_recording_bot_has_five_seconds_and_gets_its_operation() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "incoming" => Act::answer(&format!("http://{}/", seen.header("host").unwrap())),
        "established" => Act::Ask {
            method: "POST",
            action: "/updateRecordingStatus",
            body: json!({"clientContext": "c", "status": "recording"}).to_string(),
        },
        _ => Act::status(202),
    })
    .await;
    let mut call = call_to(&webhook.url()).with_kind(CallKind::Recording);
    assert_eq!(call.answer_within, Duration::from_secs(5));
    call.protocol = Protocol::Graph;
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let kinds = ["incoming", "establishing", "established", "participants", "operations", "terminated"];
    assert_eq!(webhook.kinds(), kinds);
    let operation = webhook.seen()[4].body["value"][0]["resourceData"].clone();
    assert_eq!((&operation["clientContext"], &operation["status"]), (&json!("c"), &json!("completed")));
}

#[tokio::test]
async fn a_redirect_keeps_the_method_the_body_and_the_message_id() {
    let platform = platform().await;
    for status in [302, 307, 308] {
        let other = good_webhook(&platform).await;
        let location = format!("http://{}/elsewhere?switchboard-from=emea", other.address);
        let webhook = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
            "legacy" => Act::status(204),
            _ => Act::Status(status, Some(location.clone())),
        })
        .await;
        let (_, steps, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
        assert!(end.ok, "{end:?}");
        let (first, second) = (&webhook.seen()[1], &other.seen()[0]);
        assert_eq!(second.path, "/elsewhere?switchboard-from=emea");
        assert_eq!(first.body, second.body);
        let id = "x-microsoft-skype-message-id";
        assert_eq!(first.header(id), second.header(id));
        assert_eq!(first.header("authorization"), second.header("authorization"));
        let redirected = steps.iter().find(|step| step.status == Some(status)).unwrap();
        assert!(redirected.note.as_ref().unwrap().contains("/elsewhere"));
    }
}

#[tokio::test]
async fn a_call_is_redirected_three_times_at_most() {
    let platform = platform().await;
    let webhook =
        Webhook::start(&platform, |_, _| Act::Status(302, Some("/api/calls?again".to_owned()))).await;
    let mut call = call_to(&webhook.url());
    call.expect = CallOutcome::Undelivered;
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok && end.reason.contains("redirected more than 3 times"), "{end:?}");
    assert_eq!(webhook.seen().len(), 4);

    let webhook = Webhook::start(&platform, |_, _| Act::Status(302, Some("ftp://x/".to_owned()))).await;
    let (_, _, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert!(end.reason.contains("302 Found without a usable Location"), "{end:?}");
}

#[tokio::test]
async fn a_server_error_is_retried_under_the_same_message_id() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, before| match (seen.kind().as_str(), before) {
        (_, 0) => Act::status(503),
        (_, 1) => Act::Hang,
        ("legacy", _) => Act::status(204),
        ("incoming", _) => Act::answer(&format!("http://{}/", seen.header("host").unwrap())),
        _ => Act::status(200),
    })
    .await;
    let (_, steps, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let seen = webhook.seen();
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("x-microsoft-skype-message-id").unwrap()).collect();
    assert_eq!((ids[0], ids[1]), (ids[1], ids[2]));
    assert_ne!(ids[2], ids[3]);
    assert_eq!(steps.iter().map(|step| step.attempt).take(3).collect::<Vec<_>>(), [1, 2, 3]);
}

#[tokio::test]
async fn a_refusal_is_not_retried() {
    let platform = platform().await;
    for status in [400, 401, 403, 404] {
        let webhook = Webhook::start(&platform, move |_, _| Act::status(status)).await;
        let mut call = call_to(&webhook.url());
        call.expect = CallOutcome::Refused;
        let (_, _, end) = played(platform.call(call).unwrap()).await;
        assert!(end.ok, "{end:?}");
        assert_eq!(end.status, Some(status));
        assert_eq!(webhook.seen().len(), 1);
    }
}

#[tokio::test]
async fn only_204_to_the_legacy_form_asks_for_the_graph_form() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |_, _| Act::status(202)).await;
    let (_, _, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert!(!end.ok && end.reason.contains("only 204 asks for the Graph form"), "{end:?}");
}

#[tokio::test]
async fn an_unanswered_call_ends_at_its_deadline() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        _ => Act::status(202),
    })
    .await;
    let mut call = call_to(&webhook.url());
    call.answer_within = Duration::from_secs(2);
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert_eq!((end.outcome.as_str(), end.ok), ("unanswered", false));
    let reason = "the webhook accepted the notification, but the bot did not answer the call within 2s";
    assert_eq!(end.reason, reason);
    // The call has no callbackUri, so its end is posted to the webhook.
    assert_eq!(webhook.kinds(), ["legacy", "incoming", "terminated"]);
    let late = post(platform.address(), &answer_path(&webhook), &answer_body("https://x.example/")).await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (404, &json!("8522")));
}

#[tokio::test]
async fn an_unreachable_webhook_is_undelivered() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |_, _| Act::Hang).await;
    let mut call = call_to(&webhook.url());
    call.protocol = Protocol::Graph;
    call.answer_within = Duration::from_millis(400);
    drop(webhook);
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    // The connection is refused; on a slow machine the deadline comes first.
    assert!(matches!(end.outcome.as_str(), "undelivered" | "unanswered"), "{end:?}");
}

#[tokio::test]
async fn a_bot_can_reject_and_can_hang_up() {
    let platform = platform().await;
    let rejecting = Webhook::start(&platform, |seen, _| match seen.is_new_call() {
        true => Act::Ask { method: "POST", action: "/reject", body: r#"{"reason":"busy"}"#.to_owned() },
        false => Act::status(204),
    })
    .await;
    let mut call = call_to(&rejecting.url());
    call.expect = CallOutcome::Rejected;
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok && end.reason.ends_with("busy"), "{end:?}");
    assert_eq!(rejecting.kinds(), ["legacy", "incoming", "none"], "the last notification has no state");

    let leaving = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}/", seen.header("host").unwrap())),
        "established" => Act::Ask { method: "DELETE", action: "", body: String::new() },
        _ => Act::status(202),
    })
    .await;
    let mut call = call_to(&leaving.url());
    call.duration = Duration::from_secs(3_600);
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let result =
        leaving.seen().last().unwrap().body.pointer("/value/0/resourceData/resultInfo/subcode").cloned();
    assert_eq!(result, Some(json!(10_550)), "ended by the bot");
}

#[tokio::test]
async fn an_unacknowledged_callback_loses_the_call() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}/", seen.header("host").unwrap())),
        // Microsoft documents no redirect of a callback, so this is a refusal.
        "established" => Act::Status(302, Some("/elsewhere".to_owned())),
        _ => Act::status(202),
    })
    .await;
    let (_, _, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert_eq!(end.reason, "established was not acknowledged: 302 Found");
    assert_eq!((end.outcome.as_str(), end.status), ("lost", Some(302)));
    assert_eq!(webhook.kinds(), ["legacy", "incoming", "establishing", "established", "terminated"]);
}

#[tokio::test]
async fn graph_refuses_invalid_answers_and_unknown_calls() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        _ => Act::status(202),
    })
    .await;
    let timeline = platform.call(call_to(&webhook.url())).unwrap();
    webhook.until("incoming").await;
    let path = answer_path(&webhook);
    let deep = "[".repeat(200);
    let address = platform.address();
    for body in [
        "",
        deep.as_str(),
        "{}",
        &answer_body("http://bot.example/"),
        &answer_body("ftp://127.0.0.1/"),
        &answer_body("https://user@bot.example/"),
        &answer_body("/relative"),
        &answer_body("https://x.example/").replace("audio", "smell"),
        r#"{"callbackUri":"https://x.example/","acceptedModalities":[],"mediaConfig":{}}"#,
    ] {
        let refused = post(address, &path, body).await;
        assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &json!("BadRequest")), "{body}");
    }
    let call = path.trim_end_matches("/answer");
    let unknown = "/v1.0/communications/calls/00000000-0000-4000-8000-000000000000/answer";
    let not_found = post(address, unknown, &answer_body("https://x.example/")).await;
    let error = not_found.json()["error"].clone();
    assert_eq!((not_found.status, &error["code"]), (404, &json!("8522")));
    assert!(error["innerError"]["request-id"].is_string() && error["innerError"]["date"].is_string());
    assert_eq!(get(address, call).await.json()["state"], "incoming");

    let callback = format!("http://{}/", webhook.address);
    assert_eq!(post(address, &path, &answer_body(&callback)).await.status, 202);
    assert_eq!(post(address, &path, &answer_body(&callback)).await.status, 409);
    assert_eq!(post(address, &format!("{call}/keepAlive"), "").await.status, 200);
    assert_eq!(post(address, &format!("{call}/levitate"), "").await.status, 400);
    let (_, _, end) = played(timeline).await;
    assert!(end.ok, "{end:?}");
    assert_eq!(request(address, "DELETE", call, "").await.status, 404);
}

#[tokio::test]
async fn the_control_api_streams_the_timeline() {
    let platform = platform().await;
    let webhook = good_webhook(&platform).await;
    let body = json!({"to": webhook.url(), "kind": "meeting", "duration": "1ms"});
    let reply = post(platform.address(), "/emulator/calls", &body.to_string()).await;
    assert!(reply.head.contains("application/x-ndjson"), "{}", reply.head);
    let lines: Vec<Value> = reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["event"], &lines[0]["kind"]), (&json!("call"), &json!("meeting")));
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["ok"]), (&json!("end"), &json!(true)), "{last}");
}

fn answer_path(webhook: &Webhook) -> String {
    let incoming = webhook.seen().into_iter().find(crate::support::Seen::is_new_call).unwrap();
    format!("/v1.0/communications/calls/{}/answer", incoming.call_id())
}

fn answer_body(callback: &str) -> String {
    json!({
        "callbackUri": callback,
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    })
    .to_string()
}
