//! Operations: their responses, their notifications, and their ends.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::{CallEvent, CallOutcome, CallRequest, Platform, Protocol, Timeline};

use crate::support::{Act, Reply, Seen, Webhook, call_to, get, platform, platform_with, played, post, send};

/// An answered call that lasts until it is ended.
pub(crate) struct Answered {
    /// The path of the call at Graph.
    pub(crate) path: String,
    pub(crate) timeline: Timeline,
    pub(crate) webhook: Webhook,
}

pub(crate) async fn answered(
    platform: &Platform,
    change: impl FnOnce(CallRequest) -> CallRequest,
) -> Answered {
    answered_by(platform, |_| 202, change).await
}

/// As `answered`, with the status of the response to each later notification.
async fn answered_by(
    platform: &Platform,
    status: impl Fn(&Seen) -> u16 + Send + Sync + 'static,
    change: impl FnOnce(CallRequest) -> CallRequest,
) -> Answered {
    let webhook = Webhook::start(platform, move |seen, _| match seen.kind().as_str() {
        "incoming" => Act::answer(&format!("http://{}/callback", seen.header("host").unwrap())),
        _ => Act::status(status(seen)),
    })
    .await;
    let call = CallRequest {
        protocol: Protocol::Graph,
        duration: Duration::from_secs(600),
        ..call_to(&webhook.url())
    };
    let mut timeline = platform.call(change(call)).unwrap();
    let Some(CallEvent::Call(placed)) = timeline.next().await else { panic!("the first event") };
    webhook.until("participants").await;
    Answered { path: format!("/v1.0/communications/calls/{}", placed.call), timeline, webhook }
}

impl Answered {
    pub(crate) async fn ask(&self, platform: &Platform, method: &str, below: &str, body: &Value) -> Reply {
        let headers = [("Content-Type", "application/json; charset=utf-8")];
        let path = format!("{}{below}", self.path);
        send(platform.address(), method, &path, &headers, &body.to_string()).await
    }

    /// Starts an operation, and returns the response.
    pub(crate) async fn start(&self, platform: &Platform, name: &str, body: &Value) -> Value {
        let reply = self.ask(platform, "POST", &format!("/{name}"), body).await;
        assert_eq!(reply.status, 200, "{name}: {}", reply.body);
        reply.json()
    }

    /// Hangs up, and returns the labels of the steps.
    pub(crate) async fn end(self, platform: &Platform) -> (Vec<String>, Webhook) {
        self.ask(platform, "DELETE", "", &Value::Null).await;
        let (words, _, end) = played(self.timeline).await;
        assert!(end.ok, "{end:?}");
        (words, self.webhook)
    }
}

/// Returns the notifications about operations, as `clientContext status code/subcode`.
pub(crate) fn notified(webhook: &Webhook) -> Vec<String> {
    let items = webhook.seen().into_iter().map(|seen| seen.body["value"][0].clone());
    let ended =
        items.filter(|item| item["resourceUrl"].as_str().is_some_and(|url| url.contains("/operations/")));
    let line = |item: Value| {
        assert_eq!(item["changeType"], "deleted");
        let data = &item["resourceData"];
        let (context, status) = (data["clientContext"].as_str().unwrap(), data["status"].as_str().unwrap());
        format!("{context} {status} {}/{}", data["resultInfo"]["code"], data["resultInfo"]["subcode"])
    };
    ended.map(line).collect()
}

#[tokio::test]
async fn an_operation_runs_is_listed_and_its_end_is_notified() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    for (name, odata_type) in [
        ("raiseHand", "comms"),
        ("microsoft.graph.lowerHand", "comms"),
        ("addLargeGalleryView", "addLargeGalleryView"),
    ] {
        let context = format!("context of {name}");
        let reply =
            call.ask(&platform, "POST", &format!("/{name}"), &json!({"clientContext": context})).await;
        let operation = reply.json();
        assert_eq!((reply.status, &operation["status"]), (200, &json!("running")), "{name}");
        assert_eq!(operation["@odata.type"], format!("#microsoft.graph.{odata_type}Operation"));
        assert_eq!((&operation["clientContext"], &operation["resultInfo"]), (&json!(context), &Value::Null));
        let id = operation["id"].as_str().unwrap();
        let location =
            format!("location: {}{}/operations/{id}", platform.origin(), call.path).to_ascii_lowercase();
        assert!(reply.head.to_ascii_lowercase().contains(&location), "{}", reply.head);
        let shown = call.ask(&platform, "GET", &format!("/operations/{id}"), &Value::Null).await;
        assert_eq!((shown.status, &shown.json()["id"]), (200, &json!(id)), "{name}");
    }
    let listed = call.ask(&platform, "GET", "/operations", &Value::Null).await.json();
    assert_eq!(listed["value"].as_array().unwrap().len(), 3);
    let unknown = "/operations/00000000-0000-4000-8000-000000000001";
    assert_eq!(call.ask(&platform, "GET", unknown, &Value::Null).await.status, 404);

    let id = call.path.rsplit('/').next().unwrap();
    let details = get(platform.address(), &format!("/emulator/calls/{id}")).await.json();
    assert_eq!(details["operations"][0]["name"], "raiseHand");
    let (_, webhook) = call.end(&platform).await;
    assert_eq!(
        notified(&webhook),
        [
            "context of raiseHand completed 200/0",
            "context of microsoft.graph.lowerHand completed 200/0",
            "context of addLargeGalleryView completed 200/0",
        ]
    );
}

#[tokio::test]
async fn operations_are_immediate_on_request_and_then_not_notified() {
    let immediate = "immediate:raiseHand".parse().unwrap();
    let platform = platform_with(|settings| switchboard_emulator::PlatformSettings {
        operations: immediate,
        ..settings
    })
    .await;
    let call = answered(&platform, |call| call).await;
    let raised = call.start(&platform, "raiseHand", &json!({"clientContext": "up"})).await;
    assert_eq!((&raised["status"], &raised["resultInfo"]["code"]), (&json!("completed"), &json!(200)));
    let lowered = call.start(&platform, "lowerHand", &json!({"clientContext": "down"})).await;
    assert_eq!(lowered["status"], "running");
    let (_, webhook) = call.end(&platform).await;
    assert_eq!(notified(&webhook), ["down completed 200/0"]);

    let all =
        answered(&platform, |call| CallRequest { operations: Some("immediate".parse().unwrap()), ..call });
    let all = all.await;
    assert_eq!(all.start(&platform, "lowerHand", &json!({})).await["status"], "completed");
    let (_, webhook) = all.end(&platform).await;
    assert_eq!(notified(&webhook), [""; 0]);
}

#[tokio::test]
async fn what_is_not_served_is_an_error_of_graph_in_the_timeline() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    for below in ["/levitate", "/participants/x/levitate", "/a/b/c/d"] {
        let reply = call.ask(&platform, "POST", below, &json!({})).await;
        assert_eq!(reply.status, 400, "{below}");
        assert!(reply.json()["error"]["innerError"]["request-id"].is_string(), "{below}: {}", reply.body);
    }
    for (method, below) in [("PATCH", ""), ("GET", "/answer"), ("POST", "/operations")] {
        assert_eq!(call.ask(&platform, method, below, &json!({})).await.status, 405, "{method} {below}");
    }
    let (words, _) = call.end(&platform).await;
    for status in [400, 405] {
        let line = format!("not served {status}");
        assert_eq!(words.iter().filter(|word| **word == line).count(), 3, "{words:?}");
    }
}

/// A body of `sendDtmfTones` that takes a minute.
fn slow(context: &str) -> Value {
    json!({"clientContext": context, "tones": ["tone1"], "delayBetweenTonesMs": 60_000})
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_was_accepted_is_notified() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let mut accepted = Vec::new();
    let refused = loop {
        let context = format!("{}", accepted.len());
        let reply = call.ask(&platform, "POST", "/sendDtmfTones", &slow(&context)).await;
        if reply.status != 200 {
            break reply;
        }
        accepted.push(format!("{context} failed 400/8508"));
    };
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (429, &json!("TooManyRequests")));
    assert!(accepted.len() <= 32, "{}", accepted.len());
    let long = json!({"clientContext": "x".repeat(257)});
    let reply = call.ask(&platform, "POST", "/mute", &long).await;
    assert!(reply.status == 400 && reply.body.contains("256 characters"), "{}", reply.body);
    let (_, webhook) = call.end(&platform).await;
    assert_eq!(notified(&webhook), accepted);
}

#[tokio::test]
async fn a_bot_that_refuses_the_end_of_an_operation_gets_the_other_ends() {
    let platform = platform().await;
    let refuses = |seen: &Seen| if seen.body.to_string().contains("refused") { 404 } else { 202 };
    let call =
        answered_by(&platform, refuses, |call| CallRequest { expect: CallOutcome::Lost, ..call }).await;
    call.start(&platform, "sendDtmfTones", &slow("one")).await;
    call.start(&platform, "sendDtmfTones", &slow("two")).await;
    call.start(&platform, "raiseHand", &json!({"clientContext": "refused"})).await;
    let (_, _, end) = played(call.timeline).await;
    assert!(end.ok, "{end:?}");
    let expected = ["refused completed 200/0", "one failed 400/8508", "two failed 400/8508"];
    assert_eq!(notified(&call.webhook), expected);
}

#[tokio::test]
async fn an_operation_is_notified_also_if_the_bot_refuses_its_roster() {
    let platform = platform().await;
    let refuses = |seen: &Seen| {
        let people = seen.body["value"][0]["resourceData"].as_array();
        let changed =
            |people: &Vec<Value>| people.len() > 2 || people.iter().any(|one| one["isMuted"] == true);
        if people.is_some_and(changed) { 404 } else { 202 }
    };
    let invited = json!([{"identity": {"user": {"id": "u"}}}]);
    for (name, body) in [
        ("mute", json!({"clientContext": "c"})),
        ("participants/invite", json!({"clientContext": "c", "participants": invited})),
    ] {
        let call = answered_by(&platform, refuses, |call| CallRequest { expect: CallOutcome::Lost, ..call });
        let call = call.await;
        call.start(&platform, name, &body).await;
        let (_, _, end) = played(call.timeline).await;
        assert!(end.ok, "{end:?}");
        assert_eq!(notified(&call.webhook), ["c failed 400/8508"], "{name}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_its_operations_in_silence() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    call.start(&platform, "sendDtmfTones", &slow("one")).await;
    let path = format!("/emulator/calls/{}", call.path.rsplit('/').next().unwrap());
    post(platform.address(), &format!("{path}/steps"), r#"{"do":"drop"}"#).await;
    played(call.timeline).await;
    assert_eq!(notified(&call.webhook), [""; 0]);
    assert_eq!(get(platform.address(), &path).await.json()["operations"][0]["status"], "failed");
}
