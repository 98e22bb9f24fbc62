//! `traceparent`: kept if it is valid, else created (W3C Trace Context, section 3.2).

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

use http::{HeaderMap, HeaderName, HeaderValue};

/// The trace context of a received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TraceContext {
    Valid,
    Missing,
    Invalid,
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

impl TraceContext {
    /// Returns true if the received field is not forwarded.
    pub(crate) fn replaces(self, name: &HeaderName) -> bool {
        // "If parsing of traceparent fails, the vendor MUST NOT forward the tracestate" (section 3.3).
        self == Self::Invalid && (name == TRACEPARENT || name == TRACESTATE)
    }

    /// The `traceparent` that is sent in place of the received one.
    pub(crate) fn new_parent(self) -> Option<HeaderValue> {
        (self != Self::Valid).then(new_value)
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

/// A new value, marked as sampled: a bot that follows its parent's decision would otherwise lose its traces
/// behind the gateway.
fn new_value() -> HeaderValue {
    let mut text = [b'-'; VALUE_BYTES];
    let digits = |into: &mut [u8], number: u64| {
        for (at, byte) in into.iter_mut().rev().enumerate() {
            let digit = u32::try_from(number >> (at * 4) & 0xf).unwrap_or_default();
            *byte = char::from_digit(digit, 16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(b'0');
        }
    };
    // Ids must not be zero (section 3.2.2.3); setting one bit ensures it.
    for (range, number) in
        [(0..2, 0), (3..19, random()), (19..35, random() | 1), (36..52, random() | 1), (53..55, 1)]
    {
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
    fn new_values_are_valid_and_distinct() {
        let made: HashSet<HeaderValue> = (0..1000).map(|_| new_value()).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|value| is_valid(value.as_bytes())));
    }
}
