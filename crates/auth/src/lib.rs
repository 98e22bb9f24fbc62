//! Authenticates the calling platform: turns a bearer token into a [`Caller`].
//!
//! It knows neither HTTP nor calls. Its input is the value of an `Authorization` field and the current time,
//! and it fetches documents through [`Fetch`]. It reads no clock to check a token, takes no algorithm from a
//! token, and shows of a refused token only values that have a known grammar ([`LogValue`]).
//!
//! ```
//! use std::{pin::Pin, sync::Arc, time::{Duration, SystemTime}};
//! use bytes::Bytes;
//! use switchboard_auth::{
//!     AppSettings, Authenticator, AuthError, Fetch, FetchError, KeyPolicy, Tenants, TrustSettings,
//! };
//! use url::Url;
//!
//! /// A network that is down.
//! struct Offline;
//!
//! impl Fetch for Offline {
//!     fn get(
//!         &self,
//!         _: &Url,
//!         _: usize,
//!     ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
//!         Box::pin(async { Err(FetchError { kind: "connect", detail: "no route to host".into() }) })
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let trust = TrustSettings {
//!     name: "skype".into(),
//!     metadata: Url::parse("https://api.aps.skype.com/v1/.well-known/OpenIdConfiguration")?,
//!     issuers: vec!["https://api.botframework.com".into()],
//!     callers: vec!["26a18ebc-cdf7-4a6a-91cb-beb352805e81".parse()?],
//!     ca_digest: None,
//! };
//! let app = AppSettings {
//!     id: "0efc74f7-41c3-47a4-8775-7259bfef4241".parse()?,
//!     tenants: Tenants::Any,
//!     audiences: Vec::new(),
//! };
//! let keys = KeyPolicy {
//!     refresh: Duration::from_secs(3600),
//!     cooldown: Duration::from_secs(30),
//!     keep_stale: Duration::from_secs(24 * 3600),
//!     store: None,
//! };
//! let authenticator = Arc::new(Authenticator::new(vec![(trust, Arc::new(Offline))], vec![app], keys)?);
//! # #[expect(clippy::disallowed_methods, reason = "the example is the edge")]
//! tokio::spawn(Arc::clone(&authenticator).run(SystemTime::now));
//!
//! let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
//! let error = authenticator.authenticate(b"Basic dXNlcjpwYXNz", now).await.unwrap_err();
//! assert!(matches!(error.error, AuthError::Rejected(..)));
//! assert_eq!(error.error.label(), "not_bearer");
//! assert_eq!(authenticator.trusts()[0].keys, 0);
//! # Ok(())
//! # }
//! ```
//!
//! The enums of this crate are exhaustive on purpose: a new variant needs a decision wherever one is matched.
//! Adding a variant is therefore a breaking change.
//!
//! Reading order: [`Authenticator::authenticate`]; then `token_check`, `token` and `claims` (the rules for a
//! token), `examination` and `token_summary` (the reason of a refusal), `key` and `keys` (the rules for a
//! key), `key_cache` and `fetch_history` (when to wait or refuse), `key_refresher` (when to fetch).

mod algorithm;
mod authenticator;
mod back_off;
mod bearer;
mod caller;
mod claims;
mod clock;
mod discovery;
mod examination;
mod fetch;
mod fetch_history;
mod issuer;
mod json;
mod key;
mod key_cache;
mod key_refresher;
mod keys;
mod log_text;
mod refused_sender;
mod rejection;
mod settings;
mod store;
mod token;
mod token_cache;
mod token_check;
mod token_summary;

pub use crate::{
    authenticator::Authenticator,
    caller::{Caller, Sender},
    discovery::DiscoveryError,
    examination::{Examination, Finding, Missing, Rule},
    fetch::{Fetch, FetchError},
    key::{SkipReason, Skipped},
    key_cache::{KeyFetchFailure, TrustStatus},
    key_refresher::{KeyFetchError, fetch_keys},
    keys::{InvalidKeySet, KeySet},
    refused_sender::RefusedSender,
    rejection::{AuthError, Forbidden, Rejection},
    settings::{AppSettings, InvalidAuthSettings, KeyPolicy, Tenants, TrustSettings},
    store::key_store_is_writable_by_others,
    token_summary::{LogValue, TokenSummary},
};
