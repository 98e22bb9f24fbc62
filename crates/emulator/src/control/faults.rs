//! `/emulator/faults`: the faults as JSON, and changes of them.

use serde_json::{Map, Value};

use super::InvalidControlRequest;
use crate::faults::{FaultName, Faults, takes};

/// Returns every name with its value, `null` for a fault that is not set.
pub(crate) fn faults_to_json(faults: &Faults) -> Value {
    FaultName::ALL
        .into_iter()
        .map(|name| (name.label().to_owned(), faults.value(name).map_or(Value::Null, Value::String)))
        .collect()
}

/// Returns a description of the values of each fault, for the index.
pub(crate) fn faults_explained() -> Value {
    FaultName::ALL.into_iter().map(|name| (name.label().to_owned(), Value::String(takes(name)))).collect()
}

/// Applies a change: names with values, `null` to end a fault. An invalid change changes nothing.
pub(crate) fn parse_faults(body: &[u8], mut faults: Faults) -> Result<Faults, InvalidControlRequest> {
    let change: Map<String, Value> =
        serde_json::from_slice(body).map_err(InvalidControlRequest::body(r#"{"graph":"429:2"}"#))?;
    for (name, value) in change {
        let name: FaultName = name.parse().map_err(|_| {
            let shown: String = name.chars().take(60).collect();
            InvalidControlRequest::Faults(format!(
                "no fault is called {shown:?}: the names are {}",
                FaultName::WORDS.join(", ")
            ))
        })?;
        let text = match value {
            Value::Null => {
                faults.clear(name);
                continue;
            }
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(InvalidControlRequest::Faults(format!(
                    "{name}: must be a string or null; it takes {}",
                    takes(name)
                )));
            }
        };
        faults.set(name, &text).map_err(|invalid| InvalidControlRequest::Faults(invalid.to_string()))?;
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_invalid(body: &str, expected: &str) {
        let error = parse_faults(body.as_bytes(), Faults::default()).expect_err("an invalid body");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn an_invalid_change_is_rejected_with_the_valid_values() {
        check_invalid("", r#"the body must be JSON like {"graph":"429:2"}: EOF"#);
        check_invalid("[]", "expected a map");
        check_invalid(r#"{"grahp":"500"}"#, "no fault is called \"grahp\": the names are skype, entra");
        check_invalid(r#"{"graph":true}"#, "graph: must be a string or null; it takes one of down");
        check_invalid(r#"{"drop":1.5}"#, "drop does not take \"1.5\"; it takes a share");
    }

    #[test]
    fn a_change_leaves_the_other_faults_as_they_are() {
        let faults = parse_faults(br#"{"graph":"429:2","drop":0.5}"#, Faults::default()).unwrap();
        let faults = parse_faults(br#"{"graph":null,"clock":"+10m"}"#, faults).unwrap();
        let json = faults_to_json(&faults);
        assert_eq!(
            (&json["graph"], &json["drop"], &json["clock"]),
            (&Value::Null, &"0.5".into(), &"+10m".into())
        );
    }
}
