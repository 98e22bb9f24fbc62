//! A request for many calls, and the mix of their kinds.

use std::{fmt, str::FromStr};

use crate::call::{CallKind, CallRequest};

/// A request to place many calls.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// The calls to place. A mix replaces their kind.
    pub call: CallRequest,
    /// The number of calls, 1 to [`CALLS_MAX`].
    pub calls: u32,
    /// The number of calls per second, 1 to [`RATE_MAX`].
    pub rate: u32,
    /// The mix of kinds; the call's own kind if `None`.
    pub kinds: Option<KindMix>,
}

impl LoadRequest {
    /// Returns the call with a number, counted from 0.
    pub(super) fn numbered(&self, number: u32) -> CallRequest {
        let kind = self.kinds.as_ref().map_or(self.call.kind, |mix| mix.at(number));
        let call = self.call.clone();
        // A mix gives each kind its own time to answer, unless the request sets another time than its kind's.
        if call.answer_within == call.kind.answer_within() {
            call.with_kind(kind)
        } else {
            CallRequest { kind, ..call }
        }
    }
}

/// Kinds of calls with a share each: `p2p=6,meeting=3,recording=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindMix(Vec<(CallKind, u32)>);

impl KindMix {
    /// Returns the kind of the call with a number. The shares hold in each run of as many calls as their sum.
    fn at(&self, number: u32) -> CallKind {
        let sum: u32 = self.0.iter().map(|(_, share)| share).sum();
        let mut place = number % sum.max(1);
        for (kind, share) in &self.0 {
            if place < *share {
                return *kind;
            }
            place -= share;
        }
        CallKind::P2p
    }
}

impl fmt::Display for KindMix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (kind, share)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}{kind}={share}")?;
        }
        Ok(())
    }
}

impl FromStr for KindMix {
    type Err = InvalidKindMix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |part: &str| {
            let (kind, share) = part.split_once('=')?;
            let share = share.parse().ok().filter(|share| (1..=1_000).contains(share))?;
            Some((kind.parse().ok()?, share))
        };
        let mix: Option<Vec<(CallKind, u32)>> = text.split(',').map(read).collect();
        mix.filter(|mix| mix.len() <= CallKind::WORDS.len()).map(Self).ok_or(InvalidKindMix)
    }
}

/// The text is not a mix of kinds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a mix: kinds ({}) with a share of 1 to 1000 each, like p2p=6,meeting=3,recording=1",
    CallKind::WORDS.join(", ")
)]
pub struct InvalidKindMix;

/// The report remembers each call: about 300 bytes, and 16 for each callback.
pub const CALLS_MAX: u32 = 100_000;

/// More than one process can place.
pub const RATE_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_a_mix_hold() {
        let mix: KindMix = "p2p=2,meeting=1".parse().unwrap();
        let kinds: Vec<&str> = (0..6).map(|number| mix.at(number).label()).collect();
        assert_eq!(kinds, ["p2p", "p2p", "meeting", "p2p", "p2p", "meeting"]);
        assert_eq!(mix.to_string().parse::<KindMix>().unwrap(), mix);
        for text in ["", "p2p", "p2p=", "p2p=0", "fax=1", "p2p=1,", "p2p=1001", "p2p=1;meeting=1"] {
            let error = text.parse::<KindMix>().expect_err(text).to_string();
            assert!(error.contains("like p2p=6,meeting=3,recording=1"), "{error}");
        }
    }
}
