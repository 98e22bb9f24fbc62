//! DNS as a source of the fleet, with a real server on loopback and with a scripted one.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hickory_server::proto::{
    op::ResponseCode,
    rr::{
        Name, RData, RecordType,
        rdata::{A, AAAA, SRV},
    },
};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, Discovery, DnsSettings, ExaminedState, ForwardError,
    InstanceState,
};

use crate::{dns_server::*, scripted_dns::*, setup::*, upstream::*};

fn dns_settings(server: SocketAddr, name: &str, port: u16, allow: &[&str]) -> DeliverySettings {
    let discovery = DnsSettings {
        name: name.into(),
        port,
        secure: false,
        path: "/api/calls".into(),
        refresh: Duration::from_millis(100),
        servers: vec![server],
        allow: allow.iter().map(|text| text.parse().unwrap()).collect(),
    };
    DeliverySettings { discovery: Some(Discovery::Dns(discovery)), ..settings([]) }
}

fn names(delivery: &Delivery) -> Vec<String> {
    let there = delivery.instances().into_iter().filter(|status| status.state != InstanceState::Gone);
    there.map(|status| status.name.to_string()).collect()
}

/// Forwards callbacks over new connections until one fails.
async fn until_forward_fails(delivery: &Delivery, instance: &str) {
    let failed = async { while forward(delivery, &Connections::default(), instance).await.is_ok() {} };
    tokio::time::timeout(LONG, failed).await.unwrap();
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
    let mut settings = dns_settings(dns.address, "bots.example", bot.address.port(), &["127.0.0.0/8"]);
    if let Some(Discovery::Dns(dns)) = &mut settings.discovery {
        // Only the TTL of the records causes another look-up.
        dns.refresh = LONG * 100;
    }
    settings.patience = SHORT;
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
    // An address that is absent stays until it fails.
    dns.addresses(&[[127, 0, 0, 2]]).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["127.0.0.1", "127.0.0.2"]);
    drop(bot);
    until_forward_fails(&delivery, "127.0.0.1").await;
    until("the old address leaves", || names(&delivery) == ["127.0.0.2"]).await;
}

#[tokio::test]
async fn an_address_that_is_no_longer_listed_keeps_its_callbacks() {
    let dns = DnsServer::new().await;
    // It takes callbacks, and refuses new calls as if it were stopping.
    let bot = ScriptedInstance::scripted(|seen| {
        Act::status(if seen.field("switchboard-attempt").is_some() { 503 } else { 202 })
    });
    dns.addresses(&[[127, 0, 0, 1], [127, 0, 0, 2]]).await;
    let mut settings = dns_settings(dns.address, "bots.example", bot.address.port(), &["127.0.0.0/8"]);
    settings.keep_leaving = LONG;
    let delivery = start(settings);
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[[127, 0, 0, 2]]).await;
    dns.read_again().await;
    assert_eq!(state(&delivery, "127.0.0.1"), InstanceState::Ready);
    assert!(place(&delivery, &Connections::default(), SHORT).await.is_err());
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
    let delivery = start(dns_settings(dns.address, "bots.example", 9, &["127.0.0.0/8"]));
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[]).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["127.0.0.1"]);
    let (zone, address) = dns.stop().await;
    assert_eq!(names(&delivery), ["127.0.0.1"]);
    let dns = DnsServer::serve(zone, address).await;
    dns.addresses(&[[127, 0, 0, 3]]).await;
    until("the server is asked again", || names(&delivery) == ["127.0.0.1", "127.0.0.3"]).await;
}

#[tokio::test]
async fn a_response_with_a_forbidden_address_changes_nothing() {
    let dns = DnsServer::new().await;
    dns.addresses(&[[10, 0, 0, 1]]).await;
    let delivery = start(dns_settings(dns.address, "bots.example", 9, &[]));
    until("the name is read", || delivery.is_known()).await;
    dns.addresses(&[[10, 0, 0, 2], [169, 254, 169, 254]]).await;
    dns.read_again().await;
    assert_eq!(names(&delivery), ["10.0.0.1"]);
    dns.addresses(&[[10, 0, 0, 2]]).await;
    until("the address is gone", || names(&delivery) == ["10.0.0.1", "10.0.0.2"]).await;
}

#[tokio::test]
async fn ipv6_addresses_are_used_if_there_are_no_ipv4_addresses() {
    let dns = DnsServer::new().await;
    let v6 = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
    dns.set("bots.example.", 1, RecordType::AAAA, [v6]).await;
    let delivery = start(dns_settings(dns.address, "bots.example", 9, &[]));
    until("the name is read", || delivery.is_known()).await;
    assert_eq!(names(&delivery), ["fd00--1"]);
    dns.addresses(&[[10, 0, 0, 1]]).await;
    until("IPv4 is found", || names(&delivery) == ["10.0.0.1", "fd00--1"]).await;
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
    let delivery = start(dns_settings(dns.address, "_calls._tcp.bots.example", 0, &["127.0.0.1"]));
    until("the name is read", || delivery.is_known()).await;
    assert_eq!(names(&delivery), ["bot-0.example", "bot-1.example"]);
    let connections = Connections::default();
    for (name, bot) in [("bot-0.example", &one), ("bot-1.example", &two)] {
        assert_eq!(forward(&delivery, &connections, name).await.unwrap().status, 202);
        assert_eq!(bot.seen().len(), 1);
    }
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
    let delivery = start(probed(dns_settings(dns.address, "_calls._tcp.bots.example", 0, &["127.0.0.0/8"])));
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

fn a(addresses: &[[u8; 4]]) -> Vec<RData> {
    addresses.iter().map(|address| RData::A(A((*address).into()))).collect()
}

fn srv(host: &str, port: u16) -> RData {
    RData::SRV(SRV::new(0, 5, port, dns_name(host)))
}

#[tokio::test]
async fn a_fleet_of_ipv4_is_followed_while_ipv6_fails() {
    let failures = [
        DnsReply::Code(ResponseCode::ServFail),
        DnsReply::Code(ResponseCode::Refused),
        DnsReply::Code(ResponseCode::NotImp),
        DnsReply::HeaderOnly(ResponseCode::FormErr),
        DnsReply::Silence,
    ];
    for failure in failures {
        let grown = Arc::new(AtomicBool::new(false));
        let (has_grown, case) = (Arc::clone(&grown), format!("{failure:?}"));
        let dns = ScriptedDns::new(move |query| match (&*query.name, query.kind) {
            (_, RecordType::AAAA) => failure.clone(),
            ("_calls._tcp.bots.example.", RecordType::SRV) => {
                DnsReply::Records(1, vec![srv("bot-0.example.", 3978)])
            }
            (_, RecordType::A) if has_grown.load(Relaxed) => {
                DnsReply::Records(1, a(&[[10, 0, 0, 1], [10, 0, 0, 2]]))
            }
            _ => DnsReply::Records(1, a(&[[10, 0, 0, 1]])),
        })
        .await;
        let delivery = start(dns_settings(dns.address, "bots.example", 3978, &[]));
        let services = start(dns_settings(dns.address, "_calls._tcp.bots.example", 0, &[]));
        until(&case, || delivery.is_known() && services.is_known()).await;
        assert_eq!(
            (names(&delivery), names(&services)),
            (vec!["10.0.0.1".into()], vec!["bot-0.example".into()])
        );
        grown.store(true, Relaxed);
        until(&case, || names(&delivery) == ["10.0.0.1", "10.0.0.2"]).await;
    }
}

#[tokio::test]
async fn a_failure_of_ipv4_does_not_move_a_fleet_to_ipv6() {
    let fails = Arc::new(AtomicBool::new(false));
    let failing = Arc::clone(&fails);
    let dns = ScriptedDns::new(move |query| match (query.kind, failing.load(Relaxed)) {
        (RecordType::AAAA, _) => DnsReply::Records(1, vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))]),
        (_, true) => DnsReply::Code(ResponseCode::ServFail),
        (_, false) => DnsReply::Records(1, a(&[[10, 0, 0, 1]])),
    })
    .await;
    let delivery = start(dns_settings(dns.address, "bots.example", 3978, &[]));
    until("the name is read", || delivery.is_known()).await;
    fails.store(true, Relaxed);
    let before = dns.asked().len();
    until("the name is read again", || dns.asked().len() > before + 6).await;
    assert_eq!(names(&delivery), ["10.0.0.1"]);
}

#[tokio::test]
async fn an_instance_that_is_absent_from_a_part_of_the_fleet_stays_until_it_fails() {
    let stopped = Stopped::all([1, 2, 3, 4, 5, 6].map(|last| [127, 0, 0, last]));
    let port = stopped[0].address.port();
    let bots = stopped.map(|stopped| ScriptedInstance::on(stopped, |_| Act::status(202)));
    let (asked, count) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(6)));
    let listed = Arc::clone(&count);
    // Three of six, others each time.
    let dns = ScriptedDns::new(move |query| {
        if query.kind != RecordType::A {
            return DnsReply::Records(1, Vec::new());
        }
        let (first, count) = (asked.fetch_add(1, Relaxed), listed.load(Relaxed));
        let part = [0, 1, 2].map(|at| [127, 0, 0, u8::try_from((first + at * at) % count).unwrap() + 1]);
        DnsReply::Records(1, a(&part))
    })
    .await;
    let mut settings = dns_settings(dns.address, "bots.example", port, &["127.0.0.0/8"]);
    settings.patience = SHORT;
    let delivery = start(settings);
    until("all are found", || names(&delivery).len() == 6).await;
    let before = dns.asked().len();
    until("the name is read again", || dns.asked().len() > before + 20).await;
    for status in delivery.instances() {
        let entered: u64 = status.counts.entered.iter().map(|(_, count)| count).sum();
        assert_eq!((status.state, entered), (InstanceState::Ready, 0), "{}", status.name);
    }
    // One is no longer listed. It leaves when it fails.
    count.store(5, Relaxed);
    let before = dns.asked().len();
    until("the name is read again", || dns.asked().len() > before + 6).await;
    assert_eq!(names(&delivery).len(), 6);
    let [_alive @ .., last] = bots;
    drop(last);
    until_forward_fails(&delivery, "127.0.0.6").await;
    until("the instance leaves", || names(&delivery).len() == 5).await;
}

#[tokio::test]
async fn a_bad_record_costs_that_record_only() {
    let good = || vec![srv("bot-0.example.", 3978), srv("bot-1.example.", 3978)];
    let odd = Name::from_labels([&b"bot 2"[..], b"example"]).unwrap();
    for (bad, case) in [
        (vec![srv("bot-2.example.", 0)], "port 0"),
        (vec![srv(".", 3978)], "no service"),
        (vec![RData::SRV(SRV::new(0, 5, 3978, odd))], "not a host"),
        (vec![srv("absent.example.", 3978)], "no address"),
        (vec![srv("failing.example.", 3978)], "look-up fails"),
        (vec![srv("metadata.example.", 3978)], "forbidden address"),
        (vec![srv("bot-1.example.", 4000), srv("bot-1.example.", 3978)], "one host twice"),
        (vec![srv("bot-1.example.", 65_535), srv("bot-2.example.", 0)], "two bad ones"),
    ] {
        let dns = ScriptedDns::new(move |query| match (&*query.name, query.kind) {
            ("_calls._tcp.bots.example.", RecordType::SRV) => {
                DnsReply::Records(1, bad.iter().cloned().chain(good()).collect())
            }
            ("absent.example.", _) => DnsReply::Code(ResponseCode::NXDomain),
            ("failing.example.", _) => DnsReply::Code(ResponseCode::ServFail),
            ("metadata.example.", RecordType::A) => {
                DnsReply::Records(1, a(&[[10, 0, 0, 9], [169, 254, 169, 254]]))
            }
            (_, RecordType::A) => DnsReply::Records(1, a(&[[10, 0, 0, 1]])),
            _ => DnsReply::Records(1, Vec::new()),
        })
        .await;
        let delivery = start(dns_settings(dns.address, "_calls._tcp.bots.example", 0, &[]));
        until(case, || delivery.is_known()).await;
        assert_eq!(names(&delivery), ["bot-0.example", "bot-1.example"], "{case}");
    }
}

#[tokio::test]
async fn of_two_records_for_one_host_the_known_one_stays() {
    let dns = DnsServer::new().await;
    let bot = ScriptedInstance::scripted(|_| Act::status(202));
    let (known, lower) = (srv("bot-0.example.", bot.address.port()), srv("bot-0.example.", 9));
    dns.set("bot-0.example.", 1, RecordType::A, a(&[[127, 0, 0, 1]])).await;
    dns.set("_calls._tcp.bots.example.", 1, RecordType::SRV, [known.clone()]).await;
    let delivery = start(dns_settings(dns.address, "_calls._tcp.bots.example", 0, &["127.0.0.1"]));
    until("the name is read", || delivery.is_known()).await;
    dns.set("_calls._tcp.bots.example.", 1, RecordType::SRV, [lower, known]).await;
    dns.read_again().await;
    assert_eq!(forward(&delivery, &Connections::default(), "bot-0.example").await.unwrap().status, 202);
}

#[tokio::test]
async fn an_examination_reads_the_source_itself() {
    let dns = DnsServer::new().await;
    let bot = ScriptedInstance::scripted(|_| Act::status(202));
    dns.addresses(&[[127, 0, 0, 1]]).await;
    let settings = dns_settings(dns.address, "bots.example", bot.address.port(), &["127.0.0.0/8"]);
    let examined = Delivery::new(settings, uris(), tls()).examine(LONG).await.unwrap();
    let outcomes: Vec<_> = examined.into_iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Ok(ExaminedState::Accepts)]);
    // A source that does not respond.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let settings = dns_settings(silent.local_addr().unwrap(), "bots.example", 80, &["127.0.0.0/8"]);
    assert_eq!(Delivery::new(settings, uris(), tls()).examine(SHORT).await, None);
}
