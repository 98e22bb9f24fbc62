//! `CallbackUris`: writes the owner of a call into a URI, sealed, and reads it back.
//!
//! `https://{base}{path}/{region}/{instance}/{key id}.{incarnation}.{mac}`. Whoever can post to the platform's webhook
//! can post to any path; the seal proves that this owner was named by us, and for the app of the token. It is no
//! secret and grants nothing by itself: the sender must still hold a token of the platform.

mod owner;
mod seal;

use std::fmt;

use url::Url;
use uuid::Uuid;

use self::seal::Mac;
pub use self::{
    owner::{Owner, OwnerRef},
    seal::{InvalidSealKey, SealKey},
};
use crate::{
    endpoint::{InvalidUrl, check_origin},
    name::NameRef,
};

/// Writes and reads callback URIs.
#[derive(Debug)]
pub struct CallbackUris {
    /// Scheme, host and port.
    origin: String,
    /// From the first slash up to and with the last one before the region.
    path: String,
    signer: SealKey,
    /// Keys that signed before, or will sign next.
    others: Vec<SealKey>,
}

impl CallbackUris {
    /// `base` is an origin, `path` is like `/api/callbacks`; the first key signs, all of them verify.
    pub fn new(base: &Url, path: &str, keys: Vec<SealKey>) -> Result<Self, InvalidCallbackUris> {
        check_origin(base).map_err(InvalidCallbackUris::Base)?;
        if !is_plain_path(path) {
            return Err(InvalidCallbackUris::Path { path: path.to_owned() });
        }
        for (index, key) in keys.iter().enumerate() {
            if keys.iter().take(index).any(|earlier| earlier.id() == key.id()) {
                return Err(InvalidCallbackUris::DoubledKey { id: key.id().to_owned() });
            }
        }
        let mut keys = keys.into_iter();
        let Some(signer) = keys.next() else { return Err(InvalidCallbackUris::NoKey) };
        let origin = base.origin().ascii_serialization();
        let uris = Self { origin, path: format!("{path}/"), signer, others: keys.collect() };

        match uris.length_of_names(SHORTEST_NAMES_BYTES) {
            length if length > URI_BYTES_MAX => Err(InvalidCallbackUris::TooLong { length }),
            _ => Ok(uris),
        }
    }

    /// Whether the URI of `owner` is short enough for the platform.
    ///
    /// Three names of 63 characters and a common base are more than 250, so no base can promise that any names fit.
    /// Whoever adds an instance to a fleet asks here once; `mint` then needs no error in the middle of a call.
    pub fn check(&self, owner: OwnerRef<'_>) -> Result<(), CallbackUriError> {
        match self.length_of_names(owner.names().map(|name| name.as_str().len()).iter().sum()) {
            length if length > URI_BYTES_MAX => Err(CallbackUriError { length }),
            _ => Ok(()),
        }
    }

    /// The URI with which `owner` answers calls of `app`. At most 250 characters if `check` has accepted the owner.
    pub fn mint(&self, owner: &Owner, app: Uuid) -> String {
        let Owner { region, instance, incarnation } = owner;
        let key_id = self.signer.id();
        let mac = self.signer.seal(owner.as_ref(), app);
        format!("{}{}{region}/{instance}/{key_id}.{incarnation}.{mac}", self.origin, self.path)
    }

    /// Reads a raw request path; `None` if it does not have the shape of a callback.
    ///
    /// Nothing is decoded or normalised: `mint` writes no character that needs it, so a path that does was not ours.
    pub fn parse<'a>(&self, path: &'a str) -> Option<Sealed<'a>> {
        let (region, rest) = path.strip_prefix(&*self.path)?.split_once('/')?;
        let (instance, seal) = rest.split_once('/')?;
        // An incarnation may have dots; key ids and MACs have none.
        let (key_id, rest) = seal.split_once('.')?;
        let (incarnation, mac) = rest.rsplit_once('.')?;
        Some(Sealed {
            mac: Mac::parse(mac)?,
            key_id: NameRef::parse(key_id).ok()?,
            owner: OwnerRef {
                region: NameRef::parse(region).ok()?,
                instance: NameRef::parse(instance).ok()?,
                incarnation: NameRef::parse(incarnation).ok()?,
            },
        })
    }

    /// Checks the seal, in constant time, for the app of the token.
    pub fn open<'a>(&self, sealed: &Sealed<'a>, app: Uuid) -> Result<OwnerRef<'a>, SealError> {
        let mut keys = std::iter::once(&self.signer).chain(&self.others);
        let key = keys.find(|key| key.id() == sealed.key_id.as_str()).ok_or(SealError::UnknownKey)?;
        if key.seal(sealed.owner, app).is(&sealed.mac) { Ok(sealed.owner) } else { Err(SealError::Mismatch) }
    }

    /// The length of a URI whose region, instance and incarnation have `names` bytes together.
    fn length_of_names(&self, names: usize) -> usize {
        let punctuation = "/".len() + "/".len() + ".".len() + ".".len();
        self.origin.len() + self.path.len() + self.signer.id().len() + names + punctuation + Mac::TEXT_BYTES
    }
}

/// A callback path whose seal has not been checked: nothing can be read from it.
#[derive(Clone, Copy)]
pub struct Sealed<'a> {
    owner: OwnerRef<'a>,
    key_id: NameRef<'a>,
    mac: Mac,
}

impl fmt::Debug for Sealed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Why `CallbackUris` cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUris {
    /// Without a key nothing can be sealed.
    #[error("there is no seal key; at least one is needed")]
    NoKey,
    /// Two keys have one id, so it is not clear which one a URI means.
    #[error("two seal keys are named {id}; each needs its own id")]
    DoubledKey {
        /// The id.
        id: String,
    },
    /// The base is not an origin that the platform may be given.
    #[error("the callback base {0}")]
    Base(InvalidUrl),
    /// The path is one that a proxy could rewrite, or that is not a path.
    #[error(
        "the callback path {path:?} is not like /api/callbacks: segments of A-Z a-z 0-9 . _ ~ - (not `.` or `..`), each \
         after a slash, no slash at the end"
    )]
    Path {
        /// As it was given.
        path: String,
    },
    /// Base, path and key id leave no room for names.
    #[error(
        "the callback base, path and seal key id are too long: with the shortest of names a URI has {length} characters, \
         and 250 is the most"
    )]
    TooLong {
        /// Characters with names of one character each.
        length: usize,
    },
}

impl InvalidCallbackUris {
    /// A stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::DoubledKey { .. } => "doubled_key",
            Self::Base(_) => "base",
            Self::Path { .. } => "path",
            Self::TooLong { .. } => "too_long",
        }
    }
}

/// The URI of an owner would be longer than the platform is known to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the callback URI would have {length} characters, and 250 is the most; shorten the names, the base or the path"
)]
pub struct CallbackUriError {
    /// Characters that it would have.
    pub length: usize,
}

impl CallbackUriError {
    /// A stable name for logs.
    pub fn label(self) -> &'static str {
        "uri_too_long"
    }
}

/// Why a seal does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No such key id.
    #[error("unknown seal key")]
    UnknownKey,
    /// The MAC is not ours for this owner and app.
    #[error("wrong seal")]
    Mismatch,
}

impl SealError {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_seal_key",
            Self::Mismatch => "wrong_seal",
        }
    }
}

/// One or more segments that mean the same to every client and proxy: unreserved characters (RFC 3986 section 2.3) and
/// no dot segments.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
    };
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain))
}

/// No maximum is documented for `callbackUri`; that of `clientContext`, its neighbour in the same requests, is 256.
const URI_BYTES_MAX: usize = 250;

/// Region, instance and incarnation of one character each.
const SHORTEST_NAMES_BYTES: usize = 3;

#[cfg(test)]
mod tests;
