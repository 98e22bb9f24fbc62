//! The kinds of tokens, their flaws, and the text that names both.

use std::{fmt, str::FromStr};

use crate::{keys::Issuer, words::words};

words! {
    /// The kind of a token.
    pub enum TokenKind {
        /// Signed by the Skype-like issuer; valid for 300 s, without `iat` and `ver`.
        Skype = "skype",
        /// As `skype`, from the issuer with a final slash, as reported of the GCC High cloud.
        SkypeSlash = "skype-slash",
        /// Entra, version 1.0: issuer `sts.windows.net`, caller in `appid`.
        EntraV1 = "entra-v1",
        /// Entra, version 2.0: issuer `login.microsoftonline.com`, caller in `azp`.
        EntraV2 = "entra-v2",
    }
}

impl TokenKind {
    pub(crate) fn issuer(self) -> Issuer {
        match self {
            Self::Skype | Self::SkypeSlash => Issuer::Skype,
            Self::EntraV1 | Self::EntraV2 => Issuer::Entra,
        }
    }
}

words! {
    /// The flaw of a token. A bot must refuse a token with any of them but `none`.
    pub enum Flaw {
        /// The token has no flaw.
        None = "none",
        /// Signed by an unpublished key under the id of a published one.
        Forged = "forged",
        /// Signed by an unpublished key under its own id.
        UnknownKey = "unknown-key",
        /// `alg` is `none` and there is no signature.
        Unsigned = "unsigned",
        /// Expired more than an hour ago.
        Expired = "expired",
        /// Valid in two hours.
        NotYetValid = "not-yet-valid",
        /// For another app.
        WrongAudience = "wrong-audience",
        /// From an issuer that no bot trusts.
        WrongIssuer = "wrong-issuer",
        /// `tid` is another tenant than that of the issuer (Entra) or of the call (Skype).
        WrongTenant = "wrong-tenant",
        /// Issued to another app than Microsoft's calling service.
        OtherCaller = "other-caller",
        /// Bound to a key of its sender (`cnf`, RFC 7800), which a bearer token cannot prove.
        Bound = "bound",
        /// Entra only: signed by a key of another cloud, which the key set contains too.
        OtherCloud = "other-cloud",
        /// Entra only: signed by a key of the tenant of personal accounts, which the key set contains too.
        ConsumerKey = "consumer-key",
        /// No token at all.
        Missing = "missing",
    }
}

impl Flaw {
    /// Returns true if a key of the issuer signed the token, so that the receiver must refuse it by its
    /// claims.
    pub(crate) fn is_signed_by_the_issuer(self) -> bool {
        match self {
            Self::None | Self::Expired | Self::NotYetValid => true,
            Self::WrongAudience | Self::WrongIssuer | Self::WrongTenant | Self::OtherCaller => true,
            Self::Bound => true,
            Self::Forged | Self::UnknownKey | Self::Unsigned => false,
            Self::OtherCloud | Self::ConsumerKey | Self::Missing => false,
        }
    }
}

/// A kind of token and its flaw: `skype`, `entra-v2`, `entra-v1+expired`.
///
/// A flaw alone, like `expired`, is that of the first kind that can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenChoice {
    /// The kind.
    pub kind: TokenKind,
    /// The flaw, or [`Flaw::None`].
    pub flaw: Flaw,
}

impl TokenChoice {
    /// The token that the platform sends today.
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
            Some((kind, flaw @ (Flaw::OtherCloud | Flaw::ConsumerKey))) if kind.issuer() == Issuer::Skype => {
                Err(InvalidTokenChoice::EntraOnly { flaw })
            }
            Some((kind, flaw)) => Ok(Self { kind, flaw }),
            None => Err(InvalidTokenChoice::Unknown),
        }
    }
}

/// The text is not a choice of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTokenChoice {
    /// The text is neither a kind, nor a flaw, nor both.
    #[error(
        "must be a kind ({}), a flaw ({}), or both like entra-v2+expired",
        TokenKind::WORDS.join(", "),
        Flaw::WORDS.join(", ")
    )]
    Unknown,
    /// The flaw needs keys that only the Entra-like issuer has.
    #[error("{flaw} is a flaw of Entra tokens: use entra-v1+{flaw} or entra-v2+{flaw}")]
    EntraOnly {
        /// The requested flaw.
        flaw: Flaw,
    },
}

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
        check("skype-slash+bound", Ok("skype-slash+bound"));
        check("bound", Ok("skype+bound"));
        check("entra-v1+none", Ok("entra-v1"));
        check("expired", Ok("skype+expired"));
        check("consumer-key", Ok("entra-v2+consumer-key"));
        check("skype-slash+other-cloud", Err("other-cloud is a flaw of Entra tokens"));
        check("skype+consumer-key", Err("consumer-key is a flaw of Entra tokens: use entra-v1+consumer-key"));
        for text in ["", "+", "expired+skype", "skype+expired+forged", "Skype"] {
            check(text, Err("must be a kind (skype, skype-slash, entra-v1, entra-v2), a flaw (none, forged"));
        }
    }
}
