//! `Authenticator`: turns the value of an `Authorization` field and the current time into a `Caller`.

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    AppSettings, AuthError, Caller, Examination, Fetch, InvalidAuthSettings, KeyPolicy, RefusedSender,
    Rejection, TrustSettings, TrustStatus,
    bearer::Bearer,
    clock::unix_seconds,
    issuer::IssuerPattern,
    key_cache::{KeyCache, KeyLookupError},
    key_refresher::KeyRefresher,
    log_text::chain,
    settings,
    token::DecodedToken,
    token_cache::{TokenCache, Verified},
    token_check::{IssuingTrust, TokenCheck},
    token_summary::TokenSummary,
};

/// Turns bearer tokens into callers. Share one value between all threads.
///
/// The [documentation of the crate](crate) has an example.
pub struct Authenticator {
    trusts: Vec<Trust>,
    apps: Vec<AppSettings>,
    tokens: TokenCache,
}

/// One issuer family. Its keys never verify tokens of another trust.
struct Trust {
    name: Arc<str>,
    issuers: Vec<IssuerPattern>,
    callers: Vec<Uuid>,
    keys: Arc<KeyCache>,
    refresher: Arc<KeyRefresher>,
}

impl Authenticator {
    /// Creates an authenticator with one `Fetch` per trust.
    ///
    /// # Errors
    ///
    /// The settings are not safe. The error is the first of [`Authenticator::problems`].
    pub fn new(
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
    ) -> Result<Self, InvalidAuthSettings> {
        Self::build(trusts, apps, keys, None)
    }

    /// Creates the authenticator for a new configuration. Trusts with the same name and metadata URL keep
    /// their keys and the history of their fetches. If their authorities have changed, the keys are fetched
    /// again at once. Verified tokens are forgotten. Start `run` for the
    /// successor, and stop the `run` of this authenticator.
    ///
    /// # Errors
    ///
    /// The settings are not safe. The error is the first of [`Authenticator::problems`].
    pub fn successor(
        &self,
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
    ) -> Result<Self, InvalidAuthSettings> {
        Self::build(trusts, apps, keys, Some(self))
    }

    /// Returns all problems of the settings, in their order. `new` fails with the first one.
    pub fn problems(
        trusts: &[TrustSettings],
        apps: &[AppSettings],
        keys: &KeyPolicy,
    ) -> Vec<InvalidAuthSettings> {
        settings::problems(&trusts.iter().collect::<Vec<_>>(), apps, keys)
    }

    fn build(
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
        before: Option<&Self>,
    ) -> Result<Self, InvalidAuthSettings> {
        let all: Vec<_> = trusts.iter().map(|(settings, _)| settings).collect();
        if let Some(problem) = settings::problems(&all, &apps, &keys).into_iter().next() {
            return Err(problem);
        }
        let keys = Arc::new(keys);
        let trusts =
            trusts.into_iter().map(|(settings, fetch)| Trust::new(settings, fetch, &keys, before)).collect();
        Ok(Self { trusts, apps, tokens: TokenCache::new() })
    }

    /// Keeps the keys of all trusts fresh until the future is dropped: reads the store, fetches at once,
    /// refreshes in the background, and fetches unknown keys. Spawn it once, on any runtime; `authenticate`
    /// may run on other runtimes. `clock` is the wall clock; only the age of stored keys depends on it.
    pub async fn run(self: Arc<Self>, clock: impl Fn() -> SystemTime + Send + Sync + 'static) {
        let clock: Arc<dyn Fn() -> SystemTime + Send + Sync> = Arc::new(clock);
        let mut refreshers = JoinSet::new();
        for trust in &self.trusts {
            let (refresher, clock) = (Arc::clone(&trust.refresher), Arc::clone(&clock));
            // One task per trust: a slow issuer, or a `Fetch` that panics, must not affect the others.
            refreshers.spawn(async move { refresher.run(&*clock).await });
        }
        while let Some(stopped) = refreshers.join_next().await {
            if stopped.is_err() {
                tracing::error!("a key refresher stopped: restart this process");
            }
        }
    }

    /// Authenticates the sender of a request. `authorization` is the value of the only `Authorization` field.
    ///
    /// A token that is in the token cache, or whose key is known, never waits. A token with an unknown key
    /// waits at most a second for a fetch.
    ///
    /// # Errors
    ///
    /// The sender does not prove its identity, it is not allowed, or no keys are available to check its
    /// token.
    pub async fn authenticate(
        &self,
        authorization: &[u8],
        now: SystemTime,
    ) -> Result<Arc<Caller>, Box<RefusedSender>> {
        let now = unix_seconds(now);
        let bearer = Bearer::parse(authorization).map_err(unread)?;
        let digest = bearer.digest();
        if let Some(caller) = self.tokens.get(&digest, now) {
            return Ok(caller);
        }
        // Boxed: most tokens are in the cache, and the check would make the future of every request larger.
        let verified = Box::pin(self.check(bearer, now)).await?;
        let caller = Arc::clone(&verified.caller);
        self.tokens.insert(digest, verified);
        Ok(caller)
    }

    async fn check(&self, bearer: Bearer<'_>, now: u64) -> Result<Verified, Box<RefusedSender>> {
        let token = DecodedToken::decode(bearer.token()).map_err(unread)?;
        let mut check = TokenCheck::new(&token, &self.apps, |issuer| self.trust_of(issuer), now);
        let result = Self::verify(&mut check).await;
        result.map_err(|error| Box::new(RefusedSender { error, token: check.summary() }))
    }

    /// Waits for the key of a token if it is unknown.
    async fn verify(check: &mut TokenCheck<'_>) -> Result<Verified, AuthError> {
        let trust_name = check.trust().map(|trust| Arc::clone(trust.name));
        let (trust, key_id) =
            check.wanted_key().map_err(|rejection| AuthError::Rejected(rejection, trust_name))?;
        if let Some(verified) = check.verify()? {
            return Ok(verified);
        }
        let waited = trust.keys.wait_for(&key_id).await;
        let trust = trust.name;
        match waited {
            // If the key was withdrawn in the meantime, a set without it has just been fetched.
            Ok(()) => check
                .verify()?
                .ok_or_else(|| AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust)))),
            Err(KeyLookupError::Missing) => {
                Err(AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust))))
            }
            Err(KeyLookupError::NotFetched) => Err(AuthError::KeyNotFetched { trust: Arc::clone(trust) }),
            Err(KeyLookupError::Unavailable) => Err(AuthError::KeysUnavailable { trust: Arc::clone(trust) }),
        }
    }

    /// Applies every rule to a token with the keys at hand, and returns the finding for each. It never waits
    /// and fetches nothing. The rules are those of [`Authenticator::authenticate`], which accepts a token
    /// exactly if it meets all of them.
    pub fn examine(&self, authorization: &[u8], now: SystemTime) -> Examination {
        match Bearer::parse(authorization).and_then(|bearer| DecodedToken::decode(bearer.token())) {
            Ok(token) => {
                let trust_of = |issuer: &str| self.trust_of(issuer);
                TokenCheck::new(&token, &self.apps, trust_of, unix_seconds(now)).examine()
            }
            Err(rejection) => Examination::unread(rejection),
        }
    }

    /// Reads the stored keys of each trust that has no keys, for an examination without the network. Returns
    /// the trusts whose stored keys cannot be used, each with the reason. It blocks on the disk.
    pub fn read_stored_keys(&self, now: SystemTime) -> Vec<(Arc<str>, String)> {
        let read = |trust: &Trust| {
            let read = trust.refresher.read_stored(unix_seconds(now));
            read.err().map(|error| (Arc::clone(&trust.name), chain(&error)))
        };
        self.trusts.iter().filter_map(read).collect()
    }

    fn trust_of(&self, issuer: &str) -> Option<IssuingTrust<'_>> {
        self.trusts.iter().find_map(|trust| {
            let matched = trust.issuers.iter().find_map(|pattern| pattern.matches(issuer))?;
            let Trust { name, callers, keys, .. } = trust;
            Some(IssuingTrust { name, callers, keys, matched })
        })
    }

    /// Returns the state of each trust's keys, for readiness and metrics.
    pub fn trusts(&self) -> Vec<TrustStatus> {
        self.trusts.iter().map(|trust| trust.keys.status()).collect()
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("trusts", &self.trusts())
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl Trust {
    fn new(
        settings: TrustSettings,
        fetch: Arc<dyn Fetch>,
        policy: &Arc<KeyPolicy>,
        before: Option<&Authenticator>,
    ) -> Self {
        let before = before.and_then(|before| {
            before.trusts.iter().find(|trust| {
                *trust.name == *settings.name && *trust.refresher.metadata() == settings.metadata
            })
        });
        let name: Arc<str> = settings.name.into();
        let keys = Arc::new(match before {
            Some(before) => before.keys.successor(Arc::clone(policy), settings.ca_digest),
            None => KeyCache::new(Arc::clone(&name), Arc::clone(policy), settings.ca_digest),
        });
        let refresher = KeyRefresher::new(Arc::clone(&keys), settings.metadata, fetch, Arc::clone(policy));
        // All of them parse: the settings were checked.
        let issuers =
            settings.issuers.iter().filter_map(|issuer| IssuerPattern::parse(issuer).ok()).collect();
        Self { name, issuers, callers: settings.callers, keys, refresher: Arc::new(refresher) }
    }
}

fn unread(rejection: Rejection) -> Box<RefusedSender> {
    Box::new(RefusedSender { error: AuthError::Rejected(rejection, None), token: TokenSummary::default() })
}
