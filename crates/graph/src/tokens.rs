//! `Tokens`: one token per tenant, and one request for all callers that wait for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{TokenError, token::TokenEndpoint, token_response::Token};

/// Tokens by tenant. A token that is about to expire is renewed in the background while it is still used. A
/// failure goes to all callers that waited for the request, and is not remembered.
pub(crate) struct Tokens {
    endpoint: Arc<TokenEndpoint>,
    /// Bounded: the tenant whose token was used least recently is evicted.
    tenants: Cache<Uuid, Arc<TenantToken>>,
}

#[derive(Default)]
struct TenantToken {
    /// Never held across an await.
    state: Mutex<TokenState>,
}

#[derive(Default)]
struct TokenState {
    token: Option<Arc<Token>>,
    pending: Option<PendingToken>,
    /// The time from which the next renewal is allowed. A first token is requested at once.
    renew_at: Option<Instant>,
}

/// A request in flight. `None` until it is finished.
type PendingToken = watch::Receiver<Option<Result<Arc<Token>, TokenError>>>;

impl Tokens {
    pub(crate) fn new(endpoint: TokenEndpoint) -> Self {
        let tenants =
            Cache::builder().max_capacity(TENANTS_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { endpoint: Arc::new(endpoint), tenants }
    }

    /// Returns a token for `tenant` that Graph has not refused yet. Dropping the future does not cancel the
    /// request.
    pub(crate) async fn token(&self, tenant: Uuid, now: SystemTime) -> Result<Arc<Token>, TokenError> {
        self.endpoint.serves(tenant)?;
        let entry = self.tenants.get_with(tenant, Arc::default);
        // Twice: the runtime of another thread may shut down, and take the pending request with it.
        for _ in 0..2 {
            let mut pending = match self.look_up(&entry, tenant, now) {
                Ok(token) => return Ok(token),
                Err(pending) => pending,
            };
            if let Ok(finished) = pending.wait_for(Option::is_some).await
                && let Some(result) = finished.clone()
            {
                return result;
            }
        }
        Err(TokenError::Interrupted)
    }

    /// Drops `token`, which Graph has refused. A token that has replaced it stays.
    pub(crate) fn forget(&self, tenant: Uuid, token: &Arc<Token>) {
        let Some(entry) = self.tenants.get(&tenant) else { return };
        let mut state = entry.lock();
        if state.token.as_ref().is_some_and(|held| Arc::ptr_eq(held, token)) {
            state.token = None;
        }
    }

    /// Returns the token, or the pending request for one.
    fn look_up(
        &self,
        entry: &Arc<TenantToken>,
        tenant: Uuid,
        now: SystemTime,
    ) -> Result<Arc<Token>, PendingToken> {
        let mut state = entry.lock();
        let at = Instant::now();
        let token = state.token.clone().filter(|token| at < token.expired_at);
        // If the sender was dropped, its runtime has shut down: the request is lost.
        let pending = state.pending.clone().filter(|pending| pending.has_changed().is_ok());
        let Some(token) = token else {
            return Err(pending.unwrap_or_else(|| self.start(entry, &mut state, tenant, now)));
        };
        if at >= token.stale_at && pending.is_none() && state.renew_at.is_none_or(|allowed| at >= allowed) {
            state.renew_at = Some(at + RENEWAL_PAUSE);
            self.start(entry, &mut state, tenant, now);
        }
        Ok(token)
    }

    /// Starts a request in a task of its own. It continues if the caller is dropped, and its connection stays
    /// with the runtime that opened it. Callers on any runtime share the result.
    fn start(
        &self,
        entry: &Arc<TenantToken>,
        state: &mut TokenState,
        tenant: Uuid,
        now: SystemTime,
    ) -> PendingToken {
        let (sender, pending) = watch::channel(None);
        state.pending = Some(pending.clone());
        let (endpoint, entry) = (Arc::clone(&self.endpoint), Arc::clone(entry));
        tokio::spawn(async move {
            let result = endpoint.request(tenant, now).await.map(Arc::new);
            entry.finish(&result, tenant);
            sender.send_replace(Some(result));
        });
        pending
    }
}

impl TenantToken {
    fn lock(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of a request.
    fn finish(&self, result: &Result<Arc<Token>, TokenError>, tenant: Uuid) {
        let mut state = self.lock();
        state.pending = None;
        match result {
            Ok(token) => {
                state.token = Some(Arc::clone(token));
                state.renew_at = None;
                tracing::debug!(tenant.id = %tenant, "Graph token obtained");
            }
            // Without a usable token, a caller waits for this error and reports it.
            Err(error) if state.token.as_ref().is_some_and(|token| Instant::now() < token.expired_at) => {
                let reason = error.label();
                tracing::warn!(
                    tenant.id = %tenant,
                    reason,
                    %error,
                    "keeping the old Graph token: the renewal failed"
                );
            }
            Err(_) => {}
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("tenants", &self.tenants.entry_count()).finish_non_exhaustive()
    }
}

/// More tenants than a bot serves at a time. With tokens of 2 KiB, this is 8 MiB.
const TENANTS_MAX: u64 = 4096;

/// The time between two attempts to renew a token that is still used: at most sixty attempts in five minutes.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
