//! `CallbackUris`: writes the owner of a call into a sealed URI, and reads it back.
//!
//! `https://{base}{path}/{region}/{instance}/{key id}.{incarnation}.{mac}`. A sender that can post to the
//! platform's webhook can post to any path. The seal proves that this gateway, or one with the same key,
//! named the owner, for the app of the token. The URI is not secret and grants nothing by itself: the sender
//! still needs a token of the platform.

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
///
/// ```
/// use switchboard_routing::{CallbackUris, Name, Owner, SealError, SealKey};
/// use url::Url;
/// use uuid::uuid;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let keys = vec![SealKey::new("k1", b"use `switchboard keygen` instead")?];
/// let uris = CallbackUris::new(&Url::parse("https://emea.bots.contoso.com")?, "/api/callbacks", keys)?;
/// let owner = Owner {
///     region: Name::parse("emea")?,
///     instance: Name::parse("bot-0")?,
///     incarnation: Name::parse("0")?,
/// };
///
/// let app = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
/// let uri = Url::parse(&uris.mint(&owner, app))?;
/// let sealed = uris.parse(uri.path()).ok_or("not a callback")?;
/// assert_eq!(owner, uris.open(&sealed, app)?);
///
/// let other_app = uuid!("00000000-0000-0000-0000-000000000001");
/// assert_eq!(uris.open(&sealed, other_app), Err(SealError::Mismatch));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct CallbackUris {
    /// Scheme, host and port.
    origin: String,
    /// From the first slash to the last slash before the region, inclusive.
    path: String,
    signer: SealKey,
    /// The keys that verify only.
    others: Vec<SealKey>,
}

impl CallbackUris {
    /// Creates the reader and writer. `base` is an origin, and `path` is like `/api/callbacks`. The first key
    /// signs; all keys verify.
    ///
    /// # Errors
    ///
    /// The base or the path is not safe, there is no key, two keys have one id, or no URI would be short
    /// enough.
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

    /// Checks that the URI of `owner` is short enough for the platform.
    ///
    /// Three names of 63 characters and a usual base have more than 250 characters, so no base guarantees
    /// that all names fit. Call this once when an instance joins the fleet; `mint` then needs no error in the
    /// middle of a call.
    ///
    /// # Errors
    ///
    /// The URI would be too long.
    pub fn check(&self, owner: OwnerRef<'_>) -> Result<(), CallbackUriError> {
        match self.length_of_names(owner.names().map(|name| name.as_str().len()).iter().sum()) {
            length if length > URI_BYTES_MAX => Err(CallbackUriError { length }),
            _ => Ok(()),
        }
    }

    /// Returns the URI with which `owner` answers calls of `app`. It has at most 250 characters if `check`
    /// accepts the owner.
    pub fn mint(&self, owner: &Owner, app: Uuid) -> String {
        let Owner { region, instance, incarnation } = owner;
        let key_id = self.signer.id();
        let mac = self.signer.seal(owner.as_ref(), app);
        format!("{}{}{region}/{instance}/{key_id}.{incarnation}.{mac}", self.origin, self.path)
    }

    /// Parses a raw request path; `None` if it does not have the shape of a callback.
    ///
    /// Nothing is decoded or normalised: `mint` writes no character that needs it, so a path with one is not
    /// from `mint`.
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

    /// Returns the parts of a callback path as texts, without a check of its seal; `None` as for
    /// [`CallbackUris::parse`]. For an explanation only: a request is delivered to the owner that
    /// [`CallbackUris::open`] returns.
    pub fn describe(&self, path: &str) -> Option<CallbackParts> {
        let Sealed { owner, key_id, mac: _ } = self.parse(path)?;
        let [region, instance, incarnation] = owner.names().map(|name| name.as_str().to_owned());
        Some(CallbackParts { region, instance, incarnation, key_id: key_id.as_str().to_owned() })
    }

    /// Returns the scheme, host and port of the URIs.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns the ids of the keys; the first one signs.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.signer).chain(&self.others).map(SealKey::id)
    }

    /// Checks the seal for the app of the token, in constant time, and returns the owner.
    ///
    /// # Errors
    ///
    /// The key is unknown, or it did not seal this owner for this app.
    pub fn open<'a>(&self, sealed: &Sealed<'a>, app: Uuid) -> Result<OwnerRef<'a>, SealError> {
        let mut keys = std::iter::once(&self.signer).chain(&self.others);
        let key = keys.find(|key| key.id() == sealed.key_id.as_str()).ok_or(SealError::UnknownKey)?;
        if key.seal(sealed.owner, app).is(&sealed.mac) { Ok(sealed.owner) } else { Err(SealError::Mismatch) }
    }

    /// Returns the length of a URI whose region, instance and incarnation have `names` bytes in total.
    fn length_of_names(&self, names: usize) -> usize {
        let punctuation = "/".len() + "/".len() + ".".len() + ".".len();
        self.origin.len() + self.path.len() + self.signer.id().len() + names + punctuation + Mac::TEXT_BYTES
    }
}

/// A callback path whose seal has not been checked. Nothing can be read from it.
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

/// The texts of a callback path whose seal was not checked. They prove nothing, and name no owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackParts {
    /// The region.
    pub region: String,
    /// The instance.
    pub instance: String,
    /// The incarnation of the instance.
    pub incarnation: String,
    /// The id of the seal key.
    pub key_id: String,
}

/// The reasons to refuse the settings of `CallbackUris`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCallbackUris {
    /// There is no key.
    #[error("there is no seal key; at least one is needed")]
    NoKey,
    /// Two keys have the same id.
    #[error("two seal keys are named {id}; each needs its own id")]
    DoubledKey {
        /// The id.
        id: String,
    },
    /// The base is not a safe origin.
    #[error("the callback base {0}")]
    Base(InvalidUrl),
    /// The path is not a path, or a proxy could rewrite it.
    #[error(
        "the callback path {path:?} is not like /api/callbacks: segments of A-Z a-z 0-9 . _ ~ - \
         (not `.` or `..`), each after a slash, no slash at the end"
    )]
    Path {
        /// The path as it was given.
        path: String,
    },
    /// The base, the path and the key id leave no room for names.
    #[error(
        "the callback base, path and seal key id are too long: with the shortest names a URI has {length} \
         characters, and at most 250 are allowed"
    )]
    TooLong {
        /// The number of characters with names of one character each.
        length: usize,
    },
}

impl InvalidCallbackUris {
    /// Returns a stable name for logs.
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

/// The URI of an owner would be longer than the platform is known to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the callback URI would have {length} characters, and at most 250 are allowed; \
     shorten the names, the base or the path"
)]
pub struct CallbackUriError {
    /// The number of characters that it would have.
    pub length: usize,
}

impl CallbackUriError {
    /// Returns a stable name for logs.
    pub fn label(self) -> &'static str {
        "uri_too_long"
    }
}

/// The reasons to refuse a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// No key has this id.
    #[error("unknown seal key")]
    UnknownKey,
    /// The key did not seal this owner for this app.
    #[error("invalid seal")]
    Mismatch,
}

impl SealError {
    /// Returns a stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnknownKey => "unknown_seal_key",
            Self::Mismatch => "wrong_seal",
        }
    }
}

/// Returns true for one or more segments that are the same for every client and proxy: unreserved characters
/// (RFC 3986 section 2.3) and no dot segments.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |segment: &str| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte))
    };
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_plain))
}

/// No maximum length of `callbackUri` is documented. That of `clientContext`, in the same requests, is 256.
const URI_BYTES_MAX: usize = 250;

/// Region, instance and incarnation of one character each.
const SHORTEST_NAMES_BYTES: usize = 3;

#[cfg(test)]
mod tests;
