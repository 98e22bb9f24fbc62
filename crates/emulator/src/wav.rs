//! Sound as the calling platform takes and gives it: WAV, 16 kHz, 16 bit, mono.

use std::{f64::consts::TAU, time::Duration};

use bytes::Bytes;

/// Returns the length of a sound (Graph reference, "mediaInfo").
pub(crate) fn length(file: &[u8]) -> Result<Duration, InvalidSound> {
    if file.get(..4) != Some(b"RIFF") || file.get(8..12) != Some(b"WAVE") {
        return Err(InvalidSound::NotWav);
    }
    let mut rest = file.get(12..).unwrap_or_default();
    let mut format = None;
    while let (Some(name), Some(size)) = (rest.get(..4), number(rest, 4, 4)) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let content = rest.get(8..).unwrap_or_default();
        match name {
            b"fmt " => {
                let field = |at, bytes| number(content, at, bytes).unwrap_or_default();
                format = Some((field(0, 2), field(2, 2), field(4, 4), field(14, 2)));
            }
            b"data" => {
                let found = format.ok_or(InvalidSound::NotWav)?;
                if found != (PCM, 1, RATE, 16) {
                    let (coding, channels, rate, bits) = found;
                    return Err(InvalidSound::Format { coding, channels, rate, bits });
                }
                // A file that was written to a pipe names a size that it does not have.
                let data = u64::try_from(size.min(content.len())).unwrap_or(u64::MAX);
                return Ok(Duration::from_millis(data.saturating_mul(1_000) / BYTES_PER_SECOND));
            }
            _ => {}
        }
        // Chunks are aligned to two bytes.
        rest = content.get(size.saturating_add(size % 2)..).unwrap_or_default();
    }
    Err(InvalidSound::NotWav)
}

/// Reads a little-endian number of two or four bytes.
fn number(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(count)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// The sound is not one that the platform plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSound {
    #[error("it is not a WAV file")]
    NotWav,
    #[error(
        "it must be PCM with 1 channel, 16000 Hz and 16 bits; it has coding {coding}, {channels} channels, \
         {rate} Hz and {bits} bits"
    )]
    Format { coding: u32, channels: u32, rate: u32, bits: u32 },
}

/// Returns the size of a recording.
pub(crate) fn recording_bytes(length: Duration) -> usize {
    HEADER_BYTES + samples(length).saturating_mul(2)
}

/// Makes a recording: a tone for as long as the person speaks, then silence.
pub(crate) fn recording(speech: Duration, length: Duration) -> Bytes {
    let (speech, count) = (samples(speech), samples(length));
    let size = u32::try_from(count.saturating_mul(2)).unwrap_or(u32::MAX);
    let mut file = Vec::with_capacity(recording_bytes(length));
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&size.saturating_add(36).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16_u32.to_le_bytes());
    // The coding and the number of channels.
    file.extend_from_slice(&[1, 0, 1, 0]);
    file.extend_from_slice(&RATE.to_le_bytes());
    file.extend_from_slice(&(RATE * 2).to_le_bytes());
    file.extend_from_slice(&2_u16.to_le_bytes());
    file.extend_from_slice(&16_u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&size.to_le_bytes());
    let period: Vec<[u8; 2]> = (0..PERIOD).map(|index| wave(index).to_le_bytes()).collect();
    let spoken = period.iter().cycle().take(speech.min(count));
    let silent = std::iter::repeat_n(&[0; 2], count.saturating_sub(speech));
    file.extend(spoken.chain(silent).flatten());
    file.into()
}

/// Returns a sample of a tone of 400 Hz.
fn wave(index: u16) -> i16 {
    let level = (TAU * f64::from(index) / f64::from(PERIOD)).sin() * f64::from(LOUDNESS);
    #[expect(clippy::as_conversions, reason = "the level is between -8,000 and 8,000")]
    let level = level as i16;
    level
}

fn samples(length: Duration) -> usize {
    let count = length.as_millis().saturating_mul(u128::from(RATE)) / 1_000;
    usize::try_from(count).unwrap_or(usize::MAX).min(SAMPLES_MAX)
}

const PCM: u32 = 1;
const RATE: u32 = 16_000;
const BYTES_PER_SECOND: u64 = 32_000;
const HEADER_BYTES: usize = 44;
/// The samples of one period of 400 Hz.
const PERIOD: u16 = 40;
const LOUDNESS: i16 = 8_000;
/// Two minutes, the longest recording that Graph makes.
const SAMPLES_MAX: usize = 16_000 * 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_a_sound_that_the_platform_plays() {
        let (speech, whole) = (Duration::from_millis(250), Duration::from_millis(1_250));
        let file = recording(speech, whole);
        assert_eq!(file.len(), recording_bytes(whole));
        assert_eq!(length(&file), Ok(whole));
        assert!(file[44..44 + 8_000].iter().any(|byte| *byte != 0), "a tone");
        assert!(file[44 + 8_000..].iter().all(|byte| *byte == 0), "silence");
        assert_eq!(recording_bytes(Duration::from_secs(3_600)), 44 + 2 * SAMPLES_MAX);
    }

    #[test]
    fn only_sound_of_the_documented_format_is_played() {
        let good = recording(Duration::ZERO, Duration::from_millis(500));
        let changed = |at: usize, byte: u8| {
            let mut file = good.to_vec();
            file[at] = byte;
            length(&file)
        };
        for (at, byte) in [(20, 3), (22, 2), (24, 0), (34, 8)] {
            assert!(matches!(changed(at, byte), Err(InvalidSound::Format { .. })), "byte {at}");
        }
        for (at, byte) in [(0, b'x'), (8, b'x'), (12, b'x'), (36, b'x')] {
            assert_eq!(changed(at, byte), Err(InvalidSound::NotWav), "byte {at}");
        }
        for cut in 0..good.len().min(60) {
            let _ = length(&good[..cut]);
        }
        // A list of facts before the data, and a size that the file does not have.
        let mut listed = good[..36].to_vec();
        listed.extend_from_slice(b"LIST\x03\0\0\0abc\0data\xff\xff\xff\xff");
        listed.extend_from_slice(&[0; 32_000]);
        assert_eq!(length(&listed), Ok(Duration::from_secs(1)));
    }
}
