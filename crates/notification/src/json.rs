//! Lenient parsing of JSON: members one by one, and nothing refused but malformed JSON.
//!
//! Derived `Deserialize` refuses a number in place of text and a member that occurs twice, and accepts an
//! array for a struct. A notification must not be lost because of a display name, so the few objects that
//! matter are read by hand.
//!
//! Every callback is read here, so the reader makes one pass over a body and copies nothing: it borrows each
//! text, and knows the bytes of each value that was read. With serde_json, a value whose bytes are needed is
//! read twice. `reads_what_serde_json_reads` compares the two; serde_json still decodes texts with escapes.
//!
//! auth and graph have JSON readers of their own, since their rules differ. auth refuses duplicate and
//! misspelt names, since its input decides who is authenticated. graph builds a tree to name the place of a
//! mistake.

mod text;

use std::borrow::Cow;

pub(crate) use self::text::text_of;
use self::text::{Text, plain_end};

/// A type that is filled from a JSON value of any type. Members that do not occur keep their default.
pub(crate) trait Receive<'a>: Default {
    /// Receives a member of an object.
    fn member(&mut self, name: &str, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let _ = name;
        value.skip()
    }

    /// Receives an element of an array.
    fn element(&mut self, index: usize, value: Value<'_, 'a>) -> Result<(), Malformed> {
        let _ = index;
        value.skip()
    }

    /// Receives a string that is not empty.
    fn text(&mut self, text: Cow<'a, str>) {
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

/// Text that is not JSON, or is nested too deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    pub(crate) problem: Problem,
    /// The byte at which reading stopped.
    pub(crate) at: usize,
}

/// The reason why text is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It ends too early.
    Incomplete,
    /// It is not JSON.
    NotJson,
    /// Text follows the value.
    Trailing,
    /// It is nested deeper than `DEPTH_MAX` levels.
    TooDeep,
}

/// Reads text that is one JSON value.
pub(crate) fn receive<'a, T: Receive<'a>>(text: &'a str) -> Result<Received<T>, Malformed> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let received = reader.value()?;
    match reader.peek() {
        None => Ok(received),
        Some(_) => Err(reader.malformed(Problem::Trailing)),
    }
}

/// A value that is to be read. Each method reads the whole of it.
pub(crate) struct Value<'r, 'a>(&'r mut Reader<'a>);

impl<'a> Value<'_, 'a> {
    /// Skips the value.
    pub(crate) fn skip(self) -> Result<(), Malformed> {
        self.0.skip()
    }

    /// Returns the value as `T`, with its shape.
    pub(crate) fn receive<T: Receive<'a>>(self) -> Result<Received<T>, Malformed> {
        self.0.value()
    }

    /// Returns the value as `T`.
    pub(crate) fn read<T: Receive<'a>>(self) -> Result<T, Malformed> {
        self.0.value().map(|received| received.value)
    }

    /// Returns the bytes of the value.
    pub(crate) fn raw(self) -> Result<&'a str, Malformed> {
        self.with_raw(Reader::skip).map(|(raw, ())| raw)
    }

    /// Returns the bytes of the value, and the value as `T`.
    pub(crate) fn receive_with_raw<T: Receive<'a>>(self) -> Result<(&'a str, Received<T>), Malformed> {
        self.with_raw(Reader::value)
    }

    /// Returns the value if it is a string and not empty.
    pub(crate) fn text(self) -> Result<Option<Cow<'a, str>>, Malformed> {
        if self.0.peek() == Some(b'"') {
            return Ok(self.0.string()?.decoded());
        }
        self.skip().map(|()| None)
    }

    /// Returns the value if it is an integer, or a string that contains one.
    pub(crate) fn integer(self) -> Result<Option<i64>, Malformed> {
        let raw = self.raw()?;
        Ok(match text_of(raw) {
            Some(text) => text.parse().ok(),
            None => raw.parse().ok(),
        })
    }

    fn with_raw<T>(
        self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
    ) -> Result<(&'a str, T), Malformed> {
        self.0.peek();
        let start = self.0.at;
        let value = read(self.0)?;
        Ok((self.0.text.get(start..self.0.at).unwrap_or_default(), value))
    }
}

/// A place in JSON text (RFC 8259).
struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn value<T: Receive<'a>>(&mut self) -> Result<Received<T>, Malformed> {
        let mut value = T::default();
        let shape = match self.peek() {
            Some(b'{') => {
                self.object(|name, member| value.member(name, member))?;
                Shape::Object
            }
            Some(b'[') => Shape::Array(self.array(|index, element| value.element(index, element))?),
            Some(b'"') => {
                if let Some(text) = self.string()?.decoded() {
                    value.text(text);
                }
                Shape::Scalar
            }
            _ => {
                self.skip()?;
                Shape::Scalar
            }
        };
        Ok(Received { shape, value })
    }

    /// Skips a value. The depth bounds the recursion.
    fn skip(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'{') => self.object(|_, member| member.skip()),
            Some(b'[') => self.array(|_, element| element.skip()).map(drop),
            Some(b'"') => self.string().map(drop),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.number(),
        }
    }

    fn object(
        &mut self,
        mut member: impl FnMut(&str, Value<'_, 'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.open()?;
        if self.peek() != Some(b'}') {
            loop {
                if self.peek() != Some(b'"') {
                    return Err(self.unexpected());
                }
                let name = self.string()?;
                self.expect(b':')?;
                member(&name.name(), Value(self))?;
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.close(b'}')
    }

    /// Reads an array and returns its length.
    fn array(
        &mut self,
        mut element: impl FnMut(usize, Value<'_, 'a>) -> Result<(), Malformed>,
    ) -> Result<usize, Malformed> {
        self.open()?;
        let mut length = 0;
        if self.peek() != Some(b']') {
            loop {
                element(length, Value(self))?;
                length += 1;
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.close(b']').map(|()| length)
    }

    fn open(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.malformed(Problem::TooDeep)) } else { Ok(()) }
    }

    fn close(&mut self, bracket: u8) -> Result<(), Malformed> {
        self.depth -= 1;
        self.expect(bracket)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Malformed> {
        if self.peek() != Some(byte) {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<Text<'a>, Malformed> {
        let start = self.at;
        let mut is_escaped = false;
        self.at += 1;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => {
                    is_escaped = true;
                    self.escape()?;
                }
                Some(_) | None => return Err(self.unexpected()),
            }
        }
        let inner = self.text.get(start + 1..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text { inner, is_escaped })
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.byte().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.unexpected());
                    }
                    self.at += 1;
                }
            }
            Some(_) | None => return Err(self.unexpected()),
        }
        Ok(())
    }

    fn literal(&mut self, literal: &str) -> Result<(), Malformed> {
        for byte in literal.bytes() {
            if self.byte() != Some(byte) {
                return Err(self.unexpected());
            }
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), Malformed> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Skips one or more digits.
    fn digits(&mut self) -> Result<(), Malformed> {
        if !self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.unexpected());
        }
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    /// Skips white space, and returns the next byte.
    fn peek(&mut self) -> Option<u8> {
        while self.byte().is_some_and(is_whitespace) {
            self.at += 1;
        }
        self.byte()
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn unexpected(&self) -> Malformed {
        let is_at_end = self.at >= self.text.len();
        self.malformed(if is_at_end { Problem::Incomplete } else { Problem::NotJson })
    }

    fn malformed(&self, problem: Problem) -> Malformed {
        Malformed { problem, at: self.at }
    }
}

/// Returns true for the white space of JSON (RFC 8259 section 2).
pub(crate) fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Published bodies have 11 levels. This crate does not recurse without bound, but a bot behind the gateway
/// may.
pub(crate) const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Anything;

    impl Receive<'_> for Anything {}

    const WORDS: [&str; 34] = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\"a\"",
        "\"name\":",
        "\\",
        "\\\"",
        "\\u00e9",
        "\\u12",
        "\\ud83d",
        "\\n",
        "\\x",
        "0",
        "-",
        "1",
        "12",
        ".5",
        "e1",
        "E+2",
        "01",
        "true",
        "fals",
        "null",
        " ",
        "\n",
        "\t",
        "\u{1}",
        "\u{e9}",
        "long text without escapes",
        "\u{1f600}",
    ];

    fn check(text: &str) -> Result<(), TestCaseError> {
        let theirs = serde_json::from_str::<&serde_json::value::RawValue>(text);
        let ours = receive::<Anything>(text);
        if let Err(Malformed { problem: Problem::TooDeep, .. }) = ours {
            return Ok(());
        }
        prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "{}: {:?}", text, theirs);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4_096) })]

        #[test]
        fn reads_what_serde_json_reads(
            words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12),
        ) {
            let words = words.concat();
            check(&words)?;
            check(&format!("[{words}]"))?;
            check(&format!("{{\"a\":{words}}}"))?;
            check(&format!("\"{words}\""))?;
            check(&format!("-{words}"))?;
        }
    }
}
