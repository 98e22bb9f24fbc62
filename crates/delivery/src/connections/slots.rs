//! The slots of a pool: one per origin, each with a lock of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::ThreadId,
    time::Duration,
};

use tokio::time::Instant;

use super::{connection::UpstreamConnection, response_head::IdleTime};
use crate::origins::{Origins, ProcessOrigin};

/// The slots of one list of origins.
#[derive(Default)]
pub(super) struct Slots {
    /// The generation of the origins.
    generation: u64,
    /// The trust number that the TLS connections were made with.
    trust: u64,
    list: Vec<Arc<Slot>>,
}

/// The idle connections to one process at one origin.
pub(crate) struct Slot {
    key: ProcessOrigin,
    /// Held for a search of a few entries, and never across an await.
    idle: Mutex<Idle>,
    count: Arc<IdleCount>,
    /// The time for which a connection may be idle if the upstream does not say.
    idle_time: Duration,
}

#[derive(Default)]
struct Idle {
    /// The one used last comes last.
    connections: Vec<IdleConnection>,
    /// The last time that a thread took a connection of another one.
    borrowed: Option<(ThreadId, Instant)>,
}

/// A connection without a request.
pub(super) struct IdleConnection {
    pub(super) connection: UpstreamConnection,
    pub(super) since: Instant,
    pub(super) until: Instant,
}

/// The idle connections of all slots, and their bound.
#[derive(Debug)]
pub(super) struct IdleCount {
    count: AtomicUsize,
    max: usize,
}

impl Slots {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Arc<Slot>> {
        self.list.get(slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.list.iter().map(|slot| &**slot)
    }

    /// The slots of newer origins. Origins whose process stays keep their connections.
    pub(super) fn successor(&self, origins: &Origins, count: &Arc<IdleCount>, idle_time: Duration) -> Self {
        // The peer of a TLS connection was verified with the trust anchors of the earlier settings.
        let is_trusted = |key: &ProcessOrigin| self.trust == origins.trust() || !key.origin.secure;
        let kept: HashMap<&ProcessOrigin, &Arc<Slot>> =
            self.list.iter().filter(|slot| is_trusted(&slot.key)).map(|slot| (&slot.key, slot)).collect();
        let slot = |key: &ProcessOrigin| match kept.get(key) {
            Some(slot) => Arc::clone(slot),
            None => Arc::new(Slot::new(key.clone(), Arc::clone(count), idle_time)),
        };
        Self {
            generation: origins.generation(),
            trust: origins.trust(),
            list: origins.list().iter().map(slot).collect(),
        }
    }

    /// Takes the `number` connections that have been idle for longest.
    pub(super) fn take_oldest(&self, number: usize) -> impl Iterator<Item = IdleConnection> {
        let mut ages: Vec<Instant> = Vec::new();
        for slot in &self.list {
            ages.extend(slot.lock().connections.iter().map(|one| one.since));
        }
        ages.sort_unstable();
        ages.truncate(number);
        let newest = ages.last().copied();
        let mut oldest = Vec::with_capacity(ages.len());
        for slot in &self.list {
            let Some(newest) = newest else { break };
            let left = number.saturating_sub(oldest.len());
            oldest.extend(slot.remove(|one| one.since <= newest).take(left));
        }
        oldest.into_iter()
    }
}

impl Slot {
    fn new(key: ProcessOrigin, count: Arc<IdleCount>, idle_time: Duration) -> Self {
        Self { key, idle: Mutex::default(), count, idle_time }
    }

    /// An open connection: the one used last, of `thread` if it has one. The first one used is the last one
    /// used again: that keeps few of them warm. The upstream may be closing it.
    pub(crate) fn take(&self, thread: ThreadId, now: Instant) -> Option<UpstreamConnection> {
        loop {
            let mut idle = self.lock();
            let at = idle.find(thread, now)?;
            let mut taken = idle.connections.remove(at);
            // Unlocked first: the check may read from the connection.
            drop(idle);
            self.count.subtract(1);
            if taken.connection.is_open() {
                return Some(taken.connection);
            }
        }
    }

    /// Keeps a connection. At the bound it takes the place of the oldest one here, or is closed.
    pub(super) fn keep(&self, connection: UpstreamConnection, idle: IdleTime) {
        let since = Instant::now();
        let until = match idle {
            IdleTime::Default => since + self.idle_time,
            IdleTime::Of(time) => since + time,
        };
        let connection = IdleConnection { connection, since, until };
        let mut idle = self.lock();
        let has_room = self.count.try_add();
        let oldest =
            if has_room || idle.connections.is_empty() { None } else { Some(idle.connections.remove(0)) };
        if has_room || oldest.is_some() {
            idle.connections.push(connection);
        }
        // Unlocked first: closing a connection takes a system call.
        drop(idle);
        drop(oldest);
    }

    /// Closes the connections whose time is over, and the connections that the upstream has closed.
    pub(super) fn sweep(&self, now: Instant) {
        self.remove(|one| one.until <= now || !one.connection.is_open()).for_each(drop);
    }

    fn remove(
        &self,
        is_removed: impl Fn(&mut IdleConnection) -> bool,
    ) -> impl Iterator<Item = IdleConnection> {
        let removed: Vec<_> = self.lock().connections.extract_if(.., |one| is_removed(one)).collect();
        self.count.subtract(removed.len());
        removed.into_iter()
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.count.subtract(self.lock().connections.len());
    }
}

impl Idle {
    /// The place of the connection that `thread` takes.
    ///
    /// A connection of another thread costs the wake-up of that thread, which waits for its readiness, and a
    /// new connection costs more. A thread that would borrow again within [`BORROW_INTERVAL`] has enough
    /// requests for a connection of its own. It makes one, and keeps it warm.
    fn find(&mut self, thread: ThreadId, now: Instant) -> Option<usize> {
        let latest = || self.connections.iter().enumerate().rev().take(SEARCH_MAX);
        let own = latest().find(|(_, one)| one.connection.is_of(thread) && now < one.until);
        if let Some((at, _)) = own {
            return Some(at);
        }
        let (at, _) = latest().find(|(_, one)| now < one.until)?;
        let again = self.borrowed.is_some_and(|(by, when)| by == thread && now < when + BORROW_INTERVAL);
        self.borrowed = if again { None } else { Some((thread, now)) };
        if again { None } else { Some(at) }
    }
}

impl IdleCount {
    pub(super) fn new(max: usize) -> Self {
        Self { count: AtomicUsize::new(0), max }
    }

    pub(super) fn get(&self) -> usize {
        self.count.load(Relaxed)
    }

    /// Counts one more, unless the bound is reached.
    fn try_add(&self) -> bool {
        let has_room = self.count.fetch_add(1, Relaxed) < self.max;
        if !has_room {
            self.subtract(1);
        }
        has_room
    }

    fn subtract(&self, number: usize) {
        self.count.fetch_sub(number, Relaxed);
    }
}

/// Idle connections of one origin that a request looks at. The latest ones are the likely ones; with 64
/// workers one of them is its own in two searches of three.
const SEARCH_MAX: usize = 64;
/// Two borrowed connections within this time call for an own one. At 40 requests a second that saves the
/// wake-ups. At one request in 2 s, when a connection of 1.5 s is often gone before the next request, it
/// happens once in 80 requests.
const BORROW_INTERVAL: Duration = Duration::from_millis(25);

#[cfg(test)]
mod tests {
    use switchboard_routing::Name;
    use tokio::io::{DuplexStream, duplex};

    use super::{super::connector::ByteStream, *};
    use crate::{member::Member, origins::OriginsBuilder, upstream_url::UpstreamUrl};

    struct Fixture {
        slot: Slot,
        here: ThreadId,
        elsewhere: ThreadId,
        far_ends: Vec<DuplexStream>,
    }

    impl Fixture {
        fn new(max: usize) -> Self {
            let origin = UpstreamUrl::parse("http://10.0.0.1/").unwrap().origin().clone();
            let key = ProcessOrigin { origin, incarnation: Member::no_incarnation() };
            Self {
                slot: Slot::new(key, Arc::new(IdleCount::new(max)), Duration::from_secs(1)),
                here: std::thread::current().id(),
                elsewhere: on_another_thread(|| std::thread::current().id()),
                far_ends: Vec::new(),
            }
        }

        /// Keeps a new connection for a second, made here or on another thread.
        fn keep(&mut self, here: bool) {
            let (near, far) = duplex(1024);
            self.far_ends.push(far);
            let made = move || UpstreamConnection::new(ByteStream::Simulated(near));
            let connection = if here { made() } else { on_another_thread(made) };
            self.slot.keep(connection, IdleTime::Default);
        }

        fn take(&self, thread: ThreadId) -> Option<UpstreamConnection> {
            self.slot.take(thread, Instant::now())
        }
    }

    fn on_another_thread<T: Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(make).join().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_prefers_its_own_connections() {
        let mut fixture = Fixture::new(10);
        for here in [true, false, true, false, false] {
            fixture.keep(here);
        }
        let here = fixture.here;
        let own = |taken: Option<UpstreamConnection>| taken.unwrap().is_of(here);
        assert_eq!([own(fixture.take(here)), own(fixture.take(here))], [true, true]);
        assert!(!own(fixture.take(here)));
        assert_eq!(fixture.slot.count.get(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_borrows_again_at_once_makes_its_own_connection() {
        let mut fixture = Fixture::new(10);
        for _ in 0..4 {
            fixture.keep(true);
        }
        let (here, elsewhere) = (fixture.here, fixture.elsewhere);
        assert!(fixture.take(elsewhere).is_some());
        assert!(fixture.take(elsewhere).is_none());
        assert!(fixture.take(here).is_some());
        assert!(fixture.take(elsewhere).is_some());
        tokio::time::advance(BORROW_INTERVAL).await;
        assert!(fixture.take(elsewhere).is_some());
        assert_eq!(fixture.slot.count.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_kept_for_the_same_process_only() {
        let url = UpstreamUrl::parse("http://10.0.0.1/").unwrap();
        let origins = |incarnation: &str| {
            let mut origins = OriginsBuilder::new(1, 1);
            origins.endpoint(url.clone(), &Name::parse(incarnation).unwrap());
            origins.finish()
        };
        let mut fixture = Fixture::new(10);
        fixture.keep(true);
        let count = Arc::clone(&fixture.slot.count);
        let first = Slots { generation: 1, trust: 1, list: vec![Arc::new(fixture.slot)] };
        let same = first.successor(&origins("0"), &count, Duration::ZERO);
        drop(first);
        assert_eq!(count.get(), 1);
        let restarted = same.successor(&origins("b2"), &count, Duration::ZERO);
        drop(same);
        assert_eq!((restarted.list.len(), count.get()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_time_is_over_is_not_taken_and_is_swept() {
        let mut fixture = Fixture::new(10);
        fixture.keep(true);
        fixture.slot.sweep(Instant::now());
        assert_eq!(fixture.slot.count.get(), 1);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(fixture.take(fixture.here).is_none());
        fixture.slot.sweep(Instant::now());
        assert_eq!(fixture.slot.count.get(), 0);
        let far_end = &mut fixture.far_ends[0];
        assert_eq!(tokio::io::AsyncReadExt::read(far_end, &mut [0]).await.unwrap(), 0);
    }

    /// More than a task of tokio may read in one turn.
    #[tokio::test(start_paused = true)]
    async fn of_any_number_of_closed_connections_none_is_taken_or_kept() {
        let mut fixture = Fixture::new(1000);
        let keep_closed = |fixture: &mut Fixture| {
            for _ in 0..200 {
                fixture.keep(true);
            }
            fixture.far_ends.clear();
        };
        tokio::task::yield_now().await;
        keep_closed(&mut fixture);
        assert!(fixture.take(fixture.here).is_none());
        keep_closed(&mut fixture);
        fixture.slot.sweep(Instant::now());
        assert_eq!(fixture.slot.count.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_bound_the_newest_connection_replaces_the_oldest() {
        let mut fixture = Fixture::new(2);
        for _ in 0..5 {
            fixture.keep(true);
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(fixture.slot.count.get(), 2);
        let ages: Vec<_> = fixture.slot.lock().connections.iter().map(|one| one.since.elapsed()).collect();
        assert_eq!(ages, [200, 100].map(Duration::from_millis));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_connections_of_all_slots_make_room() {
        let count = Arc::new(IdleCount::new(10));
        let mut list = Vec::new();
        for _ in 0..3 {
            let mut fixture = Fixture::new(0);
            fixture.slot.count = Arc::clone(&count);
            for _ in 0..2 {
                fixture.keep(true);
                tokio::time::advance(Duration::from_millis(1)).await;
            }
            list.push(Arc::new(fixture.slot));
        }
        let slots = Slots { generation: 1, trust: 1, list };
        assert_eq!(
            slots.take_oldest(3).map(|one| one.since.elapsed().as_millis()).collect::<Vec<_>>(),
            [6, 5, 4]
        );
        assert_eq!(slots.iter().map(|slot| slot.lock().connections.len()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(slots.take_oldest(8).count(), 3);
        assert_eq!((count.get(), slots.take_oldest(8).count()), (0, 0));
    }
}
