//! Does this request really come from the platform, and is it for one of our apps? Bearer token to `Caller`.

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use url::Url;
use uuid::Uuid;

/// All that this crate asks of the network: one GET. The implementation follows no redirects, checks the certificate,
/// returns only the body of a 200, reads at most `bytes_max` bytes, and gives up after its own time limits.
pub trait Fetch: Send + Sync + 'static {
    /// The body at `url`.
    fn get(&self, url: &Url, bytes_max: usize) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>>;
}

/// Why a fetch failed: `kind` is a stable label for metrics ("connect", "status", …), `detail` is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{detail}")]
pub struct FetchError {
    /// A stable label.
    pub kind: &'static str,
    /// For the log; no text from the network unescaped.
    pub detail: String,
}

/// One issuer family: where its keys are published, what it calls itself, who may call. Plain data.
#[derive(Clone, Debug)]
pub struct TrustSettings {
    /// Its name, for logs, metrics and the store's file name.
    pub name: String,
    /// The discovery document.
    pub metadata: Url,
    /// Accepted issuers, byte for byte; `{tid}` stands for the token's tenant.
    pub issuers: Vec<String>,
    /// Accepted `appid`/`azp`; required where an issuer contains `{tid}`.
    pub callers: Vec<Uuid>,
}

/// An app that may be called.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The app id: the audience of its tokens.
    pub id: Uuid,
    /// Accepted tenants.
    pub tenants: Tenants,
    /// Accepted audiences besides the id.
    pub audiences: Vec<String>,
}

/// Accepted tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// All.
    Any,
    /// These.
    Only(Vec<Uuid>),
}

/// When to fetch keys, and how long to keep them.
#[derive(Clone, Debug)]
pub struct KeyPolicy {
    /// Between fetches ahead of need.
    pub refresh: Duration,
    /// Between fetches caused by unknown key ids.
    pub cooldown: Duration,
    /// How long keys that worked outlive a silent endpoint.
    pub keep_stale: Duration,
    /// Folder for the last good sets.
    pub store: Option<PathBuf>,
}

/// Turns bearer tokens into callers. Shared by all threads.
pub struct Authenticator {/* private */}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator")
    }
}

impl Authenticator {
    /// One `Fetch` per trust. Refuses settings that could not be safe, telling which.
    pub fn new(
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
    ) -> Result<Self, SettingsError> {
        let _ = (trusts, apps, keys);
        Ok(Self {})
    }

    /// Keeps the keys of all trusts fresh until it is dropped: reads the store, fetches at once, refreshes ahead of
    /// need, serves unknown key ids. Spawn it once, on any runtime; `authenticate` may run on others. `clock` is the
    /// wall clock, for the store's age only.
    pub async fn run(self: Arc<Self>, clock: impl Fn() -> SystemTime + Send + Sync + 'static) {
        let _ = clock;
    }

    /// Proves who sent a request. `authorization` is the value of the only `Authorization` field.
    pub async fn authenticate(&self, authorization: &[u8], now: SystemTime) -> Result<Arc<Caller>, Error> {
        let _ = (authorization, now);
        Err(Error::KeysUnavailable { trust: "".into() })
    }

    /// The state of each trust's keys, for readiness and metrics.
    pub fn trusts(&self) -> Vec<TrustStatus> {
        Vec::new()
    }
}

/// Who sent a request. Only `Authenticator` makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The app that the token is for.
    pub app: Uuid,
    /// The token's tenant.
    pub tenant: Uuid,
    /// The calling service's app id, where the token names it.
    pub service: Option<Uuid>,
    /// The trust's name.
    pub trust: Arc<str>,
    /// The key set's generation.
    pub generation: u64,
    _made_here: (),
}

/// Whose fault it is that a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// We cannot check anyone of this trust just now. The caller did nothing wrong: 503.
    #[error("no usable keys for {trust}")]
    KeysUnavailable {
        /// The trust's name.
        trust: Arc<str>,
    },
    /// The caller failed to prove who it is: 401.
    #[error("token rejected")]
    Rejected(#[source] Rejection),
    /// The caller proved who it is and is not allowed: 403.
    #[error("caller not allowed")]
    Forbidden(#[source] Forbidden),
}

impl Error {
    /// A stable name for logs and metrics: that of the detail.
    pub fn label(&self) -> &'static str {
        "error"
    }
    /// The trust, where the token told it.
    pub fn trust(&self) -> Option<&str> {
        None
    }
}

/// Why a token was rejected. (All variants are the auth crate's own business; each has a label and a test.)
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a token.
    #[error("malformed")]
    Malformed,
}

/// Why a known caller is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The tenant is not on the app's list.
    #[error("tenant {0} is not allowed")]
    Tenant(Uuid),
    /// The calling app is not on the trust's list.
    #[error("calling app {0} is not allowed")]
    Service(Uuid),
}

/// Settings that could not be safe.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SettingsError {
    /// The setting, like `trust[1].callers`.
    pub path: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// The state of one trust's keys.
#[derive(Clone, Debug)]
pub struct TrustStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Usable keys; 0 when none.
    pub keys: usize,
    /// Grows with each new set.
    pub generation: u64,
    /// Since the last successful fetch (or the stored one's time), if there was one.
    pub age: Option<Duration>,
    /// Fetches that succeeded, and that failed, since the start.
    pub fetches_ok: u64,
    /// Failed fetches.
    pub fetches_failed: u64,
}
