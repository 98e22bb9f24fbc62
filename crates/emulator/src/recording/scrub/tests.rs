//! The scrubber: no secret and no personal value remains, and a replacement is a function.

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*};
use serde_json::{Map, json};
use uuid::Uuid;

use super::*;
use crate::notification::NamedIds;

fn scrubbed(body: &Value) -> Value {
    Scrubber::new().unwrap().body(body.to_string().as_bytes())
}

/// A value that must not remain: the value, and its part that identifies.
#[derive(Clone, Debug)]
struct Sensitive {
    value: Value,
    part: String,
}

fn sensitive() -> impl Strategy<Value = Sensitive> {
    let text = |part: String, value: String| Sensitive { value: Value::from(value), part };
    let guid = || any::<u128>().prop_map(|bits| Uuid::from_u128(bits | 1 << 100));
    let letters = || "[A-Z][a-z]{7,12}";
    let dense = || "[A-Za-z0-9_-]{20,80}";
    prop_oneof![
        letters().prop_map(move |name| text(name.clone(), name)),
        (letters(), letters()).prop_map(move |(a, b)| text(b.clone(), format!("{a} {b}"))),
        "\\PC{8,40}".prop_filter_map("plain", move |any| {
            let plain = !any.is_ascii() || any.contains(' ');
            plain.then(|| text(any.clone(), any))
        }),
        guid().prop_map(move |id| text(id.to_string(), id.to_string())),
        guid().prop_map(move |id| text(id.simple().to_string(), id.simple().to_string().to_uppercase())),
        guid().prop_map(move |id| text(id.to_string(), format!("8:orgid:{id}"))),
        guid().prop_map(move |id| text(id.to_string(), format!("/communications/calls/{id}/participants"))),
        dense().prop_map(move |id| text(id.clone(), format!("/app/calls/{id}?x=1"))),
        dense().prop_map(move |id| text(id.clone(), format!("/app/calls('{id}')/operations/{id}"))),
        dense().prop_map(move |id| text(id.clone(), format!("19:meeting_{id}@thread.v2"))),
        letters().prop_map(move |name| text(name.clone(), format!("8:live:{name}"))),
        "[1-9][0-9]{8,13}".prop_map(move |phone| text(phone.clone(), format!("4:+{phone}"))),
        "[1-9][0-9]{8,13}".prop_map(move |phone| text(phone.clone(), format!("+{phone}"))),
        "[1-9][0-9]{8,13}".prop_map(move |digits| text(digits.clone(), digits)),
        letters().prop_map(move |name| text(name.clone(), format!("{name}@contoso.example"))),
        dense().prop_map(move |path| text(path.clone(), format!("https://teams.example/l/{path}?p=1"))),
        dense().prop_map(move |claims| text(claims.clone(), format!("eyJhbGciOiJSUzI1NiJ9.{claims}.sig"))),
        (10_000_000_u64..u64::MAX)
            .prop_map(|number| Sensitive { value: Value::from(number), part: number.to_string() }),
    ]
}

/// The name of a member. Members of words are not among them: they hold words.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("displayName".to_owned()),
        Just("id".to_owned()),
        Just("resource".to_owned()),
        Just("subject".to_owned()),
        Just("messageId".to_owned()),
        Just("@odata.type".to_owned()),
        "[a-z]{3,9}Data",
    ]
}

/// A document that holds each value at a random place, some as the name of a member.
fn document(values: &[(String, Sensitive, u8)]) -> Value {
    let mut document = Map::new();
    for (number, (name, sensitive, place)) in values.iter().enumerate() {
        let value = sensitive.value.clone();
        let unique = format!("{name}{}", "x".repeat(number));
        let value = match place % 4 {
            0 => json!({ name: value }),
            1 => json!([[{ name: value }, 5, null, true]]),
            2 => json!([value]),
            _ => json!({ format!("{} {number}", sensitive.part): 1, name: value }),
        };
        document.insert(unique, value);
    }
    json!({"@odata.type": "#microsoft.graph.commsNotifications", "value": [document]})
}

proptest! {
    #[test]
    fn no_sensitive_value_remains(values in vec((name(), sensitive(), any::<u8>()), 1..12)) {
        let saved = scrubbed(&document(&values)).to_string().to_lowercase();
        for (_, sensitive, _) in &values {
            // As JSON spells it, without the quotes.
            let part = Value::from(sensitive.part.to_lowercase()).to_string();
            let part = part.trim_matches('"');
            prop_assert!(!saved.contains(part), "{part} in {saved}");
        }
    }

    #[test]
    fn secrets_of_any_value_are_removed(
        name in "[a-z]{1,5}(Token|Blob|Passcode|Secret|AccessToken|encrypted)",
        secret in "[ -~]{9,90}",
        nested in any::<bool>(),
    ) {
        let secret = format!("Q{secret}");
        let value = if nested { json!({"value": [secret]}) } else { Value::from(secret.clone()) };
        let saved = scrubbed(&json!({ name.clone(): value }));
        prop_assert_eq!(saved, json!({ name: REMOVED }));
    }

    #[test]
    fn the_same_value_gets_the_same_replacement(
        values in vec((name(), sensitive(), any::<u8>()), 1..12)
    ) {
        let mut scrubber = Scrubber::new().unwrap();
        let body = document(&values).to_string();
        let first = scrubber.body(body.as_bytes());
        prop_assert_eq!(first, scrubber.body(body.as_bytes()));
        let replaced: Vec<(Value, Value)> = values
            .iter()
            .map(|(_, one, _)| (one.value.clone(), scrubber.value("id", one.value.clone())))
            .collect();
        for (value, replacement) in &replaced {
            for (other, its_replacement) in &replaced {
                // A value that is not removed tells two people apart, too.
                let removed = replacement == REMOVED || its_replacement == REMOVED;
                let same = value.to_string().eq_ignore_ascii_case(&other.to_string());
                prop_assert!(removed || same == (replacement == its_replacement), "{} {}", value, other);
            }
        }
    }

    #[test]
    fn any_bytes_are_saved_or_marked(bytes in vec(any::<u8>(), 0..200)) {
        let saved = Scrubber::new().unwrap().body(&bytes);
        prop_assert!(saved.is_object() || saved.is_array());
    }
}

#[test]
fn what_a_bot_needs_of_a_notification_stays() {
    let body = json!({"@odata.type": "#microsoft.graph.commsNotifications", "value": [{
        "@odata.type": "#microsoft.graph.commsNotification", "changeType": "Updated",
        "resource": "/app/calls/0efc74f7-41c3-47a4-8775-7259bfef4241/participants",
        "resourceUrl": "/communications/calls/0EFC74F741C347A487757259BFEF4241",
        "resourceData": {
            "@odata.type": "#microsoft.graph.call", "state": "transferAccepted", "direction": "incoming",
            "id": "0efc74f7-41c3-47a4-8775-7259bfef4241", "isMuted": false, "messageId": "0",
            "resultInfo": {"code": 200, "subcode": 4_521, "message": "Anna left"},
            "toneInfo": {"tone": "tone5", "sequenceId": 3}, "languageId": "en-US", "countryCode": "HU",
            "meetingInfo": {"@odata.type": "#microsoft.graph.tokenMeetingInfo", "token": "eyJ"},
            "endpointId": "00000000-0000-0000-0000-000000000000", "region": "", "token": null,
        },
    }]});
    let saved = scrubbed(&body);
    let at = |pointer: &str| saved.pointer(pointer).cloned().unwrap_or_default();
    let id = at("/value/0/resourceData/id").as_str().unwrap().to_owned();
    assert_ne!(id, "0efc74f7-41c3-47a4-8775-7259bfef4241");
    assert_eq!(at("/value/0/resource"), format!("/app/calls/{id}/participants"));
    let simple = id.replace('-', "").to_uppercase();
    assert_eq!(at("/value/0/resourceUrl"), format!("/communications/calls/{simple}"));
    for pointer in [
        "/@odata.type",
        "/value/0/changeType",
        "/value/0/resourceData/state",
        "/value/0/resourceData/isMuted",
        "/value/0/resourceData/resultInfo/subcode",
        "/value/0/resourceData/toneInfo",
        "/value/0/resourceData/languageId",
        "/value/0/resourceData/countryCode",
        "/value/0/resourceData/messageId",
        "/value/0/resourceData/meetingInfo/@odata.type",
        "/value/0/resourceData/endpointId",
        "/value/0/resourceData/region",
        "/value/0/resourceData/token",
    ] {
        assert_eq!(at(pointer), *body.pointer(pointer).unwrap(), "{pointer}");
    }
    assert_eq!(at("/value/0/resourceData/resultInfo/message"), "text 1");
    assert_eq!(at("/value/0/resourceData/meetingInfo/token"), REMOVED);
}

#[test]
fn one_person_is_the_same_person_in_every_form() {
    let user = "5810cede-f3cc-42eb-b2c1-e9bd5d53ec96";
    let body = json!({"id": user, "mri": format!("8:orgid:{user}"), "phone": "4:+12025550123",
                      "number": "+12025550123", "thread": format!("19:{user}@thread.v2")});
    let saved = scrubbed(&body);
    let text = |name: &str| saved[name].as_str().unwrap().to_owned();
    assert_eq!(text("mri"), format!("8:orgid:{}", text("id")));
    assert_eq!(text("thread"), format!("19:{}@thread.v2", text("id")));
    assert_eq!(text("phone"), format!("4:{}", text("number")));
}

#[test]
fn a_call_keeps_an_id_that_is_not_a_guid() {
    let item =
        json!({"resource": "/app/calls/a1-b2-c3-d4", "resourceUrl": "/communications/calls/a1-b2-c3-d4"});
    let saved = scrubbed(&json!({"value": [item]}));
    assert_eq!(NamedIds::read(&saved).call.as_deref(), Some("replaced-id-000001"), "{saved}");
    assert_eq!(saved["value"][0]["resource"], "/app/calls/replaced-id-000001");
}

#[test]
fn a_body_that_is_not_json_or_too_deep_is_a_mark() {
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    for body in ["Anna", "\"Anna\"", "", "{\"a\":", &deep] {
        let saved = Scrubber::new().unwrap().body(body.as_bytes());
        assert_eq!(saved["bytes"], body.len(), "{saved}");
        assert!(!saved.to_string().contains("Anna"));
    }
}

#[test]
fn no_id_and_no_name_of_the_fixtures_remains() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/notifications");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let Ok(body) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let saved = Scrubber::new().unwrap().body(&bytes).to_string().to_lowercase();
        let mut texts = Vec::new();
        collect(&body, &mut texts);
        for text in texts {
            for part in text.split(['/', ':', '@', '(', ')', '\'', '?', '=', ' ']) {
                let sensitive = part.len() >= 8 && part.bytes().filter(u8::is_ascii_digit).count() >= 4;
                let nil = part == Uuid::nil().to_string();
                if sensitive && !nil {
                    assert!(!saved.contains(&part.to_lowercase()), "{part} of {}", path.display());
                    checked += 1;
                }
            }
        }
        for name in ["displayName\":\"Bob", "Test User", "contoso"] {
            assert!(!saved.contains(&name.to_lowercase()), "{name} in {}", path.display());
        }
    }
    assert!(checked > 100, "{checked}");
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, texts)),
        Value::Object(members) => members.values().for_each(|member| collect(member, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
