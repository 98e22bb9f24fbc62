//! Text forms of bytes, ids and durations.

use std::{fmt, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use openssl::error::ErrorStack;
use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

/// Encodes with base64 and padding (RFC 4648 section 4), as `x5c` needs it.
pub(crate) fn base64_standard(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Encodes with base64url and no padding (RFC 4648 section 5), as JOSE needs it everywhere else.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes base64url, with or without padding.
pub(crate) fn from_base64_url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

/// Returns a random id, like the ids that the platform gives to calls and messages.
pub(crate) fn random_id() -> Result<Uuid, ErrorStack> {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

/// A duration as JSON and TOML carry it, not yet parsed.
///
/// The error for a value of another type shows an example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DurationText(pub(crate) String);

impl<'de> Deserialize<'de> for DurationText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl de::Visitor<'_> for DurationVisitor {
            type Value = DurationText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes, like \"500ms\"")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(DurationText(text.to_owned()))
            }
        }

        deserializer.deserialize_str(DurationVisitor)
    }
}

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: a whole number with its unit, like 500ms, 1s or 2m, at most 24h")]
pub struct InvalidDuration;

/// Parses a whole number with its unit: `500ms`, `1s`, `2m` or `1h`.
///
/// # Errors
/// The text has another form, or the duration is longer than a day. No call lasts longer.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let digits_end = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(InvalidDuration)?;
    let (digits, unit) = text.split_at(digits_end);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(InvalidDuration),
    };
    let number: u64 = digits.parse().map_err(|_| InvalidDuration)?;
    let duration = number.checked_mul(unit_ms).map(Duration::from_millis).ok_or(InvalidDuration)?;
    if duration > DURATION_MAX { Err(InvalidDuration) } else { Ok(duration) }
}

/// Formats a duration so that [`parse_duration`] reads it, in the largest unit that leaves no remainder.
pub(crate) fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit_ms, unit) in [(3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if ms > 0 && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

/// Teams ends a call after a day.
const DURATION_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_a_unit_and_is_at_most_a_day() {
        for (text, expected) in [("500ms", 500), ("1s", 1_000), ("2m", 120_000), ("24h", 86_400_000)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1 s", "25h", "99999999999999999999s", "1d", "１s"] {
            assert_eq!(parse_duration(text), Err(InvalidDuration), "{text}");
        }
    }

    #[test]
    fn base64url_has_no_padding_and_no_reserved_letters() {
        assert_eq!(base64_url(&[0xfb, 0xff, 0xfe, 0x01]), "-__-AQ");
        assert_eq!(base64_url(b""), "");
    }

    #[test]
    fn base64url_is_decoded_with_and_without_padding() {
        for text in ["-__-AQ", "-__-AQ=="] {
            assert_eq!(from_base64_url(text).unwrap(), [0xfb, 0xff, 0xfe, 0x01], "{text}");
        }
        assert_eq!(from_base64_url("").unwrap(), b"");
        for text in ["a", "+/==", "a b"] {
            assert_eq!(from_base64_url(text), None, "{text}");
        }
    }
}
