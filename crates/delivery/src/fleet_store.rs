//! The last known fleet on disk: it serves callbacks after a restart until the source can be read.

mod file;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, sleep, timeout},
};

use self::file::{FleetFile, StoreError, StoredFleet, StoredInstance};
use crate::{delivery::Delivery, error_chain::chain, fleet::Fleet};

impl Delivery {
    /// Restores the stored fleet, unless the fleet is known, and stores the fleet whenever it has changed,
    /// until it is dropped. Without [`store`](crate::DeliverySettings::store) it waits forever.
    ///
    /// Restored instances get their callbacks and no new calls. `clock` is the wall clock, for the age of the
    /// stored fleet. Spawn it once, beside [`run`](Self::run).
    pub async fn run_store(self: Arc<Self>, clock: impl Fn() -> SystemTime + Send) {
        let (Some(folder), Some(discovery)) = (&self.settings.store, &self.settings.discovery) else {
            return std::future::pending().await;
        };
        let file = Arc::new(FleetFile::new(folder.clone(), &self.settings.region, discovery.clone()));
        let unix_now = || clock().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.restore(&file, unix_now()).await;
        self.keep_stored(file, unix_now).await;
    }

    /// Loads the stored fleet, if there is one that may still be used and the source was not read meanwhile.
    async fn restore(&self, file: &Arc<FleetFile>, now: u64) {
        if self.is_known() {
            return;
        }
        let reading = Arc::clone(file);
        let read = timeout(DISK_TIME_MAX, spawn_blocking(move || reading.read(now))).await;
        match read {
            Ok(Ok(Ok(Some(StoredFleet { members, age })))) => {
                let mut names = self.fleet.load().origins().names();
                let members = members.into_iter().map(|member| member.with_shared_names(&mut names));
                let members = self.with_valid_uris(members.collect());
                self.replace_fleet(|fleet| {
                    (!fleet.is_known()).then(|| {
                        self.source_times.restored(age);
                        tracing::info!(
                            instances = members.len(),
                            age_s = age.as_secs(),
                            "stored fleet loaded: it serves callbacks until the source is read"
                        );
                        (members, false)
                    })
                });
            }
            Ok(Ok(Ok(None))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(error = chain(&error), "stored fleet ignored"),
            Ok(Err(_)) | Err(_) => tracing::warn!(error = SLOW_DISK, "stored fleet ignored"),
        }
    }

    /// Stores the fleet once it is known, after each change, and once per [`REFRESH`], so that its age is the
    /// time for which no gateway has had it.
    async fn keep_stored(&self, file: Arc<FleetFile>, unix_now: impl Fn() -> u64) {
        let mut stored: Option<Arc<Vec<StoredInstance>>> = None;
        let mut generation = None;
        let mut due_at = Instant::now();
        let mut log = StoreLog::default();
        loop {
            sleep(CHECK_INTERVAL).await;
            let fleet = self.fleet.load_full();
            let is_due = Instant::now() >= due_at;
            let current = Some(fleet.origins().generation());
            if !fleet.is_known() || !is_due && current == generation {
                continue;
            }
            generation = current;
            let (file, before, now) = (Arc::clone(&file), stored.clone().filter(|_| !is_due), unix_now());
            let writing = spawn_blocking(move || store(&file, &fleet, before, now));
            let written = log.wait(writing).await;
            let is_stored = written.is_ok();
            if !is_stored || is_due {
                due_at = Instant::now() + if is_stored { REFRESH } else { RETRY };
            }
            log.ended(&written);
            stored = written.ok();
        }
    }
}

/// Replaces the file, unless it has these instances already. Returns the stored instances.
fn store(
    file: &FleetFile,
    fleet: &Fleet,
    before: Option<Arc<Vec<StoredInstance>>>,
    now: u64,
) -> Result<Arc<Vec<StoredInstance>>, StoreError> {
    let members: Vec<_> = fleet.instances().iter().map(|instance| instance.member()).collect();
    let instances: Vec<_> = members.iter().filter_map(|member| file.stored(member)).collect();
    match before {
        Some(before) if *before == instances => Ok(before),
        Some(_) | None => {
            file.write(&instances, &members, now)?;
            Ok(Arc::new(instances))
        }
    }
}

/// Logs the errors of the store: each when it starts, and their end.
#[derive(Debug, Default)]
struct StoreLog {
    error: Option<String>,
}

impl StoreLog {
    /// Waits for a write, however long it takes: a disk that hangs gets no second one.
    async fn wait<T>(&mut self, mut writing: JoinHandle<Result<T, StoreError>>) -> Result<T, StoreError> {
        let joined = match timeout(DISK_TIME_MAX, &mut writing).await {
            Ok(joined) => joined,
            Err(_) => {
                self.failed(SLOW_DISK.to_owned());
                writing.await
            }
        };
        joined.unwrap_or_else(|error| Err(StoreError::Write(error.into())))
    }

    fn ended<T>(&mut self, written: &Result<T, StoreError>) {
        match written {
            Ok(_) if self.error.take().is_some() => tracing::info!("fleet stored again"),
            Ok(_) => {}
            Err(error) => self.failed(chain(error)),
        }
    }

    fn failed(&mut self, error: String) {
        if self.error.as_ref() != Some(&error) {
            tracing::warn!(error, "fleet not stored");
            self.error = Some(error);
        }
    }
}

/// The interval of checks for a change. A roll-out changes the fleet many times, and each write is synced.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which an unchanged fleet is stored again.
const REFRESH: Duration = Duration::from_secs(3600);
/// The pause after a write that failed, unless the fleet changes.
const RETRY: Duration = Duration::from_secs(60);
/// The time after which a disk counts as hanging. A start waits no longer for the stored fleet.
const DISK_TIME_MAX: Duration = Duration::from_secs(2);

const SLOW_DISK: &str = "the disk does not respond";

#[cfg(test)]
pub(crate) mod tests;
