//! A gateway that runs out of file descriptors: no instance is blamed, and idle connections make room.

use std::{num::NonZeroUsize, thread::available_parallelism};

use tokio::{
    net::TcpStream,
    time::{Duration, sleep},
};

use crate::support::{
    Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies, gateway::path_of,
    instance::first_request, until,
};

/// Starts a gateway that has `left` descriptors for connections, more or less, and its instances.
async fn start(instances: usize, left: u32, with_probe: bool) -> (Gateway, Vec<Instance>, Issuer) {
    let issuer = Issuer::start();
    let instances: Vec<_> = (0..instances).map(|at| Instance::start(&format!("bot-{at}"))).collect();
    let mut settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>());
    if with_probe {
        settings = settings.line("fleet.probe", "path = \"/healthz\"\ninterval = \"1s\"");
    }
    // The runtime of each worker needs some, too.
    let workers = available_parallelism().map_or(1, NonZeroUsize::get);
    let limit = left + 20 + 4 * u32::try_from(workers).unwrap();
    let gateway = Gateway::start_limited(&settings, limit, limit).await;
    gateway.wait_for_ready(200).await;
    (gateway, instances, issuer)
}

fn new_call(number: usize) -> Vec<u8> {
    Request::webhook(&Token::skype().sign(), bodies::incoming(&format!("call-{number}"))).bytes()
}

/// Calls and callbacks of 150 instances, one after the other: each leaves an idle connection.
#[tokio::test]
async fn idle_connections_do_not_use_up_the_descriptors() {
    let (gateway, mut instances, _issuer) = start(150, 60, false).await;
    let mut client = Client::connect(gateway.public).await;
    let mut owners = Vec::new();
    for number in 0..300 {
        assert_eq!(client.exchange(new_call(number)).await.status(), 202, "call {number}");
        let (owner, request) = first_request(&mut instances).await;
        owners.push((owner, path_of(request.field("switchboard-callback-uri").unwrap())));
    }
    let token = Token::skype().sign();
    for (owner, path) in owners {
        let callback = Request::post(&path, &token, bodies::updated("call", "established"));
        assert_eq!(client.exchange(callback.bytes()).await.status(), 202);
        instances[owner].request().await;
    }
    assert!(gateway.metric("switchboard_idle_connections", &[]).await < 30.0);
    assert_eq!(gateway.metric("switchboard_attempt_failures_total", &[]).await, 0.0);
    until("no connection is idle", async || {
        (gateway.metric("switchboard_idle_connections", &[]).await == 0.0).then_some(())
    })
    .await;
}

/// Clients take all descriptors for as long as three probes. The calls meanwhile cannot be placed.
#[tokio::test]
async fn no_instance_is_blamed_for_a_lack_of_descriptors() {
    let (gateway, _instances, _issuer) = start(150, 60, true).await;
    let ready = async || {
        let states = gateway.metric("switchboard_instance_state", &[("state", "ready")]).await;
        (states == 150.0).then_some(())
    };
    until("all instances are ready", ready).await;
    let transitions = gateway.metric("switchboard_instance_transitions_total", &[]).await;
    let mut client = Client::connect(gateway.public).await;
    // The first probes may have left no descriptor for the fetch of the keys.
    until("a call is placed", async || (client.exchange(new_call(0)).await.status() == 202).then_some(()))
        .await;

    let mut clients = Vec::new();
    for _ in 0..150 {
        clients.push(TcpStream::connect(gateway.public).await.unwrap());
    }
    for number in 1..4 {
        client.send(new_call(number)).await;
        client.response().await;
    }
    sleep(Duration::from_secs(3)).await;
    drop(clients);

    until("a call is placed again", async || {
        (client.exchange(new_call(4)).await.status() == 202).then_some(())
    })
    .await;
    assert_eq!(gateway.metric("switchboard_instance_transitions_total", &[]).await, transitions);
    until("all instances are ready", ready).await;
    assert!(gateway.metric("switchboard_exhaustions_total", &[]).await >= 3.0);
    // Logged once a minute.
    let logged = gateway.log.events().iter().filter(|event| event["message"] == EXHAUSTED).count();
    assert_eq!(logged, 1);
}

const EXHAUSTED: &str = "gateway has no descriptors, ports or memory left for sockets";
