//! `Key`: one verification key, and the rules that a published key must meet.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use josekit::jws::{
    JwsVerifier, PS256, RS256,
    alg::{rsassa::RsassaJwsVerifier, rsassa_pss::RsassaPssJwsVerifier},
};
use openssl::{bn::BigNum, error::ErrorStack, pkey::Public, rsa::Rsa};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use crate::{
    Rejection,
    algorithm::Algorithm,
    token::{UnverifiedToken, is_key_id},
};

/// One verification key.
pub(crate) struct Key {
    /// Built once per set: building one costs five times as much as using it. `None` if `alg` names the other
    /// algorithm.
    rs256: Option<RsassaJwsVerifier>,
    ps256: Option<RsassaPssJwsVerifier>,
    modulus: Box<[u8]>,
    issuer: Option<Box<str>>,
}

impl Key {
    /// Parses one member of `keys`. Returns the key with its id, or the reason why it is skipped.
    pub(crate) fn parse(raw: &RawValue, cloud: Option<&str>) -> Result<(Box<str>, Self), Skipped> {
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

    /// Returns the id of a member of `keys` that is not parsed any further.
    pub(crate) fn id(raw: &RawValue) -> Option<Box<str>> {
        let jwk: JwkId = serde_json::from_str(raw.get()).ok()?;
        jwk.kid.filter(|key_id| is_key_id(key_id)).map(String::into_boxed_str)
    }

    /// Checks the signature of `token`.
    ///
    /// josekit checks the signature only; this crate alone parses the header and the claims. josekit's errors
    /// may contain text of the token, so they are dropped here.
    pub(crate) fn verify(&self, token: &UnverifiedToken<'_>) -> Result<(), Rejection> {
        // RFC 8017 section 8.2.2 step 1: a signature is exactly as long as the modulus.
        if token.signature().len() != self.modulus.len() {
            return Err(Rejection::Signature);
        }
        let verifier: &dyn JwsVerifier = match token.algorithm() {
            Algorithm::Rs256 => self.rs256.as_ref().ok_or(Rejection::Algorithm)?,
            Algorithm::Ps256 => self.ps256.as_ref().ok_or(Rejection::Algorithm)?,
        };
        verifier.verify(token.signing_input(), token.signature()).map_err(|_| Rejection::Signature)
    }

    /// Returns the `issuer` that Entra writes into its keys. It may contain `{tenantid}`.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// Returns the only algorithm that the key verifies; `None` if it verifies both.
    pub(crate) fn algorithm(&self) -> Option<Algorithm> {
        match (&self.rs256, &self.ps256) {
            (Some(_), None) => Some(Algorithm::Rs256),
            (None, Some(_)) => Some(Algorithm::Ps256),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }

    /// Adds the algorithms of another entry of the same key.
    pub(crate) fn allow(&mut self, other: Self) {
        self.rs256 = self.rs256.take().or(other.rs256);
        self.ps256 = self.ps256.take().or(other.ps256);
    }

    pub(crate) fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    fn check(jwk: &Jwk, cloud: Option<&str>) -> Result<Self, SkipReason> {
        if jwk.k.is_some() || jwk.kty == "oct" {
            return Err(SkipReason::Secret);
        }
        if jwk.kty != "RSA" {
            return Err(SkipReason::OtherType);
        }
        if [&jwk.d, &jwk.p, &jwk.q, &jwk.dp, &jwk.dq, &jwk.qi].iter().any(|member| member.is_some()) {
            return Err(SkipReason::Secret);
        }
        let is_for_signatures = jwk.r#use.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|it| it == "verify"));
        if !is_for_signatures {
            return Err(SkipReason::OtherUse);
        }
        let algorithm = match jwk.alg.as_deref() {
            None => None,
            Some(alg) => Some(Algorithm::parse(alg).ok_or(SkipReason::OtherUse)?),
        };
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
        // Some exponents make forgery easy (1 is the identity), and no issuer uses any other.
        if *exponent != EXPONENT {
            return Err(SkipReason::Exponent);
        }
        let modulus_number = BigNum::from_slice(&modulus).map_err(|_| SkipReason::Malformed)?;
        let is_odd = modulus.last().is_some_and(|byte| byte % 2 == 1);
        if !(MODULUS_BITS_MIN..=MODULUS_BITS_MAX).contains(&modulus_number.num_bits()) || !is_odd {
            return Err(SkipReason::Modulus);
        }
        let public = public_key(modulus_number).map_err(|_| SkipReason::Malformed)?;
        let is_for = |other| algorithm.is_none_or(|algorithm| algorithm == other);
        let rs256 = is_for(Algorithm::Rs256).then(|| RS256.verifier_from_der(&public)).transpose();
        let ps256 = is_for(Algorithm::Ps256).then(|| PS256.verifier_from_der(&public)).transpose();
        let (rs256, ps256) =
            (rs256.map_err(|_| SkipReason::Malformed)?, ps256.map_err(|_| SkipReason::Malformed)?);
        Ok(Self { rs256, ps256, modulus, issuer: jwk.issuer.as_deref().map(Box::from) })
    }
}

/// Returns the key as SubjectPublicKeyInfo.
fn public_key(modulus: BigNum) -> Result<Vec<u8>, ErrorStack> {
    Rsa::<Public>::from_public_components(modulus, BigNum::from_slice(&EXPONENT)?)?.public_key_to_der()
}

/// A member of `keys` that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its id, if it has one that is safe in a log.
    pub key_id: Option<Box<str>>,
    /// The reason.
    pub reason: SkipReason,
}

/// The reasons to skip a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Another, different key has the same id.
    Ambiguous,
    /// The exponent is not 65537.
    Exponent,
    /// The member is not a key, or its numbers are not base64url.
    Malformed,
    /// The modulus has fewer than 2048 bits or more than 4096, or it is even.
    Modulus,
    /// The key id is absent, or it is not 1 to 128 visible ASCII characters.
    NoKeyId,
    /// The key belongs to another cloud than the metadata.
    OtherCloud,
    /// The key is an elliptic curve key or of another type.
    OtherType,
    /// `use`, `key_ops` or `alg` say that the key verifies neither RS256 nor PS256.
    OtherUse,
    /// The set has 64 usable keys before this one.
    TooMany,
    /// The key has private members or is symmetric: its owner has published a secret.
    Secret,
}

impl SkipReason {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        self.row().0
    }

    /// Returns true if an operator should look at the issuer: such a key is published by mistake or by an
    /// attacker.
    pub fn is_alarming(self) -> bool {
        self.row().1
    }

    /// The label, and whether the key is alarming.
    fn row(self) -> (&'static str, bool) {
        match self {
            Self::Ambiguous => ("ambiguous", true),
            Self::Exponent => ("exponent", true),
            Self::Malformed => ("malformed", false),
            Self::Modulus => ("modulus", false),
            Self::NoKeyId => ("no_key_id", false),
            Self::OtherCloud => ("other_cloud", false),
            Self::OtherType => ("not_rsa", false),
            Self::OtherUse => ("other_use", false),
            Self::Secret => ("secret", true),
            Self::TooMany => ("too_many", false),
        }
    }
}

/// A JSON Web Key: RFC 7517 section 4, RFC 7518 section 6.3, and the members that Entra adds. Certificates
/// (`x5c`) are not read: a key is trusted because of the address that it was fetched from.
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

/// The id of a key (RFC 7517 section 4.5).
#[derive(Deserialize)]
struct JwkId {
    kid: Option<String>,
}

/// 65537.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// RFC 7518 section 3.3.
const MODULUS_BITS_MIN: i32 = 2048;

/// Verifying with a longer key costs more than all other checks of a token together (0.9 ms at 16384 bits),
/// and no issuer uses one.
const MODULUS_BITS_MAX: i32 = 4096;
