//! The time until the next fetch of keys: the refresh interval or a back-off, both with jitter.

use std::time::Duration;

use openssl::rand::rand_bytes;

/// Returns `refresh` plus or minus 5 %, so that many gateways do not fetch at the same moment.
pub(crate) fn jittered_refresh(refresh: Duration) -> Duration {
    refresh - refresh / 20 + random_share(refresh / 10)
}

/// Returns the wait after `failures` failed fetches in a row: it doubles from 1 s to 60 s, with up to 25 % of
/// jitter.
pub(crate) fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(BASE_SECONDS_MAX.ilog2() + 1);
    let base = Duration::from_secs((1_u64 << doublings).min(BASE_SECONDS_MAX));
    base + random_share(base / 4)
}

/// Returns a random share of `whole`.
fn random_share(whole: Duration) -> Duration {
    let mut random = [0; 2];
    // Jitter spreads load and protects no secret: do without it if the generator fails.
    let random = rand_bytes(&mut random).map_or(0, |()| u16::from_ne_bytes(random));
    whole * u32::from(random) / u32::from(u16::MAX)
}

/// With 25 % of jitter, the longest wait is 60 s.
const BASE_SECONDS_MAX: u64 = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_from_one_second_to_a_minute() {
        for (failures, base_s) in
            [(1, 1), (2, 2), (3, 4), (6, 32), (7, 48), (8, 48), (1000, 48), (u32::MAX, 48)]
        {
            for _ in 0..20 {
                let wait = back_off(failures);
                let base = Duration::from_secs(base_s);
                assert!((base..=base + base / 4).contains(&wait), "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn refresh_is_within_five_percent() {
        let hour = Duration::from_secs(3600);
        for _ in 0..100 {
            assert!((hour - hour / 20..=hour + hour / 20).contains(&jittered_refresh(hour)));
        }
    }
}
