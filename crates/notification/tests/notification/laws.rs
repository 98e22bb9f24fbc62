//! Properties that hold for any body.

use proptest::{prelude::*, sample::Index};
use switchboard_notification::{Envelope, ErrorCode};

use crate::support::{describe, graph};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn any_bytes_are_parsed_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        check_total(&body)?;
    }

    #[test]
    fn text_similar_to_json_is_parsed_or_refused(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..60),
    ) {
        check_total(format!("{{{}", words.concat()).as_bytes())?;
        check_total(graph(&words.concat()).as_bytes())?;
    }

    #[test]
    fn a_damaged_notification_is_parsed_or_refused(
        json in graph_body(),
        at in any::<Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..4),
        removed in 0..40_usize,
    ) {
        let mut body = json.plain().into_bytes();
        let at = at.index(body.len());
        body.splice(at..(at + removed).min(body.len()), bytes);
        check_total(&body)?;
    }

    #[test]
    fn white_space_and_the_order_of_members_do_not_matter(json in graph_body(), seed in any::<u64>()) {
        let (plain, noisy) = (json.plain(), json.noisy(seed));
        let (plain, noisy) = (Envelope::parse(plain.as_bytes()), Envelope::parse(noisy.as_bytes()));
        prop_assert_eq!(describe(&plain.unwrap()), describe(&noisy.unwrap()));
    }

    #[test]
    fn a_subset_contains_its_items_byte_for_byte(
        json in graph_body(),
        seed in any::<u64>(),
        indices in prop::collection::vec(0..5_usize, 1..5),
    ) {
        let body = json.noisy(seed);
        let Envelope::Graph(whole) = Envelope::parse(body.as_bytes()).unwrap() else { panic!("{body}") };
        let chosen: Vec<_> = indices.iter().filter_map(|index| whole.items.get(*index)).collect();
        let part = whole.subset(&indices);
        prop_assert_eq!(part.len(), whole.subset_bytes(&indices));
        match Envelope::parse(&part) {
            Ok(Envelope::Graph(part)) => {
                let raw: Vec<_> = part.items.iter().map(|item| item.raw).collect();
                prop_assert_eq!(raw, chosen.iter().map(|item| item.raw).collect::<Vec<_>>());
            }
            Ok(Envelope::Legacy(legacy)) => panic!("{legacy:?}"),
            Err(error) if chosen.is_empty() => prop_assert_eq!(error.code, ErrorCode::ValueEmpty),
            Err(error) => {
                prop_assert_eq!(error.code, ErrorCode::NoCall);
                prop_assert!(chosen.iter().all(|item| item.resource.is_none()));
            }
        }
    }

    #[test]
    fn the_subset_of_all_items_is_the_body(json in graph_body()) {
        let body = json.plain();
        let Envelope::Graph(whole) = Envelope::parse(body.as_bytes()).unwrap() else { panic!("{body}") };
        let all: Vec<_> = (0..whole.items.len()).collect();
        prop_assert_eq!(String::from_utf8(whole.subset(&all)).unwrap(), body);
    }
}

/// There is no panic, no message contains text of the body, and every call id is safe in a header.
fn check_total(body: &[u8]) -> Result<(), TestCaseError> {
    match Envelope::parse(body) {
        Ok(Envelope::Graph(notifications)) => {
            prop_assert!(notifications.items.iter().any(|item| item.resource.is_some()));
            for id in notifications.items.iter().filter_map(|item| item.call_id()) {
                prop_assert!(
                    !id.as_str().is_empty() && id.as_str().bytes().all(|byte| byte.is_ascii_graphic())
                );
            }
            prop_assert!(!notifications.subset(&[0]).is_empty());
        }
        Ok(Envelope::Legacy(_)) => {}
        Err(error) => {
            prop_assert!(
                error.message.len() < 160 && error.message.bytes().all(|byte| (0x20..0x7F).contains(&byte))
            );
        }
    }
    Ok(())
}

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\"value\":[",
    "\"changeType\":\"updated\"",
    "\"resource\":\"/app/calls/1\"",
    "\"resourceData\":",
    "\"@odata.type\":\"#microsoft.graph.call\"",
    "\"id\":\"x\"",
    "\"participants\":[]",
    "\"callState\":\"incoming\"",
    "\"source\":{",
    "\"\\ud83d\\udcde\"",
    "\\ud800",
    "1e400",
    "-0",
    "null",
    "true",
    " ",
    "é",
];

/// JSON that can be written in several ways.
#[derive(Clone, Debug)]
enum Json {
    /// Text that is written as it is.
    Raw(String),
    Array(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    fn plain(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, None);
        text
    }

    /// Writes white space and an order of members that depend on `seed`.
    fn noisy(&self, mut seed: u64) -> String {
        let mut text = String::new();
        self.write(&mut text, Some(&mut seed));
        text
    }

    fn write(&self, text: &mut String, mut seed: Option<&mut u64>) {
        space(text, seed.as_deref_mut());
        match self {
            Self::Raw(raw) => text.push_str(raw),
            Self::Array(elements) => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    element.write(text, seed.as_deref_mut());
                }
                text.push(']');
            }
            Self::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                if let Some(seed) = seed.as_deref_mut() {
                    members.sort_by_cached_key(|_| next(seed));
                }
                text.push('{');
                for (index, (name, value)) in members.into_iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    space(text, seed.as_deref_mut());
                    text.push_str(&format!("{name:?}"));
                    space(text, seed.as_deref_mut());
                    text.push(':');
                    value.write(text, seed.as_deref_mut());
                }
                text.push('}');
            }
        }
        space(text, seed);
    }
}

fn space(text: &mut String, seed: Option<&mut u64>) {
    if let Some(seed) = seed {
        text.push_str(["", "", " ", "\n", "\t\r\n"][usize::try_from(next(seed) % 5).unwrap()]);
    }
}

/// A linear congruential generator (Knuth's constants); proptest shrinks the seed.
fn next(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// Graph bodies that are accepted: the first item is about a call, the others may be about anything.
fn graph_body() -> impl Strategy<Value = Json> {
    let about_call = prop::sample::select(&[
        "/communications/calls/c1",
        "/app/calls/c2/participants",
        "communications/calls/c3/operations/o",
        "/communications/calls/c4/x",
    ]);
    let about_anything =
        prop::sample::select(&["/users/1", "", "/communications/calls/c5", "communications/callRecords/1"]);
    let others = prop::collection::vec(item(about_anything), 0..3);
    (item(about_call), others, any::<bool>()).prop_map(|(first, others, odata)| {
        let items = std::iter::once(first).chain(others).collect();
        let mut members = vec![("value".to_owned(), Json::Array(items))];
        if odata {
            members.push(("@odata.type".to_owned(), text("#microsoft.graph.commsNotifications")));
        }
        Json::Object(members)
    })
}

fn item(path: impl Strategy<Value = &'static str>) -> impl Strategy<Value = Json> {
    let change_type = prop::sample::select(&["created", "Updated", "DELETED"]);
    let name = prop::sample::select(&["resource", "resourceUrl"]);
    (change_type, name, path, prop::option::of(data())).prop_map(|(change_type, name, path, data)| {
        let mut members = vec![("changeType".to_owned(), text(change_type)), (name.to_owned(), text(path))];
        members.extend(data.map(|data| ("resourceData".to_owned(), data)));
        Json::Object(members)
    })
}

/// Objects with members that are read, with usual and other values; also arrays and scalars.
fn data() -> impl Strategy<Value = Json> {
    const NAMES: &[&str] = &[
        "state",
        "status",
        "callChainId",
        "source",
        "identity",
        "user",
        "phone",
        "region",
        "incomingContext",
        "observedParticipantId",
        "onBehalfOf",
        "applicationMetadata",
        "botData",
        "resultInfo",
        "code",
        "requestedModalities",
    ];
    let kind = prop::sample::select(&["call", "recordOperation", "participantLeftNotification", "something"]);
    let scalar = prop_oneof![
        prop::sample::select(&[
            "null",
            "true",
            "7",
            "-1.5",
            "\"incoming\"",
            "\"Terminated\"",
            "\"x\\u00e9\\\"y\"",
            "\"4\""
        ])
        .prop_map(|raw| Json::Raw(raw.to_owned())),
        "[a-zA-Zé ]{0,8}".prop_map(|value| text(&value)),
    ];
    let value = scalar.prop_recursive(4, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::btree_map(prop::sample::select(NAMES), inner, 0..6).prop_map(object),
        ]
    });
    let members = prop::collection::btree_map(prop::sample::select(NAMES), value.clone(), 0..8);
    let typed = (prop::option::of(kind), members).prop_map(|(kind, members)| {
        let Json::Object(mut members) = object(members) else { return Json::Array(Vec::new()) };
        members
            .extend(kind.map(|kind| ("@odata.type".to_owned(), text(&format!("#microsoft.graph.{kind}")))));
        Json::Object(members)
    });
    prop_oneof![4 => typed, 1 => value]
}

fn object(members: std::collections::BTreeMap<&'static str, Json>) -> Json {
    Json::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(text: &str) -> Json {
    Json::Raw(format!("\"{text}\""))
}
