//! The checks of a body before it is parsed: size and text.

use std::str;

use crate::{
    error::{ErrorCode, InvalidNotification},
    json::is_whitespace,
};

/// Returns the body as text for the parser: UTF-8 that starts as an object. The parser checks that
/// it is JSON.
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
    Ok(text)
}

/// The largest body, in bytes. Published bodies have 4.4 KB at most, and the roster of a meeting of 1,000
/// people has 1.8 MB.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

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
