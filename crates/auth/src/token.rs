//! `DecodedToken`: a compact JWS. `UnverifiedToken`: one with a valid header. Neither signature has been
//! checked.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    Rejection,
    algorithm::Algorithm,
    json::{self, InvalidObject, ObjectLimits, Value},
};

/// The decoded segments of a token. Neither its header nor its payload has been parsed.
pub(crate) struct DecodedToken<'a> {
    header: Vec<u8>,
    signing_input: &'a [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> DecodedToken<'a> {
    /// Decodes the compact form (RFC 7515 section 3.1).
    pub(crate) fn decode(token: &'a [u8]) -> Result<Self, Rejection> {
        let segments = Segments::split(token)?;
        Ok(Self {
            header: decode(segments.header)?,
            signing_input: segments.signing_input,
            payload: decode(segments.payload)?,
            signature: decode(segments.signature)?,
        })
    }

    pub(crate) fn header(&self) -> Result<HeaderMembers<'_>, Rejection> {
        HeaderMembers::read(&self.header)
    }

    pub(crate) fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Returns the payload. Call it after checking the signature.
    pub(crate) fn into_payload(self) -> Vec<u8> {
        self.payload
    }
}

impl fmt::Debug for DecodedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DecodedToken")
    }
}

/// A token whose header meets all rules. Before the signature is checked, only the key id and the payload may
/// be used: the key id to find the key, the payload to find the trust and to refuse early.
pub(crate) struct UnverifiedToken<'t> {
    decoded: &'t DecodedToken<'t>,
    algorithm: Algorithm,
}

impl<'t> UnverifiedToken<'t> {
    pub(crate) fn new(decoded: &'t DecodedToken<'t>, header: &Header) -> Self {
        Self { decoded, algorithm: header.algorithm }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn signing_input(&self) -> &'t [u8] {
        self.decoded.signing_input
    }

    pub(crate) fn signature(&self) -> &'t [u8] {
        &self.decoded.signature
    }
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken")
    }
}

/// The three segments of a token, each within its limit.
struct Segments<'a> {
    header: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
    signing_input: &'a [u8],
}

impl<'a> Segments<'a> {
    /// Splits the token in one pass that stops at the third dot: a token of dots costs as little as any
    /// other. The decoder checks the alphabet.
    fn split(token: &'a [u8]) -> Result<Self, Rejection> {
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(Rejection::TokenShape);
        };
        let parts = || {
            let (signing_input, signature) = token.split_at_checked(second)?;
            let (header, payload) = signing_input.split_at_checked(first)?;
            let (payload, signature) = (payload.split_first()?.1, signature.split_first()?.1);
            Some(Self { header, payload, signature, signing_input })
        };
        let parts = parts().ok_or(Rejection::TokenShape)?;
        let within = |segment: &[u8], bytes_max| (1..=bytes_max).contains(&segment.len());
        // A JWS may have an empty payload (RFC 7515 section 3.1). A token then has no claims.
        if within(parts.header, HEADER_BYTES_MAX)
            && parts.payload.len() <= PAYLOAD_BYTES_MAX
            && within(parts.signature, SIGNATURE_BYTES_MAX)
        {
            Ok(parts)
        } else {
            Err(Rejection::TokenShape)
        }
    }
}

/// Decodes base64url without padding and with zero trailing bits, the only form in RFC 7515 section 2. A
/// lenient decoder would accept several spellings of one signature.
fn decode(segment: &[u8]) -> Result<Vec<u8>, Rejection> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| Rejection::Encoding)
}

/// The members of a header that are read. Members that are not in `NAMES` are ignored. Real tokens have some:
/// `cty: "JWT"` although they are not nested, and `x5t` besides `kid`.
pub(crate) struct HeaderMembers<'a> {
    alg: Option<Value<'a>>,
    kid: Option<Value<'a>>,
    typ: Option<Value<'a>>,
    /// The first member that is not supported.
    refused: Option<&'static str>,
}

/// A header that asks for RS256 or PS256 and for nothing that this crate does not support.
#[derive(Debug)]
pub(crate) struct Header {
    algorithm: Algorithm,
    pub(crate) key_id: Option<Arc<str>>,
}

impl<'a> HeaderMembers<'a> {
    fn read(header: &'a [u8]) -> Result<Self, Rejection> {
        let [alg, kid, typ, refused @ ..] =
            json::read(header, &NAMES, HEADER_LIMITS).map_err(|invalid| match invalid {
                InvalidObject::Syntax => Rejection::HeaderSyntax,
                InvalidObject::Duplicate => Rejection::Duplicate,
                InvalidObject::CaseVariant(name) => Rejection::CaseVariant(name),
            })?;
        let names = NAMES.iter().skip(NAMES.len() - refused.len());
        let refused = refused.iter().zip(names).find(|(value, _)| value.is_some()).map(|(_, name)| *name);
        Ok(Self { alg, kid, typ, refused })
    }

    /// Returns the value of `kid`, which may be malformed.
    pub(crate) fn key_id(&self) -> Option<&Value<'a>> {
        self.kid.as_ref()
    }

    /// Applies all rules for a header.
    pub(crate) fn check(&self) -> Result<Header, Rejection> {
        let algorithm = match &self.alg {
            Some(Value::Text(alg)) => Algorithm::parse(alg),
            Some(Value::OneText(_) | Value::Number(_) | Value::Other) | None => None,
        };
        let algorithm = algorithm.ok_or(Rejection::Algorithm)?;
        if let Some(name) = self.refused {
            return Err(Rejection::HeaderRefused(name));
        }
        match &self.typ {
            None => {}
            // Media types compare case-insensitively (RFC 7515 section 4.1.9).
            Some(Value::Text(typ)) if TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)) => {}
            Some(Value::Text(_)) => return Err(Rejection::Type),
            Some(Value::OneText(_) | Value::Number(_) | Value::Other) => {
                return Err(Rejection::HeaderInvalid("typ"));
            }
        }
        match &self.kid {
            None => Ok(Header { algorithm, key_id: None }),
            Some(Value::Text(kid)) if is_key_id(kid) => {
                Ok(Header { algorithm, key_id: Some(Arc::from(&**kid)) })
            }
            Some(Value::Text(_) | Value::OneText(_) | Value::Number(_) | Value::Other) => {
                Err(Rejection::KeyId)
            }
        }
    }
}

/// Returns true for 1 to 128 visible ASCII characters. A key id is only compared; it is never part of a path
/// or URL.
pub(crate) fn is_key_id(text: &str) -> bool {
    (1..=KEY_ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The header members that are read, then the ones that are refused: extensions (`crit`, and `b64`, which RFC
/// 7797 section 7 requires in `crit` but attackers leave out of it), compression and encryption, and keys
/// that the token contains or refers to (RFC 8725 section 3.10).
const NAMES: [&str; 11] = ["alg", "kid", "typ", "crit", "b64", "zip", "enc", "jku", "jwk", "x5u", "x5c"];

/// RFC 7519 section 5.1, RFC 9068 section 2.1.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// Real headers have five members and no nesting.
const HEADER_LIMITS: ObjectLimits = ObjectLimits { depth: 4, members: 32 };

/// The limit of the encoded header. Real ones have about 150 bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// The limit of the encoded payload. Real ones have less than 2 KiB.
const PAYLOAD_BYTES_MAX: usize = 6 * 1024;

/// The length of the encoded signature of the longest accepted key, 4096 bits.
const SIGNATURE_BYTES_MAX: usize = 683;

/// Microsoft's key ids have 27 characters.
const KEY_ID_BYTES_MAX: usize = 128;
