//! Draining after SIGTERM: the gateway is no longer ready, still serves, and waits for requests in flight.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;

use crate::support::{
    Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, soon, tls, until,
};

fn settings(issuer: &Issuer, instance: &Instance, delay: &str, deadline: &str) -> Settings {
    Settings::new(issuer, &[instance])
        .line("listen", "health_path = \"/api/health\"")
        .line("listen", &format!("drain = {{ delay = \"{delay}\", deadline = \"{deadline}\" }}"))
}

fn request() -> Vec<u8> {
    Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes()
}

#[tokio::test]
async fn requests_in_flight_are_finished() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&settings(&issuer, &instance, "1500ms", "60s")).await;
    let mut idle = Client::connect(gateway.public).await;
    assert_eq!(idle.exchange(request()).await.status(), 202);
    instance.request().await;
    let mut busy = Client::connect(gateway.public).await;
    instance.next(Reply::status(202).held());
    busy.send(request()).await;
    instance.request().await;

    let started = Instant::now();
    gateway.signal("TERM");
    gateway.log.message("drain started: no longer ready, still accepting connections").await;
    let ready = gateway.admin("/readyz").await;
    assert_eq!((ready.status(), &ready.json()["failing"][0]), (503, &"drain".into()));
    assert_eq!(gateway.admin("/healthz").await.status(), 200);
    assert_eq!(Request::get("/api/health").send(&gateway).await.status(), 503);
    // The load balancer has not noticed yet: a new connection is served once, and then closed.
    let response = Client::connect(gateway.public).await.exchange(request()).await;
    assert_eq!((response.status(), response.field("connection")), (202, Some("close")));

    let (_, rest) = idle.closed().await;
    assert!(rest.is_empty() && started.elapsed() >= Duration::from_millis(1400), "{:?}", started.elapsed());
    let refused = tokio::net::TcpStream::connect(gateway.public).await;
    assert!(refused.is_err(), "connections are still accepted");
    instance.release();
    assert_eq!(busy.response().await.status(), 202);
    busy.closed().await;
    assert_eq!(gateway.exit().await, Some(0));
    gateway.log.message("drain finished: nothing was cut off").await;
    let placed = gateway.log.events().iter().filter(|event| event["outcome"] == "placed").count();
    assert_eq!(placed, 3);
}

/// The second client is served by another worker, over the connection to the instance that the first one
/// left. The worker of the first client, which made it, has nothing else to do when the drain starts.
#[tokio::test]
async fn a_worker_without_clients_waits_for_requests_over_its_connections() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&settings(&issuer, &instance, "0s", "60s")).await;
    instance.always(Reply::with(202, &[("Keep-Alive", "timeout=60")], ""));
    let (mut idle, mut busy) = (Client::connect(gateway.public).await, Client::connect(gateway.public).await);
    assert_eq!(idle.exchange(request()).await.status(), 202);
    instance.request().await;
    instance.next(Reply::status(202).held());
    busy.send(request()).await;
    instance.request().await;
    gateway.signal("TERM");
    idle.closed().await;
    // Longer than a worker needs to stop.
    tokio::time::sleep(Duration::from_secs(1)).await;
    instance.release();
    assert_eq!(busy.response().await.status(), 202);
    assert_eq!(gateway.exit().await, Some(0));
}

/// Waits until the gateway has closed its public listener.
async fn listener_closed(gateway: &Gateway) {
    until("the listener is closed", async || {
        tokio::net::TcpStream::connect(gateway.public).await.err().map(|_| ())
    })
    .await;
}

/// A client that has connected may be about to send its first request, or the rest of one.
#[tokio::test]
async fn connections_that_have_not_sent_a_whole_request_yet_are_served() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&settings(&issuer, &instance, "0s", "60s")).await;
    let request = request();
    let (start, rest) = request.split_at(request.len() / 2);
    let mut idle = Client::connect(gateway.public).await;
    let silent = Client::connect(gateway.public).await;
    let mut first = Client::connect(gateway.public).await;
    first.send(start).await;
    let mut second = Client::connect(gateway.public).await;
    for client in [&mut idle, &mut second] {
        assert_eq!(client.exchange(&request).await.status(), 202);
    }
    second.send(start).await;
    // Each of them is at its worker, which reads in order of arrival.
    assert_eq!(Request::get("/api/health").send(&gateway).await.status(), 200);
    gateway.signal("TERM");
    listener_closed(&gateway).await;
    let (_, unread) = idle.closed().await;
    assert!(unread.is_empty());
    for (what, client, bytes) in
        [("silent", silent, request.as_slice()), ("first", first, rest), ("second", second, rest)]
    {
        let mut client = client;
        client.send(bytes).await;
        let response = client.response_or_end().await.unwrap_or_else(|| panic!("{what}: closed"));
        assert_eq!((response.status(), response.field("connection")), (202, Some("close")), "{what}");
        client.closed().await;
    }
    assert_eq!(gateway.exit().await, Some(0));
}

/// The operating system has completed these connections, and the gateway has not accepted them yet.
#[tokio::test]
async fn connections_in_the_backlog_are_served() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&settings(&issuer, &instance, "0s", "60s")).await;
    gateway.signal("STOP");
    let mut clients = Vec::new();
    for number in 0..64 {
        let mut client = Client::connect(gateway.public).await;
        if number % 2 == 0 {
            client.send(request()).await;
        }
        clients.push(client);
    }
    gateway.signal("TERM");
    gateway.signal("CONT");
    listener_closed(&gateway).await;
    for (number, mut client) in clients.into_iter().enumerate() {
        if number % 2 == 1 {
            client.send(request()).await;
        }
        let response = client.response_or_end().await.unwrap_or_else(|| panic!("{number}: closed"));
        assert_eq!(response.status(), 202, "{number}");
        // The gateway may have served the others before it saw the signal.
        if number % 2 == 1 {
            assert_eq!(response.field("connection"), Some("close"), "{number}");
        }
    }
    assert_eq!(gateway.exit().await, Some(0));
}

#[tokio::test]
async fn requests_are_cut_off_at_the_deadline() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&settings(&issuer, &instance, "0s", "1s")).await;
    instance.next(Reply::Never);
    let mut busy = Client::connect(gateway.public).await;
    busy.send(request()).await;
    instance.request().await;
    gateway.signal("TERM");
    let started = Instant::now();
    assert!(busy.response_or_end().await.is_none());
    assert_eq!(gateway.exit().await, Some(1));
    assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
    let cut = gateway.log.message("drain deadline passed: requests were cut off").await;
    assert_eq!((&cut["level"], &cut["requests"]), (&"warn".into(), &1.into()));
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    for signal in ["TERM", "INT"] {
        let mut gateway = Gateway::start(&settings(&issuer, &instance, "50m", "55m")).await;
        gateway.signal(signal);
        gateway.log.message("drain started: no longer ready, still accepting connections").await;
        gateway.signal(signal);
        assert_eq!(gateway.exit().await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn http2_connections_are_drained_too() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut settings = settings(&issuer, &instance, "0s", "60s");
    settings.tls = true;
    let mut gateway = Gateway::start(&settings).await;
    let (mut idle, idle_driver) = connect_http2(&gateway).await;
    let (mut busy, busy_driver) = connect_http2(&gateway).await;
    let response = soon("a response", idle.send_request(post())).await.unwrap();
    assert_eq!(response.status(), 202);
    instance.request().await;
    instance.next(Reply::status(202).held());
    let waiting = busy.send_request(post());
    let ended = async {
        instance.request().await;
        gateway.signal("TERM");
        soon("the end of the idle connection", idle_driver).await.unwrap().unwrap();
        instance.release();
    };
    let (response, ()) = tokio::join!(soon("the last response", waiting), ended);
    assert_eq!(response.unwrap().status(), 202);
    soon("the end of the busy connection", busy_driver).await.unwrap().unwrap();
    assert_eq!(gateway.exit().await, Some(0));
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

async fn connect_http2(gateway: &Gateway) -> (Http2, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = tls::connect(gateway.public, tls::session(&tls::connector(tls::HTTP2).build())).await;
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn post() -> http::Request<Full<Bytes>> {
    http::Request::post("https://emea.bots.example/api/calls")
        .header("authorization", format!("Bearer {}", Token::skype().sign()))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(bodies::incoming("call-1"))))
        .unwrap()
}
