//! The bounds of one new call: its time, its attempts, and the share of the time that one attempt gets.

use std::time::Duration;

/// The limits of one new call that depend on its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementLimits {
    /// The time in which an instance must accept the call, from its arrival.
    pub budget: Duration,
    /// The most attempts whose outcome may be unknown, open ones included: that many instances may act on the
    /// call. At least one.
    pub outcome_unknown_max: u32,
}

/// The time that one attempt gets before the next candidate is asked, with `left` candidates after this one.
/// With many candidates an attempt still gets a third of the remaining time.
///
/// There are fewer shares if they would be too short to mean anything.
pub(super) fn share(attempt: Duration, remaining: Duration, left: usize) -> Duration {
    let meaningful = remaining.as_millis() / ATTEMPT_TIME_MIN.as_millis();
    let shares_max = usize::try_from(meaningful).unwrap_or(SHARES_MAX).clamp(1, SHARES_MAX);
    let shares = u32::try_from(left.saturating_add(1).min(shares_max)).unwrap_or(1);
    attempt.min(remaining / shares)
}

/// The most attempts of one new call, of any kind. The five best candidates of a fleet fail together only if
/// something fails that all instances share, and then more attempts add load and nothing else.
pub(super) const ATTEMPTS_MAX: usize = 5;
/// The time that a new connection alone may take.
pub(super) const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(300);

const SHARES_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_gets_at_least_a_third_of_the_remaining_time_and_never_less_than_a_connection_needs() {
        let ms = Duration::from_millis;
        for (remaining, left, expected) in [
            (12_000, 0, 3000),
            (12_000, 9, 3000),
            (3500, 0, 3000),
            (3500, 1, 1750),
            (3500, 2, 1166),
            (3500, 40, 1166),
            (900, 2, 300),
            (899, 2, 449),
            (599, 2, 599),
            (10, 2, 10),
        ] {
            let share = share(ms(3000), ms(remaining), left);
            assert_eq!(share.as_millis(), u128::from(u64::try_from(expected).unwrap()), "{remaining} {left}");
        }
    }
}
