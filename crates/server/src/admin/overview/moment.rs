//! `Moment`: a time on the wall clock that is the same in each frame.

use serde::Serialize;

/// The time of a frame, on two clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameTime {
    /// Unix milliseconds.
    pub(super) unix_ms: u64,
    /// The time since the first frame, which no change of the wall clock affects.
    pub(super) elapsed_ms: u64,
}

/// A moment that is known by its distance from the present. Its JSON is a number: Unix milliseconds.
///
/// The clocks are read one after the other, so the distances of two frames differ by a few milliseconds from
/// the time between the frames. Without `last`, each frame would look like a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "u64")]
pub(super) struct Moment {
    pub(super) unix_ms: u64,
    /// The same in the time since the first frame; negative before it.
    elapsed_ms: i64,
}

impl Moment {
    /// The moment `ago_ms` before the frame, or `last` if it is the same moment.
    pub(super) fn before(now: FrameTime, ago_ms: u64, last: Option<Self>) -> Self {
        Self::at(
            now.unix_ms.saturating_sub(ago_ms),
            signed(now.elapsed_ms).saturating_sub(signed(ago_ms)),
            last,
        )
    }

    /// The moment `in_ms` after the frame, or `last` if it is the same moment.
    pub(super) fn after(now: FrameTime, in_ms: u64, last: Option<Self>) -> Self {
        Self::at(
            now.unix_ms.saturating_add(in_ms),
            signed(now.elapsed_ms).saturating_add(signed(in_ms)),
            last,
        )
    }

    fn at(unix_ms: u64, elapsed_ms: i64, last: Option<Self>) -> Self {
        last.filter(|last| last.elapsed_ms.abs_diff(elapsed_ms) < SAME_MS)
            .unwrap_or(Self { unix_ms, elapsed_ms })
    }
}

impl From<Moment> for u64 {
    fn from(moment: Moment) -> Self {
        moment.unix_ms
    }
}

fn signed(milliseconds: u64) -> i64 {
    i64::try_from(milliseconds).unwrap_or(i64::MAX)
}

const SAME_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: FrameTime = FrameTime { unix_ms: 1_000_000, elapsed_ms: 0 };

    /// The moment was 7 s before the first frame. The next one is read at `next`.
    #[track_caller]
    fn check(next: FrameTime, ago_ms: u64, expected: u64) {
        let last = Moment::before(FIRST, 7000, None);
        assert_eq!(u64::from(Moment::before(next, ago_ms, Some(last))), expected);
    }

    #[test]
    fn a_moment_keeps_its_first_time() {
        let second = FrameTime { unix_ms: 1_001_000, elapsed_ms: 1000 };
        check(second, 8000, 993_000);
        check(second, 8003, 993_000);
        check(second, 7501, 993_000);
        // Another moment.
        check(second, 7500, 993_500);
        check(second, 0, 1_001_000);
        // The wall clock was set back by a minute.
        check(FrameTime { unix_ms: 941_000, ..second }, 8000, 993_000);
    }

    #[test]
    fn a_moment_may_be_before_the_first_frame_or_to_come() {
        let last = Moment::after(FIRST, 90_000, None);
        assert_eq!(u64::from(last), 1_090_000);
        let next = FrameTime { unix_ms: 1_030_004, elapsed_ms: 30_004 };
        assert_eq!(Moment::after(next, 60_000, Some(last)), last);
        assert_eq!(u64::from(Moment::before(FIRST, u64::MAX, None)), 0);
        assert_eq!(u64::from(Moment::after(FIRST, u64::MAX, None)), u64::MAX);
        assert_eq!(serde_json::to_string(&last).unwrap(), "1090000");
    }
}
