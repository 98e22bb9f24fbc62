//! Durations and sizes as a whole number with its unit.

use std::time::Duration;

/// Parses a duration: `5s`, `3500ms`, `10m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let milliseconds = of(DURATIONS, unit)?;
    Some(Duration::from_millis(number.checked_mul(milliseconds)?))
}

/// Parses a size: `512B`, `16KiB`, `1MiB`. `kB`, `KB` and `MB` are powers of 1,000.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = split(text)?;
    usize::try_from(number.checked_mul(of(SIZES, unit)?)?).ok()
}

/// A duration in the largest unit that leaves no remainder.
pub(super) fn show(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    shown(DURATIONS, milliseconds)
}

/// A size in the largest unit that leaves no remainder.
pub(super) fn show_size(bytes: usize) -> String {
    shown(SIZES, u64::try_from(bytes).unwrap_or(u64::MAX))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit))
}

fn of(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

fn shown(units: &[(&str, u64)], number: u64) -> String {
    let largest = units.iter().find(|(_, factor)| number > 0 && number.is_multiple_of(*factor));
    let (unit, factor) = largest.or_else(|| units.last()).copied().unwrap_or(("", 1));
    format!("{}{unit}", number / factor)
}

/// The units of durations in milliseconds, the largest first.
const DURATIONS: &[(&str, u64)] =
    &[("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The units of sizes in bytes, the largest first. If units have equal factors, the first is shown.
const SIZES: &[(&str, u64)] =
    &[("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1000), ("KB", 1000), ("B", 1)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_its_unit() {
        for (text, expected) in [
            ("5s", Some(5000)),
            ("3500ms", Some(3500)),
            ("10m", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("2d", Some(172_800_000)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("1.5s", None),
            ("-5s", None),
            ("+5s", None),
            ("5S", None),
            ("5sec", None),
            ("5ß", None),
            ("18446744073709551616ms", None),
            ("18446744073709551615h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_its_unit() {
        for (text, expected) in [
            ("512B", Some(512)),
            ("16KiB", Some(16_384)),
            ("1MiB", Some(1_048_576)),
            ("1MB", Some(1_000_000)),
            ("2kB", Some(2000)),
            ("1", None),
            ("1M", None),
            ("1mib", None),
            ("18446744073709551615MiB", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }

    #[test]
    fn a_shown_value_can_be_parsed() {
        for text in ["0ms", "5s", "3500ms", "10m", "1h", "7d"] {
            assert_eq!(show(duration(text).unwrap()), text);
        }
        for text in ["0B", "512B", "16KiB", "1MiB", "3MB"] {
            assert_eq!(show_size(size(text).unwrap()), text);
        }
    }
}
