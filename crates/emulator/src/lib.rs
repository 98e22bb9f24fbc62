//! The calling platform on your own machine: issuers, tokens, the Graph calls API, and a caller like
//! Microsoft's.
//!
//! It carries no media, has no users, and serves one region. It plays whole calls to a calling bot, or to a
//! gateway in front of one, from the first notification to the last. It is a tool for development and tests:
//! every client that can reach it can make tokens, so keep it on loopback or in a closed network.
//!
//! ```
//! use switchboard_emulator::{Client, Platform, PlatformSettings, TokenRequest, fetch_json};
//! use uuid::Uuid;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let platform = Platform::start(PlatformSettings::loopback()).await?;
//!
//! let app = Uuid::from_u128(0x0efc74f7_41c3_47a4_8775_7259bfef4241);
//! let tenant = Uuid::from_u128(0x11111111_2222_4333_8444_555555555555);
//! let token = platform.token(&TokenRequest::new(app, tenant))?;
//!
//! // The issuer publishes the key that signed it.
//! let keys = format!("{}/v1/keys", platform.origin()).parse()?;
//! let document = fetch_json(&Client::new(None)?, &keys).await?;
//! assert!(document.contains(&token.kid));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! [`Platform::call`] places a call, and so does `POST /emulator/calls` from any language; both return the
//! same [`Timeline`]. Read on in `routes` (the paths), `caller` (playing a call), `faults` (faults on
//! request) and `bot` (an instance that answers).
//!
//! # Paths
//!
//! Everything is on one origin, under the paths of the real hosts; `GET /emulator` lists them with their
//! URLs.
//!
//! - The Skype-like issuer: `/v1/.well-known/OpenIdConfiguration` and `/v1/keys`. The metadata below `/slash`
//!   name the issuer with a final slash, as tokens of the kind `skype-slash` do.
//! - Entra, where `{tenant}` is an id, `common` or `organizations`:
//!   `/{tenant}/v2.0/.well-known/openid-configuration`, `/{tenant}/discovery/v2.0/keys`, both in version 1.0
//!   without `v2.0`, `/common/discovery/instance`, `POST /{tenant}/oauth2/v2.0/token`.
//! - Managed identities: `GET /metadata/identity/oauth2/token` (IMDS) and `GET /MSI/token` (App Service).
//! - Graph, also under `/beta`: `POST /v1.0/communications/calls` (a call of the bot); `GET` and `DELETE` of
//!   `/v1.0/communications/calls/{id}`, and the actions, operations, participants and other lists below it
//!   (`docs/emulator.md`, "The calls API"), also spelled `microsoft.graph.answer`; `POST` of
//!   `/v1.0/communications/calls/logTeleconferenceDeviceQuality`. Names and values of enums may have any
//!   case, and `app` may stand for `communications`. `POST /v1.0/$batch` takes up to 20 of these requests.
//!
//! The token endpoint accepts client credentials: a secret, in the body or by basic authentication; an
//! assertion (PS256 or RS256) signed by a registered certificate; or a federated one for
//! `api://AzureADTokenExchange`, with any issuer and subject, signed by a key that is registered for that.
//! A managed identity needs no credential. Without a registered one the token endpoint accepts every secret
//! of every known app, and Graph asks for no token. With one, Graph accepts only tokens that this process
//! issued, for Graph, of the call's app and tenant, with the roles that an action needs.
//!
//! # Control API
//!
//! JSON over HTTP. The response to an invalid request is 400, and says what is valid. `GET /` is a page for a
//! browser that uses nothing else.
//!
//! - `GET /emulator` lists the URLs and the values of the faults. `GET /emulator/health` has the version and
//!   the number of calls.
//! - `GET /emulator/openapi.json` is the OpenAPI document of all the paths below `/emulator`.
//! - `POST /emulator/calls` places a call, and streams its timeline as JSON lines. `body` is its first
//!   notification, `set` a list of `PATH=VALUE` for members of it, `replay` a list of recorded notifications
//!   that follow the answer.
//! - `GET /emulator/calls` lists the calls that are kept, the newest first; `DELETE` ends and forgets all.
//! - `GET /emulator/calls/{id}` has a call with its people, operations, recordings and timeline; `DELETE`
//!   ends and forgets it.
//! - `GET /emulator/calls/{id}/events` streams its timeline as server-sent events, from the start.
//! - `POST /emulator/calls/{id}/steps` plays one step of a script in a live call.
//! - `GET /emulator/events` streams server-sent events: `call` has the summary of each call, and again at
//!   each change; `forgotten` has the id of a call that is no longer kept.
//! - `GET /emulator/calls/{id}/recordings/{id}` downloads a recording, with its access token as bearer token.
//! - `POST /emulator/load` places many calls, and streams a result for each. Its members are `call` (as
//!   above), `calls`, `rate` and `kind_mix`.
//! - `DELETE /emulator/load` stops placing calls. The placed ones go on to their end.
//! - `POST /emulator/token` makes a token. Its members are `kind`, `app`, `tenant`, `overrides` (claims;
//!   `null` removes one) and `forged`.
//! - `POST /emulator/rotate?issuer=skype` makes a new key sign. `overlap=false` withdraws the earlier keys;
//!   `publish_before=2s` publishes the key before it signs.
//! - `GET /emulator/faults` shows every fault, `null` for one that is not set. `PATCH` and `POST` change some
//!   of them (`null` ends one), `PUT` replaces all, `DELETE` ends all.
//!
//! # Faults
//!
//! A fault is `NAME=VALUE` on the command line (`serve --fault graph=429:2.128`), and
//! `{"graph":"429:2.128"}` in a request.
//!
//! - `skype`, `entra`: metadata and keys of an issuer. Values: `down`, `hang`, `slow:2s`, `html`, `empty`,
//!   `truncated`, `huge`, `drip`, `no-keys`, `wrong-keys` (the right key ids), `redirect`, a status like
//!   `500` or `503:7`.
//! - `login`: the token endpoint and the managed identity endpoint. Values: the same without `no-keys`,
//!   `wrong-keys` and `redirect`; `lost`, and an AADSTS code like `7000215`.
//! - `graph`: the calls API. Values: the same with codes like `7504`, `7505` and `8529`.
//! - `clock`: the clock by which tokens are dated and checked. Values: `+10m`, `-6m`.
//! - `callee`: the people whom a bot calls, invites, or to whom it transfers a call. Values: `busy`,
//!   `reject`, `no-answer`, `not-found`, `slow:2s`.
//! - `token`: the token of every call that names no flaw itself. Values: `expired`, `wrong-audience`,
//!   `wrong-issuer`, `wrong-tenant`, `bound`, `unsigned`, ….
//! - `drop`, `duplicate`, `reorder`: a share of the notifications to the callbackUri. Values: `0.1`; `1`
//!   means all.
//! - `delay`: the time that these are held back. Values: `2s`, `100ms..2s`.
//!
//! `status:seconds` adds `Retry-After`, whole or with a fraction. `lost` means that the request takes effect
//! and the connection closes without a response. With `*N` at the end (`graph=500*2`, `drop=1*1`) a fault
//! strikes N times and then ends. With `serve --rotate-every 1s --publish-before 2s` keys rotate by
//! themselves.
//!
//! # Client libraries
//!
//! With `serve --tls FOLDER`, Microsoft's own client libraries work unmodified once they trust
//! `FOLDER/ca.pem`. Some of them ask Microsoft for the known authorities. Each has a switch that turns this
//! off; `docs/emulator.md` names it. [`Platform::identity_variables`] are for those with a managed identity.
//! `cargo xtask interop` tests MSAL, Azure Identity, the Graph SDK and the Bot Framework in Python and in
//! Node. It installs them from the package registries, so `cargo xtask check` does not run it.
//!
//! # Enums
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change.

mod audio_routing;
mod bot;
mod call;
mod call_record;
mod caller;
mod client;
mod clock;
mod context;
mod control;
mod encoding;
mod entra;
mod exchange;
mod faults;
mod graph;
mod history;
mod issuer;
mod keys;
mod load;
mod notification;
mod operation;
mod page;
mod participant;
mod platform;
mod recorder;
mod recording;
mod remote;
mod rotation;
mod routes;
mod script;
mod server;
mod signature;
mod timeline;
mod tls;
mod token;
mod wav;
mod words;

pub use bot::{
    AnswerMode, Behaviour, Bot, BotCall, BotCalls, BotOperation, BotSettings, ClientCredentials,
    InjectedFailure, InvalidFailure, InvalidJoinResponse, InvalidSdkRequest, JoinResponse, SdkBehaviour,
    Stray, parse_sdk_request,
};
pub use call::{
    CallKind, CallOutcome, CallRequest, CreatedCalls, DEFAULT_APP, InvalidCountry, InvalidHttpUrl,
    InvalidParticipants, PARTICIPANTS_MAX, PlaceError, Protocol, Region, Replay, ReplayedNotification,
    parse_country, parse_http_url, parse_participants,
};
pub use client::{Client, SendError, fetch_json};
pub use encoding::{InvalidDuration, parse_duration};
pub use entra::{Credential, Permission};
pub use exchange::{RecordedRequest, RecordedResponse};
pub use faults::{FaultName, FaultSetting, Faults, InvalidFault};
pub use issuer::DEFAULT_TENANT;
pub use keys::{AnnounceError, Issuer, Keys};
pub use load::{
    AnswerTimes, BotReport, BotWatcher, CALLS_MAX, CallbackResult, InvalidKindMix, KindMix, LoadEvent,
    LoadEvents, LoadProblem, LoadReport, LoadRequest, LoadResult, OwnerCallbacks, RATE_MAX, RemoteLoad,
    WatchError,
};
pub use notification::{InvalidMember, MemberSetting};
pub use operation::{InvalidOperationResponses, OperationKind, OperationResponses};
pub use platform::{Platform, PlatformSettings, PlatformStartError};
pub use recording::{
    InvalidRecording, NotificationRecorder, RECORDING_BYTES_MAX, Received, RecordedCall, RecorderSettings,
    RecorderStartError, Recording, ReplayError, ReplaySettings,
};
pub use remote::{place_call, place_load};
pub use rotation::{RotateError, Rotation};
pub use routes::NamedUrl;
pub use script::{InvalidScript, Script};
pub use server::printable;
pub use timeline::{CallEnd, CallEvent, CallStep, PlacedCall, RemoteTimeline, SentRequest, Timeline};
pub use tls::TlsError;
pub use token::{
    Flaw, InvalidOverrides, InvalidTokenChoice, MintError, Overrides, Token, TokenChoice, TokenKind,
    TokenRequest,
};
pub use words::InvalidWord;
