//! Every way in which a caller is not let in, split by whose fault it is.

use std::sync::Arc;

use uuid::Uuid;

/// Whose fault it is that a caller is not known.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// We cannot check anyone of this trust just now. The caller did nothing wrong: 503.
    #[error("no usable keys for {trust}")]
    KeysUnavailable {
        /// The trust's name.
        trust: Arc<str>,
    },
    /// The caller failed to prove who it is: 401. With the trust's name, once the token's issuer told it.
    #[error("token rejected")]
    Rejected(#[source] Rejection, Option<Arc<str>>),
    /// The caller proved who it is and is not allowed: 403. With the trust's name.
    #[error("caller not allowed")]
    Forbidden(#[source] Forbidden, Arc<str>),
}

impl AuthError {
    /// A stable name for logs and metrics: that of the detail.
    pub fn label(&self) -> &'static str {
        match self {
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::Rejected(rejection, _) => rejection.label(),
            Self::Forbidden(forbidden, _) => forbidden.label(),
        }
    }

    /// The trust, where the token told it. Before the signature is checked anyone may claim any issuer.
    pub fn trust(&self) -> Option<&str> {
        match self {
            Self::KeysUnavailable { trust } | Self::Forbidden(_, trust) => Some(trust),
            Self::Rejected(_, trust) => trust.as_deref(),
        }
    }
}

/// Why a token was rejected.
///
/// Callers should not behave differently by variant: it is for logs, metrics and tests. No variant holds a byte of the
/// token; what they hold is numbers, and names from our own lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The field is empty or was absent.
    #[error("no credentials")]
    NoCredentials,
    /// The field is not `Bearer`, one space, one token (RFC 6750 section 2.1).
    #[error("not a bearer credential")]
    NotBearer,
    /// The token is shorter or longer than any real one.
    #[error("token of {bytes} bytes")]
    TokenLength {
        /// Its length.
        bytes: usize,
    },
    /// Not three non-empty base64url segments between two dots (RFC 7515 section 3.1), or one of them is too long.
    #[error("not a compact JWS")]
    TokenShape,
    /// A segment is not base64url without padding in its one canonical form (RFC 7515 section 2).
    #[error("segment is not canonical base64url")]
    Encoding,
    /// The header is not a JSON object within the limits.
    #[error("header is not a JSON object within the limits")]
    HeaderSyntax,
    /// A member of the header has the wrong type.
    #[error("header member {0} is invalid")]
    HeaderInvalid(&'static str),
    /// The algorithm is not RS256 (RFC 8725 section 3.1).
    #[error("algorithm is not RS256")]
    Algorithm,
    /// The header says that this is something other than a JWT.
    #[error("typ is not a JWT")]
    Type,
    /// The header asks for something that we never do: a key of its own, an extension, encryption.
    #[error("header member {0} is refused")]
    HeaderRefused(&'static str),
    /// There is no key id, or it is not 1 to 128 visible ASCII characters.
    #[error("key id is absent or malformed")]
    KeyId,
    /// The payload is not a JSON object within the limits.
    #[error("claims are not a JSON object within the limits")]
    ClaimsSyntax,
    /// A name occurs twice in the header or among the claims: two readers could see two different tokens.
    #[error("a member occurs twice")]
    Duplicate,
    /// A name that we read occurs in another case, like `Iss`: two readers could see two different tokens.
    #[error("{0} is written in another case")]
    CaseVariant(&'static str),
    /// A required claim is absent.
    #[error("claim {0} is absent")]
    ClaimMissing(&'static str),
    /// A claim has the wrong type or shape.
    #[error("claim {0} is invalid")]
    ClaimInvalid(&'static str),
    /// No trust has this issuer.
    #[error("unknown issuer")]
    Issuer,
    /// The token is not for one of our apps.
    #[error("token is for someone else")]
    Audience,
    /// The token's time is over. Unix seconds.
    #[error("expired at {expired_at}, now {now}")]
    Expired {
        /// `exp`.
        expired_at: u64,
        /// The time given.
        now: u64,
    },
    /// The token's time has not come. Unix seconds.
    #[error("not valid before {not_before}, now {now}")]
    NotYetValid {
        /// The later of `nbf` and `iat`.
        not_before: u64,
        /// The time given.
        now: u64,
    },
    /// The token lives longer than any real one, or ends before it begins.
    #[error("lifetime is nothing or more than a day")]
    Lifetime,
    /// The two spellings of the tenant claim differ.
    #[error("two different tenants")]
    TenantConflict,
    /// The tenant is not the one in the issuer.
    #[error("tenant is not the issuer's")]
    TenantMismatch,
    /// `ver` does not go with the issuer, or the caller's claim does not go with `ver`.
    #[error("version does not go with the issuer")]
    Version,
    /// The issuer serves everyone, and the token does not name the calling service.
    #[error("calling app is absent")]
    CallerMissing,
    /// `appid` and `azp` differ.
    #[error("two different calling apps")]
    CallerConflict,
    /// A person is behind the token (`scp`, or an `idtyp` other than `app`); the platform calls as an app.
    #[error("not an app-only token")]
    NotAppOnly,
    /// The key is not in a set that was fetched within the cool-down.
    #[error("unknown key")]
    UnknownKey,
    /// The key may not sign for this issuer.
    #[error("key is of another issuer")]
    KeyIssuer,
    /// The signature is not that of the key.
    #[error("wrong signature")]
    Signature,
}

impl Rejection {
    /// Every label, in the order in which the rules are applied; for documents and metrics.
    pub const LABELS: [&'static str; 30] = [
        "no_credentials",
        "not_bearer",
        "token_length",
        "token_shape",
        "encoding",
        "header_syntax",
        "header_invalid",
        "algorithm",
        "type",
        "header_refused",
        "key_id",
        "claims_syntax",
        "duplicate",
        "case_variant",
        "claim_missing",
        "claim_invalid",
        "issuer",
        "audience",
        "expired",
        "not_yet_valid",
        "lifetime",
        "tenant_conflict",
        "tenant_mismatch",
        "version",
        "caller_missing",
        "caller_conflict",
        "not_app_only",
        "unknown_key",
        "key_issuer",
        "signature",
    ];

    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NoCredentials => "no_credentials",
            Self::NotBearer => "not_bearer",
            Self::TokenLength { .. } => "token_length",
            Self::TokenShape => "token_shape",
            Self::Encoding => "encoding",
            Self::HeaderSyntax => "header_syntax",
            Self::HeaderInvalid(_) => "header_invalid",
            Self::Algorithm => "algorithm",
            Self::Type => "type",
            Self::HeaderRefused(_) => "header_refused",
            Self::KeyId => "key_id",
            Self::ClaimsSyntax => "claims_syntax",
            Self::Duplicate => "duplicate",
            Self::CaseVariant(_) => "case_variant",
            Self::ClaimMissing(_) => "claim_missing",
            Self::ClaimInvalid(_) => "claim_invalid",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::Lifetime => "lifetime",
            Self::TenantConflict => "tenant_conflict",
            Self::TenantMismatch => "tenant_mismatch",
            Self::Version => "version",
            Self::CallerMissing => "caller_missing",
            Self::CallerConflict => "caller_conflict",
            Self::NotAppOnly => "not_app_only",
            Self::UnknownKey => "unknown_key",
            Self::KeyIssuer => "key_issuer",
            Self::Signature => "signature",
        }
    }
}

/// Why a known caller is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The tenant is not on the app's list.
    #[error("tenant {0} is not allowed")]
    Tenant(Uuid),
    /// The calling app is not on the trust's list.
    #[error("calling app {0} is not allowed")]
    Service(Uuid),
}

impl Forbidden {
    /// A stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant_forbidden",
            Self::Service(_) => "service_forbidden",
        }
    }
}
