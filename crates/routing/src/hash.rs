//! The stable hashes for shares and rankings. They are equal in every process, on every machine, in every
//! version.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Returns the hash of a text without regard to ASCII case: Graph's ids are equal in any case.
pub(crate) fn folded(text: &str, seed: u64) -> u64 {
    let lower = if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    };
    xxh3_64_with_seed(lower.as_bytes(), seed)
}

/// Returns the hash of a text, byte for byte.
pub(crate) fn exact(text: &str, seed: u64) -> u64 {
    xxh3_64_with_seed(text.as_bytes(), seed)
}

/// Spreads each bit of `value` over all of the result: the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast
/// Splittable Pseudorandom Number Generators", 2014), with Stafford's variant 13 constants. A bijection.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Maps a hash to the open interval from 0 to 1, in the order of its upper 52 bits.
///
/// Both ends are excluded: a share of 0 takes no call, a share of 1 takes all calls, and the logarithm is
/// finite and not 0.
pub(crate) fn unit(hash: u64) -> f64 {
    // The upper bits become the fraction of a number from 1 to 2. Subtract 1, but leave half a step to
    // exclude 0.
    f64::from_bits(ONE | (hash >> 12)) - (1.0 - f64::EPSILON / 2.0)
}

/// The bits of 1.0.
const ONE: u64 = 0x3ff0_0000_0000_0000;

#[cfg(test)]
mod tests {
    use super::{exact, folded, mix, unit};

    #[test]
    fn hashes_never_change() {
        assert_eq!(folded("", 0), 0x2d06_8005_38d3_94c2); // the published value for the empty text
        assert_eq!(folded("491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7", 0), 0x7a19_3ba7_2f13_1f04);
        assert_eq!(exact("bot-0", 1), 0xd280_38c1_6746_32b8);
        assert_eq!(mix(1), 0x5692_161d_100b_05e5);
    }

    #[test]
    fn case_is_folded_in_ascii_only() {
        assert_eq!(folded("AbC-é", 3), folded("aBc-é", 3));
        assert_ne!(folded("é", 3), folded("É", 3));
        assert_ne!(exact("A", 3), exact("a", 3));
    }

    #[test]
    fn the_unit_interval_is_open() {
        assert_eq!(unit(0), f64::EPSILON / 2.0);
        assert_eq!(unit(u64::MAX), 1.0 - f64::EPSILON / 2.0);
        assert_eq!(unit(1 << 63), 0.5 + f64::EPSILON / 2.0);
    }
}
