//! `KeyRefresher`: the task that keeps the keys of one trust fresh.
//!
//! One task per trust makes all fetches. Requests may run on any runtime, and a request that is dropped
//! cancels no fetch.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use crate::{
    Fetch, FetchError, InvalidKeySet, KeyPolicy, KeySet,
    back_off::{back_off, jittered_refresh},
    clock::unix_seconds,
    discovery::{Discovery, DiscoveryError, METADATA_BYTES_MAX},
    fetch_history::{FetchAttempt, FetchOutcome},
    key::Skipped,
    key_cache::KeyCache,
    keys::KEYS_BYTES_MAX,
    log_text::{chain, public_parts},
    store::{Store, StoreError},
};

/// Fetches the keys of one trust, and stores them, for a `KeyCache`.
pub(crate) struct KeyRefresher {
    cache: Arc<KeyCache>,
    trust: Arc<str>,
    metadata: Url,
    fetch: Arc<dyn Fetch>,
    policy: Arc<KeyPolicy>,
    store: Option<Store>,
}

impl KeyRefresher {
    pub(crate) fn new(
        cache: Arc<KeyCache>,
        metadata: Url,
        fetch: Arc<dyn Fetch>,
        policy: Arc<KeyPolicy>,
    ) -> Self {
        let trust = Arc::clone(cache.trust());
        let store = policy
            .store
            .clone()
            .map(|folder| Store::new(folder, Arc::clone(&trust), metadata.clone(), cache.ca_digest()));
        Self { cache, trust, metadata, fetch, policy, store }
    }

    pub(crate) fn metadata(&self) -> &Url {
        &self.metadata
    }

    /// Keeps the keys fresh until it is dropped. `clock` is the wall clock, for the age of stored keys.
    pub(crate) async fn run(&self, clock: &(dyn Fn() -> SystemTime + Send + Sync)) {
        let mut writing = None;
        if self.cache.current().generation == 0 {
            self.load(unix_seconds(clock())).await;
        }
        let mut failures = 0_u32;
        let mut was_usable = true;
        let mut due = self.first_due();
        loop {
            self.cache.plan_fetch(due);
            tokio::select! {
                () = sleep_until(due) => {}
                () = self.cache.fetch_wanted() => {}
            }
            let started = Instant::now();
            let mut document = self.metadata.clone();
            let result = self.attempt(&mut document).await;
            let duration_ms = started.elapsed().as_millis();
            match result {
                Ok(()) => {
                    failures = 0;
                    self.report_success(duration_ms);
                    self.save(unix_seconds(clock()), &mut writing);
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.report_failure(&error, document, duration_ms);
                }
            }
            let is_usable = self.cache.usable().is_some();
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

    /// Returns the time of the first fetch: now, unless the cache took over a history.
    fn first_due(&self) -> Instant {
        let now = Instant::now();
        match self.cache.last_fetch() {
            Some(FetchAttempt { started, outcome: FetchOutcome::Succeeded }) => {
                now.max(started + jittered_refresh(self.policy.refresh))
            }
            Some(FetchAttempt { started, outcome: FetchOutcome::Unfinished | FetchOutcome::Failed }) => {
                now.max(started + back_off(1))
            }
            None => now,
        }
    }

    /// Makes one fetch and records it. `document` becomes the URL that was requested last.
    async fn attempt(&self, document: &mut Url) -> Result<(), KeyFetchError> {
        self.cache.start_fetch();
        let fetched = timeout(FETCH_TIME_MAX, self.fetch_documents(document)).await;
        let fetched = fetched.unwrap_or(Err(KeyFetchError::TooSlow));
        let result = fetched.and_then(|(keys, issuer)| self.publish(keys, issuer));
        self.cache.finish_fetch(result.is_ok());
        result
    }

    async fn fetch_documents(&self, document: &mut Url) -> Result<(KeySet, Option<Box<str>>), KeyFetchError> {
        fetch_documents(&*self.fetch, document).await
    }

    /// Publishes a fetched set. It replaces the old one at once, so that a withdrawn key is refused from now
    /// on. A set without a usable key is an accident or an attack: keep the old one.
    fn publish(&self, keys: KeySet, metadata_issuer: Option<Box<str>>) -> Result<(), KeyFetchError> {
        self.report_skipped(keys.skipped());
        if keys.is_empty() {
            self.cache.count_held_back();
            return Err(KeyFetchError::NoUsableKey { reasons: counted(keys.skipped()) });
        }
        self.cache.replace(keys, metadata_issuer, Duration::ZERO);
        Ok(())
    }

    /// Loads the stored set, if there is one that may still be used.
    async fn load(&self, now: u64) {
        let Some(store) = self.store.clone() else { return };
        let keep_stale = self.policy.keep_stale;
        let trust = &*self.trust;
        // A folder that hangs must not delay the first fetch for long.
        match timeout(
            STORE_TIME_MAX,
            spawn_blocking(move || {
                store.remove_leftovers(now);
                store.read(now, keep_stale)
            }),
        )
        .await
        {
            Ok(Ok(Ok(Some(stored)))) => {
                let age_s = stored.age.as_secs();
                self.cache.replace(stored.keys, stored.metadata_issuer, stored.age);
                let set = self.cache.current();
                tracing::info!(
                    trust,
                    keys = set.keys.len(),
                    generation = set.generation,
                    age_s,
                    "stored keys loaded"
                );
            }
            Ok(Ok(Ok(None))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(trust, error = chain(&error), "stored keys ignored"),
            Ok(Err(_)) | Err(_) => tracing::warn!(trust, "stored keys ignored: the store does not respond"),
        }
    }

    /// Reads the stored set if the cache has none, without a task. It blocks on the disk.
    pub(crate) fn read_stored(&self, now: u64) -> Result<(), StoreError> {
        let Some(store) = self.store.as_ref().filter(|_| self.cache.current().generation == 0) else {
            return Ok(());
        };
        if let Some(stored) = store.read(now, self.policy.keep_stale)? {
            self.cache.replace(stored.keys, stored.metadata_issuer, stored.age);
        }
        Ok(())
    }

    /// Stores the current set in the background: a disk that hangs must not delay the next fetch.
    fn save(&self, now: u64, writing: &mut Option<JoinHandle<()>>) {
        let Some(store) = self.store.clone() else { return };
        if writing.as_ref().is_some_and(|before| !before.is_finished()) {
            tracing::warn!(trust = &*self.trust, "keys not stored: the store does not respond");
            return;
        }
        let (trust, set) = (Arc::clone(&self.trust), self.cache.current());
        *writing = Some(spawn_blocking(move || {
            let written = store
                .encode(&set.keys, set.metadata_issuer.as_deref(), now)
                .and_then(|bytes| store.write(&bytes));
            if let Err(error) = written {
                tracing::warn!(trust = &*trust, error = chain(&error), "keys not stored");
            }
        }));
    }

    fn report_skipped(&self, skipped: &[Skipped]) {
        let trust = &*self.trust;
        for Skipped { key_id, reason } in
            skipped.iter().filter(|skipped| skipped.reason.is_alarming()).take(ALARMS_MAX)
        {
            let (key_id, reason) = (key_id.as_deref(), reason.label());
            tracing::error!(trust, key_id, reason, "the issuer publishes a key that must not be used");
        }
        if !skipped.is_empty() {
            tracing::warn!(trust, skipped = skipped.len(), reasons = counted(skipped), "keys skipped");
        }
    }

    fn report_success(&self, duration_ms: u128) {
        let set = self.cache.current();
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

    /// Reports a failed fetch. Keys that former authorities vouched for end here if the new ones do not vouch
    /// for the endpoint.
    fn report_failure(&self, error: &KeyFetchError, document: Url, duration_ms: u128) {
        let trust = &*self.trust;
        let is_of_former_ca = self.cache.is_of_former_ca();
        let is_untrusted =
            matches!(error, KeyFetchError::Fetch(error) if error.kind == FetchError::UNTRUSTED);
        let (reason, error, url) = (error.label(), chain(error), public_parts(document));
        self.cache.note_failure(&error);
        if is_of_former_ca && is_untrusted && !self.cache.current().keys.is_empty() {
            self.cache.drop_keys();
            tracing::error!(
                trust,
                url,
                reason,
                error,
                duration_ms,
                "keys dropped: the changed ca does not vouch for the endpoint"
            );
            return;
        }
        match self.cache.usable() {
            Some(set) => {
                let (keys, generation) = (set.keys.len(), set.generation);
                let former_ca = is_of_former_ca.then_some("the former ca vouched for the keys");
                tracing::warn!(
                    trust,
                    url,
                    reason,
                    error,
                    duration_ms,
                    keys,
                    generation,
                    note = former_ca,
                    "keeping the old keys: the refresh failed"
                );
            }
            None => tracing::warn!(trust, url, reason, error, duration_ms, "keys not fetched"),
        }
    }
}

/// Fetches the metadata at `document`, and the keys that it names. `document` becomes the URL that was
/// requested last.
async fn fetch_documents(
    fetch: &dyn Fetch,
    document: &mut Url,
) -> Result<(KeySet, Option<Box<str>>), KeyFetchError> {
    let metadata = fetch.get(document, METADATA_BYTES_MAX).await?;
    let discovery = Discovery::parse(&metadata, document)?;
    document.clone_from(&discovery.keys);
    let keys = fetch.get(document, KEYS_BYTES_MAX).await?;
    Ok((KeySet::parse_for(&keys, discovery.cloud.as_deref())?, discovery.issuer))
}

/// Fetches the keys of a trust once, as the authenticator does, and keeps nothing. For a diagnosis.
///
/// # Errors
///
/// The fetch brought no usable key. The URL is the one that was requested last.
pub async fn fetch_keys(metadata: &Url, fetch: &dyn Fetch) -> Result<KeySet, (Url, KeyFetchError)> {
    let mut document = metadata.clone();
    let fetched = timeout(FETCH_TIME_MAX, fetch_documents(fetch, &mut document)).await;
    match fetched.unwrap_or(Err(KeyFetchError::TooSlow)) {
        Ok((keys, _)) if keys.is_empty() => {
            Err((document, KeyFetchError::NoUsableKey { reasons: counted(keys.skipped()) }))
        }
        Ok((keys, _)) => Ok(keys),
        Err(error) => Err((document, error)),
    }
}

/// The reasons for which a fetch brought no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyFetchError {
    /// A document was not fetched.
    #[error("fetch failed")]
    Fetch(#[from] FetchError),
    /// The two documents took too long.
    #[error("fetch took longer than {} s", FETCH_TIME_MAX.as_secs())]
    TooSlow,
    /// The metadata is refused.
    #[error("metadata rejected")]
    Discovery(#[from] DiscoveryError),
    /// The document of the keys is refused.
    #[error("key set rejected")]
    Keys(#[from] InvalidKeySet),
    /// The set has no key that may be used.
    #[error("no usable key in the set; skipped: {reasons}")]
    NoUsableKey {
        /// The reasons of the skipped keys, with their counts.
        reasons: String,
    },
}

impl KeyFetchError {
    /// Returns a stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.kind,
            Self::TooSlow => "too_slow",
            Self::Discovery(error) => error.label(),
            Self::Keys(error) => error.label(),
            Self::NoUsableKey { .. } => "no_usable_key",
        }
    }
}

/// Returns the reasons of skipped keys, each with its count and the first ids, like `other_use 2 (a, b),
/// secret 1 (c)`; `none` without any.
fn counted(skipped: &[Skipped]) -> String {
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Skipped { key_id, reason } in skipped {
        reasons.entry(reason.label()).or_default().push(key_id.as_deref().unwrap_or("without id"));
    }
    let one = |(reason, ids): (&str, Vec<&str>)| {
        let shown = ids.iter().take(IDS_SHOWN).copied().collect::<Vec<_>>().join(", ");
        let more = if ids.len() > IDS_SHOWN { ", ..." } else { "" };
        format!("{reason} {} ({shown}{more})", ids.len())
    };
    if reasons.is_empty() {
        "none".to_owned()
    } else {
        reasons.into_iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

/// The key ids of one reason in one line of the log.
const IDS_SHOWN: usize = 3;

/// The alarms of one set.
const ALARMS_MAX: usize = 8;

/// The longest time that an endpoint can keep a fetch of both documents in flight.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

/// The longest time that a store can delay the first fetch.
const STORE_TIME_MAX: Duration = Duration::from_secs(2);
