//! `KeySet`: verification keys by key id, and what may become one.

use std::{collections::HashMap, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jws::{JwsVerifier, RS256, alg::rsassa::RsassaJwsVerifier};
use openssl::{bn::BigNum, error::ErrorStack, pkey::Public, rsa::Rsa};
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    Rejection,
    token::{UnverifiedToken, is_key_id},
};

/// The keys of one JSON Web Key Set (RFC 7517) that may verify RS256, each ready for use.
///
/// A key is usable if it is RSA of 2048 to 4096 bits with the exponent 65537, has a key id, is not meant for something
/// else (`use`, `key_ops`, `alg`) and has no private members. What is not usable is skipped, not an error (RFC 7517
/// section 5): one odd key must not take the others away.
///
/// ```
/// use switchboard_auth::{KeySet, SkipReason};
///
/// let set = KeySet::parse(br#"{"keys":[{"kty":"EC","kid":"1"}]}"#).unwrap();
/// assert!(set.is_empty());
/// assert_eq!(set.skipped()[0].reason, SkipReason::NotRsa);
/// ```
pub struct KeySet {
    keys: HashMap<Box<str>, Key>,
    skipped: Vec<Skipped>,
}

impl KeySet {
    /// The usable keys of a document, whichever cloud they belong to.
    pub fn parse(document: &[u8]) -> Result<Self, InvalidKeySet> {
        Self::parse_for(document, None)
    }

    /// No keys at all.
    pub(crate) fn none() -> Self {
        Self { keys: HashMap::new(), skipped: Vec::new() }
    }

    /// The usable keys of a document, without those of clouds other than `cloud`.
    pub(crate) fn parse_for(document: &[u8], cloud: Option<&str>) -> Result<Self, InvalidKeySet> {
        if document.len() > KEYS_BYTES_MAX {
            return Err(InvalidKeySet::TooLarge);
        }
        let Document { keys: List(raw) } =
            serde_json::from_slice(document).map_err(|_| InvalidKeySet::NotKeys)?;
        if raw.len() > KEYS_MAX {
            return Err(InvalidKeySet::TooMany);
        }
        let mut set = Self { keys: HashMap::with_capacity(raw.len()), skipped: Vec::new() };
        let mut ambiguous: Vec<Box<str>> = Vec::new();
        for raw in raw {
            let (key_id, key) = match Key::parse(raw, cloud) {
                Ok(usable) => usable,
                Err(skipped) => {
                    set.skipped.push(skipped);
                    continue;
                }
            };
            match set.keys.get(&key_id) {
                // .NET publishes a key once as RSA and once as its certificate.
                Some(other) if other.modulus == key.modulus => {}
                Some(_) => ambiguous.push(key_id),
                None => {
                    set.keys.insert(key_id, key);
                }
            }
        }
        ambiguous.sort_unstable();
        ambiguous.dedup();
        // Two keys of one name: whoever put the second one there must not gain by it, so neither is used.
        for key_id in ambiguous {
            set.keys.remove(&key_id);
            set.skipped.push(Skipped { key_id: Some(key_id), reason: SkipReason::Ambiguous });
        }
        Ok(set)
    }

    /// Checks the signature of a compact JWS (RFC 7515 section 3.1) and returns the payload that it covers.
    ///
    /// Says nothing about the payload: no claim is looked at. A token without a key id is checked with the only key of a
    /// set that has one key.
    pub fn verify(&self, token: &[u8]) -> Result<Vec<u8>, Rejection> {
        let token = UnverifiedToken::parse(token)?;
        let key = match token.key_id() {
            Some(key_id) => self.get(key_id).ok_or(Rejection::UnknownKey)?,
            None => match (self.keys.values().next(), self.keys.len()) {
                (Some(key), 1) => key,
                (Some(_) | None, _) => return Err(Rejection::KeyId),
            },
        };
        key.verify(&token)?;
        Ok(token.into_payload())
    }

    /// How many keys are usable.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key is usable.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of the usable keys, in no order.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(|key_id| &**key_id)
    }

    /// What was not usable, and why.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    pub(crate) fn get(&self, key_id: &str) -> Option<&Key> {
        self.keys.get(key_id)
    }

    /// Whether both sets verify exactly the same tokens.
    pub(crate) fn verifies_like(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().all(|(key_id, key)| {
                other
                    .get(key_id)
                    .is_some_and(|other| other.modulus == key.modulus && other.issuer == key.issuer)
            })
    }

    /// The usable keys as they are published: id, modulus (base64url), issuer; sorted by id.
    pub(crate) fn published(&self) -> Vec<(&str, String, Option<&str>)> {
        let mut keys: Vec<_> = self
            .keys
            .iter()
            .map(|(key_id, key)| (&**key_id, URL_SAFE_NO_PAD.encode(&key.modulus), key.issuer()))
            .collect();
        keys.sort_unstable();
        keys
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.keys.len()).field("skipped", &self.skipped).finish()
    }
}

/// One verification key.
pub(crate) struct Key {
    /// Made once per set: making it costs five times what using it does.
    verifier: RsassaJwsVerifier,
    modulus: Box<[u8]>,
    issuer: Option<Box<str>>,
}

impl Key {
    /// josekit checks the signature; it sees neither the header nor the claims, of which our reading is the only one.
    /// Its errors may hold text of the token, so they end here.
    pub(crate) fn verify(&self, token: &UnverifiedToken<'_>) -> Result<(), Rejection> {
        // RFC 8017 section 8.2.2 step 1: a signature is exactly as long as the modulus.
        if token.signature().len() != self.modulus.len() {
            return Err(Rejection::Signature);
        }
        self.verifier.verify(token.signing_input(), token.signature()).map_err(|_| Rejection::Signature)
    }

    /// The `issuer` that Entra writes into its keys, perhaps with `{tenantid}` in it.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// One member of `keys`, if it is usable.
    fn parse(raw: &RawValue, cloud: Option<&str>) -> Result<(Box<str>, Self), Skipped> {
        let jwk: Jwk = serde_json::from_str(raw.get())
            .map_err(|_| Skipped { key_id: None, reason: SkipReason::Malformed })?;
        let key_id = jwk.kid.as_deref().filter(|key_id| is_key_id(key_id)).map(Box::<str>::from);
        match Self::check(&jwk, cloud) {
            Ok(key) => key_id
                .map(|key_id| (key_id, key))
                .ok_or(Skipped { key_id: None, reason: SkipReason::NoKeyId }),
            Err(reason) => Err(Skipped { key_id, reason }),
        }
    }

    fn check(jwk: &Jwk, cloud: Option<&str>) -> Result<Self, SkipReason> {
        if jwk.k.is_some() || jwk.kty == "oct" {
            return Err(SkipReason::Secret);
        }
        if jwk.kty != "RSA" {
            return Err(SkipReason::NotRsa);
        }
        if [&jwk.d, &jwk.p, &jwk.q, &jwk.dp, &jwk.dq, &jwk.qi].iter().any(|member| member.is_some()) {
            return Err(SkipReason::Secret);
        }
        let is_for_signatures = jwk.r#use.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|it| it == "verify"))
            && jwk.alg.as_deref().is_none_or(|algorithm| algorithm == "RS256");
        if !is_for_signatures {
            return Err(SkipReason::OtherUse);
        }
        if let (Some(expected), Some(found)) = (cloud, jwk.cloud_instance_name.as_deref())
            && expected != found
        {
            return Err(SkipReason::OtherCloud);
        }
        let number = |text: &Option<String>| {
            let bytes = URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()?;
            let leading = bytes.iter().take_while(|byte| **byte == 0).count();
            bytes.get(leading..).map(Box::<[u8]>::from)
        };
        let (Some(modulus), Some(exponent)) = (number(&jwk.n), number(&jwk.e)) else {
            return Err(SkipReason::Malformed);
        };
        // Some exponents make forgery easy (1 is the identity), and only this one is in use.
        if *exponent != EXPONENT {
            return Err(SkipReason::Exponent);
        }
        let modulus_number = BigNum::from_slice(&modulus).map_err(|_| SkipReason::Malformed)?;
        let is_odd = modulus.last().is_some_and(|byte| byte % 2 == 1);
        if !(MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&modulus_number.num_bits()) || !is_odd {
            return Err(SkipReason::Modulus);
        }
        let public = public_key(modulus_number).map_err(|_| SkipReason::Malformed)?;
        let verifier = RS256.verifier_from_der(public).map_err(|_| SkipReason::Malformed)?;
        Ok(Self { verifier, modulus, issuer: jwk.issuer.as_deref().map(Box::from) })
    }
}

/// The key as SubjectPublicKeyInfo.
fn public_key(modulus: BigNum) -> Result<Vec<u8>, ErrorStack> {
    Rsa::<Public>::from_public_components(modulus, BigNum::from_slice(&EXPONENT)?)?.public_key_to_der()
}

/// A member of `keys` that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its id, if it has one of a harmless shape.
    pub key_id: Option<Box<str>>,
    /// Why.
    pub reason: SkipReason,
}

/// Why a key is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Two different keys have this id.
    Ambiguous,
    /// The exponent is not 65537.
    Exponent,
    /// Not a key, or its numbers are not base64url.
    Malformed,
    /// Fewer than 2048 or more than 4096 bits, or even.
    Modulus,
    /// No key id, or not 1 to 128 visible ASCII characters.
    NoKeyId,
    /// An elliptic curve or other key.
    NotRsa,
    /// Of another cloud than the metadata.
    OtherCloud,
    /// `use`, `key_ops` or `alg` say that it does not verify RS256.
    OtherUse,
    /// It has private members, or is symmetric: its owner has published a secret.
    Secret,
}

impl SkipReason {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous",
            Self::Exponent => "exponent",
            Self::Malformed => "malformed",
            Self::Modulus => "modulus",
            Self::NoKeyId => "no_key_id",
            Self::NotRsa => "not_rsa",
            Self::OtherCloud => "other_cloud",
            Self::OtherUse => "other_use",
            Self::Secret => "secret",
        }
    }

    /// Whether someone must look at the issuer: keys of these kinds are published by mistake or by an attacker.
    pub fn is_alarming(self) -> bool {
        match self {
            Self::Ambiguous | Self::Exponent | Self::Secret => true,
            Self::Malformed
            | Self::Modulus
            | Self::NoKeyId
            | Self::NotRsa
            | Self::OtherCloud
            | Self::OtherUse => false,
        }
    }
}

/// Why a document is not a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeySet {
    /// More than 256 KiB.
    #[error("key set is too large")]
    TooLarge,
    /// Not a JSON object with an array `keys`.
    #[error("not a key set")]
    NotKeys,
    /// More than 64 keys.
    #[error("key set has too many keys")]
    TooMany,
}

impl InvalidKeySet {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "keys_too_large",
            Self::NotKeys => "keys_malformed",
            Self::TooMany => "keys_too_many",
        }
    }
}

/// RFC 7517 section 5.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: List<'a>,
}

/// The members of `keys`, each on its own, and not many more than may be.
struct List<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for List<'a> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = List<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List<'de>, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = items.next_element()? {
                    // The rest need not be held to be counted.
                    if keys.len() <= KEYS_MAX {
                        keys.push(key);
                    }
                }
                Ok(List(keys))
            }
        }
        json.deserialize_seq(Members)
    }
}

/// RFC 7517 section 4, RFC 7518 section 6.3, and what Entra adds. The certificates (`x5c`) are not read: the keys are
/// trusted for where they were fetched from.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    issuer: Option<String>,
    cloud_instance_name: Option<String>,
    d: Option<IgnoredAny>,
    p: Option<IgnoredAny>,
    q: Option<IgnoredAny>,
    dp: Option<IgnoredAny>,
    dq: Option<IgnoredAny>,
    qi: Option<IgnoredAny>,
    k: Option<IgnoredAny>,
}

/// 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// RFC 7518 section 3.3.
const MODULUS_BITS_MIN: i32 = 2048;

/// A longer key costs more per token than all else together (0.9 ms at 16384 bits) and is in use nowhere.
const MODULUS_BITS_MAX: i32 = 4096;

/// Microsoft's sets have about a dozen.
pub(crate) const KEYS_MAX: usize = 64;

/// Microsoft's sets have less than 32 KiB, most of it certificates.
pub(crate) const KEYS_BYTES_MAX: usize = 256 * 1024;
