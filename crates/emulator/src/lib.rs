//! The calling platform on your own machine: issuers, tokens, the Graph calls API, and a caller that behaves like Microsoft's.
//!
//! It carries no media, checks no permission, and answers for no region but its own: what it serves is what a calling
//! bot, or a gateway in front of one, needs to see a call from its first notification to its last. It is a tool for
//! development and tests: whoever reaches it can mint tokens, so keep it on loopback or in a closed network.
//!
//! ```
//! use switchboard_emulator::{Client, Platform, Settings, TokenRequest, fetch_json};
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let platform = Platform::start(Settings::loopback()).await?;
//!
//! let app = Uuid::from_u128(0x0efc74f7_41c3_47a4_8775_7259bfef4241);
//! let tenant = Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);
//! let token = platform.token(&TokenRequest::new(app, tenant))?;
//!
//! // The key that signed it is in the set that the issuer publishes.
//! let keys = format!("{}/v1/keys", platform.origin()).parse()?;
//! let document = fetch_json(&Client::new(None)?, &keys).await?;
//! assert!(document.contains(&token.kid));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! A call is placed with [`Platform::call`], or with `POST /emulator/calls` from any language; both give the same
//! [`Timeline`]. Read on in `platform` (the paths), `caller` (how a call is played) and `bot` (an instance that answers).

mod bot;
mod call;
mod caller;
mod client;
mod clock;
mod control;
mod encoding;
mod entra;
mod faults;
mod graph;
mod issuer;
mod keys;
mod load;
mod notification;
mod platform;
mod remote;
mod routes;
mod script;
mod server;
mod timeline;
mod tls;
mod token;
mod trouble;
mod words;

pub use bot::{
    AnswerMode, Behaviour, Bot, BotCall, BotCalls, BotSettings, Credentials, Fail, Joining, NotAFail,
    NotJoining, Stray,
};
pub use call::{
    CallKind, CallRequest, DEFAULT_TENANT, NotACountry, NotHttpUrl, NotParticipants, Outcome,
    PARTICIPANTS_MAX, Protocol, Region, parse_country, parse_http_url, parse_participants,
};
pub use client::{Client, SendError, fetch_json};
pub use encoding::{NotADuration, parse_duration};
pub use entra::{Credential, Permission};
pub use faults::{FaultName, FaultSetting, Faults, WrongFault};
pub use keys::{Issuer, Keys, TooManyUpcoming};
pub use load::{
    Answered, CALLS_MAX, CallResult, KindMix, LoadEvent, LoadEvents, LoadReport, LoadRequest, NotAMix,
    Problem, RATE_MAX, RemoteLoad, Testimony, Watching, WitnessError,
};
pub use platform::{NamedUrl, PlaceError, Platform, RotateError, Rotation, Settings, StartError};
pub use remote::{place_call, place_load};
pub use script::{Script, ScriptError};
pub use server::printable;
pub use timeline::{End, Event, Placed, RemoteTimeline, Step, Timeline};
pub use tls::TlsError;
pub use token::{
    Flaw, NotAnObject, Overrides, Token, TokenChoice, TokenChoiceError, TokenError, TokenKind, TokenRequest,
};
pub use words::UnknownWord;
