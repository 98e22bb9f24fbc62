//! The text of a file, and the TOML in it.

use toml::{Spanned, de::DeTable};

use super::{
    problems::Problems,
    secret::{UTF_16, is_utf16},
};

/// Returns the text of a file, or what is wrong with it.
pub(super) fn text(bytes: Vec<u8>) -> Result<String, String> {
    if is_utf16(&bytes) {
        return Err(format!("it is {UTF_16}"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

/// Parses TOML. A text with mistakes has one problem: later ones may only follow from the first.
pub(super) fn tables(text: &str) -> Result<Spanned<DeTable<'_>>, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    match errors.iter().min_by_key(|error| error.span().map_or(0, |span| span.start)) {
        Some(first) => Err(syntax(text, first)),
        None => Ok(table),
    }
}

/// The problem of a text that is not TOML. Its settings cannot be checked.
fn syntax(text: &str, error: &toml::de::Error) -> Problems {
    let span = error.span().unwrap_or_default();
    let before = text.get(..span.start).unwrap_or_default();
    let before = before.rsplit('\n').next().unwrap_or_default();
    let message = error.message().replace(char::is_control, " ");
    let offset = span.start;
    let (name, advice) = if message == "duplicate key" {
        (text.get(span), "; write each setting and each table once")
    } else {
        (before.split_once('=').map(|(name, _)| name), "")
    };
    // Only text that may be the name of a setting: an operator may pass a secret's file by mistake.
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
    };
    let name = name.map(str::trim).filter(is_name).unwrap_or_default();
    Problems::of_text(text, offset, name, format!("not valid TOML: {message}{advice}"))
}
