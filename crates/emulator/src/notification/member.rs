//! `path=value`: sets one member of a notification.

use std::{fmt, str::FromStr};

use serde_json::{Map, Value};

/// A member of a notification, and the value that it gets.
///
/// The text form is `PATH=VALUE`. A path that starts with a slash is a JSON pointer (RFC 6901) from the root
/// of the body, like `/value/0/changeType`. Any other path has dots and starts at the `resourceData` of the
/// first item, like `source.identity.user.displayName`; in a legacy body it starts at the root. A value that
/// is JSON stands for itself (`5`, `null`, `{"a":1}`, `"5"`), any other is text.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberSetting {
    path: String,
    value: Value,
    source: String,
}

/// A member cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMember {
    /// The text is not `PATH=VALUE`.
    #[error(
        "not PATH=VALUE, like source.countryCode=HU or /value/0/changeType=updated; JSON is taken as it is"
    )]
    Form,
    /// The path leads through a value that is not there, or that has no members.
    #[error("{path}: {at} {exists}")]
    Path {
        /// The whole path.
        path: String,
        /// The place where the path ends.
        at: String,
        /// A description of the value there.
        exists: String,
    },
}

impl FromStr for MemberSetting {
    type Err = InvalidMember;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (path, value) = text.split_once('=').ok_or(InvalidMember::Form)?;
        let names = if let Some(pointer) = path.strip_prefix('/') { pointer } else { path };
        if path.is_empty() || (names.split('.').any(str::is_empty) && !path.starts_with('/')) {
            return Err(InvalidMember::Form);
        }
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        Ok(Self { path: path.to_owned(), value, source: text.to_owned() })
    }
}

/// The form that [`FromStr`] reads.
impl fmt::Display for MemberSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl MemberSetting {
    /// Sets the member in a notification. The last name may be new, or the index that follows the last
    /// element of a list; all before it must exist.
    pub(super) fn apply(&self, body: &mut Value) -> Result<(), InvalidMember> {
        let names: Vec<String> = if let Some(pointer) = self.path.strip_prefix('/') {
            pointer.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect()
        } else {
            let root: &[&str] = if body.get("value").is_some_and(Value::is_array) {
                &["value", "0", "resourceData"]
            } else {
                &[]
            };
            root.iter().copied().chain(self.path.split('.')).map(str::to_owned).collect()
        };
        let Some((last, parents)) = names.split_last() else { return Err(InvalidMember::Form) };
        let mut place = body;
        for (depth, name) in parents.iter().enumerate() {
            let exists = exists(place);
            place = match place {
                Value::Object(members) => members.get_mut(name),
                Value::Array(elements) => name.parse().ok().and_then(|index: usize| elements.get_mut(index)),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
            }
            .ok_or_else(|| self.missing(&names, depth, &exists))?;
        }
        let depth = parents.len();
        match place {
            Value::Object(members) => {
                members.insert(last.clone(), self.value.clone());
            }
            Value::Array(elements) => match last.parse::<usize>().ok() {
                Some(index) if index < elements.len() => {
                    if let Some(element) = elements.get_mut(index) {
                        element.clone_from(&self.value);
                    }
                }
                Some(index) if index == elements.len() => elements.push(self.value.clone()),
                _ => return Err(self.missing(&names, depth, &exists(&Value::Array(elements.clone())))),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                let exists = exists(place);
                return Err(self.missing(&names, depth, &exists));
            }
        }
        Ok(())
    }

    fn missing(&self, names: &[String], depth: usize, exists: &str) -> InvalidMember {
        let walked = names.get(..depth).unwrap_or_default();
        let at = if walked.is_empty() { "the body".to_owned() } else { format!("/{}", walked.join("/")) };
        InvalidMember::Path { path: self.path.clone(), at, exists: exists.to_owned() }
    }
}

/// Describes a value for an error: its members, its length, or its type.
fn exists(value: &Value) -> String {
    let members = |members: &Map<String, Value>| {
        let names: Vec<&str> = members.keys().take(NAMES_MAX).map(String::as_str).collect();
        let more = if members.len() > NAMES_MAX { ", …" } else { "" };
        format!("has the members {}{more}", names.join(", "))
    };
    match value {
        Value::Object(none) if none.is_empty() => "is an object without members".to_owned(),
        Value::Object(some) => members(some),
        Value::Array(elements) => match elements.len() {
            0 => "is an empty list".to_owned(),
            1 => "is a list with the index 0 only".to_owned(),
            length => format!("is a list with the indexes 0 to {}", length.saturating_sub(1)),
        },
        Value::Null => "is null".to_owned(),
        Value::Bool(_) => "is true or false".to_owned(),
        Value::Number(_) => "is a number".to_owned(),
        Value::String(_) => "is text".to_owned(),
    }
}

const NAMES_MAX: usize = 30;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn graph() -> Value {
        json!({"value": [{"changeType": "created", "resourceData": {
            "@odata.type": "x", "source": {"countryCode": "US"}, "targets": [{"id": "a"}],
            "state": "incoming",
        }}]})
    }

    #[track_caller]
    fn check(text: &str, pointer: &str, expected: &Value) {
        let mut body = graph();
        let setting: MemberSetting = text.parse().unwrap();
        setting.apply(&mut body).unwrap();
        assert_eq!(body.pointer(pointer), Some(expected), "{text}");
        assert_eq!(setting.to_string(), text);
    }

    #[test]
    fn a_member_is_set_by_dots_or_by_a_pointer() {
        check("source.countryCode=HU", "/value/0/resourceData/source/countryCode", &json!("HU"));
        check("source.new=", "/value/0/resourceData/source/new", &json!(""));
        check("targets.0.id=5", "/value/0/resourceData/targets/0/id", &json!(5));
        check(r#"targets.1={"id":"b"}"#, "/value/0/resourceData/targets/1/id", &json!("b"));
        check("state=\"5\"", "/value/0/resourceData/state", &json!("5"));
        check("state=null", "/value/0/resourceData/state", &Value::Null);
        check("state=a=b", "/value/0/resourceData/state", &json!("a=b"));
        check("/value/0/changeType=updated", "/value/0/changeType", &json!("updated"));
        check("/value/0/resourceData/@odata.type=y", "/value/0/resourceData/@odata.type", &json!("y"));
        let mut legacy = json!({"callState": "incoming"});
        "callState=x".parse::<MemberSetting>().unwrap().apply(&mut legacy).unwrap();
        assert_eq!(legacy, json!({"callState": "x"}));
    }

    #[track_caller]
    fn check_invalid(text: &str, expected: &str) {
        let error = text.parse::<MemberSetting>().and_then(|set| set.apply(&mut graph())).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn an_error_names_the_path_and_what_exists_there() {
        check_invalid(
            "source.identity.user=x",
            "source.identity.user: /value/0/resourceData/source has the members countryCode",
        );
        check_invalid("targets.7=x", "/value/0/resourceData/targets is a list with the index 0 only");
        check_invalid("targets.7.id=x", "targets is a list with the index 0 only");
        check_invalid("state.x=1", "/value/0/resourceData/state is text");
        check_invalid("/valu/0=1", "/valu/0: the body has the members value");
        check_invalid("state", "not PATH=VALUE");
        check_invalid("=x", "not PATH=VALUE");
        check_invalid("a..b=x", "not PATH=VALUE");
    }
}
