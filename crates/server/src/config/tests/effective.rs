//! The configuration as operators see it.

use serde_json::json;

use super::*;

/// Returns the paths of all settings in a value, down to lists of texts and to the source of a secret.
fn paths(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(name, value)| {
            paths(value, &format!("{path}/{name}"), out);
        }),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, item)| paths(item, &format!("{path}/{index}"), out));
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push(path.to_owned());
        }
    }
}

/// Returns true if the value has the setting, or says that one of the tables around it is absent.
fn has(mut value: &Value, path: &str) -> bool {
    for name in path.split('/').skip(1) {
        if value.is_null() {
            return true;
        }
        if let Some(items) = value.as_array()
            && name.parse().is_ok_and(|index: usize| index >= items.len())
        {
            return true;
        }
        let Some(inner) = value.pointer(&format!("/{name}")) else { return false };
        value = inner;
    }
    true
}

#[test]
fn written_settings_are_shown_as_the_file_writes_them() {
    let folder = example_files();
    let shown = Config::parse(EXAMPLE, folder.path(), env).unwrap().effective;
    let written: Value = toml::from_str(EXAMPLE).unwrap();
    let mut written_paths = Vec::new();
    paths(&written, "", &mut written_paths);
    assert!(written_paths.len() > 80, "{written_paths:?}");
    for path in written_paths {
        assert_eq!(shown.settings.pointer(&path), written.pointer(&path), "{path}");
    }
    assert_eq!(shown.hash.len(), 12);
    let expected: String =
        openssl::sha::sha256(EXAMPLE.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(expected.starts_with(&shown.hash));
}

/// The example writes every setting, so one that the smallest configuration does not show was forgotten.
#[test]
fn every_setting_is_shown_with_its_default() {
    let shown = parse(MINIMAL).unwrap().effective.settings;
    let mut all = Vec::new();
    paths(&toml::from_str(EXAMPLE).unwrap(), "", &mut all);
    // Alternatives of a setting that is written otherwise.
    let others = ["/callback/seal/", "/app/0/graph/"];
    for path in all.iter().filter(|path| !others.iter().any(|other| path.starts_with(other))) {
        assert!(has(&shown, path), "{path} is not in {shown:#}");
    }
    for (path, expected) in [
        ("/cloud", json!("public")),
        ("/listen/address", json!("0.0.0.0:8443")),
        ("/listen/tls", Value::Null),
        ("/listen/proxies", Value::Null),
        ("/listen/drain/deadline", json!("10s")),
        ("/admin/token", Value::Null),
        ("/app/0/tenants", json!(["*"])),
        ("/app/0/graph", Value::Null),
        ("/trust/0/name", json!("skype")),
        ("/keys/refresh", json!("1h")),
        ("/callback/seal/0", json!({"id": "k1", "secret": {"env": "SWITCHBOARD_SEAL_K1"}})),
        ("/callback/orphaned", json!("refuse")),
        ("/peer", json!([])),
        ("/affinity/status", json!(302)),
        ("/affinity/rule", json!([])),
        ("/placement/attempt", json!("3s")),
        ("/placement/eject_share", json!(0.5)),
        ("/placement/full", json!("refuse")),
        ("/fleet/instance/0/weight", json!(1)),
        ("/fleet/probe", Value::Null),
        ("/forward/authorization", json!(true)),
        ("/limits/body", json!("4MiB")),
        ("/limits/connections", json!(10_000)),
        ("/limits/in_flight_per_instance", json!(2500)),
        ("/log/level", json!("info")),
    ] {
        assert_eq!(shown.pointer(path), Some(&expected), "{path}");
    }
}

/// A default that depends on another setting is shown as it applies.
#[test]
fn defaults_of_rules_and_of_discovery_are_shown() {
    let more = "[placement]\nbudget = \"2s\"\n[[peer]]\nname = \"amer\"\nwebhook = \"https://a.example/x\"\n\
                [[affinity.rule]]\nserve_in = \"amer\"\n";
    let shown = accepted(more).effective.settings;
    assert_eq!(shown.pointer("/placement/attempt"), Some(&json!("2s")));
    assert_eq!(shown.pointer("/affinity/rule/0/share"), Some(&json!(1.0)));
    assert_eq!(shown.pointer("/affinity/rule/0/country"), Some(&Value::Null));
    assert_eq!(shown.pointer("/peer/0/health"), Some(&Value::Null));
    let shown = parse(DNS).unwrap().effective.settings;
    assert_eq!(shown.pointer("/fleet/dns/scheme"), Some(&json!("http")));
    assert_eq!(shown.pointer("/fleet/instance"), Some(&json!([])));
}

#[test]
fn no_byte_of_a_secret_is_shown() {
    let folder = example_files();
    fs::write(folder.path().join("admin"), "the-token-in-a-file").unwrap();
    let text = EXAMPLE.replace("{ env = \"SWITCHBOARD_ADMIN_TOKEN\" }", "{ file = \"admin\" }");
    let config = Config::parse(&text, folder.path(), env).unwrap();
    assert_eq!(config.admin.token.unwrap().expose(), b"the-token-in-a-file");
    let shown = config.effective.settings;
    assert_eq!(shown.pointer("/admin/token"), Some(&json!({"file": "admin"})));
    assert_eq!(shown.pointer("/app/0/graph/secret"), Some(&json!({"env": "SWITCHBOARD_APP_SECRET"})));
    let shown = shown.to_string();
    let key = fs::read_to_string(folder.path().join("tls.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for secret in ["the-token-in-a-file", "app-secret~1", SEAL, "KioqKio", "********", key] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn numbers_of_any_radix_and_quoted_names_are_shown() {
    let shown = accepted("[limits]\nin_flight = 0x1_000\n[fleet.probe]\n\"path\" = '/a\"b'\n");
    let shown = shown.effective.settings;
    assert_eq!(shown.pointer("/limits/in_flight"), Some(&json!(4096)));
    assert_eq!(shown.pointer("/limits/in_flight_per_instance"), Some(&json!(1024)));
}
