//! Errors and URLs as one harmless line of a log. They may contain text from the network.
//!
//! The gateway prints its errors with a chain printer of its own. This crate is usable without the gateway
//! and logs from a background task, where no caller receives the error; so it needs one, too.

use url::Url;

/// Returns `error` and its sources in one line. Control characters are escaped, and the line is cut to
/// `LOGGED_CHARS_MAX` characters.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.chars().flat_map(printable).take(LOGGED_CHARS_MAX).collect()
}

/// Escapes what is not printable. Quotes and backslashes stay: the formats of the log escape them, and a
/// second escape would hide the text.
fn printable(character: char) -> impl Iterator<Item = char> {
    let plain = matches!(character, '\'' | '"' | '\\').then_some(character);
    let escaped = plain.is_none().then(|| character.escape_debug());
    plain.into_iter().chain(escaped.into_iter().flatten())
}

/// Returns `url` without the parts that may be secret. The rest needs no escaping: a parsed URL is ASCII.
pub(crate) fn public_parts(mut url: Url) -> String {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    String::from(url).chars().take(LOGGED_CHARS_MAX).collect()
}

/// An error may repeat text from the network, and a URL may come from a document of the issuer.
const LOGGED_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FetchError, key_refresher::KeyFetchError};

    #[test]
    fn an_error_is_logged_in_one_line_without_control_characters() {
        let error = KeyFetchError::Fetch(FetchError {
            kind: "status",
            detail: format!("500\r\nINFO \u{1b}[31m{}", "x".repeat(999)),
        });
        let text = chain(&error);
        assert!(text.starts_with(r"fetch failed: 500\r\nINFO \u{1b}[31mxxx"), "{text}");
        assert!(!text.chars().any(char::is_control));
        assert_eq!(text.chars().count(), LOGGED_CHARS_MAX);
    }

    #[test]
    fn printable_ascii_is_logged_as_it_is() {
        let detail = r#"the host's name is "a\b""#.to_owned();
        let text = chain(&FetchError { kind: "status", detail });
        assert_eq!(text, r#"the host's name is "a\b""#);
    }

    #[test]
    fn a_url_is_logged_without_the_parts_that_may_be_secret() {
        for (url, expected) in [
            ("https://issuer.example/metadata", "https://issuer.example/metadata"),
            ("https://user:password@issuer.example:8443/a?key=secret#part", "https://issuer.example:8443/a"),
            ("https://issuer.example/\u{1b}[31m\u{202e}", "https://issuer.example/%1B[31m%E2%80%AE"),
        ] {
            assert_eq!(public_parts(Url::parse(url).unwrap()), expected);
        }
        let long = format!("https://issuer.example/{}", "a".repeat(5_000));
        assert_eq!(public_parts(Url::parse(&long).unwrap()).len(), LOGGED_CHARS_MAX);
    }
}
