//! `Format`: the two text formats of `/metrics`, and the choice between them.

use http::{HeaderMap, HeaderValue, header::ACCEPT};

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format 0.0.4 of Prometheus.
    Text,
}

impl Format {
    /// The media type of the format.
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        })
    }

    /// Chooses the format that the sender of a request prefers, by its `Accept` (RFC 9110 section 12.5.1).
    ///
    /// OpenMetrics is for senders that name it. Without a preference, it is the older format, which all tools
    /// read; so it is for a sender that accepts neither.
    pub fn negotiate(headers: &HeaderMap) -> Self {
        let (mut open_metrics, mut text) = (Preference::default(), Preference::default());
        let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for range in values.flat_map(|value| value.split(',')).filter_map(MediaRange::parse) {
            open_metrics.consider(&range, ("application", "openmetrics-text", "1.0.0"));
            text.consider(&range, ("text", "plain", "0.0.4"));
        }
        let is_named = open_metrics.precedence >= NAMED && open_metrics.quality > 0;
        if is_named && open_metrics.quality >= text.quality { Self::OpenMetrics } else { Self::Text }
    }
}

/// The preference of a sender for one media type. The most specific range decides.
#[derive(Default)]
struct Preference {
    precedence: u8,
    /// In thousandths.
    quality: u16,
}

impl Preference {
    fn consider(&mut self, range: &MediaRange<'_>, (kind, subtype, version): (&str, &str, &str)) {
        let is = |part: &str, name: &str| part.eq_ignore_ascii_case(name);
        let precedence = match (range.kind, range.subtype, range.version) {
            ("*", "*", None) => 1,
            (one, "*", None) if is(one, kind) => 2,
            (one, other, None) if is(one, kind) && is(other, subtype) => NAMED,
            (one, other, Some(asked)) if is(one, kind) && is(other, subtype) && asked == version => 4,
            _ => return,
        };
        if precedence > self.precedence {
            *self = Self { precedence, quality: range.quality };
        } else if precedence == self.precedence {
            self.quality = self.quality.max(range.quality);
        }
    }
}

/// One element of `Accept`, as far as it matters here.
struct MediaRange<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    quality: u16,
}

impl<'a> MediaRange<'a> {
    /// `None`: the element is not valid, and does not count.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (kind, subtype) = parts.next()?.trim().split_once('/')?;
        let mut range = Self { kind, subtype, version: None, quality: QUALITY_MAX };
        for parameter in parts {
            let (name, value) = parameter.trim().split_once('=')?;
            let value = value.trim_matches('"');
            if name.eq_ignore_ascii_case("q") {
                range.quality = quality(value)?;
            } else if name.eq_ignore_ascii_case("version") {
                range.version = Some(value);
            }
        }
        Some(range)
    }
}

/// Parses a weight: 0 to 1 with at most three decimals.
fn quality(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(QUALITY_MAX),
        _ => None,
    }
}

const QUALITY_MAX: u16 = 1000;
/// The precedence of a range that names the media type.
const NAMED: u8 = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn negotiated(accept: &[&str]) -> Format {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(ACCEPT, HeaderValue::from_str(value).unwrap());
        }
        Format::negotiate(&headers)
    }

    #[track_caller]
    fn check(format: Format, accepts: &[&str]) {
        for accept in accepts {
            assert_eq!(negotiated(&[accept]), format, "{accept}");
        }
    }

    #[test]
    fn prometheus_gets_open_metrics() {
        check(
            Format::OpenMetrics,
            &[
                // Prometheus 2.42 and 3.
                "application/openmetrics-text;version=1.0.0,\
                 application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                 text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
        );
    }

    #[test]
    fn the_sender_that_names_open_metrics_and_does_not_prefer_text_gets_it() {
        assert_eq!(negotiated(&[]), Format::Text);
        check(
            Format::OpenMetrics,
            &[
                "application/openmetrics-text",
                "Application/OpenMetrics-Text ; Version=\"1.0.0\" ; q=0.1",
                "text/plain;q=0.5, application/openmetrics-text;q=0.5",
                "application/openmetrics-text;q=0.001, text/*;q=0",
                "text/html, application/openmetrics-text;version=1.0.0;charset=utf-8",
            ],
        );
        check(
            Format::Text,
            &[
                "",
                "*/*",
                "application/*",
                "text/plain",
                "text/html",
                "text/plain, application/openmetrics-text;q=0.9",
                "application/openmetrics-text;q=0",
                "application/openmetrics-text;version=0.0.1",
                "application/openmetrics-text;version=2.0.0, */*;q=0.1",
                // The range with the version decides.
                "application/openmetrics-text, application/openmetrics-text;version=1.0.0;q=0, */*;q=0.1",
                // A weight that is not valid makes the range invalid.
                "application/openmetrics-text;q=2",
                "application/openmetrics-text;q=-0.5",
                "application/openmetrics-text;q=0.1234",
                "application/openmetrics-text;q=NaN",
                "application/openmetrics-text;q",
                "openmetrics-text",
            ],
        );
        let several = ["text/plain;q=0.1", "application/openmetrics-text;version=1.0.0;q=0.2"];
        assert_eq!(negotiated(&several), Format::OpenMetrics);
    }

    proptest! {
        #[test]
        fn any_field_is_negotiated(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.append(ACCEPT, value);
            }
            Format::negotiate(&headers);
        }

        #[test]
        fn text_is_chosen_exactly_if_it_is_preferred(one in 1_u16..=1000, other in 1_u16..=1000) {
            let weight = |q: u16| format!("{}.{:03}", q / 1000, q % 1000);
            let accept =
                format!("application/openmetrics-text;q={},text/plain;q={}", weight(one), weight(other));
            let expected = if other > one { Format::Text } else { Format::OpenMetrics };
            prop_assert_eq!(negotiated(&[&accept]), expected);
        }
    }
}
