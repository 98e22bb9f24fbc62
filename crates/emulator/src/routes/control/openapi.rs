//! The OpenAPI document of the control API.

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::server::{Body, respond};

/// Responds with the document.
pub(super) fn document() -> Response<Body> {
    let text = Bytes::from_static(DOCUMENT.as_bytes());
    respond(StatusCode::OK, Some("application/json; charset=utf-8"), text)
}

const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{super::ROUTES, *};
    use crate::{
        call::{CallKind, CallOutcome, PARTICIPANTS_MAX, Protocol, Region},
        call_record::{CallStage, Direction},
        faults::FaultName,
        keys::Issuer,
        load::{CALLS_MAX, RATE_MAX},
        operation::{OperationKind, OperationStatus},
        participant::IdentityKind,
        routes::NamedUrl,
        script::Tone,
        token::{Flaw, TokenKind},
    };

    const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Returns each operation with its path and its method.
    fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
        let paths = document["paths"].as_object().unwrap().iter();
        let all = paths.flat_map(|(path, item)| {
            let methods = METHODS.into_iter();
            methods.filter_map(move |method| Some((path.as_str(), method, item.get(method)?)))
        });
        all.collect()
    }

    fn texts(list: &Value) -> Vec<&str> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
    }

    #[test]
    fn the_document_and_the_router_have_the_same_routes() {
        let document = parsed();
        let documented: BTreeSet<(String, String)> = operations(&document)
            .into_iter()
            .map(|(path, method, _)| (path.to_owned(), method.to_uppercase()))
            .collect();
        let below = ROUTES.iter().flat_map(|(path, methods)| {
            methods.split(", ").map(move |method| (format!("/emulator/{path}"), method.to_owned()))
        });
        let index = ("/emulator".to_owned(), "GET".to_owned());
        assert_eq!(documented, below.chain([index]).collect());
    }

    #[test]
    fn the_document_keeps_the_rules_of_openapi() {
        let document = parsed();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
        let mut ids = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "{id} is not unique");
            assert!(operation["summary"].is_string() && operation["responses"].is_object(), "{id}");
            let lists = [&document["paths"][path]["parameters"], &operation["parameters"]];
            let declared: BTreeSet<&str> = lists
                .into_iter()
                .filter_map(Value::as_array)
                .flatten()
                .map(|parameter| match parameter["$ref"].as_str() {
                    Some(reference) => document.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
                    None => parameter,
                })
                .filter(|parameter| parameter["in"] == "path" && parameter["required"] == true)
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let segments = path.split('/');
            let named = segments.filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(declared, named, "{method} {path}");
        }
        let mut used = BTreeSet::new();
        check_references(&document, &document, &mut used);
        for (kind, components) in document["components"].as_object().unwrap() {
            for name in components.as_object().unwrap().keys().filter(|_| kind != "securitySchemes") {
                let reference = format!("#/components/{kind}/{name}");
                assert!(used.contains(reference.as_str()), "{reference} is not used");
            }
        }
    }

    /// Checks that every reference resolves.
    fn check_references<'a>(document: &Value, part: &'a Value, used: &mut BTreeSet<&'a str>) {
        match part {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    let target = document.pointer(reference.strip_prefix('#').unwrap());
                    assert!(target.is_some(), "{reference}");
                    used.insert(reference);
                }
                members.values().for_each(|part| check_references(document, part, used));
            }
            Value::Array(parts) => parts.iter().for_each(|part| check_references(document, part, used)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn the_document_has_the_words_of_the_code() {
        let schemas = &parsed()["components"]["schemas"];
        for (path, words) in [
            ("/CallKind/enum", CallKind::WORDS),
            ("/CallOutcome/enum", CallOutcome::WORDS),
            ("/CallState/enum", CallStage::WORDS),
            ("/CallSummary/properties/direction/enum", Direction::WORDS),
            ("/CallRequest/properties/region/enum", Region::WORDS),
            ("/CallRequest/properties/protocol/enum", Protocol::WORDS),
            ("/Participant/properties/kind/enum", IdentityKind::WORDS),
            ("/OperationName/enum", OperationKind::WORDS),
            ("/OperationStatus/enum", OperationStatus::WORDS),
            ("/Tone/oneOf/1/enum", Tone::WORDS),
            ("/TokenKind/enum", TokenKind::WORDS),
            ("/TokenFlaw/enum", Flaw::WORDS),
            ("/Issuer/enum", Issuer::WORDS),
            ("/FaultName/enum", FaultName::WORDS),
            ("/Faults/required", FaultName::WORDS),
        ] {
            assert_eq!(texts(schemas.pointer(path).unwrap()), words, "{path}");
        }
        for (path, maximum) in [
            ("/CallRequest/properties/participants/maximum", PARTICIPANTS_MAX),
            ("/LoadRequest/properties/calls/maximum", CALLS_MAX),
            ("/LoadRequest/properties/rate/maximum", RATE_MAX),
        ] {
            assert_eq!(schemas.pointer(path), Some(&maximum.into()), "{path}");
        }
        let both = format!("^({})\\+({})$", TokenKind::WORDS.join("|"), Flaw::WORDS.join("|"));
        assert_eq!(schemas["TokenChoice"]["anyOf"][2]["pattern"], both.as_str());

        let members = |schema: &str| -> BTreeSet<String> {
            schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let faults = FaultName::WORDS.iter().map(|&name| name.to_owned());
        assert_eq!(members("FaultChange"), faults.collect());
        let named = NamedUrl::all("").into_iter().map(|url| url.name);
        let index = named.chain(["app", "fault_values", "identity_variables"]).map(str::to_owned);
        assert_eq!(members("Index"), index.collect());
    }
}
