//! The idle connections to a list of origins.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::{
    connect::{self, ConnectLimits},
    connection::UpstreamConnection,
    connector::Connector,
    slots::{IdleCount, Slot, Slots},
};
use crate::{cause::Cause, origins::Origins, upstream_url::Origin};

/// The idle connections to a list of origins.
pub(crate) struct Pool {
    /// Replaced when a request brings newer origins.
    slots: ArcSwap<Slots>,
    /// Held while the slots are replaced.
    replacing: Mutex<()>,
    count: Arc<IdleCount>,
    limits: &'static ConnectLimits,
}

impl Pool {
    pub(super) fn new(limits: &'static ConnectLimits, count: Arc<IdleCount>) -> Self {
        Self { slots: ArcSwap::default(), replacing: Mutex::default(), count, limits }
    }

    /// A new connection to `origin`. If the process has no descriptor left, the oldest idle connections are
    /// closed, and it is tried once more.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        connector: &Connector,
    ) -> Result<UpstreamConnection, Cause> {
        match connect::connect(origin, connector, self.limits).await {
            Err(Cause::Exhausted) if self.make_room() => {
                connect::connect(origin, connector, self.limits).await
            }
            connected => connected,
        }
    }

    /// The slot of an origin. `None` for origins that are older than the pool's. Requests that started before
    /// a reload make their own connections, so that old and new requests do not drop each other's
    /// connections.
    pub(crate) fn slot(&self, origins: &Origins, slot: usize) -> Option<Arc<Slot>> {
        let slots = self.slots.load();
        if slots.generation() == origins.generation() {
            return slots.get(slot).map(Arc::clone);
        }
        if slots.generation() < origins.generation() {
            self.replace(origins);
        }
        let slots = self.slots.load();
        slots.get(slot).filter(|_| slots.generation() == origins.generation()).map(Arc::clone)
    }

    /// Closes the connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for slot in self.slots.load().iter() {
            slot.sweep(now);
        }
    }

    /// Closes the oldest idle connections, because the process has no descriptor left. Returns true if there
    /// were any.
    pub(super) fn make_room(&self) -> bool {
        self.slots.load().take_oldest(ROOM).count() > 0
    }

    fn replace(&self, origins: &Origins) {
        let replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load_full();
        if slots.generation() < origins.generation() {
            self.slots.store(Arc::new(slots.successor(origins, &self.count, self.limits.idle)));
        }
        // Unlocked first: the former slots may close thousands of connections.
        drop(replacing);
    }
}

/// Connections that are closed for one that needs a descriptor: others need some at the same time.
const ROOM: usize = 8;
