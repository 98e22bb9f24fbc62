//! `Prehashed`: the hasher of maps whose keys are hashes already.

use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// For a `HashMap` whose keys are hashes with a secret seed, so that no sender can choose keys that collide.
/// SipHash would hash them once more, for some 200 instructions.
pub(crate) type Prehashed = BuildHasherDefault<PrehashedHasher>;

/// Returns the last `u64` that it was given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PrehashedHasher(u64);

impl Hasher for PrehashedHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Keys write one `u64`. Others are hashed, so that a map of them works.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
