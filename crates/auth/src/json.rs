//! Strict parsing of one small JSON object: each name once, in one spelling, with bounded depth and width.
//!
//! serde_json takes the last of two equal names and knows no case variants, so another parser of the same
//! token could read other claims (RFC 7515 section 4, RFC 7519 section 4, RFC 8259 section 4). Here, both are
//! errors.
//!
//! notification and graph have JSON readers of their own, since their rules differ. notification must not
//! lose a notification, so it refuses nothing but broken JSON. graph names the place of a mistake, so it
//! builds a tree. This reader is on the path of every token that an attacker sends: it allocates almost
//! nothing and gives no details.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor},
};

/// The value of a member, as far as headers and claims need it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'de> {
    Text(Cow<'de, str>),
    /// An array that contains one string and nothing else.
    OneText(Cow<'de, str>),
    /// A number that fits `u64`, rounded down.
    Number(u64),
    /// Anything else.
    Other,
}

/// The reasons to refuse an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvalidObject {
    /// The text is not one JSON object within the limits.
    Syntax,
    /// A name occurs twice.
    Duplicate,
    /// A name that is read occurs in another case.
    CaseVariant(&'static str),
}

/// The limits of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectLimits {
    /// The levels of nesting, including the object itself.
    pub(crate) depth: u32,
    /// The number of members.
    pub(crate) members: usize,
}

/// Parses the object in `bytes` and returns the values of `names`, in their order.
pub(crate) fn read<'de, const N: usize>(
    bytes: &'de [u8],
    names: &[&'static str; N],
    limits: ObjectLimits,
) -> Result<[Option<Value<'de>>; N], InvalidObject> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let (values, problem) =
        ObjectVisitor { names, limits }.deserialize(&mut json).map_err(|_| InvalidObject::Syntax)?;
    json.end().map_err(|_| InvalidObject::Syntax)?;
    match problem {
        None => Ok(values),
        Some(problem) => Err(problem),
    }
}

/// The object. Parsing continues after a duplicate or misspelt name: broken JSON later on takes precedence.
struct ObjectVisitor<'n, const N: usize> {
    names: &'n [&'static str; N],
    limits: ObjectLimits,
}

type ReadMembers<'de, const N: usize> = ([Option<Value<'de>>; N], Option<InvalidObject>);

impl<'de, const N: usize> DeserializeSeed<'de> for ObjectVisitor<'_, N> {
    type Value = ReadMembers<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for ObjectVisitor<'_, N> {
    type Value = ReadMembers<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [const { None }; N];
        let mut others: Vec<Cow<'de, str>> = Vec::new();
        let mut problem = None;
        let mut members = 0_usize;
        let depth = self.limits.depth.saturating_sub(1);
        while let Some(Name(name)) = map.next_key()? {
            members += 1;
            if members > self.limits.members {
                return Err(A::Error::custom("too many members"));
            }
            let known = self.names.iter().position(|known| *known == name);
            if let Some(slot) = known.and_then(|at| values.get_mut(at)) {
                if slot.replace(map.next_value_seed(MemberVisitor { depth })?).is_some() {
                    problem = problem.or(Some(InvalidObject::Duplicate));
                }
                continue;
            }
            map.next_value_seed(SkipVisitor { depth })?;
            if let Some(known) = self.names.iter().find(|known| known.eq_ignore_ascii_case(&name)) {
                problem = problem.or(Some(InvalidObject::CaseVariant(known)));
            } else if others.contains(&name) {
                problem = problem.or(Some(InvalidObject::Duplicate));
            } else {
                others.push(name);
            }
        }
        Ok((values, problem))
    }
}

/// A member's name, borrowed unless it contains escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value that is read. It may be nested `depth` levels deep.
struct MemberVisitor {
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for MemberVisitor {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    /// A `NumericDate` may have a fraction (RFC 7519 section 2). `Duration` refuses negative and large
    /// numbers.
    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Duration::try_from_secs_f64(number.floor()).map_or(Value::Other, |it| Value::Number(it.as_secs())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let depth = deeper::<A::Error>(self.depth)?;
        let Some(first) = items.next_element_seed(Self { depth })? else { return Ok(Value::Other) };
        let mut alone = true;
        while items.next_element_seed(SkipVisitor { depth })?.is_some() {
            alone = false;
        }
        Ok(match first {
            Value::Text(text) if alone => Value::OneText(text),
            Value::Text(_) | Value::OneText(_) | Value::Number(_) | Value::Other => Value::Other,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        SkipVisitor { depth: self.depth }.visit_map(map)?;
        Ok(Value::Other)
    }
}

/// A value that is skipped. It may be nested `depth` levels deep; `IgnoredAny` alone would accept any depth.
struct SkipVisitor {
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for SkipVisitor {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for SkipVisitor {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let depth = deeper::<A::Error>(self.depth)?;
        while items.next_element_seed(Self { depth })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let depth = deeper::<A::Error>(self.depth)?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Self { depth })?;
        }
        Ok(())
    }
}

/// Returns one level less; fails if no level is left.
fn deeper<E: serde::de::Error>(depth: u32) -> Result<u32, E> {
    depth.checked_sub(1).ok_or_else(|| E::invalid_value(Unexpected::Other("nesting"), &"less nesting"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ObjectLimits = ObjectLimits { depth: 4, members: 8 };

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "a table reads better without references")]
    fn check(json: &str, expected: Result<[Option<Value<'_>>; 2], InvalidObject>) {
        assert_eq!(read(json.as_bytes(), &["iss", "exp"], LIMITS), expected, "{json}");
    }

    fn text(text: &str) -> Option<Value<'_>> {
        Some(Value::Text(text.into()))
    }

    #[test]
    fn names_are_found_in_any_order_and_with_escapes() {
        check(r#"{"exp":1,"iss":"a"}"#, Ok([text("a"), Some(Value::Number(1))]));
        check(r#" { "i\u0073s" : "\u0061" } "#, Ok([text("a"), None]));
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused() {
        check(r#"{"iss":"a","iss":"a"}"#, Err(InvalidObject::Duplicate));
        check(r#"{"iss":"a","i\u0073s":"b"}"#, Err(InvalidObject::Duplicate));
        check(r#"{"x":1,"y":2,"x":1}"#, Err(InvalidObject::Duplicate));
    }

    #[test]
    fn a_name_in_another_case_is_refused() {
        check(r#"{"iss":"a","Iss":"b"}"#, Err(InvalidObject::CaseVariant("iss")));
        check(r#"{"EXP":1}"#, Err(InvalidObject::CaseVariant("exp")));
    }

    #[test]
    fn numbers_are_rounded_down_to_seconds() {
        for (json, value) in [
            ("0", Value::Number(0)),
            ("1.9", Value::Number(1)),
            ("18446744073709551615", Value::Number(u64::MAX)),
            ("1e15", Value::Number(1_000_000_000_000_000)),
            ("1e19", Value::Number(10_000_000_000_000_000_000)),
            ("-1", Value::Other),
            ("-0.5", Value::Other),
            ("18446744073709551616", Value::Other),
            ("1e300", Value::Other),
            ("\"1\"", Value::Text("1".into())),
            ("null", Value::Other),
            ("true", Value::Other),
            ("[1]", Value::Other),
            ("{}", Value::Other),
        ] {
            check(&format!(r#"{{"exp":{json}}}"#), Ok([None, Some(value)]));
        }
    }

    #[test]
    fn an_array_of_one_string_is_a_value_of_its_own() {
        check(r#"{"iss":["a"]}"#, Ok([Some(Value::OneText("a".into())), None]));
        for json in [r"[]", r#"["a","b"]"#, r#"["a",1]"#, r#"[["a"]]"#, r"[1]"] {
            check(&format!(r#"{{"iss":{json}}}"#), Ok([Some(Value::Other), None]));
        }
    }

    #[test]
    fn other_texts_than_one_object_are_refused() {
        for json in [
            "",
            "null",
            "[]",
            "\"a\"",
            "{",
            "{}{}",
            "{} x",
            "{\"a\":1,}",
            "{\"a\":NaN}",
            "{\"a\":1e400}",
            "\u{feff}{}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\u{1}\"}",
            "{a:1}",
        ] {
            check(json, Err(InvalidObject::Syntax));
        }
        assert_eq!(read(b"{\"a\":\"\xc0\x80\"}", &["iss"], LIMITS), Err(InvalidObject::Syntax));
    }

    #[test]
    fn depth_and_width_are_bounded() {
        check(r#"{"a":[[[1]]]}"#, Ok([None, None]));
        check(r#"{"a":[[[[1]]]]}"#, Err(InvalidObject::Syntax));
        check(r#"{"iss":{"a":{"a":{"a":1}}}}"#, Ok([Some(Value::Other), None]));
        check(r#"{"iss":{"a":{"a":{"a":{}}}}}"#, Err(InvalidObject::Syntax));
        check(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), Err(InvalidObject::Syntax));
        let members = |count: u32| {
            let members: Vec<_> = (0..count).map(|number| format!("\"{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        check(&members(8), Ok([None, None]));
        check(&members(9), Err(InvalidObject::Syntax));
    }
}
