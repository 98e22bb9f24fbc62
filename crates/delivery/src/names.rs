//! The names of listed instances and of peer gateways: their addresses, looked up in the background.
//!
//! No request waits for a resolver. While a name cannot be looked up, its last addresses are used.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{Hash, Hasher},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, Id, JoinSet},
    time::{Instant, sleep},
};

use crate::{
    log_pace::LogPace,
    resolver::{FoundFamilies, FullName, LookupError, Resolver, in_hosts_file},
};

/// A name, and the addresses that it had when it was last looked up. Equal to any other with that name.
#[derive(Debug)]
pub(crate) struct ResolvedName {
    name: Box<str>,
    addresses: ArcSwap<AddressList>,
    looked_up: AtomicBool,
    /// Notified after the first look-up.
    first_look_up: Notify,
}

/// The addresses of a name, IPv4 first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AddressList {
    list: Vec<IpAddr>,
    /// The index of the address to connect to first.
    first: usize,
}

impl ResolvedName {
    /// A name that was not looked up yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            addresses: ArcSwap::default(),
            looked_up: AtomicBool::new(false),
            first_look_up: Notify::new(),
        }
    }

    /// Waits until the name was looked up once, successfully or not. It was, except just after the start.
    pub(crate) async fn looked_up(&self) {
        let first_look_up = self.first_look_up.notified();
        if !self.looked_up.load(Ordering::Acquire) {
            first_look_up.await;
        }
    }

    /// The addresses, in the order in which they are tried: it starts with the one that worked last.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let AddressList { mut list, first } = AddressList::clone(&self.addresses.load());
        list.rotate_left(first);
        list.into_iter()
    }

    /// Notes the address to try first from now on.
    pub(crate) fn start_with(&self, address: IpAddr) {
        let position = |known: &AddressList| known.list.iter().position(|one| *one == address);
        let known = self.addresses.load();
        if position(&known).is_some_and(|first| first != known.first) {
            self.addresses.rcu(|known| {
                let first = position(known).unwrap_or(known.first);
                AddressList { first, list: known.list.clone() }
            });
        }
    }

    /// Replaces the addresses of each family that was found.
    fn found(&self, found: &FoundFamilies) {
        self.addresses.rcu(|known| {
            let family = |found: &Option<Vec<IpAddr>>, is_family: fn(&IpAddr) -> bool| match found {
                Some(found) => found.clone(),
                None => known.list.iter().copied().filter(is_family).collect(),
            };
            let mut list = family(&found.v4, IpAddr::is_ipv4);
            list.sort_unstable();
            list.extend(family(&found.v6, IpAddr::is_ipv6));
            list.truncate(ADDRESSES_MAX);
            let before = known.list.get(known.first);
            let first = list.iter().position(|one| Some(one) == before).unwrap_or_default();
            AddressList { list, first }
        });
    }

    /// Looks the name up. Returns the time for which the result is valid.
    async fn look_up(
        &self,
        servers: &[SocketAddr],
        full_name: &mut Option<FullName>,
    ) -> Result<Duration, LookupError> {
        let found = match in_hosts_file(&self.name) {
            Some(found) => found,
            None => Resolver::new(servers)?.both_families(&self.name, full_name).await?,
        };
        self.found(&found);
        Ok(found.ttl)
    }
}

impl fmt::Display for ResolvedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl PartialEq for ResolvedName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ResolvedName {}

impl Hash for ResolvedName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The names of a fleet or of the peer gateways, which it keeps looked up.
#[derive(Debug, Default)]
pub(crate) struct Names {
    by_name: HashMap<Box<str>, Arc<ResolvedName>>,
}

impl Names {
    /// Returns the name with its addresses if it is known, else adds it.
    pub(crate) fn share(&mut self, name: Arc<ResolvedName>) -> Arc<ResolvedName> {
        Arc::clone(self.by_name.entry(name.name.clone()).or_insert(name))
    }

    /// Looks the names up whenever their addresses expire, until it is dropped.
    pub(crate) async fn follow(self, servers: &[SocketAddr]) {
        let mut lookups = Lookups::new(servers);
        lookups.replace(self);
        lookups.run().await;
    }
}

/// The look-ups of names that may be replaced.
pub(crate) struct Lookups {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    names: HashMap<Id, Arc<ResolvedName>>,
    running: HashMap<Box<str>, AbortHandle>,
}

impl Lookups {
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        let permits = Semaphore::new(LOOKUPS_AT_ONCE);
        let shared = Arc::new(Shared { servers: servers.into(), permits, log: Mutex::default() });
        Self { shared, tasks: JoinSet::new(), names: HashMap::new(), running: HashMap::new() }
    }

    /// Looks up these names from now on, and no others. A name that stays is not looked up anew.
    pub(crate) fn replace(&mut self, Names { mut by_name }: Names) {
        self.running.retain(|name, task| {
            let followed = self.names.get(&task.id());
            // A name that left and came back has other addresses to fill.
            let stays = by_name.get(name).zip(followed).is_some_and(|(new, old)| Arc::ptr_eq(new, old));
            if stays {
                by_name.remove(name);
            } else {
                task.abort();
                self.names.remove(&task.id());
                self.shared.log().left(name);
            }
            stays
        });
        by_name.into_values().for_each(|name| self.start(name));
    }

    fn start(&mut self, name: Arc<ResolvedName>) {
        let task = self.tasks.spawn(Arc::clone(&self.shared).follow(Arc::clone(&name)));
        self.running.insert(name.name.clone(), task.clone());
        self.names.insert(task.id(), name);
    }

    /// Keeps the look-ups running. It can be dropped, and called again.
    pub(crate) async fn run(&mut self) {
        // Only a panic ends a task that is followed. Without it, its name would keep its addresses for ever.
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
            let Some(name) = self.names.remove(&id) else { continue };
            // If this is dropped, `replace` starts it again.
            self.running.remove(&name.name);
            sleep(RETRY).await;
            self.start(name);
        }
        std::future::pending().await
    }
}

/// The parts that the look-ups of all names share.
struct Shared {
    servers: Box<[SocketAddr]>,
    permits: Semaphore,
    log: Mutex<NamesLog>,
}

/// Logs the names that cannot be looked up: all together, since they usually have one reason.
#[derive(Default)]
struct NamesLog {
    failing: HashSet<Box<str>>,
    pace: LogPace,
}

impl Shared {
    async fn follow(self: Arc<Self>, name: Arc<ResolvedName>) {
        let mut full_name = None;
        loop {
            let looked_up = match self.permits.acquire().await {
                // Boxed: few of many such tasks look up at a time.
                Ok(_permit) => Box::pin(name.look_up(&self.servers, &mut full_name)).await,
                Err(_) => return,
            };
            if !name.looked_up.swap(true, Ordering::Release) {
                name.first_look_up.notify_waiters();
            }
            self.log().note(&name, looked_up.as_ref().err(), Instant::now());
            sleep(looked_up.map_or(RETRY, |ttl| ttl.clamp(TTL_MIN, TTL_MAX))).await;
        }
    }

    fn log(&self) -> MutexGuard<'_, NamesLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NamesLog {
    /// Notes that a name is no longer looked up.
    fn left(&mut self, name: &str) {
        if self.failing.remove(name) && self.failing.is_empty() {
            self.pace.ended();
        }
    }

    fn note(&mut self, name: &ResolvedName, error: Option<&LookupError>, now: Instant) {
        let Some(error) = error else {
            if self.failing.remove(&name.name) && self.failing.is_empty() && self.pace.ended() {
                tracing::info!("names of upstreams can be looked up again");
            }
            return;
        };
        self.failing.insert(name.name.clone());
        if self.pace.is_due(error.label(), now) {
            tracing::warn!(
                host = &*name.name,
                reason = error.label(),
                error = error.to_string(),
                failing = self.failing.len(),
                "keeping the last addresses of a name: it was not looked up"
            );
        }
    }
}

/// The least time between two look-ups of a name: some records have a TTL of 0.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest time between two look-ups of a name, whatever its TTL: a machine that was rebuilt is found
/// again soon.
const TTL_MAX: Duration = Duration::from_secs(30);
/// The pause after a failed look-up.
const RETRY: Duration = Duration::from_secs(2);
/// Names that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// Addresses of one name. An instance has few; more are a mistake or an attack.
pub(crate) const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
mod tests;
