//! The tokens of both issuers: the real shapes, and the flawed ones that a bot must refuse.

use std::{fmt, str::FromStr, time::SystemTime};

use openssl::error::ErrorStack;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    clock::unix_seconds,
    encoding::{base64_url, random_id},
    issuer::{SKYPE_ISSUER, entra_v1_issuer, entra_v2_issuer},
    keys::{Issuer, Keys, SigningKey},
    words::words,
};

words! {
    /// Which kind of token the platform shows.
    pub enum TokenKind {
        /// Signed by the Skype-like issuer; lives for 300 s, has no `iat` and no `ver`.
        Skype = "skype",
        /// Entra, version 1.0: issuer `sts.windows.net`, caller in `appid`.
        EntraV1 = "entra-v1",
        /// Entra, version 2.0: issuer `login.microsoftonline.com`, caller in `azp`.
        EntraV2 = "entra-v2",
    }
}

impl TokenKind {
    pub(crate) fn issuer(self) -> Issuer {
        match self {
            Self::Skype => Issuer::Skype,
            Self::EntraV1 | Self::EntraV2 => Issuer::Entra,
        }
    }
}

words! {
    /// What is wrong with a token; a bot must refuse each of these.
    pub enum Flaw {
        /// Nothing is wrong.
        None = "none",
        /// Signed by an unpublished key under the id of a published one.
        Forged = "forged",
        /// Signed by an unpublished key under its own id.
        UnknownKey = "unknown-key",
        /// `alg` is `none` and there is no signature.
        Unsigned = "unsigned",
        /// Valid until more than an hour ago.
        Expired = "expired",
        /// Valid in two hours.
        NotYetValid = "not-yet-valid",
        /// For another app.
        WrongAudience = "wrong-audience",
        /// From an issuer that nobody trusts.
        WrongIssuer = "wrong-issuer",
        /// `tid` is another tenant than the issuer (Entra) or the call (Skype) says.
        WrongTenant = "wrong-tenant",
        /// Issued to another app than Microsoft's calling service.
        OtherCaller = "other-caller",
        /// Entra only: signed by a key of another cloud, which the key set holds too.
        OtherCloud = "other-cloud",
        /// Entra only: signed by a key of the tenant of personal accounts, which the key set holds too.
        ConsumerKey = "consumer-key",
        /// There is no token at all.
        Missing = "missing",
    }
}

impl Flaw {
    /// Whether the issuer itself made the token, so that whoever trusts it must judge by the claims.
    pub(crate) fn is_signed_by_the_issuer(self) -> bool {
        match self {
            Self::None | Self::Expired | Self::NotYetValid => true,
            Self::WrongAudience | Self::WrongIssuer | Self::WrongTenant | Self::OtherCaller => true,
            Self::Forged | Self::UnknownKey | Self::Unsigned => false,
            Self::OtherCloud | Self::ConsumerKey | Self::Missing => false,
        }
    }
}

/// A kind of token and its flaw: `skype`, `entra-v2`, `expired` (of the first kind that can have it), `entra-v1+expired`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenChoice {
    /// The kind.
    pub kind: TokenKind,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl TokenChoice {
    /// The token that the platform shows today.
    pub const GOOD: Self = Self { kind: TokenKind::Skype, flaw: Flaw::None };
}

impl fmt::Display for TokenChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.flaw == Flaw::None { self.kind.fmt(f) } else { write!(f, "{}+{}", self.kind, self.flaw) }
    }
}

impl FromStr for TokenChoice {
    type Err = InvalidTokenChoice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, flaw) = match text.split_once('+') {
            Some((kind, flaw)) => (kind.parse().ok(), flaw.parse().ok()),
            None => match (text.parse(), text.parse()) {
                (Ok(kind), _) => (Some(kind), Some(Flaw::None)),
                (_, Ok(flaw @ (Flaw::OtherCloud | Flaw::ConsumerKey))) => {
                    (Some(TokenKind::EntraV2), Some(flaw))
                }
                (_, flaw) => (Some(TokenKind::Skype), flaw.ok()),
            },
        };
        match kind.zip(flaw) {
            Some((TokenKind::Skype, flaw @ (Flaw::OtherCloud | Flaw::ConsumerKey))) => {
                Err(InvalidTokenChoice::EntraOnly { flaw })
            }
            Some((kind, flaw)) => Ok(Self { kind, flaw }),
            None => Err(InvalidTokenChoice::Unknown),
        }
    }
}

/// Why a text is not a kind of token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenChoice {
    /// It is no word that is known.
    #[error("must be a kind ({}), a flaw ({}), or both like entra-v2+expired", TokenKind::WORDS.join(", "), Flaw::WORDS.join(", "))]
    Unknown,
    /// The flaw needs keys that only the Entra-like issuer has.
    #[error("{flaw} is a flaw of Entra tokens: use entra-v1+{flaw} or entra-v2+{flaw}")]
    EntraOnly {
        /// The flaw asked for.
        flaw: Flaw,
    },
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// The kind, and what is wrong with it.
    pub choice: TokenChoice,
    /// The app it is for.
    pub app: Uuid,
    /// The tenant of the call.
    pub tenant: Uuid,
    /// Claims to set or to remove.
    pub overrides: Overrides,
}

impl TokenRequest {
    /// A good token as the platform shows it today.
    pub fn new(app: Uuid, tenant: Uuid) -> Self {
        Self { choice: TokenChoice::GOOD, app, tenant, overrides: Overrides::default() }
    }
}

/// Claims that replace, complete or (where `null`) remove those of a token, applied last.
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

/// A token, and what is known of it.
#[derive(Clone)]
pub struct Token {
    /// The compact form (RFC 7515 section 3.1).
    pub compact: String,
    /// The key id in its header.
    pub kid: String,
    /// The second its `exp` was set to before overrides, since 1970.
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

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The flaw needs keys that only the Entra-like issuer has.
    #[error("{flaw} is a flaw of Entra tokens: use entra-v1+{flaw} or entra-v2+{flaw}")]
    EntraOnly {
        /// The flaw asked for.
        flaw: Flaw,
    },
    /// A missing token cannot be made.
    #[error("missing means no token at all: send the request without an authorization header")]
    NothingToMake,
    /// OpenSSL could not sign.
    #[error("openssl could not sign")]
    Crypto(#[from] ErrorStack),
}

impl MintError {
    /// A stable name for logs and answers.
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
        (Flaw::OtherCloud | Flaw::ConsumerKey, TokenKind::Skype) => {
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
        // Real tokens say `cty: "JWT"` although nothing is nested in them.
        (_, TokenKind::Skype) => json!({"alg": "RS256", "kid": kid, "typ": "JWT", "cty": "JWT", "x5t": kid}),
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

/// The compact form (RFC 7515 section 3.1), signed.
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
    let shift = match flaw {
        Flaw::Expired => -2 * ENTRA_LIFE_SECONDS,
        Flaw::NotYetValid => 2 * ENTRA_LIFE_SECONDS,
        Flaw::None
        | Flaw::Forged
        | Flaw::UnknownKey
        | Flaw::Unsigned
        | Flaw::WrongAudience
        | Flaw::WrongIssuer => 0,
        Flaw::WrongTenant | Flaw::OtherCaller | Flaw::OtherCloud | Flaw::ConsumerKey | Flaw::Missing => 0,
    };
    let now = unix_seconds(now).saturating_add(shift);
    let audience = if flaw == Flaw::WrongAudience { random_id()? } else { request.app };
    let tenant = if flaw == Flaw::WrongTenant { random_id()? } else { request.tenant };
    let caller = if flaw == Flaw::OtherCaller { random_id()? } else { CALLING_SERVICE };
    let issuer = match (flaw, kind) {
        (Flaw::WrongIssuer, _) => "https://issuer.example".to_owned(),
        (_, TokenKind::Skype) => SKYPE_ISSUER.to_owned(),
        (_, TokenKind::EntraV1) => entra_v1_issuer(request.tenant),
        (_, TokenKind::EntraV2) => entra_v2_issuer(request.tenant),
    };

    let mut claims = Map::new();
    let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    set("iss", issuer.into());
    set("aud", audience.to_string().into());
    set("tid", tenant.to_string().into());
    let expires_at = match kind {
        TokenKind::Skype => {
            set("appid", caller.to_string().into());
            set("nbf", now.into());
            now.saturating_add(SKYPE_LIFE_SECONDS)
        }
        TokenKind::EntraV1 | TokenKind::EntraV2 => {
            // Entra dates its tokens five minutes back, for receivers whose clock is behind.
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
    Ok((claims, expires_at))
}

/// Microsoft's "Skype Teams Calling API Service", the same in every tenant.
const CALLING_SERVICE: Uuid = Uuid::from_u128(0x26a1_8ebc_cdf7_4a6a_91cb_beb3_5280_5e81);

const SKYPE_LIFE_SECONDS: i64 = 300;
const ENTRA_LIFE_SECONDS: i64 = 3_900;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let choice =
            text.parse::<TokenChoice>().map(|choice| choice.to_string()).map_err(|error| error.to_string());
        match (choice, expected) {
            (Ok(choice), Ok(expected)) => assert_eq!(choice, expected),
            (Err(error), Err(expected)) => assert!(error.starts_with(expected), "{error}"),
            (choice, expected) => panic!("{choice:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn a_choice_is_a_kind_a_flaw_or_both() {
        check("skype", Ok("skype"));
        check("entra-v1+none", Ok("entra-v1"));
        check("expired", Ok("skype+expired"));
        check("consumer-key", Ok("entra-v2+consumer-key"));
        check("skype+consumer-key", Err("consumer-key is a flaw of Entra tokens: use entra-v1+consumer-key"));
        for text in ["", "+", "expired+skype", "skype+expired+forged", "Skype"] {
            check(text, Err("must be a kind (skype, entra-v1, entra-v2), a flaw (none, forged"));
        }
    }
}
