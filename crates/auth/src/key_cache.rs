//! When to use the keys at hand, fetch new ones, wait for them, or refuse to fetch.
//!
//! One actor a trust owns all fetching, in a task of its own: requests may run on any runtime, and one that is dropped
//! cancels nothing. It publishes the current set for whoever verifies, and the history of its attempts for whoever waits.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, Guard};
use openssl::rand::rand_bytes;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use url::Url;

use crate::{
    Fetch, FetchError, InvalidKeySet, KeyPolicy, KeySet, TrustStatus,
    authenticator::unix_seconds,
    discovery::{Discovery, DiscoveryError, METADATA_BYTES_MAX},
    keys::KEYS_BYTES_MAX,
    store::Store,
};

/// The keys of one trust.
pub(crate) struct KeyCache {
    trust: Arc<str>,
    metadata: Url,
    fetch: Arc<dyn Fetch>,
    policy: Arc<KeyPolicy>,
    store: Option<Store>,
    current: ArcSwap<Published>,
    attempts: watch::Sender<Attempts>,
    wanted: Notify,
    waiters: Semaphore,
    counters: Counters,
}

/// A key set as requests see it.
#[derive(Clone)]
pub(crate) struct Published {
    /// Grows with each set that verifies other tokens than the one before; 0 before the first.
    pub(crate) generation: u64,
    pub(crate) keys: Arc<KeySet>,
    /// The metadata's issuer, for keys that may sign for it.
    pub(crate) metadata_issuer: Option<Box<str>>,
    /// `None` before the first.
    freshness: Option<Freshness>,
}

/// How old a set was when, so that its age follows the monotonic clock even if it came from disk.
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

/// What the actor has tried.
#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    /// How many attempts have ended.
    ended: u64,
    last: Option<Attempt>,
}

/// A fetch of both documents.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// The cool-down counts from here, whatever comes of it: otherwise many waiters on a dead endpoint would become as
    /// many fetches in a row.
    started: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unfinished,
    Succeeded,
    Failed,
}

/// What the history says of a key that is not in the current set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    /// A set that was fetched within the cool-down does not have it.
    Missing,
    /// The last fetch failed, and it is too early for another.
    Unavailable,
    /// A fetch is under way.
    Wait,
    /// A fetch is allowed.
    Ask,
}

impl Attempts {
    /// `ended_before`: the attempts that had ended when the request began to look. One that has ended since has answered
    /// it, however short the cool-down.
    fn judge(&self, ended_before: u64, cooldown: Duration, now: Instant) -> Judgement {
        let Some(last) = self.last else { return Judgement::Wait };
        let counts = self.ended > ended_before || now.saturating_duration_since(last.started) < cooldown;
        match last.outcome {
            Outcome::Unfinished => Judgement::Wait,
            Outcome::Succeeded if counts => Judgement::Missing,
            Outcome::Failed if counts => Judgement::Unavailable,
            Outcome::Succeeded | Outcome::Failed => Judgement::Ask,
        }
    }
}

/// Why a key cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The issuer does not publish it: the token is to blame.
    Missing,
    /// We could not look: we are to blame.
    Unavailable,
}

#[derive(Debug, Default)]
struct Counters {
    ok: AtomicU64,
    failed: AtomicU64,
    held_back: AtomicU64,
}

impl KeyCache {
    pub(crate) fn new(trust: Arc<str>, metadata: Url, fetch: Arc<dyn Fetch>, policy: Arc<KeyPolicy>) -> Self {
        let store =
            policy.store.clone().map(|folder| Store::new(folder, Arc::clone(&trust), metadata.clone()));
        let nothing = Published {
            generation: 0,
            keys: Arc::new(KeySet::none()),
            metadata_issuer: None,
            freshness: None,
        };
        Self {
            trust,
            metadata,
            fetch,
            policy,
            store,
            current: ArcSwap::from_pointee(nothing),
            attempts: watch::Sender::new(Attempts::default()),
            wanted: Notify::new(),
            waiters: Semaphore::new(WAITERS_MAX),
            counters: Counters::default(),
        }
    }

    /// The same trust under new settings: it has the keys and the history, so that a reload neither forgets keys nor
    /// buys a fetch before its time.
    pub(crate) fn successor(&self, fetch: Arc<dyn Fetch>, policy: Arc<KeyPolicy>) -> Self {
        let next = Self::new(Arc::clone(&self.trust), self.metadata.clone(), fetch, policy);
        // The history before the keys, like every reader: keys are published before the attempt that brought them.
        let mut attempts = *self.attempts.borrow();
        // What is under way belongs to the old actor, which will soon be gone.
        if let Some(last) = &mut attempts.last
            && last.outcome == Outcome::Unfinished
        {
            last.outcome = Outcome::Failed;
        }
        next.attempts.send_replace(attempts);
        next.current.store(self.current.load_full());
        for (from, to) in [
            (&self.counters.ok, &next.counters.ok),
            (&self.counters.failed, &next.counters.failed),
            (&self.counters.held_back, &next.counters.held_back),
        ] {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        next
    }

    /// Whether `successor` may be asked for the trust of this name and address.
    pub(crate) fn is_of(&self, trust: &str, metadata: &Url) -> bool {
        *self.trust == *trust && self.metadata == *metadata
    }

    /// The current set, unless there is none or it has outlived its time.
    pub(crate) fn usable(&self) -> Option<Guard<Arc<Published>>> {
        let set = self.current.load();
        self.is_usable(&set, Instant::now()).then_some(set)
    }

    fn is_usable(&self, set: &Published, now: Instant) -> bool {
        set.freshness.is_some_and(|freshness| freshness.age(now) <= self.policy.keep_stale)
    }

    /// Waits, at most a second, until the current set has `key_id`, for a fetch that all requests share.
    pub(crate) async fn wait_for(&self, key_id: &str) -> Result<(), NoKey> {
        let mut attempts = self.attempts.subscribe();
        let ended_before = attempts.borrow().ended;
        // Within a flood of unknown keys and a silent endpoint, only so many may pile up.
        let Ok(_waiting) = self.waiters.try_acquire() else { return Err(NoKey::Unavailable) };
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let judgement =
                attempts.borrow_and_update().judge(ended_before, self.policy.cooldown, Instant::now());
            // Keys are published before the attempt that brought them, so this set is at least as new as the judgement.
            let has_key = self.usable().map(|set| set.keys.get(key_id).is_some());
            if has_key == Some(true) {
                return Ok(());
            }
            match judgement {
                // A set that has outlived its time may well have had the key: what it lacks it cannot tell.
                Judgement::Missing if has_key.is_none() => return Err(NoKey::Unavailable),
                Judgement::Missing => return Err(NoKey::Missing),
                Judgement::Unavailable => return Err(NoKey::Unavailable),
                Judgement::Ask => self.wanted.notify_one(),
                Judgement::Wait => {}
            }
            match timeout_at(deadline, attempts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(NoKey::Unavailable),
            }
        }
    }

    /// Keeps the keys fresh for ever.
    pub(crate) async fn run(&self, clock: &(dyn Fn() -> SystemTime + Send + Sync)) {
        let mut writing = None;
        if self.current.load().generation == 0 {
            self.load(unix_seconds(clock())).await;
        }
        let mut failures = 0_u32;
        let mut was_usable = true;
        let mut due = self.first_due();
        loop {
            self.until_due(due).await;
            let began = Instant::now();
            let mut document = self.metadata.clone();
            let succeeded = self.attempt(&mut document).await;
            let took_ms = began.elapsed().as_millis();
            match succeeded {
                Ok(()) => {
                    failures = 0;
                    self.report_success(took_ms);
                    self.save(unix_seconds(clock()), &mut writing);
                }
                Err(failure) => {
                    failures = failures.saturating_add(1);
                    self.report_failure(&failure, document, took_ms);
                }
            }
            let is_usable = self.usable().is_some();
            if was_usable && !is_usable {
                tracing::error!(
                    trust = &*self.trust,
                    "no usable keys: tokens of this trust cannot be checked"
                );
            }
            was_usable = is_usable;
            due = Instant::now()
                + if failures == 0 { jittered_refresh(self.policy.refresh) } else { back_off(failures) };
        }
    }

    /// At once, unless this is a successor with a history.
    fn first_due(&self) -> Instant {
        let now = Instant::now();
        match self.attempts.borrow().last {
            Some(Attempt { started, outcome: Outcome::Succeeded }) => {
                now.max(started + jittered_refresh(self.policy.refresh))
            }
            Some(Attempt { started, outcome: Outcome::Unfinished | Outcome::Failed }) => {
                now.max(started + back_off(1))
            }
            None => now,
        }
    }

    /// Until `due`, or until a request needs a fetch and the cool-down allows one.
    async fn until_due(&self, due: Instant) {
        loop {
            tokio::select! {
                () = sleep_until(due) => return,
                () = self.wanted.notified() => {
                    let judgement = self.attempts.borrow().judge(u64::MAX, self.policy.cooldown, Instant::now());
                    match judgement {
                        Judgement::Ask | Judgement::Wait => return,
                        // Asked for before the last attempt ended: answered.
                        Judgement::Missing | Judgement::Unavailable => {}
                    }
                }
            }
        }
    }

    /// One fetch, from its entry in the history to its outcome there. `document` is the one that was asked for last.
    async fn attempt(&self, document: &mut Url) -> Result<(), Failure> {
        self.attempts.send_modify(|attempts| {
            attempts.last = Some(Attempt { started: Instant::now(), outcome: Outcome::Unfinished });
        });
        let fetched = timeout(FETCH_TIME_MAX, self.fetch_documents(document)).await;
        let fetched = fetched.unwrap_or(Err(Failure::TooSlow));
        let result = fetched.and_then(|(keys, issuer)| self.publish(keys, issuer));
        match &result {
            Ok(()) => self.counters.ok.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.counters.failed.fetch_add(1, Ordering::Relaxed),
        };
        self.attempts.send_modify(|attempts| {
            attempts.ended += 1;
            if let Some(last) = &mut attempts.last {
                last.outcome = if result.is_ok() { Outcome::Succeeded } else { Outcome::Failed };
            }
        });
        result
    }

    async fn fetch_documents(&self, document: &mut Url) -> Result<(KeySet, Option<Box<str>>), Failure> {
        let metadata = self.fetch.get(&self.metadata, METADATA_BYTES_MAX).await?;
        let discovery = Discovery::parse(&metadata, &self.metadata)?;
        document.clone_from(&discovery.keys);
        let keys = self.fetch.get(document, KEYS_BYTES_MAX).await?;
        Ok((KeySet::parse_for(&keys, discovery.cloud.as_deref())?, discovery.issuer))
    }

    /// Puts a fetched set in force. A set without any usable key is an accident or an attack, and is held back; any other
    /// replaces the old one at once, so that what was withdrawn is refused from now on.
    fn publish(&self, keys: KeySet, metadata_issuer: Option<Box<str>>) -> Result<(), Failure> {
        for skipped in keys.skipped() {
            let (trust, key_id, reason) = (&*self.trust, skipped.key_id.as_deref(), skipped.reason.label());
            if skipped.reason.is_alarming() {
                tracing::error!(trust, key_id, reason, "the issuer publishes a key that must not be used");
            } else {
                tracing::debug!(trust, key_id, reason, "key skipped");
            }
        }
        if keys.is_empty() {
            self.counters.held_back.fetch_add(1, Ordering::Relaxed);
            return Err(Failure::NoUsableKey);
        }
        self.put_in_force(keys, metadata_issuer, Duration::ZERO);
        Ok(())
    }

    /// A set that verifies the same tokens keeps its generation, so that verified tokens stay remembered.
    fn put_in_force(&self, keys: KeySet, metadata_issuer: Option<Box<str>>, age: Duration) {
        let old = self.current.load();
        let freshness = Some(Freshness { age, at: Instant::now() });
        let next = if old.generation > 0
            && old.keys.verifies_like(&keys)
            && old.metadata_issuer == metadata_issuer
        {
            Published { freshness, ..Published::clone(&old) }
        } else {
            Published { generation: old.generation + 1, keys: Arc::new(keys), metadata_issuer, freshness }
        };
        self.current.store(Arc::new(next));
    }

    /// Starts from the stored set, if there is one that may still be used.
    async fn load(&self, now: u64) {
        let Some(store) = self.store.clone() else { return };
        let keep_stale = self.policy.keep_stale;
        let trust = &*self.trust;
        // A folder that hangs must not keep us from fetching.
        match timeout(STORE_TIME_MAX, spawn_blocking(move || store.read(now, keep_stale))).await {
            Ok(Ok(Ok(Some(stored)))) => {
                let age_s = stored.age.as_secs();
                self.put_in_force(stored.keys, stored.metadata_issuer, stored.age);
                let set = self.current.load();
                tracing::info!(
                    trust,
                    keys = set.keys.len(),
                    generation = set.generation,
                    age_s,
                    "keys read from the store"
                );
            }
            Ok(Ok(Ok(None))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(trust, error = chain(&error), "stored keys not used"),
            Ok(Err(_)) | Err(_) => tracing::warn!(trust, "stored keys not used: the store does not answer"),
        }
    }

    /// Writes the current set, beside the loop: a disk that hangs must not keep us from fetching either.
    fn save(&self, now: u64, writing: &mut Option<JoinHandle<()>>) {
        let Some(store) = self.store.clone() else { return };
        if writing.as_ref().is_some_and(|before| !before.is_finished()) {
            tracing::warn!(trust = &*self.trust, "keys not stored: the store does not answer");
            return;
        }
        let (trust, set) = (Arc::clone(&self.trust), self.current.load_full());
        *writing = Some(spawn_blocking(move || {
            let written = store
                .encode(&set.keys, set.metadata_issuer.as_deref(), now)
                .and_then(|bytes| store.write(&bytes));
            if let Err(error) = written {
                tracing::warn!(trust = &*trust, error = chain(&error), "keys not stored");
            }
        }));
    }

    fn report_success(&self, duration_ms: u128) {
        let set = self.current.load();
        let skipped = set.keys.skipped().len();
        tracing::info!(
            trust = &*self.trust,
            keys = set.keys.len(),
            skipped,
            generation = set.generation,
            duration_ms,
            "keys refreshed"
        );
    }

    /// What failed, with text from elsewhere escaped.
    fn report_failure(&self, failure: &Failure, document: Url, duration_ms: u128) {
        let trust = &*self.trust;
        let (reason, error, url) = (failure.label(), chain(failure), logged(document));
        match self.usable() {
            Some(set) => {
                let (keys, generation) = (set.keys.len(), set.generation);
                tracing::warn!(
                    trust,
                    url,
                    reason,
                    error,
                    duration_ms,
                    keys,
                    generation,
                    "keys not refreshed: the old ones stay"
                );
            }
            None => tracing::warn!(trust, url, reason, error, duration_ms, "keys not fetched"),
        }
    }

    /// For readiness and metrics.
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
        }
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Why a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("fetch failed")]
    Fetch(#[from] FetchError),
    #[error("fetch took too long")]
    TooSlow,
    #[error("metadata refused")]
    Discovery(#[from] DiscoveryError),
    #[error("key set refused")]
    Keys(#[from] InvalidKeySet),
    #[error("no usable key in the set")]
    NoUsableKey,
}

impl Failure {
    fn label(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.kind,
            Self::TooSlow => "too_slow",
            Self::Discovery(error) => error.label(),
            Self::Keys(error) => error.label(),
            Self::NoUsableKey => "no_usable_key",
        }
    }
}

/// An error and its sources in one line, control characters escaped.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.escape_debug().take(LOGGED_CHARS_MAX).collect()
}

/// A URL without what may be a secret in it. Its path may be an issuer's words, in ASCII as all of a URL.
fn logged(mut url: Url) -> String {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    String::from(url).chars().take(LOGGED_CHARS_MAX).collect()
}

/// `refresh` give or take 5 %, so that many gateways do not ask at once.
fn jittered_refresh(refresh: Duration) -> Duration {
    refresh - refresh / 20 + part(refresh / 10)
}

/// Twice as long after each failure, from 1 to 60 s, with up to a quarter of jitter.
fn back_off(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(BACK_OFF_BASE_MAX.ilog2() + 1);
    let base = Duration::from_secs((1_u64 << doublings).min(BACK_OFF_BASE_MAX));
    base + part(base / 4)
}

/// A random part of `whole`.
fn part(whole: Duration) -> Duration {
    let mut random = [0; 2];
    // Jitter spreads load and guards nothing, so a failing generator may leave it out.
    let random = rand_bytes(&mut random).map_or(0, |()| u16::from_ne_bytes(random));
    whole * u32::from(random) / u32::from(u16::MAX)
}

/// A request never waits longer for a fetch: the platform wants its answer within seconds.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// Both documents; the longest that an endpoint can keep an attempt open.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest that a store can delay the first fetch.
const STORE_TIME_MAX: Duration = Duration::from_secs(2);

/// Requests of one trust that may wait at a time; more are told to come again. Far more than a rotation makes.
const WAITERS_MAX: usize = 1024;

/// With its quarter of jitter this makes 60 s.
const BACK_OFF_BASE_MAX: u64 = 48;

/// Of an error; details may hold text from the network.
const LOGGED_CHARS_MAX: usize = 300;

#[cfg(test)]
mod tests;
