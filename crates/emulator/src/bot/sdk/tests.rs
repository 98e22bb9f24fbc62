//! The notifications and requests of the SDK, as they were recorded.

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    call::{OpenOperation, OperationEnd, SdkCall},
    calls::{Applied, SdkCalls},
    notification::{Notification, SdkRefusal},
    request::Arguments,
    requests::{request_named, request_names},
};

fn call_item(change: &str, path: &str, data: &Value) -> Value {
    json!({"changeType": change, "resourceUrl": path, "resourceData": data})
}

fn body(items: &[Value]) -> Vec<u8> {
    json!({"value": items}).to_string().into_bytes()
}

const CALL: &str = "/communications/calls/a1";

fn call_data() -> Value {
    json!({"@odata.type": "#microsoft.graph.call", "id": "a1", "state": "incoming"})
}

#[test]
fn a_body_that_the_sdk_cannot_read_is_refused_with_its_text() {
    let deep = format!(r#"{{"value":[{{"a":{}1{}}}]}}"#, "[".repeat(62), "]".repeat(62));
    let good = String::from_utf8(body(&[call_item("created", CALL, &call_data())])).unwrap();
    for (body, expected) in [
        ("hello", "Unable to deserialize the notification."),
        ("[]", "Unable to deserialize the notification."),
        (&deep, "Unable to deserialize the notification."),
        (&format!("{good}x"), "Unable to deserialize the notification."),
        (&format!("/* c */{good}"), "Unable to deserialize the notification."),
        ("", "Unexpected empty message content."),
        ("{}", "Notifications received from server are empty."),
        (r#"{"value":[]}"#, "Notifications received from server are empty."),
    ] {
        let refusal = Notification::read(body.as_bytes()).unwrap_err();
        assert_eq!(refusal.message(), expected, "{body}");
    }
    let mut marked = b"\xef\xbb\xbf".to_vec();
    marked.extend(good.as_bytes());
    assert!(matches!(Notification::read(&marked), Ok(Notification::Items(items)) if items.len() == 1));
    for legacy in [r#"{"callState":"incoming"}"#, r#"{"PresentedModalityTypes":[],"value":[]}"#] {
        assert_eq!(Notification::read(legacy.as_bytes()), Ok(Notification::Legacy));
    }
}

#[test]
fn one_bad_item_refuses_the_whole_body() {
    let without = |name: &str| {
        let mut item = call_item("updated", CALL, &call_data());
        item.as_object_mut().unwrap().remove(name);
        item
    };
    let mut resource_alone = without("resourceUrl");
    resource_alone["resource"] = json!("/app/calls/a1");
    let operation = |context: Value| {
        let data = json!({
            "@odata.type": "#microsoft.graph.playPromptOperation",
            "clientContext": context,
            "status": "completed",
        });
        call_item("deleted", "/communications/calls/a1/operations/o", &data)
    };
    let mut targets = call_data();
    targets["targets"] = json!([{"@odata.type": "#microsoft.graph.participantInfo"}]);
    for (item, expected) in [
        (without("changeType"), SdkRefusal::Item("changeType")),
        (without("resourceUrl"), SdkRefusal::Item("resourceUrl")),
        (resource_alone, SdkRefusal::Item("resourceUrl")),
        (without("resourceData"), SdkRefusal::Item("resourceData")),
        (call_item("updated", CALL, &json!({"id": "a1"})), SdkRefusal::Item("@odata.type in resourceData")),
        (
            call_item("updated", CALL, &json!({"@odata.type": "#microsoft.graph.cake"})),
            SdkRefusal::UnknownType("cake".to_owned()),
        ),
        (operation(Value::Null), SdkRefusal::NoClientContext),
        (operation(json!("")), SdkRefusal::NoClientContext),
        (call_item("created", CALL, &targets), SdkRefusal::Targets),
    ] {
        let good = call_item("created", CALL, &call_data());
        assert_eq!(Notification::read(&body(&[good, item.clone()])), Err(expected), "{item}");
    }
    let Ok(Notification::Items(items)) = Notification::read(&body(&[Value::Null])) else { panic!("an item") };
    assert_eq!(items, [None]);
}

/// Applies items to calls of which `a1` is known, and returns the effect of the last one.
fn applied(calls: &mut SdkCalls, handles_joining: bool, item: &Value) -> Applied {
    let Ok(Notification::Items(items)) = Notification::read(&body(std::slice::from_ref(item))) else {
        panic!("the SDK refuses {item}")
    };
    calls.apply(items[0].as_ref().unwrap(), None, handles_joining)
}

fn known() -> SdkCalls {
    let mut calls = SdkCalls::default();
    let new = applied(&mut calls, true, &call_item("Created", CALL, &call_data()));
    assert_eq!(new, Applied::NewCall("a1".to_owned()));
    calls
}

#[test]
fn joining_reaches_the_handler_in_the_recorded_shapes_only() {
    let data = json!({
        "@odata.type": "#microsoft.graph.participantJoiningNotification",
        "call": {"@odata.type": "#microsoft.graph.call"},
    });
    let below = "/communications/calls/a1/participants";
    for (change, path, handler, reaches, stays) in [
        ("updated", CALL, true, true, true),
        ("created", CALL, true, false, true),
        ("created", below, true, true, true),
        ("created", "/communications/calls/a1/anything", true, true, true),
        ("deleted", CALL, true, true, true),
        ("deleted", CALL, false, false, false),
        ("updated", CALL, false, false, true),
        ("updated", below, true, false, true),
        ("deleted", below, true, false, true),
        ("created", "/communications/calls/a1/participants/p", true, false, true),
        ("updated", "/communications/calls/b2", true, false, true),
    ] {
        let mut calls = known();
        let effect = applied(&mut calls, handler, &call_item(change, path, &data));
        assert_eq!(effect == Applied::Joining, reaches, "{change} {path} {handler}");
        assert_eq!(calls.get("a1").is_some(), stays, "{change} {path} {handler}");
    }
    let mut calls = known();
    let without_call = json!({"@odata.type": "#microsoft.graph.participantJoiningNotification"});
    assert_eq!(applied(&mut calls, true, &call_item("updated", CALL, &without_call)), Applied::Noted);
}

#[test]
fn later_items_are_merged_and_only_deleted_removes_the_call() {
    let mut calls = known();
    let state = |state: Value| json!({"@odata.type": "#microsoft.graph.call", "state": state});
    for (value, expected) in [
        (json!("Established"), Some("established")),
        (json!(8), Some("terminated")),
        (json!("ringing"), None),
        (json!("terminated"), Some("terminated")),
    ] {
        applied(&mut calls, true, &call_item("updated", CALL, &state(value.clone())));
        let call = calls.get("a1").unwrap();
        assert_eq!((call.state(), &call.resource["id"]), (expected, &json!("a1")), "{value}");
    }
    for path in
        ["/app/calls/a1", "/v1.0/communications/calls/a1", "https://g.example/communications/calls/a1"]
    {
        applied(&mut calls, true, &call_item("deleted", path, &state(json!("terminated"))));
        assert!(calls.get("a1").is_some(), "{path}");
    }
    let odd = "Communications/CALLS/A1/?a=1";
    let bare = json!({"@odata.type": "#microsoft.graph.call"});
    applied(&mut calls, true, &call_item("deleted", odd, &bare));
    assert!(calls.get("a1").is_none());
    // A created call needs an id in its resource.
    assert_eq!(applied(&mut calls, true, &call_item("created", CALL, &bare)), Applied::Noted);
}

#[test]
fn rosters_replace_everybody_and_deltas_change_them() {
    let mut call = SdkCall::default();
    let person = |id: &str| json!({"@odata.type": "#microsoft.graph.participant", "id": id});
    call.apply_roster(&json!([person("a"), person("b")]));
    assert_eq!(call.people.len(), 2);
    call.apply_roster(&json!([person("c")]));
    assert_eq!(call.people.len(), 1, "a list is the whole roster");

    let delta = |people: Value| {
        let kind = "#microsoft.graph.deltaParticipants";
        json!([{"@odata.type": kind, "sequenceNumber": 1, "participants": people}])
    };
    let named = |id: &str, left: bool| {
        let removed = if left { json!({"reason": "x"}) } else { Value::Null };
        json!({"info": {"participantId": id}, "removedState": removed})
    };
    call.apply_roster(&delta(json!([named("x", false), named("y", false)])));
    assert_eq!(call.people.len(), 2, "the first delta replaces everybody");
    call.apply_roster(&delta(json!([named("z", false), named("x", true)])));
    let mut people: Vec<_> = call.people.iter().cloned().collect();
    people.sort();
    assert_eq!(people, ["y", "z"]);
    call.apply_roster(&delta(json!([named("q", false), {"info": {}}])));
    assert_eq!(call.people.len(), 2, "a person without a participantId drops the change");
    for ignored in [json!(null), json!({"@odata.type": "#microsoft.graph.deltaParticipants"})] {
        call.apply_roster(&ignored);
        assert_eq!(call.people.len(), 2);
    }
}

#[test]
fn an_operation_ends_by_its_context_its_type_and_its_status() {
    let notice = |kind: &str, context: &str, status: &str| {
        json!({
            "@odata.type": format!("#microsoft.graph.{kind}"),
            "id": "o",
            "clientContext": context,
            "status": status,
            "resultInfo": {"message": "m"},
        })
    };
    for (types, kind, context, status, expected) in [
        (
            &["playPromptOperation"][..],
            "playPromptOperation",
            "c",
            "Completed",
            Some(OperationEnd::Completed),
        ),
        (&["playPromptOperation"], "commsOperation", "c", "completed", None),
        (&["playPromptOperation"], "playPromptOperation", "other", "completed", None),
        (&["playPromptOperation"], "playPromptOperation", "c", "running", None),
        (
            &["playPromptOperation"],
            "playPromptOperation",
            "c",
            "failed",
            Some(OperationEnd::Failed("Unexpected 'Failed' status for operation o. m".to_owned())),
        ),
        (
            &["muteParticipantOperation", "commsOperation"],
            "commsOperation",
            "c",
            "completed",
            Some(OperationEnd::Completed),
        ),
        // The SDK ignores the notification of a recording.
        (&[], "recordOperation", "c", "completed", None),
    ] {
        let mut call = SdkCall::default();
        let (end, mut ended) = oneshot::channel();
        call.open("c".to_owned(), OpenOperation { types, end });
        call.apply_operation(&notice(kind, context, status));
        assert_eq!(ended.try_recv().ok(), expected, "{kind} {context} {status}");
    }
}

fn arguments() -> Arguments {
    [
        ("call", "CALL"),
        ("context", "CTX"),
        ("callback", "https://b.example/cb"),
        ("capacity", "0"),
        ("service", ""),
        ("reason", "Busy"),
        ("status", "Recording"),
        ("tones", "Tone1,Star,Pound"),
        ("prompt", "https://b.example/a.wav"),
        ("resource", "R"),
        ("user", "U"),
        ("participant", "P"),
        ("receivers", "A,B"),
        ("sources", "C"),
        ("name", "bot-0"),
        ("app", "APP"),
        ("tenant", "T"),
        ("thread", "19:meeting_x@thread.v2"),
        ("delta", ""),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[test]
fn each_request_has_the_recorded_path_and_bytes() {
    let recorded: Vec<[String; 4]> = serde_json::from_str(include_str!("recorded.json")).unwrap();
    let written: Vec<[String; 4]> = request_names()
        .map(|name| {
            let request = request_named(name).unwrap();
            let path = request.path(&arguments()).unwrap();
            let body = request.body(&arguments()).unwrap().unwrap_or_default();
            [name.to_owned(), request.method.to_owned(), path, body]
        })
        .collect();
    assert_eq!(written, recorded);
}

#[test]
fn optional_parts_and_hostile_arguments_are_written_as_json() {
    let mut given = arguments();
    given.insert("replaces".to_owned(), "a\"'$user`\\".to_owned());
    let body = request_named("transfer").unwrap().body(&given).unwrap().unwrap();
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["transferTarget"]["replacesCallId"], "a\"'$user`\\");
    given.remove("service");
    given.remove("delta");
    given.insert("blob".to_owned(), "b".to_owned());
    let body: Value =
        serde_json::from_str(&request_named("answer").unwrap().body(&given).unwrap().unwrap()).unwrap();
    assert_eq!(
        body["mediaConfig"],
        json!({"@odata.type": "#microsoft.graph.appHostedMediaConfig", "blob": "b"})
    );
    assert!(body.get("callOptions").is_none());
    given.insert("participant".to_owned(), "../x?y".to_owned());
    let path = request_named("getParticipant").unwrap().path(&given).unwrap();
    assert_eq!(path, "/v1.0/communications/calls/CALL/participants/..%2Fx%3Fy");
    given.remove("participant");
    let missing = request_named("getParticipant").unwrap().path(&given);
    assert_eq!(missing.unwrap_err(), "the argument participant is missing");
}
