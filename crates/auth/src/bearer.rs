//! `Bearer`: the one valid shape of an `Authorization` field.

use std::fmt;

use openssl::sha::Sha256;

use crate::Rejection;

/// The token of an `Authorization` field. Only its length has been checked.
#[derive(Clone, Copy)]
pub(crate) struct Bearer<'a> {
    token: &'a [u8],
}

impl<'a> Bearer<'a> {
    /// Parses `Bearer` in any case, exactly one space and a token (RFC 6750 section 2.1; for the case of the
    /// scheme, RFC 9110 section 11.1).
    pub(crate) fn parse(field: &'a [u8]) -> Result<Self, Rejection> {
        if field.is_empty() {
            return Err(Rejection::NoCredentials);
        }
        let (scheme, token) = field.split_at_checked(SCHEME.len()).ok_or(Rejection::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(Rejection::Scheme);
        }
        if !(TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len()) {
            return Err(Rejection::TokenLength { bytes: token.len() });
        }
        Ok(Self { token })
    }

    /// Returns the bytes of the token.
    pub(crate) fn token(self) -> &'a [u8] {
        self.token
    }

    /// Returns the SHA-256 of all bytes of the token. The token cache uses it as its key, so that it contains
    /// no credentials. Two spellings of one token are two entries.
    pub(crate) fn digest(self) -> [u8; 32] {
        let mut sha = Sha256::new();
        sha.update(self.token);
        sha.finish()
    }
}

impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bearer([{} bytes])", self.token.len())
    }
}

/// The scheme and one space.
const SCHEME: &[u8] = b"Bearer ";

/// A shorter token cannot contain a header with a key id, and a signature.
pub(crate) const TOKEN_BYTES_MIN: usize = 64;

/// Real tokens have less than 2 KiB. The limit applies before any parsing, since the work grows with the
/// length (RFC 7515 section 10).
pub(crate) const TOKEN_BYTES_MAX: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &[u8], expected: Result<&[u8], Rejection>) {
        assert_eq!(Bearer::parse(field).map(Bearer::token), expected);
    }

    #[test]
    fn the_scheme_may_be_in_any_case() {
        let token = [b'a'; 64];
        for scheme in ["Bearer ", "bearer ", "BEARER "] {
            check(&[scheme.as_bytes(), &token].concat(), Ok(&token));
        }
    }

    #[test]
    fn other_credentials_are_not_bearer() {
        for field in [
            "Basic dXNlcjpwYXNz",
            "Bearer",
            "Bear",
            "Bearer\taaaa",
            "Bearer,aaaa",
            " Bearer aaaa",
            "Bearer\0x",
        ] {
            check(field.as_bytes(), Err(Rejection::Scheme));
        }
    }

    #[test]
    fn an_empty_field_has_no_credentials() {
        check(b"", Err(Rejection::NoCredentials));
    }

    #[test]
    fn the_length_is_checked_first() {
        check(b"Bearer ", Err(Rejection::TokenLength { bytes: 0 }));
        check(&[b"Bearer ", [b'a'; 63].as_slice()].concat(), Err(Rejection::TokenLength { bytes: 63 }));
        check(&[b"Bearer ", [b'a'; 8192].as_slice()].concat(), Ok(&[b'a'; 8192]));
        check(&[b"Bearer ", [b'a'; 8193].as_slice()].concat(), Err(Rejection::TokenLength { bytes: 8193 }));
    }

    #[test]
    fn debug_shows_no_token() {
        let field = [b"Bearer ".as_slice(), &[b'a'; 70]].concat();
        assert_eq!(format!("{:?}", Bearer::parse(&field).unwrap()), "Bearer([70 bytes])");
    }
}
