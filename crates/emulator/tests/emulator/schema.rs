//! The part of JSON Schema 2020-12 that the OpenAPI document uses. An unknown keyword fails the test.

use serde_json::Value;
use switchboard_emulator::{Flaw, TokenKind, parse_country, parse_duration, parse_http_url};
use uuid::Uuid;

/// Checks that `instance` fits `schema`, a part of `root`. The error names the place and the keyword.
pub(crate) fn fits(root: &Value, schema: &Value, instance: &Value) -> Result<(), String> {
    let fits_ref = |one: &Value| fits(root, one, instance).is_ok();
    let rules = schema.as_object().unwrap();
    for (keyword, rule) in rules {
        let good = match keyword.as_str() {
            "description" | "default" | "examples" | "discriminator" => true,
            "$ref" => {
                fits(root, resolve(root, schema), instance)?;
                true
            }
            "allOf" => list(rule).iter().all(fits_ref),
            "anyOf" => list(rule).iter().any(fits_ref),
            "oneOf" => {
                let count = list(rule).iter().filter(|one| fits_ref(one)).count();
                // The error of the only candidate says more than that none fits.
                let event = instance.get("event").or_else(|| instance.get("do"));
                let candidates = list(rule).iter().map(|one| resolve(root, one));
                let named = |one: &&Value| {
                    let name = one.pointer("/properties/event").or_else(|| one.pointer("/properties/do"));
                    event.zip(name).is_some_and(|(event, name)| fits(root, name, event).is_ok())
                };
                if let (0, Some(candidate)) = (count, candidates.into_iter().find(named)) {
                    fits(root, candidate, instance)?;
                }
                count == 1
            }
            "const" => rule == instance,
            "enum" => list(rule).contains(instance),
            "type" => match rule.as_array() {
                Some(names) => names.iter().any(|name| is_a(name, instance)),
                None => is_a(rule, instance),
            },
            "minimum" => instance.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
            "maximum" => instance.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
            "pattern" => instance.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
            "format" => instance.as_str().is_none_or(|text| is_of_format(rule.as_str().unwrap(), text)),
            "minItems" => instance.as_array().is_none_or(|items| items.len() >= count(rule)),
            "maxItems" => instance.as_array().is_none_or(|items| items.len() <= count(rule)),
            "items" => {
                for (at, item) in instance.as_array().into_iter().flatten().enumerate() {
                    fits(root, rule, item).map_err(|error| format!("{at}: {error}"))?;
                }
                true
            }
            "required" => instance.as_object().is_none_or(|members| {
                list(rule).iter().all(|name| members.contains_key(name.as_str().unwrap()))
            }),
            "properties" => {
                for (name, value) in instance.as_object().into_iter().flatten() {
                    let schema = rule.get(name);
                    schema
                        .map_or(Ok(()), |schema| fits(root, schema, value))
                        .map_err(|error| format!("{name}: {error}"))?;
                }
                true
            }
            "propertyNames" => {
                let mut names = instance.as_object().into_iter().flatten();
                names.all(|(name, _)| fits(root, rule, &name.as_str().into()).is_ok())
            }
            "additionalProperties" => {
                let named = |name: &str| rules.get("properties").is_some_and(|all| all.get(name).is_some());
                let mut others = instance.as_object().into_iter().flatten().filter(|(name, _)| !named(name));
                others.all(|(_, value)| rule != &Value::Bool(false) && fits(root, rule, value).is_ok())
            }
            other => panic!("keyword {other}"),
        };
        if !good {
            return Err(format!("{keyword} {rule} of {instance}"));
        }
    }
    Ok(())
}

/// Follows the reference of a part, if it is one.
pub(crate) fn resolve<'a>(root: &'a Value, part: &'a Value) -> &'a Value {
    let reference = part.get("$ref").and_then(Value::as_str);
    reference.map_or(part, |reference| root.pointer(reference.strip_prefix('#').unwrap()).unwrap())
}

fn list(rule: &Value) -> &[Value] {
    rule.as_array().unwrap()
}

fn count(rule: &Value) -> usize {
    rule.as_u64().unwrap().try_into().unwrap()
}

fn is_a(name: &Value, instance: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => instance.is_object(),
        "array" => instance.is_array(),
        "string" => instance.is_string(),
        "boolean" => instance.is_boolean(),
        "integer" => instance.is_i64() || instance.is_u64(),
        "number" => instance.is_number(),
        "null" => instance.is_null(),
        other => panic!("type {other}"),
    }
}

fn is_of_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => text.len() == 36 && Uuid::try_parse(text).is_ok(),
        "uri" => parse_http_url(text).is_ok(),
        "date-time" => text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'),
        other => panic!("format {other}"),
    }
}

/// Matches one of the patterns of the document. A new pattern needs a new arm.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^[0-9]+(ms|s|m|h)$" => parse_duration(text).is_ok(),
        "^[A-Za-z]{2}$" => parse_country(text).is_ok(),
        "^[1-5]xx$" => matches!(text.as_bytes(), [b'1'..=b'5', b'x', b'x']),
        // A test compares the whole pattern with the kinds and the flaws.
        choice if choice.starts_with("^(skype|") => text
            .split_once('+')
            .is_some_and(|(kind, flaw)| TokenKind::WORDS.contains(&kind) && Flaw::WORDS.contains(&flaw)),
        other => panic!("pattern {other}"),
    }
}

#[test]
fn the_checker_finds_what_does_not_fit() {
    let root = serde_json::json!({"defs": {"name": {"enum": ["a"]}}});
    for (schema, good, bad) in [
        (r##"{"$ref":"#/defs/name"}"##, r#""a""#, r#""b""#),
        (r#"{"allOf":[{"type":"string"},{"pattern":"^[A-Za-z]{2}$"}]}"#, r#""ab""#, r#""a""#),
        (r#"{"anyOf":[{"const":1},{"const":2}]}"#, "2", "3"),
        (r#"{"oneOf":[{"type":"integer"},{"minimum":2}]}"#, "1", "3"),
        (r#"{"type":["number","null"]}"#, "null", r#""1""#),
        (r#"{"maximum":2}"#, "2", "2.5"),
        (r#"{"pattern":"^[1-5]xx$"}"#, r#""2xx""#, r#""6xx""#),
        (r#"{"format":"uuid"}"#, r#""0efc74f7-41c3-47a4-8775-7259bfef4241""#, r#""1""#),
        (r#"{"minItems":1,"maxItems":2}"#, "[1]", "[]"),
        (r#"{"items":{"type":"boolean"}}"#, "[true]", "[true,1]"),
        (r#"{"required":["a"]}"#, r#"{"a":1}"#, r#"{"b":1}"#),
        (r#"{"properties":{"a":{"const":1}}}"#, r#"{"a":1}"#, r#"{"a":2}"#),
        (r##"{"propertyNames":{"$ref":"#/defs/name"}}"##, r#"{"a":1}"#, r#"{"b":1}"#),
        (r#"{"properties":{"a":{}},"additionalProperties":false}"#, r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
        (r#"{"additionalProperties":{"type":"string"}}"#, r#"{"a":"1"}"#, r#"{"a":1}"#),
    ] {
        let parse = |text| serde_json::from_str::<Value>(text).unwrap();
        assert_eq!(fits(&root, &parse(schema), &parse(good)), Ok(()), "{schema}");
        assert!(fits(&root, &parse(schema), &parse(bad)).is_err(), "{schema}");
    }
}
