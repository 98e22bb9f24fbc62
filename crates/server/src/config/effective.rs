//! `EffectiveConfig`: the configuration as operators see it: the settings of the file, and the defaults of
//! the others.
//!
//! A secret is in no file that the gateway accepts as a configuration, only its source is. So nothing of a
//! secret can be shown.

use openssl::sha::sha256;
use serde_json::{Map, Value};
use toml::de::{DeTable, DeValue};

/// The configuration in the shape of its file, in JSON. A setting that is neither written nor has a default
/// is null.
#[derive(Clone, Debug)]
pub struct EffectiveConfig {
    /// The first twelve hexadecimal digits of the SHA-256 of the file.
    pub(crate) hash: String,
    pub(crate) settings: Value,
}

impl EffectiveConfig {
    /// `text` is the file, `written` its tables, and `defaults` are the paths and the values of the settings
    /// that it does not write.
    pub(super) fn new(text: &str, written: &DeTable<'_>, defaults: Vec<(String, Value)>) -> Self {
        let mut settings = Value::Object(object(written));
        for (path, default) in defaults {
            if let Some(place) = place_of(&mut settings, &path)
                && place.is_null()
            {
                *place = default;
            }
        }
        let hash = sha256(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { hash, settings }
    }
}

fn object(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
}

fn json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(&**text),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => Value::from(*boolean),
        DeValue::Datetime(datetime) => Value::from(datetime.to_string()),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(object(table)),
    }
}

/// The place of a path like `affinity.rule[0].share`. Makes the tables of the path that are not there.
fn place_of<'v>(settings: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let mut place = settings;
    for part in path.split('.') {
        let (name, index) = part.split_once('[').unwrap_or((part, ""));
        if place.is_null() {
            *place = Value::Object(Map::new());
        }
        place = place.as_object_mut()?.entry(name).or_insert(Value::Null);
        if let Some(index) = index.strip_suffix(']') {
            place = place.as_array_mut()?.get_mut(index.parse::<usize>().ok()?)?;
        }
    }
    Some(place)
}
