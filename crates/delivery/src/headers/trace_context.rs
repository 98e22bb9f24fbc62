//! `traceparent`: kept if it is valid, else created (W3C Trace Context, section 3.2). A request whose spans
//! are recorded names the span of each attempt in it.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The ids of a span, as `traceparent` has them (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The id of the trace, not zero.
    pub trace_id: u128,
    /// The id of the span, not zero.
    pub span_id: u64,
    /// True if the span is recorded.
    pub is_sampled: bool,
}

/// The trace context of a received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceContext {
    Valid,
    Missing,
    Invalid,
    /// Valid, and each attempt writes a `traceparent` of its own.
    Continued,
    /// There is none to continue, and each attempt writes a `traceparent` of its own.
    Started,
}

/// Checks the trace context among the fields that are kept: one valid `traceparent`.
pub(crate) fn received(headers: &HeaderMap, is_kept: impl FnOnce(&HeaderName) -> bool) -> TraceContext {
    let mut values = headers.get_all(&TRACEPARENT).iter();
    match values.next() {
        Some(_) if !is_kept(&TRACEPARENT) => TraceContext::Missing,
        Some(value) if is_valid(value.as_bytes()) && values.next().is_none() => TraceContext::Valid,
        Some(_) => TraceContext::Invalid,
        None => TraceContext::Missing,
    }
}

/// The ids in the `traceparent` of a received request, if it is valid and kept.
pub(crate) fn parent_of(
    headers: &HeaderMap,
    is_kept: impl FnOnce(&HeaderName) -> bool,
) -> Option<TraceParent> {
    let text = headers.get(&TRACEPARENT)?.to_str().ok()?;
    if received(headers, is_kept) != TraceContext::Valid {
        return None;
    }
    let number = |range| u128::from_str_radix(text.get(range)?, 16).ok();
    Some(TraceParent {
        trace_id: number(3..35)?,
        span_id: u64::try_from(number(36..52)?).ok()?,
        is_sampled: number(53..55)? & 1 == 1,
    })
}

impl TraceContext {
    /// The context of a request whose spans are recorded.
    pub(crate) fn recorded(self) -> Self {
        match self {
            Self::Valid | Self::Continued => Self::Continued,
            Self::Missing | Self::Invalid | Self::Started => Self::Started,
        }
    }

    /// Returns true if the received field is not forwarded.
    pub(crate) fn replaces(self, name: &HeaderName) -> bool {
        match self {
            Self::Valid | Self::Missing => false,
            // "If parsing of traceparent fails, the vendor MUST NOT forward the tracestate" (section 3.3).
            Self::Invalid | Self::Started => name == TRACEPARENT || name == TRACESTATE,
            Self::Continued => name == TRACEPARENT,
        }
    }

    /// The `traceparent` that is sent in place of the received one: `span`, or else a new one.
    ///
    /// It is not marked as sampled, since its span is recorded nowhere.
    pub(crate) fn new_parent(self, span: Option<TraceParent>) -> Option<HeaderValue> {
        let is_new = matches!(self, Self::Missing | Self::Invalid);
        is_new.then(|| value_of(TraceParent { is_sampled: false, ..span.unwrap_or_else(new_parent) }))
    }
}

/// Returns true for `00-{32 hex}-{16 hex}-{2 hex}`. A later version may have more after another dash.
fn is_valid(value: &[u8]) -> bool {
    let Some((known, rest)) = value.split_at_checked(VALUE_BYTES) else { return false };
    let mut parts = known.split(|byte| *byte == b'-');
    let mut part = |bytes: usize| {
        parts.next().filter(|part| {
            part.len() == bytes && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (part(2), part(32), part(16), part(2))
    else {
        return false;
    };
    let whole = match version {
        b"ff" => false,
        b"00" => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let is_zero = |id: &[u8]| id.iter().all(|byte| *byte == b'0');
    whole && !is_zero(trace) && !is_zero(parent)
}

/// The ids of a new trace. Ids must not be zero (section 3.2.2.3); setting one bit ensures it.
fn new_parent() -> TraceParent {
    let trace_id = u128::from(random()) << 64 | u128::from(random() | 1);
    TraceParent { trace_id, span_id: new_span_id(), is_sampled: false }
}

/// A new id of a span.
pub(crate) fn new_span_id() -> u64 {
    random() | 1
}

/// The value of `traceparent` for a span.
pub(crate) fn value_of(span: TraceParent) -> HeaderValue {
    let TraceParent { trace_id, span_id, is_sampled } = span;
    let half = |number: u128| u64::try_from(number & u128::from(u64::MAX)).unwrap_or_default();
    let mut text = [b'-'; VALUE_BYTES];
    let digits = |into: &mut [u8], number: u64| {
        for (at, byte) in into.iter_mut().rev().enumerate() {
            let digit = u32::try_from(number >> (at * 4) & 0xf).unwrap_or_default();
            *byte = char::from_digit(digit, 16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(b'0');
        }
    };
    for (range, number) in [
        (0..2, 0),
        (3..19, half(trace_id >> 64)),
        (19..35, half(trace_id)),
        (36..52, span_id),
        (53..55, u64::from(is_sampled)),
    ] {
        if let Some(into) = text.get_mut(range) {
            digits(into, number);
        }
    }
    HeaderValue::from_bytes(&text).expect("hex digits and dashes")
}

/// A number from SplitMix64, seeded per thread like the hash maps of the standard library. An id must be
/// unlikely to repeat; it need not be hard to guess, since it gives no access.
fn random() -> u64 {
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

const VALUE_BYTES: usize = 55;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[track_caller]
    fn check(value: &str, valid: bool) {
        assert_eq!(is_valid(value.as_bytes()), valid, "{value}");
    }

    #[test]
    fn a_traceparent_is_checked_as_the_recommendation_says() {
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", true);
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", true);
        check("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false);
        check("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false);
        check("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false);
        check("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0", false);
        check("00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01", false);
        check("00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01", false);
        check("", false);
    }

    #[test]
    fn new_values_are_valid_distinct_and_not_sampled() {
        let new = |_| TraceContext::Missing.new_parent(None).unwrap();
        let made: HashSet<HeaderValue> = (0..1000).map(new).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|value| is_valid(value.as_bytes()) && value.as_bytes().ends_with(b"-00")));
    }

    #[test]
    fn ids_are_read_as_they_are_written() {
        let spans = [
            TraceParent { trace_id: 1, span_id: u64::MAX, is_sampled: true },
            TraceParent { trace_id: u128::MAX << 64, span_id: 1, is_sampled: false },
        ];
        for span in spans {
            let headers = HeaderMap::from_iter([(TRACEPARENT.clone(), value_of(span))]);
            assert_eq!(parent_of(&headers, |_| true), Some(span), "{headers:?}");
        }
    }

    #[test]
    fn only_one_valid_end_to_end_field_has_a_parent() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03";
        let headers = |fields: &[(&'static str, &str)]| -> HeaderMap {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let parent = TraceParent::received(&headers(&[("traceparent", good)])).unwrap();
        assert_eq!(parent.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((parent.span_id, parent.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        for fields in [
            &[("traceparent", good), ("traceparent", good)][..],
            &[("traceparent", good), ("connection", "TraceParent")],
            &[("traceparent", "garbage")],
            &[],
        ] {
            assert_eq!(TraceParent::received(&headers(fields)), None, "{fields:?}");
        }
    }
}
