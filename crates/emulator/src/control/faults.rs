//! `/emulator/faults`: read, set, replaced and cleared as JSON.

use serde_json::{Map, Value};

use super::InvalidControlRequest;
use crate::faults::{FaultName, Faults, takes};

/// `GET /emulator/faults`: every name, `null` where nothing is wrong.
pub(crate) fn faults_to_json(faults: &Faults) -> Value {
    FaultName::ALL
        .into_iter()
        .map(|name| (name.label().to_owned(), faults.value(name).map_or(Value::Null, Value::String)))
        .collect()
}

/// What each fault takes, for the index.
pub(crate) fn faults_explained() -> Value {
    FaultName::ALL.into_iter().map(|name| (name.label().to_owned(), Value::String(takes(name)))).collect()
}

/// A change: names with values, `null` where a fault is to end. All of it or nothing takes effect.
pub(crate) fn parse_faults(body: &[u8], mut faults: Faults) -> Result<Faults, InvalidControlRequest> {
    let change: Map<String, Value> =
        serde_json::from_slice(body).map_err(InvalidControlRequest::body(r#"{"graph":"429:2"}"#))?;
    for (name, value) in change {
        let name: FaultName = name.parse().map_err(|_| {
            let shown: String = name.chars().take(60).collect();
            InvalidControlRequest::Faults(format!(
                "{shown:?} is no fault: the names are {}",
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
                    "{name}: must be a text or null; it takes {}",
                    takes(name)
                )));
            }
        };
        faults.set(name, &text).map_err(|wrong| InvalidControlRequest::Faults(wrong.to_string()))?;
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_wrong(body: &str, expected: &str) {
        let error = parse_faults(body.as_bytes(), Faults::default()).expect_err("a wrong body");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_wrong_change_is_told_what_would_be_right() {
        check_wrong("", r#"this path takes, which is like {"graph":"429:2"}: EOF"#);
        check_wrong("[]", "expected a map");
        check_wrong(r#"{"grahp":"500"}"#, "\"grahp\" is no fault: the names are skype, entra");
        check_wrong(r#"{"graph":true}"#, "graph: must be a text or null; it takes one of down");
        check_wrong(r#"{"drop":1.5}"#, "drop does not take \"1.5\"; it takes a share");
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        let faults = parse_faults(br#"{"graph":"429:2","drop":0.5}"#, Faults::default()).unwrap();
        let faults = parse_faults(br#"{"graph":null,"clock":"+10m"}"#, faults).unwrap();
        let json = faults_to_json(&faults);
        assert_eq!(
            (&json["graph"], &json["drop"], &json["clock"]),
            (&Value::Null, &"0.5".into(), &"+10m".into())
        );
    }
}
