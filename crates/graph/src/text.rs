//! Text from elsewhere as one harmless line of a log.

/// Returns `text` with all characters escaped that do not print, cut to `chars_max` characters.
pub(crate) fn printable(text: &str, chars_max: usize) -> String {
    text.chars().flat_map(escape).take(chars_max).collect()
}

/// Escapes line breaks, control characters and bidirectional marks. Quotes and backslashes print, so they
/// stay.
fn escape(character: char) -> impl Iterator<Item = char> {
    let plain = matches!(character, '"' | '\'' | '\\').then_some(character);
    let escaped = plain.is_none().then(|| character.escape_debug());
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(printable(text, 12), expected);
    }

    #[test]
    fn printing_characters_stay() {
        check("a \"b\" 'ü'", "a \"b\" 'ü'");
    }

    #[test]
    fn other_characters_are_escaped() {
        check("a\r\nb\t\0", "a\\r\\nb\\t\\0");
        check("\u{1b}[2J", "\\u{1b}[2J");
        check("\u{202e}x", "\\u{202e}x");
    }

    #[test]
    fn text_is_cut_after_escaping() {
        check("abcdefghijklmno", "abcdefghijkl");
        check("\n\n\n\n\n\n\n\n", "\\n\\n\\n\\n\\n\\n");
    }
}
