//! The calls of the control API: health, lists, one call, events, steps, and the end.

use std::time::Duration;

use serde_json::{Value, json};
use switchboard_emulator::{CallRequest, Platform, Timeline};

use crate::support::{Act, Webhook, call_to, get, platform, played, request};

/// A webhook that answers new calls, and acknowledges all else.
async fn webhook(platform: &Platform) -> Webhook {
    Webhook::start(platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}/callback", seen.header("host").unwrap())),
        _ => Act::status(202),
    })
    .await
}

/// Places a call that lasts until it is ended.
fn place(platform: &Platform, webhook: &Webhook) -> Timeline {
    let call = CallRequest { duration: Duration::from_secs(60), ..call_to(&webhook.url()) };
    platform.call(call).unwrap()
}

/// Reads the list of calls until it holds what is expected.
async fn until(platform: &Platform, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let list = get(platform.address(), "/emulator/calls").await.json();
        if holds(&list) {
            return list;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the calls never became as expected");
}

#[tokio::test]
async fn a_step_is_played_in_a_live_call_and_ends_it() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let timeline = place(&platform, &webhook);
    let list = until(&platform, |list| list["calls"][0]["state"] == "established").await;
    let id = list["calls"][0]["call"].as_str().unwrap();
    let path = format!("/emulator/calls/{id}");
    let steps = format!("{path}/steps");
    for step in [json!({"do": "tone", "tone": 5}), json!({"do": "terminate", "code": 200, "subcode": 4521})] {
        let reply = request(platform.address(), "POST", &steps, &step.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let (words, _, end) = played(timeline).await;
    assert_eq!(end.outcome, "completed", "{end:?}");
    let late: Vec<&String> = words.iter().rev().take(2).collect();
    assert_eq!(late, ["terminated 202", "tone 5 202"]);

    // The call is kept with all that was sent and received.
    let call = get(platform.address(), &path).await.json();
    assert_eq!(call["call"]["state"], "terminated");
    assert_eq!(call["call"]["outcome"], "completed");
    let events = call["events"].as_array().unwrap();
    assert_eq!((&events[0]["event"], &events.last().unwrap()["event"]), (&json!("call"), &json!("end")));
    let tone = events.iter().find(|event| event["what"] == "tone 5" && event["event"] == "step").unwrap();
    assert!(tone["request"]["body"].as_str().unwrap().contains("toneInfo"), "{tone}");
    assert!(tone["request"]["headers"]["authorization"].as_str().unwrap().starts_with("Bearer "));
    assert_eq!(tone["response"]["status"], 202);
    let answer = events.iter().find(|event| event["what"] == "answer").unwrap();
    assert_eq!(answer["request"]["method"], "POST");
    assert_eq!(answer["response"]["status"], 202);

    let reply = request(platform.address(), "POST", &steps, r#"{"do":"hold"}"#).await;
    assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (409, Some("noSuchCall")));
}

#[tokio::test]
async fn steps_wait_for_each_other_and_a_deleted_call_for_none() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let timeline = place(&platform, &webhook);
    let list = until(&platform, |list| list["calls"][0]["state"] == "established").await;
    let path = format!("/emulator/calls/{}", list["calls"][0]["call"].as_str().unwrap());
    let steps = format!("{path}/steps");
    let started = tokio::time::Instant::now();
    for step in [
        json!({"do": "tone", "tone": 1}),
        json!({"do": "tone", "tone": 2, "after": "100ms"}),
        json!({"do": "wait", "for": "100ms"}),
        json!({"do": "tone", "tone": 3}),
    ] {
        let reply = request(platform.address(), "POST", &steps, &step.to_string()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
    }
    let is_played = |call: &Value| {
        let mut events = call["events"].as_array().unwrap().iter();
        events.any(|event| event["event"] == "step" && event["what"] == "tone 3")
    };
    while !is_played(&get(platform.address(), &path).await.json()) {
        assert!(started.elapsed() < Duration::from_secs(20), "tone 3 was never played");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());

    // Steps that wait need no stack: this many ended the process.
    let wait = json!({"do": "wait", "for": "1h"}).to_string();
    for _ in 0..300 {
        let status = request(platform.address(), "POST", &steps, &wait).await.status;
        assert!(status == 202 || status == 503, "{status}");
    }
    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 204);
    let (words, _, _) = played(timeline).await;
    let tones: Vec<&String> = words.iter().filter(|word| word.starts_with("tone")).collect();
    assert_eq!(tones, ["tone 1 202", "tone 2 202", "tone 3 202"]);
    assert_eq!(words.last().map(String::as_str), Some("terminated 202"));
}

#[tokio::test]
async fn events_are_streamed_from_the_first_to_the_end() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let (_, _, end) = played(platform.call(call_to(&webhook.url())).unwrap()).await;
    assert!(end.ok);
    let list = get(platform.address(), "/emulator/calls").await.json();
    let id = list["calls"][0]["call"].as_str().unwrap();
    let reply = get(platform.address(), &format!("/emulator/calls/{id}/events")).await;
    assert!(reply.head.contains("text/event-stream"), "{}", reply.head);
    let data: Vec<Value> = reply
        .body
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    let whole = get(platform.address(), &format!("/emulator/calls/{id}")).await.json();
    assert_eq!(Value::from(data), whole["events"]);
}

#[tokio::test]
async fn deleted_calls_end_and_are_forgotten() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    let (first, second) = (place(&platform, &webhook), place(&platform, &webhook));
    let established = |list: &Value| {
        let calls = list["calls"].as_array().unwrap();
        calls.len() == 2 && calls.iter().all(|call| call["state"] == "established")
    };
    let list = until(&platform, established).await;
    let newest = list["calls"][0]["call"].as_str().unwrap();
    let path = format!("/emulator/calls/{newest}");
    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 204);
    assert_eq!(get(platform.address(), &path).await.status, 404);
    assert_eq!(request(platform.address(), "DELETE", &path, "").await.status, 404);
    assert_eq!(request(platform.address(), "DELETE", "/emulator/calls", "").await.status, 204);
    for timeline in [first, second] {
        let (words, _, _) = played(timeline).await;
        assert_eq!(words.last().map(String::as_str), Some("terminated 202"));
    }
    let health = get(platform.address(), "/emulator/health").await.json();
    assert_eq!((&health["status"], &health["calls"]["kept"]), (&json!("ok"), &json!(0)));
}

#[tokio::test]
async fn a_step_needs_an_answered_call_and_must_be_one() {
    let platform = platform().await;
    let silent = Webhook::start(&platform, |_, _| Act::status(202)).await;
    let mut call = CallRequest { answer_within: Duration::from_secs(60), ..call_to(&silent.url()) };
    call.protocol = switchboard_emulator::Protocol::Graph;
    let timeline = platform.call(call).unwrap();
    let list = until(&platform, |list| list["calls"][0].is_object()).await;
    let steps = format!("/emulator/calls/{}/steps", list["calls"][0]["call"].as_str().unwrap());
    for (body, status, code) in [
        (r#"{"do":"hold"}"#, 409, "notAnswered"),
        (r#"{"do":"dance"}"#, 400, "badRequest"),
        (r#"{"do":"terminate"}"#, 202, ""),
    ] {
        let reply = request(platform.address(), "POST", &steps, body).await;
        assert_eq!(reply.status, status, "{body} {reply:?}");
        assert_eq!(reply.json()["error"]["code"].as_str().unwrap_or(""), code);
    }
    let (_, _, end) = played(timeline).await;
    assert_eq!(end.reason, "the caller hung up before the bot answered");
    for path in ["/emulator/calls/x", "/emulator/calls/x/events"] {
        assert_eq!(get(platform.address(), path).await.status, 404);
    }
}

#[tokio::test]
async fn a_call_whose_queue_is_full_loses_no_participant_and_can_be_ended() {
    let platform = platform().await;
    let webhook = webhook(&platform).await;
    for ended_by_bot in [true, false] {
        let timeline = place(&platform, &webhook);
        let list = until(&platform, |list| list["calls"][0]["state"] == "established").await;
        let id = list["calls"][0]["call"].as_str().unwrap();
        let path = format!("/v1.0/communications/calls/{id}");
        let people =
            async || get(platform.address(), &format!("{path}/participants")).await.json()["value"].clone();
        while people().await.as_array().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let set_delay = |delay: &'static str| request(platform.address(), "PATCH", "/emulator/faults", delay);
        assert_eq!(set_delay(r#"{"delay":"1s"}"#).await.status, 200);
        let steps = format!("/emulator/calls/{id}/steps");
        while request(platform.address(), "POST", &steps, r#"{"do":"hold"}"#).await.status == 202 {}
        let before = people().await;
        let one = format!("{path}/participants/{}", before[0]["id"].as_str().unwrap());
        let reply = request(platform.address(), "DELETE", &one, "").await;
        assert_eq!((reply.status, reply.json()["error"]["code"].as_str()), (429, Some("TooManyRequests")));
        assert_eq!(people().await, before);
        let end = if ended_by_bot { path.clone() } else { format!("/emulator/calls/{id}") };
        assert_eq!(request(platform.address(), "DELETE", &end, "").await.status, 204);
        assert_eq!(set_delay(r#"{"delay":null}"#).await.status, 200);
        let (_, _, end) = played(timeline).await;
        assert!(end.ok, "{end:?}");
    }
}

#[tokio::test]
async fn all_live_calls_end_also_the_ones_that_are_no_longer_listed() {
    let platform = platform().await;
    // It accepts no connection, so the calls stay as they are.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("http://{}/api/calls", silent.local_addr().unwrap());
    for _ in 0..205 {
        let call = CallRequest { answer_within: Duration::from_secs(600), ..call_to(&to) };
        let call = CallRequest { protocol: switchboard_emulator::Protocol::Graph, ..call };
        drop(platform.call(call).unwrap());
    }
    let health = get(platform.address(), "/emulator/health").await.json();
    assert_eq!(health["calls"], json!({"live": 205, "kept": 200}));
    assert_eq!(request(platform.address(), "DELETE", "/emulator/calls", "").await.status, 204);
    for _ in 0..600 {
        let health = get(platform.address(), "/emulator/health").await.json();
        if health["calls"] == json!({"live": 0, "kept": 0}) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("some calls live on");
}
