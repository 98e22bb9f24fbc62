//! Sound as the calling platform takes and gives it: WAV, 16 kHz, 16 bit, mono.

use std::time::Duration;

/// Returns the size of the file of a sound.
pub(crate) fn bytes(length: Duration) -> usize {
    HEADER_BYTES + samples(length).saturating_mul(SAMPLE_BYTES)
}

fn samples(length: Duration) -> usize {
    let count = length.as_millis().saturating_mul(u128::from(RATE)) / 1_000;
    usize::try_from(count).unwrap_or(usize::MAX).min(SAMPLES_MAX)
}

const HEADER_BYTES: usize = 44;
const SAMPLE_BYTES: usize = 2;
const RATE: u32 = 16_000;
/// Two minutes, the longest recording.
const SAMPLES_MAX: usize = 16_000 * 120;
