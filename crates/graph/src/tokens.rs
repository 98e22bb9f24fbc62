//! `Tokens`: one token a tenant, one request for all who wait for it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{
    TokenError,
    token::{Token, TokenEndpoint},
};

/// Tokens by tenant. A token that is about to expire is renewed while it still serves; a failure is shared by those who
/// waited for it and forgotten.
pub(crate) struct Tokens {
    endpoint: Arc<TokenEndpoint>,
    /// Bounded; the tenant whose token was used longest ago is forgotten first.
    tenants: Cache<Uuid, Arc<Tenant>>,
}

#[derive(Default)]
struct Tenant {
    /// Never held across an await.
    slot: Mutex<Slot>,
}

#[derive(Default)]
struct Slot {
    token: Option<Arc<Token>>,
    flight: Option<Flight>,
    /// When a renewal may be tried; a first token is asked for at once, whenever somebody wants it.
    renew_at: Option<Instant>,
}

/// A request under way. `None` until it has landed.
type Flight = watch::Receiver<Option<Result<Arc<Token>, TokenError>>>;

impl Tokens {
    pub(crate) fn new(endpoint: TokenEndpoint) -> Self {
        let tenants =
            Cache::builder().max_capacity(TENANTS_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { endpoint: Arc::new(endpoint), tenants }
    }

    /// A token for `tenant` that Graph has not refused yet. Whoever stops waiting cancels nothing.
    pub(crate) async fn token(&self, tenant: Uuid, now: SystemTime) -> Result<Arc<Token>, TokenError> {
        let slot = self.tenants.get_with(tenant, Arc::default);
        // Twice: the runtime of another thread may end, and its flight with it.
        for _ in 0..2 {
            let mut flight = match self.look(&slot, tenant, now) {
                Ok(token) => return Ok(token),
                Err(flight) => flight,
            };
            if let Ok(landed) = flight.wait_for(Option::is_some).await
                && let Some(result) = landed.clone()
            {
                return result;
            }
        }
        Err(TokenError::Interrupted)
    }

    /// Drops `token`, which Graph has refused; not one that has come since.
    pub(crate) fn forget(&self, tenant: Uuid, token: &Arc<Token>) {
        let Some(tenant) = self.tenants.get(&tenant) else { return };
        let mut slot = tenant.lock();
        if slot.token.as_ref().is_some_and(|held| Arc::ptr_eq(held, token)) {
            slot.token = None;
        }
    }

    /// The token, or the flight that brings one.
    fn look(&self, tenant: &Arc<Tenant>, id: Uuid, now: SystemTime) -> Result<Arc<Token>, Flight> {
        let mut slot = tenant.lock();
        let at = Instant::now();
        let token = slot.token.clone().filter(|token| at < token.dead_at);
        // A sender that went away without a word: its runtime has ended.
        let flight = slot.flight.clone().filter(|flight| flight.has_changed().is_ok());
        let Some(token) = token else {
            return Err(flight.unwrap_or_else(|| self.launch(tenant, &mut slot, id, now)));
        };
        if at >= token.stale_at && flight.is_none() && slot.renew_at.is_none_or(|allowed| at >= allowed) {
            slot.renew_at = Some(at + RENEWAL_PAUSE);
            self.launch(tenant, &mut slot, id, now);
        }
        Ok(token)
    }

    /// Asks in a task of its own: the request outlives whoever began it, and its connection stays with the runtime that
    /// opened it, while waiters on any runtime share what comes of it.
    fn launch(&self, tenant: &Arc<Tenant>, slot: &mut Slot, id: Uuid, now: SystemTime) -> Flight {
        let (sender, flight) = watch::channel(None);
        slot.flight = Some(flight.clone());
        let (endpoint, tenant) = (Arc::clone(&self.endpoint), Arc::clone(tenant));
        tokio::spawn(async move {
            let result = endpoint.request(id, now).await.map(Arc::new);
            tenant.land(&result, id);
            sender.send_replace(Some(result));
        });
        flight
    }
}

impl Tenant {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn land(&self, result: &Result<Arc<Token>, TokenError>, id: Uuid) {
        let mut slot = self.lock();
        slot.flight = None;
        match result {
            Ok(token) => {
                slot.token = Some(Arc::clone(token));
                slot.renew_at = None;
                tracing::debug!(tenant.id = %id, "Graph token obtained");
            }
            // Without a token that serves there is somebody who waits, and is told.
            Err(error) if slot.token.as_ref().is_some_and(|token| Instant::now() < token.dead_at) => {
                let reason = error.label();
                tracing::warn!(tenant.id = %id, reason, %error, "Graph token not renewed: the old one still serves");
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

/// More tenants than a bot has busy at a time; with tokens of 2 KiB, 8 MiB.
const TENANTS_MAX: u64 = 4096;

/// Between two attempts to renew a token that still serves: five minutes have sixty.
const RENEWAL_PAUSE: Duration = Duration::from_secs(5);
