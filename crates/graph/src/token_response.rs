//! `Token`: the response to a token request, of Entra (RFC 6749 section 5) or of an identity endpoint.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    GraphResponse, TokenError, TokenRefusal, retry::retry_after, secret::Secret,
    transport::TOKEN_BODY_BYTES_MAX,
};

/// A bearer token for Graph.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) secret: Secret,
    /// From this time on it is renewed, and still used.
    pub(crate) stale_at: Instant,
    /// From this time on it is not used.
    pub(crate) expired_at: Instant,
}

/// RFC 6749 section 5.1.
#[derive(Deserialize)]
struct TokenResponse {
    token_type: String,
    access_token: String,
    /// Seconds of validity. The identity endpoint of App Service leaves it out.
    #[serde(default)]
    expires_in: Value,
    /// The end of validity, in seconds since 1970.
    #[serde(default)]
    expires_on: Value,
    /// The seconds after which the issuer wants the token renewed: half of the lifetime of a token that is
    /// valid for a day.
    #[serde(default)]
    refresh_in: Value,
}

/// Reads a token; `None` if the response contains none. The request was sent at `sent_at`, which is now.
pub(crate) fn read_token(response: &GraphResponse, sent_at: Instant, now: SystemTime) -> Option<Token> {
    let token: TokenResponse = serde_json::from_slice(response.whole_body(TOKEN_BODY_BYTES_MAX)?).ok()?;
    let lifetime = seconds(&token.expires_in).or_else(|| {
        let expires_at = UNIX_EPOCH.checked_add(seconds(&token.expires_on)?)?;
        expires_at.duration_since(now).ok()
    })?;
    // It becomes the value of a header, so other characters are not safe.
    let is_token = (1..=TOKEN_BYTES_MAX).contains(&token.access_token.len())
        && token.access_token.bytes().all(|byte| byte.is_ascii_graphic());
    if !token.token_type.eq_ignore_ascii_case("Bearer") || !is_token || lifetime.is_zero() {
        return None;
    }
    let lifetime = lifetime.min(LIFETIME_MAX);
    let latest = lifetime - STALE_BEFORE_MAX.min(lifetime / 5);
    let fresh = seconds(&token.refresh_in).map_or(latest, |wanted| wanted.max(REFRESH_IN_MIN).min(latest));
    Some(Token {
        secret: Secret::new(token.access_token),
        stale_at: sent_at + fresh,
        expired_at: sent_at + (lifetime - EXPIRED_BEFORE_MAX.min(lifetime / 10)),
    })
}

/// Entra's older endpoint and the identity endpoints send numbers as strings.
fn seconds(value: &Value) -> Option<Duration> {
    let whole = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    whole.map(Duration::from_secs)
}

/// RFC 6749 section 5.2, with Entra's additions.
pub(crate) fn read_error(response: &GraphResponse, now: SystemTime) -> TokenError {
    let retry_after = retry_after(response, now);
    let status = response.status;
    let body = response.whole_body(TOKEN_BODY_BYTES_MAX);
    let document: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    let error = document.get("error").and_then(Value::as_str);
    match status {
        429 => return TokenError::Throttled { retry_after },
        500..=599 => return TokenError::Unavailable { status, retry_after },
        _ if error == Some("temporarily_unavailable") => {
            return TokenError::Unavailable { status, retry_after };
        }
        400..=499 if error.is_some() => {}
        _ => return TokenError::InvalidResponse { status },
    }
    let aadsts = aadsts(&document);
    TokenError::Refused {
        reason: TokenRefusal::of(aadsts, error),
        aadsts,
        trace_id: document.get("trace_id").and_then(Value::as_str).and_then(|id| Uuid::try_parse(id).ok()),
    }
}

/// Reads the error of an identity endpoint. Only these statuses are transient ("Error handling", "Retry
/// guidance"); 404 and 410 mean that the endpoint is being updated.
pub(crate) fn read_identity_error(response: &GraphResponse, now: SystemTime) -> TokenError {
    let retry_after = retry_after(response, now);
    let status = response.status;
    match status {
        429 => TokenError::Throttled { retry_after },
        404 | 408 | 410 | 500..=599 => TokenError::Unavailable { status, retry_after },
        400..=499 => {
            let body = response.whole_body(TOKEN_BODY_BYTES_MAX);
            let document: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
            let aadsts = aadsts(&document);
            let known = TokenRefusal::of(aadsts, None);
            let reason = if known == TokenRefusal::Other { TokenRefusal::UnknownIdentity } else { known };
            TokenError::Refused { reason, aadsts, trace_id: None }
        }
        _ => TokenError::InvalidResponse { status },
    }
}

/// Returns the first of `error_codes`, else the number at the start of the description.
fn aadsts(document: &Value) -> Option<u32> {
    let listed = document.get("error_codes").and_then(|codes| codes.get(0)).and_then(Value::as_u64);
    if let Some(code) = listed {
        return u32::try_from(code).ok();
    }
    let digits = document.get("error_description")?.as_str()?.strip_prefix("AADSTS")?;
    let end = digits.find(|character: char| !character.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// A token becomes one header line, and servers accept 16 KiB of head at most.
const TOKEN_BYTES_MAX: usize = 15 * 1024;

/// Entra's tokens are valid for an hour; some are valid for a day.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// A token is renewed five minutes before it expires; a short-lived one after four fifths of its lifetime.
const STALE_BEFORE_MAX: Duration = Duration::from_secs(300);

/// Just before it expires, a token is no longer used: it could expire on its way.
const EXPIRED_BEFORE_MAX: Duration = Duration::from_secs(30);

/// A token is renewed once a minute at most, whatever the issuer wants.
const REFRESH_IN_MIN: Duration = Duration::from_secs(60);
