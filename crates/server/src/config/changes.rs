//! The changes from one configuration to another, setting by setting.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use super::{
    effective::EffectiveConfig,
    settings::{
        Definition, OnReload, SETTINGS, Table,
        ValueKind::{
            self, Address, Duration, DurationBelow, Either, Fraction, Group, Groups, Guid, Inline,
            InlineList, Integer, List, Numbers, PositiveFraction, Secret, Shaped, Size, Switch, Words,
        },
    },
    unit,
};

/// One setting that has another value. A list without a name for its items counts as one setting.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The setting, like `fleet.instance[bot-0].weight`.
    pub path: String,
    /// The old value, as the file writes it; null if there was none.
    pub old: Value,
    /// The new value; null if there is none.
    pub new: Value,
    /// True if a reload cannot change it: the reload is refused, and a restart is needed.
    pub needs_restart: bool,
}

/// Returns the settings that differ, defaults included, in the order of the reference. Secrets are compared
/// by their sources, and files by their paths.
pub fn changes(old: &EffectiveConfig, new: &EffectiveConfig) -> Vec<Change> {
    let mut found = Vec::new();
    compare_tables(&SETTINGS, "", &old.settings, &new.settings, &mut found);
    found
}

fn compare_tables(table: &Table, path: &str, old: &Value, new: &Value, found: &mut Vec<Change>) {
    for setting in table.settings {
        let [old, new] = [old, new].map(|table| table.get(setting.name).unwrap_or(&Value::Null));
        let path = if path.is_empty() { setting.name.to_owned() } else { format!("{path}.{}", setting.name) };
        compare(setting, path, old, new, found);
    }
}

fn compare(setting: &Definition, path: String, old: &Value, new: &Value, found: &mut Vec<Change>) {
    match setting.kind {
        Group(table) => compare_tables(table, &path, old, new, found),
        Inline(table) if old.is_object() && new.is_object() => compare_tables(table, &path, old, new, found),
        Groups(table, name, _) => compare_lists(table, name, &path, old, new, found),
        InlineList(table, name) => {
            // The order has a meaning: the first key signs.
            let names = |list: &Value| items(list).iter().map(|item| item[name].clone()).collect::<Value>();
            if names(old) != names(new) {
                found.push(change(path.clone(), names(old), names(new), false));
            }
            compare_lists(table, Some(name), &path, old, new, found);
        }
        Inline(_)
        | Switch
        | Words(_)
        | Numbers(_)
        | Integer(..)
        | Fraction
        | PositiveFraction
        | Duration(..)
        | DurationBelow(..)
        | Size(..)
        | Guid
        | Address
        | Shaped { .. }
        | Either(..)
        | Secret
        | List(..) => {
            if normalized(&setting.kind, old) != normalized(&setting.kind, new) {
                let needs_restart = match setting.on_reload {
                    OnReload::Applies => false,
                    OnReload::NeedsRestart => true,
                    OnReload::PresenceNeedsRestart => old.is_null() != new.is_null(),
                };
                found.push(change(path, old.clone(), new.clone(), needs_restart));
            }
        }
    }
}

/// Compares the items of two lists: those of the same name, or those at the same place.
fn compare_lists(
    table: &Table,
    name: Option<&str>,
    path: &str,
    old: &Value,
    new: &Value,
    found: &mut Vec<Change>,
) {
    let (old, new) = (named(table, name, items(old)), named(table, name, items(new)));
    let added = new.iter().filter(|(id, _)| old.iter().all(|(other, _)| other != id));
    for (id, old) in &old {
        let path = format!("{path}[{id}]");
        match new.iter().find(|(other, _)| other == id) {
            Some((_, new)) => compare_tables(table, &path, old, new, found),
            None => found.push(change(path, (*old).clone(), Value::Null, false)),
        }
    }
    for (id, new) in added {
        found.push(change(format!("{path}[{id}]"), Value::Null, (*new).clone(), false));
    }
}

/// Returns the items of a list with their names or their places.
fn named<'v>(table: &Table, name: Option<&str>, items: &'v [Value]) -> Vec<(String, &'v Value)> {
    let name = name.and_then(|name| table.setting(name));
    let id = |(index, item): (usize, &'v Value)| {
        let text = name.map(|name| normalized(&name.kind, item.get(name.name).unwrap_or(&Value::Null)));
        let text = text.as_ref().and_then(Value::as_str).map(str::to_owned);
        (text.unwrap_or_else(|| index.to_string()), item)
    };
    items.iter().enumerate().map(id).collect()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

fn change(path: String, old: Value, new: Value, needs_restart: bool) -> Change {
    Change { path, old: without_absent(old), new: without_absent(new), needs_restart }
}

/// The value without the settings that it does not have.
fn without_absent(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_absent(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(without_absent).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// Returns the one spelling of a value: `"60s"` and `"1m"` are the same duration.
pub(super) fn normalized(kind: &ValueKind, value: &Value) -> Value {
    let text = |parse: fn(&str) -> Option<String>| {
        value.as_str().and_then(parse).map_or_else(|| value.clone(), Value::from)
    };
    match kind {
        Duration(..) | DurationBelow(..) => text(|text| unit::duration(text).map(unit::show)),
        Size(..) => text(|text| unit::size(text).map(unit::show_size)),
        Guid => text(|text| Some(text.to_ascii_lowercase())),
        Address => text(|text| text.parse::<SocketAddr>().ok().map(|address| address.to_string())),
        Fraction | PositiveFraction => value.as_f64().map_or_else(|| value.clone(), Value::from),
        List(item, _) => match value.as_array() {
            Some(items) => items.iter().map(|value| normalized(item, value)).collect(),
            None => value.clone(),
        },
        Switch
        | Words(_)
        | Numbers(_)
        | Integer(..)
        | Shaped { .. }
        | Either(..)
        | Secret
        | Inline(_)
        | InlineList(..)
        | Group(_)
        | Groups(..) => value.clone(),
    }
}

/// Returns a value as TOML writes it on one line; `none` for null.
pub fn shown_value(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| format!("{name} = {}", shown_value(value));
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown_value).collect::<Vec<_>>().join(", "))
        }
        // JSON escapes a text as a basic string of TOML does.
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{MINIMAL, parse};

    /// Checks the changes from the smallest configuration with some lines to one with others.
    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let [old, new] = [old, new].map(|more| parse(&format!("{MINIMAL}{more}")).unwrap().effective);
        let shown = |change: &Change| {
            let mark = if change.needs_restart { " !" } else { "" };
            format!("{}: {} -> {}{mark}", change.path, shown_value(&change.old), shown_value(&change.new))
        };
        assert_eq!(changes(&old, &new).iter().map(shown).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_default_that_is_written_changes_nothing() {
        check("", "", &[]);
        check("", "[keys]\nkeep_stale = \"1440m\"\n[listen]\naddress = \"0.0.0.0:8443\"\n", &[]);
        check("", "[placement]\nfill = \"spread\"\neject_share = 0.5\n[limits]\nbody = \"4096KiB\"\n", &[]);
        check("", "[affinity]\nrule = []\n", &[]);
    }

    #[test]
    fn items_of_lists_are_known_by_their_names() {
        let bot = |name: &str, weight: u32| {
            format!("[[fleet.instance]]\nname = \"{name}\"\nurl = \"http://10.0.0.1/\"\nweight = {weight}\n")
        };
        check(
            &format!("{}{}", bot("a", 1), bot("b", 1)),
            &format!("{}{}", bot("c", 1), bot("a", 2)),
            &[
                "fleet.instance[a].weight: 1 -> 2",
                "fleet.instance[b]: { name = \"b\", url = \"http://10.0.0.1/\", weight = 1 } -> none",
                "fleet.instance[c]: none -> { name = \"c\", url = \"http://10.0.0.1/\", weight = 1 }",
            ],
        );
    }

    #[test]
    fn rules_are_compared_by_their_places() {
        let peer = "[[peer]]\nname = \"amer\"\nwebhook = \"https://a.example/x\"\n";
        check(
            &format!("{peer}[[affinity.rule]]\nserve_in = \"amer\"\n"),
            &format!("{peer}[[affinity.rule]]\nserve_in = \"amer\"\nshare = 0.5\ncountry = [\"US\"]\n"),
            &["affinity.rule[0].country: none -> [\"US\"]", "affinity.rule[0].share: 1.0 -> 0.5"],
        );
    }

    #[test]
    fn a_default_that_follows_another_setting_changes_with_it() {
        check(
            "",
            "[limits]\nin_flight = 100\n",
            &["limits.in_flight: 10000 -> 100", "limits.in_flight_per_instance: 2500 -> 25"],
        );
    }

    #[test]
    fn a_table_that_appears_is_shown_by_its_settings() {
        check(
            "",
            "[fleet.probe]\npath = \"/healthz\"\n",
            &["fleet.probe.path: none -> \"/healthz\"", "fleet.probe.interval: none -> \"5s\""],
        );
    }

    #[test]
    fn a_secret_is_shown_by_its_source() {
        check(
            "",
            "[admin]\ntoken = { env = \"SWITCHBOARD_ADMIN_TOKEN\" }\n",
            &["admin.token: none -> { env = \"SWITCHBOARD_ADMIN_TOKEN\" }"],
        );
    }

    /// The first key signs, so its place is a change of its own.
    #[test]
    fn the_order_of_seal_keys_is_a_change() {
        let key = "seal = [{ id = \"k1\", secret = { env = \"SWITCHBOARD_SEAL_K1\" } }]";
        let rotated = "seal = [{ id = \"k2\", secret = { env = \"SEAL\" } }, \
                       { id = \"k1\", secret = { env = \"SWITCHBOARD_SEAL_K1\" } }]";
        let [old, new] =
            [MINIMAL.to_owned(), MINIMAL.replace(key, rotated)].map(|text| parse(&text).unwrap());
        let found = changes(&old.effective, &new.effective);
        let paths: Vec<_> = found.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["callback.seal", "callback.seal[k2]"]);
        assert_eq!(found[0].new, serde_json::json!(["k2", "k1"]));
    }

    #[test]
    fn a_setting_of_the_process_needs_a_restart() {
        check(
            "",
            "[listen]\naddress = \"0.0.0.0:9443\"\n[admin]\naddress = \"127.0.0.1:9091\"\n",
            &[
                "listen.address: \"0.0.0.0:8443\" -> \"0.0.0.0:9443\" !",
                "admin.address: \"127.0.0.1:9090\" -> \"127.0.0.1:9091\" !",
            ],
        );
    }
}
