//! Requests about an answered call that are no operations: transfer, screen sharing, audio routing groups.

use serde_json::{Value, json};
use switchboard_emulator::CallKind;

use crate::{
    operations::{answered, notified},
    support::{Seen, platform, played, request},
};

const CALLEE: &str = "550fae72-d251-43ec-868c-373732c2704f";

fn target(replaces: Option<&str>) -> Value {
    json!({"transferTarget": {
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": {"@odata.type": "#microsoft.graph.identity", "id": CALLEE},
        },
        "replacesCallId": replaces,
    }})
}

fn end(seen: &[Seen]) -> Value {
    seen.last().unwrap().body["value"][0].clone()
}

#[tokio::test]
async fn a_transferred_call_ends_with_the_documented_notifications() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    for (body, expected) in [
        (json!({}), "transferTarget needs an identity with an id"),
        (json!({"transferTarget": {"identity": {"user": {}}}}), "transferTarget needs an identity"),
    ] {
        let reply = call.ask(&platform, "POST", "/transfer", &body).await;
        assert!(reply.status == 400 && reply.body.contains(expected), "{}", reply.body);
    }
    call.start(
        &platform,
        "sendDtmfTones",
        &json!({"clientContext": "keys", "tones": ["Tone1"],
        "delayBetweenTonesMs": 60_000}),
    )
    .await;
    let reply = call.ask(&platform, "POST", "/transfer", &target(None)).await;
    assert_eq!((reply.status, reply.body.as_str()), (202, ""));
    let (words, _, outcome) = played(call.timeline).await;
    assert!(outcome.ok, "{outcome:?}");
    let words: Vec<String> = words.into_iter().filter(|word| word.ends_with(" 202")).collect();
    let expected = ["transferring 202", "transfer accepted 202", "operation 202", "terminated 202"];
    assert_eq!(words[words.len() - 4..], expected);
    assert_eq!(notified(&call.webhook), ["keys failed 400/8508"]);
    let seen = call.webhook.seen();
    let states: Vec<String> = seen.iter().map(Seen::kind).collect();
    assert!(states.iter().any(|state| state == "transferring"), "{states:?}");
    assert!(states.iter().any(|state| state == "transferAccepted"), "{states:?}");
    let last = end(&seen);
    let result = &last["resourceData"]["resultInfo"];
    assert_eq!(
        (&last["changeType"], &last["resourceData"]["state"]),
        (&json!("deleted"), &json!("terminated"))
    );
    assert_eq!((&result["code"], &result["subcode"]), (&json!(0), &json!(7_015)));
}

#[tokio::test]
async fn a_transfer_to_a_busy_callee_fails_and_the_call_goes_on() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let busy = request(platform.address(), "PATCH", "/emulator/faults", r#"{"callee":"busy*1"}"#).await;
    assert_eq!(busy.status, 200, "{busy:?}");
    assert_eq!(call.ask(&platform, "POST", "/transfer", &target(None)).await.status, 202);
    let failed = call.webhook.until("established").await;
    let result = &failed.body["value"][0]["resourceData"]["resultInfo"];
    assert_eq!((&result["code"], &result["subcode"]), (&json!(500), &json!(7_000)));
    assert_eq!(call.ask(&platform, "GET", "", &Value::Null).await.json()["state"], "established");
    call.end(&platform).await;
}

#[tokio::test]
async fn a_transfer_during_another_one_is_ignored() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let slow = request(platform.address(), "PATCH", "/emulator/faults", r#"{"callee":"slow:1h"}"#).await;
    assert_eq!(slow.status, 200, "{slow:?}");
    // Each of them waited inside the one before: this many ended the process.
    for _ in 0..300 {
        let status = call.ask(&platform, "POST", "/transfer", &target(None)).await.status;
        assert!(status == 202 || status == 429, "{status}");
    }
    let (words, webhook) = call.end(&platform).await;
    assert_eq!(webhook.seen().iter().filter(|seen| seen.kind() == "transferring").count(), 1);
    assert!(words.iter().any(|word| word.starts_with("transfer")), "{words:?}");
}

#[tokio::test]
async fn a_consultative_transfer_replaces_a_live_call_of_the_bot() {
    let platform = platform().await;
    let other = answered(&platform, |call| call).await;
    let other_id = other.path.rsplit('/').next().unwrap().to_owned();
    let call = answered(&platform, |call| call).await;
    let own_id = call.path.rsplit('/').next().unwrap().to_owned();
    for unknown in ["e5d39592-99bd-4db8-bca8-30fb894ec51d", "x", own_id.as_str()] {
        let reply = call.ask(&platform, "POST", "/transfer", &target(Some(unknown))).await;
        assert_eq!(reply.status, 202, "{unknown}");
        let failed = call.webhook.until("established").await;
        let result = &failed.body["value"][0]["resourceData"]["resultInfo"];
        assert_eq!((&result["code"], &result["subcode"]), (&json!(500), &json!(7_700)), "{unknown}");
        // The call goes on.
        call.start(&platform, "raiseHand", &json!({})).await;
        call.webhook.until("operations").await;
    }
    assert_eq!(call.ask(&platform, "POST", "/transfer", &target(Some(&other_id))).await.status, 202);
    for timeline in [call.timeline, other.timeline] {
        let (_, _, outcome) = played(timeline).await;
        assert_eq!(outcome.outcome, "completed", "{outcome:?}");
    }
}

#[tokio::test]
async fn everyone_sees_that_the_bot_shares_its_screen() {
    let platform = platform().await;
    let call = answered(&platform, |call| call.with_kind(CallKind::Meeting)).await;
    let reply = call.ask(&platform, "POST", "/changeScreenSharingRole", &json!({"role": "owner"})).await;
    assert!(reply.status == 400 && reply.body.contains("viewer, sharer"), "{}", reply.body);
    for role in ["Sharer", "viewer"] {
        let reply = call.ask(&platform, "POST", "/changeScreenSharingRole", &json!({"role": role})).await;
        assert_eq!((reply.status, reply.body.as_str()), (202, ""), "{role}");
    }
    let (_, webhook) = call.end(&platform).await;
    let rosters = webhook.seen().into_iter().filter(|seen| seen.kind() == "participants");
    let directions: Vec<Value> = rosters
        .map(|seen| seen.body["value"][0]["resourceData"][1]["mediaStreams"][2]["direction"].clone())
        .collect();
    assert_eq!(directions, ["receiveOnly", "sendOnly", "receiveOnly"]);
}

#[tokio::test]
async fn audio_routing_groups_are_created_changed_and_removed() {
    let platform = platform().await;
    let call = answered(&platform, |call| call).await;
    let empty = json!({"value": []});
    for list in ["/audioRoutingGroups", "/contentSharingSessions", "/operations"] {
        let reply = call.ask(&platform, "GET", list, &Value::Null).await;
        assert_eq!((reply.status, reply.json()), (200, empty.clone()), "{list}");
    }
    let body = json!({"@odata.type": "#microsoft.graph.audioRoutingGroup", "receivers": ["a"],
        "routingMode": "OneToOne", "sources": ["b"]});
    let created = call.ask(&platform, "POST", "/audioRoutingGroups", &body).await;
    assert_eq!((created.status, &created.json()["routingMode"]), (201, &json!("oneToOne")));
    let one = format!("/audioRoutingGroups/{}", created.json()["id"].as_str().unwrap());
    let change = json!({"routingMode": "Multicast", "receivers": ["a", "c"]});
    let changed = call.ask(&platform, "PATCH", &one, &change).await.json();
    let shown = call.ask(&platform, "GET", &one, &Value::Null).await.json();
    assert_eq!(changed, shown);
    assert_eq!((&shown["routingMode"], &shown["sources"]), (&json!("multicast"), &json!(["b"])));
    for (body, expected) in [
        (json!({"routingMode": "oneToOne"}), "sources and receivers are needed"),
        (json!({"routingMode": "all", "sources": [], "receivers": []}), "oneToOne, multicast"),
        (
            json!({"id": "a/b", "routingMode": "multicast", "sources": [], "receivers": []}),
            "id takes letters",
        ),
    ] {
        let reply = call.ask(&platform, "POST", "/audioRoutingGroups", &body).await;
        assert!(reply.status == 400 && reply.body.contains(expected), "{}", reply.body);
    }
    for index in 0..32 {
        let body =
            json!({"id": format!("g{index}"), "routingMode": "multicast", "sources": [], "receivers": []});
        let status = if index < 31 { 201 } else { 400 };
        assert_eq!(call.ask(&platform, "POST", "/audioRoutingGroups", &body).await.status, status, "{index}");
    }
    assert_eq!(call.ask(&platform, "DELETE", &one, &Value::Null).await.status, 204);
    assert_eq!(call.ask(&platform, "DELETE", &one, &Value::Null).await.status, 404);
    assert_eq!(call.ask(&platform, "GET", &one, &Value::Null).await.status, 404);
    assert_eq!(call.ask(&platform, "GET", "/contentSharingSessions/x", &Value::Null).await.status, 404);
    call.end(&platform).await;
}
