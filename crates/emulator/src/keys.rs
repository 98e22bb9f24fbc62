//! The keys of both issuers: made at the start, published as JSON Web Keys, rotated on request.

use std::{collections::VecDeque, sync::Arc};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    error::ErrorStack,
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    rsa::Rsa,
    sha::sha1,
    sign::Signer,
    x509::{X509, X509NameBuilder},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    encoding::{base64_standard, base64_url},
    words::words,
};

words! {
    /// An issuer family of the platform.
    pub enum Issuer {
        /// The Skype-like issuer, which signs what the calling service posts today.
        Skype = "skype",
        /// The Entra-like issuer.
        Entra = "entra",
    }
}

/// Every key that the platform holds. Making them takes a moment of CPU, so tests share one set.
#[derive(Clone, Debug)]
pub struct Keys {
    skype: KeyRing,
    entra: KeyRing,
    other_cloud: Arc<SigningKey>,
    consumer: Arc<SigningKey>,
    unpublished: Arc<SigningKey>,
}

impl Keys {
    /// Makes a new set: 2048-bit RSA, each with a self-signed certificate.
    ///
    /// # Errors
    /// OpenSSL has no randomness or no memory.
    pub fn generate() -> Result<Self, ErrorStack> {
        Ok(Self {
            skype: KeyRing::new(SigningKey::generate("aps.skype.example")?),
            entra: KeyRing::new(SigningKey::generate("accounts.accesscontrol.windows.example")?),
            other_cloud: Arc::new(SigningKey::generate("login.microsoftonline.us.example")?),
            consumer: Arc::new(SigningKey::generate("Live ID STS Signing Public Key example")?),
            unpublished: Arc::new(SigningKey::generate("nobody.example")?),
        })
    }

    /// Lets those keys sign whose time has come.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.skype.advance(now);
        self.entra.advance(now);
    }

    pub(crate) fn ring(&self, issuer: Issuer) -> &KeyRing {
        match issuer {
            Issuer::Skype => &self.skype,
            Issuer::Entra => &self.entra,
        }
    }

    pub(crate) fn ring_mut(&mut self, issuer: Issuer) -> &mut KeyRing {
        match issuer {
            Issuer::Skype => &mut self.skype,
            Issuer::Entra => &mut self.entra,
        }
    }

    /// Published in the Entra-like set, but a key of another cloud: what it signs must not be accepted.
    pub(crate) fn other_cloud(&self) -> &Arc<SigningKey> {
        &self.other_cloud
    }

    /// Published in the Entra-like set, but for the tenant of personal accounts: what it signs must not be accepted.
    pub(crate) fn consumer(&self) -> &Arc<SigningKey> {
        &self.consumer
    }

    /// Published nowhere: forgeries are signed with it.
    pub(crate) fn unpublished(&self) -> &Arc<SigningKey> {
        &self.unpublished
    }
}

/// The published keys of one issuer: those that signed, the one that signs, those that will.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing {
    signing: Arc<SigningKey>,
    /// Withdrawn from signing, still published; oldest first.
    earlier: VecDeque<Arc<SigningKey>>,
    /// Published ahead of their time; in the order in which they will sign.
    upcoming: VecDeque<Upcoming>,
    /// Withdrawn altogether; their numbers serve again, since making an RSA key takes a fifth of a second of CPU.
    withdrawn: VecDeque<Arc<SigningKey>>,
}

#[derive(Clone, Debug)]
struct Upcoming {
    key: Arc<SigningKey>,
    signs_at: Instant,
    overlap: bool,
}

impl KeyRing {
    fn new(signing: SigningKey) -> Self {
        Self {
            signing: Arc::new(signing),
            earlier: VecDeque::new(),
            upcoming: VecDeque::new(),
            withdrawn: VecDeque::new(),
        }
    }

    pub(crate) fn signing(&self) -> &Arc<SigningKey> {
        &self.signing
    }

    /// The published keys, oldest first.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.earlier.iter().chain([&self.signing]).chain(self.upcoming.iter().map(|upcoming| &upcoming.key))
    }

    /// Lets a new key sign from now on. With an overlap the earlier ones stay published, else they are withdrawn at once.
    pub(crate) fn rotate(&mut self, new: SigningKey, overlap: bool) {
        self.promote(Arc::new(new), overlap);
    }

    /// Publishes a new key that will sign from a moment on; refuses it when as many as fit are waiting.
    pub(crate) fn announce(
        &mut self,
        new: SigningKey,
        overlap: bool,
        signs_at: Instant,
    ) -> Result<(), AnnounceError> {
        if self.upcoming.len() >= UPCOMING_KEYS_MAX {
            return Err(AnnounceError);
        }
        let place = self.upcoming.partition_point(|other| other.signs_at <= signs_at);
        self.upcoming.insert(place, Upcoming { key: Arc::new(new), signs_at, overlap });
        Ok(())
    }

    /// Lets those sign whose time has come.
    fn advance(&mut self, now: Instant) {
        while self.upcoming.front().is_some_and(|next| next.signs_at <= now) {
            if let Some(Upcoming { key, overlap, .. }) = self.upcoming.pop_front() {
                self.promote(key, overlap);
            }
        }
    }

    /// A key whose numbers nobody has seen for as long as possible.
    pub(crate) fn take_withdrawn(&mut self) -> Option<Arc<SigningKey>> {
        self.withdrawn.pop_front()
    }

    fn promote(&mut self, key: Arc<SigningKey>, overlap: bool) {
        let retired = std::mem::replace(&mut self.signing, key);
        self.earlier.push_back(retired);
        let kept = if overlap { EARLIER_KEYS_MAX } else { 0 };
        while self.earlier.len() > kept {
            self.withdrawn.extend(self.earlier.pop_front());
        }
        while self.withdrawn.len() > WITHDRAWN_KEYS_MAX {
            self.withdrawn.pop_front();
        }
    }
}

/// No more keys can be published ahead of their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{UPCOMING_KEYS_MAX} keys that do not sign yet are published already: rotate less often, or publish later"
)]
pub struct AnnounceError;

/// An RSA key with the certificate that real key sets carry along.
#[derive(Debug)]
pub(crate) struct SigningKey {
    kid: String,
    modulus: String,
    exponent: String,
    certificate: String,
    private: PKey<Private>,
}

impl SigningKey {
    pub(crate) fn generate(common_name: &str) -> Result<Self, ErrorStack> {
        Self::certified(PKey::from_rsa(Rsa::generate(KEY_BITS)?)?, common_name)
    }

    /// The same numbers under a new certificate, and so under a new key id.
    pub(crate) fn renewed(&self, common_name: &str) -> Result<Self, ErrorStack> {
        Self::certified(self.private.clone(), common_name)
    }

    fn certified(private: PKey<Private>, common_name: &str) -> Result<Self, ErrorStack> {
        let rsa = private.rsa()?;
        let (modulus, exponent) = (base64_url(&rsa.n().to_vec()), base64_url(&rsa.e().to_vec()));
        let certificate = self_signed(&private, common_name)?;
        // Microsoft's key ids are the SHA-1 thumbprint of the certificate, so that `kid` equals `x5t`.
        let kid = base64_url(&sha1(&certificate));
        Ok(Self { kid, modulus, exponent, certificate: base64_standard(&certificate), private })
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// The key as a JSON Web Key (RFC 7517), with the members that both real issuers have.
    pub(crate) fn to_jwk(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.kid,
            "x5t": self.kid,
            "n": self.modulus,
            "e": self.exponent,
            "x5c": [self.certificate],
        })
    }

    /// RS256 (RFC 7518 section 3.3).
    pub(crate) fn sign(&self, input: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        Signer::new(MessageDigest::sha256(), &self.private)?.sign_oneshot_to_vec(input)
    }
}

fn self_signed(key: &PKey<Private>, common_name: &str) -> Result<Vec<u8>, ErrorStack> {
    let mut name = X509NameBuilder::new()?;
    name.append_entry_by_nid(Nid::COMMONNAME, common_name)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(127, openssl::bn::MsbOption::MAYBE_ZERO, false)?;
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_not_before(&*Asn1Time::days_from_now(0)?)?;
    certificate.set_not_after(&*Asn1Time::days_from_now(CERTIFICATE_DAYS)?)?;
    certificate.set_pubkey(key)?;
    certificate.sign(key, MessageDigest::sha256())?;
    certificate.build().to_der()
}

/// What both real issuers use.
const KEY_BITS: u32 = 2_048;

/// The real certificates live for about five years.
const CERTIFICATE_DAYS: u32 = 5 * 365;

/// A rotation every second must not grow the document without bound; real sets hold about a dozen keys.
const EARLIER_KEYS_MAX: usize = 11;

/// A key each second, published half a minute ahead, is as far as anyone goes.
const UPCOMING_KEYS_MAX: usize = 32;

/// Enough for a rotation each second to need no new numbers, and no more.
const WITHDRAWN_KEYS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_is_announced_is_published_first_and_signs_later() {
        let mut ring = KeyRing::new(SigningKey::generate("a.example").unwrap());
        let first = ring.signing().kid().to_owned();
        let next = ring.signing().renewed("b.example").unwrap();
        let kid = next.kid().to_owned();
        assert_ne!(first, kid);
        ring.announce(next, false, Instant::now() + Duration::from_secs(2)).unwrap();
        let kids = |ring: &KeyRing| ring.published().map(|key| key.kid().to_owned()).collect::<Vec<_>>();

        tokio::time::advance(Duration::from_millis(1_999)).await;
        ring.advance(Instant::now());
        assert_eq!((ring.signing().kid(), kids(&ring)), (first.as_str(), vec![first.clone(), kid.clone()]));

        tokio::time::advance(Duration::from_millis(1)).await;
        ring.advance(Instant::now());
        assert_eq!((ring.signing().kid(), kids(&ring)), (kid.as_str(), vec![kid.clone()]));
        assert_eq!(ring.take_withdrawn().unwrap().kid(), first);
    }

    #[tokio::test]
    async fn no_number_of_rotations_lets_a_ring_grow_without_bound() {
        let mut ring = KeyRing::new(SigningKey::generate("a.example").unwrap());
        for _ in 0..40 {
            let new = ring.signing().renewed("b.example").unwrap();
            ring.rotate(new, true);
        }
        assert_eq!(ring.published().count(), EARLIER_KEYS_MAX + 1);
        let later = Instant::now() + Duration::from_secs(60);
        let announced = (0..40)
            .filter(|_| {
                let new = ring.signing().renewed("c.example").unwrap();
                ring.announce(new, true, later).is_ok()
            })
            .count();
        assert_eq!(announced, UPCOMING_KEYS_MAX);
    }
}
