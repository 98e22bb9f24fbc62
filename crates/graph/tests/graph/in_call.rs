//! Actions in an established call: the types, the schema, the documentation and the requests to Graph agree.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use switchboard_graph::{InCallAction, InCallActionKind, InvalidAction};
use tokio::time::Instant;

use crate::{
    actions::{DOCUMENT, fits_response},
    support::{CALL, Reply, Script, call, calls, nested, now, tenant},
};

const KIND: &str = "inCallResponse";

/// The types and the schema both accept `document`.
#[track_caller]
fn accepted(document: &Value) -> Vec<InCallAction> {
    assert!(fits_response(KIND, document), "{document}");
    InCallAction::parse_list(document.to_string().as_bytes()).unwrap()
}

/// The types and the schema both refuse `document`, with this label and message.
#[track_caller]
fn refused(document: &Value, label: &str, message: &str) {
    assert!(!fits_response(KIND, document), "{document}");
    let error = InCallAction::parse_list(document.to_string().as_bytes()).unwrap_err();
    assert_eq!((error.label(), error.to_string().as_str()), (label, message));
}

/// Returns the requests that Graph receives for `document`: method, path below the call, and body.
#[track_caller]
fn requests(document: &Value) -> Vec<(String, Value)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let script = Script::graph([]);
    runtime.block_on(async {
        let deadline = Instant::now() + Duration::from_secs(5);
        let calls = calls(&script);
        for action in accepted(document) {
            calls.act_in_call(tenant(), &call(), &action, deadline, now()).await.unwrap();
        }
    });
    let base = format!("https://graph.microsoft.com/v1.0/communications/calls/{CALL}");
    let lines = script.lines().into_iter().filter(|line| !line.contains("/oauth2/"));
    let bodies = script.bodies().into_iter().map(|body| serde_json::from_slice(&body).unwrap_or_default());
    lines.map(|line| line.replace(&base, "")).zip(bodies).collect()
}

fn media_prompt() -> Value {
    json!({
        "@odata.type": "#microsoft.graph.mediaPrompt",
        "mediaInfo": {
            "@odata.type": "#microsoft.graph.mediaInfo",
            "uri": "https://cdn.contoso.com/beep.wav",
            "resourceId": "1D6DE2D4-CD51-4309-8DAA-70768651088E",
        },
    })
}

fn user(id: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": { "@odata.type": "#microsoft.graph.identity", "id": id, "displayName": "string" },
        },
        "replacesCallId": "a7ebfb2d-871e-419c-87af-27290b22e8db",
    })
}

/// The bodies of the Graph reference, as a bot copies them: with `action` and unchanged otherwise.
#[test]
fn an_object_of_the_graph_reference_reaches_graph_as_it_is() {
    let context = "d45324c1-fcb5-430a-902c-f20af696537c";
    let phone = json!({
        "@odata.type": "#microsoft.graph.invitationParticipantInfo",
        "endpointType": "default",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "phone": { "@odata.type": "#microsoft.graph.identity", "id": "+12345678901" },
        },
        "languageId": "languageId-value",
        "region": "region-value",
    });
    let transferee = json!({
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": {
            "@odata.type": "#microsoft.graph.identitySet",
            "user": { "@odata.type": "#microsoft.graph.identity", "id": "751f6800" },
        },
        "participantId": "909c6581-5130-43e9-88f3-fcb3582cde37",
    });
    let cases = [
        ("play", "POST /playPrompt", json!({ "clientContext": context, "prompts": [media_prompt()] })),
        (
            "record",
            "POST /recordResponse",
            json!({
                "bargeInAllowed": true, "clientContext": context, "prompts": [media_prompt()],
                "maxRecordDurationInSeconds": 10, "initialSilenceTimeoutInSeconds": 5,
                "maxSilenceTimeoutInSeconds": 2, "playBeep": true, "stopTones": ["#", "11", "*"],
            }),
        ),
        ("tones", "POST /subscribeToTone", json!({ "clientContext": context })),
        (
            "transfer",
            "POST /transfer",
            json!({ "transferTarget": user("550fae72"), "clientContext": context }),
        ),
        ("transfer", "POST /transfer", json!({ "transferTarget": phone, "transferee": transferee })),
        (
            "invite",
            "POST /participants/invite",
            json!({ "participants": [user("7e1b4346"), user("1e126418")], "clientContext": context }),
        ),
        ("mute", "POST /mute", json!({ "clientContext": context })),
        ("hangup", "DELETE ", Value::Null),
    ];
    for (name, line, body) in cases {
        let mut document = if body.is_null() { json!({}) } else { body.clone() };
        document["action"] = json!(name);
        assert_eq!(requests(&document), [(line.to_owned(), body)], "{name}");
        let context = document["clientContext"].as_str();
        let [action] = &accepted(&json!([document]))[..] else { panic!("{name}") };
        assert_eq!((action.kind().as_str(), action.client_context()), (name, context));
    }
}

#[test]
fn a_list_keeps_its_order() {
    let document = json!([{ "action": "tones" }, { "action": "hangup" }, { "action": "mute" }]);
    let lines: Vec<_> = requests(&document).into_iter().map(|(line, _)| line).collect();
    assert_eq!(lines, ["POST /subscribeToTone", "DELETE ", "POST /mute"]);
}

/// Graph's notification of an operation without `clientContext` would be refused by Microsoft's own SDK.
#[test]
fn an_operation_without_client_context_gets_a_random_one() {
    let target = json!({ "identity": { "user": { "id": "a" } } });
    let document = json!([
        { "action": "play", "prompts": [{ "mediaInfo": { "uri": "https://a/" } }] },
        { "action": "record" }, { "action": "tones" }, { "action": "mute" },
        { "action": "invite", "participants": [target] },
        { "action": "transfer", "transferTarget": target },
    ]);
    let bodies: Vec<_> = requests(&document).into_iter().map(|(_, body)| body).collect();
    let mut contexts: Vec<_> = bodies.iter().filter_map(|body| body["clientContext"].as_str()).collect();
    assert!(contexts.iter().all(|context| context.len() == 36), "{contexts:?}");
    assert!(bodies[5].get("clientContext").is_none(), "a transfer is no operation: {}", bodies[5]);
    contexts.sort_unstable();
    contexts.dedup();
    assert_eq!(contexts.len(), 5);
}

#[test]
fn each_example_of_the_documentation_is_an_action_in_a_call() {
    let (_, in_calls) = DOCUMENT.split_once("\n## In an established call\n").unwrap();
    let examples = in_calls.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let actions: Vec<_> = examples.flat_map(|text| accepted(&serde_json::from_str(text).unwrap())).collect();
    for kind in ["play", "record", "tones", "transfer", "invite", "mute", "hangup"] {
        assert!(actions.iter().any(|action| action.kind().as_str() == kind), "no example of {kind}");
    }
}

#[test]
fn a_list_has_one_to_sixteen_actions() {
    let must = "the action must be an object, or an array of 1 to 16 objects";
    let wrong = "action_wrong_value";
    let tones = json!({ "action": "tones" });
    assert_eq!(accepted(&json!(vec![&tones; 16])).len(), 16);
    for document in [json!([]), json!(vec![&tones; 17]), json!("play"), json!(1), json!(null)] {
        refused(&document, wrong, must);
    }
    refused(&json!([tones, 1]), wrong, "[1] must be an object");
    refused(&json!([tones, [tones]]), wrong, "[1] must be an object");
    let error = InCallAction::parse_list(&[b' '; 65_537]).unwrap_err();
    assert_eq!(error.label(), "action_too_large");
    let error = InCallAction::parse_list(br#"{"action":"mute","action":"mute"}"#).unwrap_err();
    assert_eq!((error.label(), error.at()), ("action_duplicate_member", "action"));
}

/// Each mistake, with its place. A list shows the index, too.
#[test]
fn a_mistake_has_its_place() {
    let (missing, unknown, wrong) = ("action_missing_member", "action_unknown_member", "action_wrong_value");
    let must = "must be \"play\", \"record\", \"tones\", \"transfer\", \"invite\", \"mute\" or \"hangup\"";
    let uri_must = "must be an absolute http or https URL";
    let played = |prompt: Value| json!({ "action": "play", "prompts": [prompt] });
    let recorded = |name: &str, value: Value| json!({ "action": "record", name: value });
    let invited = |participants: Value| json!({ "action": "invite", "participants": participants });
    let target = |member: &str, value: Value| {
        let mut target = json!({ "identity": { "user": { "id": "a" } } });
        target[member] = value;
        json!({ "action": "transfer", "transferTarget": target })
    };
    let stop_tones =
        "stopTones must be an array of at most 16 strings of 1 to 16 keys, each of 0 to 9, A to D, * and #";
    let seconds = "must be a whole number of seconds from 1 to 120";
    let cases = [
        (json!({}), missing, format!("action is missing; it {must}")),
        // The actions on a new call, and another call's id, cannot be said here.
        (json!({ "action": "answer" }), wrong, format!("action {must}")),
        (json!([{ "action": "Play" }]), wrong, format!("[0].action {must}")),
        (
            json!({ "action": "mute", "callId": "b" }),
            unknown,
            "callId is unknown; known here are action, clientContext".to_owned(),
        ),
        (
            json!({ "action": "hangup", "clientContext": "b" }),
            unknown,
            "clientContext is unknown; known here are action".to_owned(),
        ),
        (
            json!({ "action": "tones", "clientContext": "x".repeat(257) }),
            wrong,
            "clientContext must be a string of 1 to 256 characters".to_owned(),
        ),
        (
            json!([{ "action": "mute", "clientContext": null }]),
            wrong,
            "[0].clientContext must be a string of 1 to 256 characters".to_owned(),
        ),
        (
            json!({ "action": "play" }),
            missing,
            "prompts is missing; it must be an array of 1 to 20 prompts".to_owned(),
        ),
        (
            json!({ "action": "play", "prompts": vec![media_prompt(); 21] }),
            wrong,
            "prompts must be an array of 1 to 20 prompts".to_owned(),
        ),
        (played(json!({})), missing, "prompts[0].mediaInfo is missing; it must be an object".to_owned()),
        (
            json!([played(json!({ "mediaInfo": {} }))]),
            missing,
            format!("[0].prompts[0].mediaInfo.uri is missing; it {uri_must}"),
        ),
        (
            played(json!({ "mediaInfo": { "uri": "file:///a" } })),
            wrong,
            format!("prompts[0].mediaInfo.uri {uri_must}"),
        ),
        (
            played(json!({ "mediaInfo": { "uri": "https://a/", "resourceId": "" } })),
            wrong,
            "prompts[0].mediaInfo.resourceId must be a string that is not empty".to_owned(),
        ),
        (
            recorded("prompts", json!([media_prompt(), media_prompt()])),
            wrong,
            "prompts must be an array of at most 1 prompt".to_owned(),
        ),
        (
            recorded("maxRecordDurationInSeconds", json!(0)),
            wrong,
            format!("maxRecordDurationInSeconds {seconds}"),
        ),
        (
            recorded("maxSilenceTimeoutInSeconds", json!(121)),
            wrong,
            format!("maxSilenceTimeoutInSeconds {seconds}"),
        ),
        (
            recorded("initialSilenceTimeoutInSeconds", json!("5")),
            wrong,
            format!("initialSilenceTimeoutInSeconds {seconds}"),
        ),
        (recorded("playBeep", json!(1)), wrong, "playBeep must be true or false".to_owned()),
        (recorded("stopTones", json!(["E"])), wrong, stop_tones.to_owned()),
        (recorded("stopTones", json!([""])), wrong, stop_tones.to_owned()),
        (recorded("stopTones", json!("#")), wrong, stop_tones.to_owned()),
        (
            json!({ "action": "transfer" }),
            missing,
            "transferTarget is missing; it must be an object".to_owned(),
        ),
        (
            target("endpointType", json!("phone")),
            wrong,
            "transferTarget.endpointType must be \"default\", \"voicemail\", \"skypeForBusiness\" or \
             \"skypeForBusinessVoipPhone\""
                .to_owned(),
        ),
        (
            target("replacesCallId", json!("")),
            wrong,
            "transferTarget.replacesCallId must be a string of 1 to 1024 characters".to_owned(),
        ),
        (target("hidden", json!("no")), wrong, "transferTarget.hidden must be true or false".to_owned()),
        (
            target("@odata.type", json!("#microsoft.graph.participantInfo")),
            wrong,
            "transferTarget.@odata.type must be \"#microsoft.graph.invitationParticipantInfo\"".to_owned(),
        ),
        (invited(json!([])), wrong, "participants must be an array of 1 to 5 participants".to_owned()),
        (
            invited(json!(vec![user("a"); 6])),
            wrong,
            "participants must be an array of 1 to 5 participants".to_owned(),
        ),
        (
            invited(json!([user("a"), { "identity": { "phone": { "id": "1" } } }])),
            wrong,
            "participants[1].identity.phone.id must be a number in E.164 form, like \"+14255550123\""
                .to_owned(),
        ),
    ];
    for (document, label, message) in cases {
        refused(&document, label, &message);
    }
}

#[test]
fn debug_shows_no_member() {
    let document = json!({ "action": "transfer", "transferTarget": user("Ada"), "clientContext": "secret" });
    let shown = format!("{:?}", accepted(&document));
    assert_eq!(shown, "[InCallAction { kind: Transfer, .. }]");
}

/// An operation is not repeated unless Graph has certainly done nothing.
#[tokio::test(start_paused = true)]
async fn an_action_with_an_unknown_outcome_is_not_repeated() {
    let document = json!({ "action": "tones" });
    for (status, attempts) in [(429, 2), (500, 1), (409, 1)] {
        let script = Script::graph([Reply::status(status)]);
        let deadline = Instant::now() + Duration::from_secs(5);
        let [action] = &accepted(&document)[..] else { panic!() };
        assert_eq!(action.kind(), InCallActionKind::Tones);
        let done = calls(&script).act_in_call(tenant(), &call(), action, deadline, now()).await;
        assert_eq!((done.is_ok(), script.bodies().len()), (attempts == 2, attempts), "{status}");
    }
}

/// JSON that is similar to actions in a call.
fn similar_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..200_i64).prop_map(Value::from),
        prop::sample::select(vec![
            "tones",
            "play",
            "hangup",
            "+14255550123",
            "https://a/",
            "default",
            "#",
            ""
        ])
        .prop_map(Value::from),
        Just(media_prompt()),
        Just(user("a")),
    ];
    let names = [
        "action",
        "prompts",
        "mediaInfo",
        "uri",
        "transferTarget",
        "transferee",
        "participants",
        "identity",
        "phone",
        "id",
        "endpointType",
        "stopTones",
        "playBeep",
        "maxRecordDurationInSeconds",
        "clientContext",
    ];
    nested(leaf, names)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn types_and_schema_agree(
        documents in prop::collection::vec(
            (similar_json(), "play|record|tones|transfer|invite|mute|hangup"), 1..3,
        ),
    ) {
        let mut documents: Vec<Value> = documents
            .into_iter()
            .map(|(mut document, action)| {
                if let Some(members) = document.as_object_mut() {
                    members.insert("action".to_owned(), action.into());
                }
                document
            })
            .collect();
        let document = if documents.len() == 1 { documents.remove(0) } else { documents.into() };
        let parsed: Result<_, InvalidAction> = InCallAction::parse_list(document.to_string().as_bytes());
        prop_assert_eq!(parsed.is_ok(), fits_response(KIND, &document), "{} {:?}", document, parsed);
    }

    #[test]
    fn any_bytes_are_actions_or_an_error_of_one_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = InCallAction::parse_list(&bytes) {
            prop_assert!(!error.to_string().contains(|character: char| character.is_control()));
        }
    }
}
