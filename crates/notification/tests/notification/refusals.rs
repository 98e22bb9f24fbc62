//! Bodies that are refused, each with its code and its message.

use std::collections::HashSet;

use switchboard_notification::{Envelope, ErrorCode};

use crate::support::{graph, item};

#[test]
fn bodies_that_cannot_be_routed_are_refused_with_a_message() {
    let mut seen = HashSet::new();
    for (body, code, message) in refusals() {
        check(&body, code, message);
        seen.insert(code);
    }
    for code in ErrorCode::ALL {
        assert!(seen.contains(code), "no body is refused with {code:?}");
    }
}

#[test]
fn labels_are_unique() {
    let labels: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.label()).collect();
    assert_eq!(labels.len(), ErrorCode::ALL.len());
}

#[track_caller]
fn check(body: &[u8], code: ErrorCode, message: &str) {
    let shown = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).into_owned();
    match Envelope::parse(body) {
        Ok(envelope) => panic!("{shown} is {envelope:?}"),
        Err(error) => assert_eq!((error.code, error.to_string().as_str()), (code, message), "{shown}"),
    }
}

fn refusals() -> Vec<(Vec<u8>, ErrorCode, &'static str)> {
    use ErrorCode as E;

    const NO_GRAPH_NO_PARTICIPANTS: &str =
        r#"neither a Graph notification (no "value") nor a legacy call (no "participants")"#;
    const BOTH: &str = r#"both Graph ("value") and legacy ("participants", "operationOutcome" or "type")"#;
    const NO_CALL: &str = "no item has a resourceUrl or resource below /communications/calls or /app/calls";
    const CALL_RECORDS: &str =
        "a Graph change notification about communications/callRecords is not a calls notification";

    let texts: Vec<(String, E, &'static str)> = vec![
        (String::new(), E::Empty, "the body is empty"),
        (" \r\n\t".into(), E::Empty, "the body is empty"),
        (" ".repeat(16 * 1024 * 1024 + 1), E::TooLarge, "the body is larger than 16777216 bytes"),
        // Text.
        ("\u{feff}".into(), E::Empty, "the body is empty"),
        ("\u{feff}\u{feff}{}".into(), E::BodyNotObject, "the body is not a JSON object"),
        // JSON.
        ("hello".into(), E::BodyNotObject, "the body is not a JSON object"),
        ("[]".into(), E::BodyNotObject, "the body is not a JSON object"),
        ("null".into(), E::BodyNotObject, "the body is not a JSON object"),
        ("{".into(), E::InvalidJson, "the JSON is incomplete at line 1 column 2"),
        ("{\n\"value\":[{".into(), E::InvalidJson, "the JSON is incomplete at line 2 column 11"),
        ("{}}".into(), E::InvalidJson, "text follows the JSON at line 1 column 3"),
        ("{}\u{0}".into(), E::InvalidJson, "text follows the JSON at line 1 column 3"),
        ("{'value':[]}".into(), E::InvalidJson, "the body is not JSON at line 1 column 2"),
        (r#"{"value":[],}"#.into(), E::InvalidJson, "the body is not JSON at line 1 column 13"),
        (
            r#"{"value":[{"changeType":"updated",}]}"#.into(),
            E::InvalidJson,
            "the body is not JSON at line 1 column 35",
        ),
        (r#"{"x":"\x"}"#.into(), E::InvalidJson, "the body is not JSON at line 1 column 8"),
        (r#"{"x":"\u+041"}"#.into(), E::InvalidJson, "the body is not JSON at line 1 column 9"),
        ("{\"x\":\"\u{1}\"}".into(), E::InvalidJson, "the body is not JSON at line 1 column 7"),
        (r#"{"x":NaN}"#.into(), E::InvalidJson, "the body is not JSON at line 1 column 6"),
        (format!("{}1", r#"{"x":"#.repeat(65)), E::TooDeep, "the JSON is nested deeper than 64 levels"),
        (format!(r#"{{"x":{}"#, "[".repeat(1 << 20)), E::TooDeep, "the JSON is nested deeper than 64 levels"),
        (
            format!("{}{}", "[{".repeat(50), "}]".repeat(50)),
            E::BodyNotObject,
            "the body is not a JSON object",
        ),
        // Which protocol.
        ("{}".into(), E::Neither, NO_GRAPH_NO_PARTICIPANTS),
        (r#"{"Value":[{"changeType":"updated"}]}"#.into(), E::Neither, NO_GRAPH_NO_PARTICIPANTS),
        (r#"{"id":"1","callState":"incoming"}"#.into(), E::Neither, NO_GRAPH_NO_PARTICIPANTS),
        (
            r#"{"id":"1","callState":"incoming","operationOutcome":[]}"#.into(),
            E::Neither,
            NO_GRAPH_NO_PARTICIPANTS,
        ),
        (r#"{"id":"1","type":"rosterUpdated"}"#.into(), E::Neither, NO_GRAPH_NO_PARTICIPANTS),
        (
            r#"{"id":"1","type":"message","serviceUrl":"https://x"}"#.into(),
            E::Neither,
            "a Bot Framework activity is not a calls notification",
        ),
        (
            r#"{"id":"1","participants":{},"callState":"incoming"}"#.into(),
            E::Neither,
            r#"neither a Graph notification (no "value") nor a legacy call ("participants" is not an array)"#,
        ),
        (
            r#"{"id":"","participants":[],"callState":"incoming"}"#.into(),
            E::Neither,
            r#"neither a Graph notification (no "value") nor a legacy call (no "id")"#,
        ),
        (
            r#"{"id":7,"participants":[],"callState":"incoming"}"#.into(),
            E::Neither,
            r#"neither a Graph notification (no "value") nor a legacy call (no "id")"#,
        ),
        (
            r#"{"type":"rosterUpdate"}"#.into(),
            E::Neither,
            r#"neither a Graph notification (no "value") nor a legacy one (no "id")"#,
        ),
        (
            r#"{"id":"1","participants":[],"callState":1,"presentedModalityTypes":"audio"}"#.into(),
            E::Neither,
            "neither a Graph notification (no \"value\") nor a legacy call (no \"callState\" and no \
             \"presentedModalityTypes\")",
        ),
        (r#"{"value":[],"id":"1","participants":[],"callState":"incoming"}"#.into(), E::Both, BOTH),
        (r#"{"value":null,"id":"1","type":"callStateChange"}"#.into(), E::Both, BOTH),
        (r#"{"value":[1],"callState":"x","operationOutcome":{}}"#.into(), E::Both, BOTH),
        // Members that two parsers could read differently.
        (r#"{"value":[],"value":[]}"#.into(), E::Duplicate, r#""value" occurs twice"#),
        (r#"{"v\u0061lue":[],"value":[]}"#.into(), E::Duplicate, r#""value" occurs twice"#),
        (
            r#"{"id":"1","id":"1","participants":[],"callState":"incoming"}"#.into(),
            E::Duplicate,
            r#""id" occurs twice"#,
        ),
        (
            r#"{"type":"callStateChange","id":"1","type":"message"}"#.into(),
            E::Duplicate,
            r#""type" occurs twice"#,
        ),
        (
            graph(r#"{"changeType":"created","changeType":"created","resource":"/app/calls/1"}"#),
            E::Duplicate,
            "value[0].changeType occurs twice",
        ),
        (
            graph(r#"{"changeType":"created","resource":null,"resource":"/app/calls/1"}"#),
            E::Duplicate,
            "value[0].resource occurs twice",
        ),
        (
            graph(&format!(
                r#"{},{{"changeType":"created","resourceUrl":"/app/calls/1","resourceUrl":"/app/calls/2"}}"#,
                item("updated", "null")
            )),
            E::Duplicate,
            "value[1].resourceUrl occurs twice",
        ),
        (
            graph(
                r#"{"changeType":"created","resource":"/app/calls/1","resourceData":{},"resourceData":{}}"#,
            ),
            E::Duplicate,
            "value[0].resourceData occurs twice",
        ),
        (
            graph(
                r#"{"changeType":"created","resource":"/app/calls/1",
                    "resourceData":1e999,"resourceData":{}}"#,
            ),
            E::Duplicate,
            "value[0].resourceData occurs twice",
        ),
        // value
        (r#"{"value":null}"#.into(), E::ValueNotArray, r#""value" is not an array"#),
        (r#"{"value":"[]"}"#.into(), E::ValueNotArray, r#""value" is not an array"#),
        (r#"{"value":{"0":{}}}"#.into(), E::ValueNotArray, r#""value" is not an array"#),
        (r#"{"value":[]}"#.into(), E::ValueEmpty, r#""value" is empty"#),
        (
            graph(&vec![item("updated", "null"); 257].join(",")),
            E::TooManyItems,
            r#""value" has more than 256 items"#,
        ),
        (graph(&vec!["0"; 100_000].join(",")), E::TooManyItems, r#""value" has more than 256 items"#),
        (
            format!(r#"{{"value":[{0},{0}],"x":"{1}"}}"#, item("updated", "null"), "x".repeat(16 * 1024)),
            E::TooLarge,
            r#"the body has more than 16384 bytes outside the items of "value""#,
        ),
        // Items.
        (graph("null"), E::ItemNotObject, "value[0] is not an object"),
        (graph("[]"), E::ItemNotObject, "value[0] is not an object"),
        (graph(&format!("{},1e999", item("updated", "null"))), E::ItemNotObject, "value[1] is not an object"),
        (graph(&format!("{},\"x\"", item("updated", "null"))), E::ItemNotObject, "value[1] is not an object"),
        (graph("{}"), E::ChangeType, "value[0].changeType is missing"),
        (
            graph(r#"{"changetype":"updated","resource":"/app/calls/1"}"#),
            E::ChangeType,
            "value[0].changeType is missing",
        ),
        (graph(r#"{"changeType":null}"#), E::ChangeType, "value[0].changeType is not a string"),
        (graph(r#"{"changeType":["updated"]}"#), E::ChangeType, "value[0].changeType is not a string"),
        (
            graph(r#"{"changeType":""}"#),
            E::ChangeType,
            "value[0].changeType is not created, updated or deleted",
        ),
        (
            graph(&item("renamed", "null")),
            E::ChangeType,
            "value[0].changeType is not created, updated or deleted",
        ),
        (
            graph(&format!("{},{}", item("updated", "null"), item("updated ", "null"))),
            E::ChangeType,
            "value[1].changeType is not created, updated or deleted",
        ),
        // Call ids.
        (
            graph(r#"{"changeType":"updated","resourceUrl":"/app/calls/a b"}"#),
            E::CallId,
            "value[0].resourceUrl: call id has a character that is not allowed",
        ),
        (
            graph(r#"{"changeType":"updated","resource":"/app/calls/x\r\ny: z","resourceUrl":""}"#),
            E::CallId,
            "value[0].resource: call id has a character that is not allowed",
        ),
        (
            graph(r#"{"changeType":"updated","resourceUrl":"/app/calls/../x","resource":"/app/calls/good"}"#),
            E::CallId,
            "value[0].resourceUrl: call id has a character that is not allowed",
        ),
        (
            graph(&format!(r#"{{"changeType":"updated","resource":"/app/calls/{}"}}"#, "a".repeat(129))),
            E::CallId,
            "value[0].resource: call id is not 1 to 128 bytes long",
        ),
        (
            graph(
                r##"{"changeType":"updated",
                     "resourceData":{"@odata.type":"#microsoft.graph.call","id":"ü"}}"##,
            ),
            E::CallId,
            "value[0].resourceData.id: call id has a character that is not allowed",
        ),
        // Not about a call.
        (graph(r#"{"changeType":"updated"}"#), E::NoCall, NO_CALL),
        (graph(r#"{"changeType":"updated","resource":1,"resourceUrl":null}"#), E::NoCall, NO_CALL),
        (graph(r#"{"changeType":"updated","resource":"/communications/calls/"}"#), E::NoCall, NO_CALL),
        (
            graph(r#"{"changeType":"updated","resource":"/users/1","resourceData":{"id":"1"}}"#),
            E::NoCall,
            NO_CALL,
        ),
        (
            graph(r#"{"changeType":"created","resource":"communications/callRecords/1"}"#),
            E::NoCall,
            CALL_RECORDS,
        ),
        (
            graph(r#"{"changeType":"created","resourceUrl":"/Communications/CallRecords"}"#),
            E::NoCall,
            CALL_RECORDS,
        ),
    ];
    let mut all: Vec<_> =
        texts.into_iter().map(|(text, code, message)| (text.into_bytes(), code, message)).collect();
    all.push((b"{\"x\":\"\xC0\xAF\"}".to_vec(), E::InvalidText, "the body is not UTF-8 at byte 6"));
    all.push((b"{\"x\":\"\xED\xA0\xBD\"}".to_vec(), E::InvalidText, "the body is not UTF-8 at byte 6"));
    all.push((b"\xFF\xFE{\x00}\x00".to_vec(), E::InvalidText, "the body is not UTF-8 at byte 0"));
    all
}
