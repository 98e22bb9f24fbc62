//! The JSON schema of a configuration, for editors: `docs/switchboard.schema.json`. Draft 7, without
//! references: the editors for TOML understand these.

use serde_json::{Map, Value, json};

use super::{
    DefaultValue, Definition, SETTINGS, Table,
    ValueKind::{self, *},
    reference,
};

/// Returns the schema as a file.
pub(super) fn file() -> String {
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "The configuration of Switchboard",
        "description": "Every setting of the gateway. `switchboard check` also compares the settings with \
                        each other, and knows the ranges of durations and sizes.",
    });
    schema.as_object_mut().unwrap().extend(table(&SETTINGS).as_object().unwrap().clone());
    let mut text = serde_json::to_string_pretty(&schema).unwrap();
    text.push('\n');
    text
}

fn table(table: &Table) -> Value {
    let properties: Map<_, _> =
        table.settings.iter().map(|setting| (setting.name.to_owned(), described(setting))).collect();
    let mut schema = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let is_required = |setting: &&Definition| matches!(setting.default, DefaultValue::Required);
    let required: Vec<_> = table.settings.iter().filter(is_required).map(|setting| setting.name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !table.one_of.is_empty() {
        schema["oneOf"] = table.one_of.iter().map(|set| json!({ "required": set })).collect();
    }
    for set in table.one_of.iter().filter(|set| set.len() > 1) {
        for name in *set {
            let others: Vec<_> = set.iter().filter(|other| *other != name).collect();
            schema["dependencies"][name] = json!(others);
        }
    }
    schema
}

fn described(setting: &Definition) -> Value {
    let mut schema = kind(&setting.kind);
    let mut description = without_links(setting.meaning);
    if let Some(range) = reference::range(setting) {
        description.push_str(&format!("\n\nRange: {}", without_links(&range)));
    }
    schema["description"] = json!(description);
    if let Some(default) = setting.default.value()
        && !matches!(setting.default, DefaultValue::Usual(..))
    {
        schema["default"] = default;
    }
    schema
}

fn kind(kind: &ValueKind) -> Value {
    let text = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match kind {
        Switch => json!({ "type": "boolean" }),
        Words(words) => json!({ "type": "string", "enum": words }),
        Numbers(numbers) => json!({ "type": "integer", "enum": numbers }),
        Integer(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
        Fraction => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        PositiveFraction => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
        Duration(..) | DurationBelow(..) => text("^[0-9]+(ms|s|m|h|d)$"),
        Size(..) => text("^[0-9]+(B|kB|KB|KiB|MB|MiB)$"),
        Guid => text("^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"),
        Address => text("^.+:[0-9]{1,5}$"),
        Shaped { pattern, shown: _ } => text(pattern),
        Either(one, other) => json!({ "anyOf": [self::kind(one), self::kind(other)] }),
        Secret => json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "env": { "type": "string", "minLength": 1, "description": "an environment variable" },
                "file": { "type": "string", "minLength": 1, "description": "the path of a file" },
            },
            "minProperties": 1,
            "maxProperties": 1,
        }),
        List(item, least) => list(&self::kind(item), *least),
        Inline(one) | Group(one) => table(one),
        InlineList(item, _) => list(&table(item), 1),
        Groups(item, _, least) => list(&table(item), *least),
    }
}

fn list(item: &Value, least: usize) -> Value {
    let mut schema = json!({ "type": "array", "items": item });
    if least > 0 {
        schema["minItems"] = json!(least);
    }
    schema
}

/// The links of the reference are relative to its page: an editor has only their texts.
fn without_links(markdown: &str) -> String {
    let mut plain = String::new();
    let mut rest = markdown;
    while let Some((before, link)) = rest.split_once('[') {
        let parts = link.split_once("](").and_then(|(text, after)| Some((text, after.split_once(')')?.1)));
        plain.push_str(before);
        match parts.filter(|(text, _)| !text.contains(['[', ']'])) {
            Some((text, after)) => {
                plain.push_str(text);
                rest = after;
            }
            None => {
                plain.push('[');
                rest = link;
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_its_text() {
        assert_eq!(without_links("`[\"*\"]`, [a b](c.md#d) [e](f)."), "`[\"*\"]`, a b e.");
    }
}
