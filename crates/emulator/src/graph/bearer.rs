//! The bearer token of a Graph request: the app that it names, and the permissions that it grants.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use http::{HeaderMap, header};
use openssl::sha::sha256;
use serde::{Deserialize, de::IgnoredAny};
use uuid::Uuid;

use super::refusal::GraphRefusal;
use crate::{
    clock::{CLOCK_SKEW_SECONDS, unix_seconds},
    encoding::from_base64_url,
    entra::{GRAPH_RESOURCES, Permission},
    server::header_text,
};

/// The tokens that this platform issued.
///
/// Graph accepts only these. Checking signatures instead would prove no more, and keys that rotate every
/// second would have to be kept for an hour.
#[derive(Debug, Default)]
pub(crate) struct Issued(Mutex<Digests>);

/// The SHA-256 of each token, so that no token stays in memory.
#[derive(Debug, Default)]
struct Digests {
    known: HashSet<[u8; 32]>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Issued {
    /// Makes Graph accept a token. At the limit the oldest one is forgotten.
    pub(crate) fn remember(&self, token: &str) {
        let digest = sha256(token.as_bytes());
        let mut digests = self.lock();
        if digests.known.insert(digest) {
            digests.order.push_back(digest);
        }
        while digests.order.len() > TOKENS_MAX {
            if let Some(oldest) = digests.order.pop_front() {
                digests.known.remove(&oldest);
            }
        }
    }

    fn knows(&self, token: &str) -> bool {
        self.lock().known.contains(&sha256(token.as_bytes()))
    }

    fn lock(&self) -> MutexGuard<'_, Digests> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tokens and the time by which a request is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate<'a> {
    /// The accepted tokens. `None` accepts requests without a token.
    pub(crate) issued: Option<&'a Issued>,
    pub(crate) now: SystemTime,
    /// The origin that the request names.
    pub(crate) origin: &'a str,
}

/// The app that sends a request, as its token names it.
#[derive(Debug)]
pub(super) struct BearerApp {
    pub(super) id: Uuid,
    pub(super) tenant: Uuid,
    roles: Vec<String>,
}

impl BearerApp {
    /// Checks the token in the headers of a request.
    pub(super) fn read(headers: &HeaderMap, issued: &Issued, now: SystemTime) -> Result<Self, GraphRefusal> {
        let value = header_text(headers, &header::AUTHORIZATION)
            .ok_or(GraphRefusal::Token("Access token is empty."))?;
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(GraphRefusal::Token("Access token is empty.")),
        };
        let claims: Option<BearerClaims> = token
            .split('.')
            .nth(1)
            .and_then(from_base64_url)
            .and_then(|payload| serde_json::from_slice(&payload).ok());
        let claims =
            claims.ok_or(GraphRefusal::Token("CompactToken parsing failed: it is not a JWT of this API."))?;
        if !issued.knows(token) {
            return Err(GraphRefusal::Token(
                "Invalid token: this emulator did not issue it, or was restarted since.",
            ));
        }
        if !GRAPH_RESOURCES.contains(&claims.aud.trim_end_matches('/')) {
            return Err(GraphRefusal::Token("Access token validation failure. Invalid audience."));
        }
        if claims.cnf.is_some() {
            let message = "Access token validation failure. The token is bound to a key of its sender.";
            return Err(GraphRefusal::Token(message));
        }
        let (now, skew) = (unix_seconds(now), i64::from(CLOCK_SKEW_SECONDS));
        if claims.exp.saturating_add(skew) <= now {
            return Err(GraphRefusal::Token("Lifetime validation failed, the token is expired."));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(skew)) {
            return Err(GraphRefusal::Token("Lifetime validation failed, the token is not valid yet."));
        }
        let id = claims.appid.or(claims.azp).ok_or(GraphRefusal::Token("The token names no app."))?;
        Ok(Self { id, tenant: claims.tid, roles: claims.roles })
    }

    /// True if the token grants one of these permissions.
    pub(super) fn may(&self, any_of: &[Permission]) -> bool {
        any_of.iter().any(|permission| self.roles.iter().any(|role| role == permission.label()))
    }
}

#[derive(Deserialize)]
struct BearerClaims {
    aud: String,
    exp: i64,
    nbf: Option<i64>,
    tid: Uuid,
    appid: Option<Uuid>,
    azp: Option<Uuid>,
    cnf: Option<IgnoredAny>,
    #[serde(default)]
    roles: Vec<String>,
}

/// A token is valid for an hour, so this is enough for two or three new tokens a second.
const TOKENS_MAX: usize = 10_000;
