//! Who asks: the bearer token of a Graph request, and what it allows.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use http::{HeaderMap, header};
use openssl::sha::sha256;
use serde::Deserialize;
use uuid::Uuid;

use super::Refusal;
use crate::{clock::unix_seconds, encoding::from_base64_url, entra::Permission, server::header_text};

/// The tokens that this platform gave out: a signature would not tell more, and keys that rotate each second would
/// have to be kept for an hour.
#[derive(Debug, Default)]
pub(crate) struct Issued(Mutex<Digests>);

/// By SHA-256, so that no token lies around.
#[derive(Debug, Default)]
struct Digests {
    known: HashSet<[u8; 32]>,
    /// Oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Issued {
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

/// The app that asks, as its token says.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) app: Uuid,
    pub(super) tenant: Uuid,
    roles: Vec<String>,
}

impl Asker {
    pub(super) fn read(headers: &HeaderMap, issued: &Issued, now: SystemTime) -> Result<Self, Refusal> {
        let value =
            header_text(headers, &header::AUTHORIZATION).ok_or(Refusal::Token("Access token is empty."))?;
        let token = match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(Refusal::Token("Access token is empty.")),
        };
        let claims: Option<Claims> = token
            .split('.')
            .nth(1)
            .and_then(from_base64_url)
            .and_then(|payload| serde_json::from_slice(&payload).ok());
        let claims =
            claims.ok_or(Refusal::Token("CompactToken parsing failed: it is not a JWT of this API."))?;
        if !issued.knows(token) {
            return Err(Refusal::Token(
                "Invalid token: this emulator did not issue it, or was restarted since.",
            ));
        }
        if !AUDIENCES.contains(&claims.aud.trim_end_matches('/')) {
            return Err(Refusal::Token("Access token validation failure. Invalid audience."));
        }
        let now = unix_seconds(now);
        if claims.exp.saturating_add(SKEW_SECONDS) <= now {
            return Err(Refusal::Token("Lifetime validation failed, the token is expired."));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.saturating_add(SKEW_SECONDS)) {
            return Err(Refusal::Token("Lifetime validation failed, the token is not valid yet."));
        }
        let app = claims.appid.or(claims.azp).ok_or(Refusal::Token("The token names no app."))?;
        Ok(Self { app, tenant: claims.tid, roles: claims.roles })
    }

    /// Whether it has one of these permissions.
    pub(super) fn may(&self, any_of: &[Permission]) -> bool {
        any_of.iter().any(|permission| self.roles.iter().any(|role| role == permission.label()))
    }
}

#[derive(Deserialize)]
struct Claims {
    aud: String,
    exp: i64,
    nbf: Option<i64>,
    tid: Uuid,
    appid: Option<Uuid>,
    azp: Option<Uuid>,
    #[serde(default)]
    roles: Vec<String>,
}

const AUDIENCES: [&str; 4] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "00000003-0000-0000-c000-000000000000",
];

const SKEW_SECONDS: i64 = 300;

/// A token lives for an hour: two or three a second, all remembered.
const TOKENS_MAX: usize = 10_000;
