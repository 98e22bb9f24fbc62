//! Tokens that were verified, so that the platform's reuse of a token costs a hash instead of an RSA
//! operation.

use std::{fmt, sync::Arc};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{Caller, claims::Window, key_cache::KeyCache};

/// Verified tokens by the SHA-256 of all their bytes. Only what passed every check gets in, so nobody without
/// a token can fill it, and a full one forgets what was used longest ago.
pub(crate) struct TokenCache {
    tokens: Cache<[u8; 32], Arc<Verified>>,
}

/// A token that was verified under one key set.
pub(crate) struct Verified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) window: Window,
    pub(crate) keys: Arc<KeyCache>,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        let tokens = Cache::builder().max_capacity(TOKENS_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { tokens }
    }

    /// The caller, if the token is remembered, still in its time, and the trust's key set is still the one
    /// that verified it. moka's own expiry is not used: its clock is neither the caller's `now` nor a test's.
    pub(crate) fn get(&self, digest: &[u8; 32], now: u64) -> Option<Arc<Caller>> {
        let verified = self.tokens.get(digest)?;
        let set = verified.keys.usable()?;
        if set.generation != verified.caller.generation || verified.window.check(now).is_err() {
            return None;
        }
        Some(Arc::clone(&verified.caller))
    }

    pub(crate) fn insert(&self, digest: [u8; 32], verified: Verified) {
        self.tokens.insert(digest, Arc::new(verified));
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("tokens", &self.tokens.entry_count()).finish()
    }
}

/// Two hundred new tokens a second for their five minutes. About 400 bytes each, so at most 25 MiB.
const TOKENS_MAX: u64 = 65_536;
