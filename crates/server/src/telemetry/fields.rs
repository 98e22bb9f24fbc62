//! The values of common log fields: errors and durations.

use std::{error::Error, fmt, time::Duration};

/// An error and its sources, joined by `: `. A source whose text the error before it has already printed is
/// left out: errors of OpenSSL repeat their source.
///
/// ```
/// # use switchboard::telemetry::Chain;
/// #[derive(Debug, thiserror::Error)]
/// #[error("cannot read the certificate")]
/// struct ReadError(#[source] std::num::ParseIntError);
///
/// let error = ReadError("x".parse::<u8>().unwrap_err());
/// assert_eq!(Chain(&error).to_string(), "cannot read the certificate: invalid digit found in string");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut printed = self.0.to_string();
        f.write_str(&printed)?;
        let mut source = self.0.source();
        // Without the limit, an error whose sources form a ring would never end.
        for _ in 0..16 {
            let Some(error) = source else { break };
            let text = error.to_string();
            if !printed.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            printed = text;
            source = error.source();
        }
        Ok(())
    }
}

/// A duration for the field `duration_ms`: milliseconds with microsecond precision, so that it prints few
/// digits.
pub fn milliseconds(duration: Duration) -> f64 {
    f64::from(whole_microseconds(duration)) / 1000.0
}

/// The whole microseconds of a duration, up to 71 minutes.
pub(super) fn whole_microseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_source_that_is_printed_already_is_left_out() {
        let stack = Told { text: "wrong version number", source: None };
        let handshake = Told { text: "TLS: wrong version number", source: Some(Box::new(stack)) };
        let fetch = Told { text: "cannot reach the host", source: Some(Box::new(handshake)) };
        assert_eq!(Chain(&fetch).to_string(), "cannot reach the host: TLS: wrong version number");
    }
}
