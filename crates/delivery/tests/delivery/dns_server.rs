//! A DNS server for the zone `example.`, with records that a test can change.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use hickory_server::{
    Server,
    net::runtime::{Time, TokioRuntimeProvider},
    proto::rr::{
        DNSClass, LowerName, Name, RData, Record, RecordType, RrKey,
        rdata::{A, SOA},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType},
};
use tokio::net::{TcpListener, UdpSocket};

use crate::setup::*;

pub(crate) type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

/// A server for `example.` with records that a test can change.
pub(crate) struct DnsServer {
    zone: Arc<Zone>,
    server: Server<Counting>,
    pub(crate) address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

/// Counts the queries.
struct Counting(Catalog, Arc<AtomicUsize>);

impl RequestHandler for Counting {
    // The signature that `async_trait` generates.
    fn handle_request<'l0, 'l1, 'a, R: ResponseHandler + 'a, T: Time + 'a>(
        &'l0 self,
        request: &'l1 Request,
        response_handle: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'a>>
    where
        'l0: 'a,
        'l1: 'a,
        Self: 'a,
    {
        self.1.fetch_add(1, Relaxed);
        self.0.handle_request::<R, T>(request, response_handle)
    }
}

pub(crate) fn dns_name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

impl DnsServer {
    pub(crate) async fn new() -> Self {
        let zone = Arc::new(Zone::empty(dns_name("example."), ZoneType::Primary, AxfrPolicy::Deny));
        let soa = SOA::new(dns_name("ns.example."), dns_name("admin.example."), 1, 60, 60, 60, 1);
        zone.upsert(Record::from_rdata(dns_name("example."), 60, RData::SOA(soa)), 0).await;
        Self::serve(zone, "127.0.0.1:0".parse().unwrap()).await
    }

    pub(crate) async fn serve(zone: Arc<Zone>, address: SocketAddr) -> Self {
        let mut catalog = Catalog::new();
        let handler: Arc<dyn ZoneHandler> = zone.clone();
        catalog.upsert(LowerName::from(dns_name("example.")), vec![handler]);
        let asked = Arc::new(AtomicUsize::new(0));
        let mut server = Server::new(Counting(catalog, Arc::clone(&asked)));
        // A port that is free for UDP and TCP; another process may take it in between.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(address).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, LONG, 64 * 1024);
        Self { zone, server, address, asked }
    }

    /// Waits until the name was read again, twice to be sure: each read takes two queries or more.
    pub(crate) async fn read_again(&self) {
        let before = self.asked.load(Relaxed);
        until("the name is read again", || self.asked.load(Relaxed) > before + 6).await;
    }

    pub(crate) async fn stop(mut self) -> (Arc<Zone>, SocketAddr) {
        self.server.shutdown_gracefully().await.unwrap();
        (self.zone, self.address)
    }

    /// Replaces the records of a name.
    pub(crate) async fn set(
        &self,
        name: &str,
        ttl: u32,
        kind: RecordType,
        records: impl IntoIterator<Item = RData>,
    ) {
        let key = RrKey::new(LowerName::from(dns_name(name)), kind);
        self.zone.records_mut().await.remove(&key);
        for data in records {
            let mut record = Record::from_rdata(dns_name(name), ttl, data);
            record.dns_class = DNSClass::IN;
            self.zone.upsert(record, 0).await;
        }
    }

    pub(crate) async fn addresses(&self, addresses: &[[u8; 4]]) {
        let records = addresses.iter().map(|address| RData::A(A((*address).into())));
        self.set("bots.example.", 1, RecordType::A, records).await;
    }
}
