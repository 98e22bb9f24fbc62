//! Actions of a bot: the types, the schema and the documentation agree, and each error names its place.

use proptest::prelude::*;
use serde_json::Value;
use switchboard_graph::{
    Action, Answer, CallOptions, GraphModality, InvalidAction, MediaConfig, Prompt, Redirect, RedirectTarget,
    RedirectTargetKind, Reject, RejectReason,
};

use crate::{schema::fits, support::nested};

const SCHEMA: &str = include_str!("../../../../docs/action.schema.json");
pub(super) const DOCUMENT: &str = include_str!("../../../../docs/actions.md");

/// Returns true if `document` is a response of this kind. Only then is it valid for the whole schema.
pub(super) fn fits_response(kind: &str, document: &Value) -> bool {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let fits_kind = fits(&schema, &schema["$defs"][kind], document);
    assert!(!fits_kind || fits(&schema, &schema, document), "{document}");
    fits_kind
}

#[track_caller]
fn check_schema(text: &str, expected: bool) {
    assert_eq!(fits_response("newCallResponse", &serde_json::from_str(text).unwrap()), expected, "{text}");
}

/// The types and the schema both accept `text`.
#[track_caller]
fn accepted(text: &str) -> Action {
    check_schema(text, true);
    Action::parse(text.as_bytes()).unwrap()
}

/// The types and the schema both refuse `text`, with this label and message.
#[track_caller]
fn refused(text: &str, label: &str, message: &str) {
    check_schema(text, false);
    refused_by_type(text.as_bytes(), label, message);
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = r#"{"action":"reject"}"#;
    assert_eq!(Action::parse(format!("\u{feff}{text}").as_bytes()).unwrap(), accepted(text));
    refused_by_type(
        format!("\u{feff}\u{feff}{text}").as_bytes(),
        "action_not_json",
        "the action is not JSON, or is nested too deeply: line 1, column 1",
    );
}

#[track_caller]
fn refused_by_type(bytes: &[u8], label: &str, message: &str) {
    let error = Action::parse(bytes).unwrap_err();
    assert_eq!((error.label(), error.to_string().as_str()), (label, message));
    assert!(DOCUMENT.contains(&format!("| `{label}` |")), "{label} is not documented");
}

#[test]
fn each_example_of_the_documentation_is_an_action() {
    let (new_calls, _) = DOCUMENT.split_once("\n## In an established call\n").unwrap();
    let examples: Vec<_> =
        new_calls.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let names: Vec<_> = examples.iter().map(|example| accepted(example).name()).collect();
    assert_eq!(names, ["answer", "answer", "reject", "redirect"]);
}

#[test]
fn all_members_of_an_answer_are_read() {
    let action = accepted(
        r##"{"callOptions":{"@odata.type":"#microsoft.graph.incomingCallOptions","isDeltaRosterEnabled":false},
             "participantCapacity":2147483647,"action":"answer",
             "acceptedModalities":["data","video","videoBasedScreenSharing","audio"],
             "mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig","preFetchMedia":[
               {"@odata.type":"#microsoft.graph.mediaInfo","uri":"http://cdn/a.wav","resourceId":"1"}]}}"##,
    );
    use GraphModality::{Audio, Data, Video, VideoBasedScreenSharing};
    let prefetch = vec![Prompt { uri: "http://cdn/a.wav".to_owned(), resource_id: "1".to_owned() }];
    let media = MediaConfig::ServiceHosted { prefetch };
    let options = CallOptions { content_sharing_notification: None, delta_roster: Some(false) };
    let answer = Answer::new(vec![Data, Video, VideoBasedScreenSharing, Audio], media)
        .unwrap()
        .with_call_options(options)
        .with_participant_capacity(2_147_483_647)
        .unwrap();
    assert_eq!(action, Action::Answer(answer));
}

#[test]
fn optional_members_may_be_absent() {
    let action = accepted(
        r##"{"action":"answer","acceptedModalities":["audio"],
             "mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}}"##,
    );
    let media = MediaConfig::ServiceHosted { prefetch: Vec::new() };
    assert_eq!(action, Action::Answer(Answer::new(vec![GraphModality::Audio], media).unwrap()));

    let action = accepted(r#"{"action":"reject"}"#);
    assert_eq!(action, Action::Reject(Reject { reason: RejectReason::None }));

    let action = accepted(r#"{"action":"redirect","targets":[{"identity":{"user":{"id":"a"}}}]}"#);
    let target = RedirectTarget::new(RedirectTargetKind::User, "a").unwrap();
    let redirect = Redirect::new(vec![target]).unwrap();
    assert_eq!(redirect, redirect.clone().with_timeout(55).unwrap());
    assert_eq!(action, Action::Redirect(redirect));
}

#[test]
fn a_redirect_from_the_graph_reference_is_accepted() {
    let action = accepted(
        r##"{"action":"redirect","timeout":15,"targets":[
             {"@odata.type":"#microsoft.graph.invitationParticipantInfo","identity":{
               "@odata.type":"#microsoft.graph.identitySet",
               "phone":{"@odata.type":"#microsoft.graph.identity","id":"+12345678901"}}},
             {"identity":{"@odata.type":"#microsoft.graph.communicationsIdentitySet",
               "azureCommunicationServicesUser":{"@odata.type":
                 "#microsoft.graph.azureCommunicationServicesUserIdentity","id":"8:acs:1",
                 "tenantId":"632899F8-2ea1-4604-8413-27bd2892079f"}}}]}"##,
    );
    let targets = vec![
        RedirectTarget::new(RedirectTargetKind::Phone, "+12345678901").unwrap(),
        RedirectTarget::new(RedirectTargetKind::AzureCommunicationServicesUser, "8:acs:1")
            .unwrap()
            .with_tenant("632899f8-2ea1-4604-8413-27bd2892079f".parse().unwrap()),
    ];
    assert_eq!(action, Action::Redirect(Redirect::new(targets).unwrap().with_timeout(15).unwrap()));
}

#[test]
fn the_name_of_the_action_is_required() {
    let must = "must be \"answer\", \"reject\" or \"redirect\"";
    refused("{}", "action_missing_member", &format!("action is missing; it {must}"));
    for text in [r#"{"action":"hangUp"}"#, r#"{"action":1}"#, r#"{"action":null}"#, r#"{"action":"Reject"}"#]
    {
        refused(text, "action_wrong_value", &format!("action {must}"));
    }
    for text in ["[]", "1", "\"reject\"", "null"] {
        refused(text, "action_wrong_value", "the action must be an object");
    }
}

#[test]
fn the_error_of_an_unknown_member_lists_the_known_ones() {
    refused(
        r#"{"action":"reject","raeson":"busy"}"#,
        "action_unknown_member",
        "raeson is unknown; known here are action, reason",
    );
    refused(
        r#"{"action":"reject","reason":"busy","callbackUri":"https://a/"}"#,
        "action_unknown_member",
        "callbackUri is unknown; known here are action, reason",
    );
    refused(
        r#"{"action":"redirect","targets":[{"identity":{"user":{"id":"a"},"device":{"id":"a"}}}]}"#,
        "action_unknown_member",
        "targets[0].identity.device is unknown; known here are user, application, applicationInstance, \
         phone, guest, encrypted, onPremises, azureCommunicationServicesUser, @odata.type",
    );
    refused(
        "{\"action\":\"reject\",\"a\\u001b[2J\\nb\":1}",
        "action_unknown_member",
        "a\\u{1b}[2J\\nb is unknown; known here are action, reason",
    );
    let long = format!(r#"{{"action":"reject","{}":1}}"#, "x".repeat(10_000));
    refused(
        &long,
        "action_unknown_member",
        &format!("{} is unknown; known here are action, reason", "x".repeat(48)),
    );
}

#[test]
fn a_duplicate_member_is_refused() {
    refused_by_type(
        br#"{"action":"reject","reason":"busy","reason":"busy"}"#,
        "action_duplicate_member",
        "reason occurs twice",
    );
    refused_by_type(
        br#"{"action":"redirect","targets":[{"identity":{"user":{"id":"a","id":"a"}}}]}"#,
        "action_duplicate_member",
        "targets[0].identity.user.id occurs twice",
    );
}

#[test]
fn each_modality_may_occur_once() {
    let must = "acceptedModalities must be an array of one or more of \"audio\", \"video\", \
                \"videoBasedScreenSharing\", \"data\", each once";
    for modalities in
        ["[]", r#""audio""#, r#"["audio","audio"]"#, r#"["Audio"]"#, r#"["unknown"]"#, "[1]", "null"]
    {
        let text = format!(
            r##"{{"action":"answer","acceptedModalities":{modalities},
                 "mediaConfig":{{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}}}}"##
        );
        refused(&text, "action_wrong_value", must);
    }
}

/// Returns an answer with `members` after its modalities.
fn answer(members: &str) -> String {
    format!(r#"{{"action":"answer","acceptedModalities":["audio"]{members}}}"#)
}

#[test]
fn media_config_needs_its_type() {
    let must =
        "must be \"#microsoft.graph.serviceHostedMediaConfig\" or \"#microsoft.graph.appHostedMediaConfig\"";
    let missing = "action_missing_member";
    let wrong = "action_wrong_value";
    refused(&answer(""), missing, "mediaConfig is missing; it must be an object");
    refused(&answer(r#","mediaConfig":"serviceHosted""#), wrong, "mediaConfig must be an object");
    refused(
        &answer(r#","mediaConfig":{}"#),
        missing,
        &format!("mediaConfig.@odata.type is missing; it {must}"),
    );
    for name in ["microsoft.graph.serviceHostedMediaConfig", "#microsoft.graph.noMediaConfig"] {
        let text = answer(&format!(r#","mediaConfig":{{"@odata.type":"{name}"}}"#));
        refused(&text, wrong, &format!("mediaConfig.@odata.type {must}"));
    }
    let app = |rest: &str| {
        answer(&format!(
            r##","mediaConfig":{{"@odata.type":"#microsoft.graph.appHostedMediaConfig"{rest}}}"##
        ))
    };
    refused(&app(""), missing, "mediaConfig.blob is missing; it must be a string that is not empty");
    refused(&app(r#","blob":"""#), wrong, "mediaConfig.blob must be a string that is not empty");
    refused(&app(r#","blob":{}"#), wrong, "mediaConfig.blob must be a string that is not empty");
    refused(
        &app(r#","blob":"b","removeFromDefaultAudioGroup":"true""#),
        wrong,
        "mediaConfig.removeFromDefaultAudioGroup must be true or false",
    );
    refused(
        &app(r#","blob":"b","preFetchMedia":[]"#),
        "action_unknown_member",
        "mediaConfig.preFetchMedia is unknown; known here are @odata.type, blob, removeFromDefaultAudioGroup",
    );
}

#[test]
fn prompts_need_an_address_and_an_id() {
    let prompts = |prompts: &str| {
        answer(&format!(
            r##","mediaConfig":{{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig",
                 "preFetchMedia":{prompts}}}"##
        ))
    };
    let (missing, wrong) = ("action_missing_member", "action_wrong_value");
    let at = "mediaConfig.preFetchMedia";
    refused(&prompts("{}"), wrong, &format!("{at} must be an array of prompts"));
    refused(&prompts("[1]"), wrong, &format!("{at}[0] must be an object"));
    let must = "must be an absolute http or https URL";
    refused(&prompts(r#"[{"resourceId":"1"}]"#), missing, &format!("{at}[0].uri is missing; it {must}"));
    for uri in ["", "/beep.wav", "file:///etc/passwd", " https://a/", "https:", "https://a/ b"] {
        let text = prompts(&format!(r#"[{{"uri":"{uri}","resourceId":"1"}}]"#));
        refused(&text, wrong, &format!("{at}[0].uri {must}"));
    }
    refused(
        &prompts(r#"[{"uri":"https://a/","resourceId":"1"},{"uri":"https://a/"}]"#),
        missing,
        &format!("{at}[1].resourceId is missing; it must be a string that is not empty"),
    );
    refused(
        &prompts(r#"[{"uri":"https://a/","resourceId":""}]"#),
        wrong,
        &format!("{at}[0].resourceId must be a string that is not empty"),
    );
    refused(
        &prompts(r#"[{"@odata.type":"x","uri":"https://a/","resourceId":"1"}]"#),
        wrong,
        &format!("{at}[0].@odata.type must be \"#microsoft.graph.mediaInfo\""),
    );
}

#[test]
fn options_are_flags_and_capacity_is_a_number() {
    let with = |rest: &str| {
        answer(&format!(
            r##","mediaConfig":{{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}},{rest}"##
        ))
    };
    let wrong = "action_wrong_value";
    refused(&with(r#""callOptions":[]"#), wrong, "callOptions must be an object");
    refused(
        &with(r#""callOptions":{"isDeltaRosterEnabled":1}"#),
        wrong,
        "callOptions.isDeltaRosterEnabled must be true or false",
    );
    refused(
        &with(r##""callOptions":{"@odata.type":"#microsoft.graph.outgoingCallOptions"}"##),
        wrong,
        "callOptions.@odata.type must be \"#microsoft.graph.incomingCallOptions\"",
    );
    for capacity in ["0", "-1", "2147483648", "1.5", "\"200\"", "18446744073709551615", "1e400", "null"] {
        let text = with(&format!(r#""participantCapacity":{capacity}"#));
        if capacity == "1e400" {
            assert_eq!(Action::parse(text.as_bytes()).unwrap_err().label(), "action_not_json");
        } else {
            refused(&text, wrong, "participantCapacity must be a whole number from 1 to 2147483647");
        }
    }
}

#[test]
fn reasons_are_spelled_as_graph_spells_them() {
    for reason in ["\"Busy\"", "\"declined\"", "1", "null"] {
        refused(
            &format!(r#"{{"action":"reject","reason":{reason}}}"#),
            "action_wrong_value",
            "reason must be \"none\", \"busy\" or \"forbidden\"",
        );
    }
}

/// Returns a redirect to one target.
fn redirect(target: &str) -> String {
    format!(r#"{{"action":"redirect","targets":[{target}]}}"#)
}

#[test]
fn targets_are_one_to_twenty_five() {
    let must = "must be an array of 1 to 25 targets";
    let wrong = "action_wrong_value";
    refused(r#"{"action":"redirect"}"#, "action_missing_member", &format!("targets is missing; it {must}"));
    refused(&redirect(""), wrong, &format!("targets {must}"));
    refused(r#"{"action":"redirect","targets":{}}"#, wrong, &format!("targets {must}"));
    let many = |count| vec![r#"{"identity":{"user":{"id":"a"}}}"#; count].join(",");
    accepted(&redirect(&many(25)));
    refused(&redirect(&many(26)), wrong, &format!("targets {must}"));
}

#[test]
fn a_target_is_one_identity() {
    let must = "must be an object with exactly one of user, application, applicationInstance, phone, guest, \
                encrypted, onPremises, azureCommunicationServicesUser";
    let (missing, wrong) = ("action_missing_member", "action_wrong_value");
    refused(&redirect("{}"), missing, &format!("targets[0].identity is missing; it {must}"));
    refused(&redirect(r#"{"identity":{}}"#), wrong, &format!("targets[0].identity {must}"));
    refused(
        &redirect(r#"{"identity":{"user":{"id":"a"},"guest":{"id":"a"}}}"#),
        wrong,
        &format!("targets[0].identity {must}"),
    );
    refused(&redirect(r#"{"identity":{"user":"a"}}"#), wrong, "targets[0].identity.user must be an object");
    refused(
        &redirect(r#"{"identity":{"user":{}}}"#),
        missing,
        "targets[0].identity.user.id is missing; it must be a string",
    );
    for id in [String::new(), "x".repeat(1025)] {
        refused(
            &redirect(&format!(r#"{{"identity":{{"user":{{"id":"{id}"}}}}}}"#)),
            wrong,
            "targets[0].identity.user.id must be a string of 1 to 1024 characters",
        );
    }
    accepted(&redirect(&format!(r#"{{"identity":{{"guest":{{"id":"{}"}}}}}}"#, "ü".repeat(1024))));
    refused(
        &redirect(r#"{"identity":{"user":{"id":"a","displayName":""}}}"#),
        wrong,
        "targets[0].identity.user.displayName must be a string of 1 to 1024 characters",
    );
    for tenant in ["contoso", "632899f82ea14604841327bd2892079f", "632899f8-2ea1-4604-8413-27bd2892079g"] {
        refused(
            &redirect(&format!(r#"{{"identity":{{"user":{{"id":"a","tenantId":"{tenant}"}}}}}}"#)),
            wrong,
            "targets[0].identity.user.tenantId must be a GUID",
        );
    }
    let types = [
        (r#"{"@odata.type":"x","identity":{"user":{"id":"a"}}}"#, "targets[0].@odata.type"),
        (r#"{"identity":{"@odata.type":1,"user":{"id":"a"}}}"#, "targets[0].identity.@odata.type"),
        (r#"{"identity":{"user":{"@odata.type":null,"id":"a"}}}"#, "targets[0].identity.user.@odata.type"),
    ];
    for (target, at) in types {
        let text = redirect(target);
        check_schema(&text, false);
        let error = Action::parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.label(), error.at()), (wrong, at));
    }
}

#[test]
fn phones_are_in_e164_form() {
    for id in ["+14255550123", "+49", "+123456789012345"] {
        accepted(&redirect(&format!(r#"{{"identity":{{"phone":{{"id":"{id}"}}}}}}"#)));
    }
    for id in ["14255550123", "+0123", "+1", "+1234567890123456", "+1 425 555", "tel:+14255550123", ""] {
        refused(
            &redirect(&format!(r#"{{"identity":{{"phone":{{"id":"{id}"}}}}}}"#)),
            "action_wrong_value",
            "targets[0].identity.phone.id must be a number in E.164 form, like \"+14255550123\"",
        );
    }
}

#[test]
fn the_timeout_has_a_range() {
    let with = |rest: &str| {
        format!(r#"{{"action":"redirect","targets":[{{"identity":{{"user":{{"id":"a"}}}}}}],{rest}}}"#)
    };
    accepted(&with(r#""timeout":90,"maskCallee":true,"maskCaller":false"#));
    for timeout in ["14", "91", "0", "-15", "15.5", "\"55\"", "1000", "null"] {
        refused(
            &with(&format!(r#""timeout":{timeout}"#)),
            "action_wrong_value",
            "timeout must be a whole number of seconds from 15 to 90",
        );
    }
    refused(&with(r#""maskCallee":"yes""#), "action_wrong_value", "maskCallee must be true or false");
    refused(&with(r#""maskCaller":0"#), "action_wrong_value", "maskCaller must be true or false");
}

#[test]
fn other_bytes_are_refused_with_line_and_column() {
    let json = "action_not_json";
    refused_by_type(b"", json, "the action is not JSON, or is nested too deeply: line 1, column 0");
    refused_by_type(b"<html>", json, "the action is not JSON, or is nested too deeply: line 1, column 1");
    refused_by_type(
        b"{\"action\":\"reject\",\n}",
        json,
        "the action is not JSON, or is nested too deeply: line 2, column 1",
    );
    refused_by_type(
        b"{\"action\":\"\xff\"}",
        json,
        "the action is not JSON, or is nested too deeply: line 1, column 12",
    );
    refused_by_type(
        br#"{"action":"reject"} x"#,
        json,
        "the action is not JSON, or is nested too deeply: line 1, column 21",
    );
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    refused_by_type(
        deep.as_bytes(),
        json,
        "the action is not JSON, or is nested too deeply: line 1, column 128",
    );
    refused_by_type(&[b' '; 65_537], "action_too_large", "the action has more than 65536 bytes");
}

#[test]
fn constructors_apply_the_same_rules() {
    let media = || MediaConfig::ServiceHosted { prefetch: Vec::new() };
    let errors: [InvalidAction; 7] = [
        Answer::new(Vec::new(), media()).unwrap_err(),
        Answer::new(vec![GraphModality::Audio, GraphModality::Audio], media()).unwrap_err(),
        Answer::new(vec![GraphModality::Audio], media()).unwrap().with_participant_capacity(0).unwrap_err(),
        Redirect::new(Vec::new()).unwrap_err(),
        Redirect::new(vec![RedirectTarget::new(RedirectTargetKind::User, "a").unwrap()])
            .unwrap()
            .with_timeout(14)
            .unwrap_err(),
        RedirectTarget::new(RedirectTargetKind::Phone, "a").unwrap_err(),
        RedirectTarget::new(RedirectTargetKind::User, "a").unwrap().with_display_name("").unwrap_err(),
    ];
    let places: Vec<_> = errors.iter().map(InvalidAction::at).collect();
    assert_eq!(
        places,
        [
            "acceptedModalities",
            "acceptedModalities",
            "participantCapacity",
            "targets",
            "timeout",
            "id",
            "displayName"
        ]
    );
}

#[test]
fn debug_of_a_target_shows_no_identity() {
    let action = accepted(&redirect(r#"{"identity":{"phone":{"id":"+14255550123","displayName":"Ada"}}}"#));
    let shown = format!("{action:?}");
    assert!(shown.contains("Phone") && !shown.contains("4255550123") && !shown.contains("Ada"), "{shown}");
}

/// JSON that is similar to an action.
fn similar_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(vec![
            "answer",
            "reject",
            "redirect",
            "audio",
            "busy",
            "+14255550123",
            "https://a/",
            "#microsoft.graph.serviceHostedMediaConfig",
            "#microsoft.graph.appHostedMediaConfig",
        ])
        .prop_map(Value::from),
    ];
    let names = [
        "action",
        "reason",
        "targets",
        "identity",
        "user",
        "phone",
        "id",
        "timeout",
        "acceptedModalities",
        "mediaConfig",
        "@odata.type",
        "blob",
    ];
    nested(leaf, names)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn types_and_schema_agree(mut document in similar_json(), action in "answer|reject|redirect") {
        if let Some(members) = document.as_object_mut() {
            members.insert("action".to_owned(), action.into());
        }
        let parsed = Action::parse(document.to_string().as_bytes());
        let fits = fits_response("newCallResponse", &document);
        prop_assert_eq!(parsed.is_ok(), fits, "{} {:?}", document, parsed);
    }

    #[test]
    fn any_bytes_are_an_action_or_an_error_of_one_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Action::parse(&bytes) {
            prop_assert!(!error.to_string().contains(|character: char| character.is_control()));
        }
    }
}
