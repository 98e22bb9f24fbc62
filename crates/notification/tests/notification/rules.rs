//! The rules of parsing.

use std::collections::HashSet;

use switchboard_notification::{Call, CallId, Data, Envelope, ItemKind, Notifications, ResourcePart};

use crate::support::{describe, graph, item};

fn parse(body: &str) -> Notifications<'_> {
    match Envelope::parse(body.as_bytes()) {
        Ok(Envelope::Graph(notifications)) => notifications,
        other => panic!("{body} is {other:?}"),
    }
}

/// Applies `check` to a call with `members`, which is incoming unless they have another state.
#[track_caller]
fn check_call(members: &str, check: impl Fn(&Call<'_>)) {
    let data = format!(r##"{{"@odata.type":"#microsoft.graph.call","state":"incoming",{members}}}"##);
    let body = graph(&item("created", &data));
    let notifications = parse(&body);
    let Data::Call(call) = &notifications.items[0].data else { panic!("{members} makes {notifications:?}") };
    check(call);
}

#[test]
fn a_path_names_a_call_and_its_part() {
    let cases = [
        ("/communications/calls/A-1", "A-1", ResourcePart::Call),
        ("/communications/calls/A-1/", "A-1", ResourcePart::Call),
        ("communications/calls/A-1", "A-1", ResourcePart::Call),
        ("/app/calls/A-1", "A-1", ResourcePart::Call),
        ("/APP/Calls/A-1", "A-1", ResourcePart::Call),
        ("/communications/calls/A-1?x=/y", "A-1", ResourcePart::Call),
        ("/communications/calls/A-1#x", "A-1", ResourcePart::Call),
        ("/communications/calls/19:x_y~z.@%3D+$=", "19:x_y~z.@%3D+$=", ResourcePart::Call),
        ("/communications/calls/A-1/participants", "A-1", ResourcePart::Participants),
        ("/communications/calls/A-1/participants/p", "A-1", ResourcePart::Participants),
        ("/app/calls/A-1/Operations/o", "A-1", ResourcePart::Operations),
        ("/communications/calls/A-1/contentSharingSessions/s", "A-1", ResourcePart::ContentSharingSessions),
        ("/communications/calls/A-1/audioRoutingGroups/g", "A-1", ResourcePart::Other),
        ("/communications/calls/A-1//participants", "A-1", ResourcePart::Call),
    ];
    for (path, id, part) in cases {
        for name in ["resource", "resourceUrl"] {
            let body = graph(&format!(r#"{{"changeType":"updated","{name}":"{path}"}}"#));
            let notifications = parse(&body);
            let resource = notifications.items[0].resource.as_ref().unwrap();
            assert_eq!((resource.call_id.as_str(), resource.part), (id, part), "{path}");
        }
    }
}

#[test]
fn a_path_that_names_no_call_is_ignored() {
    let paths = [
        "",
        "/",
        "calls/1",
        "//communications/calls/1",
        "/communications/calls",
        "/communications/calls//participants",
        "/communications/callRecords/1",
        "/v1.0/communications/calls/1",
        "https://graph.example.com/communications/calls/1",
        "/communications%2Fcalls/1",
    ];
    for path in paths {
        // The older name is used, and then the data.
        let body = graph(&format!(
            r#"{{"changeType":"updated","resourceUrl":"{path}","resource":"/app/calls/older"}}"#
        ));
        assert_eq!(parse(&body).items[0].call_id().unwrap().as_str(), "older", "{path}");

        let body = graph(&format!(
            r##"{{"changeType":"updated","resource":"{path}",
                 "resourceData":{{"id":"i","@odata.type":"Microsoft.Graph.Call"}}}}"##
        ));
        assert_eq!(parse(&body).items[0].call_id().unwrap().as_str(), "i", "{path}");
    }
}

#[test]
fn only_a_created_incoming_call_at_its_own_path_is_new() {
    let call = r##"{"@odata.type":"#microsoft.graph.call","state":"incoming"}"##;
    let new = |item: &str| parse(&graph(item)).items[0].new_call().is_some();
    assert!(new(&item("created", call)));
    assert!(new(&item("CREATED", &call.replace("incoming", "Incoming"))));
    assert!(!new(&item("updated", call)));
    assert!(!new(&item("deleted", call)));
    assert!(!new(&item("created", &call.replace("incoming", "established"))));
    assert!(!new(&item("created", &call.replace("state", "State"))));
    assert!(!new(&item("created", &call.replace("graph.call", "graph.participant"))));
    assert!(!new(&item("created", &format!("[{call}]"))));
    assert!(!new(&item("created", call).replace("calls/c1", "calls/c1/operations/o")));
}

#[test]
fn enumerations_ignore_case_and_keep_unknown_values() {
    for (text, label) in [
        ("incoming", "incoming"),
        ("Establishing", "establishing"),
        ("RINGING", "ringing"),
        ("established", "established"),
        ("hold", "hold"),
        ("Transferring", "transferring"),
        ("TransferAccepted", "transferAccepted"),
        ("redirecting", "redirecting"),
        ("terminating", "terminating"),
        ("Terminated", "terminated"),
        ("unknownFutureValue", "other"),
    ] {
        check_call(&format!(r#""state":"{text}""#), |call| {
            assert_eq!(call.state.as_ref().unwrap().label(), label)
        });
    }
    check_call(r#""state":"Parked""#, |call| {
        assert_eq!(format!("{:?}", call.state), r#"Some(Other("Parked"))"#);
    });
    check_call(r#""requestedModalities":["AUDIO","videobasedscreensharing","smell",4,null]"#, |call| {
        assert_eq!(format!("{:?}", call.modalities), r#"[Audio, VideoBasedScreenSharing, Other("smell")]"#);
    });
}

#[test]
fn result_codes_are_numbers_or_text() {
    for (result, expected) in [
        (r#"{"code":200,"subcode":0}"#, "Some(ResultInfo { code: Some(200), subcode: Some(0) })"),
        (r#"{"code":"-1","subcode":"5000"}"#, "Some(ResultInfo { code: Some(-1), subcode: Some(5000) })"),
        (r#"{"code":"x","subcode":1.5}"#, "Some(ResultInfo { code: None, subcode: None })"),
        (r#"{"code":99999999999999999999,"subCode":7}"#, "Some(ResultInfo { code: None, subcode: Some(7) })"),
        ("null", "None"),
        ("[200]", "None"),
    ] {
        check_call(&format!(r#""resultInfo":{result}"#), |call| {
            assert_eq!(format!("{:?}", call.result), expected)
        });
    }
}

#[test]
fn one_mark_of_a_policy_is_enough() {
    let bot = |data: &str| format!(r#""applicationMetadata":{{"botData":{{{data}}}}}"#);
    for (members, is_policy) in [
        (r#""incomingContext":{"observedParticipantId":"p"}"#.to_owned(), true),
        (bot(r#""inviteReasons":["x","ComplianceRecording"]"#), true),
        (bot(r#""inviteReasons":["policyBasedRecording"]"#), true),
        (bot(r#""policyIdentifier":"p""#), true),
        (bot(r#""pairedRecorders":[{}]"#), true),
        (bot(r#""otherRecorders":["x"]"#), true),
        (bot(r#""user":{"policyHolderId":"8:orgid:x"}"#), true),
        (r#""incomingContext":{"sourceParticipantId":"p","observedParticipantId":null}"#.to_owned(), false),
        (r#""incomingContext":{"observedParticipantId":"","onBehalfOf":"x"}"#.to_owned(), false),
        (
            bot(r#""inviteReasons":["x"],"policyIdentifier":"","pairedRecorders":[],"isMultiParty":true"#),
            false,
        ),
        (bot(r#""inviteReasons":"ComplianceRecording","otherRecorders":{"0":1}"#), false),
    ] {
        let members = format!(r#"{members},"source":{{"identity":{{"user":{{"id":"u"}}}}}}"#);
        check_call(&members, |call| {
            assert_eq!(call.policy_recording, is_policy, "{members}");
            assert_eq!(call.observed_user.is_some(), is_policy, "{members}");
        });
    }
}

#[test]
fn the_observed_user_is_on_behalf_of_else_the_source() {
    for (on_behalf_of, user) in [
        ("null", "caller"),
        ("7", "caller"),
        (r#""""#, "caller"),
        ("{}", "caller"),
        (r#"{"user":null,"@odata.type":"x"}"#, "caller"),
        (r#""plain""#, "plain"),
        (r#""8:orgid:oid""#, "oid"),
        (r#""8:gcch:oid""#, "oid"),
        (r#""4:+15550100""#, "4:+15550100"),
        (r#"{"id":"single"}"#, "single"),
        (r#"{"application":{"id":"a"},"phone":{"id":"p"},"user":{"id":"u"},"guest":{"id":"g"}}"#, "u"),
        (r#"{"application":{"id":"a"},"user":{"id":null},"phone":{"id":"p"}}"#, "p"),
        (r#"{"robot":{"id":"r"},"application":{"id":"a"}}"#, "a"),
        (r#"{"robot":{"id":"r"}}"#, "r"),
        (r#"{"identity":{"guest":{"id":"g"}},"id":"participant"}"#, "g"),
    ] {
        let members = format!(
            r#""incomingContext":{{"observedParticipantId":"p","onBehalfOf":{on_behalf_of}}},
               "source":{{"identity":{{"encrypted":{{"id":"e"}},"user":{{"id":"caller"}}}}}}"#
        );
        check_call(&members, |call| assert_eq!(call.observed_user.as_deref(), Some(user), "{on_behalf_of}"));
    }
}

#[test]
fn the_tenant_is_that_of_the_call_else_of_the_source() {
    let (one, two) = ("4c0ffee0-0000-4444-8aaa-0000000000a1", "4c0ffee0-0000-4444-8aaa-0000000000a2");
    let source =
        format!(r#""source":{{"identity":{{"phone":{{"id":"1"}},"guest":{{"tenantId":"{two}"}}}}}}"#);
    for (tenant, expected) in [
        (format!(r#""{one}""#), one),
        (format!(r#""{}""#, one.to_uppercase()), one),
        ("\"x\"".into(), two),
        ("1".into(), two),
    ] {
        check_call(&format!(r#""tenantId":{tenant},{source}"#), |call| {
            assert_eq!(call.tenant_id.unwrap().to_string(), expected);
        });
    }
}

#[test]
fn of_a_call_that_is_not_incoming_the_state_the_chain_and_the_result_are_read() {
    let members = r#""callChainId":"c","tenantId":"4c0ffee0-0000-4444-8aaa-0000000000a1",
        "source":{"region":"x"},"resultInfo":{"code":200},"state":"established""#;
    check_call(members, |call| {
        assert_eq!(
            (call.state.as_ref().unwrap().label(), call.chain_id.as_deref()),
            ("established", Some("c"))
        );
        assert_eq!(call.result.as_ref().unwrap().code, Some(200));
        assert_eq!((call.tenant_id, call.source_region.as_deref()), (None, None));
    });
}

#[test]
fn the_media_region_is_that_of_the_call_else_of_its_bot_data() {
    let bot = r#""applicationMetadata":{"botData":{"mediaHostedRegion":"USEA"}}"#;
    check_call(&format!(r#"{bot},"mediaHostedRegion":"EUNO""#), |call| {
        assert_eq!(call.media_region.as_deref(), Some("EUNO"));
    });
    check_call(&format!(r#"{bot},"mediaHostedRegion":"""#), |call| {
        assert_eq!(call.media_region.as_deref(), Some("USEA"));
    });
}

#[test]
fn an_optional_member_of_any_type_costs_no_notification() {
    let paths = [
        "callChainId",
        "tenantId",
        "mediaHostedRegion",
        "requestedModalities",
        "source",
        "source.region",
        "source.identity",
        "source.identity.user",
        "source.identity.user.id",
        "incomingContext",
        "incomingContext.observedParticipantId",
        "incomingContext.onBehalfOf",
        "incomingContext.onBehalfOf.identity",
        "chatInfo",
        "chatInfo.threadId",
        "meetingInfo",
        "meetingInfo.organizer",
        "meetingInfo.organizer.user",
        "applicationMetadata",
        "applicationMetadata.botData",
        "applicationMetadata.botData.inviteReasons",
        "applicationMetadata.botData.user",
        "resultInfo",
        "resultInfo.code",
        "id",
        "status",
        "unheardOf",
    ];
    let values = [
        "null",
        "true",
        "0",
        "-1.5e300",
        "\"\"",
        "\"\\u0000\\n\"",
        "[]",
        "{}",
        r#"[[{"x":[null]}]]"#,
        r#"{"x":[{}]}"#,
    ];
    for path in paths {
        for value in values {
            let member =
                path.rsplit('.').fold(value.to_owned(), |value, name| format!(r#"{{"{name}":{value}}}"#));
            let member = member.strip_prefix('{').unwrap();
            let data = format!(r##"{{"@odata.type":"#microsoft.graph.call","state":"incoming",{member}"##);
            let body = graph(&item("created", &data));
            assert_eq!(parse(&body).items[0].kind(), ItemKind::IncomingCall, "{path} = {value}");
        }
    }
    for value in ["null", "true", "0", "1e999", "\"\"", "[]", "{}"] {
        let body = graph(&item("updated", value));
        assert_eq!(parse(&body).items[0].call_id().unwrap().as_str(), "c1", "resourceData = {value}");
    }
}

#[test]
fn the_last_of_two_other_members_counts() {
    check_call(
        r#""callChainId":"a","callChainId":"b","source":{"region":"x"},"source":{"countryCode":"HU"}"#,
        |call| {
            assert_eq!(call.chain_id.as_deref(), Some("b"));
            assert_eq!((call.source_region.as_deref(), call.country.as_deref()), (None, Some("HU")));
        },
    );
    let body = graph(&item("updated", "null")).replacen('{', r#"{"@odata.type":"a","@odata.type":"b","#, 1);
    assert_eq!(parse(&body).items.len(), 1);
}

#[test]
fn lists_are_counted_or_cut() {
    let modalities = vec!["\"audio\""; 1000].join(",");
    check_call(&format!(r#""requestedModalities":[{modalities}]"#), |call| {
        assert_eq!(call.modalities.len(), 16)
    });

    let body = graph(&item("updated", &format!("[{}]", vec!["{}"; 1000].join(","))));
    assert!(matches!(parse(&body).items[0].data, Data::List(1000)));

    let body = graph(&vec![item("updated", "null"); 256].join(","));
    assert_eq!(parse(&body).items.len(), 256);
}

#[test]
fn nesting_up_to_the_limit_is_read() {
    // The envelope, `value`, the item and its data are four levels.
    let data = format!(r#"{{"x":{}{}}}"#, "[".repeat(60), "]".repeat(60));
    assert_eq!(parse(&graph(&item("updated", &data))).items.len(), 1);
    // Brackets in strings and closed brackets do not count.
    let data = format!(r#"{{"x":"\"{}","y":[{}]}}"#, "[{".repeat(100), vec!["[]"; 100].join(","));
    assert_eq!(parse(&graph(&item("updated", &data))).items.len(), 1);
}

#[test]
fn a_subset_keeps_every_byte_of_the_envelope_and_of_its_items() {
    let (one, two, three) =
        (item("updated", "{ \"state\" : 1e0 }"), item("deleted", "null"), item("created", r#""\u0041""#));
    let body = format!("\t{{ \"a\" : [ ] , \"value\" :\n[ {one} ,\r\n{two},{three}\t] , \"z\" : \"é\" }} \n");
    let notifications = parse(&body);
    let check = |indices: &[usize], items: &str| {
        let expected = format!("\t{{ \"a\" : [ ] , \"value\" :\n[ {items}\t] , \"z\" : \"é\" }} \n");
        assert_eq!(String::from_utf8(notifications.subset(indices)).unwrap(), expected);
    };
    check(&[0], &one);
    check(&[1], &two);
    check(&[0, 2], &format!("{one},{three}"));
    check(&[2, 1], &format!("{three},{two}"));
    check(&[], "");
    check(&[9, 1, usize::MAX], &two);
}

/// A single item is not copied, so its envelope may be as large as the body.
#[test]
fn a_single_item_may_have_a_large_envelope() {
    let body = format!(r#"{{"value":[{}],"x":"{}"}}"#, item("updated", "null"), "x".repeat(100_000));
    assert_eq!(parse(&body).items.len(), 1);
}

#[test]
fn legacy_bodies_are_recognised_by_their_members() {
    for (body, expected) in [
        (r#"{"id":"a","participants":[],"callState":"incoming"}"#, r#"legacy incoming "a""#),
        (r#"{"id":"a","participants":[],"callState":"","appId":null}"#, r#"legacy incoming "a""#),
        (r#"{"id":"a","participants":[],"presentedModalityTypes":[]}"#, r#"legacy incoming "a""#),
        (r#"{"id":"a","participants":[],"callState":"incoming","type":"x"}"#, r#"legacy incoming "a""#),
        (r#"{"id":"a","type":"CallStateChange"}"#, r#"legacy call_state_change "a""#),
        (
            r#"{"id":"a","type":"rosterUpdate","participants":[],"callState":"x"}"#,
            r#"legacy roster_update "a""#,
        ),
        (r#"{"operationOutcome":{},"callState":"x"}"#, r#"legacy conversation_result """#),
        (r#"{"id":"a\u000a","operationOutcome":{},"callState":"x"}"#, r#"legacy conversation_result "a\n""#),
    ] {
        assert_eq!(describe(&Envelope::parse(body.as_bytes()).unwrap()), expected, "{body}");
    }
}

#[test]
fn a_legacy_id_is_a_call_id_only_if_it_is_safe() {
    for (id, is_safe) in [("6d1c-0b00", true), (r"a\r\nb", false), ("a b", false)] {
        let body = format!(r#"{{"id":"{id}","type":"callStateChange"}}"#);
        match Envelope::parse(body.as_bytes()) {
            Ok(Envelope::Legacy(legacy)) => assert_eq!(legacy.call_id().is_some(), is_safe, "{id}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn call_ids_ignore_case() {
    let id = |text: &'static str| CallId::parse(text).unwrap();
    assert_eq!(id("ABC-1"), id("abc-1"));
    assert_ne!(id("abc-1"), id("abc-2"));
    assert_eq!(id("ABC-1").to_string(), "ABC-1");
    assert_eq!(HashSet::from([id("ABC-1"), id("abc-1").into_owned(), id("AbC-1")]).len(), 1);
    for text in ["", ".", "..", "a/b", "a b", "a\"b", "a\\b", "a,b", "a;b", "é", "a\u{7f}", "a\nb", "<a>"] {
        assert!(CallId::parse(text).is_err(), "{text:?}");
    }
    assert!(CallId::parse("a".repeat(128)).is_ok());
    assert!(CallId::parse("a".repeat(129)).is_err());
}

#[test]
fn a_part_of_a_body_has_no_byte_order_mark() {
    let body = include_bytes!("../../../../fixtures/notifications/graph-byte-order-mark.json");
    let Ok(Envelope::Graph(notifications)) = Envelope::parse(body) else { panic!("the body is valid") };
    let part = notifications.subset(&[1]);
    assert!(part.starts_with(b"{"), "{}", String::from_utf8_lossy(&part));
    let Ok(Envelope::Graph(part)) = Envelope::parse(&part) else { panic!("the part is valid") };
    assert_eq!(part.items[0].call_id(), notifications.items[1].call_id());
}
