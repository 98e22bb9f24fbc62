//! The shapes of text: ids, numbers, addresses, words.

use uuid::Uuid;

/// A GUID in one of its two forms, with the case of its letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guid {
    pub(super) id: Uuid,
    simple: bool,
    capitals: bool,
}

impl Guid {
    /// Reads `0efc74f7-41c3-47a4-8775-7259bfef4241`, or the same without hyphens.
    pub(super) fn read(text: &str) -> Option<Self> {
        let simple = match text.len() {
            32 => true,
            36 => false,
            _ => return None,
        };
        let id = Uuid::try_parse(text).ok()?;
        let capitals = text.bytes().any(|letter| letter.is_ascii_uppercase());
        Some(Self { id, simple, capitals })
    }

    /// Writes another GUID in the same form.
    pub(super) fn write(self, id: Uuid) -> String {
        let text = if self.simple { id.simple().to_string() } else { id.hyphenated().to_string() };
        if self.capitals { text.to_ascii_uppercase() } else { text }
    }
}

/// Returns true for one word of ASCII letters, also with a language or a digit at its end: `established`,
/// `en-US`, `tone5`.
pub(super) fn is_word(text: &str) -> bool {
    let letters = text.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let digits = text.len().saturating_sub(letters.len());
    let parts = letters.split('-');
    text.len() <= WORD_BYTES_MAX
        && digits <= 1
        && parts.clone().count() <= 3
        && parts.clone().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphabetic()))
}

/// Returns true for the name of a member as Graph writes them: `resourceData`, `@odata.type`,
/// `state@odata.type`. Names that hold data, such as ids, have digits or other signs.
pub(super) fn is_member_name(name: &str) -> bool {
    let base = name.split_once("@odata.").map_or(name, |(base, annotation)| {
        if annotation.bytes().all(|byte| byte.is_ascii_alphabetic()) { base } else { name }
    });
    let annotation = base.is_empty() && name.starts_with("@odata.");
    let mut bytes = base.bytes();
    annotation
        || base.len() <= WORD_BYTES_MAX
            && bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_alphabetic())
}

/// Returns true for a type of Graph, like `#microsoft.graph.call`.
pub(super) fn is_graph_type(text: &str) -> bool {
    let name = text.trim_start_matches('#').strip_prefix("microsoft.graph.");
    name.is_some_and(|name| {
        name.len() <= 2 * WORD_BYTES_MAX
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'.')
    })
}

/// Returns true for at most six digits.
pub(super) fn is_short_number(text: &str) -> bool {
    (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns true for a telephone number with a plus sign.
pub(super) fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|rest| {
        rest.bytes().any(|byte| byte.is_ascii_digit())
            && rest.bytes().all(|byte| byte.is_ascii_digit() || b" ().-".contains(&byte))
    })
}

/// Returns true for an e-mail address or a user principal name.
pub(super) fn is_mail(text: &str) -> bool {
    let one = text.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && host.contains('.') && !host.contains('@') && !host.ends_with('.')
    });
    one && !text.contains(|letter: char| letter.is_whitespace() || letter == ':' || letter == '/')
}

pub(super) fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Returns true for a date and time like `2026-01-01T00:00:00.0000000Z`.
pub(super) fn is_date(text: &str) -> bool {
    text.len() <= 40
        && text.get(..11).is_some_and(|day| {
            day.bytes().enumerate().all(|(place, byte)| match place {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                _ => byte.is_ascii_digit(),
            })
        })
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"-T:.Z+".contains(&byte))
}

/// Returns true for a token, or another text that is too long or too dense to be a name.
pub(super) fn is_blob(text: &str) -> bool {
    let dense = text.len() >= 64 && !text.contains(|letter: char| letter.is_whitespace() || letter == '/');
    let token = text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() >= 2;
    token || dense && !is_url(text) && !text.contains('@') || text.len() > TEXT_BYTES_MAX
}

const WORD_BYTES_MAX: usize = 48;
/// Longer than any name or subject.
const TEXT_BYTES_MAX: usize = 1_024;
