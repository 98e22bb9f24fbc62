//! The checks of a body before it is parsed: size, text, depth.

use std::str;

use crate::error::{ErrorCode, InvalidNotification};

/// Returns the body as text for the parser: UTF-8, nested at most `DEPTH_MAX` deep. The parser checks that it
/// is JSON.
///
/// One byte order mark in front of it is skipped, as RFC 8259 section 8.1 permits: writers of .NET put it
/// there.
///
/// Lone surrogates are accepted (RFC 8259 section 8.2 leaves it open): a display name that was cut in the
/// middle of an emoji must not cost a call. If such a text is read, it counts as absent.
pub(crate) fn check(body: &[u8]) -> Result<&str, InvalidNotification> {
    if body.len() > BODY_BYTES_MAX {
        let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        return Err(InvalidNotification::new(ErrorCode::TooLarge, message));
    }
    let text = str::from_utf8(body).map_err(|error| {
        let message = format!("the body is not UTF-8 at byte {}", error.valid_up_to());
        InvalidNotification::new(ErrorCode::InvalidText, message)
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let body = text.as_bytes();
    match body.iter().find(|byte| !is_whitespace(**byte)) {
        None => return Err(InvalidNotification::new(ErrorCode::Empty, "the body is empty")),
        Some(b'{') => {}
        Some(_) => {
            return Err(InvalidNotification::new(ErrorCode::BodyNotObject, "the body is not a JSON object"));
        }
    }

    // Nearly all bodies have few brackets: they need no pass that follows strings and brackets.
    if brackets(body) > DEPTH_MAX {
        check_depth(body)?;
    }
    Ok(text)
}

/// Returns the number of opening brackets. Sums of single bytes over short chunks are vectorised: a plain
/// `filter().count()` took 2 of the 6 µs that a body of 4.3 KB cost.
fn brackets(body: &[u8]) -> usize {
    let opening = |chunk: &[u8]| chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>();
    body.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(opening(chunk))).sum()
}

/// Checks the depth by following strings and brackets. `body` need not be JSON.
fn check_depth(body: &[u8]) -> Result<(), InvalidNotification> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => in_string = !in_string,
            // An escaped character does not end the string. The digits of `\uXXXX` need no attention.
            b'\\' if in_string => {
                bytes.next();
            }
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > DEPTH_MAX {
                    let message = format!("the JSON is nested deeper than {DEPTH_MAX} levels");
                    return Err(InvalidNotification::new(ErrorCode::TooDeep, message));
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Returns true for the white space of JSON (RFC 8259 section 2).
fn is_whitespace(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The largest body, in bytes. Published bodies have 4.4 KB at most, and the roster of a meeting of 1,000
/// people has 1.8 MB.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Published bodies have 11 levels. This crate does not recurse without bound, but a bot behind the gateway
/// may.
pub(crate) const DEPTH_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use crate::Envelope;

    #[track_caller]
    fn check(call: &str, is_new: bool) {
        let body = format!(
            r##"{{"value":[{{"changeType":"created","resource":"/app/calls/1","resourceData":{{
                 "@odata.type":"#microsoft.graph.call","state":"incoming",{call}}}}}]}}"##
        );
        let Ok(Envelope::Graph(notifications)) = Envelope::parse(body.as_bytes()) else { panic!("{body}") };
        assert_eq!(notifications.items[0].call_id().map(|id| id.as_str()), Some("1"));
        assert_eq!(notifications.items[0].new_call().is_some(), is_new, "{body}");
    }

    #[test]
    fn a_lone_surrogate_costs_no_notification() {
        check(r#""subject":"cut \ud83d""#, true);
        check(r#""source":{"identity":{"user":{"id":"1","displayName":"cut \ud83d"}}}"#, true);
        check(r#""subject":"\udc00\ud83d\u0041""#, true);
    }
}
