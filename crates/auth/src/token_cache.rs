//! `TokenCache`: verified tokens. The platform reuses tokens, and a lookup costs a hash instead of an RSA
//! operation.

use std::{
    fmt,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use moka::{policy::EvictionPolicy, sync::Cache};

use crate::{Caller, claims::ValidityWindow, key_cache::KeyCache};

/// Verified tokens by the SHA-256 of all their bytes. Only tokens that passed all checks are inserted, so
/// unauthenticated senders cannot fill it. If it is full, the token that was used least recently is evicted.
pub(crate) struct TokenCache {
    tokens: Cache<[u8; 32], Arc<Verified>, BuildHasherDefault<DigestHasher>>,
}

/// A token that was verified with one key set.
pub(crate) struct Verified {
    pub(crate) caller: Arc<Caller>,
    pub(crate) window: ValidityWindow,
    pub(crate) keys: Arc<KeyCache>,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        let builder = Cache::builder().max_capacity(TOKENS_MAX).eviction_policy(EvictionPolicy::lru());
        Self { tokens: builder.build_with_hasher(BuildHasherDefault::default()) }
    }

    /// Returns the caller if the token is in the cache, has not expired, and was verified with the trust's
    /// current key set. moka's own expiry is not used: its clock is neither the caller's `now` nor a test's.
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

/// Hashes a digest to its last eight bytes. To find tokens whose digests share them, an attacker would need
/// millions of tokens that the issuer has signed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        // An array writes its length first.
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Two hundred new tokens per second for their lifetime of five minutes. With about 500 bytes each, at most
/// 32 MiB.
const TOKENS_MAX: u64 = 65_536;
