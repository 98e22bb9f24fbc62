//! `Authenticator::authenticate`: an authorization field and the time, to a `Caller`.

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

/// Turns bearer tokens into callers. Shared by all threads.
pub struct Authenticator {
    trusts: Vec<Trust>,
    apps: Vec<AppSettings>,
    tokens: TokenCache,
}

/// One issuer family. Its keys never verify another's tokens.
struct Trust {
    name: Arc<str>,
    issuers: Vec<IssuerPattern>,
    callers: Vec<Uuid>,
    keys: Arc<KeyCache>,
    refresher: Arc<KeyRefresher>,
}

impl Authenticator {
    /// One `Fetch` per trust. Refuses settings that could not be safe, telling the first; `problems` tells
    /// all.
    pub fn new(
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
    ) -> Result<Self, InvalidAuthSettings> {
        Self::build(trusts, apps, keys, None)
    }

    /// The authenticator for a new configuration. Trusts whose name and metadata are unchanged keep their
    /// keys and the history of their fetches; no verified token is remembered. It needs its own `run`, and
    /// the old one's must end.
    pub fn successor(
        &self,
        trusts: Vec<(TrustSettings, Arc<dyn Fetch>)>,
        apps: Vec<AppSettings>,
        keys: KeyPolicy,
    ) -> Result<Self, InvalidAuthSettings> {
        Self::build(trusts, apps, keys, Some(self))
    }

    /// All that `new` would refuse, in the order of the settings.
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

    /// Keeps the keys of all trusts fresh until it is dropped: reads the store, fetches at once, refreshes
    /// ahead of need, serves unknown key ids. Spawn it once, on any runtime; `authenticate` may run on
    /// others. `clock` is the wall clock, for the store's age only.
    pub async fn run(self: Arc<Self>, clock: impl Fn() -> SystemTime + Send + Sync + 'static) {
        let clock: Arc<dyn Fn() -> SystemTime + Send + Sync> = Arc::new(clock);
        let mut actors = JoinSet::new();
        for trust in &self.trusts {
            let (refresher, clock) = (Arc::clone(&trust.refresher), Arc::clone(&clock));
            // A task each: an issuer that is slow, or a `Fetch` that panics, is no business of the others.
            actors.spawn(async move { refresher.run(&*clock).await });
        }
        while let Some(ended) = actors.join_next().await {
            if ended.is_err() {
                tracing::error!("the refreshing of a trust's keys broke off; restart this process");
            }
        }
    }

    /// Proves who sent a request. `authorization` is the value of the only `Authorization` field.
    ///
    /// A token that is known, or whose key is, never waits. One with an unknown key waits at most a second.
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
        // Boxed: it is rare, and would make every request's future larger.
        let waited = Box::pin(checked.trust.keys.wait_for(checked.key_id)).await;
        let trust = &checked.trust.name;
        match waited {
            Ok(()) => match checked.verify(&token)? {
                Some(verified) => Ok(self.remember(digest, verified)),
                // Withdrawn again in that instant, so a set without it has just been fetched.
                None => Err(AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust)))),
            },
            Err(KeyLookupError::Missing) => {
                Err(AuthError::Rejected(Rejection::UnknownKey, Some(Arc::clone(trust))))
            }
            Err(KeyLookupError::Unavailable) => Err(AuthError::KeysUnavailable { trust: Arc::clone(trust) }),
        }
    }

    /// All that can be said without the key. This comes first because it is cheap, and because only a token
    /// that would pass but for its key may cause a fetch: junk must not use up the cool-down.
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

    /// The state of each trust's keys, for readiness and metrics.
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
            Some(before) => before.keys.successor(Arc::clone(policy)),
            None => KeyCache::new(Arc::clone(&name), Arc::clone(policy)),
        });
        let refresher = KeyRefresher::new(Arc::clone(&keys), settings.metadata, fetch, Arc::clone(policy));
        // Each was parsed when the settings were checked.
        let issuers =
            settings.issuers.iter().filter_map(|issuer| IssuerPattern::parse(issuer).ok()).collect();
        Self { name, issuers, callers: settings.callers, keys, refresher: Arc::new(refresher) }
    }
}

/// A token that is in order but for its signature, which nobody has checked.
struct Checked<'s> {
    trust: &'s Trust,
    matched: Matched,
    claims: Claims<'s>,
    key_id: &'s str,
    identity: Identity,
}

impl Checked<'_> {
    /// The caller, if the current set has the key.
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
