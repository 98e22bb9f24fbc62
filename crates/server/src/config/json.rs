//! JSON as the tables that settings are read from, so that problems have the same words and places.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

/// A mistake in a JSON text, at a byte offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidJson {
    pub(super) offset: usize,
    pub(super) message: String,
}

/// Parses an array of objects, as the table that has the array under `name`.
pub(super) fn objects<'t>(text: &'t str, name: &'t str) -> Result<DeTable<'t>, InvalidJson> {
    let at = |offset, message: &str| InvalidJson { offset, message: message.to_owned() };
    let json = text.trim_start_matches('\u{feff}');
    if json.trim_ascii().is_empty() {
        return Err(at(0, "empty; an empty list is []"));
    }
    let raw: &RawValue = serde_json::from_str(json).map_err(|error| syntax(text, json, &error))?;
    let reader = Reader { text };
    let array = reader.value(raw, DEPTH_MAX)?;
    let DeValue::Array(items) = array.get_ref() else {
        return Err(at(array.span().start, "not an array of instances, like [{\"name\": …, \"url\": …}]"));
    };
    if let Some(item) = items.iter().find(|item| !item.get_ref().is_table()) {
        return Err(at(item.span().start, "not an object with the members of an instance"));
    }
    let mut table = DeTable::new();
    table.insert(Spanned::new(array.span(), Cow::Borrowed(name)), array);
    Ok(table)
}

struct Reader<'t> {
    text: &'t str,
}

impl<'t> Reader<'t> {
    /// Reads a value that is valid JSON, with at most `depth` levels of arrays and objects in it.
    fn value(&self, raw: &'t RawValue, depth: usize) -> Result<Spanned<DeValue<'t>>, InvalidJson> {
        let written = raw.get();
        let start = self.offset_of(written);
        let invalid = |message: &str| InvalidJson { offset: start, message: message.to_owned() };
        let value = match written.as_bytes().first() {
            Some(b'[' | b'{') if depth == 0 => return Err(invalid("nested too deeply for an instance")),
            Some(b'[') => {
                let items: Vec<&'t RawValue> =
                    serde_json::from_str(written).map_err(|_| invalid("not an array"))?;
                let mut array = DeArray::new();
                for item in items {
                    array.push(self.value(item, depth - 1)?);
                }
                DeValue::Array(array)
            }
            Some(b'{') => {
                let Members(members) = serde_json::from_str(written).map_err(|_| invalid("not an object"))?;
                DeValue::Table(self.table(members, depth - 1)?)
            }
            Some(b'"') => DeValue::String(self.string(written)?),
            Some(b't' | b'f') => DeValue::Boolean(written == "true"),
            // Of no type that a setting has: null is never right.
            Some(b'n') => DeValue::Table(DeTable::new()),
            // A number of JSON is one of TOML.
            Some(_) | None => DeValue::parse(written).map_err(|_| invalid("not a number"))?.into_inner(),
        };
        Ok(Spanned::new(start..start.saturating_add(written.len()), value))
    }

    fn table(
        &self,
        members: Vec<(&'t RawValue, &'t RawValue)>,
        depth: usize,
    ) -> Result<DeTable<'t>, InvalidJson> {
        let mut table = DeTable::new();
        for (key, value) in members {
            let start = self.offset_of(key.get());
            let name = Spanned::new(start..start.saturating_add(key.get().len()), self.string(key.get())?);
            if table.insert(name, self.value(value, depth)?).is_some() {
                let message = "an object has this member twice; write each once".to_owned();
                return Err(InvalidJson { offset: start, message });
            }
        }
        Ok(table)
    }

    fn string(&self, written: &'t str) -> Result<Cow<'t, str>, InvalidJson> {
        let parsed = serde_json::from_str::<String>(written).map(Cow::Owned);
        parsed.map_err(|_| InvalidJson {
            offset: self.offset_of(written),
            message: "not valid text: half of a surrogate pair".to_owned(),
        })
    }

    /// The offset of a part of the text.
    fn offset_of(&self, part: &str) -> usize {
        part.as_ptr().addr().saturating_sub(self.text.as_ptr().addr())
    }
}

/// The members of an object in their order, names included.
struct Members<'t>(Vec<(&'t RawValue, &'t RawValue)>);

impl<'t> Deserialize<'t> for Members<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'t> Visitor<'t> for MembersVisitor {
    type Value = Members<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Members<'t>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<&'t RawValue, &'t RawValue>()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// The mistake that the parser found in `json`, the part of `text` after a byte order mark.
fn syntax(text: &str, json: &str, error: &serde_json::Error) -> InvalidJson {
    let before: usize =
        json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    let offset = (text.len() - json.len()).saturating_add(before);
    let offset = offset.saturating_add(error.column().saturating_sub(1)).min(text.len());
    let mut offset = offset;
    while !text.is_char_boundary(offset) {
        offset = offset.saturating_sub(1);
    }
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    InvalidJson { offset, message: format!("not valid JSON: {message}") }
}

/// A list of objects, whose members are lists at most.
const DEPTH_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, offset: usize, message: &str) {
        let expected = InvalidJson { offset, message: message.to_owned() };
        assert_eq!(objects(text, "instance").unwrap_err(), expected, "{text}");
    }

    #[test]
    fn an_array_of_objects_is_a_list_of_tables() {
        let text =
            "\u{feff} [ {\"name\" : \"b\\u006ft\", \"weight\":2,\"apps\":[\"a\"], \"draining\" : true} ]";
        let table = objects(text, "instance").unwrap();
        let items = table.get("instance").unwrap().get_ref().as_array().unwrap();
        let first = items[0].get_ref().as_table().unwrap();
        let (key, value) = first.get_key_value("name").unwrap();
        assert_eq!(text.get(key.span()), Some("\"name\""));
        assert_eq!(text.get(value.span()), Some("\"b\\u006ft\""));
        assert_eq!(value.get_ref().as_str(), Some("bot"));
        assert_eq!(first.get("weight").unwrap().get_ref().as_integer().unwrap().as_str(), "2");
        assert_eq!(first.get("draining").unwrap().get_ref().as_bool(), Some(true));
        assert_eq!(first.get("apps").unwrap().get_ref().as_array().unwrap().len(), 1);
        assert!(objects("[]", "instance").is_ok());
    }

    #[test]
    fn a_mistake_has_its_place() {
        refused("", 0, "empty; an empty list is []");
        refused(" \n", 0, "empty; an empty list is []");
        refused("[{\"name\": ", 9, "not valid JSON: EOF while parsing a value");
        refused("[\n{,}]", 3, "not valid JSON: key must be a string");
        refused("\u{feff}[} ", 4, "not valid JSON: expected value");
        refused("{}", 0, "not an array of instances, like [{\"name\": …, \"url\": …}]");
        refused("[{}, 1]", 5, "not an object with the members of an instance");
        refused("[{\"a\":1,\"a\":2}]", 8, "an object has this member twice; write each once");
        refused("[{\"a\":\"\\ud800\"}]", 6, "not valid text: half of a surrogate pair");
        refused("[[[[]]]]", 3, "nested too deeply for an instance");
        refused(&"[".repeat(1 << 20), (1 << 20) - 1, "not valid JSON: EOF while parsing a list");
    }
}
