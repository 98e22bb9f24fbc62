//! The time limits of connections, the limit of file descriptors and the limit of connections.
//!
//! One test checks all time limits concurrently, so that it takes no longer than the longest of them.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_openssl::SslStream;

use crate::{
    http2::PREFACE,
    support::{
        APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, every,
        gateway::path_of,
        soon,
        tls::{self, HTTP2},
        until,
    },
};

/// A connection without a whole request is closed, neither too early nor too late.
#[tokio::test]
async fn connections_without_a_whole_request_are_closed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("limits", "idle = \"2s\"");
    let plain = Gateway::start(&settings).await;
    let mut settings = settings;
    settings.tls = true;
    let secure = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let bytes = request.bytes();
    let (head, body) = bytes.split_at(bytes.len() - request.body.len());
    let half_head = &head[..head.len() / 2];
    let half_request = &bytes[..bytes.len() - body.len() / 2];

    let no_bytes = closes(5, async { Client::connect(plain.public).await });
    let head_in_part = closes(5, sent(&plain, half_head));
    let request_in_part = closes(10, sent(&plain, half_request));
    let one_byte = closes(5, sent(&plain, b"P"));
    let idle = async {
        let mut client = Client::connect(plain.public).await;
        let started = Instant::now();
        assert_eq!(client.exchange(&bytes).await.status(), 202);
        client.closed().await;
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(1500), "an idle connection was closed after {took:?}");
    };
    let trickled_head = trickle(&plain, half_head, b"x", 5);
    let trickled_body = trickle(&plain, head, b" ", 10);
    let no_handshake = closes(5, async { Client::connect(secure.public).await });
    let silent = |bytes: &'static [u8]| closes(10, over_http2(&secure, bytes));
    let silent_connections =
        async { tokio::join!(silent(b""), silent(b"PRI * HT"), silent(PREFACE), silent(SETTINGS)) };
    tokio::join!(
        no_bytes,
        head_in_part,
        request_in_part,
        one_byte,
        idle,
        trickled_head,
        trickled_body,
        no_handshake,
        silent_connections,
    );
    // Only the one whole request reached the instance.
    instance.request().await;
    instance.expect_nothing();
}

/// Waits for the end of a connection, which must not come much earlier than after `seconds`.
async fn closes<S: AsyncRead + AsyncWrite + Unpin>(seconds: u64, client: impl Future<Output = Client<S>>) {
    // Taken before the gateway can start its timer: on a busy machine a handshake takes long.
    let started = Instant::now();
    let (_, rest) = client.await.closed().await;
    let after = started.elapsed();
    assert!(after >= Duration::from_millis(seconds * 1000 - 500), "after {after:?} instead of {seconds} s");
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.starts_with("HTTP/1.1 ") || rest.starts_with("HTTP/1.1 408"), "{rest}");
}

async fn sent(gateway: &Gateway, bytes: &[u8]) -> Client {
    let mut client = Client::connect(gateway.public).await;
    client.send(bytes).await;
    client
}

async fn over_http2(gateway: &Gateway, bytes: &[u8]) -> Client<SslStream<TcpStream>> {
    let stream = tls::connect(gateway.public, tls::session(&tls::connector(HTTP2).build())).await;
    let mut client = Client::over(stream);
    client.send(bytes).await;
    client
}

/// Sends `start` at once and then single bytes: the limit applies to the whole, not to each byte.
async fn trickle(gateway: &Gateway, start: &[u8], byte: &[u8], seconds: u64) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(start).await.unwrap();
    let mut ticks = every(300);
    let ended = async {
        let (mut read, mut write) = stream.split();
        let mut response = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut response);
        let writing = async {
            while write.write_all(byte).await.is_ok() {
                ticks.tick().await;
            }
        };
        tokio::select! { _ = reading => (), () = writing => () }
    };
    soon("the end of a trickle", ended).await;
    assert!(started.elapsed() >= Duration::from_millis(seconds * 1000 - 500), "{:?}", started.elapsed());
}

/// The preface and empty settings: a complete HTTP/2 handshake without requests.
const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn a_slow_body_is_408() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let bytes = request.bytes();
    let mut client = Client::connect(gateway.public).await;
    client.send(&bytes[..bytes.len() - 1]).await;
    let response = client.response().await;
    assert_eq!((response.status(), response.field("connection")), (408, Some("close")));
    client.closed().await;
    instance.expect_nothing();
}

#[tokio::test]
async fn the_descriptor_limit_is_raised_up_to_the_hard_limit() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let needs = |connections| {
        let settings = Settings::new(&issuer, &[&instance]).line("limits", "in_flight = 100");
        settings.line("limits", &format!("connections = {connections}"))
    };
    // More connections than the soft limit allows.
    let gateway = Gateway::start_limited(&needs(250), 100, 1100).await;
    gateway.wait_for_ready(200).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(Client::connect(gateway.public).await);
    }
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes();
    let mut last = clients.pop().unwrap();
    assert_eq!(last.exchange(&request).await.status(), 202);
    assert!(!gateway.log.text().contains(LOW_DESCRIPTOR_LIMIT));

    // 301 connections and 64 that are being evicted, 100 requests in flight, an eighth of the descriptors for
    // idle connections, 512 others.
    let gateway = Gateway::start_limited(&needs(301), 100, 1100).await;
    let warning = gateway.log.message(LOW_DESCRIPTOR_LIMIT).await;
    assert_eq!((&warning["descriptors"], &warning["needed"]), (&1100.into(), &1114.into()));
}

const LOW_DESCRIPTOR_LIMIT: &str =
    "file descriptor limit is lower than limits.connections and limits.in_flight may need";

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("limits", "connections = 2");
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes();
    let mut served = [Client::connect(gateway.public).await, Client::connect(gateway.public).await];
    for client in &mut served {
        assert_eq!(client.exchange(&request).await.status(), 202);
    }
    let (after, rest) = Client::connect(gateway.public).await.closed().await;
    assert!(rest.is_empty() && after < Duration::from_secs(4), "{rest:?} after {after:?}");
    for client in &mut served {
        assert_eq!(client.exchange(&request).await.status(), 202);
    }
    // A new connection is accepted as soon as another one has ended.
    drop(served);
    until("room for a connection", async || {
        let mut client = Client::connect(gateway.public).await;
        client.send(&request).await;
        client.response_or_end().await.map(|response| assert_eq!(response.status(), 202))
    })
    .await;
}

/// An instance that hangs uses up its own share of the requests in flight, and no more.
#[tokio::test]
async fn callbacks_of_an_instance_that_hangs_leave_room_for_the_others() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = Settings::new(&issuer, &[&instances[0], &instances[1]]).line("limits", "in_flight = 200");
    let gateway = Gateway::start(&settings.line("callback", "patience = \"60s\"")).await;
    let token = Token::skype().sign();
    let mut callbacks = Vec::new();
    for name in ["bot-0", "bot-1"] {
        let minted = gateway.admin(&format!("/fleet/{name}/callback?app={APP}")).await.json();
        let path = path_of(minted["callback_uri"].as_str().unwrap());
        callbacks.push(Request::post(&path, &token, bodies::updated("call-1", "established")));
    }
    instances[0].always(Reply::Never);
    let mut hanging = Vec::new();
    for _ in 0..250 {
        let mut client = Client::connect(gateway.public).await;
        client.send(callbacks[0].bytes()).await;
        hanging.push(client);
    }
    let refused = async || {
        let labels = [("outcome", "instance_over_capacity")];
        gateway.metric("switchboard_requests_total", &labels).await
    };
    until("the callbacks beyond the bound are refused", async || (refused().await == 200.0).then_some(()))
        .await;
    let in_flight = gateway.metric("switchboard_instance_requests_in_flight", &[("bot", "bot-0")]).await;
    assert_eq!(in_flight, 50.0);
    for _ in 0..100 {
        assert_eq!(callbacks[1].send(&gateway).await.status(), 202);
        instances[1].request().await;
    }
    // At once, and before the body.
    let head = callbacks[0].clone().with("Content-Length", "100000").bytes();
    let mut client = Client::connect(gateway.public).await;
    let response = client.exchange(head).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    let event = gateway.log.event("a refusal", |event| event["outcome"] == "instance_over_capacity").await;
    assert_eq!(
        (&event["instance"], &event["reason"]),
        (&"bot-0".into(), &"too_many_in_flight_to_instance".into()),
        "{event}"
    );
    // It does not count against the instance.
    assert_eq!(gateway.admin("/fleet").await.json()[0]["state"], "ready");
    // A callback is taken again as soon as another one has ended.
    instances[0].always(Reply::status(202));
    hanging.into_iter().for_each(Client::reset);
    until("room for a callback", async || (callbacks[0].send(&gateway).await.status() == 202).then_some(()))
        .await;
}
