//! The header values that are logged, matched or echoed.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The value of a header if it is short visible ASCII. No other value is logged, matched or echoed.
pub(crate) fn plain<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    headers.get(name).filter(|value| is_plain(value))
}

/// The values that `plain` finds for several names, in one pass: a look-up hashes the name byte by byte, and
/// these names are long.
pub(crate) fn plain_values<'h, const N: usize>(
    headers: &'h HeaderMap,
    names: [&HeaderName; N],
) -> [Option<&'h HeaderValue>; N] {
    let mut values = [None; N];
    for (name, value) in headers {
        for (first, wanted) in values.iter_mut().zip(names) {
            if first.is_none() && name == wanted {
                *first = Some(value);
            }
        }
    }
    values.map(|value| value.filter(|value| is_plain(value)))
}

/// Returns true for short visible ASCII.
pub(crate) fn is_plain(value: &HeaderValue) -> bool {
    // Without an early end the compiler checks sixteen bytes at once.
    value.len() <= PLAIN_BYTES_MAX
        && value.as_bytes().iter().fold(true, |is_plain, byte| is_plain & byte.is_ascii_graphic())
}

/// The longest plain value. Correlation ids are GUIDs, and some clients send a few of them in one value.
const PLAIN_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pass_finds_the_values_of_single_look_ups() {
        let mut headers = HeaderMap::new();
        let long = "x".repeat(PLAIN_BYTES_MAX + 1);
        for (name, value) in [
            ("a-first", "1"),
            ("host", "h"),
            ("a-second", "2"),
            ("a-first", "other"),
            ("a-spaced", "two words"),
            ("a-long", &long),
            ("a-latin", "\u{e9}"),
            ("a-empty", ""),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        let names = ["a-second", "a-first", "a-spaced", "a-long", "a-latin", "a-empty", "host", "absent"]
            .map(HeaderName::from_static);
        let [second, first, spaced, long, latin, empty, host, absent] = &names;
        let values = plain_values(&headers, [second, first, spaced, long, latin, empty, host, absent]);
        let texts = values.map(|value| value.map(|value| value.to_str().unwrap()));
        assert_eq!(texts, [Some("2"), Some("1"), None, None, None, Some(""), Some("h"), None]);
        for (name, value) in names.iter().zip(values) {
            assert_eq!(plain(&headers, name), value, "{name}");
        }
    }
}
