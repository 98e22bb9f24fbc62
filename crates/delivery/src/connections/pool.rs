//! The idle connections to a list of origins.

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderMap, HeaderName};
use tokio::time::{Instant, timeout};

use super::{
    connect::{self, ConnectLimits},
    connection::UpstreamConnection,
    connector::Connector,
    slots::{IdleConnection, IdleCount, Slots},
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
            Err(Cause::Exhausted) if self.make_room().await => {
                connect::connect(origin, connector, self.limits).await
            }
            connected => connected,
        }
    }

    /// An idle connection to the origin at `slot`: the one used last, of this thread if it has one. The
    /// instance may have closed it in the meantime.
    pub(crate) fn take(&self, origins: &Origins, slot: usize, now: Instant) -> Option<UpstreamConnection> {
        self.slots(origins)?.get(slot)?.take(thread::current().id(), now)
    }

    /// Keeps a connection for the next request. The body of the response may still arrive on it: `take`
    /// checks.
    pub(crate) fn keep(
        &self,
        origins: &Origins,
        slot: usize,
        connection: UpstreamConnection,
        response: &HeaderMap,
        now: Instant,
    ) {
        let until = now + idle_for(response, self.limits.idle);
        if let Some(slots) = self.slots(origins)
            && let Some(slot) = slots.get(slot)
        {
            slot.keep(IdleConnection { connection, since: now, until });
        }
    }

    /// Closes the connections that were idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for slot in self.slots.load().iter() {
            slot.sweep(now);
        }
    }

    /// Closes the oldest idle connections, because the process has no descriptor left. Returns true if there
    /// were any, once their descriptors are free.
    pub(super) async fn make_room(&self) -> bool {
        let closed: Vec<_> = self.slots.load().take_oldest(ROOM).map(IdleConnection::close).collect();
        let has_closed = !closed.is_empty();
        // Their threads close them. A busy one may need a moment.
        let all_closed = async {
            for connection in closed {
                let _ = connection.await;
            }
        };
        let _ = timeout(CLOSE_TIME, all_closed).await;
        has_closed
    }

    /// The slots of `origins`. `None` for origins that are older than the pool's. Requests that started
    /// before a reload make their own connections, so that old and new requests do not drop each other's
    /// connections.
    fn slots(&self, origins: &Origins) -> Option<Guard<Arc<Slots>>> {
        let slots = self.slots.load();
        if slots.generation() == origins.generation() {
            return Some(slots);
        }
        if slots.generation() < origins.generation() {
            self.replace(origins);
        }
        Some(self.slots.load()).filter(|slots| slots.generation() == origins.generation())
    }

    fn replace(&self, origins: &Origins) {
        let _replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = self.slots.load();
        if slots.generation() < origins.generation() {
            self.slots.store(Arc::new(slots.successor(origins, &self.count)));
        }
    }
}

/// The time for which a connection may be idle: as the instance says (`Keep-Alive: timeout=5` of Node.js),
/// else `default`.
///
/// The result is a second less than that, for the delay of the network: the instance may be closing the
/// connection while a request is on its way.
fn idle_for(response: &HeaderMap, default: Duration) -> Duration {
    let Some(value) = response.get(&KEEP_ALIVE).and_then(|value| value.to_str().ok()) else {
        return default;
    };
    let promised = value
        .split(',')
        .filter_map(|parameter| parameter.trim().strip_prefix("timeout="))
        .find_map(|seconds| seconds.parse::<u64>().ok());
    promised.map_or(default, |seconds| Duration::from_secs(seconds.saturating_sub(1)).min(IDLE_TIME_MAX))
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The upper bound, whatever the instance says. Load balancers in between forget connections after 60 s and
/// more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Connections that are closed for one that needs a descriptor: others need some at the same time.
const ROOM: usize = 8;
/// The longest wait for the descriptors of closed connections.
const CLOSE_TIME: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{super::connect::NEAR, *};

    const DEFAULT: Duration = Duration::from_millis(1500);

    #[track_caller]
    fn check(keep_alive: &'static str, idle: Duration) {
        let headers = HeaderMap::from_iter([(KEEP_ALIVE.clone(), HeaderValue::from_static(keep_alive))]);
        assert_eq!(idle_for(&headers, DEFAULT), idle, "{keep_alive}");
    }

    #[test]
    fn a_connection_idles_no_longer_than_the_instance_keeps_it() {
        let seconds = Duration::from_secs;
        assert_eq!(NEAR.idle, DEFAULT);
        assert_eq!(idle_for(&HeaderMap::new(), DEFAULT), DEFAULT);
        check("timeout=5", seconds(4));
        check("max=100, timeout=15", seconds(14));
        check("timeout=1", seconds(0));
        check("timeout=0", seconds(0));
        check("timeout=86400", IDLE_TIME_MAX);
        check("timeout=99999999999999999999999", DEFAULT);
        check("timeout=-1", DEFAULT);
        check("garbage", DEFAULT);
    }
}
