//! One request of the calling SDK, as a template that its arguments fill.
//!
//! `$name` in a template is replaced by the argument of that name: as text in quotes, and as a list of texts
//! after `[`. A part in backticks, `` `name:…` ``, is left out without that argument. A single quote stands
//! for a double one.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// One request of the SDK.
#[derive(Debug)]
pub(super) struct SdkRequest {
    /// The name, as in the path where it has one.
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    /// The path below `/v1.0/communications/calls`.
    pub(super) path: &'static str,
    pub(super) body: Option<&'static str>,
    pub(super) response: ExpectedResponse,
}

/// The response that the SDK needs.
#[derive(Debug)]
pub(super) enum ExpectedResponse {
    /// Any 2xx; the body is not read.
    Success,
    /// A JSON document.
    Document,
    /// A new call, with its id in the body or in `Location`.
    NewCall,
    /// An operation, which goes on until a notification of one of these types, but not longer than `wait`.
    /// Without types only the response itself ends it: a fault of the SDK.
    Operation { types: &'static [&'static str], wait: Duration },
}

/// The arguments of a request by name.
pub(super) type Arguments = BTreeMap<String, String>;

impl SdkRequest {
    /// True if the request is about a call that exists.
    pub(super) fn is_about_a_call(&self) -> bool {
        self.path.starts_with("/$call")
    }

    /// True if the request carries `Scenario-Id`.
    pub(super) fn names_the_scenario(&self) -> bool {
        self.name != "logTeleconferenceDeviceQuality"
    }

    /// The path of the request. The error names an argument that is missing.
    pub(super) fn path(&self, arguments: &Arguments) -> Result<String, String> {
        let escaped = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        Ok(format!("/v1.0/communications/calls{}", fill(self.path, arguments, &escaped)?))
    }

    /// The body of the request, if it has one. The error names an argument that is missing.
    pub(super) fn body(&self, arguments: &Arguments) -> Result<Option<String>, String> {
        let quoted = |text: &str| {
            let text = Value::from(text).to_string();
            text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default().to_owned()
        };
        self.body.map(|body| fill(body, arguments, &quoted)).transpose()
    }
}

/// Fills a template. `escape` makes the text of an argument part of the document.
fn fill(template: &str, arguments: &Arguments, escape: &dyn Fn(&str) -> String) -> Result<String, String> {
    let mut filled = String::new();
    for (index, part) in template.split('`').enumerate() {
        if index % 2 == 0 {
            fill_part(part, arguments, escape, &mut filled)?;
        } else if let Some((name, part)) = part.split_once(':')
            && arguments.contains_key(name)
        {
            fill_part(part, arguments, escape, &mut filled)?;
        }
    }
    Ok(filled)
}

fn fill_part(
    part: &str,
    arguments: &Arguments,
    escape: &dyn Fn(&str) -> String,
    filled: &mut String,
) -> Result<(), String> {
    let part = part.replace('\'', "\"");
    let mut pieces = part.split('$');
    filled.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let end = piece.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(piece.len());
        let (name, rest) = piece.split_at(end);
        let value = arguments.get(name).ok_or_else(|| format!("the argument {name} is missing"))?;
        if filled.ends_with('[') {
            let texts: Vec<String> = value.split(',').map(|text| format!("\"{}\"", escape(text))).collect();
            filled.push_str(&texts.join(","));
        } else {
            filled.push_str(&escape(value));
        }
        filled.push_str(rest);
    }
    Ok(())
}
