//! Client assertions (RFC 7523 section 3): signature, audience and time.

use std::time::{SystemTime, UNIX_EPOCH};

use openssl::pkey::{PKey, Public};
use serde::Deserialize;
use uuid::Uuid;

use super::{credential::CredentialKind, refusal::TokenRefusal};
use crate::{clock::CLOCK_SKEW_SECONDS, encoding::from_base64_url, signature::verify_rsa};

/// Checks an assertion against the credentials that the app registered.
pub(super) fn check<'a>(
    assertion: &str,
    registered: impl Iterator<Item = &'a CredentialKind>,
    app: Uuid,
    authority: &str,
    now: SystemTime,
) -> Result<(), TokenRefusal> {
    let (signed, signature) = assertion.rsplit_once('.').ok_or(TokenRefusal::AssertionMalformed)?;
    let (header, claims) = signed.split_once('.').ok_or(TokenRefusal::AssertionMalformed)?;
    let header: AssertionHeader = parse(header)?;
    let claims: AssertionClaims = parse(claims)?;
    let signature = from_base64_url(signature).ok_or(TokenRefusal::AssertionMalformed)?;
    let verifies = |public: &PKey<Public>| verify_rsa(public, &header.alg, signed.as_bytes(), &signature);

    if claims.aud == EXCHANGE {
        let mut federated = registered.filter_map(|kind| match kind {
            CredentialKind::Federated { public } => Some(public),
            CredentialKind::Secret(_) | CredentialKind::Certificate { .. } => None,
        });
        if !federated.any(verifies) {
            return Err(TokenRefusal::Federated);
        }
        return check_time(&claims, now);
    }

    let named = |sha1: &str, sha256: &str| {
        let names =
            |name: Option<&str>, print: &str| name.is_some_and(|name| name.trim_end_matches('=') == print);
        names(header.x5t_s256.as_deref(), sha256)
            || names(header.x5t.as_deref(), sha1)
            || names(header.kid.as_deref(), sha1)
    };
    let mut keys = registered.filter_map(|kind| match kind {
        CredentialKind::Certificate { public, sha1, sha256 } if named(sha1, sha256) => Some(public),
        CredentialKind::Certificate { .. } | CredentialKind::Secret(_) | CredentialKind::Federated { .. } => {
            None
        }
    });
    let public = keys.next().ok_or(TokenRefusal::AssertionKey)?;
    if !verifies(public) {
        return Err(TokenRefusal::AssertionSignature);
    }
    let app = app.to_string();
    if !claims.iss.eq_ignore_ascii_case(&app) || !claims.sub.eq_ignore_ascii_case(&app) {
        return Err(TokenRefusal::AssertionClient);
    }
    if !is_audience_of(&claims.aud, authority) {
        return Err(TokenRefusal::AssertionAudience);
    }
    check_time(&claims, now)
}

fn check_time(claims: &AssertionClaims, now: SystemTime) -> Result<(), TokenRefusal> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let skew = f64::from(CLOCK_SKEW_SECONDS);
    let valid_yet = claims.nbf.is_none_or(|nbf| nbf <= now + skew);
    if valid_yet && claims.exp + skew > now { Ok(()) } else { Err(TokenRefusal::AssertionTime) }
}

/// True if the audience is the token endpoint or the issuer of this authority.
///
/// The host may be any: a client may know this server by another name than the server does.
fn is_audience_of(audience: &str, authority: &str) -> bool {
    let Ok(url) = url::Url::parse(audience) else { return false };
    let mut segments = url.path().trim_matches('/').splitn(2, '/');
    let named = segments.next().unwrap_or_default();
    named.eq_ignore_ascii_case(authority)
        && matches!(segments.next(), None | Some("v2.0" | "oauth2/v2.0/token" | "oauth2/token"))
}

fn parse<T: for<'de> Deserialize<'de>>(part: &str) -> Result<T, TokenRefusal> {
    let bytes = from_base64_url(part).ok_or(TokenRefusal::AssertionMalformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenRefusal::AssertionMalformed)
}

#[derive(Deserialize)]
struct AssertionHeader {
    alg: String,
    kid: Option<String>,
    x5t: Option<String>,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Option<String>,
}

#[derive(Deserialize)]
struct AssertionClaims {
    aud: String,
    /// The assertions of MSAL for Python have a fraction here. RFC 7519 section 2 allows it.
    exp: f64,
    nbf: Option<f64>,
    iss: String,
    sub: String,
}

/// The audience of a token of another issuer that stands for an app (workload identity federation).
const EXCHANGE: &str = "api://AzureADTokenExchange";
