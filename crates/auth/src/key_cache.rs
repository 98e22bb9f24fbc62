//! `KeyCache`: the keys of one trust. Requests use the current set and wait for the next one; a refresher
//! replaces it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption, Guard};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, timeout_at},
};

use crate::{
    KeyPolicy, KeySet,
    fetch_history::{FetchAttempt, FetchHistory, Judgement},
};

/// The keys of one trust. A lookup of a known key never waits.
pub(crate) struct KeyCache {
    trust: Arc<str>,
    policy: Arc<KeyPolicy>,
    /// The authorities that vouch for the sets that will be fetched.
    ca_digest: Option<[u8; 32]>,
    current: ArcSwap<PublishedKeys>,
    history: watch::Sender<FetchHistory>,
    fetch_wanted: Notify,
    waiters: Semaphore,
    counters: FetchCounters,
    /// The time of the next fetch that no request asks for; `None` while no refresher runs.
    next_fetch: ArcSwapOption<Instant>,
    last_failure: ArcSwapOption<FailedFetch>,
}

/// The fetch that failed last.
#[derive(Debug)]
struct FailedFetch {
    at: Instant,
    error: Arc<str>,
}

/// A key set as requests see it.
#[derive(Clone)]
pub(crate) struct PublishedKeys {
    /// Grows with each set that verifies other tokens than the previous one; 0 before the first set.
    pub(crate) generation: u64,
    pub(crate) keys: Arc<KeySet>,
    /// The issuer in the metadata, for keys that may sign for it.
    pub(crate) metadata_issuer: Option<Box<str>>,
    /// The authorities that vouched for the endpoint when the set was fetched.
    ca_digest: Option<[u8; 32]>,
    /// `None` before the first set.
    freshness: Option<Freshness>,
}

impl PublishedKeys {
    /// No keys.
    fn none(generation: u64, ca_digest: Option<[u8; 32]>) -> Self {
        Self { generation, keys: Arc::new(KeySet::none()), metadata_issuer: None, ca_digest, freshness: None }
    }
}

/// The age of a set at one instant. From there on, the age follows the monotonic clock, even for a set from
/// disk.
#[derive(Clone, Copy, Debug)]
struct Freshness {
    age: Duration,
    at: Instant,
}

impl Freshness {
    fn age(self, now: Instant) -> Duration {
        self.age.saturating_add(now.saturating_duration_since(self.at))
    }
}

/// The reasons for which a key is not available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyLookupError {
    /// The issuer does not publish the key: the sender is at fault.
    Missing,
    /// The last fetch began before the request arrived, and the next one is not allowed yet: the key may have
    /// been published since.
    NotFetched,
    /// The keys could not be fetched: the gateway is at fault.
    Unavailable,
}

/// The state of one trust's keys.
#[derive(Clone, Debug)]
pub struct TrustStatus {
    /// The trust's name.
    pub name: Arc<str>,
    /// The number of usable keys; 0 if the set is too old.
    pub keys: usize,
    /// Grows with each new set.
    pub generation: u64,
    /// The time since the keys were fetched, by this process or by the one that stored them. `None` before
    /// the first set.
    pub age: Option<Duration>,
    /// The number of successful fetches since the start.
    pub fetches_ok: u64,
    /// The number of failed fetches since the start.
    pub fetches_failed: u64,
    /// The number of failed fetches that returned a set without a usable key. Such a set is not used.
    pub fetches_held_back: u64,
    /// The time until the next fetch that no request asks for; zero if it is due. `None` before the first is
    /// planned.
    pub next_fetch: Option<Duration>,
    /// The fetch that failed last, also after later ones that succeeded.
    pub last_failure: Option<KeyFetchFailure>,
}

/// A failed fetch of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFetchFailure {
    /// The time since it failed.
    pub age: Duration,
    /// The error with its causes, in one line. Text from the network in it is escaped, and cut.
    pub error: Arc<str>,
}

#[derive(Debug, Default)]
struct FetchCounters {
    ok: AtomicU64,
    failed: AtomicU64,
    held_back: AtomicU64,
}

impl KeyCache {
    pub(crate) fn new(trust: Arc<str>, policy: Arc<KeyPolicy>, ca_digest: Option<[u8; 32]>) -> Self {
        let nothing = PublishedKeys::none(0, ca_digest);
        Self {
            trust,
            policy,
            ca_digest,
            current: ArcSwap::from_pointee(nothing),
            history: watch::Sender::new(FetchHistory::default()),
            fetch_wanted: Notify::new(),
            waiters: Semaphore::new(WAITERS_MAX),
            counters: FetchCounters::default(),
            next_fetch: ArcSwapOption::empty(),
            last_failure: ArcSwapOption::empty(),
        }
    }

    /// Returns a cache of the same trust for a new policy. It takes over the keys and the history, so that a
    /// reload neither forgets keys nor allows a fetch before its time. Other authorities end the history: the
    /// keys must be fetched again at once.
    pub(crate) fn successor(&self, policy: Arc<KeyPolicy>, ca_digest: Option<[u8; 32]>) -> Self {
        let next = Self::new(Arc::clone(&self.trust), policy, ca_digest);
        // Read the history before the keys, as every reader does: keys are published before their fetch is
        // finished.
        let history = self.history.borrow().inherited();
        next.current.store(self.current.load_full());
        if !next.is_of_former_ca() {
            next.history.send_replace(history);
        }
        for (from, to) in [
            (&self.counters.ok, &next.counters.ok),
            (&self.counters.failed, &next.counters.failed),
            (&self.counters.held_back, &next.counters.held_back),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        next.last_failure.store(self.last_failure.load_full());
        next
    }

    /// Returns the current set, unless there is none or it is older than `keep_stale`.
    pub(crate) fn usable(&self) -> Option<Guard<Arc<PublishedKeys>>> {
        let set = self.current.load();
        self.is_usable(&set, Instant::now()).then_some(set)
    }

    fn is_usable(&self, set: &PublishedKeys, now: Instant) -> bool {
        set.freshness.is_some_and(|freshness| freshness.age(now) <= self.policy.keep_stale)
    }

    /// Waits, at most a second, until the current set contains `key_id`. All requests share one fetch.
    pub(crate) async fn wait_for(&self, key_id: &str) -> Result<(), KeyLookupError> {
        let mut history = self.history.subscribe();
        let started_before = history.borrow().started();
        // Bounds the requests that pile up when unknown keys flood in and the endpoint does not respond.
        let Ok(_waiting) = self.waiters.try_acquire() else { return Err(KeyLookupError::Unavailable) };
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let judgement =
                history.borrow_and_update().judge(started_before, self.policy.cooldown, Instant::now());
            // Keys are published before their fetch is finished, so this set is at least as new as the
            // judgement.
            let has_key = self.usable().map(|set| set.keys.get(key_id).is_some());
            if has_key == Some(true) {
                return Ok(());
            }
            match judgement {
                // No usable set: the one that is too old may have contained the key.
                Judgement::Missing | Judgement::NotFetched if has_key.is_none() => {
                    return Err(KeyLookupError::Unavailable);
                }
                Judgement::Missing => return Err(KeyLookupError::Missing),
                Judgement::NotFetched => return Err(KeyLookupError::NotFetched),
                Judgement::Unavailable => return Err(KeyLookupError::Unavailable),
                Judgement::AskForFetch => self.fetch_wanted.notify_one(),
                Judgement::Wait => {}
            }
            match timeout_at(deadline, history.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(KeyLookupError::Unavailable),
            }
        }
    }

    /// Waits until a request needs a fetch and the cool-down allows one. For the refresher.
    pub(crate) async fn fetch_wanted(&self) {
        loop {
            self.fetch_wanted.notified().await;
            let history = *self.history.borrow();
            match history.judge(history.started(), self.policy.cooldown, Instant::now()) {
                Judgement::AskForFetch | Judgement::Wait => return,
                // Another request has caused a fetch in the meantime.
                Judgement::Missing | Judgement::NotFetched | Judgement::Unavailable => {}
            }
        }
    }

    /// Records the start of a fetch.
    pub(crate) fn start_fetch(&self) {
        self.history.send_modify(|history| history.start(Instant::now()));
    }

    /// Records the outcome of a fetch and wakes the requests that wait for it. Call `replace` first if the
    /// fetch brought keys.
    pub(crate) fn finish_fetch(&self, succeeded: bool) {
        let counter = if succeeded { &self.counters.ok } else { &self.counters.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.history.send_modify(|history| history.finish(succeeded));
    }

    /// Notes when the refresher fetches next, unless a request asks for it before.
    pub(crate) fn plan_fetch(&self, at: Instant) {
        self.next_fetch.store(Some(Arc::new(at)));
    }

    /// Notes the error of a failed fetch, for operators. `error` is one harmless line.
    pub(crate) fn note_failure(&self, error: &str) {
        self.last_failure.store(Some(Arc::new(FailedFetch { at: Instant::now(), error: error.into() })));
    }

    /// Counts a fetched set without a usable key.
    pub(crate) fn count_held_back(&self) {
        self.counters.held_back.fetch_add(1, Ordering::Relaxed);
    }

    /// Replaces the current set. A set that verifies the same tokens keeps its generation, so that verified
    /// tokens stay in the token cache.
    pub(crate) fn replace(&self, keys: KeySet, metadata_issuer: Option<Box<str>>, age: Duration) {
        let old = self.current.load();
        let freshness = Some(Freshness { age, at: Instant::now() });
        let next = if old.generation > 0
            && old.keys.verifies_like(&keys)
            && old.metadata_issuer == metadata_issuer
        {
            PublishedKeys { freshness, ca_digest: self.ca_digest, ..PublishedKeys::clone(&old) }
        } else {
            PublishedKeys {
                generation: old.generation + 1,
                keys: Arc::new(keys),
                metadata_issuer,
                ca_digest: self.ca_digest,
                freshness,
            }
        };
        self.current.store(Arc::new(next));
    }

    /// Returns true if other authorities than today's vouched for the current set.
    pub(crate) fn is_of_former_ca(&self) -> bool {
        self.current.load().ca_digest != self.ca_digest
    }

    /// Drops the current set, and with it the tokens that it verified.
    pub(crate) fn drop_keys(&self) {
        let generation = self.current.load().generation + 1;
        self.current.store(Arc::new(PublishedKeys::none(generation, self.ca_digest)));
    }

    /// Returns the current set, usable or not.
    pub(crate) fn current(&self) -> Arc<PublishedKeys> {
        self.current.load_full()
    }

    pub(crate) fn last_fetch(&self) -> Option<FetchAttempt> {
        self.history.borrow().last()
    }

    pub(crate) fn ca_digest(&self) -> Option<[u8; 32]> {
        self.ca_digest
    }

    pub(crate) fn trust(&self) -> &Arc<str> {
        &self.trust
    }

    /// Returns the state of the keys, for readiness, metrics and operators.
    pub(crate) fn status(&self) -> TrustStatus {
        let set = self.current.load();
        let now = Instant::now();
        TrustStatus {
            name: Arc::clone(&self.trust),
            keys: if self.is_usable(&set, now) { set.keys.len() } else { 0 },
            generation: set.generation,
            age: set.freshness.map(|freshness| freshness.age(now)),
            fetches_ok: self.counters.ok.load(Ordering::Relaxed),
            fetches_failed: self.counters.failed.load(Ordering::Relaxed),
            fetches_held_back: self.counters.held_back.load(Ordering::Relaxed),
            next_fetch: self.next_fetch.load().as_deref().map(|at| at.saturating_duration_since(now)),
            last_failure: self.last_failure.load().as_deref().map(|failed| KeyFetchFailure {
                age: now.saturating_duration_since(failed.at),
                error: Arc::clone(&failed.error),
            }),
        }
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// No request waits longer for a fetch: the platform wants its response within seconds.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// The number of requests of one trust that may wait at a time. Far more than a key rotation causes; the rest
/// fails with `Unavailable` and may be sent again.
const WAITERS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// With `keep_stale` hardly longer than `refresh`, a set can expire before the next one is fetched.
    #[tokio::test(start_paused = true)]
    async fn a_set_that_is_too_old_does_not_prove_that_a_key_is_missing() {
        let policy = KeyPolicy {
            refresh: Duration::from_secs(100),
            cooldown: Duration::from_secs(3600),
            keep_stale: Duration::from_secs(101),
            store: None,
        };
        let cache = KeyCache::new("skype".into(), Arc::new(policy), None);
        let keys = KeySet::parse(include_bytes!("../../../fixtures/jwks/skype.json")).unwrap();
        let known = keys.key_ids().next().unwrap().to_owned();
        cache.start_fetch();
        cache.replace(keys, None, Duration::ZERO);
        cache.finish_fetch(true);

        tokio::time::advance(Duration::from_secs(101)).await;
        assert_eq!(cache.wait_for(&known).await, Ok(()));
        assert_eq!(cache.wait_for("unknown").await, Err(KeyLookupError::NotFetched));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(cache.wait_for(&known).await, Err(KeyLookupError::Unavailable));
    }
}
