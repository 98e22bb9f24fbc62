//! Text of others, made fit for one line of a log.

/// `text` with everything escaped that does not print, cut to `chars_max` characters.
pub(crate) fn printable(text: &str, chars_max: usize) -> String {
    text.chars().flat_map(escape).take(chars_max).collect()
}

/// Quotes print, so they stay as they are; line breaks, controls and bidirectional marks do not.
fn escape(character: char) -> impl Iterator<Item = char> {
    let plain = matches!(character, '"' | '\'').then_some(character);
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
    fn what_prints_stays() {
        check("a \"b\" 'ü'", "a \"b\" 'ü'");
    }

    #[test]
    fn what_does_not_print_is_escaped() {
        check("a\r\nb\t\0", "a\\r\\nb\\t\\0");
        check("\u{1b}[2J", "\\u{1b}[2J");
        check("\u{202e}x", "\\u{202e}x");
    }

    #[test]
    fn it_is_cut_after_escaping() {
        check("abcdefghijklmno", "abcdefghijkl");
        check("\n\n\n\n\n\n\n\n", "\\n\\n\\n\\n\\n\\n");
    }
}
