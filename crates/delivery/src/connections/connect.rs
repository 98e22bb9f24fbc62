//! Making a connection: look-up, TCP and TLS, each with a limit.
//!
//! The server's HTTP clients cannot replace this one: it knows if a byte of a request was written, and names
//! the step that failed by a [`Cause`].

use std::{io, net::SocketAddr, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use super::{
    connection::UpstreamConnection,
    connector::{ByteStream, Connector},
    exhaustion,
};
use crate::{
    cause::Cause,
    upstream_url::{Hostname, Origin},
};

/// The time that making and keeping a connection may take. It differs between near and far upstreams.
#[derive(Debug)]
pub(crate) struct ConnectLimits {
    /// TCP, per address.
    pub(super) tcp: Duration,
    /// The TLS handshake.
    pub(super) tls: Duration,
    /// The time for which an idle connection is kept if the other end does not say.
    pub(super) idle: Duration,
}

/// A new connection, which this runtime watches.
pub(crate) async fn connect(
    origin: &Origin,
    connector: &Connector,
    limits: &ConnectLimits,
) -> Result<UpstreamConnection, Cause> {
    match connect_tcp(origin, connector, limits).await? {
        ByteStream::Tcp(stream) if origin.secure => connect_tls(stream, origin, connector, limits).await,
        stream @ (ByteStream::Tcp(_) | ByteStream::Tls(_)) => Ok(UpstreamConnection::new(stream)),
        #[cfg(test)]
        stream @ ByteStream::Simulated(_) => Ok(UpstreamConnection::new(stream)),
    }
}

async fn connect_tls(
    stream: TcpStream,
    origin: &Origin,
    connector: &Connector,
    limits: &ConnectLimits,
) -> Result<UpstreamConnection, Cause> {
    match timeout(limits.tls, connector.tls.connect(stream, origin)).await {
        Ok(Ok(stream)) => Ok(UpstreamConnection::new(ByteStream::Tls(TokioIo::new(stream)))),
        Ok(Err(failure)) => Err(Cause::of_tls(&failure)),
        Err(_) => Err(Cause::TlsTimeout),
    }
}

async fn connect_tcp(
    origin: &Origin,
    connector: &Connector,
    limits: &ConnectLimits,
) -> Result<ByteStream, Cause> {
    match &origin.host {
        Hostname::Address(address) => {
            connect_address(SocketAddr::new(*address, origin.port), connector, limits).await
        }
        Hostname::Name(name) => {
            timeout(FIRST_LOOK_UP_TIME, name.looked_up()).await.map_err(|_| Cause::LookupTimeout)?;
            let addresses = name.addresses().map(|address| SocketAddr::new(address, origin.port));
            let connected = connect_any(addresses, connector, limits).await;
            let next = match &connected {
                Ok((_, address)) => Some(address.ip()),
                // The next connection goes on where this one stopped.
                Err(_) => name.addresses().nth(ADDRESSES_MAX),
            };
            if let Some(next) = next {
                name.start_with(next);
            }
            connected.map(|(stream, _)| stream)
        }
        Hostname::Found(_, addresses) => {
            let addresses = addresses.iter().map(|address| SocketAddr::new(*address, origin.port));
            connect_any(addresses, connector, limits).await.map(|(stream, _)| stream)
        }
    }
}

/// Connects to the first few addresses in turn, until one accepts. Returns its address, too. The failure is
/// that of the first address: the second family may have no route at all.
async fn connect_any(
    addresses: impl Iterator<Item = SocketAddr>,
    connector: &Connector,
    limits: &ConnectLimits,
) -> Result<(ByteStream, SocketAddr), Cause> {
    let mut first_cause = None;
    for address in addresses.take(ADDRESSES_MAX) {
        match connect_address(address, connector, limits).await {
            Ok(stream) => return Ok((stream, address)),
            // The address may be good. A later one that is not must not hide that.
            Err(Cause::Exhausted) => return Err(Cause::Exhausted),
            Err(cause) => first_cause = first_cause.or(Some(cause)),
        }
    }
    Err(first_cause.unwrap_or(Cause::Lookup))
}

async fn connect_address(
    address: SocketAddr,
    connector: &Connector,
    limits: &ConnectLimits,
) -> Result<ByteStream, Cause> {
    match timeout(limits.tcp, connector.open(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Cause::Refused),
        Ok(Err(error)) if exhaustion::prevents_connect(&error, address) => {
            exhaustion::note("connect", &error);
            Err(Cause::Exhausted)
        }
        Ok(Err(_)) => Err(Cause::Connect),
        Err(_) => Err(Cause::ConnectTimeout),
    }
}

/// Instances, which are near. A connection that takes longer than 300 ms has lost a packet, and the next
/// candidate is quicker than TCP's retransmission after 1 s. A TLS handshake costs an instance an RSA
/// signature, which a busy one may delay.
pub(crate) static NEAR: ConnectLimits =
    ConnectLimits { tcp: Duration::from_millis(300), tls: Duration::from_secs(1), idle: NEAR_IDLE_TIME };
/// Gateways of other regions. A round trip around half the world takes 300 ms, a lost packet costs a second
/// more, and no other gateway can take the request. They keep idle connections for 75 s by default, and
/// announce when they close one.
pub(crate) static FAR: ConnectLimits = ConnectLimits {
    tcp: Duration::from_millis(1500),
    tls: Duration::from_secs(3),
    idle: Duration::from_secs(20),
};
/// Short, since the server should not close first. A request written on a connection that is being closed
/// cannot be sent again: a callback gets 503, a new call ejects its instance. uvicorn closes after 5 s,
/// gunicorn and servers below it after 2 s without notice, Kestrel after 130 s. A new connection costs less
/// than a millisecond, and only instances with rare requests pay it.
const NEAR_IDLE_TIME: Duration = Duration::from_millis(1500);
/// The time for which a connection waits for the first look-up of a name, just after the start. Later it
/// waits for none.
const FIRST_LOOK_UP_TIME: Duration = Duration::from_secs(1);
/// Addresses of one name to connect to.
const ADDRESSES_MAX: usize = 4;
