//! The keys of both issuers: generated at the start, published as JSON Web Keys, rotated on request.

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
        /// The Skype-like issuer, which signs the tokens of the calling service today.
        Skype = "skype",
        /// The Entra-like issuer.
        Entra = "entra",
    }
}

/// All keys of a platform. Generating them takes noticeable CPU time, so tests share one set.
#[derive(Clone, Debug)]
pub struct Keys {
    skype: KeyRing,
    entra: KeyRing,
    other_cloud: Arc<SigningKey>,
    consumer: Arc<SigningKey>,
    unpublished: Arc<SigningKey>,
}

impl Keys {
    /// Generates a new set of 2048-bit RSA keys, each with a self-signed certificate.
    ///
    /// # Errors
    /// OpenSSL has no randomness or no memory.
    pub fn generate() -> Result<Self, ErrorStack> {
        Ok(Self {
            skype: KeyRing::new(SigningKey::generate("aps.skype.example")?),
            entra: KeyRing::new(SigningKey::generate("accounts.accesscontrol.windows.example")?),
            other_cloud: Arc::new(SigningKey::generate("login.microsoftonline.us.example")?),
            consumer: Arc::new(SigningKey::generate("Live ID STS Signing Public Key example")?),
            unpublished: Arc::new(SigningKey::generate("unpublished.example")?),
        })
    }

    /// Promotes the announced keys whose time has come.
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

    /// A key of another cloud in the Entra-like set. A validator must not accept its signatures.
    pub(crate) fn other_cloud(&self) -> &Arc<SigningKey> {
        &self.other_cloud
    }

    /// A key of the tenant of personal accounts, in the same set. A validator must not accept its signatures.
    pub(crate) fn consumer(&self) -> &Arc<SigningKey> {
        &self.consumer
    }

    /// A key that no set publishes. It signs forged tokens.
    pub(crate) fn unpublished(&self) -> &Arc<SigningKey> {
        &self.unpublished
    }
}

/// The keys of one issuer: earlier ones, the signing one, and announced ones.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing {
    signing: Arc<SigningKey>,
    /// Keys that no longer sign and are still published, oldest first.
    earlier: VecDeque<Arc<SigningKey>>,
    /// Keys that are published and do not sign yet, in the order in which they will sign.
    upcoming: VecDeque<UpcomingKey>,
    /// Keys that are no longer published. A rotation reuses their numbers, because generating an RSA key
    /// takes 0.2 s of CPU time.
    withdrawn: VecDeque<Arc<SigningKey>>,
}

#[derive(Clone, Debug)]
struct UpcomingKey {
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

    /// Makes a new key the signing one. With an overlap the earlier keys stay published; else they are
    /// withdrawn at once.
    pub(crate) fn rotate(&mut self, new: SigningKey, overlap: bool) {
        self.promote(Arc::new(new), overlap);
    }

    /// Publishes a new key that will sign from `signs_at` on. Fails if too many keys are announced already.
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
        self.upcoming.insert(place, UpcomingKey { key: Arc::new(new), signs_at, overlap });
        Ok(())
    }

    /// Promotes the announced keys whose time has come.
    fn advance(&mut self, now: Instant) {
        while self.upcoming.front().is_some_and(|next| next.signs_at <= now) {
            if let Some(UpcomingKey { key, overlap, .. }) = self.upcoming.pop_front() {
                self.promote(key, overlap);
            }
        }
    }

    /// Takes the key that was withdrawn first.
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

/// The limit of announced keys is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{UPCOMING_KEYS_MAX} keys are announced already: rotate less often, or announce later")]
pub struct AnnounceError;

/// An RSA key with a certificate, as real key sets have them.
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

    /// Makes a key with the same numbers under a new certificate. The key id is new too.
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

    /// The key as a JSON Web Key (RFC 7517), with the members that both real issuers publish.
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

    /// Signs with RS256 (RFC 7518 section 3.3).
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

/// The size that both real issuers use.
const KEY_BITS: u32 = 2_048;

/// The real certificates are valid for about five years.
const CERTIFICATE_DAYS: u32 = 5 * 365;

/// Bounds the document under a rotation every second. Real sets hold about a dozen keys.
const EARLIER_KEYS_MAX: usize = 11;

/// Enough for a new key every second, announced half a minute ahead.
const UPCOMING_KEYS_MAX: usize = 32;

/// Enough for a rotation every second to reuse numbers.
const WITHDRAWN_KEYS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_announced_key_is_published_first_and_signs_later() {
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
    async fn the_size_of_a_ring_is_bounded() {
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
