//! The strings of JSON text.

use std::borrow::Cow;

/// A string as it is written, without its quotes.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    pub(super) inner: &'a str,
    pub(super) is_escaped: bool,
}

impl<'a> Text<'a> {
    /// Returns the text unless it is empty, or has an escape that stands for no character. The platform
    /// writes `""` and null for unknown values.
    pub(super) fn decoded(self) -> Option<Cow<'a, str>> {
        match self {
            Self { inner: "", .. } => None,
            Self { inner, is_escaped: false } => Some(Cow::Borrowed(inner)),
            Self { inner, is_escaped: true } => decode(inner).map(Cow::Owned),
        }
    }

    /// Returns the text as the name of a member. A name that stands for no text is that of no known member.
    pub(super) fn name(self) -> Cow<'a, str> {
        let decoded = if self.is_escaped { decode(self.inner) } else { None };
        decoded.map_or(Cow::Borrowed(self.inner), Cow::Owned)
    }
}

/// Returns the text of the bytes of a value, if it is a string and not empty.
pub(crate) fn text_of(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    Text { inner, is_escaped: inner.contains('\\') }.decoded()
}

fn decode(inner: &str) -> Option<String> {
    serde_json::from_str(&format!("\"{inner}\"")).ok()
}

/// Returns the place of the first quote, backslash or control character (RFC 8259 section 7) from `at` on, or
/// the length. It looks at eight bytes at a time: a body is mostly text.
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        // The lowest marked byte is right. Above it, a borrow may mark others.
        let special = zeros(word ^ (ONES * 0x22))
            | zeros(word ^ (ONES * 0x5c))
            | (word.wrapping_sub(ONES * 0x20) & !word & HIGHS);
        if special != 0 {
            return at + usize::try_from(special.trailing_zeros() / 8).unwrap_or_default();
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let special = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    special.map_or(bytes.len(), |offset| at + offset)
}

/// Marks the highest bit of the lowest byte that is zero.
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_end_of_plain_text_is_found(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0x1e..0x24_u8, Just(b'a')], 0..40),
            at in 0..41_usize,
        ) {
            let at = at.min(bytes.len());
            let expected = (at..bytes.len()).find(|at| matches!(bytes[*at], b'"' | b'\\' | 0..0x20));
            prop_assert_eq!(plain_end(&bytes, at), expected.unwrap_or(bytes.len()));
        }
    }
}
