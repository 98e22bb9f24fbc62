//! `SealKey` and `Mac`: HMAC-SHA-256 over an owner and an app, cut to 128 bits.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{memcmp, sha::Sha256};
use uuid::Uuid;

use super::owner::OwnerRef;
use crate::name::NameRef;

/// A seal key. It does not keep the secret.
///
/// HMAC(K, text) = H(K ⊕ opad ‖ H(K ⊕ ipad ‖ text)) (RFC 2104). Both keyed blocks are hashed once, when the
/// key is created. Each seal starts with copies of the two states, as section 4 of the RFC suggests, and
/// takes 0.13 µs. OpenSSL 3.0's own HMAC looks up and allocates several objects per call and took 3.2 µs,
/// more than all the rest of routing a callback. Tests compare the two.
///
/// These functions of OpenSSL do not use a provider. If every hash must come from a FIPS provider, change
/// this file only, at that cost.
pub struct SealKey {
    id: Box<str>,
    inner: Sha256,
    outer: Sha256,
}

impl SealKey {
    /// Creates a key. `id` is a `Name` without dots; `secret` has 32 bytes or more.
    ///
    /// # Errors
    ///
    /// `id` cannot be part of a URI, or `secret` is too short.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self, InvalidSealKey> {
        if id.contains('.') || NameRef::parse(id).is_err() {
            return Err(InvalidSealKey::Id { id: id.to_owned() });
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(InvalidSealKey::ShortSecret { id: id.to_owned(), bytes: secret.len() });
        }
        let (inner, outer) = keyed_states(secret);
        Ok(Self { id: id.into(), inner, outer })
    }

    /// Returns its id. URIs contain it in clear text.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the MAC of an owner and an app.
    pub(super) fn seal(&self, owner: OwnerRef<'_>, app: Uuid) -> Mac {
        let mut inner = self.inner.clone();
        // The length before each field ensures that two lists of fields never become the same text.
        for field in [VERSION, owner.region.as_str(), owner.instance.as_str(), owner.incarnation.as_str()] {
            // Names have at most 63 bytes.
            inner.update(&[u8::try_from(field.len()).unwrap_or(u8::MAX)]);
            inner.update(field.as_bytes());
        }
        inner.update(&[APP_BYTES]);
        inner.update(app.as_bytes());
        Mac::of(finish(inner, self.outer.clone()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The reasons to refuse a seal key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSealKey {
    /// The id cannot be part of a URI.
    #[error("the seal key id {id:?} is not 1 to 63 of A-Z a-z 0-9 _ -")]
    Id {
        /// The id as it was given.
        id: String,
    },
    /// The secret is too short: it could be guessed.
    #[error(
        "the secret of seal key {id} has {bytes} bytes, and at least 32 are needed; \
         `switchboard keygen` creates one"
    )]
    ShortSecret {
        /// The key's id.
        id: String,
        /// The length of the secret.
        bytes: usize,
    },
}

impl InvalidSealKey {
    /// Returns a stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Id { .. } => "seal_key_id",
            Self::ShortSecret { .. } => "short_secret",
        }
    }
}

/// The first half of an HMAC-SHA-256. RFC 2104 section 5 allows half of the length, and no less.
#[derive(Clone, Copy)]
pub(super) struct Mac([u8; 16]);

impl Mac {
    /// 16 bytes in base64url (RFC 4648 section 5) without padding.
    pub(super) const TEXT_BYTES: usize = 22;

    fn of(hmac: [u8; 32]) -> Self {
        Self(std::array::from_fn(|index| hmac.get(index).copied().unwrap_or(0)))
    }

    /// Parses the one text of a MAC: the unused bits of the last character must be 0.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::TEXT_BYTES {
            return None;
        }
        let mut decoded = [0; 18]; // the decoder needs room for complete groups
        URL_SAFE_NO_PAD.decode_slice(text, &mut decoded).ok()?;
        decoded.first_chunk().copied().map(Self)
    }

    /// Compares in constant time: an attacker must not learn the position of the first wrong byte.
    pub(super) fn is(&self, other: &Self) -> bool {
        memcmp::eq(&self.0, &other.0)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&base64::display::Base64Display::new(&self.0, &URL_SAFE_NO_PAD), f)
    }
}

/// Returns the states of SHA-256 after K ⊕ ipad and after K ⊕ opad.
fn keyed_states(secret: &[u8]) -> (Sha256, Sha256) {
    let hashed;
    let key = if secret.len() > BLOCK_BYTES {
        hashed = openssl::sha::sha256(secret);
        &hashed
    } else {
        secret
    };
    let state = |pad: u8| {
        let block: [u8; BLOCK_BYTES] =
            std::array::from_fn(|index| key.get(index).copied().unwrap_or(0) ^ pad);
        let mut hash = Sha256::new();
        hash.update(&block);
        hash
    };
    (state(0x36), state(0x5c))
}

/// Returns H(outer ‖ H(inner)).
fn finish(inner: Sha256, mut outer: Sha256) -> [u8; 32] {
    outer.update(&inner.finish());
    outer.finish()
}

/// A new list of sealed fields needs a new version, so that a seal never has two meanings.
const VERSION: &str = "1";

/// The length of an app id: its 16 bytes, not its text.
const APP_BYTES: u8 = 16;

/// The length of the hash. RFC 2104 section 3 discourages shorter keys.
const SECRET_BYTES_MIN: usize = 32;

/// The block of SHA-256 (FIPS 180-4, figure 1).
const BLOCK_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
    use proptest::prelude::*;

    use super::{BLOCK_BYTES, InvalidSealKey, Mac, SealKey, finish, keyed_states};
    use crate::{callback::OwnerRef, name::NameRef};

    fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
        let (mut inner, outer) = keyed_states(key);
        inner.update(text);
        finish(inner, outer)
    }

    fn hmac_of_openssl(key: &[u8], text: &[u8]) -> Vec<u8> {
        let key = PKey::hmac(key).unwrap();
        Signer::new(MessageDigest::sha256(), &key).unwrap().sign_oneshot_to_vec(text).unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[track_caller]
    fn check_vector(key: &[u8], text: &[u8], expected: &str) {
        let found = hex(&hmac(key, text));
        assert!(found.starts_with(expected), "{found}");
        assert_eq!(hex(&hmac_of_openssl(key, text)), found);
    }

    #[test]
    fn the_hmac_matches_the_vectors_of_rfc_4231() {
        check_vector(
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        );
        check_vector(
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        );
        check_vector(
            &[0xaa; 20],
            &[0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        );
        let counting: Vec<u8> = (1..=25).collect();
        check_vector(
            &counting,
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        );
        check_vector(&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b");
        check_vector(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
        check_vector(
            &[0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. \
              The key needs to be hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_hmac_is_the_same_as_that_of_openssl(
            key in prop::collection::vec(any::<u8>(), 1..3 * BLOCK_BYTES),
            text in prop::collection::vec(any::<u8>(), 0..4 * BLOCK_BYTES),
        ) {
            prop_assert_eq!(hmac(&key, &text).to_vec(), hmac_of_openssl(&key, &text));
        }

        #[test]
        fn a_mac_has_exactly_one_text(bytes in any::<[u8; 16]>(), at in 0..22_usize, other in any::<u8>()) {
            let text = Mac(bytes).to_string();
            prop_assert_eq!(Mac::parse(&text).map(|mac| mac.0), Some(bytes));
            let mut changed = text.clone().into_bytes();
            changed[at] = other;
            let changed = String::from_utf8_lossy(&changed);
            if let Some(read) = Mac::parse(&changed) {
                prop_assert_eq!(read.is(&Mac(bytes)), changed == text);
            }
        }
    }

    #[test]
    fn the_seal_covers_each_field_with_its_length() {
        let name = |text| NameRef::parse(text).unwrap();
        let owner = OwnerRef { region: name("emea"), instance: name("bot-0"), incarnation: name("7f.x") };
        let app = uuid::uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
        let secret = [7; 32];
        let mut text = b"\x011\x04emea\x05bot-0\x047f.x\x10".to_vec();
        text.extend_from_slice(app.as_bytes());
        let mac = SealKey::new("k1", &secret).unwrap().seal(owner, app);
        assert_eq!(mac.0[..], hmac_of_openssl(&secret, &text)[..16]);
    }

    #[test]
    fn a_mac_is_22_characters_with_canonical_last_bits() {
        let check = |text: &str, accepted| assert_eq!(Mac::parse(text).is_some(), accepted, "{text}");
        check("AAAAAAAAAAAAAAAAAAAAAA", true);
        check("-_AAAAAAAAAAAAAAAAAAAw", true);
        check("AAAAAAAAAAAAAAAAAAAAAB", false); // the same bytes, for a lenient decoder
        check("AAAAAAAAAAAAAAAAAAAAA", false);
        check("AAAAAAAAAAAAAAAAAAAAAAA", false);
        check("AAAAAAAAAAAAAAAAAAAAAAAA", false);
        check("AAAAAAAAAAAAAAAAAAAAA=", false);
        check("+/AAAAAAAAAAAAAAAAAAAA", false);
        check("AAAAAAAAAAAAAAAAAAAA==", false);
        check("", false);
    }

    #[test]
    fn a_key_needs_an_id_without_dots_and_32_bytes() {
        let check = |id: &str, secret: &[u8], expected: Result<(), (&str, &str)>| {
            let found =
                SealKey::new(id, secret).map(drop).map_err(|error| (error.label(), error.to_string()));
            assert_eq!(found, expected.map_err(|(label, text)| (label, text.to_owned())), "{id}");
        };
        check("k1", &[0; 32], Ok(()));
        check("K-1_", &[0; 200], Ok(()));
        for id in ["", "k.1", ".", "k/1", "k 1"] {
            let text = format!("the seal key id {id:?} is not 1 to 63 of A-Z a-z 0-9 _ -");
            check(id, &[0; 32], Err(("seal_key_id", &text)));
        }
        let text = "the secret of seal key k1 has 31 bytes, and at least 32 are needed; \
                    `switchboard keygen` creates one";
        check("k1", &[0; 31], Err(("short_secret", text)));
    }

    #[test]
    fn the_secret_is_not_printed() {
        let key = SealKey::new("k1", &[b'x'; 32]).unwrap();
        assert_eq!(format!("{key:?}"), r#"SealKey { id: "k1", .. }"#);
        let error: InvalidSealKey = SealKey::new("k1", b"hunter2").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
