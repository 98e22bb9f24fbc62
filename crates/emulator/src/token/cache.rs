//! Tokens without a flaw, which the platform uses for every call of the same app, tenant and kind.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use uuid::Uuid;

use super::{
    choice::TokenKind,
    mint::{MintError, Token, TokenRequest, mint},
};
use crate::{clock, keys::Keys};

/// The latest token of each kind, app and tenant.
#[derive(Debug, Default)]
pub(crate) struct TokenCache(Mutex<HashMap<(TokenKind, Uuid, Uuid), Arc<Token>>>);

impl TokenCache {
    /// Returns the token of the last request, or a new one if its key no longer signs or it expires within a
    /// minute.
    ///
    /// The request must be for a token without a flaw and without overrides.
    pub(crate) fn token(
        &self,
        keys: &Keys,
        request: &TokenRequest,
        now: SystemTime,
    ) -> Result<Arc<Token>, MintError> {
        let place = (request.choice.kind, request.app, request.tenant);
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = held.get(&place) {
            let still_signs = keys.ring(request.choice.kind.issuer()).signing().kid() == token.kid;
            let left = token.expires_at.saturating_sub(clock::unix_seconds(now));
            // More than a whole lifetime is left after a clock that was ahead was set back.
            if still_signs && (60..=4_000).contains(&left) {
                return Ok(Arc::clone(token));
            }
        }
        let token = Arc::new(mint(keys, request, now)?);
        if held.len() >= TOKENS_MAX {
            held.clear();
        }
        held.insert(place, Arc::clone(&token));
        Ok(token)
    }
}

/// One for each tenant, app and kind in use.
const TOKENS_MAX: usize = 1_000;
