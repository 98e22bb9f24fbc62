//! Errors and text from elsewhere, for the log.

use std::error::Error;

/// An error and its sources in one line. auth and server have printers of their own, and delivery may use
/// neither crate.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        // Some errors repeat their source.
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

/// Returns `text` with all characters escaped that do not print, cut to `chars_max` characters. Quotes and
/// backslashes stay: the formats of the log escape them.
pub(crate) fn printable(text: &str, chars_max: usize) -> String {
    let escape = |character: char| {
        let plain = matches!(character, '\'' | '"' | '\\').then_some(character);
        let escaped = plain.is_none().then(|| character.escape_debug());
        plain.into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(escape).take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_do_not_print_are_escaped() {
        assert_eq!(printable("O'Reilly \"a\\b\"\r\n\u{202e}", 99), "O'Reilly \"a\\b\"\\r\\n\\u{202e}");
        assert_eq!(printable("abc", 2), "ab");
    }
}
