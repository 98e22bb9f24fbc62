//! The connection slots of a listener: the order in which connections give up theirs to new ones.
//!
//! A connection gives up its slot only while no request is in flight on it. Lingering connections come first,
//! then the connection without an authenticated sender that has waited longest for its client. On the public
//! listener, a connection that had an authenticated sender keeps its slot. On the admin listener such
//! connections come last: there, a probe that sends no token must always find a slot.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use crate::process::connection::{shutdown::ShutdownRequest, slot_log::SlotLog};

/// The connections of a listener that can be evicted.
///
/// A lock guards all of them. A connection takes it when a request starts or ends; on the public listener
/// until its sender is authenticated. Each operation takes logarithmic time, so a flood of connections cannot
/// make an accept expensive.
#[derive(Debug)]
pub(crate) struct Slots {
    waiting: Mutex<Waiting>,
    /// True if idle connections of authenticated senders can be evicted, too.
    evicts_authenticated: bool,
    log: Mutex<SlotLog>,
}

/// The reason for which a new connection gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSlot {
    /// All slots have connections that cannot be evicted.
    Full,
    /// The source has its share of connections without an authenticated sender.
    Source,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// The first entry is the next victim.
    queue: BTreeMap<Place, Arc<ShutdownRequest>>,
    /// The connections of each source that had no authenticated sender, whether they wait or not.
    sources: HashMap<IpAddr, usize>,
}

/// The place of a connection in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    state: WaitState,
    /// The order in which the connections took their places.
    number: u64,
}

/// The first variant is evicted first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum WaitState {
    /// The response is written; only what the client still sends is read and discarded.
    Lingering,
    /// The client has not sent a whole request.
    Idle,
    /// The same, after an earlier request with a token that was proven.
    IdleAuthenticated,
}

/// The slot of one connection.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    source: IpAddr,
    shutdown: Arc<ShutdownRequest>,
    is_authenticated: AtomicBool,
    place: Mutex<Option<Place>>,
}

impl NoSlot {
    pub(crate) const ALL: [Self; 2] = [Self::Full, Self::Source];

    /// A stable name for logs and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "no_slot",
            Self::Source => "source_share",
        }
    }
}

impl Slots {
    /// The slots of the public listener.
    pub(crate) fn public() -> Self {
        Self {
            waiting: Mutex::default(),
            evicts_authenticated: false,
            log: Mutex::new(SlotLog::new("public")),
        }
    }

    /// The slots of the admin listener.
    pub(crate) fn admin() -> Self {
        Self { waiting: Mutex::default(), evicts_authenticated: true, log: Mutex::new(SlotLog::new("admin")) }
    }

    /// The slot of a new connection, and whether another connection is evicted for it, which happens only if
    /// the listener `is_full`.
    ///
    /// # Errors
    ///
    /// `source` has `per_source_max` connections without an authenticated sender, or none can be evicted.
    pub(crate) fn admit(
        self: &Arc<Self>,
        source: IpAddr,
        per_source_max: Option<usize>,
        is_full: bool,
    ) -> Result<(Slot, bool), NoSlot> {
        let admitted = match self.open(source, per_source_max) {
            None => Err(NoSlot::Source),
            Some(_) if is_full && !self.evict() => Err(NoSlot::Full),
            Some(slot) => Ok(slot),
        };
        if is_full || admitted.is_err() {
            let mut log = self.lock_log();
            match &admitted {
                Ok(_) => log.evicted(Instant::now()),
                Err(no_slot) => log.refused(no_slot.label(), Instant::now()),
            }
        }
        let slot = admitted?;
        slot.wait(WaitState::Idle);
        Ok((slot, is_full))
    }

    /// A slot that does not wait yet, so that its own connection is not the victim.
    fn open(self: &Arc<Self>, source: IpAddr, per_source_max: Option<usize>) -> Option<Slot> {
        let source = network_of(source);
        self.lock().count_source(source, per_source_max).ok()?;
        Some(Slot {
            slots: Arc::clone(self),
            source,
            shutdown: Arc::default(),
            is_authenticated: AtomicBool::new(false),
            place: Mutex::new(None),
        })
    }

    /// Logs that a new connection was refused because too many evictions are still under way.
    pub(crate) fn refuse(&self) -> NoSlot {
        self.lock_log().refused(NoSlot::Full.label(), Instant::now());
        NoSlot::Full
    }

    /// Evicts a connection because the process has no descriptor for a new one. Returns false if none can be
    /// evicted.
    pub(crate) fn make_room(&self) -> bool {
        let evicts = self.evict();
        if evicts {
            self.lock_log().evicted(Instant::now());
        }
        evicts
    }

    /// Asks the next victim to close. Returns false if no connection can be evicted.
    fn evict(&self) -> bool {
        let victim = self.lock().queue.pop_first();
        // The lock is released: waking a task may take a lock of the runtime.
        if let Some((_, shutdown)) = &victim {
            shutdown.evict();
        }
        victim.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_log(&self) -> MutexGuard<'_, SlotLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The shutdown that the connection was asked for.
    pub(crate) fn shutdown(&self) -> &ShutdownRequest {
        &self.shutdown
    }

    /// Returns true if a request on the connection had a token that was proven.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Relaxed)
    }

    /// Counts the connection for another source: the sender that a proxy has named.
    ///
    /// # Errors
    ///
    /// `source` has `per_source_max` connections without an authenticated sender.
    pub(crate) fn move_to(&mut self, source: IpAddr, per_source_max: Option<usize>) -> Result<(), NoSlot> {
        let source = network_of(source);
        {
            let mut waiting = self.slots.lock();
            waiting.forget_source(self.source);
            match waiting.count_source(source, per_source_max) {
                Ok(()) => {
                    self.source = source;
                    return Ok(());
                }
                Err(_) => waiting.count_source(self.source, None)?,
            }
        }
        self.slots.lock_log().refused(NoSlot::Source.label(), Instant::now());
        Err(NoSlot::Source)
    }

    /// Returns true if the connection cannot be evicted, whether it is idle or not.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_authenticated() && !self.slots.evicts_authenticated
    }

    /// A request on the connection has a token that is proven: from now on it keeps its slot, or is among the
    /// last to give it up.
    pub(crate) fn authenticate(&self) {
        if !self.is_authenticated.swap(true, Relaxed) {
            let has_waited = self.leave_queue();
            self.slots.lock().forget_source(self.source);
            if has_waited {
                self.start_idling();
            }
        }
    }

    /// A request has started: the connection cannot be evicted while it is in flight.
    pub(crate) fn start_request(&self) {
        if !self.is_kept() {
            self.leave_queue();
        }
    }

    /// The last request in flight has ended.
    pub(crate) fn start_idling(&self) {
        let is_authenticated = self.is_authenticated();
        self.wait(if is_authenticated { WaitState::IdleAuthenticated } else { WaitState::Idle });
    }

    /// The connection has stopped writing.
    pub(crate) fn start_lingering(&self) {
        self.wait(WaitState::Lingering);
    }

    fn wait(&self, state: WaitState) {
        if self.is_kept() {
            return;
        }
        let mut place = self.lock_place();
        let mut waiting = self.slots.lock();
        if let Some(place) = place.take() {
            waiting.queue.remove(&place);
        }
        waiting.last += 1;
        let next = Place { state, number: waiting.last };
        waiting.queue.insert(next, Arc::clone(&self.shutdown));
        *place = Some(next);
    }

    /// Returns true if the connection was in the queue.
    fn leave_queue(&self) -> bool {
        let Some(place) = self.lock_place().take() else { return false };
        self.slots.lock().queue.remove(&place).is_some()
    }

    fn lock_place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.leave_queue();
        if !self.is_authenticated() {
            self.slots.lock().forget_source(self.source);
        }
    }
}

impl Waiting {
    fn count_source(&mut self, source: IpAddr, per_source_max: Option<usize>) -> Result<(), NoSlot> {
        let open = self.sources.get(&source).copied().unwrap_or_default();
        if per_source_max.is_some_and(|max| open >= max) {
            return Err(NoSlot::Source);
        }
        self.sources.insert(source, open + 1);
        Ok(())
    }

    fn forget_source(&mut self, source: IpAddr) {
        if let Some(open) = self.sources.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// The source address of a connection that counts for `limits.connections_per_source`.
pub(crate) fn source_of(peer: SocketAddr) -> IpAddr {
    peer.ip()
}

/// The part of an address that one sender has: an IPv4 address, or a network of 64 bits of IPv6, in which a
/// sender may use any address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SOURCE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

    fn slots() -> Arc<Slots> {
        Arc::new(Slots::public())
    }

    fn admit(slots: &Arc<Slots>) -> Slot {
        slots.admit(SOURCE, None, false).unwrap().0
    }

    /// Evicts connections until none is left to evict. Returns their positions in `open`.
    fn victims(slots: &Slots, open: &[&Slot]) -> Vec<usize> {
        let mut order = Vec::new();
        while slots.evict() {
            let evicted = open
                .iter()
                .enumerate()
                .filter(|(at, slot)| slot.shutdown.is_evicted() && !order.contains(at));
            let evicted: Vec<usize> = evicted.map(|(at, _)| at).collect();
            assert_eq!(evicted.len(), 1, "one connection for each new one");
            order.extend(evicted);
        }
        order
    }

    #[test]
    fn lingering_connections_are_evicted_first_then_the_longest_idle_ones() {
        let slots = slots();
        let open: Vec<Slot> = (0..6).map(|_| admit(&slots)).collect();
        let [silent, served_again, busy, lingering, authenticated, was_authenticated] = &open[..] else {
            panic!()
        };
        served_again.start_request();
        busy.start_request();
        authenticated.start_request();
        authenticated.authenticate();
        was_authenticated.start_request();
        was_authenticated.authenticate();
        was_authenticated.start_idling();
        was_authenticated.start_lingering();
        served_again.start_idling();
        lingering.start_lingering();
        let all = [silent, served_again, busy, lingering, authenticated, was_authenticated];
        assert_eq!(victims(&slots, &all), [3, 0, 1]);
    }

    #[test]
    fn the_admin_listener_evicts_idle_connections_that_sent_the_token_last() {
        let slots = Arc::new(Slots::admin());
        let open: Vec<Slot> = (0..5).map(|_| admit(&slots)).collect();
        let [first, busy, second, silent, lingering] = &open[..] else { panic!() };
        for slot in [first, busy, second, lingering] {
            slot.start_request();
            slot.authenticate();
        }
        lingering.start_lingering();
        second.start_idling();
        first.start_idling();
        assert_eq!(victims(&slots, &[first, busy, second, silent, lingering]), [4, 3, 2, 0]);
        busy.start_idling();
        assert!(slots.evict() && busy.shutdown.is_evicted());
    }

    #[test]
    fn a_source_has_a_bound_of_connections_without_an_authenticated_sender() {
        let slots = slots();
        let open = |address: &str| Some(slots.admit(address.parse().unwrap(), Some(2), false).ok()?.0);
        let first = open("192.0.2.1").unwrap();
        let second = open("::ffff:192.0.2.1").unwrap();
        assert!(open("192.0.2.1").is_none());
        let other = open("192.0.2.2").unwrap();
        // The connection of an authenticated sender does not count.
        first.authenticate();
        let third = open("192.0.2.1").unwrap();
        assert!(open("192.0.2.1").is_none());
        drop(second);
        let fourth = open("192.0.2.1").unwrap();
        let networks = ["2001:db8::1", "2001:db8::2"].map(|address| open(address).unwrap());
        assert!(open("2001:db8::ffff").is_none());
        assert!(open("2001:db8:0:1::1").is_some());
        drop((first, third, fourth, other, networks));
        let waiting = slots.lock();
        assert!(waiting.sources.is_empty() && waiting.queue.is_empty());
    }

    #[test]
    fn a_connection_behind_a_proxy_counts_for_the_sender_that_the_proxy_names() {
        let slots = slots();
        let proxied = |sender: &str| {
            let mut slot = slots.admit([10, 0, 0, 1].into(), None, false).unwrap().0;
            slot.move_to(sender.parse().unwrap(), Some(1)).map(|()| slot)
        };
        let first = proxied("192.0.2.1").unwrap();
        assert_eq!(proxied("192.0.2.1").map(drop), Err(NoSlot::Source));
        let other = proxied("192.0.2.2").unwrap();
        assert_eq!(slots.lock().sources.len(), 2);
        drop((first, other));
        assert!(slots.lock().sources.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open,
        StartRequest(usize),
        EndRequest(usize),
        Authenticate(usize),
        Linger(usize),
        Close(usize),
        Evict,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Open),
            2 => (0..9_usize).prop_map(Step::StartRequest),
            2 => (0..9_usize).prop_map(Step::EndRequest),
            1 => (0..9_usize).prop_map(Step::Authenticate),
            1 => (0..9_usize).prop_map(Step::Linger),
            2 => (0..9_usize).prop_map(Step::Close),
            2 => Just(Step::Evict),
        ]
    }

    proptest! {
        /// Whatever happens, no connection with a request in flight is evicted, none with an authenticated
        /// sender on the public listener, and the queue holds no more than the open connections.
        #[test]
        fn only_connections_that_wait_are_evicted(
            steps in prop::collection::vec(step(), 0..200),
            is_admin: bool,
        ) {
            let slots = if is_admin { Arc::new(Slots::admin()) } else { slots() };
            let mut open: Vec<(Slot, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Open => open.push((admit(&slots), false)),
                    Step::StartRequest(at) => if let Some((slot, is_busy)) = open.get_mut(at) {
                        slot.start_request();
                        *is_busy = true;
                    },
                    Step::EndRequest(at) => if let Some((slot, is_busy)) = open.get_mut(at) {
                        slot.start_idling();
                        *is_busy = false;
                    },
                    Step::Authenticate(at) => if let Some((slot, _)) = open.get(at) {
                        slot.authenticate();
                    },
                    Step::Linger(at) => if let Some((slot, is_busy)) = open.get_mut(at) {
                        slot.start_lingering();
                        *is_busy = false;
                    },
                    Step::Close(at) => if at < open.len() {
                        open.remove(at);
                    },
                    Step::Evict => {
                        let evictable =
                            |(slot, is_busy): &(Slot, bool)| !is_busy && !slot.is_kept();
                        let waiting = slots.lock().queue.len();
                        prop_assert_eq!(slots.evict(), waiting > 0);
                        let evicted = open.iter().position(|(slot, _)| slot.shutdown.is_evicted());
                        prop_assert_eq!(evicted.is_some(), waiting > 0);
                        if let Some(at) = evicted {
                            let evicted = open.remove(at);
                            prop_assert!(evictable(&evicted));
                        } else {
                            prop_assert!(!open.iter().any(evictable));
                        }
                    }
                }
                prop_assert!(slots.lock().queue.len() <= open.len());
            }
            drop(open);
            prop_assert!(slots.lock().queue.is_empty() && slots.lock().sources.is_empty());
        }
    }
}
