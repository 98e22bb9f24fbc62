//! `MessageKey`: the identity of a message, which its retries share.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::LazyLock,
};

use http::HeaderValue;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// The identity of a message: a hash of its sender, target, message id and body, of 128 bits.
///
/// The sender is authenticated, and it is the platform that chooses the message id. A participant of a call
/// chooses at most a part of the body, and not the seed, so XXH3 is safe here. SHA-256 took a fifth of the
/// instructions of a callback on a processor without instructions for SHA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageKey([u8; 16]);

impl MessageKey {
    /// The key of no message.
    pub(super) const NONE: Self = Self([0; 16]);

    /// `is_forwarded`: a peer gateway has proxied the request to this one. It must differ from the request
    /// that it was proxied for: a gateway that is configured as its own peer would otherwise wait for itself.
    pub(crate) fn of(
        app: Uuid,
        tenant: Uuid,
        target: &str,
        is_forwarded: bool,
        message_id: &HeaderValue,
        body: &[u8],
    ) -> Self {
        let mut hash = Xxh3::with_seed(*SEED);
        hash.update(app.as_bytes());
        hash.update(tenant.as_bytes());
        hash.update(&[u8::from(is_forwarded)]);
        // Each with its length, so that bytes cannot move from the end of one field to the start of the next.
        for field in [target.as_bytes(), message_id.as_bytes(), body] {
            hash.update(&field.len().to_be_bytes());
            hash.update(field);
        }
        Self(hash.digest128().to_be_bytes())
    }

    /// The first byte, by which messages are spread over shards.
    pub(super) fn first_byte(self) -> u8 {
        let [first, ..] = self.0;
        first
    }

    /// Bits that are independent of the first byte, by which a shard spreads its messages.
    pub(super) fn hash_bits(self) -> u64 {
        let (_, last) = self.0.split_last_chunk().expect("the last half of 16 bytes has 8");
        u64::from_be_bytes(*last)
    }
}

impl Hash for MessageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash_bits());
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey")
    }
}

/// Differs between processes.
static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
