//! The pooled keep-alive connections of one worker thread.
//!
//! Each worker thread has its own pools: the runtime that made a connection drives it. hyper-util's pooled
//! client was measured and rejected: it boxes and spawns for each request.

mod connect;
mod connector;

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use self::connect::{ConnectLimits, FAR, NEAR, RequestSender};
pub(crate) use self::connector::Connector;
use crate::{cause::Cause, origins::Origins, upstream_url::Origin};

/// The pooled connections of one worker thread: cheap to use there, never shared between runtimes.
///
/// It belongs to no `Delivery`. After a reload it keeps the connections to origins that are still in use and
/// drops the others.
///
/// ```
/// use switchboard_delivery::Connections;
///
/// // One per worker thread, created there and lent to each request.
/// let connections = Connections::default();
/// # let _ = connections;
/// ```
pub struct Connections {
    /// To the instances of this region.
    pub(crate) instances: Pool,
    /// To the gateways of other regions.
    pub(crate) peers: Pool,
}

/// The idle connections to a list of origins.
pub(crate) struct Pool {
    /// Never contended, since one thread uses it. It is a lock because futures that hold `&Connections` must
    /// be `Send`. It is never held across an await.
    slots: Mutex<Slots>,
    limits: &'static ConnectLimits,
}

#[derive(Default)]
struct Slots {
    /// The generation of the origins that the slots belong to.
    generation: u64,
    /// The trust number that the TLS connections were made with.
    trust: u64,
    list: Vec<Slot>,
}

/// The idle connections of one origin.
struct Slot {
    origin: Origin,
    idle: Vec<IdleConnection>,
}

struct IdleConnection {
    sender: RequestSender,
    until: Instant,
}

impl Default for Connections {
    fn default() -> Self {
        Self { instances: Pool::new(&NEAR), peers: Pool::new(&FAR) }
    }
}

impl Pool {
    fn new(limits: &'static ConnectLimits) -> Self {
        Self { slots: Mutex::default(), limits }
    }

    /// A new connection to `origin`.
    pub(crate) async fn connect(
        &self,
        origin: &Origin,
        connector: &Connector,
    ) -> Result<RequestSender, Cause> {
        connect::connect(origin, connector, self.limits).await
    }

    /// An idle connection to the origin at `slot`. The one used last comes first: that keeps few of them
    /// warm. The instance may have closed it in the meantime.
    pub(crate) fn take(&self, origins: &Origins, slot: usize, now: Instant) -> Option<RequestSender> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = slots.idle(origins, slot)?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let one = idle.get(at)?;
            if one.sender.is_closed() || one.until <= now {
                idle.remove(at);
            } else if one.sender.is_ready() {
                return Some(idle.remove(at).sender);
            }
            // Otherwise the body of the last response is still being read, or its driver has not run since.
        }
        None
    }

    /// Keeps a connection for the next request. The body of the response may still arrive on it: `take`
    /// checks.
    pub(crate) fn keep(
        &self,
        origins: &Origins,
        slot: usize,
        sender: RequestSender,
        response: &HeaderMap,
        now: Instant,
    ) {
        let idle_for = idle_for(response, self.limits.idle);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = slots.idle(origins, slot)
            && idle.len() < IDLE_MAX
        {
            // The connection used last is used first, so the rest of a burst lies at the bottom, where `take`
            // never looks.
            while idle.first().is_some_and(|oldest| oldest.until <= now) {
                idle.remove(0);
            }
            idle.push(IdleConnection { sender, until: now + idle_for });
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Slots {
    /// The idle connections of a slot. `None` for origins that are older than the pool's. Requests that
    /// started before a reload make their own connections, so that old and new requests do not drop each
    /// other's connections.
    fn idle(&mut self, origins: &Origins, slot: usize) -> Option<&mut Vec<IdleConnection>> {
        if self.generation < origins.generation() {
            self.adopt(origins);
        }
        if self.generation != origins.generation() {
            return None;
        }
        self.list.get_mut(slot).map(|slot| &mut slot.idle)
    }

    fn adopt(&mut self, origins: &Origins) {
        // The peer of a TLS connection was verified with the trust anchors of the earlier settings.
        let trusted = self.trust == origins.trust();
        let before = std::mem::take(&mut self.list).into_iter().filter(|slot| !slot.idle.is_empty());
        let mut before: HashMap<Origin, Vec<IdleConnection>> = before
            .filter(|slot| trusted || !slot.origin.secure)
            .map(|slot| (slot.origin, slot.idle))
            .collect();
        self.generation = origins.generation();
        self.trust = origins.trust();
        self.list = origins
            .list()
            .iter()
            .map(|origin| Slot { origin: origin.clone(), idle: before.remove(origin).unwrap_or_default() })
            .collect();
    }
}

/// A new connection to an instance that belongs to no pool.
pub(crate) async fn connect_near(origin: &Origin, connector: &Connector) -> Result<RequestSender, Cause> {
    connect::connect(origin, connector, &NEAR).await
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

/// Idle connections per origin and worker thread. A worker reads many responses at a time, and then all their
/// connections are idle for a moment. With 64, every thirtieth of 200 concurrent requests made a new one.
const IDLE_MAX: usize = 256;
/// The upper bound, whatever the instance says. Load balancers in between forget connections after 60 s and
/// more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

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
