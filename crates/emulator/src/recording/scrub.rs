//! Removes secrets from notifications, and replaces personal data.
//!
//! Everything that is not known to be harmless is replaced: a new member of the platform may hold a name. The
//! structure, the names of members, the words of the protocol, short numbers, booleans and null stay.

use openssl::error::ErrorStack;
use serde_json::{Map, Number, Value, json};

use super::{
    pseudonyms::{Class, Pseudonyms},
    shapes::{
        Guid, is_blob, is_date, is_digits, is_graph_type, is_mail, is_member_name, is_phone, is_short_number,
        is_url, is_word,
    },
    words::{is_id_prefix, is_number_member, is_path_word, is_secret_member, is_word_member},
};

/// The scrubber of one recording.
#[derive(Debug)]
pub(super) struct Scrubber {
    pseudonyms: Pseudonyms,
}

impl Scrubber {
    pub(super) fn new() -> Result<Self, ErrorStack> {
        Ok(Self { pseudonyms: Pseudonyms::new()? })
    }

    /// Returns a body as it may be saved. One that is not a JSON object or array becomes a mark with its
    /// length: nothing says what it holds. serde_json refuses more than 128 levels.
    pub(super) fn body(&mut self, body: &[u8]) -> Value {
        match serde_json::from_slice::<Value>(body) {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => self.value("", value),
            Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | Err(_) => {
                json!({"removed": "not JSON, or nested too deeply", "bytes": body.len()})
            }
        }
    }

    /// Returns the value of a header as it may be saved.
    pub(super) fn header(&mut self, value: &str) -> String {
        self.text("region", value)
    }

    fn value(&mut self, name: &str, value: Value) -> Value {
        if is_secret_member(name) && !matches!(value, Value::Null | Value::Bool(_)) {
            // The type of a secret stays: `@odata.type` of tokenMeetingInfo contains the word token.
            return Value::from(REMOVED);
        }
        match value {
            Value::Null | Value::Bool(_) => value,
            Value::Number(number) => self.number(number),
            Value::String(text) => Value::from(self.text(name, &text)),
            Value::Array(elements) => elements.into_iter().map(|element| self.value(name, element)).collect(),
            Value::Object(members) => self.object(members),
        }
    }

    fn object(&mut self, members: Map<String, Value>) -> Value {
        let members = members.into_iter().map(|(name, member)| {
            let member = self.value(&name, member);
            let name = if is_member_name(&name) { name } else { self.replaced(Class::Name, &name) };
            (name, member)
        });
        Value::Object(members.collect())
    }

    /// Keeps numbers of at most six digits. A longer one may be a telephone number or a time.
    fn number(&mut self, number: Number) -> Value {
        let text = number.to_string();
        if is_short_number(text.trim_start_matches('-')) {
            return Value::Number(number);
        }
        let replacement = self.replaced(Class::Digits, &text);
        replacement.parse::<u64>().map_or(Value::Null, Value::from)
    }

    fn text(&mut self, name: &str, text: &str) -> String {
        let kept = text.is_empty()
            || name == "@odata.type" && is_graph_type(text)
            || is_word_member(name) && is_word(text)
            || is_number_member(name) && is_short_number(text);
        if kept {
            return text.to_owned();
        }
        if let Some(guid) = Guid::read(text) {
            return self.guid(guid);
        }
        // The order matters: the shapes overlap.
        let class = if is_blob(text) {
            return REMOVED.to_owned();
        } else if is_phone(text) {
            Class::Phone
        } else if is_digits(text) {
            Class::Digits
        } else if is_url(text) {
            Class::Url
        } else if is_date(text) {
            Class::Date
        } else if is_path(text) {
            return self.path(text);
        } else if let Some((prefix, rest)) = prefixed(text) {
            return format!("{prefix}:{}", self.id(rest));
        } else if is_mail(text) {
            Class::Mail
        } else {
            Class::Text
        };
        self.replaced(class, text)
    }

    /// Replaces the ids in the path of a resource.
    fn path(&mut self, path: &str) -> String {
        let segments = path.split('/').map(|segment| {
            if segment.is_empty() || is_path_word(segment) {
                segment.to_owned()
            } else if let Some(id) = segment.strip_prefix("calls('").and_then(|rest| rest.strip_suffix("')"))
            {
                format!("calls('{}')", self.id(id))
            } else {
                self.id(segment)
            }
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// Replaces the rest of an id like `8:orgid:GUID`, `4:+12025550123` or `19:meeting_ID@thread.v2`.
    fn id(&mut self, id: &str) -> String {
        if let Some((prefix, rest)) = id.split_once(':').filter(|(prefix, _)| is_id_prefix(prefix)) {
            return format!("{prefix}:{}", self.id(rest));
        }
        if let Some((thread, domain)) = id.split_once('@').filter(|(_, domain)| is_thread_domain(domain)) {
            return match thread.strip_prefix("meeting_") {
                Some(meeting) => format!("meeting_{}@{domain}", self.id(meeting)),
                None => format!("{}@{domain}", self.id(thread)),
            };
        }
        match Guid::read(id) {
            Some(guid) => self.guid(guid),
            None if is_phone(id) => self.replaced(Class::Phone, id),
            None if is_mail(id) => self.replaced(Class::Mail, id),
            None => self.replaced(Class::Id, id),
        }
    }

    fn guid(&mut self, guid: Guid) -> String {
        self.pseudonyms.guid(guid.id).map_or_else(|| REMOVED.to_owned(), |id| guid.write(id))
    }

    fn replaced(&mut self, class: Class, text: &str) -> String {
        self.pseudonyms.value(class, text).unwrap_or_else(|| REMOVED.to_owned())
    }
}

/// Returns true for the path of a resource of the calls API, absolute or relative.
fn is_path(text: &str) -> bool {
    let first = text.trim_start_matches('/').split(['/', '(']).next().unwrap_or_default();
    text.contains('/') && is_path_word(first)
}

/// Splits an id into its kind (`8`, `4`, `28`, `19`) and the rest.
fn prefixed(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(prefix, _)| prefix.len() <= 2 && is_digits(prefix))
}

fn is_thread_domain(domain: &str) -> bool {
    matches!(domain, "thread.v2" | "thread.tacv2" | "thread.skype" | "unq.gbl.spaces")
}

/// The mark of a removed value.
pub(super) const REMOVED: &str = "(removed)";

#[cfg(test)]
mod tests;
