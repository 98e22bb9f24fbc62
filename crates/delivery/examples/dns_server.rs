//! A DNS server for rehearsals: the SRV records of one name and the addresses of their targets, until the
//! process ends.
//!
//! ```text
//! dns_server 127.0.0.1:5300 _calls._tcp.bots.test bot-0.bots.test=127.0.0.2:3978
//! ```

use std::{env, error::Error, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use hickory_server::{
    Server,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{
        LowerName, Name, RData, Record,
        rdata::{A, AAAA, SOA, SRV},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType},
};
use tokio::net::{TcpListener, UdpSocket};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (listen, name) = arguments.next().zip(arguments.next()).ok_or(USAGE)?;
    let address: SocketAddr = listen.parse()?;
    let mut catalog = Catalog::new();
    let zone: Arc<dyn ZoneHandler> = Arc::new(zone(&name, arguments).await?);
    catalog.upsert(LowerName::from(Name::root()), vec![zone]);
    let mut server = Server::new(catalog);
    server.register_socket(UdpSocket::bind(address).await?);
    server.register_listener(TcpListener::bind(address).await?, TCP_TIME_MAX, RESPONSE_BYTES);
    writeln!(std::io::stdout(), "{{\"address\":\"{address}\"}}")?;
    server.block_until_done().await?;
    Ok(())
}

/// The records. The zone is the root, so that any name fits into it.
async fn zone(
    name: &str,
    targets: impl Iterator<Item = String>,
) -> Result<InMemoryZoneHandler<TokioRuntimeProvider>, Box<dyn Error>> {
    let zone = InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny);
    let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, TTL_SECONDS);
    zone.upsert(Record::from_rdata(Name::root(), TTL_SECONDS, RData::SOA(soa)), 0).await;
    let name = absolute(name)?;
    for target in targets {
        let (host, address) = target.split_once('=').ok_or(USAGE)?;
        let (host, address): (Name, SocketAddr) = (absolute(host)?, address.parse()?);
        let service = RData::SRV(SRV::new(0, 1, address.port(), host.clone()));
        zone.upsert(Record::from_rdata(name.clone(), TTL_SECONDS, service), 0).await;
        let data = match address {
            SocketAddr::V4(address) => RData::A(A(*address.ip())),
            SocketAddr::V6(address) => RData::AAAA(AAAA(*address.ip())),
        };
        zone.upsert(Record::from_rdata(host, TTL_SECONDS, data), 0).await;
    }
    Ok(zone)
}

fn absolute(name: &str) -> Result<Name, Box<dyn Error>> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    Ok(name)
}

const USAGE: &str = "usage: dns_server ADDRESS:PORT NAME TARGET=ADDRESS:PORT…";
/// Short, so that the records are read again all the time.
const TTL_SECONDS: u32 = 1;
const TCP_TIME_MAX: Duration = Duration::from_secs(5);
const RESPONSE_BYTES: usize = 64 * 1024;
