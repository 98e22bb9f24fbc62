//! The keys of both issuers: made at the start, published as JSON Web Keys, rotated on request.

use std::sync::Arc;

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

/// The published keys of one issuer; the last one signs.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing {
    signing: Arc<SigningKey>,
    /// Withdrawn from signing, still published; oldest first.
    earlier: Vec<Arc<SigningKey>>,
}

impl KeyRing {
    fn new(signing: SigningKey) -> Self {
        Self { signing: Arc::new(signing), earlier: Vec::new() }
    }

    pub(crate) fn signing(&self) -> &Arc<SigningKey> {
        &self.signing
    }

    /// The published keys, oldest first.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        self.earlier.iter().chain([&self.signing])
    }

    /// Lets a new key sign from now on. With an overlap the earlier ones stay published, else they are withdrawn at once.
    pub(crate) fn rotate(&mut self, new: SigningKey, overlap: bool) {
        let retired = std::mem::replace(&mut self.signing, Arc::new(new));
        if overlap {
            self.earlier.push(retired);
            if self.earlier.len() > EARLIER_KEYS_MAX {
                self.earlier.remove(0);
            }
        } else {
            self.earlier.clear();
        }
    }
}

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
        let rsa = Rsa::generate(KEY_BITS)?;
        let (modulus, exponent) = (base64_url(&rsa.n().to_vec()), base64_url(&rsa.e().to_vec()));
        let private = PKey::from_rsa(rsa)?;
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
