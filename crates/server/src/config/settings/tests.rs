//! The table of settings, the parser, the JSON schema and the reference page agree.

mod inputs;

use std::{collections::BTreeSet, fs, path::Path, sync::LazyLock};

use boon::{Compiler, SchemaIndex, Schemas};
use expect_test::expect_file;
use serde_json::{Value, json};

use self::inputs::{MINIMAL, configurations, defaults};
use super::{
    DefaultValue, Definition, SETTINGS, Table,
    ValueKind::{self, *},
    reference, schema,
};
use crate::config::{
    Config, EffectiveConfig, Problems, Section, Surroundings, changes::normalized, text::tables, unit,
};

/// Reads a document. It may be written by another test of this file: so it is not compiled in.
fn document(name: &str) -> String {
    fs::read_to_string(Path::new(DOCUMENTS).join(name)).unwrap()
}

const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs");

/// `UPDATE_EXPECT=1` rewrites the file.
#[test]
fn the_schema_is_made_from_the_table() {
    expect_file!["../../../../../docs/switchboard.schema.json"].assert_eq(&schema::file());
}

/// `UPDATE_EXPECT=1` rewrites the tables.
#[test]
fn the_reference_page_is_made_from_the_table() {
    let page = document("configuration.md");
    expect_file!["../../../../../docs/configuration.md"].assert_eq(&reference::page(&page));
    let shown = reference::shown(&page);
    visit(&SETTINGS, "", &mut |path, setting| {
        let is_shown = !matches!(setting.kind, Group(_) | Groups(..)) || shown.contains(&path);
        assert!(is_shown, "no table of the page has {path}");
    });
    let sentence = reference::on_reload();
    assert!(page.contains(&sentence), "{sentence}");
}

#[test]
fn the_parser_reads_the_settings_of_the_table() {
    let mut read = BTreeSet::new();
    for text in configurations() {
        read.extend(parsed(&text).looked_for.iter().map(|path| without_indices(path)));
    }
    let mut expected = BTreeSet::new();
    visit(&SETTINGS, "", &mut |path, _| {
        expected.insert(path.to_owned());
    });
    assert_eq!(read, expected.into_iter().filter(|path| is_in_this_build(path)).collect());
}

#[test]
fn the_defaults_of_the_parser_are_those_of_the_table() {
    let mut found = BTreeSet::new();
    for text in defaults() {
        let parsed = parsed(&text);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        for (path, value) in parsed.defaults {
            let path = without_indices(&path);
            // The two of the cloud, each with its settings.
            if path == "trust" {
                continue;
            }
            let setting = definition(&path);
            let expected = setting.default.value().unwrap_or(Value::Null);
            let value = if value == json!([]) { Value::Null } else { value };
            assert_eq!(normalized(&setting.kind, &value), normalized(&setting.kind, &expected), "{path}");
            found.insert(path);
        }
    }
    visit(&SETTINGS, "", &mut |path, setting| {
        let has_default = setting.default.value().is_some() && is_in_this_build(path);
        assert!(!has_default || found.contains(path), "the parser has no default of {path}");
    });
}

/// The parser refuses the same values as the schema, with the limits of the table.
#[test]
fn wrong_values_are_refused_by_the_parser_and_the_schema() {
    let mut tried = BTreeSet::new();
    for text in configurations() {
        let good: Value = toml::from_str(&text).unwrap();
        accepted_by_both(&good);
        for (pointer, path, setting) in written(&good, &SETTINGS, "", "") {
            let with = |value: Value| {
                let mut changed = good.clone();
                *changed.pointer_mut(&pointer).unwrap() = value;
                changed
            };
            let other_type = if matches!(setting.kind, Switch) { json!("true") } else { json!(false) };
            refused_by_both(&with(other_type), &pointer);
            for (value, message) in wrong_values(&setting.kind) {
                refused_by_both(&with(value.clone()), &pointer);
                assert_problem(&with(value), &message);
            }
            for (value, message) in out_of_range(&setting.kind) {
                assert_problem(&with(value), &message);
            }
            if matches!(setting.default, DefaultValue::Required) {
                refused_by_both(&without(&good, &pointer), &format!("{pointer} is missing"));
            }
            if good.pointer(&pointer).is_some_and(Value::is_object) {
                let mut changed = good.clone();
                changed.pointer_mut(&pointer).unwrap()["no_such_setting"] = json!(1);
                refused_by_both(&changed, &format!("{pointer}/no_such_setting"));
            }
            tried.insert(path);
        }
    }
    visit(&SETTINGS, "", &mut |path, _| {
        let is_tried = tried.contains(path) || (!cfg!(feature = "kubernetes") && path.contains("kubernetes"));
        assert!(is_tried, "no configuration writes {path}");
    });
}

#[test]
fn contradictions_are_refused_by_the_parser_and_the_schema() {
    let minimal: Value = toml::from_str(MINIMAL).unwrap();
    let graph = |graph: Value| ("/app/0/graph", graph);
    let secret = json!({ "env": "SECRET" });
    for (pointer, value) in [
        ("/no_such_table", json!({})),
        ("/listen/tls", json!("tls.crt")),
        ("/fleet/dns", json!({ "name": "bots", "port": 3978 })),
        ("/fleet/instance", json!([])),
        ("/app", json!([])),
        ("/callback/seal", json!([])),
        ("/trust", json!([])),
        ("/callback/seal/0/secret", json!("KioqKg==")),
        ("/callback/seal/0/secret", json!({})),
        ("/callback/seal/0/secret", json!({ "env": "A", "file": "b" })),
        graph(json!({})),
        graph(json!({ "secret": secret, "federated_token": "token" })),
        graph(json!({ "certificate": "a.pem" })),
        graph(json!({ "secret": secret, "certificate": "a.pem" })),
        ("/app/0/tenants", json!(["contoso"])),
        ("/placement", json!({ "full": "overflow" })),
        ("/keys", json!({ "refresh": 3600 })),
        ("/keys", json!({ "refresh": "1.5h" })),
        ("/limits", json!({ "body": "4M" })),
        ("/limits", json!({ "connections": "10000" })),
    ] {
        let mut changed = minimal.clone();
        let (table, name) = pointer.rsplit_once('/').unwrap();
        if changed.pointer(table).is_none() {
            changed[table.trim_start_matches('/')] = json!({});
        }
        changed.pointer_mut(table).unwrap()[name] = value;
        refused_by_both(&changed, pointer);
    }
}

/// Each whole configuration in a document is valid, and each part of one fits the schema.
#[test]
fn the_configurations_in_documents_fit_the_schema() {
    let mut texts = vec![document("../deploy/kubernetes/switchboard.toml")];
    for entry in fs::read_dir(DOCUMENTS).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            let text = document(&name);
            let blocks = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
            texts.extend(blocks.map(str::to_owned));
        }
    }
    let (mut whole, mut parts) = (0, 0);
    for text in texts {
        let Ok(value) = toml::from_str::<Value>(&text) else { continue };
        if value.get("region").is_some() {
            check_schema_accepts(&text);
            whole += 1;
        } else if value.as_object().unwrap().keys().all(|name| SETTINGS.setting(name).is_some()) {
            let mut schema = serde_json::from_str(&document("switchboard.schema.json")).unwrap();
            relax(&mut schema);
            let (schemas, index) = compiled(schema);
            let fits = schemas.validate(&value, index);
            assert!(fits.is_ok(), "{text}\n{}", fits.unwrap_err());
            parts += 1;
        }
    }
    assert!(whole >= 6 && parts >= 5, "{whole} whole configurations, {parts} parts");
}

/// Checks that an editor marks nothing in a valid configuration.
#[track_caller]
pub(in crate::config) fn check_schema_accepts(text: &str) {
    let value: Value = toml::from_str(text).unwrap();
    let (schemas, index) = &*VALIDATOR;
    let fits = schemas.validate(&value, *index);
    assert!(fits.is_ok(), "the schema refuses a valid configuration\n{text}\n{}", fits.unwrap_err());
}

/// Calls `seen` with each setting below a table, also with the two of a secret, and its path.
pub(super) fn visit(table: &Table, path: &str, seen: &mut impl FnMut(&str, &'static Definition)) {
    for setting in table.settings {
        let path = if path.is_empty() { setting.name.to_owned() } else { format!("{path}.{}", setting.name) };
        seen(&path, setting);
        if let Some(inner) = inner(&setting.kind) {
            visit(inner, &path, seen);
        }
    }
}

fn inner(kind: &ValueKind) -> Option<&'static Table> {
    if matches!(kind, Secret) { Some(&SECRET) } else { kind.table() }
}

/// The two forms of a secret.
static SECRET: Table = Table::new(&[
    Definition::new("env", super::texts::TEXT, DefaultValue::Depends, ""),
    Definition::new("file", super::texts::FILE, DefaultValue::Depends, ""),
]);

fn definition(path: &str) -> &'static Definition {
    let mut found = None;
    visit(&SETTINGS, "", &mut |other, setting| {
        if other == path {
            found = Some(setting);
        }
    });
    found.unwrap_or_else(|| panic!("the table has no {path}"))
}

fn is_in_this_build(path: &str) -> bool {
    cfg!(feature = "kubernetes") || !path.starts_with("fleet.kubernetes.")
}

/// Returns the written settings that are in the table: the pointer, the path and the definition of each.
fn written(
    value: &Value,
    table: &'static Table,
    pointer: &str,
    path: &str,
) -> Vec<(String, String, &'static Definition)> {
    let mut found = Vec::new();
    for setting in table.settings {
        let Some(value) = value.get(setting.name) else { continue };
        let pointer = format!("{pointer}/{}", setting.name);
        let path = if path.is_empty() { setting.name.to_owned() } else { format!("{path}.{}", setting.name) };
        if let Some(inner) = inner(&setting.kind) {
            match value.as_array() {
                Some(items) => {
                    for (index, item) in items.iter().enumerate() {
                        found.extend(written(item, inner, &format!("{pointer}/{index}"), &path));
                    }
                }
                None => found.extend(written(value, inner, &pointer, &path)),
            }
        }
        found.push((pointer, path, setting));
    }
    found
}

fn without(value: &Value, pointer: &str) -> Value {
    let mut changed = value.clone();
    let (table, name) = pointer.rsplit_once('/').unwrap();
    changed.pointer_mut(table).unwrap().as_object_mut().unwrap().remove(name);
    changed
}

/// Returns values that the schema refuses, and the messages of the parser.
fn wrong_values(kind: &ValueKind) -> Vec<(Value, String)> {
    match kind {
        Words(words) => {
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            vec![(json!("no-such-word"), format!("not {}", words.join(" or ")))]
        }
        Numbers(numbers) => {
            let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
            vec![(json!(1), format!("not {}", numbers.join(" or ")))]
        }
        Integer(from, to) => {
            let message = format!("not a whole number from {from} to {to}");
            vec![(json!(from - 1), message.clone()), (json!(to + 1), message)]
        }
        Fraction => vec![(json!(1.5), "not a number from 0.0 to 1.0".to_owned())],
        PositiveFraction => vec![(json!(0.0), "0 fills no instance".to_owned())],
        Guid => vec![(json!("contoso"), "not a GUID".to_owned())],
        Duration(..) | DurationBelow(..) => vec![(json!("5 s"), "not a duration".to_owned())],
        Size(..) => vec![(json!("5 MiB"), "not a size".to_owned())],
        // `false` is the wrong value of these.
        Switch | Address | Shaped { .. } | Either(..) | Secret | List(..) => Vec::new(),
        Inline(_) | InlineList(..) | Group(_) | Groups(..) => Vec::new(),
    }
}

/// Returns values that the parser refuses, with its messages. A pattern cannot compare numbers with units.
fn out_of_range(kind: &ValueKind) -> Vec<(Value, String)> {
    if let Duration(from, to) = kind {
        let show = |text| unit::show(unit::duration(text).unwrap());
        let above = unit::duration(to).unwrap().as_millis() + 1;
        return vec![(json!(format!("{above}ms")), format!("not from {} to {}", show(from), show(to)))];
    }
    if let DurationBelow(from, limit) = kind {
        return vec![
            (json!(limit), format!("not less than {limit}, ")),
            (json!("0ms"), format!("not from {from} to 1h")),
        ];
    }
    if let Size(from, to) = kind {
        let show = |text| unit::show_size(unit::size(text).unwrap());
        let above = unit::size(to).unwrap() + 1;
        return vec![(json!(format!("{above}B")), format!("not from {} to {}", show(from), show(to)))];
    }
    Vec::new()
}

#[track_caller]
fn accepted_by_both(value: &Value) {
    let text = rendered(value);
    let problems = parsed(&text).problems;
    assert!(problems.is_empty(), "{text}\n{problems:?}");
    check_schema_accepts(&text);
}

#[track_caller]
fn refused_by_both(value: &Value, place: &str) {
    assert!(!parsed(&rendered(value)).problems.is_empty(), "the parser accepts {place}\n{value:#}");
    let (schemas, index) = &*VALIDATOR;
    assert!(schemas.validate(value, *index).is_err(), "the schema accepts {place}\n{value:#}");
}

#[track_caller]
fn assert_problem(value: &Value, message: &str) {
    let problems = parsed(&rendered(value)).problems;
    assert!(problems.iter().any(|problem| problem.message.contains(message)), "{message}: {problems:?}");
}

/// The schema without the rules about settings that must be present.
fn relax(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // A setting may have the name of a keyword.
            if members.get("required").is_some_and(Value::is_array) {
                members.remove("required");
            }
            members.remove("oneOf");
            members.values_mut().for_each(relax);
        }
        Value::Array(items) => items.iter_mut().for_each(relax),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn compiled(schema: Value) -> (Schemas, SchemaIndex) {
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.add_resource("file:///switchboard.schema.json", schema).unwrap();
    let index = compiler.compile("file:///switchboard.schema.json", &mut schemas).unwrap();
    (schemas, index)
}

static VALIDATOR: LazyLock<(Schemas, SchemaIndex)> =
    LazyLock::new(|| compiled(serde_json::from_str(&document("switchboard.schema.json")).unwrap()));

/// The findings of the parser in one configuration, without its secrets.
struct Parsed {
    looked_for: BTreeSet<String>,
    defaults: Vec<(String, Value)>,
    problems: Problems,
}

fn parsed(text: &str) -> Parsed {
    let table = tables(text).unwrap();
    let root = Section::root(table.get_ref());
    let around = Surroundings { folder: Path::new(""), env: &|_| None, without_secrets: true };
    let mut found = Vec::new();
    let _ = Config::read(&root, &around, |defaults| {
        found.clone_from(&defaults);
        EffectiveConfig::new(text, table.get_ref(), defaults)
    });
    Parsed { looked_for: root.looked_for(), defaults: found, problems: root.into_problems() }
}

fn without_indices(path: &str) -> String {
    path.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
}

/// Writes a configuration with every table as a value.
fn rendered(value: &Value) -> String {
    let members = value.as_object().unwrap().iter();
    members
        .map(|(name, value)| format!("{name} = {}\n", crate::config::changes::shown_value(value)))
        .collect()
}
