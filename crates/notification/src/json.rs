//! Lenient parsing of JSON: members one by one, and nothing refused but malformed JSON.
//!
//! Derived `Deserialize` refuses a number in place of text and a member that occurs twice, and accepts an
//! array for a struct. A notification must not be lost because of a display name, so the few objects that
//! matter are parsed by hand.
//!
//! auth and graph have JSON readers of their own, since their rules differ. auth refuses duplicate and
//! misspelt names, since its input decides who is authenticated. graph builds a tree to name the place of a
//! mistake. This reader borrows all text and makes one pass over a body of several kilobytes.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A type that is filled from a JSON value of any type. Members that do not occur keep their default.
pub(crate) trait Receive<'de>: Default {
    /// Receives a member of an object. An implementation must take the value from `map`.
    fn member<M: MapAccess<'de>>(&mut self, name: &str, map: &mut M) -> Result<(), M::Error> {
        let _ = name;
        skip(map)
    }

    /// Receives an element of an array.
    fn element(&mut self, index: usize, raw: &'de RawValue) {
        let _ = (index, raw);
    }

    /// Receives a string.
    fn text(&mut self, text: Cow<'de, str>) {
        drop(text);
    }
}

/// The shape of a value, and `T` filled from it.
#[derive(Default)]
pub(crate) struct Received<T> {
    pub(crate) shape: Shape,
    pub(crate) value: T,
}

/// The shape of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    #[default]
    Scalar,
    Object,
    /// An array with its length.
    Array(usize),
}

impl<'de, T: Receive<'de>> Deserialize<'de> for Received<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Receiver(PhantomData))
    }
}

/// Returns the value of a member as `T`.
pub(crate) fn read<'de, T: Receive<'de>, M: MapAccess<'de>>(map: &mut M) -> Result<T, M::Error> {
    Ok(map.next_value::<Received<T>>()?.value)
}

/// Returns the value of a member if it is a string and not empty.
pub(crate) fn text<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<Cow<'de, str>>, M::Error> {
    Ok(text_of(map.next_value()?))
}

/// Returns the value of a member if it is an integer, or a string that contains one.
pub(crate) fn integer<'de, M: MapAccess<'de>>(map: &mut M) -> Result<Option<i64>, M::Error> {
    let raw: &RawValue = map.next_value()?;
    Ok(match text_of(raw) {
        Some(text) => text.parse().ok(),
        None => raw.get().parse().ok(),
    })
}

/// Skips the value of a member.
pub(crate) fn skip<'de, M: MapAccess<'de>>(map: &mut M) -> Result<(), M::Error> {
    map.next_value::<IgnoredAny>().map(drop)
}

/// Returns a string that is not empty. The platform writes `""` and null for unknown values.
pub(crate) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.is_empty() {
        None
    } else if inner.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

struct Receiver<T>(PhantomData<T>);

impl<'de, T: Receive<'de>> Visitor<'de> for Receiver<T> {
    type Value = Received<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut value = T::default();
        while let Some(Key(name)) = map.next_key()? {
            value.member(&name, &mut map)?;
        }
        Ok(Received { shape: Shape::Object, value })
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut value = T::default();
        let mut length = 0;
        while let Some(raw) = seq.next_element()? {
            value.element(length, raw);
            length += 1;
        }
        Ok(Received { shape: Shape::Array(length), value })
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        let mut received = Received::<T>::default();
        received.value.text(Cow::Borrowed(text));
        Ok(received)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let mut received = Received::<T>::default();
        received.value.text(Cow::Owned(text.to_owned()));
        Ok(received)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Received::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Received::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Received::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Received::default())
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Received::default())
    }
}

/// A member's name, borrowed unless it contains escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);
