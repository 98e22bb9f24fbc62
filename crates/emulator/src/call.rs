//! A request to place a call, its parts, and the reason why it was not placed.

use std::time::Duration;

use openssl::error::ErrorStack;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use crate::{
    issuer::DEFAULT_TENANT,
    notification::{InvalidMember, MemberSetting},
    operation::OperationResponses,
    script::Script,
    token::TokenChoice,
    words::words,
};

words! {
    /// The kind of a call.
    pub enum CallKind {
        /// A user calls the bot.
        P2p = "p2p",
        /// A bot is added to a group call.
        Group = "group",
        /// A bot is invited to a scheduled meeting.
        Meeting = "meeting",
        /// A recording policy invites the bot, which has 5 s to answer instead of 15.
        Recording = "recording",
        /// A call to the bot from the telephone network.
        Pstn = "pstn",
    }
}

impl CallKind {
    /// Returns the time that the platform gives the bot to answer (Graph reference, "call: answer").
    pub fn answer_within(self) -> Duration {
        match self {
            Self::Recording => Duration::from_secs(5),
            Self::P2p | Self::Group | Self::Meeting | Self::Pstn => Duration::from_secs(15),
        }
    }
}

words! {
    /// The form of the first notification.
    pub enum Protocol {
        /// The legacy body first, then the same call in Graph form if the response to that was 204.
        LegacyFirst = "legacy-first",
        /// The Graph form only.
        Graph = "graph",
    }
}

words! {
    /// The outcome of a call.
    pub enum CallOutcome {
        /// The bot answered, acknowledged every notification, and the call was terminated.
        Completed = "completed",
        /// The bot rejected it.
        Rejected = "rejected",
        /// The bot redirected it to another callee.
        Redirected = "redirected",
        /// The webhook refused the notification with a status that the platform does not retry.
        Refused = "refused",
        /// The webhook could not be reached, or responded 5xx to every attempt.
        Undelivered = "undelivered",
        /// The bot did not answer the call in time.
        Unanswered = "unanswered",
        /// The bot answered, but did not acknowledge a later notification.
        Lost = "lost",
        /// The bot answered, but responded to a script's step with an unexpected status.
        Unexpected = "unexpected",
    }
}

words! {
    /// A region of the platform, spelled as in notifications.
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
    /// Returns a data centre of the region, as in `mediaHostedRegion`.
    pub(crate) fn media_region(self) -> &'static str {
        match self {
            Self::Amer => "USEA",
            Self::Emea => "EUNO",
            Self::Apac => "ASEA",
        }
    }
}

/// A request to place a call.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// The bot's webhook.
    pub to: Url,
    /// The bot's app id.
    pub app: Uuid,
    /// The tenant of the call.
    pub tenant: Uuid,
    /// The kind of the call.
    pub kind: CallKind,
    /// The caller's home region.
    pub region: Region,
    /// The country of the caller, ISO 3166-1 alpha-2.
    pub country: Option<String>,
    /// The form of the first notification.
    pub protocol: Protocol,
    /// The token that notifications carry.
    pub token: TokenChoice,
    /// The time that the call lasts once it is established.
    pub duration: Duration,
    /// The time that the bot has to answer.
    pub answer_within: Duration,
    /// The participants besides the bot, 1 to [`PARTICIPANTS_MAX`]: the caller, and people who join later.
    pub participants: u32,
    /// The events of the established call; if `None`, it just lasts for `duration`.
    pub script: Option<Script>,
    /// The time when the bot learns the results of its operations; that of the platform if `None`.
    pub operations: Option<OperationResponses>,
    /// The first notification, Graph or legacy; if `None`, the platform makes one. Its ids of the call, the
    /// chain, the app and the tenant are replaced by those of the placed call.
    pub body: Option<Value>,
    /// The members of the first notification that are set before it is posted. If both forms are posted, the
    /// one in the Graph form.
    pub set: Vec<MemberSetting>,
    /// The notifications that follow the bot's answer instead of a script.
    pub replay: Option<Replay>,
    /// If true, a connection carries several notifications, as until 2023. Today the platform closes each
    /// one.
    pub keep_alive: bool,
    /// The expected outcome.
    pub expect: CallOutcome,
}

impl CallRequest {
    /// Returns a call of one second between two parties, legacy first, from `emea`, that should complete.
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
            operations: None,
            body: None,
            set: Vec::new(),
            replay: None,
            keep_alive: false,
            expect: CallOutcome::Completed,
        }
    }

    /// Returns the same call as another kind, with that kind's time to answer.
    #[must_use]
    pub fn with_kind(mut self, kind: CallKind) -> Self {
        self.kind = kind;
        self.answer_within = kind.answer_within();
        self
    }
}

/// The part of the calls that bots create which the bots do not decide.
#[derive(Clone, Debug)]
pub struct CreatedCalls {
    /// The events of each call once it is established.
    pub script: Option<Script>,
    /// The time after which the other side hangs up.
    pub duration: Duration,
}

impl Default for CreatedCalls {
    /// Returns calls of an hour without events.
    fn default() -> Self {
        Self { script: None, duration: Duration::from_secs(3_600) }
    }
}

/// Recorded notifications of one call.
///
/// They are posted once the bot has answered. Without a first notification ([`CallRequest::body`]) the call
/// is answered from the start: the recording has no first notification because the bot placed the call, or
/// because the recorder was started later.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// The chain that the call belongs to; a new one if `None`.
    pub chain: Option<Uuid>,
    /// The notifications in the recorded order.
    pub notifications: Vec<ReplayedNotification>,
}

/// A recorded notification.
#[derive(Clone, Debug)]
pub struct ReplayedNotification {
    /// The time from the notification before it, of the first one from the bot's answer.
    pub after: Duration,
    /// The body, with the recorded ids.
    pub body: Value,
}

/// The reason why a call was not placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The platform plays as many calls as it can hold.
    #[error("too many calls are alive")]
    TooMany,
    /// A member of the first notification cannot be set.
    #[error("set: {0}")]
    Member(#[from] InvalidMember),
    /// OpenSSL has no randomness.
    #[error("openssl failed")]
    Crypto(#[from] ErrorStack),
}

impl PlaceError {
    /// Returns a stable name for logs and responses.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::Member(_) => "badRequest",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// Parses an absolute http or https URL with a host and without credentials.
///
/// # Errors
/// The text is anything else.
pub fn parse_http_url(text: &str) -> Result<Url, InvalidHttpUrl> {
    let url = Url::parse(text).map_err(|_| InvalidHttpUrl)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        Ok(url)
    } else {
        Err(InvalidHttpUrl)
    }
}

/// The text is not a URL that the platform can post to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an http or https URL with a host, like http://127.0.0.1:4000 or http://127.0.0.1:8443/api/calls"
)]
pub struct InvalidHttpUrl;

/// Parses a country of two letters (ISO 3166-1 alpha-2) and returns it in capitals.
///
/// # Errors
/// The text is anything else.
pub fn parse_country(text: &str) -> Result<String, InvalidCountry> {
    let letters = text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_alphabetic());
    if letters { Ok(text.to_ascii_uppercase()) } else { Err(InvalidCountry) }
}

/// The text is not a country code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a country: two letters, like US or HU")]
pub struct InvalidCountry;

/// Parses a number of participants.
///
/// # Errors
/// The text is not a whole number from 1 to [`PARTICIPANTS_MAX`].
pub fn parse_participants(text: &str) -> Result<u32, InvalidParticipants> {
    text.parse().ok().filter(|count| (1..=PARTICIPANTS_MAX).contains(count)).ok_or(InvalidParticipants)
}

/// The text is not a number of participants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a number of participants: 1 to {PARTICIPANTS_MAX}, the caller included")]
pub struct InvalidParticipants;

/// The app id of commands and of examples that name none.
pub const DEFAULT_APP: Uuid = Uuid::from_u128(0x0efc_74f7_41c3_47a4_8775_7259_bfef_4241);

/// The capacity of a Teams meeting. A roster of that many takes about half a MiB.
pub const PARTICIPANTS_MAX: u32 = 1_000;
