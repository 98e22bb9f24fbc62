//! The CPU time of the RSA verification that a new token costs, in this process.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openssl::{hash::MessageDigest, sign::Verifier};

use super::{
    resources,
    traffic::{SIGNING_KEY, token},
};
use crate::fixtures::keys::key;

/// The mean of many verifications of one signature with a key of 2,048 bits. Fails if the signature is wrong.
pub(super) fn time() -> Result<Duration, String> {
    let token = token(0);
    let (input, signature) = token.rsplit_once('.').ok_or("a token has no signature")?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|error| error.to_string())?;
    let signing_key = key(SIGNING_KEY);
    let started = resources::own_cpu_time();
    for _ in 0..REPEATS {
        let verified = Verifier::new(MessageDigest::sha256(), signing_key.private())
            .and_then(|mut verifier| verifier.verify_oneshot(&signature, input.as_bytes()));
        if !matches!(verified, Ok(true)) {
            return Err("openssl refuses the signature of a token".to_owned());
        }
    }
    Ok(resources::own_cpu_time().saturating_sub(started) / REPEATS)
}

const REPEATS: u32 = 4_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_verified() {
        assert!(time().unwrap() < Duration::from_secs(1));
    }
}
