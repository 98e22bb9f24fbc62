//! `Certificate`: signs client assertions as Entra requires them (Microsoft identity platform, "Certificate
//! credentials"; RFC 7523 section 3).

use std::time::{Duration, SystemTime};

use josekit::jws::{self, JwsHeader, PS256, alg::rsassa_pss::RsassaPssJwsSigner};
use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Private},
    rand::rand_bytes,
    x509::X509,
};
use serde_json::json;
use uuid::{Builder, Uuid};

use crate::InvalidGraphSettings;

/// A certificate of the app, with its key, ready to sign.
pub(crate) struct Certificate {
    signer: RsassaPssJwsSigner,
    /// The SHA-256 of the certificate's DER.
    thumbprint: Vec<u8>,
}

impl Certificate {
    /// Parses the certificate and its key, both PEM.
    pub(crate) fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, InvalidGraphSettings> {
        let bad_certificate =
            || InvalidGraphSettings::new("graph.certificate", "must be a certificate in PEM form");
        let bad_key = |problem| InvalidGraphSettings::new("graph.key", problem);
        let certificate = X509::from_pem(certificate).map_err(|_| bad_certificate())?;
        let key = private_key(key)
            .ok_or_else(|| bad_key("must be a private key in PEM form without a password"))?;
        let rsa = key.rsa().map_err(|_| bad_key("must be an RSA key: assertions are signed with PS256"))?;
        if rsa.size() < RSA_BYTES_MIN {
            return Err(bad_key("must have at least 2048 bits"));
        }
        if !certificate.public_key().is_ok_and(|public| public.public_eq(&key)) {
            return Err(bad_key("must be the key of graph.certificate"));
        }
        let signer = rsa.private_key_to_der().ok().and_then(|der| PS256.signer_from_der(der).ok());
        Ok(Self {
            signer: signer.ok_or_else(|| bad_key("cannot sign with PS256"))?,
            thumbprint: certificate.digest(MessageDigest::sha256()).map_err(|_| bad_certificate())?.to_vec(),
        })
    }

    /// Returns a proof of `app`'s identity for `audience`, the token endpoint; `None` if the library fails.
    pub(crate) fn assertion(&self, app: Uuid, audience: &str, now: SystemTime) -> Option<String> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = json!({
            "aud": audience,
            "iss": app.to_string(),
            "sub": app.to_string(),
            "jti": random_id()?.to_string(),
            "nbf": seconds,
            "iat": seconds,
            "exp": seconds.saturating_add(LIFETIME.as_secs()),
        });
        let mut header = JwsHeader::new();
        header.set_token_type("JWT");
        header.set_x509_certificate_sha256_thumbprint(&self.thumbprint);
        jws::serialize_compact(claims.to_string().as_bytes(), &header, &self.signer).ok()
    }
}

/// Returns an unpredictable GUID (RFC 9562 section 5.4).
pub(crate) fn random_id() -> Option<Uuid> {
    let mut random = [0; 16];
    rand_bytes(&mut random).ok()?;
    Some(Builder::from_random_bytes(random).into_uuid())
}

/// Parses a key without a password. Without the callback, OpenSSL would ask on the terminal for the password
/// of an encrypted key.
fn private_key(pem: &[u8]) -> Option<PKey<Private>> {
    PKey::private_key_from_pem_callback(pem, |_| Ok(0)).ok()
}

/// 2048 bits (RFC 7518 section 3.5).
const RSA_BYTES_MIN: u32 = 256;

/// "Keep it short - 5-10 minutes after nbf at most".
const LIFETIME: Duration = Duration::from_secs(600);
