//! The values of faults: the syntax of each name, and what each value means.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{
    endpoint::{Endpoint, EndpointFault, is_decimal},
    name::FaultName,
};
use crate::{
    encoding::{duration_text, parse_duration},
    token::Flaw,
};

/// The value of one fault.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FaultValue {
    Endpoint(Counted<EndpointFault>),
    Clock(ClockOffset),
    Token(Flaw),
    Share(Counted<Share>),
    Delay(Delay),
    Callee(Counted<Callee>),
}

/// The syntax of a fault's value.
struct Syntax {
    parse: fn(&str) -> Option<FaultValue>,
    /// A description for messages.
    takes: String,
}

/// The one table of the values: each name with its parser and its description.
fn syntax(name: FaultName) -> Syntax {
    match name {
        FaultName::Skype | FaultName::Entra => Syntax {
            parse: |text| endpoint_fault(text, Endpoint::Issuer),
            takes: counted(&Endpoint::Issuer.takes()),
        },
        FaultName::Login => Syntax {
            parse: |text| endpoint_fault(text, Endpoint::Login),
            takes: counted(&Endpoint::Login.takes()),
        },
        FaultName::Graph => Syntax {
            parse: |text| endpoint_fault(text, Endpoint::Graph),
            takes: counted(&Endpoint::Graph.takes()),
        },
        FaultName::Clock => Syntax {
            parse: |text| ClockOffset::parse(text).map(FaultValue::Clock),
            takes: "a sign and a duration, like +10m or -6m, at most 24h".to_owned(),
        },
        FaultName::Token => Syntax {
            parse: |text| text.parse().ok().map(FaultValue::Token),
            takes: format!("one of {}", Flaw::WORDS.join(", ")),
        },
        FaultName::Callee => Syntax {
            parse: |text| Counted::parse(text, Callee::parse).map(FaultValue::Callee),
            takes: counted("one of busy, reject, no-answer, not-found, slow:DURATION"),
        },
        FaultName::Drop | FaultName::Duplicate | FaultName::Reorder => Syntax {
            parse: |text| Counted::parse(text, Share::parse).map(FaultValue::Share),
            takes: counted("a share from 0 to 1, like 0.1; 1 strikes always"),
        },
        FaultName::Delay => Syntax {
            parse: |text| Delay::parse(text).map(FaultValue::Delay),
            takes: "a duration like 2s, or a range like 100ms..2s, at most 5m".to_owned(),
        },
    }
}

fn endpoint_fault(text: &str, endpoint: Endpoint) -> Option<FaultValue> {
    Counted::parse(text, |text| EndpointFault::parse(text, endpoint)).map(FaultValue::Endpoint)
}

fn counted(takes: &str) -> String {
    format!("{takes}; with *N at the end it strikes N times")
}

impl FaultValue {
    pub(super) fn parse(name: FaultName, text: &str) -> Option<Self> {
        (syntax(name).parse)(text)
    }

    /// Counts one strike of the fault; returns false if that was the last one.
    pub(super) fn spend(&mut self) -> bool {
        let times = match self {
            Self::Endpoint(fault) => &mut fault.times,
            Self::Share(share) => &mut share.times,
            Self::Callee(callee) => &mut callee.times,
            Self::Clock(_) | Self::Token(_) | Self::Delay(_) => &mut None,
        };
        let Some(times) = times else { return true };
        *times = times.saturating_sub(1);
        *times > 0
    }
}

/// Returns a description of the values that a fault takes, for messages.
pub(crate) fn takes(name: FaultName) -> String {
    syntax(name).takes
}

impl fmt::Display for FaultValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(fault) => fault.fmt(f),
            Self::Clock(offset) => offset.fmt(f),
            Self::Token(flaw) => flaw.fmt(f),
            Self::Share(share) => share.fmt(f),
            Self::Delay(delay) => delay.fmt(f),
            Self::Callee(callee) => callee.fmt(f),
        }
    }
}

/// A callee of a call that a bot places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Callee {
    Busy,
    Reject,
    NoAnswer,
    NotFound,
    /// The callee answers after this time.
    Slow(Duration),
}

impl Callee {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "busy" => Some(Self::Busy),
            "reject" => Some(Self::Reject),
            "no-answer" => Some(Self::NoAnswer),
            "not-found" => Some(Self::NotFound),
            _ => parse_duration(text.strip_prefix("slow:")?).ok().map(Self::Slow),
        }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("busy"),
            Self::Reject => f.write_str("reject"),
            Self::NoAnswer => f.write_str("no-answer"),
            Self::NotFound => f.write_str("not-found"),
            Self::Slow(time) => write!(f, "slow:{}", duration_text(*time)),
        }
    }
}

/// A value, and the number of times that it strikes before it ends.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted<T> {
    pub(super) value: T,
    times: Option<u32>,
}

impl<T> Counted<T> {
    fn parse(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Self> {
        let (value, times) = match text.split_once('*') {
            Some((value, times)) => {
                let digits = times.bytes().all(|digit| digit.is_ascii_digit());
                (value, Some(times.parse().ok().filter(|times| digits && *times > 0)?))
            }
            None => (text, None),
        };
        Some(Self { value: parse(value)?, times })
    }
}

impl<T: fmt::Display> fmt::Display for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        self.times.map_or(Ok(()), |times| write!(f, "*{times}"))
    }
}

/// A share of all notifications, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(f64);

impl Share {
    fn parse(text: &str) -> Option<Self> {
        let share: f64 = if is_decimal(text) { text.parse().ok()? } else { return None };
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    /// Decides at random for one notification.
    pub(super) fn strikes(self) -> bool {
        random_share() < self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signed offset of the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ClockOffset {
    Ahead(Duration),
    Behind(Duration),
}

impl ClockOffset {
    fn parse(text: &str) -> Option<Self> {
        let (make, rest): (fn(Duration) -> Self, _) = match text.strip_prefix('+') {
            Some(rest) => (Self::Ahead, rest),
            None => (Self::Behind, text.strip_prefix('-')?),
        };
        parse_duration(rest).ok().map(make)
    }

    pub(super) fn apply(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ahead(by) => now.checked_add(by),
            Self::Behind(by) => now.checked_sub(by),
        }
        .unwrap_or(now)
    }
}

impl fmt::Display for ClockOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(by) => write!(f, "+{}", duration_text(*by)),
            Self::Behind(by) => write!(f, "-{}", duration_text(*by)),
        }
    }
}

/// A range of delays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Delay {
    least: Duration,
    most: Duration,
}

impl Delay {
    fn parse(text: &str) -> Option<Self> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let delay = Self { least: parse_duration(least).ok()?, most: parse_duration(most).ok()? };
        (delay.least <= delay.most && delay.most <= DELAY_MAX).then_some(delay)
    }

    /// Draws a delay from the range.
    pub(super) fn draw(self) -> Duration {
        self.least + self.most.saturating_sub(self.least).mul_f64(random_share())
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.least))?;
        if self.least == self.most { Ok(()) } else { write!(f, "..{}", duration_text(self.most)) }
    }
}

/// Returns a random number from 0 to just below 1.
fn random_share() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness no fault strikes by chance: calls then go on as usual.
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        return 0.999_999;
    }
    f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Beyond this a call is over anyway.
const DELAY_MAX: Duration = Duration::from_secs(300);
