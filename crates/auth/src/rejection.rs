//! `AuthError`: the errors of authentication, split by whose fault they are.

use std::sync::Arc;

use uuid::Uuid;

use crate::caller::Sender;

/// The errors of authentication, split by whose fault they are.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No token of this trust can be checked at the moment. The sender did nothing wrong: 503.
    #[error("no usable keys for {trust}")]
    KeysUnavailable {
        /// The trust's name.
        trust: Arc<str>,
    },
    /// The key of the token is not in the current set. The set was fetched before the request arrived, and
    /// the cool-down does not allow another fetch yet, so the key may have been published since: 503.
    #[error("key not fetched yet from {trust}")]
    KeyNotFetched {
        /// The trust's name.
        trust: Arc<str>,
    },
    /// The sender did not prove who it is: 401. The second field is the trust's name, if the token names its
    /// issuer.
    #[error("token rejected")]
    Rejected(#[source] Rejection, Option<Arc<str>>),
    /// The sender proved who it is, and is not allowed: 403.
    #[error("caller not allowed")]
    Forbidden(#[source] Forbidden, Box<Sender>),
}

impl AuthError {
    /// Returns the stable name of the detail, for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::KeyNotFetched { .. } => "key_not_fetched",
            Self::Rejected(rejection, _) => rejection.label(),
            Self::Forbidden(forbidden, _) => forbidden.label(),
        }
    }

    /// Returns the name of the trust, if it is known. It proves nothing: before its signature is checked, a
    /// token may name any issuer.
    pub fn trust(&self) -> Option<&str> {
        match self {
            Self::KeysUnavailable { trust } | Self::KeyNotFetched { trust } => Some(trust),
            Self::Forbidden(_, sender) => Some(&sender.trust),
            Self::Rejected(_, trust) => trust.as_deref(),
        }
    }
}

/// Declares `Rejection`. Each row of the table is one variant: its documentation, its fields, its label, its
/// message.
macro_rules! rejections {
    ($(
        $(#[$doc:meta])*
        $variant:ident $({ $($member:tt)* })? $(($field:ty))? = $label:literal, $message:tt;
    )*) => {
        /// The reasons to reject a token.
        ///
        /// For logs, metrics and tests: a caller should treat all variants alike. No variant holds text of
        /// the token. They hold numbers, and names from this crate's own lists.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Rejection {
            $( $(#[$doc])* #[error($message)] $variant $({ $($member)* })? $(($field))?, )*
        }

        impl Rejection {
            /// All labels, in the order in which the rules are applied; for documents and metrics.
            pub const LABELS: &'static [&'static str] = &[$($label),*];

            /// Returns a stable name for logs and metrics.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant { .. } => $label,)* }
            }
        }
    };
}

rejections! {
    /// The field is empty or absent.
    NoCredentials = "no_credentials", "no credentials";

    /// The field is not `Bearer`, one space and one token (RFC 6750 section 2.1).
    Scheme = "not_bearer", "credentials are not a bearer token";

    /// The token is shorter or longer than any real token.
    TokenLength {
        /// The token's length.
        bytes: usize,
    } = "token_length", "token length of {bytes} bytes is out of range";

    /// The token is not three base64url segments with two dots between them (RFC 7515 section 3.1), its
    /// header or signature is empty, or a segment is too long.
    TokenShape = "token_shape", "token is not a compact JWS";

    /// A segment is not base64url without padding in its one canonical form (RFC 7515 section 2).
    Encoding = "encoding", "token segment is not canonical base64url";

    /// The header is not a JSON object within the limits.
    HeaderSyntax = "header_syntax", "header is not a JSON object within the limits";

    /// A member of the header has the wrong type.
    HeaderInvalid(&'static str) = "header_invalid", "header member {0} is invalid";

    /// The algorithm is neither RS256 nor PS256 (RFC 8725 section 3.1), or it is not that of the key.
    Algorithm = "algorithm", "algorithm is neither RS256 nor PS256, or not that of the key";

    /// The header says that the token is not a JWT.
    Type = "type", "typ is not a JWT";

    /// The header asks for a feature that this crate never uses: a key in the token, an extension,
    /// encryption.
    HeaderRefused(&'static str) = "header_refused", "header member {0} is not supported";

    /// The key id is absent, or it is not 1 to 128 visible ASCII characters.
    KeyId = "key_id", "key id is absent or malformed";

    /// The payload is not a JSON object within the limits.
    ClaimsSyntax = "claims_syntax", "claims are not a JSON object within the limits";

    /// A name occurs twice in the header or in the claims. Two parsers could read two different tokens.
    Duplicate = "duplicate", "a member name occurs twice";

    /// A name that this crate reads occurs in another case, like `Iss`. Two parsers could read two different
    /// tokens.
    CaseVariant(&'static str) = "case_variant", "{0} is written in another case";

    /// A required claim is absent.
    ClaimMissing(&'static str) = "claim_missing", "claim {0} is absent";

    /// A claim has the wrong type or shape.
    ClaimInvalid(&'static str) = "claim_invalid", "claim {0} is invalid";

    /// No trust has this issuer.
    Issuer = "issuer", "unknown issuer";

    /// The token is not for a configured app.
    Audience = "audience", "audience is not a configured app";

    /// The token has expired. Unix seconds.
    Expired {
        /// `exp`.
        expired_at: u64,
        /// The time of the check.
        now: u64,
    } = "expired", "expired at {expired_at}, now {now}";

    /// The token is not valid yet. Unix seconds.
    NotYetValid {
        /// The later of `nbf` and `iat`.
        not_before: u64,
        /// The time of the check.
        now: u64,
    } = "not_yet_valid", "not valid before {not_before}, now {now}";

    /// The token is valid for longer than any real token, or it expires before it becomes valid.
    Lifetime = "lifetime", "lifetime is not between zero and 28 hours";

    /// The two spellings of the tenant claim differ.
    TenantConflict = "tenant_conflict", "the tenant claims differ";

    /// The tenant is not the one in the issuer.
    TenantMismatch = "tenant_mismatch", "tenant differs from the tenant in the issuer";

    /// `ver` does not fit the issuer, or the caller's claim does not fit `ver`.
    Version = "version", "token version does not fit the issuer";

    /// The issuer serves every application, and the token does not name the calling service.
    CallerMissing = "caller_missing", "calling app is absent";

    /// `appid` and `azp` differ.
    CallerConflict = "caller_conflict", "appid and azp differ";

    /// The token was issued to a user (`scp`, or an `idtyp` other than `app`). The platform calls as an app.
    UserToken = "not_app_only", "token is not app-only";

    /// The token is bound to a key of its sender (`cnf`, RFC 7800). A webhook call cannot prove that key.
    BoundToken = "bound_token", "token is bound to a key of its sender";

    /// The key is not in the set that was fetched after the request had arrived.
    UnknownKey = "unknown_key", "unknown key";

    /// The key may not sign for this issuer.
    KeyIssuer = "key_issuer", "key belongs to another issuer";

    /// The signature was not made with the key.
    Signature = "signature", "invalid signature";
}

/// The reasons for which an authenticated caller is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// The tenant is not on the app's list.
    #[error("tenant {0} is not allowed")]
    Tenant(Uuid),
    /// The calling app is not on the trust's list.
    #[error("calling app {0} is not allowed")]
    Service(Uuid),
}

impl Forbidden {
    /// All labels, in the order in which the rules are applied; for documents and metrics.
    pub const LABELS: &'static [&'static str] = &["service_forbidden", "tenant_forbidden"];

    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant_forbidden",
            Self::Service(_) => "service_forbidden",
        }
    }
}
