//! The values of common log fields: errors and durations.

use std::{error::Error, fmt, time::Duration};

/// An error and its sources, joined by `: `.
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
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        // Without the limit, an error whose sources form a ring would never end.
        for _ in 0..16 {
            let Some(error) = source else { break };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// A duration for the field `duration_ms`: milliseconds with microsecond precision, so that it prints few
/// digits.
pub fn milliseconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}
