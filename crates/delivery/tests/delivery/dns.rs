//! DNS as a source of the fleet, with a real server on loopback.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_server::{
    Server,
    net::runtime::{Time, TokioRuntimeProvider},
    proto::rr::{
        DNSClass, LowerName, Name, RData, Record, RecordType, RrKey,
        rdata::{A, AAAA, SOA, SRV},
    },
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType},
};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, Discovery, DnsSettings, ForwardError, InstanceState,
};
use tokio::net::{TcpListener, UdpSocket};

use crate::{setup::*, upstream::*};

type Zone = InMemoryZoneHandler<TokioRuntimeProvider>;

/// A server for `example.` with records that a test can change.
struct DnsServer {
    zone: Arc<Zone>,
    server: Server<Counting>,
    address: SocketAddr,
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

fn dns_name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

impl DnsServer {
    async fn new() -> Self {
        let zone = Arc::new(Zone::empty(dns_name("example."), ZoneType::Primary, AxfrPolicy::Deny));
        let soa = SOA::new(dns_name("ns.example."), dns_name("admin.example."), 1, 60, 60, 60, 1);
        zone.upsert(Record::from_rdata(dns_name("example."), 60, RData::SOA(soa)), 0).await;
        Self::serve(zone, "127.0.0.1:0".parse().unwrap()).await
    }

    async fn serve(zone: Arc<Zone>, address: SocketAddr) -> Self {
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
    async fn read_again(&self) {
        let before = self.asked.load(Relaxed);
        until("the name is read again", || self.asked.load(Relaxed) > before + 6).await;
    }

    async fn stop(mut self) -> (Arc<Zone>, SocketAddr) {
        self.server.shutdown_gracefully().await.unwrap();
        (self.zone, self.address)
    }

    /// Replaces the records of a name.
    async fn set(&self, name: &str, ttl: u32, kind: RecordType, records: impl IntoIterator<Item = RData>) {
        let key = RrKey::new(LowerName::from(dns_name(name)), kind);
        self.zone.records_mut().await.remove(&key);
        for data in records {
            let mut record = Record::from_rdata(dns_name(name), ttl, data);
            record.dns_class = DNSClass::IN;
            self.zone.upsert(record, 0).await;
        }
    }

    async fn addresses(&self, addresses: &[[u8; 4]]) {
        let records = addresses.iter().map(|address| RData::A(A((*address).into())));
        self.set("bots.example.", 1, RecordType::A, records).await;
    }

    fn settings(&self, name: &str, port: u16, allow: &[&str]) -> DeliverySettings {
        let discovery = DnsSettings {
            name: name.into(),
            port,
            secure: false,
            path: "/api/calls".into(),
            refresh: Duration::from_millis(100),
            servers: vec![self.address],
            allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
        };
        DeliverySettings { discovery: Some(Discovery::Dns(discovery)), ..settings([]) }
    }
}

fn names(delivery: &Delivery) -> Vec<String> {
    let there = delivery.instances().into_iter().filter(|status| status.state != InstanceState::Gone);
    there.map(|status| status.name.to_string()).collect()
}

fn start(settings: DeliverySettings) -> Arc<Delivery> {
    let delivery = Arc::new(Delivery::new(settings, uris(), tls()));
    assert!(!delivery.is_known());
    assert!(delivery.instances().is_empty());
    tokio::spawn(Arc::clone(&delivery).run());
    delivery
}

#[tokio::test]
async fn the_addresses_of_a_name_are_the_instances() {
    let dns = DnsServer::new().await;
    let bot = ScriptedInstance::scripted(|_| Act::status(202));
    dns.addresses(&[[127, 0, 0, 1]]).await;
    let mut settings = dns.settings("bots.example", bot.address.port(), &["127.0.0.0/8"]);
    if let Some(Discovery::Dns(dns)) = &mut settings.discovery {
        // Only the TTL of the records causes another look-up.
        dns.refresh = LONG * 100;
    }
    let unread = Delivery::new(settings.clone(), uris(), tls());
    let connections = Connections::default();
    assert_eq!(forward(&unread, &connections, "127.0.0.1").await.unwrap_err(), ForwardError::FleetUnknown);

    let delivery = start(settings.clone());
    until("the name is read", || delivery.is_known()).await;
    assert_eq!(names(&delivery), ["127.0.0.1"]);
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().instance.as_str(), "127.0.0.1");
    assert_eq!(forward(&delivery, &connections, "127.0.0.1").await.unwrap().status, 202);
    let host = format!("bots.example:{}", bot.address.port());
    assert_eq!(bot.seen()[0].field("host"), Some(&*host));

    // A reload keeps the instances found so far.
    let next = delivery.successor(settings, uris(), tls());
    assert!(next.is_known());
    assert_eq!(names(&next), ["127.0.0.1"]);

    // The record was valid for a second.
    dns.addresses(&[[127, 0, 0, 1], [127, 0, 0, 2]]).await;
    until("the new address is found", || names(&delivery) == ["127.0.0.1", "127.0.0.2"]).await;
    dns.addresses(&[[127, 0, 0, 2]]).await;
    until("the old address leaves", || names(&delivery) == ["127.0.0.2"]).await;
}

#[tokio::test]
async fn an_address_that_is_no_longer_listed_keeps_its_callbacks() {
    let dns = DnsServer::new().await;
    let bot = ScriptedInstance::scripted(|_| Act::status(202));
    dns.addresses(&[[127, 0, 0, 1], [127, 0, 0, 2]]).await;
    let mut settings = dns.settings("bots.example", bot.address.port(), &["127.0.0.0/8"]);
    settings.keep_leaving = LONG;
    let delivery = start(settings);
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[[127, 0, 0, 2]]).await;
    until("the address leaves", || state(&delivery, "127.0.0.1") == InstanceState::Draining).await;
    assert_eq!(status(&delivery, "127.0.0.1").reason, "no longer listed");
    let connections = Connections::default();
    assert_eq!(
        place(&delivery, &connections, SHORT).await.map(|response| response.instance.to_string()).ok(),
        None
    );
    assert_eq!(forward(&delivery, &connections, "127.0.0.1").await.unwrap().status, 202);
}

#[tokio::test]
async fn the_last_good_state_stays_while_the_server_is_away_or_lists_no_address() {
    let dns = DnsServer::new().await;
    dns.addresses(&[[127, 0, 0, 1]]).await;
    let delivery = start(dns.settings("bots.example", 9, &["127.0.0.0/8"]));
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[]).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["127.0.0.1"]);
    let (zone, address) = dns.stop().await;
    assert_eq!(names(&delivery), ["127.0.0.1"]);
    let dns = DnsServer::serve(zone, address).await;
    dns.addresses(&[[127, 0, 0, 3]]).await;
    until("the server is asked again", || names(&delivery) == ["127.0.0.3"]).await;
}

#[tokio::test]
async fn a_response_with_a_forbidden_address_changes_nothing() {
    let dns = DnsServer::new().await;
    dns.addresses(&[[10, 0, 0, 1]]).await;
    let delivery = start(dns.settings("bots.example", 9, &[]));
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[[10, 0, 0, 2], [169, 254, 169, 254]]).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["10.0.0.1"]);
    dns.addresses(&[[10, 0, 0, 2]]).await;
    until("the address is gone", || names(&delivery) == ["10.0.0.2"]).await;
}

#[tokio::test]
async fn ipv6_addresses_are_used_if_there_are_no_ipv4_addresses() {
    let dns = DnsServer::new().await;
    let v6 = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
    dns.set("bots.example.", 1, RecordType::AAAA, [v6]).await;
    let delivery = start(dns.settings("bots.example", 9, &[]));
    until("the name is read", || delivery.is_known()).await;
    assert_eq!(names(&delivery), ["fd00--1"]);
    dns.addresses(&[[10, 0, 0, 1]]).await;
    until("IPv4 is found", || names(&delivery) == ["10.0.0.1"]).await;
}

#[tokio::test]
async fn srv_records_name_hosts_with_ports_and_weights() {
    let dns = DnsServer::new().await;
    let (one, two) =
        (ScriptedInstance::scripted(|_| Act::status(202)), ScriptedInstance::scripted(|_| Act::status(202)));
    let record = |host: &str, port| RData::SRV(SRV::new(0, 5, port, dns_name(host)));
    let loopback = || [RData::A(A([127, 0, 0, 1].into()))];
    dns.set("bot-0.example.", 1, RecordType::A, loopback()).await;
    dns.set("bot-1.example.", 1, RecordType::A, loopback()).await;
    let both = [record("bot-0.example.", one.address.port()), record("BOT-1.example.", two.address.port())];
    dns.set("_calls._tcp.bots.example.", 1, RecordType::SRV, both.clone()).await;
    let delivery = start(dns.settings("_calls._tcp.bots.example", 0, &["127.0.0.1"]));
    until("the name is read", || delivery.is_known()).await;
    assert_eq!(names(&delivery), ["bot-0.example", "bot-1.example"]);
    let connections = Connections::default();
    for (name, bot) in [("bot-0.example", &one), ("bot-1.example", &two)] {
        assert_eq!(forward(&delivery, &connections, name).await.unwrap().status, 202);
        assert_eq!(bot.seen().len(), 1);
    }
    // Two records for one host would be two instances with one name.
    let doubled = both.into_iter().chain([record("bot-0.example.", 9)]);
    dns.set("_calls._tcp.bots.example.", 1, RecordType::SRV, doubled).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["bot-0.example", "bot-1.example"]);
}

#[tokio::test]
async fn an_instance_is_probed_at_the_addresses_that_its_host_has_now() {
    let dns = DnsServer::new().await;
    let bot = ScriptedInstance::scripted(|_| Act::status(200));
    let host = "bot-0.example.";
    let record = RData::SRV(SRV::new(0, 5, bot.address.port(), dns_name(host)));
    dns.set("_calls._tcp.bots.example.", 1, RecordType::SRV, [record]).await;
    // The first address refuses connections.
    let [old, new] = [[127, 0, 0, 9], [127, 0, 0, 1]].map(|address: [u8; 4]| RData::A(A(address.into())));
    dns.set(host, 1, RecordType::A, [old.clone()]).await;
    let delivery = start(probed(dns.settings("_calls._tcp.bots.example", 0, &["127.0.0.0/8"])));
    until("the instance is found", || delivery.is_known()).await;
    until("the instance misses its probes", || {
        state(&delivery, "bot-0.example") == InstanceState::Unreachable
    })
    .await;
    dns.set(host, 1, RecordType::A, [old, new.clone()]).await;
    until("the instance is probed at both addresses", || {
        state(&delivery, "bot-0.example") == InstanceState::Ready
    })
    .await;
    dns.set(host, 1, RecordType::A, [new]).await;
    dns.read_again().await;
    let before = bot.seen().len();
    until("the instance is probed at the new address", || bot.seen().len() > before).await;
}
