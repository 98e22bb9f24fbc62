//! Does this request really come from the platform, and is it for one of our apps? Bearer token to
//! [`Caller`].
//!
//! It knows neither HTTP nor calls: it gets the value of an `Authorization` field and the time, and asks the
//! network for documents through [`Fetch`]. It never reads a clock to judge a token, never takes an algorithm
//! from a token, and never puts a byte of a token into an error or a log.
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
//! let refused = authenticator.authenticate(b"Basic dXNlcjpwYXNz", now).await.unwrap_err();
//! assert!(matches!(refused, AuthError::Rejected(..)));
//! assert_eq!(refused.label(), "not_bearer");
//! assert_eq!(authenticator.trusts()[0].keys, 0);
//! # Ok(())
//! # }
//! ```
//!
//! Reading order: [`Authenticator::authenticate`] is the whole story; then `token` and `claims` (what a token
//! must be), `keys` (what a key must be), `key_cache` (when to fetch, wait or refuse).

mod authenticator;
mod back_off;
mod bearer;
mod caller;
mod claims;
mod clock;
mod discovery;
mod fetch;
mod fetch_history;
mod issuer;
mod json;
mod key;
mod key_cache;
mod key_refresher;
mod keys;
mod log_text;
mod rejection;
mod settings;
mod store;
mod token;
mod token_cache;

pub use crate::{
    authenticator::Authenticator,
    caller::Caller,
    fetch::{Fetch, FetchError},
    key::{SkipReason, Skipped},
    key_cache::TrustStatus,
    keys::{InvalidKeySet, KeySet},
    rejection::{AuthError, Forbidden, Rejection},
    settings::{AppSettings, InvalidAuthSettings, KeyPolicy, Tenants, TrustSettings},
};
