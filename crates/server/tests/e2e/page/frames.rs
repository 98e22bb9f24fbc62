//! Events of a gateway that has run for a while, for tests that need more than a test can cause.

use serde_json::{Value, json};

/// The events of a gateway with an unreachable, a full and a draining instance. Each has a name and data.
pub(crate) fn busy(now: u64) -> Vec<(String, Value)> {
    let mut events: Value = serde_json::from_str(include_str!("busy.json")).unwrap();
    resolve(&mut events, now);
    serde_json::from_value(events).unwrap()
}

/// Replaces each `{"ago_ms": n}` by the time that many milliseconds before `now`.
fn resolve(value: &mut Value, now: u64) {
    if let Some(ago_ms) = value.get("ago_ms").and_then(Value::as_i64) {
        *value = json!(i64::try_from(now).unwrap() - ago_ms);
        return;
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|one| resolve(one, now)),
        Value::Object(members) => members.values_mut().for_each(|one| resolve(one, now)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The event `fleet` of a large fleet. One instance is unreachable.
pub(crate) fn fleet(now: u64, count: usize) -> Value {
    let instance = |at: usize| {
        let (state, reason) = match at == count / 2 {
            true => ("unreachable", "refused a connection"),
            false => ("ready", "its probe says ready"),
        };
        json!({
            "name": format!("bot-{at}"), "incarnation": "0", "state": state, "reason": reason, "since": now,
            "calls": 0, "calls_expected": 0, "calls_counted": 0, "capacity": 40, "in_flight": 0, "placed": 0,
            "callbacks": 0, "attempts": 0, "failures": {}, "missed_probes": 0, "last_miss": null,
            "drained": false,
        })
    };
    json!({"full": true, "instances": (0..count).map(instance).collect::<Vec<_>>()})
}
