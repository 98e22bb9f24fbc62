//! Every limit in time, all at once so that the test takes as long as the longest, and the limit on connections.

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
        Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies, every, soon,
        tls::{self, HTTP2},
        until,
    },
};

/// A connection that does nothing useful is closed; not at once, and not late.
#[tokio::test]
async fn connections_that_only_cost_are_closed() {
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

    let first_byte = closes(5, async { Client::connect(plain.public).await });
    let half_a_head = closes(5, sent(&plain, half_head));
    let half_a_request = closes(10, sent(&plain, half_request));
    let one_byte_of_a_request_line = closes(5, sent(&plain, b"P"));
    let idle = async {
        let mut client = Client::connect(plain.public).await;
        let began = Instant::now();
        assert_eq!(client.exchange(&bytes).await.status(), 202);
        client.closed().await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(1500), "an idle connection was closed after {took:?}");
    };
    let trickled_head = trickle(&plain, half_head, b"x", 5);
    let trickled_body = trickle(&plain, head, b" ", 10);
    let no_handshake = closes(5, async { Client::connect(secure.public).await });
    let mute = |bytes: &'static [u8]| closes(10, over_http2(&secure, bytes));
    let mute_connections =
        async { tokio::join!(mute(b""), mute(b"PRI * HT"), mute(PREFACE), mute(SETTINGS)) };
    tokio::join!(
        first_byte,
        half_a_head,
        half_a_request,
        one_byte_of_a_request_line,
        idle,
        trickled_head,
        trickled_body,
        no_handshake,
        mute_connections,
    );
    // Only the one whole request came through.
    instance.request().await;
    instance.expect_nothing();
}

/// Waits for the end of a connection, which must come after about so many seconds.
async fn closes<S: AsyncRead + AsyncWrite + Unpin>(seconds: u64, client: impl Future<Output = Client<S>>) {
    // Before the gateway can have begun to count: on a busy machine the handshake alone takes a while.
    let began = Instant::now();
    let (_, rest) = client.await.closed().await;
    let after = began.elapsed();
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

/// A start at once, and then a byte now and then: the limit is on the whole.
async fn trickle(gateway: &Gateway, start: &[u8], byte: &[u8], seconds: u64) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(start).await.unwrap();
    let mut ticks = every(300);
    let ended = async {
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer);
        let writing = async {
            while write.write_all(byte).await.is_ok() {
                ticks.tick().await;
            }
        };
        tokio::select! { _ = reading => (), () = writing => () }
    };
    soon("the end of a trickle", ended).await;
    assert!(began.elapsed() >= Duration::from_millis(seconds * 1000 - 500), "{:?}", began.elapsed());
}

/// The preface and empty settings, so that nothing but requests is missing.
const SETTINGS: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn a_slow_body_is_told_so() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let bytes = request.bytes();
    let mut client = Client::connect(gateway.public).await;
    client.send(&bytes[..bytes.len() - 1]).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("connection")), (408, Some("close")));
    client.closed().await;
    instance.expect_nothing();
}

#[tokio::test]
async fn descriptors_are_taken_up_to_the_hard_limit() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let needs = |connections| {
        let settings = Settings::new(&issuer, &[&instance]).line("limits", "in_flight = 100");
        settings.line("limits", &format!("connections = {connections}"))
    };
    // A connection for each of what is asked for, more than the soft limit lets.
    let gateway = Gateway::start_limited(&needs(300), 100, 500).await;
    gateway.wait_for_ready(200).await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(Client::connect(gateway.public).await);
    }
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes();
    let mut last = clients.pop().unwrap();
    assert_eq!(last.exchange(&request).await.status(), 202);
    assert!(!gateway.log.text().contains(FEWER));

    let gateway = Gateway::start_limited(&needs(401), 100, 500).await;
    let warning = gateway.log.message(FEWER).await;
    assert_eq!((&warning["descriptors"], &warning["needed"]), (&500.into(), &501.into()));
}

const FEWER: &str = "file descriptor limit is lower than limits.connections and limits.in_flight may need";

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
    // There is room again as soon as one has gone.
    drop(served);
    until("room for a connection", async || {
        let mut client = Client::connect(gateway.public).await;
        client.send(&request).await;
        client.answer_or_end().await.map(|answer| assert_eq!(answer.status(), 202))
    })
    .await;
}
