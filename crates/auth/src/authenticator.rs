//! `Authenticator`: turns the value of an `Authorization` field and the current time into a `Caller`.

use std::{fmt, sync::Arc, time::SystemTime};

use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    AppSettings, AuthError, Caller, Fetch, InvalidAuthSettings, KeyPolicy, Rejection, TrustSettings,
    TrustStatus,
    bearer::Bearer,
    claims::{Claims, Identity},
    clock::unix_seconds,
    issuer::{IssuerPattern, Matched, key_may_sign},
    key_cache::{KeyCache, KeyLookupError},
    key_refresher::KeyRefresher,
    settings,
    token::UnverifiedToken,
    token_cache::{TokenCache, Verified},
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
    ) -> Result<Arc<Caller>, AuthError> {
        let now = unix_seconds(now);
        let bearer =
            Bearer::parse(authorization).map_err(|rejection| AuthError::Rejected(rejection, None))?;
        let digest = bearer.digest();
        if let Some(caller) = self.tokens.get(&digest, now) {
            return Ok(caller);
        }
        let token = UnverifiedToken::parse(bearer.token())
            .map_err(|rejection| AuthError::Rejected(rejection, None))?;
        let checked = self.check(&token, now)?;
        if let Some(verified) = checked.verify(&token)? {
            return Ok(self.remember(digest, verified));
        }
        // Boxed: waiting is rare, and would make the future of every request larger.
        let waited = Box::pin(checked.trust.keys.wait_for(checked.key_id)).await;
        let trust = &checked.trust.name;
        match waited {
            Ok(()) => match checked.verify(&token)? {
                Some(verified) => Ok(self.remember(digest, verified)),
                // The key was withdrawn in the meantime: a set without it has just been fetched.
                None => Err(AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust)))),
            },
            Err(KeyLookupError::Missing) => {
                Err(AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust))))
            }
            Err(KeyLookupError::NotFetched) => Err(AuthError::KeyNotFetched { trust: Arc::clone(trust) }),
            Err(KeyLookupError::Unavailable) => Err(AuthError::KeysUnavailable { trust: Arc::clone(trust) }),
        }
    }

    /// Applies all rules that need no key. They come first because they are cheap, and because junk must not
    /// use up the cool-down: only a token that passes them may cause a fetch.
    fn check<'s>(&'s self, token: &'s UnverifiedToken<'_>, now: u64) -> Result<Checked<'s>, AuthError> {
        let claims = Claims::parse(token.unverified_payload())
            .map_err(|rejection| AuthError::Rejected(rejection, None))?;
        let (trust, matched) = self
            .trusts
            .iter()
            .find_map(|trust| {
                let matched = trust.issuers.iter().find_map(|issuer| issuer.matches(claims.issuer()))?;
                Some((trust, matched))
            })
            .ok_or(AuthError::Rejected(Rejection::Issuer, None))?;
        let rejected = |rejection| AuthError::Rejected(rejection, Some(Arc::clone(&trust.name)));
        let key_id = token.key_id().ok_or_else(|| rejected(Rejection::KeyId))?;
        let identity = claims.check(matched, &trust.callers, &self.apps, now).map_err(rejected)?;
        Ok(Checked { trust, matched, claims, key_id, identity })
    }

    fn remember(&self, digest: [u8; 32], verified: Verified) -> Arc<Caller> {
        let caller = Arc::clone(&verified.caller);
        self.tokens.insert(digest, verified);
        caller
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

/// A token that meets all rules, except that its signature has not been checked yet.
struct Checked<'s> {
    trust: &'s Trust,
    matched: Matched,
    claims: Claims<'s>,
    key_id: &'s str,
    identity: Identity,
}

impl Checked<'_> {
    /// Checks the signature and returns the caller; `None` if the current set does not contain the key.
    fn verify(&self, token: &UnverifiedToken<'_>) -> Result<Option<Verified>, AuthError> {
        let Some(set) = self.trust.keys.usable() else { return Ok(None) };
        let Some(key) = set.keys.get(self.key_id) else { return Ok(None) };
        let rejected = |rejection| AuthError::Rejected(rejection, Some(Arc::clone(&self.trust.name)));
        let Identity { app, tenant, service, window, ref forbidden } = self.identity;
        let metadata_issuer = set.metadata_issuer.as_deref();
        if !key_may_sign(key.issuer(), metadata_issuer, self.claims.issuer(), self.matched, tenant) {
            return Err(rejected(Rejection::KeyIssuer));
        }
        key.verify(token).map_err(rejected)?;
        if let Some(forbidden) = forbidden {
            return Err(AuthError::Forbidden(forbidden.clone(), Arc::clone(&self.trust.name)));
        }
        let caller =
            Caller { app, tenant, service, trust: Arc::clone(&self.trust.name), generation: set.generation };
        Ok(Some(Verified { caller: Arc::new(caller), window, keys: Arc::clone(&self.trust.keys) }))
    }
}
