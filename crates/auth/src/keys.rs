//! `KeySet`: the verification keys of one document, by key id.

use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{
    Deserialize,
    de::{Deserializer, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    Rejection,
    algorithm::Algorithm,
    key::{Key, SkipReason, Skipped},
    token::{DecodedToken, UnverifiedToken},
};

/// The keys of one JSON Web Key Set (RFC 7517) that may verify tokens.
///
/// A usable key is an RSA key of 2048 to 4096 bits with the exponent 65537 and a key id. It has no private
/// members, and `use`, `key_ops` and `alg` allow it to verify RS256 or PS256: with `alg` the algorithm
/// that it names, else both. Other keys are skipped without an error
/// (RFC 7517 section 5): one odd key must not make the others unusable. A set keeps its first 64 usable keys.
///
/// ```
/// use switchboard_auth::{KeySet, SkipReason};
///
/// let set = KeySet::parse(br#"{"keys":[{"kty":"EC","kid":"1"}]}"#).unwrap();
/// assert!(set.is_empty());
/// assert_eq!(set.skipped()[0].reason, SkipReason::OtherType);
/// ```
pub struct KeySet {
    keys: HashMap<Box<str>, Key>,
    skipped: Vec<Skipped>,
}

impl KeySet {
    /// Parses a document and keeps the usable keys of all clouds.
    ///
    /// # Errors
    ///
    /// The document is too large, or is not a key set.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        Self::parse_for(document, None)
    }

    /// Returns a set without keys.
    pub(crate) fn none() -> Self {
        Self { keys: HashMap::new(), skipped: Vec::new() }
    }

    /// Parses a document and keeps the usable keys, without the keys of clouds other than `cloud`.
    pub(crate) fn parse_for(document: &[u8], cloud: Option<&str>) -> Result<Self, InvalidKeySet> {
        if document.len() > KEYS_BYTES_MAX {
            return Err(InvalidKeySet::TooLarge);
        }
        let KeySetDocument { keys: RawKeys(raw) } =
            serde_json::from_slice(document).map_err(|_| InvalidKeySet::Malformed)?;
        let mut set = Self { keys: HashMap::new(), skipped: Vec::new() };
        let mut ambiguous: Vec<Box<str>> = Vec::new();
        for raw in raw {
            // The keys of the document come in its order. What is beyond the bound is lost alone.
            if set.keys.len() == KEYS_MAX {
                set.skipped.push(Skipped { key_id: Key::id(raw), reason: SkipReason::TooMany });
                continue;
            }
            let (key_id, key) = match Key::parse(raw, cloud) {
                Ok(usable) => usable,
                Err(skipped) => {
                    set.skipped.push(skipped);
                    continue;
                }
            };
            match set.keys.get_mut(&key_id) {
                // .NET publishes a key twice: as RSA and as its certificate.
                Some(other) if other.modulus() == key.modulus() => other.allow(key),
                Some(_) => ambiguous.push(key_id),
                None => {
                    set.keys.insert(key_id, key);
                }
            }
        }
        ambiguous.sort_unstable();
        ambiguous.dedup();
        // Use neither of two keys with one id: an attacker who adds the second key must not gain by it.
        for key_id in ambiguous {
            set.keys.remove(&key_id);
            set.skipped.push(Skipped { key_id: Some(key_id), reason: SkipReason::Ambiguous });
        }
        Ok(set)
    }

    /// Checks the signature of a compact JWS (RFC 7515 section 3.1) and returns the payload that it covers.
    ///
    /// It checks no claim of the payload. If a token has no key id, the set must have exactly one key.
    ///
    /// # Errors
    ///
    /// The token is malformed, its key is not in the set, or its signature is invalid.
    pub fn verify(&self, token: &[u8]) -> Result<Vec<u8>, Rejection> {
        let token = DecodedToken::decode(token)?;
        let header = token.header()?.check()?;
        let key = match header.key_id.as_deref() {
            Some(key_id) => self.get(key_id).ok_or(Rejection::UnknownKey)?,
            None => match (self.keys.values().next(), self.keys.len()) {
                (Some(key), 1) => key,
                (Some(_) | None, _) => return Err(Rejection::KeyId),
            },
        };
        key.verify(&UnverifiedToken::new(&token, &header))?;
        Ok(token.into_payload())
    }

    /// Returns the number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the ids of the usable keys, in no particular order.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(|key_id| &**key_id)
    }

    /// Returns the keys that are not usable, each with the reason.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    pub(crate) fn get(&self, key_id: &str) -> Option<&Key> {
        self.keys.get(key_id)
    }

    /// Returns true if both sets verify exactly the same tokens.
    pub(crate) fn verifies_like(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().all(|(key_id, key)| {
                other.get(key_id).is_some_and(|other| {
                    other.modulus() == key.modulus()
                        && other.algorithm() == key.algorithm()
                        && other.issuer() == key.issuer()
                })
            })
    }

    /// Returns the usable keys as they are published, sorted by id.
    pub(crate) fn published(&self) -> Vec<PublishedKey<'_>> {
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|(key_id, key)| PublishedKey {
                key_id,
                modulus: URL_SAFE_NO_PAD.encode(key.modulus()),
                algorithm: key.algorithm().map(Algorithm::name),
                issuer: key.issuer(),
            })
            .collect();
        keys.sort_unstable_by_key(|key| key.key_id);
        keys
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).field("skipped", &self.skipped).finish()
    }
}

/// A usable key in its published form.
pub(crate) struct PublishedKey<'a> {
    pub(crate) key_id: &'a str,
    /// In base64url.
    pub(crate) modulus: String,
    pub(crate) algorithm: Option<&'static str>,
    pub(crate) issuer: Option<&'a str>,
}

/// The reasons to refuse a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// The document has more than 256 KiB.
    #[error("key set is larger than 256 KiB")]
    TooLarge,
    /// The document is not a JSON object with an array `keys`.
    #[error("not a JSON object with an array `keys`")]
    Malformed,
}

impl InvalidKeySet {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "keys_too_large",
            Self::Malformed => "keys_malformed",
        }
    }
}

/// RFC 7517 section 5.
#[derive(Deserialize)]
struct KeySetDocument<'a> {
    #[serde(borrow)]
    keys: RawKeys<'a>,
}

/// The members of `keys`, each unparsed. The size of the document bounds their number.
struct RawKeys<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for RawKeys<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct RawKeysVisitor;
        impl<'de> Visitor<'de> for RawKeysVisitor {
            type Value = RawKeys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawKeys<'de>, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = items.next_element()? {
                    keys.push(key);
                }
                Ok(RawKeys(keys))
            }
        }
        json.deserialize_seq(RawKeysVisitor)
    }
}

/// The usable keys of a set. Microsoft's sets have about a dozen.
pub(crate) const KEYS_MAX: usize = 64;

/// Microsoft's sets have less than 32 KiB, most of it certificates.
pub(crate) const KEYS_BYTES_MAX: usize = 256 * 1024;
