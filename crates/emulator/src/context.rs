//! The state that the calls, the loads and the requests of one platform share.

use std::{
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{task::JoinSet, time::Instant};

use crate::{
    call::CreatedCalls,
    client::Client,
    clock,
    faults::{ActiveFaults, Faults},
    graph::{Calls, Issued},
    history::History,
    keys::Keys,
    operation::OperationResponses,
    token::{MintError, Token, TokenCache, TokenRequest, mint},
};

/// The shared state of a platform. It knows no path and places no call.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) calls: Calls,
    /// The calls that the control API shows.
    pub(crate) history: History,
    pub(crate) faults: ActiveFaults,
    /// The tokens that calls share.
    pub(crate) tokens: TokenCache,
    /// The tokens that Graph accepts; `None` if Graph asks for no token.
    pub(crate) issued: Option<Issued>,
    /// The time limit of an attempt to post a notification.
    pub(crate) post_timeout: Duration,
    /// The time when bots learn the results of their operations.
    pub(crate) operations: OperationResponses,
    /// The other side of the calls that bots create.
    pub(crate) created_calls: CreatedCalls,
    keys: Mutex<Keys>,
    /// The number of times that all loads were stopped.
    load_stops: AtomicU64,
    tasks: Mutex<JoinSet<()>>,
}

impl Context {
    pub(crate) fn new(
        client: Client,
        keys: Keys,
        faults: Faults,
        issued: Option<Issued>,
        post_timeout: Duration,
        operations: OperationResponses,
        created_calls: CreatedCalls,
    ) -> Self {
        Self {
            client,
            calls: Calls::default(),
            history: History::default(),
            faults: ActiveFaults::new(faults),
            tokens: TokenCache::default(),
            issued,
            post_timeout,
            operations,
            created_calls,
            keys: Mutex::new(keys),
            load_stops: AtomicU64::new(0),
            tasks: Mutex::new(JoinSet::new()),
        }
    }

    /// Returns the keys as they are now: an announced key signs from its time on.
    pub(crate) fn keys(&self) -> MutexGuard<'_, Keys> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.advance(Instant::now());
        keys
    }

    /// Returns the time of the platform's clock, which a fault may have set wrong.
    pub(crate) fn now(&self) -> SystemTime {
        self.faults.clock(clock::now())
    }

    /// Makes a token. Graph accepts it if an issuer's own key signed it.
    pub(crate) fn mint(&self, request: &TokenRequest) -> Result<Token, MintError> {
        let token = mint(&self.keys(), request, self.now())?;
        if let Some(issued) = self.issued.as_ref().filter(|_| request.choice.flaw.is_signed_by_the_issuer()) {
            issued.remember(&token.compact);
        }
        Ok(token)
    }

    /// Returns a number that changes when all loads are stopped.
    pub(crate) fn load_stops(&self) -> u64 {
        self.load_stops.load(Ordering::Relaxed)
    }

    /// Stops all loads: they place no more calls. Calls that were placed go on.
    pub(crate) fn stop_loads(&self) {
        self.load_stops.fetch_add(1, Ordering::Relaxed);
    }

    /// Runs a task until it ends or the platform is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock_tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Aborts all tasks.
    pub(crate) fn abort_tasks(&self) {
        self.lock_tasks().abort_all();
    }

    fn lock_tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
