//! `Name` and `NameRef`: the names of regions, instances and incarnations.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The name of a region, an instance or an incarnation: 1 to 63 of `A-Z a-z 0-9 . _ -`, not `.` or `..`.
///
/// Such a text is a complete path segment that no client and no proxy rewrites (RFC 3986 section 6.2.2). It
/// is also safe in a header, a query and a log. Names are compared byte for byte. A clone shares the text.
///
/// ```
/// use switchboard_routing::{InvalidName, Name};
///
/// assert_eq!(Name::parse("bot-3")?.as_str(), "bot-3");
/// assert_eq!(Name::parse("bot/3"), Err(InvalidName));
/// # Ok::<(), InvalidName>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// `text` is empty or too long, has a character that is not allowed, or is `.` or `..`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        NameRef::parse(text).map(NameRef::to_name)
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the name with a borrowed text.
    pub fn as_name_ref(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Allows looking up a `&str` in a map with names as keys.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<NameRef<'_>> for Name {
    fn eq(&self, other: &NameRef<'_>) -> bool {
        *self.0 == *other.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A name that is borrowed from a longer text, such as a request path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameRef<'a>(&'a str);

impl<'a> NameRef<'a> {
    /// Parses a name.
    ///
    /// # Errors
    ///
    /// As for [`Name::parse`].
    pub fn parse(text: &'a str) -> Result<Self, InvalidName> {
        let length_fits = (1..=NAME_BYTES_MAX).contains(&text.len());
        if length_fits && text.bytes().all(is_name_byte) && text != "." && text != ".." {
            Ok(Self(text))
        } else {
            Err(InvalidName)
        }
    }

    /// Returns the text. It lives as long as the text that the name was borrowed from.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// Returns a copy that owns its text.
    pub fn to_name(self) -> Name {
        Name(self.0.into())
    }
}

impl PartialEq<Name> for NameRef<'_> {
    fn eq(&self, other: &Name) -> bool {
        other == self
    }
}

impl fmt::Display for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

/// The text is not a `Name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to 63 of A-Z a-z 0-9 . _ - (and not `.` or `..`)")]
pub struct InvalidName;

impl InvalidName {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        "invalid_name"
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// The longest label of a DNS name (RFC 1035 section 2.3.4): names of pods and hosts are not longer.
const NAME_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{InvalidName, Name};

    #[track_caller]
    fn check(text: &str, accepted: bool) {
        let expected = if accepted { Ok(text) } else { Err(InvalidName) };
        assert_eq!(
            Name::parse(text).as_ref().map(Name::as_str).map_err(|error| *error),
            expected,
            "{text:?}"
        );
    }

    #[test]
    fn a_name_has_1_to_63_characters_of_a_small_alphabet() {
        check("emea", true);
        check("bot-0.media_Pool", true);
        check("0", true);
        check("...", true);
        check(&"a".repeat(63), true);
        check("", false);
        check(&"a".repeat(64), false);
    }

    #[test]
    fn dot_segments_are_not_names() {
        check(".", false);
        check("..", false);
    }

    #[test]
    fn texts_that_a_proxy_could_rewrite_are_not_names() {
        for text in ["a/b", "%2e", "a b", "a;b", "a~b", "a:b", "a\\b", "é", "a\r\n", "a\0", "a?b", "a#b"] {
            check(text, false);
        }
    }

    #[test]
    fn a_map_of_names_can_be_indexed_with_a_text() {
        let fleet = HashMap::from([(Name::parse("bot-0").unwrap(), 7)]);
        assert_eq!(fleet.get("bot-0"), Some(&7));
        assert_eq!(fleet.get("bot-1"), None);
    }

    #[test]
    fn the_error_says_what_would_be_right() {
        assert_eq!(InvalidName.to_string(), "not 1 to 63 of A-Z a-z 0-9 . _ - (and not `.` or `..`)");
        assert_eq!(InvalidName.label(), "invalid_name");
    }
}
