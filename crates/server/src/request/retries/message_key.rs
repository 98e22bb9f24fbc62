//! `MessageKey`: the identity of a message, which its retries share.

use std::fmt;

use http::HeaderValue;
use openssl::sha::Sha256;
use uuid::Uuid;

/// The identity of a message: a hash of its sender, target, message id and body, cut to 128 bits.
///
/// SHA-256, so that no sender can make two messages look like one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
        let mut hash = Sha256::new();
        hash.update(app.as_bytes());
        hash.update(tenant.as_bytes());
        hash.update(&[u8::from(is_forwarded)]);
        // Each with its length, so that bytes cannot move from the end of one field to the start of the next.
        for field in [target.as_bytes(), message_id.as_bytes(), body] {
            hash.update(&field.len().to_be_bytes());
            hash.update(field);
        }
        let whole = hash.finish();
        let (half, _) = whole.split_first_chunk().expect("the first half of 32 bytes has 16");
        Self(*half)
    }

    /// The first byte, by which messages are spread over shards.
    pub(super) fn first_byte(self) -> u8 {
        let [first, ..] = self.0;
        first
    }

    /// Bits that are independent of the first byte, by which a shard spreads its messages.
    pub(super) fn hash(self) -> u64 {
        let (_, last) = self.0.split_last_chunk().expect("the last half of 16 bytes has 8");
        u64::from_be_bytes(*last)
    }
}

impl fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MessageKey")
    }
}
