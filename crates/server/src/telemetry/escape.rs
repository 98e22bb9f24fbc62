//! The escapes of a line. No value can forge a second line or a second field.

use std::fmt::Write;

/// Appends `text` bare if it cannot be mistaken for anything else, otherwise in quotes.
pub(super) fn push_bare_or_quoted(out: &mut String, text: &str) {
    let separates = |byte: u8| matches!(byte, b' ' | b'=');
    if !text.is_empty() && is_plain(text) && !text.bytes().any(separates) {
        out.push_str(text);
    } else {
        push_quoted(out, text);
    }
}

/// Appends `text` as a JSON string.
pub(super) fn push_quoted(out: &mut String, text: &str) {
    out.push('"');
    push_escaped(out, text);
    out.push('"');
}

/// Appends `text` as the inside of a JSON string (RFC 8259 section 7).
///
/// Escapes more than JSON requires: C1 controls, which terminals obey, and characters that reorder or hide
/// the text around them.
pub(super) fn push_escaped(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    let mut clean = 0;
    for (at, special) in text.match_indices(needs_escape) {
        out.push_str(text.get(clean..at).unwrap_or_default());
        special.chars().for_each(|char| push_escape(out, char));
        clean = at + special.len();
    }
    out.push_str(text.get(clean..).unwrap_or_default());
}

/// Returns true if `text` is printable ASCII without escapes in a quoted string, as nearly all values are.
#[inline]
pub(super) fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let marks = match bytes.last_chunk() {
        // The last word may overlap with the one before it.
        Some(last) => {
            let words = bytes.as_chunks().0.iter().chain([last]);
            words.fold(0, |marks, word| marks | special_marks(u64::from_be_bytes(*word)))
        }
        None => special_marks(bytes.iter().fold(EIGHT_SPACES, |word, byte| word << 8 | u64::from(*byte))),
    };
    marks & (EACH * 0x80) == 0
}

/// Sets the highest bit of a byte if one of the eight is not printable ASCII, or needs an escape. The sums
/// carry into the next byte only behind such a byte.
fn special_marks(bytes: u64) -> u64 {
    let control = bytes.wrapping_sub(EACH * 0x20);
    let delete = bytes.wrapping_add(EACH);
    let quote = (bytes ^ (EACH * 0x22)).wrapping_sub(EACH);
    let backslash = (bytes ^ (EACH * 0x5c)).wrapping_sub(EACH);
    bytes | control | delete | quote | backslash
}

fn needs_escape(char: char) -> bool {
    matches!(char, '"' | '\\') || char.is_control() || is_deceptive(char)
}

/// Returns true for characters that reorder or hide the text around them.
pub(crate) fn is_deceptive(char: char) -> bool {
    matches!(char,
        '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn push_escape(out: &mut String, char: char) {
    match char {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ => {
            // All of these are in the basic multilingual plane: four digits are enough. Writing to a `String`
            // cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(char));
        }
    }
}

/// One in each of eight bytes.
const EACH: u64 = 0x0101_0101_0101_0101;
const EIGHT_SPACES: u64 = EACH * 0x20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quoted(text: &str) -> String {
        let mut out = String::new();
        push_quoted(&mut out, text);
        out
    }

    /// Checks text against a reader of JSON, and each of its characters against the rules.
    #[track_caller]
    fn check(text: &str) {
        let quoted = quoted(text);
        assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), text);
        assert!(!quoted.chars().any(|char| char.is_control() || is_deceptive(char)), "{quoted:?}");
        assert_eq!(
            is_plain(text),
            text.chars().all(|char| char.is_ascii() && !needs_escape(char)),
            "{text:?}"
        );
        // serde_json has short forms of two more, and escapes nothing above U+001F.
        let is_same = |char: char| !needs_escape(char) || matches!(char, '"' | '\\' | '\n' | '\r' | '\t');
        if text.chars().all(is_same) {
            assert_eq!(quoted, serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn each_byte_is_recognised_at_each_position() {
        for length in 0..=40 {
            for at in 0..length {
                for byte in 0..=0x7f {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = byte;
                    check(&String::from_utf8(bytes).unwrap());
                }
            }
        }
    }

    #[test]
    fn deceptive_characters_are_escaped() {
        assert_eq!(quoted("a\u{202e}b\u{9b}é\u{feff}"), r#""a\u202eb\u009bé\ufeff""#);
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_unchanged(text in any::<String>()) {
            check(&text);
        }

        #[test]
        fn text_with_some_special_characters_is_read_back_unchanged(
            text in "[a-z =]{0,20}[\"\\\\\n\r\t\u{0}\u{7f}\u{9b}\u{202e}é]{0,3}[a-z]{0,20}[\"\\\\\n]{0,2}",
        ) {
            check(&text);
        }
    }
}
