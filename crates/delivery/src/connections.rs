//! Pooled keep-alive connections to the instances, and making new ones.
//!
//! One pool a worker thread: a connection is driven by the runtime that made it. hyper-util's pooled client was
//! measured and refused: it boxes and spawns for each request.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use openssl::ssl::SslConnector;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_openssl::SslStream;

use crate::{
    attempt::Cause,
    fleet::Fleet,
    upstream_url::{Hostname, Origin},
};

/// The pooled connections of one worker thread: cheap to use there, never shared between runtimes.
///
/// It belongs to no `Delivery`: after a reload it keeps the connections to hosts that are still in the fleet and
/// drops the others.
pub struct Connections {
    /// To the instances of this region.
    pub(crate) instances: Pool,
    /// To the gateways of other regions.
    pub(crate) regions: Pool,
}

/// The connections to the hosts of one fleet.
pub(crate) struct Pool {
    /// Never contended, since it is used by one thread; a lock because futures that hold `&Connections` must be
    /// `Send`. Never held across an await.
    pools: Mutex<Pools>,
    reach: &'static Reach,
}

/// How long making and keeping a connection may take: what is near and what is far differ.
#[derive(Debug)]
pub(crate) struct Reach {
    /// TCP, an address.
    connect: Duration,
    /// The TLS handshake.
    tls: Duration,
    /// How long a connection is kept where the other end does not say.
    idle: Duration,
}

/// Sends one request at a time over one connection.
pub(crate) type Sender = SendRequest<Full<Bytes>>;

#[derive(Default)]
struct Pools {
    /// The fleet that the slots belong to.
    generation: u64,
    /// Which trust anchors its TLS connections were made with.
    trust: u64,
    slots: Vec<Slot>,
}

struct Slot {
    origin: Origin,
    idle: Vec<Idle>,
}

struct Idle {
    sender: Sender,
    until: Instant,
}

impl Default for Connections {
    fn default() -> Self {
        Self { instances: Pool::new(&NEAR), regions: Pool::new(&FAR) }
    }
}

impl Pool {
    fn new(reach: &'static Reach) -> Self {
        Self { pools: Mutex::default(), reach }
    }

    /// A new connection; see `connect`.
    pub(crate) async fn connect(&self, origin: &Origin, tls: &SslConnector) -> Result<Sender, Cause> {
        connect_within(origin, tls, self.reach).await
    }

    /// An idle connection to the origin at `slot`, the one used last first: that keeps few of them warm. It may turn
    /// out to have been closed by the instance in the meantime.
    pub(crate) fn take(&self, fleet: &Fleet, slot: usize, now: Instant) -> Option<Sender> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pools.idle(fleet, slot)?;
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let one = idle.get(at)?;
            if one.sender.is_closed() || one.until <= now {
                idle.remove(at);
            } else if one.sender.is_ready() {
                return Some(idle.remove(at).sender);
            }
            // Otherwise the last answer's body is still being read, or its driver has not run since.
        }
        None
    }

    /// Keeps a connection for the next request. It may still be busy with the answer's body: `take` looks.
    pub(crate) fn keep(&self, fleet: &Fleet, slot: usize, sender: Sender, answer: &HeaderMap, now: Instant) {
        let idle_for = idle_for(answer, self.reach.idle);
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = pools.idle(fleet, slot)
            && idle.len() < IDLE_MAX
        {
            // What is used last is used first, so what a burst left over lies at the bottom, where `take` never looks.
            while idle.first().is_some_and(|oldest| oldest.until <= now) {
                idle.remove(0);
            }
            idle.push(Idle { sender, until: now + idle_for });
        }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

impl Pools {
    /// The idle connections of a slot. `None` for a fleet that is older than the pool's: requests that began before a
    /// reload make their own connections, so that the two do not take turns in throwing each other's away.
    fn idle(&mut self, fleet: &Fleet, slot: usize) -> Option<&mut Vec<Idle>> {
        if self.generation < fleet.generation() {
            self.adopt(fleet);
        }
        if self.generation != fleet.generation() {
            return None;
        }
        self.slots.get_mut(slot).map(|slot| &mut slot.idle)
    }

    fn adopt(&mut self, fleet: &Fleet) {
        // The peer of a TLS connection was verified with the trust anchors of the settings then.
        let trusted = self.trust == fleet.trust();
        let before = std::mem::take(&mut self.slots).into_iter().filter(|slot| !slot.idle.is_empty());
        let mut before: HashMap<Origin, Vec<Idle>> = before
            .filter(|slot| trusted || !slot.origin.secure)
            .map(|slot| (slot.origin, slot.idle))
            .collect();
        self.generation = fleet.generation();
        self.trust = fleet.trust();
        self.slots = fleet
            .origins()
            .iter()
            .map(|origin| Slot { origin: origin.clone(), idle: before.remove(origin).unwrap_or_default() })
            .collect();
    }
}

/// A new connection to an instance, with its driver spawned on this runtime.
pub(crate) async fn connect(origin: &Origin, tls: &SslConnector) -> Result<Sender, Cause> {
    connect_within(origin, tls, &NEAR).await
}

async fn connect_within(origin: &Origin, tls: &SslConnector, reach: &Reach) -> Result<Sender, Cause> {
    let stream = connect_tcp(origin, reach).await?;
    // Requests are written whole; waiting for more to send would only add latency.
    let _ = stream.set_nodelay(true);
    if !origin.secure {
        return handshake(stream).await;
    }
    let host = match &origin.host {
        Hostname::Address(address) => address.to_string(),
        Hostname::Name(name) | Hostname::Found(name, _) => name.to_string(),
    };
    let mut ssl = tls.configure().and_then(|setup| setup.into_ssl(&host)).map_err(|_| Cause::Tls)?;
    ssl.set_alpn_protos(b"\x08http/1.1").map_err(|_| Cause::Tls)?;
    let mut stream = SslStream::new(ssl, stream).map_err(|_| Cause::Tls)?;
    match timeout(reach.tls, Pin::new(&mut stream).connect()).await {
        Ok(Ok(())) => handshake(stream).await,
        Ok(Err(error)) => {
            // The certificate is what usually is wrong, and only this tells.
            tracing::debug!(host, %error, "TLS handshake with an instance failed");
            Err(Cause::Tls)
        }
        Err(_) => Err(Cause::TlsTimeout),
    }
}

async fn connect_tcp(origin: &Origin, reach: &Reach) -> Result<TcpStream, Cause> {
    match &origin.host {
        Hostname::Address(address) => connect_address(SocketAddr::new(*address, origin.port), reach).await,
        Hostname::Name(name) => {
            // Resolved anew each time: a name of Kubernetes or of a rebuilt machine changes its address without notice.
            let addresses = timeout(LOOKUP_TIME, lookup_host((&**name, origin.port)))
                .await
                .map_err(|_| Cause::LookupTimeout)?
                .map_err(|_| Cause::Lookup)?;
            connect_any(addresses, reach).await
        }
        Hostname::Found(_, addresses) => {
            connect_any(addresses.iter().map(|address| SocketAddr::new(*address, origin.port)), reach).await
        }
    }
}

/// The first few addresses, one after the other.
async fn connect_any(addresses: impl Iterator<Item = SocketAddr>, reach: &Reach) -> Result<TcpStream, Cause> {
    let mut last = Cause::Lookup;
    for address in addresses.take(ADDRESSES_MAX) {
        match connect_address(address, reach).await {
            Ok(stream) => return Ok(stream),
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

async fn connect_address(address: SocketAddr, reach: &Reach) -> Result<TcpStream, Cause> {
    match timeout(reach.connect, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Cause::Refused),
        Ok(Err(_)) => Err(Cause::Connect),
        Err(_) => Err(Cause::ConnectTimeout),
    }
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Result<Sender, Cause> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Cause::Closed)?;
    tokio::spawn(async move {
        // Its end reaches whoever waits for an answer on it; an idle connection that ends is no news.
        let _ = connection.await;
    });
    Ok(sender)
}

/// How long a connection may be idle: what the instance says (`Keep-Alive: timeout=5` of Node.js), less a second for
/// the way, so that a request does not meet a connection that is just being closed; else `unsaid`.
fn idle_for(answer: &HeaderMap, unsaid: Duration) -> Duration {
    let Some(value) = answer.get(&KEEP_ALIVE).and_then(|value| value.to_str().ok()) else {
        return unsaid;
    };
    let promised = value
        .split(',')
        .filter_map(|parameter| parameter.trim().strip_prefix("timeout="))
        .find_map(|seconds| seconds.parse::<u64>().ok());
    promised.map_or(unsaid, |seconds| Duration::from_secs(seconds.saturating_sub(1)).min(IDLE_TIME_MAX))
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Idle connections to one host and worker thread. A worker hears of many answers at a time, and then all their
/// connections are idle for a moment: with 64, of 200 requests under way at once every thirtieth made a new one.
const IDLE_MAX: usize = 256;
/// Instances, which are near: a connection that takes longer than 300 ms has lost a packet, and the next candidate is
/// quicker than TCP's retransmission after 1 s. A TLS handshake costs an instance an RSA signature, which a busy one may let
/// wait.
static NEAR: Reach =
    Reach { connect: Duration::from_millis(300), tls: Duration::from_secs(1), idle: IDLE_TIME };
/// Gateways of other regions: half around the world and back are 300 ms, a lost packet is a second more, and nobody else can
/// take the request. They keep idle connections for 75 s unless told otherwise, and say so when they close one.
static FAR: Reach = Reach {
    connect: Duration::from_millis(1500),
    tls: Duration::from_secs(3),
    idle: Duration::from_secs(20),
};
/// Where the instance does not say: so short that hardly any server closes first. A request that was written on a connection that is being closed cannot be sent again:
/// a callback is answered 503, a new call takes its instance out. uvicorn closes after 5 s, gunicorn and what runs under it
/// after 2 s, without a word of it; Kestrel after 130 s. A new connection costs less than a millisecond, and only those pay it
/// that come seldom.
const IDLE_TIME: Duration = Duration::from_millis(1500);
/// Whatever the instance says. Load balancers between forget connections after 60 s and more.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);
/// A resolver answers from its cache or its neighbour; libc's own retry comes after 5 s.
const LOOKUP_TIME: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried, in the resolver's order.
const ADDRESSES_MAX: usize = 4;
/// The head of an answer, and the read buffer of a connection. Bots send some hundred bytes; hyper refuses a head of
/// more than 100 fields by itself (a limit of our own would cost an allocation an answer).
const HEAD_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[track_caller]
    fn check(keep_alive: &'static str, idle: Duration) {
        let headers = HeaderMap::from_iter([(KEEP_ALIVE.clone(), HeaderValue::from_static(keep_alive))]);
        assert_eq!(idle_for(&headers, IDLE_TIME), idle, "{keep_alive}");
    }

    #[test]
    fn a_connection_idles_no_longer_than_the_instance_keeps_it() {
        let seconds = Duration::from_secs;
        assert_eq!(idle_for(&HeaderMap::new(), IDLE_TIME), IDLE_TIME);
        check("timeout=5", seconds(4));
        check("max=100, timeout=15", seconds(14));
        check("timeout=1", seconds(0));
        check("timeout=0", seconds(0));
        check("timeout=86400", IDLE_TIME_MAX);
        check("timeout=99999999999999999999999", IDLE_TIME);
        check("timeout=-1", IDLE_TIME);
        check("garbage", IDLE_TIME);
    }
}
