//! Faults on request: what goes wrong, how it is written, and how often it strikes.

use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    encoding::{duration_text, parse_duration},
    entra, graph,
    token::{Flaw, TokenChoice, TokenKind},
    words::words,
};

words! {
    /// What can be made to fail; each has at most one fault at a time.
    pub enum FaultName {
        /// The documents of the Skype-like issuer: metadata and keys.
        Skype = "skype",
        /// The documents of the Entra-like issuer: metadata and keys.
        Entra = "entra",
        /// The token endpoint.
        Login = "login",
        /// The Graph calls API.
        Graph = "graph",
        /// The platform's clock, against which tokens are dated and checked: `+10m`, `-6m`.
        Clock = "clock",
        /// The flaw of the token of every call that names none itself.
        Token = "token",
        /// The share of notifications that are never posted.
        Drop = "drop",
        /// The share of notifications that are posted twice under one message id.
        Duplicate = "duplicate",
        /// The share of notifications that are held back until the call's next one was posted.
        Reorder = "reorder",
        /// How long notifications are held back: `2s`, or `100ms..2s` for something in between.
        Delay = "delay",
    }
}

impl FaultName {
    /// What its value may be, for messages.
    pub(crate) fn takes(self) -> String {
        let times = "; followed by *N it strikes N times";
        match self {
            Self::Skype | Self::Entra => {
                format!("one of {DOCUMENT_WORDS}, or a status like 500 or 503:2 (Retry-After){times}")
            }
            Self::Login => format!(
                "one of {ANSWER_WORDS}, a status like 500 or 429:2 (Retry-After), or an AADSTS code ({}){times}",
                numbers(&entra::CODES)
            ),
            Self::Graph => format!(
                "one of {ANSWER_WORDS}, a status like 500 or 429:2.128 (Retry-After), or a code of the calls API ({}){times}",
                numbers(&graph::CODES)
            ),
            Self::Clock => "a sign and a duration, like +10m or -6m, at most 24h".to_owned(),
            Self::Token => format!("one of {}", Flaw::WORDS.join(", ")),
            Self::Drop | Self::Duplicate | Self::Reorder => {
                format!("a share from 0 to 1, like 0.1; 1 strikes always{times}")
            }
            Self::Delay => "a duration like 2s, or a range like 100ms..2s, at most 5m".to_owned(),
        }
    }
}

/// What a struck endpoint does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trouble {
    /// The connection closes without an answer.
    Down,
    /// Nothing ever comes.
    Hang,
    /// The request takes effect, and the connection closes without an answer.
    Lost,
    /// The right answer, later.
    Slow(Duration),
    Html,
    Empty,
    /// Half of the right answer, under its own length.
    Truncated,
    /// More than anyone should read.
    Huge,
    /// A byte now and then.
    Drip,
    /// A key set without keys.
    NoKeys,
    /// A key set with the right key ids and other keys.
    WrongKeys,
    /// To where no client should go.
    Redirect,
    Status {
        status: u16,
        retry_after: Option<String>,
    },
    /// An error code of the service.
    Code(u32),
}

impl Trouble {
    fn parse(text: &str, name: FaultName) -> Option<Self> {
        let (word, argument) = match text.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (text, None),
        };
        let documents = matches!(name, FaultName::Skype | FaultName::Entra);
        let trouble = match (word, argument) {
            ("down", None) => Self::Down,
            ("hang", None) => Self::Hang,
            ("html", None) => Self::Html,
            ("empty", None) => Self::Empty,
            ("truncated", None) => Self::Truncated,
            ("huge", None) => Self::Huge,
            ("drip", None) => Self::Drip,
            ("lost", None) if !documents => Self::Lost,
            ("no-keys", None) if documents => Self::NoKeys,
            ("wrong-keys", None) if documents => Self::WrongKeys,
            ("redirect", None) if documents => Self::Redirect,
            ("slow", Some(argument)) => Self::Slow(parse_duration(argument).ok()?),
            (number, retry_after) if number.bytes().all(|digit| digit.is_ascii_digit()) => {
                let code: u32 = number.parse().ok()?;
                match u16::try_from(code) {
                    Ok(status @ 400..=599) => {
                        let retry_after = retry_after.map(str::to_owned);
                        if !retry_after.as_deref().is_none_or(is_decimal) {
                            return None;
                        }
                        Self::Status { status, retry_after }
                    }
                    _ if retry_after.is_some() => return None,
                    _ if name == FaultName::Graph && graph::CODES.contains(&code) => Self::Code(code),
                    _ if name == FaultName::Login && entra::CODES.contains(&code) => Self::Code(code),
                    _ => return None,
                }
            }
            _ => return None,
        };
        Some(trouble)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Hang => "hang",
            Self::Lost => "lost",
            Self::Html => "html",
            Self::Empty => "empty",
            Self::Truncated => "truncated",
            Self::Huge => "huge",
            Self::Drip => "drip",
            Self::NoKeys => "no-keys",
            Self::WrongKeys => "wrong-keys",
            Self::Redirect => "redirect",
            Self::Slow(duration) => return write!(f, "slow:{}", duration_text(*duration)),
            Self::Status { status, retry_after: None } => return write!(f, "{status}"),
            Self::Status { status, retry_after: Some(after) } => return write!(f, "{status}:{after}"),
            Self::Code(code) => return write!(f, "{code}"),
        })
    }
}

/// A share of all occasions, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share(f64);

impl Share {
    fn parse(text: &str) -> Option<Self> {
        let share: f64 = if is_decimal(text) { text.parse().ok()? } else { return None };
        (0.0..=1.0).contains(&share).then_some(Self(share))
    }

    fn strikes(self) -> bool {
        dice() < self.0
    }
}

/// Something, and how often it strikes before it is over.
#[derive(Clone, Debug, PartialEq)]
struct Limited<T> {
    what: T,
    times: Option<u32>,
}

impl<T> Limited<T> {
    fn parse(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<Self> {
        let (what, times) = match text.split_once('*') {
            Some((what, times)) => {
                let digits = times.bytes().all(|digit| digit.is_ascii_digit());
                (what, Some(times.parse().ok().filter(|times| digits && *times > 0)?))
            }
            None => (text, None),
        };
        Some(Self { what: parse(what)?, times })
    }
}

impl<T: fmt::Display> fmt::Display for Limited<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.what.fmt(f)?;
        self.times.map_or(Ok(()), |times| write!(f, "*{times}"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A signed offset of the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Skew {
    Ahead(Duration),
    Behind(Duration),
}

impl Skew {
    fn parse(text: &str) -> Option<Self> {
        let (make, rest): (fn(Duration) -> Self, _) = match text.strip_prefix('+') {
            Some(rest) => (Self::Ahead, rest),
            None => (Self::Behind, text.strip_prefix('-')?),
        };
        parse_duration(rest).ok().map(make)
    }

    fn apply(self, now: SystemTime) -> SystemTime {
        match self {
            Self::Ahead(by) => now.checked_add(by),
            Self::Behind(by) => now.checked_sub(by),
        }
        .unwrap_or(now)
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead(by) => write!(f, "+{}", duration_text(*by)),
            Self::Behind(by) => write!(f, "-{}", duration_text(*by)),
        }
    }
}

/// From one duration to another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Delay {
    least: Duration,
    most: Duration,
}

impl Delay {
    fn parse(text: &str) -> Option<Self> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let delay = Self { least: parse_duration(least).ok()?, most: parse_duration(most).ok()? };
        (delay.least <= delay.most && delay.most <= DELAY_MAX).then_some(delay)
    }

    fn draw(self) -> Duration {
        self.least + self.most.saturating_sub(self.least).mul_f64(dice())
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration_text(self.least))?;
        if self.least == self.most { Ok(()) } else { write!(f, "..{}", duration_text(self.most)) }
    }
}

/// What is to go wrong. Nothing by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    skype: Option<Limited<Trouble>>,
    entra: Option<Limited<Trouble>>,
    login: Option<Limited<Trouble>>,
    graph: Option<Limited<Trouble>>,
    clock: Option<Skew>,
    token: Option<Flaw>,
    drop: Option<Limited<Share>>,
    duplicate: Option<Limited<Share>>,
    reorder: Option<Limited<Share>>,
    delay: Option<Delay>,
}

impl Faults {
    /// Sets one fault; see [`FaultName`] for the values.
    ///
    /// # Errors
    /// The value is none that this fault takes.
    pub fn set(&mut self, name: FaultName, value: &str) -> Result<(), InvalidFault> {
        let wrong = || InvalidFault::Value { name, value: value.chars().take(VALUE_LETTERS_SHOWN).collect() };
        let trouble = || Limited::parse(value, |text| Trouble::parse(text, name)).ok_or_else(wrong).map(Some);
        let share = || Limited::parse(value, Share::parse).ok_or_else(wrong).map(Some);
        match name {
            FaultName::Skype => self.skype = trouble()?,
            FaultName::Entra => self.entra = trouble()?,
            FaultName::Login => self.login = trouble()?,
            FaultName::Graph => self.graph = trouble()?,
            FaultName::Clock => self.clock = Some(Skew::parse(value).ok_or_else(wrong)?),
            FaultName::Token => self.token = Some(value.parse().map_err(|_| wrong())?),
            FaultName::Drop => self.drop = share()?,
            FaultName::Duplicate => self.duplicate = share()?,
            FaultName::Reorder => self.reorder = share()?,
            FaultName::Delay => self.delay = Some(Delay::parse(value).ok_or_else(wrong)?),
        }
        Ok(())
    }

    /// Ends one fault.
    pub fn clear(&mut self, name: FaultName) {
        match name {
            FaultName::Skype => self.skype = None,
            FaultName::Entra => self.entra = None,
            FaultName::Login => self.login = None,
            FaultName::Graph => self.graph = None,
            FaultName::Clock => self.clock = None,
            FaultName::Token => self.token = None,
            FaultName::Drop => self.drop = None,
            FaultName::Duplicate => self.duplicate = None,
            FaultName::Reorder => self.reorder = None,
            FaultName::Delay => self.delay = None,
        }
    }

    /// The value of one fault as it is written; `None` if it is not set, or over.
    pub fn value(&self, name: FaultName) -> Option<String> {
        fn text(value: Option<&impl ToString>) -> Option<String> {
            value.map(ToString::to_string)
        }
        match name {
            FaultName::Skype => text(self.skype.as_ref()),
            FaultName::Entra => text(self.entra.as_ref()),
            FaultName::Login => text(self.login.as_ref()),
            FaultName::Graph => text(self.graph.as_ref()),
            FaultName::Clock => text(self.clock.as_ref()),
            FaultName::Token => text(self.token.as_ref()),
            FaultName::Drop => text(self.drop.as_ref()),
            FaultName::Duplicate => text(self.duplicate.as_ref()),
            FaultName::Reorder => text(self.reorder.as_ref()),
            FaultName::Delay => text(self.delay.as_ref()),
        }
    }
}

impl Faults {
    /// Whether a fault is one of an issuer's key set, and its metadata are good.
    pub(crate) fn is_of_keys(&self, name: FaultName) -> bool {
        let slot = if name == FaultName::Skype { &self.skype } else { &self.entra };
        slot.as_ref().is_some_and(|fault| matches!(fault.what, Trouble::NoKeys | Trouble::WrongKeys))
    }
}

/// One fault as `NAME=VALUE`, like `graph=429:2` or `drop=0.1`.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultSetting {
    name: FaultName,
    value: String,
}

impl FaultSetting {
    /// Puts it among others.
    pub fn apply(&self, faults: &mut Faults) {
        // Parsed already: `from_str` refuses what `set` would.
        let _ = faults.set(self.name, &self.value);
    }
}

impl FromStr for FaultSetting {
    type Err = InvalidFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or(InvalidFault::NoPair)?;
        let name = name.parse().map_err(|_| InvalidFault::Name)?;
        Faults::default().set(name, value)?;
        Ok(Self { name, value: value.to_owned() })
    }
}

/// Why a fault was not set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFault {
    /// There is no `=`.
    #[error("a fault is NAME=VALUE, like graph=429:2; the names are {}", FaultName::WORDS.join(", "))]
    NoPair,
    /// No fault has this name.
    #[error("no such fault: the names are {}", FaultName::WORDS.join(", "))]
    Name,
    /// The fault does not take this value.
    #[error("{name} does not take {value:?}; it takes {}", .name.takes())]
    Value {
        /// Which fault.
        name: FaultName,
        /// What was asked for, cut.
        value: String,
    },
}

impl InvalidFault {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoPair => "no_pair",
            Self::Name => "name",
            Self::Value { .. } => "value",
        }
    }
}

/// The faults of a running platform.
#[derive(Debug)]
pub(crate) struct FaultBox(Mutex<Faults>);

/// What happens to one notification.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Delivery {
    /// It is never posted, and the platform does not know.
    pub(crate) drop: bool,
    /// It is posted twice under one message id.
    pub(crate) duplicate: bool,
    /// It is held back until the next one of the call was posted.
    pub(crate) reorder: bool,
    /// It is held back this long.
    pub(crate) delay: Duration,
}

impl FaultBox {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Mutex::new(faults))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Faults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trouble that strikes a request to one of the four endpoints now.
    pub(crate) fn strike(&self, name: FaultName) -> Option<Trouble> {
        let mut faults = self.lock();
        let slot = match name {
            FaultName::Skype => &mut faults.skype,
            FaultName::Entra => &mut faults.entra,
            FaultName::Login => &mut faults.login,
            FaultName::Graph => &mut faults.graph,
            FaultName::Clock | FaultName::Token => return None,
            FaultName::Drop | FaultName::Duplicate | FaultName::Reorder | FaultName::Delay => return None,
        };
        let trouble = slot.as_ref()?.what.clone();
        spend(slot);
        Some(trouble)
    }

    /// Rolls the dice for one notification, however often it is tried.
    pub(crate) fn delivery(&self) -> Delivery {
        let mut faults = self.lock();
        let delay = faults.delay.map(Delay::draw).unwrap_or_default();
        let mut roll = |slot: fn(&mut Faults) -> &mut Option<Limited<Share>>| {
            let slot = slot(&mut faults);
            let strikes = slot.as_ref().is_some_and(|share| share.what.strikes());
            if strikes {
                spend(slot);
            }
            strikes
        };
        // What is dropped can be neither doubled nor late: those that are counted wait for the next one.
        let drop = roll(|faults| &mut faults.drop);
        let duplicate = !drop && roll(|faults| &mut faults.duplicate);
        let reorder = !drop && roll(|faults| &mut faults.reorder);
        Delivery { drop, duplicate, reorder, delay }
    }

    /// The time by the platform's clock.
    pub(crate) fn clock(&self, now: SystemTime) -> SystemTime {
        self.lock().clock.map_or(now, |skew| skew.apply(now))
    }

    /// The token of a call: the flaw that the call itself names wins.
    pub(crate) fn token_choice(&self, wanted: TokenChoice) -> TokenChoice {
        let flaw = self.lock().token.filter(|_| wanted.flaw == Flaw::None);
        match (flaw, wanted.kind) {
            (None, _) => wanted,
            (Some(flaw @ (Flaw::OtherCloud | Flaw::ConsumerKey)), TokenKind::Skype) => {
                TokenChoice { kind: TokenKind::EntraV2, flaw }
            }
            (Some(flaw), kind) => TokenChoice { kind, flaw },
        }
    }
}

fn spend<T>(slot: &mut Option<Limited<T>>) {
    if let Some(Limited { times: Some(times), .. }) = slot {
        *times -= 1;
        if *times == 0 {
            *slot = None;
        }
    }
}

/// From 0 to just below 1.
fn dice() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness no fault strikes by chance, which is the harmless side.
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        return 0.999_999;
    }
    f64::from(u32::from_ne_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

/// Digits, and perhaps a point with digits after it.
fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| (1..=6).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit());
    digits(whole) && digits(fraction)
}

fn numbers(codes: &[u32]) -> String {
    codes.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}

const DOCUMENT_WORDS: &str =
    "down, hang, slow:DURATION, html, empty, truncated, huge, drip, no-keys, wrong-keys, redirect";
const ANSWER_WORDS: &str = "down, hang, lost, slow:DURATION, html, empty, truncated, huge, drip";

/// Beyond this a call is over anyway.
const DELAY_MAX: Duration = Duration::from_secs(300);
const VALUE_LETTERS_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(setting: &str, expected: Result<&str, &str>) {
        let result = setting.parse::<FaultSetting>().map(|setting| {
            let mut faults = Faults::default();
            setting.apply(&mut faults);
            faults.value(setting.name).expect("a fault that was set has a value")
        });
        match (result, expected) {
            (Ok(value), Ok(expected)) => assert_eq!(value, expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (result, expected) => panic!("{setting}: {result:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_fault_is_read_back_as_it_was_written() {
        for setting in [
            "skype=down",
            "skype=slow:2s",
            "entra=no-keys*3",
            "entra=503:7",
            "login=7000215",
            "login=429:2*2",
            "graph=429:2.128",
            "graph=7504",
            "graph=lost*1",
            "clock=+10m",
            "clock=-90s",
            "token=expired",
            "token=unsigned",
            "drop=0.1",
            "drop=1*2",
            "delay=100ms..2s",
        ] {
            check(setting, Ok(setting.split_once('=').unwrap().1));
        }
    }

    #[test]
    fn a_wrong_fault_is_told_what_would_be_right() {
        check("graph", Err("a fault is NAME=VALUE, like graph=429:2"));
        check("grahp=500", Err("the names are skype, entra, login, graph, clock, token, drop"));
        for value in [
            "", "0", "200", "429:", "429:x", "429:-1", "500*0", "500*", "500*+1", "slow", "slow:2", "no-keys",
        ] {
            check(&format!("graph={value}"), Err("it takes one of down, hang, lost, slow:DURATION"));
        }
        check("skype=lost", Err("no-keys, wrong-keys, redirect, or a status like 500"));
        check("skype=7504", Err("skype does not take \"7504\""));
        check("clock=10m", Err("a sign and a duration, like +10m or -6m"));
        check("token=bad", Err("it takes one of none, forged, unknown-key, unsigned"));
        for value in ["2", "-0.1", "NaN", "1e-1", "0.1*0", "10%"] {
            check(&format!("drop={value}"), Err("a share from 0 to 1"));
        }
        check("delay=2s..1s", Err("a range like 100ms..2s"));
        check("delay=1h", Err("at most 5m"));
    }

    #[test]
    fn a_counted_fault_strikes_as_often_as_it_says() {
        let mut faults = Faults::default();
        faults.set(FaultName::Graph, "500*2").unwrap();
        faults.set(FaultName::Drop, "1*1").unwrap();
        let faults = FaultBox::new(faults);
        let struck: Vec<bool> = (0..3).map(|_| faults.strike(FaultName::Graph).is_some()).collect();
        assert_eq!(struck, [true, true, false]);
        assert_eq!([faults.delivery().drop, faults.delivery().drop], [true, false]);
        assert_eq!(*faults.lock(), Faults::default());
    }

    #[test]
    fn shares_strike_about_as_often_as_they_say() {
        let mut faults = Faults::default();
        faults.set(FaultName::Duplicate, "0.5").unwrap();
        faults.set(FaultName::Reorder, "0").unwrap();
        faults.set(FaultName::Delay, "1ms..2ms").unwrap();
        let faults = FaultBox::new(faults);
        let rolled: Vec<Delivery> = (0..1_000).map(|_| faults.delivery()).collect();
        let duplicated = rolled.iter().filter(|delivery| delivery.duplicate).count();
        // Twelve standard deviations: fails once in 10^32 runs.
        assert!((300..700).contains(&duplicated), "{duplicated}");
        assert!(rolled.iter().all(|delivery| !delivery.reorder && !delivery.drop));
        assert!(rolled.iter().all(|delivery| (1..=2).contains(&delivery.delay.as_millis())));
    }

    #[test]
    fn the_flaw_of_a_call_wins_over_the_fault() {
        let faults = FaultBox::new(Faults::default());
        let choice = |text: &str| faults.token_choice(text.parse().unwrap()).to_string();
        assert_eq!(choice("entra-v1"), "entra-v1");
        faults.lock().set(FaultName::Token, "consumer-key").unwrap();
        assert_eq!(choice("skype"), "entra-v2+consumer-key");
        assert_eq!(choice("entra-v1"), "entra-v1+consumer-key");
        assert_eq!(choice("expired"), "skype+expired");
    }
}
