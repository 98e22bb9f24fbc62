//! A call that the platform is asked to place.

use std::time::Duration;

use url::Url;
use uuid::Uuid;

use crate::{script::Script, token::TokenChoice, words::words};

words! {
    /// What kind of call it is.
    pub enum CallKind {
        /// A user calls the bot.
        P2p = "p2p",
        /// A bot is added to a group call.
        Group = "group",
        /// A bot is invited to a scheduled meeting.
        Meeting = "meeting",
        /// A recording policy invites the bot; it has 5 s instead of 15.
        Recording = "recording",
        /// Somebody calls the bot from the telephone network.
        Pstn = "pstn",
    }
}

impl CallKind {
    /// How long the platform lets the bot take to answer (Graph reference, "call: answer").
    pub fn answer_within(self) -> Duration {
        match self {
            Self::Recording => Duration::from_secs(5),
            Self::P2p | Self::Group | Self::Meeting | Self::Pstn => Duration::from_secs(15),
        }
    }
}

words! {
    /// How the platform begins.
    pub enum Protocol {
        /// The legacy body first, and the same call in Graph form once that was answered with 204.
        LegacyFirst = "legacy-first",
        /// The Graph form at once.
        Graph = "graph",
    }
}

words! {
    /// How a call ends.
    pub enum CallOutcome {
        /// Answered, every notification acknowledged, terminated.
        Completed = "completed",
        /// The bot rejected it.
        Rejected = "rejected",
        /// The bot redirected it to somebody else.
        Redirected = "redirected",
        /// The webhook refused the notification, with a status that is not tried again.
        Refused = "refused",
        /// The webhook could not be reached, or answered 5xx until the tries were used up.
        Undelivered = "undelivered",
        /// Nobody answered in time.
        Unanswered = "unanswered",
        /// Answered, but a later notification was never acknowledged.
        Lost = "lost",
        /// Answered, but a step of the script was answered with another status than it expects.
        Unexpected = "unexpected",
    }
}

words! {
    /// A region of the platform, as the wire spells it.
    pub enum Region {
        /// The Americas.
        Amer = "amer",
        /// Europe, the Middle East and Africa.
        Emea = "emea",
        /// Asia and the Pacific.
        Apac = "apac",
    }
}

impl Region {
    /// A data centre of the region, as `mediaHostedRegion` names them.
    pub(crate) fn media_region(self) -> &'static str {
        match self {
            Self::Amer => "USEA",
            Self::Emea => "EUNO",
            Self::Apac => "ASEA",
        }
    }
}

/// A call to be placed.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The bot's webhook.
    pub to: Url,
    /// The bot's app id.
    pub app: Uuid,
    /// The tenant in which it happens.
    pub tenant: Uuid,
    /// What kind of call.
    pub kind: CallKind,
    /// The caller's home region.
    pub region: Region,
    /// Where the caller is, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// How the platform begins.
    pub protocol: Protocol,
    /// The token it shows.
    pub token: TokenChoice,
    /// How long the call lasts once it is established.
    pub duration: Duration,
    /// How long the bot may take to answer.
    pub answer_within: Duration,
    /// How many people are in it besides the bot, 1 to [`PARTICIPANTS_MAX`]: the caller, and those who join later.
    pub participants: u32,
    /// What happens once it is established; if `None`, nothing until `duration` is over.
    pub script: Option<Script>,
    /// Whether a connection serves several notifications, as the platform's did until 2023; it closes each one today.
    pub keep_alive: bool,
    /// How the call is meant to end.
    pub expect: CallOutcome,
}

impl CallRequest {
    /// A call of one second between two parties, legacy first, from `emea`, that is meant to be completed.
    pub fn new(to: Url, app: Uuid) -> Self {
        Self {
            to,
            app,
            tenant: DEFAULT_TENANT,
            kind: CallKind::P2p,
            region: Region::Emea,
            country: None,
            protocol: Protocol::LegacyFirst,
            token: TokenChoice::GOOD,
            duration: Duration::from_secs(1),
            answer_within: CallKind::P2p.answer_within(),
            participants: 1,
            script: None,
            keep_alive: false,
            expect: CallOutcome::Completed,
        }
    }

    /// The same call as another kind, with that kind's time to answer.
    #[must_use]
    pub fn with_kind(mut self, kind: CallKind) -> Self {
        self.kind = kind;
        self.answer_within = kind.answer_within();
        self
    }
}

/// An absolute http or https URL with a host and without credentials.
///
/// # Errors
/// Anything else.
pub fn parse_http_url(text: &str) -> Result<Url, InvalidHttpUrl> {
    let url = Url::parse(text).map_err(|_| InvalidHttpUrl)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        Ok(url)
    } else {
        Err(InvalidHttpUrl)
    }
}

/// The text is not a URL that can be posted to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an http or https URL with a host, like http://127.0.0.1:8443/api/calls")]
pub struct InvalidHttpUrl;

/// Two letters, as ISO 3166-1 alpha-2 has them.
///
/// # Errors
/// Anything else.
pub fn parse_country(text: &str) -> Result<String, InvalidCountry> {
    let letters = text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_alphabetic());
    if letters { Ok(text.to_ascii_uppercase()) } else { Err(InvalidCountry) }
}

/// The text is not a country code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a country: two letters, like US or HU")]
pub struct InvalidCountry;

/// A number of participants.
///
/// # Errors
/// Not a whole number from 1 to [`PARTICIPANTS_MAX`].
pub fn parse_participants(text: &str) -> Result<u32, InvalidParticipants> {
    text.parse().ok().filter(|count| (1..=PARTICIPANTS_MAX).contains(count)).ok_or(InvalidParticipants)
}

/// The text is not a number of participants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number of participants: 1 to {PARTICIPANTS_MAX}, the caller included")]
pub struct InvalidParticipants;

/// What a meeting of Teams holds; a roster of that many has about half a MiB.
pub const PARTICIPANTS_MAX: u32 = 1_000;

/// The tenant that is used where none is named.
pub const DEFAULT_TENANT: Uuid = Uuid::from_u128(0x1111_1111_2222_4333_8444_5555_5555_5555);
