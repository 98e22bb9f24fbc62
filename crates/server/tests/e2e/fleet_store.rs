//! A fleet found by DNS that is stored, and a gateway that starts while the DNS server is away.

use std::{net::UdpSocket, process::Command, sync::Arc};

use hickory_server::{
    Server,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{
        LowerName, Name, RData, Record,
        rdata::{A, SOA, SRV},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use serde_json::Value;

use crate::support::{
    APP, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of},
    instance::first_request,
    until,
};

/// A DNS server with one SRV record for each instance. While it is away, its socket stays bound and silent.
struct DnsServer {
    socket: UdpSocket,
    running: Option<Server<Catalog>>,
}

impl DnsServer {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket, running: None }
    }

    async fn serve(&mut self, instances: &[Instance]) {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let zone: InMemoryZoneHandler<TokioRuntimeProvider> =
            InMemoryZoneHandler::empty(name("example."), ZoneType::Primary, AxfrPolicy::Deny);
        let soa = SOA::new(name("ns.example."), name("admin.example."), 1, 60, 60, 60, 1);
        let mut records = vec![("example.".to_owned(), RData::SOA(soa))];
        for instance in instances {
            let host = format!("{}.example.", instance.name);
            records.push((
                "_calls._tcp.example.".to_owned(),
                RData::SRV(SRV::new(0, 1, instance.port(), name(&host))),
            ));
            records.push((host, RData::A(A([127, 0, 0, 1].into()))));
        }
        for (owner, data) in records {
            zone.upsert(Record::from_rdata(name(&owner), 1, data), 0).await;
        }
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::from(name("example.")), vec![Arc::new(zone)]);
        let mut server = Server::new(catalog);
        server.register_socket(tokio::net::UdpSocket::from_std(self.socket.try_clone().unwrap()).unwrap());
        self.running = Some(server);
    }

    async fn go_away(&mut self) {
        self.running.take().unwrap().shutdown_gracefully().await.unwrap();
    }

    /// The settings of a fleet that is found at this server.
    fn settings(&self, issuer: &Issuer, fleet: &str) -> Settings {
        let server = self.socket.local_addr().unwrap();
        Settings::new(issuer, &[]).line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"").table(
            &format!(
                "[fleet]\nallow = [\"127.0.0.0/8\"]\n{fleet}\n[fleet.dns]\nname = \"_calls._tcp.example\"\n\
             refresh = \"1s\"\nservers = [\"{server}\"]\n"
            ),
        )
    }
}

/// The path of the callback URI of any instance, in the fleet or not.
fn minted(gateway: &Gateway, instance: &str) -> String {
    let output = Command::new(BINARY)
        .args(["mint", "--app", APP, "--instance", instance, "--config"])
        .arg(gateway.path(CONFIG))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    path_of(String::from_utf8(output.stdout).unwrap().trim())
}

async fn post(gateway: &Gateway, path: &str, body: String) -> u16 {
    Request::post(path, &Token::skype().sign(), body).send(gateway).await.status()
}

async fn callback(gateway: &Gateway, path: &str) -> u16 {
    post(gateway, path, bodies::updated("call-1", "established")).await
}

#[tokio::test]
async fn callbacks_continue_after_a_restart_while_the_dns_server_is_away() {
    let issuer = Issuer::start();
    let mut bots = Instance::start_all(["bot-0", "bot-1"]);
    let mut dns = DnsServer::new();
    dns.serve(&bots).await;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("fleet");
    let settings = dns.settings(&issuer, &format!("store = \"{}\"", store.display()));

    let mut gateway = Gateway::start(&settings).await;
    until("a call is placed", async || {
        let placed = post(&gateway, "/api/calls", bodies::incoming("call-1")).await;
        (placed == 202).then_some(())
    })
    .await;
    let (owner, request) = first_request(&mut bots).await;
    let own = path_of(request.field("switchboard-callback-uri").unwrap());
    until("the fleet is stored", async || store.join("emea.fleet.json").exists().then_some(())).await;
    gateway.signal("TERM");
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
    drop(gateway);
    dns.go_away().await;

    let gateway = Gateway::start(&settings).await;
    gateway.log.message("stored fleet loaded: it serves callbacks until the source is read").await;
    let ready = gateway.admin("/readyz").await.json();
    assert_eq!((&ready["ready"], &ready["fleet_known"]), (&true.into(), &false.into()));
    let fleet = gateway.admin("/fleet").await.json();
    let restored = |instance: &Value| instance["restored_age_ms"].is_u64() && instance["state"] == "starting";
    assert!(fleet.as_array().unwrap().iter().all(restored), "{fleet}");
    // The owner's callbacks go on. Any other owner may still run, and new calls need a known fleet.
    assert_eq!(callback(&gateway, &own).await, 202);
    bots[owner].request().await;
    let unknown = minted(&gateway, "bot-9.example");
    assert_eq!(callback(&gateway, &unknown).await, 503);
    assert_eq!(post(&gateway, "/api/calls", bodies::incoming("call-2")).await, 503);
    assert!(gateway.metric("switchboard_fleet_source_last_success_timestamp_seconds", &[]).await > 1.7e9);

    dns.serve(&bots).await;
    until("the source is read", async || {
        let fleet = gateway.admin("/fleet").await.json();
        fleet.as_array().unwrap().iter().all(|one| one["state"] == "ready").then_some(())
    })
    .await;
    assert_eq!(callback(&gateway, &unknown).await, 410);
    assert_eq!(callback(&gateway, &own).await, 202);
    bots[owner].request().await;
    let fleet = gateway.admin("/fleet").await.json();
    assert!(fleet.as_array().unwrap().iter().all(|one| one["restored_age_ms"].is_null()), "{fleet}");
}

/// A start without a stored fleet waits for the source, and not for ever: a gateway serves more than its
/// fleet.
#[tokio::test]
async fn a_gateway_whose_source_is_away_is_ready_after_five_seconds() {
    let issuer = Issuer::start();
    let dns = DnsServer::new();
    let gateway = Gateway::start_unready(&dns.settings(&issuer, "")).await;
    gateway.wait_for_ready(200).await;
    assert_eq!(gateway.admin("/readyz").await.json()["fleet_known"], false);
    assert_eq!(callback(&gateway, &minted(&gateway, "bot-0.example")).await, 503);
}
