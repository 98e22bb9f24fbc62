//! The part of JSON Schema 2020-12 that the schema of an action uses. An unknown keyword fails the test.

use serde_json::Value;

/// Returns true if `instance` fits `schema`, a part of `root`.
pub(super) fn fits(root: &Value, schema: &Value, instance: &Value) -> bool {
    let object = schema.as_object().unwrap();
    object.iter().all(|(keyword, rule)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
        "$ref" => {
            fits(root, root.pointer(rule.as_str().unwrap().strip_prefix('#').unwrap()).unwrap(), instance)
        }
        "oneOf" => rule.as_array().unwrap().iter().filter(|one| fits(root, one, instance)).count() == 1,
        "const" => rule == instance,
        "enum" => rule.as_array().unwrap().contains(instance),
        "type" => match rule.as_str().unwrap() {
            "object" => instance.is_object(),
            "array" => instance.is_array(),
            "string" => instance.is_string(),
            "boolean" => instance.is_boolean(),
            "integer" => instance.is_i64() || instance.is_u64(),
            other => panic!("type {other}"),
        },
        "minimum" => instance.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => instance.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minLength" => characters(instance).is_none_or(|length| length >= count(rule)),
        "maxLength" => characters(instance).is_none_or(|length| length <= count(rule)),
        "pattern" => instance.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
        "minItems" => items(instance).is_none_or(|items| items.len() >= count(rule)),
        "maxItems" => items(instance).is_none_or(|items| items.len() <= count(rule)),
        "uniqueItems" => items(instance)
            .is_none_or(|items| items.iter().enumerate().all(|(at, item)| !items[..at].contains(item))),
        "items" => items(instance).is_none_or(|items| items.iter().all(|item| fits(root, rule, item))),
        "required" => instance.as_object().is_none_or(|members| {
            rule.as_array().unwrap().iter().all(|name| members.contains_key(name.as_str().unwrap()))
        }),
        "properties" => instance.as_object().is_none_or(|members| {
            members.iter().all(|(name, value)| rule.get(name).is_none_or(|rule| fits(root, rule, value)))
        }),
        "additionalProperties" => instance.as_object().is_none_or(|members| {
            assert_eq!(rule, &Value::Bool(false));
            members.keys().all(|name| object["properties"].get(name).is_some())
        }),
        other => panic!("keyword {other}"),
    })
}

fn items(instance: &Value) -> Option<&[Value]> {
    instance.as_array().map(Vec::as_slice)
}

fn characters(instance: &Value) -> Option<usize> {
    instance.as_str().map(|text| text.chars().count())
}

fn count(rule: &Value) -> usize {
    rule.as_u64().unwrap().try_into().unwrap()
}

/// Matches one of the four patterns of the schema. A new pattern needs a new arm.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern {
        "^[hH][tT][tT][pP][sS]?:[!-~]+$" => text.split_once(':').is_some_and(|(scheme, rest)| {
            matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
                && !rest.is_empty()
                && rest.bytes().all(|byte| byte.is_ascii_graphic())
        }),
        "^\\+[1-9][0-9]{1,14}$" => {
            let digits = text.strip_prefix('+').unwrap_or_default();
            (2..=15).contains(&digits.len())
                && !digits.starts_with('0')
                && digits.bytes().all(|byte| byte.is_ascii_digit())
        }
        "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$" => {
            let lengths: Vec<_> = text.split('-').map(str::len).collect();
            lengths == [8, 4, 4, 4, 12] && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
        }
        "^[0-9A-Da-d*#]{1,16}$" => {
            (1..=16).contains(&text.len())
                && text.chars().all(|key| matches!(key, '0'..='9' | 'A'..='D' | 'a'..='d' | '*' | '#'))
        }
        other => panic!("pattern {other}"),
    }
}
