//! Requests as Microsoft's calling SDK for .NET writes them, and the notifications that it needs.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::{
    CallEvent, CallKind, CallOutcome, CallRequest, Platform, Protocol, Script, Timeline,
};

use crate::support::{Act, Reply, Webhook, call_to, guarded, platform, played, send};

const SCENARIO: &str = "5b6d1f8a-0000-4000-8000-00000000000a";

/// Headers of each request of the SDK.
const HEADERS: [(&str, &str); 4] = [
    ("Scenario-Id", SCENARIO),
    ("Client-Request-Id", "5b6d1f8a-0000-4000-8000-00000000000b"),
    ("User-Agent", "GraphCommunicationsClient-Bot/1.2.0.18742"),
    ("Content-Type", "application/json; charset=utf-8"),
];

/// The body of `AnswerAsync`.
fn answer(callback: &str, capacity: u32) -> Value {
    json!({
        "acceptedModalities": ["Audio", "VideoBasedScreenSharing"],
        "callbackUri": callback,
        "callOptions": {
            "@odata.type": "#microsoft.graph.incomingCallOptions",
            "isContentSharingNotificationEnabled": true,
            "isDeltaRosterEnabled": true,
        },
        "mediaConfig": {
            "@odata.type": "#microsoft.graph.serviceHostedMediaConfig",
            "preFetchMedia": [{"@odata.type": "#microsoft.graph.mediaInfo", "uri": "https://b.example/a.wav"}],
        },
        "participantCapacity": capacity,
    })
}

async fn ask(platform: &Platform, method: &str, path: &str, body: &Value) -> Reply {
    send(platform.address(), method, path, &HEADERS, &body.to_string()).await
}

/// A webhook that accepts everything and does nothing by itself.
async fn passive(platform: &Platform) -> Webhook {
    Webhook::start(platform, |_, _| Act::status(202)).await
}

/// Places a call that lasts until it is ended. Returns its path at Graph and its timeline.
async fn place(platform: &Platform, change: impl FnOnce(CallRequest) -> CallRequest) -> (String, Timeline) {
    let mut timeline = platform.call(change(call_to("http://127.0.0.1:9/"))).unwrap();
    let Some(CallEvent::Call(placed)) = timeline.next().await else { panic!("the first event") };
    (format!("/v1.0/communications/calls/{}", placed.call), timeline)
}

fn to(webhook: &Webhook) -> impl FnOnce(CallRequest) -> CallRequest {
    let to = webhook.url().parse().unwrap();
    |call| CallRequest { to, protocol: Protocol::Graph, duration: Duration::from_secs(600), ..call }
}

#[tokio::test]
async fn enum_values_are_accepted_in_any_case() {
    let platform = platform().await;
    let webhook = passive(&platform).await;
    for (action, body) in [
        ("answer", answer(&webhook.url(), 0)),
        ("reject", json!({"callbackUri": webhook.url(), "reason": "Busy"})),
        ("reject", json!({"callbackUri": webhook.url(), "reason": "FORBIDDEN"})),
        ("reject", json!({"callbackUri": webhook.url()})),
    ] {
        let (path, timeline) = place(&platform, to(&webhook)).await;
        let reply = ask(&platform, "POST", &format!("{path}/{action}"), &body).await;
        assert_eq!(reply.status, 202, "{action}: {}", reply.body);
        if action == "answer" {
            webhook.until("participants").await;
            for status in ["Recording", "NotRecording", "Failed"] {
                let body = json!({"clientContext": "c", "status": status});
                let path = format!("{path}/updateRecordingStatus");
                assert_eq!(ask(&platform, "POST", &path, &body).await.status, 200, "{status}");
            }
            assert_eq!(ask(&platform, "DELETE", &path, &Value::Null).await.status, 204);
        }
        played(timeline).await;
    }
}

#[tokio::test]
async fn a_capacity_of_zero_asks_for_no_decision_about_people() {
    let platform = platform().await;
    for (capacity, asked) in [(0, false), (1, true)] {
        let webhook = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
            "incoming" => Act::Ask {
                method: "POST",
                action: "/answer",
                body: answer(&format!("http://{}/", seen.header("host").unwrap()), capacity).to_string(),
            },
            _ => Act::status(202),
        })
        .await;
        let mut call = call_to(&webhook.url()).with_kind(CallKind::Recording);
        call.protocol = Protocol::Graph;
        call.participants = 2;
        let (words, _, end) = played(platform.call(call).unwrap()).await;
        assert!(end.ok, "{end:?}");
        assert_eq!(words.iter().any(|word| word.starts_with("participant joining")), asked, "{words:?}");
    }
}

#[tokio::test]
async fn notifications_carry_the_scenario_of_the_answer() {
    let platform = platform().await;
    let webhook = passive(&platform).await;
    let (path, timeline) = place(&platform, to(&webhook)).await;
    let reply = ask(&platform, "POST", &format!("{path}/answer"), &answer(&webhook.url(), 0)).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
    webhook.until("participants").await;
    ask(&platform, "DELETE", &path, &Value::Null).await;
    played(timeline).await;
    let later: Vec<_> = webhook.seen().into_iter().filter(|seen| !seen.is_new_call()).collect();
    assert_eq!(later.len(), 4);
    for seen in later {
        assert_eq!(seen.header("scenario-id"), Some(SCENARIO), "{}", seen.kind());
    }
}

#[tokio::test]
async fn every_operation_has_a_client_context() {
    let platform = platform().await;
    let webhook = passive(&platform).await;
    let script = Script::parse("[[step]]\ndo = \"operation\"\noperation = \"playPrompt\"").unwrap();
    let scripted = |call| CallRequest { script: Some(script), ..to(&webhook)(call) };
    let (path, timeline) = place(&platform, scripted).await;
    ask(&platform, "POST", &format!("{path}/answer"), &answer(&webhook.url(), 0)).await;
    let played_operation = webhook.until("operations").await;
    let context = &played_operation.body["value"][0]["resourceData"]["clientContext"];
    assert!(context.as_str().is_some_and(|context| context.len() == 36), "{context}");

    let body = json!({"status": "Recording"});
    let started = ask(&platform, "POST", &format!("{path}/updateRecordingStatus"), &body).await.json();
    assert!(started["clientContext"].is_string(), "{started}");
    ask(&platform, "DELETE", &path, &Value::Null).await;
    played(timeline).await;
}

#[tokio::test]
async fn a_call_that_is_deleted_before_the_answer_was_ended_by_the_bot() {
    let platform = platform().await;
    let webhook = passive(&platform).await;
    let change = |call| CallRequest { expect: CallOutcome::Ended, ..to(&webhook)(call) };
    let (path, timeline) = place(&platform, change).await;
    webhook.until("incoming").await;
    assert_eq!(ask(&platform, "DELETE", &path, &Value::Null).await.status, 204);
    let (_, _, end) = played(timeline).await;
    assert!(end.ok, "{end:?}");
    assert_eq!(end.reason, "the bot ended the call instead of answering it");
    let last = webhook.seen().last().unwrap().body["value"][0].clone();
    assert_eq!(
        (&last["changeType"], &last["resourceData"]["state"]),
        (&json!("deleted"), &json!("terminated"))
    );
    let result = &last["resourceData"]["resultInfo"];
    assert_eq!((&result["code"], &result["subcode"]), (&json!(200), &json!(10_550)));
}

#[tokio::test]
async fn the_quality_of_a_device_is_logged() {
    let guarded = guarded().await;
    let quality = json!({"quality": {"@odata.type": "#microsoft.graph.teleconferenceDeviceQuality"}});
    let path = "/v1.0/communications/calls/logTeleconferenceDeviceQuality";
    assert_eq!(ask(&guarded, "POST", path, &quality).await.status, 401);

    let platform = platform().await;
    for (method, body, status) in [
        ("POST", &quality, 200),
        ("POST", &json!({}), 400),
        ("POST", &json!([]), 400),
        ("GET", &quality, 405),
    ] {
        let reply = ask(&platform, method, path, body).await;
        assert_eq!((reply.status, reply.body.is_empty()), (status, status == 200), "{method} {body}");
    }
}

#[tokio::test]
async fn each_response_of_graph_has_its_ids_and_an_operation_its_location() {
    let platform = platform().await;
    let webhook = passive(&platform).await;
    let (path, timeline) = place(&platform, to(&webhook)).await;
    let header = |reply: &Reply, name: &str| {
        let mut lines = reply.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let answered = ask(&platform, "POST", &format!("{path}/answer"), &answer(&webhook.url(), 0)).await;
    webhook.until("participants").await;
    let body = json!({"clientContext": "c", "status": "Recording"});
    let started = ask(&platform, "POST", &format!("{path}/updateRecordingStatus"), &body).await;
    let shown = send(platform.address(), "GET", &path, &[], "").await;
    let refused = ask(&platform, "POST", &format!("{path}/answer"), &json!({})).await;
    for reply in [&answered, &started, &shown, &refused] {
        assert_eq!(header(reply, "request-id").map(|id| id.len()), Some(36), "{}", reply.head);
    }
    assert_eq!(header(&answered, "client-request-id").as_deref(), Some(HEADERS[1].1));
    assert_eq!(header(&shown, "client-request-id"), header(&shown, "request-id"));
    let id = started.json()["id"].as_str().unwrap().to_owned();
    let location = format!("{}{path}/operations/{id}", platform.origin());
    assert_eq!(header(&started, "location"), Some(location));
    ask(&platform, "DELETE", &path, &Value::Null).await;
    played(timeline).await;
}
