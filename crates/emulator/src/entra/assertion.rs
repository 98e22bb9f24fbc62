//! Client assertions (RFC 7523 section 3): who signed one, for whom, and when.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::{
    hash::MessageDigest,
    pkey::{PKey, Public},
    rsa::Padding,
    sign::{RsaPssSaltlen, Verifier},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Kind, Refusal};
use crate::encoding::from_base64_url;

/// Checks an assertion against what the app has registered.
pub(super) fn check<'a>(
    assertion: &str,
    registered: impl Iterator<Item = &'a Kind>,
    app: Uuid,
    authority: &str,
    now: SystemTime,
) -> Result<(), Refusal> {
    let (signed, signature) = assertion.rsplit_once('.').ok_or(Refusal::AssertionMalformed)?;
    let (header, claims) = signed.split_once('.').ok_or(Refusal::AssertionMalformed)?;
    let header: Header = parse(header)?;
    let claims: Claims = parse(claims)?;
    let signature = from_base64_url(signature).ok_or(Refusal::AssertionMalformed)?;
    let verifies = |public: &PKey<Public>| verify(public, &header.alg, signed.as_bytes(), &signature);

    if claims.aud == EXCHANGE {
        let mut federated = registered.filter_map(|kind| match kind {
            Kind::Federated { public } => Some(public),
            Kind::Secret(_) | Kind::Certificate { .. } => None,
        });
        if !federated.any(verifies) {
            return Err(Refusal::Federated);
        }
        return in_time(&claims, now);
    }

    let named = |sha1: &str, sha256: &str| {
        let names =
            |name: Option<&str>, print: &str| name.is_some_and(|name| name.trim_end_matches('=') == print);
        names(header.x5t_s256.as_deref(), sha256)
            || names(header.x5t.as_deref(), sha1)
            || names(header.kid.as_deref(), sha1)
    };
    let mut keys = registered.filter_map(|kind| match kind {
        Kind::Certificate { public, sha1, sha256 } if named(sha1, sha256) => Some(public),
        Kind::Certificate { .. } | Kind::Secret(_) | Kind::Federated { .. } => None,
    });
    let public = keys.next().ok_or(Refusal::AssertionKey)?;
    if !verifies(public) {
        return Err(Refusal::AssertionSignature);
    }
    let app = app.to_string();
    if !claims.iss.eq_ignore_ascii_case(&app) || !claims.sub.eq_ignore_ascii_case(&app) {
        return Err(Refusal::AssertionClient);
    }
    if !is_our_audience(&claims.aud, authority) {
        return Err(Refusal::AssertionAudience);
    }
    in_time(&claims, now)
}

fn in_time(claims: &Claims, now: SystemTime) -> Result<(), Refusal> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let begun = claims.nbf.is_none_or(|nbf| nbf <= now + SKEW_SECONDS);
    if begun && claims.exp + SKEW_SECONDS > now { Ok(()) } else { Err(Refusal::AssertionTime) }
}

/// The token endpoint or the issuer of this authority, under any host: a client may know this server by another name
/// than it does itself.
fn is_our_audience(audience: &str, authority: &str) -> bool {
    let Ok(url) = url::Url::parse(audience) else { return false };
    let mut segments = url.path().trim_matches('/').splitn(2, '/');
    let theirs = segments.next().unwrap_or_default();
    theirs.eq_ignore_ascii_case(authority)
        && matches!(segments.next(), None | Some("v2.0" | "oauth2/v2.0/token" | "oauth2/token"))
}

fn verify(public: &PKey<Public>, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
    let verify = || {
        let mut verifier = Verifier::new(MessageDigest::sha256(), public)?;
        if algorithm == "PS256" {
            // RFC 7518 section 3.5.
            verifier.set_rsa_padding(Padding::PKCS1_PSS)?;
            verifier.set_rsa_mgf1_md(MessageDigest::sha256())?;
            verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        verifier.verify_oneshot(signature, signed)
    };
    matches!(algorithm, "PS256" | "RS256") && public.rsa().is_ok() && verify().unwrap_or(false)
}

fn parse<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, Refusal> {
    let bytes = from_base64_url(part).ok_or(Refusal::AssertionMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::AssertionMalformed)
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    /// With a fraction, in the assertions of MSAL for Python; RFC 7519 section 2 allows that.
    exp: f64,
    nbf: Option<f64>,
    iss: String,
    sub: String,
}

/// What tokens of other issuers are for, when they stand for an app (workload identity federation).
const EXCHANGE: &str = "api://AzureADTokenExchange";

const SKEW_SECONDS: f64 = 300.0;
