//! Making a token: the shapes that both real issuers have, and the flawed tokens that a bot must refuse.

use std::{fmt, str::FromStr, time::SystemTime};

use openssl::error::ErrorStack;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::choice::{Flaw, TokenChoice, TokenKind};
use crate::{
    clock::unix_seconds,
    encoding::{base64_url, random_id},
    issuer::{SKYPE_ISSUER, SKYPE_SLASH_ISSUER, entra_v1_issuer, entra_v2_issuer},
    keys::{Keys, SigningKey},
};

/// A request for a token.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The kind and the flaw.
    pub choice: TokenChoice,
    /// The audience of the token.
    pub app: Uuid,
    /// The tenant of the call.
    pub tenant: Uuid,
    /// Claims to set or to remove.
    pub overrides: Overrides,
}

impl TokenRequest {
    /// Returns a request for the token that the platform sends today.
    pub fn new(app: Uuid, tenant: Uuid) -> Self {
        Self { choice: TokenChoice::GOOD, app, tenant, overrides: Overrides::default() }
    }
}

/// Claims that replace those of a token, add to them, or (where `null`) remove them. They are applied last.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Map<String, Value>);

impl Overrides {
    pub(crate) fn from_map(claims: Map<String, Value>) -> Self {
        Self(claims)
    }
}

impl FromStr for Overrides {
    type Err = InvalidOverrides;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json).map(Self).map_err(InvalidOverrides)
    }
}

/// The overrides are not a JSON object.
#[derive(Debug, thiserror::Error)]
#[error("not a JSON object of claims")]
pub struct InvalidOverrides(#[source] serde_json::Error);

/// A token, its key id and its expiry.
#[derive(Clone)]
pub struct Token {
    /// The compact form (RFC 7515 section 3.1).
    pub compact: String,
    /// The key id in its header.
    pub kid: String,
    /// The `exp` claim before overrides, in seconds since 1970.
    pub expires_at: i64,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("kid", &self.kid)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The error of making a token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The flaw needs keys that only the Entra-like issuer has.
    #[error("{flaw} is a flaw of Entra tokens: use entra-v1+{flaw} or entra-v2+{flaw}")]
    EntraOnly {
        /// The requested flaw.
        flaw: Flaw,
    },
    /// The requested token is a missing one.
    #[error("a missing token cannot be made: send the request without an authorization header")]
    NothingToMake,
    /// OpenSSL could not sign.
    #[error("openssl could not sign")]
    Crypto(#[from] ErrorStack),
}

impl MintError {
    /// Returns a stable name for logs and responses.
    pub fn label(&self) -> &'static str {
        match self {
            Self::EntraOnly { .. } => "entra_only",
            Self::NothingToMake => "nothing_to_make",
            Self::Crypto(_) => "crypto",
        }
    }
}

/// Makes a token.
pub(crate) fn mint(keys: &Keys, request: &TokenRequest, now: SystemTime) -> Result<Token, MintError> {
    let TokenChoice { kind, flaw } = request.choice;
    let signing = keys.ring(kind.issuer()).signing();
    let key: &SigningKey = match (flaw, kind) {
        (Flaw::Missing, _) => return Err(MintError::NothingToMake),
        (Flaw::OtherCloud | Flaw::ConsumerKey, TokenKind::Skype | TokenKind::SkypeSlash) => {
            return Err(MintError::EntraOnly { flaw });
        }
        (Flaw::OtherCloud, TokenKind::EntraV1 | TokenKind::EntraV2) => keys.other_cloud(),
        (Flaw::ConsumerKey, TokenKind::EntraV1 | TokenKind::EntraV2) => keys.consumer(),
        (Flaw::Forged | Flaw::UnknownKey, _) => keys.unpublished(),
        (_, _) => signing,
    };
    let kid = if flaw == Flaw::Forged { signing.kid() } else { key.kid() };

    let header = match (flaw, kind) {
        (Flaw::Unsigned, _) => json!({"alg": "none", "typ": "JWT", "kid": kid}),
        // Real tokens have `cty: "JWT"` although they contain no other token.
        (_, TokenKind::Skype | TokenKind::SkypeSlash) => {
            json!({"alg": "RS256", "kid": kid, "typ": "JWT", "cty": "JWT", "x5t": kid})
        }
        (_, TokenKind::EntraV1 | TokenKind::EntraV2) => {
            json!({"typ": "JWT", "alg": "RS256", "x5t": kid, "kid": kid})
        }
    };
    let (mut claims, expires_at) = claims(request, now)?;
    for (name, value) in &request.overrides.0 {
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }

    let compact = if flaw == Flaw::Unsigned {
        format!("{}.", signing_input(&header, &claims))
    } else {
        sign(key, &header, &claims)?
    };
    Ok(Token { compact, kid: kid.to_owned(), expires_at })
}

/// Signs a token and returns its compact form (RFC 7515 section 3.1).
pub(crate) fn sign(
    key: &SigningKey,
    header: &Value,
    claims: &Map<String, Value>,
) -> Result<String, ErrorStack> {
    let mut compact = signing_input(header, claims);
    let signature = key.sign(compact.as_bytes())?;
    compact.push('.');
    compact.push_str(&base64_url(&signature));
    Ok(compact)
}

fn signing_input(header: &Value, claims: &Map<String, Value>) -> String {
    // Serialising a map of JSON values cannot fail.
    let claims = serde_json::to_vec(claims).unwrap_or_default();
    format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(&claims))
}

fn claims(request: &TokenRequest, now: SystemTime) -> Result<(Map<String, Value>, i64), MintError> {
    let TokenChoice { kind, flaw } = request.choice;
    let shift = if flaw == Flaw::Expired {
        -2 * ENTRA_LIFE_SECONDS
    } else if flaw == Flaw::NotYetValid {
        2 * ENTRA_LIFE_SECONDS
    } else {
        0
    };
    let now = unix_seconds(now).saturating_add(shift);
    let audience = if flaw == Flaw::WrongAudience { random_id()? } else { request.app };
    let tenant = if flaw == Flaw::WrongTenant { random_id()? } else { request.tenant };
    let caller = if flaw == Flaw::OtherCaller { random_id()? } else { CALLING_SERVICE };
    let issuer = match (flaw, kind) {
        (Flaw::WrongIssuer, _) => "https://issuer.example".to_owned(),
        (_, TokenKind::Skype) => SKYPE_ISSUER.to_owned(),
        (_, TokenKind::SkypeSlash) => SKYPE_SLASH_ISSUER.to_owned(),
        (_, TokenKind::EntraV1) => entra_v1_issuer(request.tenant),
        (_, TokenKind::EntraV2) => entra_v2_issuer(request.tenant),
    };

    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", issuer.into());
    set("aud", audience.to_string().into());
    set("tid", tenant.to_string().into());
    let expires_at = match kind {
        TokenKind::Skype | TokenKind::SkypeSlash => {
            set("appid", caller.to_string().into());
            set("nbf", now.into());
            now.saturating_add(SKYPE_LIFE_SECONDS)
        }
        TokenKind::EntraV1 | TokenKind::EntraV2 => {
            // Entra dates its tokens back by five minutes, for receivers with a slow clock.
            let issued_at = now.saturating_sub(300);
            let subject = random_id()?.to_string();
            let (caller_claim, method_claim, version) = if kind == TokenKind::EntraV1 {
                ("appid", "appidacr", "1.0")
            } else {
                ("azp", "azpacr", "2.0")
            };
            set(caller_claim, caller.to_string().into());
            set(method_claim, "2".into());
            set("iat", issued_at.into());
            set("nbf", issued_at.into());
            set("oid", subject.as_str().into());
            set("sub", subject.into());
            set("uti", random_id()?.simple().to_string().into());
            set("ver", version.into());
            issued_at.saturating_add(ENTRA_LIFE_SECONDS)
        }
    };
    set("exp", expires_at.into());
    if flaw == Flaw::Bound {
        // The member that Entra sets in a token that needs a proof of possession.
        set("cnf", json!({"kid": random_id()?.simple().to_string()}));
    }
    Ok((claims, expires_at))
}

/// Microsoft's "Skype Teams Calling API Service", the same in every tenant.
const CALLING_SERVICE: Uuid = Uuid::from_u128(0x26a1_8ebc_cdf7_4a6a_91cb_beb3_5280_5e81);

const SKYPE_LIFE_SECONDS: i64 = 300;
const ENTRA_LIFE_SECONDS: i64 = 3_900;
