//! Listed instances and peer gateways whose hosts are names, with a scripted DNS server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hickory_server::proto::{
    op::ResponseCode,
    rr::{RData, RecordType, rdata::A},
};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, InstanceState, PeerGateways, UpstreamUrl,
};

use crate::{scripted_dns::*, setup::*, upstream::*};

/// A server for `bot.example.`, whose reply to queries for IPv4 addresses a test can change.
struct NameServer {
    dns: ScriptedDns,
    reply: Arc<Mutex<DnsReply>>,
}

impl NameServer {
    async fn new(reply: DnsReply) -> Self {
        let reply = Arc::new(Mutex::new(reply));
        let current = Arc::clone(&reply);
        let dns = ScriptedDns::new(move |query| {
            assert_eq!(query.name, "bot.example.");
            match (query.kind, current.lock().unwrap().clone()) {
                (RecordType::A, reply) => reply,
                (_, DnsReply::Records(ttl, _)) => DnsReply::Records(ttl, Vec::new()),
                (_, reply) => reply,
            }
        })
        .await;
        Self { dns, reply }
    }

    /// Replies like this from now on, and waits until the name was looked up again.
    async fn set(&self, reply: DnsReply) {
        *self.reply.lock().unwrap() = reply;
        let before = self.dns.asked().len();
        // A look-up that failed takes two queries or more.
        until("the name is looked up again", || self.dns.asked().len() >= before + 4).await;
    }
}

fn addresses(ttl: u32, addresses: &[[u8; 4]]) -> DnsReply {
    DnsReply::Records(ttl, addresses.iter().map(|address| RData::A(A((*address).into()))).collect())
}

/// One instance, `bot-0`, at `bot.example`.
fn named(names: &NameServer, port: u16) -> DeliverySettings {
    let mut settings = settings([SocketAddr::from(([127, 0, 0, 1], port))]);
    settings.instances[0].url = UpstreamUrl::parse(&format!("http://bot.example:{port}/x")).unwrap();
    settings.name_servers = vec![names.dns.address];
    settings
}

fn start(settings: DeliverySettings) -> Arc<Delivery> {
    let delivery = Arc::new(delivery(settings));
    tokio::spawn(Arc::clone(&delivery).run());
    delivery
}

/// Forwards a callback over a new connection.
async fn forwarded(delivery: &Delivery) -> u16 {
    forward(delivery, &Connections::default(), "bot-0").await.unwrap().status.as_u16()
}

#[tokio::test]
async fn callbacks_and_calls_to_names_go_on_while_dns_is_away() {
    let bot = ScriptedInstance::always(Act::status(202));
    let names = NameServer::new(addresses(0, &[[127, 0, 0, 1]])).await;
    let delivery = start(named(&names, bot.address.port()));
    assert_eq!(forwarded(&delivery).await, 202);
    let failures = [
        DnsReply::Code(ResponseCode::ServFail),
        DnsReply::Code(ResponseCode::NXDomain),
        addresses(0, &[]),
        DnsReply::Silence,
    ];
    for reply in failures {
        names.set(reply).await;
        assert_eq!(forwarded(&delivery).await, 202);
        assert_eq!(place(&delivery, &Connections::default(), LONG).await.unwrap().status, 202);
    }
    // A reload keeps the addresses of names that stay, and needs no look-up.
    let next = delivery.successor(named(&names, bot.address.port()), uris(), tls());
    assert_eq!(forwarded(&next).await, 202);
}

#[tokio::test]
async fn no_request_asks_a_dns_server() {
    let bot = ScriptedInstance::always(Act::status(202));
    let names = NameServer::new(addresses(3600, &[[127, 0, 0, 1]])).await;
    let delivery = start(named(&names, bot.address.port()));
    for _ in 0..50 {
        assert_eq!(forwarded(&delivery).await, 202);
    }
    assert_eq!(bot.accepted(), 50);
    // One look-up, for both families.
    assert_eq!(names.dns.asked().len(), 2);
    assert!(names.dns.asked().iter().all(|query| !query.edns));
}

#[tokio::test]
async fn new_connections_go_to_the_new_address_of_a_name() {
    let [one, two] = Stopped::all([[127, 0, 0, 1], [127, 0, 0, 2]])
        .map(|stopped| ScriptedInstance::on(stopped, |_| Act::status(202)));
    let names = NameServer::new(addresses(1, &[[127, 0, 0, 1]])).await;
    let delivery = start(named(&names, one.address.port()));
    assert_eq!(forwarded(&delivery).await, 202);
    assert_eq!((one.accepted(), two.accepted()), (1, 0));
    names.set(addresses(1, &[[127, 0, 0, 2]])).await;
    let before = one.accepted();
    assert_eq!(forwarded(&delivery).await, 202);
    assert_eq!((one.accepted(), two.accepted()), (before, 1));
}

#[tokio::test]
async fn the_addresses_of_a_name_are_tried_in_turn() {
    let [refusing, bot] = Stopped::all([[127, 0, 0, 1], [127, 0, 0, 2]]);
    let bot = ScriptedInstance::on(bot, |_| Act::status(202));
    let names = NameServer::new(addresses(3600, &[[127, 0, 0, 1], [127, 0, 0, 2]])).await;
    let delivery = start(named(&names, bot.address.port()));
    assert_eq!(forwarded(&delivery).await, 202);
    // The next connection starts with the address that worked.
    let other = ScriptedInstance::on(refusing, |_| Act::status(500));
    assert_eq!(forwarded(&delivery).await, 202);
    assert_eq!((other.accepted(), bot.accepted()), (0, 2));
    drop(bot);
    until_refused([127, 0, 0, 2], other.address.port()).await;
    assert_eq!(forwarded(&delivery).await, 500);
}

/// Waits until a listener that was dropped is closed.
async fn until_refused(address: [u8; 4], port: u16) {
    while tokio::net::TcpStream::connect((std::net::Ipv4Addr::from(address), port)).await.is_ok() {}
}

#[tokio::test]
async fn more_addresses_than_one_attempt_tries_are_all_tried() {
    let stopped = Stopped::all([1, 2, 3, 4, 5, 6].map(|last| [127, 0, 0, last]));
    let [_refusing @ .., bot] = stopped;
    let bot = ScriptedInstance::on(bot, |_| Act::status(202));
    let all = [1, 2, 3, 4, 5, 6].map(|last| [127, 0, 0, last]);
    let names = NameServer::new(addresses(3600, &all)).await;
    let delivery = start(named(&names, bot.address.port()));
    let response = forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
    assert_eq!((response.status.as_u16(), response.attempts), (202, 2));
}

#[tokio::test]
async fn a_call_moves_on_when_the_first_look_up_is_slow() {
    let bot = ScriptedInstance::always(Act::status(202));
    let names = NameServer::new(DnsReply::Silence).await;
    let order = ranking(2);
    let mut settings = named(&names, 9);
    settings.instances.push(instance(&order[1], bot.address));
    settings.instances[0].name = name(&order[0]);
    let delivery = start(settings);
    let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
    assert_eq!((response.status.as_u16(), response.instance.as_str()), (202, &*order[1]));
    assert_eq!(status(&delivery, &order[0]).counts.failures, [("lookup_timeout", 1)]);
}

#[tokio::test]
async fn a_callback_is_tried_again_until_its_name_was_looked_up() {
    let bot = ScriptedInstance::always(Act::status(202));
    let names = NameServer::new(DnsReply::Code(ResponseCode::ServFail)).await;
    let delivery = start(named(&names, bot.address.port()));
    let waiting = tokio::spawn({
        let delivery = Arc::clone(&delivery);
        async move { forward(&delivery, &Connections::default(), "bot-0").await.unwrap() }
    });
    until("an attempt failed", || {
        status(&delivery, "bot-0").counts.failures.iter().any(|(label, _)| *label == "lookup")
    })
    .await;
    *names.reply.lock().unwrap() = addresses(3600, &[[127, 0, 0, 1]]);
    let response = waiting.await.unwrap();
    assert_eq!(response.status, 202);
    assert!(response.attempts > 1);
}

#[tokio::test]
async fn an_instance_is_probed_at_the_addresses_of_its_name() {
    let bot = ScriptedInstance::always(Act::status(200));
    let names = NameServer::new(addresses(1, &[[127, 0, 0, 1]])).await;
    let delivery = start(probed(named(&names, bot.address.port())));
    until("the instance is ready", || state(&delivery, "bot-0") == InstanceState::Ready).await;
    assert_eq!(status(&delivery, "bot-0").counts.missed_probes, 0);
    names.set(DnsReply::Code(ResponseCode::ServFail)).await;
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ready);
}

#[tokio::test]
async fn a_peer_gateway_is_reached_while_dns_is_away() {
    let gateway = ScriptedInstance::always(Act::status(202));
    let names = NameServer::new(addresses(0, &[[127, 0, 0, 1]])).await;
    let url = format!("http://bot.example:{}", gateway.address.port());
    let new = |last: Option<&PeerGateways>| {
        let peers = vec![(name("amer"), UpstreamUrl::parse(&url).unwrap())];
        Arc::new(PeerGateways::new(&name("emea"), peers, LONG, tls(), vec![names.dns.address], last))
    };
    let proxy = async |peers: &PeerGateways| {
        let target = "/api/callbacks/amer/bot-0/k1.0.AAAA".parse().unwrap();
        peers.proxy(&Connections::default(), &outbound(), "amer", target).await.unwrap().status
    };
    let peers = new(None);
    tokio::spawn(Arc::clone(&peers).run());
    assert_eq!(proxy(&peers).await, 202);
    names.set(DnsReply::Code(ResponseCode::ServFail)).await;
    assert_eq!(proxy(&peers).await, 202);
    // After a reload, too.
    assert_eq!(proxy(&new(Some(&peers))).await, 202);
}
