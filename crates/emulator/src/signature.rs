//! Signatures of tokens that others made: RS256 and PS256.

use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Public},
    rsa::Padding,
    sign::{RsaPssSaltlen, Verifier},
};

/// Returns true if the signature is that of an RSA key (RFC 7518 sections 3.3 and 3.5).
pub(crate) fn verify_rsa(public: &PKey<Public>, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
    let verify = || {
        let mut verifier = Verifier::new(MessageDigest::sha256(), public)?;
        if algorithm == "PS256" {
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            verifier.set_rsa_mgf1_md(MessageDigest::sha256())?;
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        verifier.verify_oneshot(signature, signed)
    };
    matches!(algorithm, "PS256" | "RS256") && public.rsa().is_ok() && verify().unwrap_or(false)
}
