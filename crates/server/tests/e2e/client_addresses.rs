//! The address of a sender in the log, which proxies name with a header of the PROXY protocol or with
//! `X-Forwarded-For`.

use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tokio_openssl::SslStream;

use crate::support::{Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies, soon, tls};

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb";
const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const LOOPBACK: &str = "127.0.0.0/8";
const ELSEWHERE: &str = "10.0.0.0/8";

async fn gateway(issuer: &Issuer, instance: &Instance, tls: bool, proxies: &str) -> Gateway {
    let mut settings = Settings::new(issuer, &[instance]).line("listen", proxies);
    settings.tls = tls;
    Gateway::start(&settings).await
}

fn proxies(network: &str, protocol: &str) -> String {
    format!("proxies = {{ networks = [\"{network}\"], protocol = \"{protocol}\" }}")
}

fn request(message: &str) -> Request {
    Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"))
        .with("X-Microsoft-Skype-Message-ID", message)
}

/// Returns `client.address` of the event with this message id.
async fn address(gateway: &Gateway, message: &str) -> Value {
    let mut event = gateway.log.event(message, |event| event["message.id"] == message).await;
    event["client.address"].take()
}

async fn connect(gateway: &Gateway, header: &[u8]) -> TcpStream {
    let mut stream = soon("connect", TcpStream::connect(gateway.public)).await.unwrap();
    stream.write_all(header).await.unwrap();
    stream
}

/// Sends a header, and a request after it. Returns its status; `None` if the connection is closed.
async fn status(gateway: &Gateway, tls: bool, header: &[u8], request: &Request) -> Option<u16> {
    let stream = connect(gateway, header).await;
    if tls {
        let mut stream = SslStream::new(tls::session(&tls::connector(tls::HTTP1).build()), stream).unwrap();
        soon("TLS handshake", std::pin::Pin::new(&mut stream).connect()).await.ok()?;
        let mut client = Client::over(stream);
        client.send(request.bytes()).await;
        Some(client.response_or_end().await?.status())
    } else {
        let mut client = Client::over(stream);
        client.send(request.bytes()).await;
        Some(client.response_or_end().await?.status())
    }
}

#[tokio::test]
async fn the_header_of_a_proxy_has_the_address_of_the_sender() {
    let issuer = Issuer::start();
    for tls in [false, true] {
        let instance = Instance::start("bot-0");
        let gateway = gateway(&issuer, &instance, tls, &proxies(LOOPBACK, "proxy")).await;
        let unknown = &b"PROXY UNKNOWN\r\n"[..];
        for (message, header, expected) in [
            ("v1", V1, "192.0.2.7"),
            ("v2", V2, "192.0.2.7"),
            ("local", V2_LOCAL, "127.0.0.1"),
            ("unknown", unknown, "127.0.0.1"),
        ] {
            // Only the protocol that is configured counts.
            let request = request(message).with("X-Forwarded-For", "203.0.113.9");
            assert_eq!(status(&gateway, tls, header, &request).await, Some(202), "{message}");
            assert_eq!(address(&gateway, message).await, expected);
        }
        // Refusals have it, too, and it proves nothing.
        let refused = request("refused").without("Authorization");
        assert_eq!(status(&gateway, tls, V1, &refused).await, Some(401));
        assert_eq!(address(&gateway, "refused").await, "192.0.2.7");
    }
}

#[tokio::test]
async fn a_connection_from_a_proxy_must_begin_with_a_header() {
    let issuer = Issuer::start();
    for tls in [false, true] {
        let instance = Instance::start("bot-0");
        let gateway = gateway(&issuer, &instance, tls, &proxies(LOOPBACK, "proxy")).await;
        for header in [&b""[..], b"PROXY TCP4 192.0.2.7 x\r\n"] {
            assert_eq!(status(&gateway, tls, header, &request("m-1")).await, None);
        }
        // The health check of a balancer is no mistake.
        drop(connect(&gateway, b"").await);
        assert_eq!(status(&gateway, tls, V2, &request("m-2")).await, Some(202));
        let message =
            "refusing a connection of listen.proxies: it must begin with a header of the PROXY protocol";
        let line = gateway.log.message(message).await;
        assert_eq!((&line["level"], &line["client.address"]), (&"warn".into(), &"127.0.0.1".into()));
        assert_eq!(line["error"], "no header of the PROXY protocol");
        let failed = gateway.metric("switchboard_connections_failed_total", &[("reason", "bad_request")]);
        assert_eq!(failed.await, 2.0);
        let lines = gateway.log.events().iter().filter(|event| event["message"] == message).count();
        assert_eq!(lines, 1, "one line a minute");
    }
}

/// Without the setting, and from an address outside of its networks, a header is not read. The operator
/// learns which setting reads it.
#[tokio::test]
async fn an_unexpected_header_is_not_read_and_logged_with_its_setting() {
    let issuer = Issuer::start();
    for tls in [false, true] {
        for setting in [String::new(), proxies(ELSEWHERE, "proxy"), proxies(LOOPBACK, "x-forwarded-for")] {
            let instance = Instance::start("bot-0");
            let gateway = gateway(&issuer, &instance, tls, &setting).await;
            for header in [V1, V2] {
                let status = status(&gateway, tls, header, &request("m-1")).await;
                assert!([None, Some(400)].contains(&status), "{status:?}");
            }
            assert_eq!(status(&gateway, tls, b"", &request("m-2")).await, Some(202));
            assert_eq!(address(&gateway, "m-2").await, "127.0.0.1");
            let is_hint = |event: &Value| event["message"].as_str().unwrap().contains("listen.proxies");
            let line = gateway.log.event("the hint", is_hint).await;
            assert_eq!((&line["level"], &line["client.address"]), (&"warn".into(), &"127.0.0.1".into()));
            assert_eq!(gateway.log.events().iter().filter(|event| is_hint(event)).count(), 1);
        }
    }
}

#[tokio::test]
async fn the_field_of_a_proxy_has_the_address_of_each_sender() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance, false, &proxies(LOOPBACK, "x-forwarded-for")).await;
    let mut client = Client::connect(gateway.public).await;
    for (message, field, expected) in [
        ("m-1", "203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("m-2", "2001:db8::7, 127.0.0.3", "2001:db8::7"),
        ("m-3", "unknown", "127.0.0.1"),
    ] {
        let request = request(message).with("X-Forwarded-For", field);
        assert_eq!(client.exchange(request.bytes()).await.status(), 202);
        assert_eq!(address(&gateway, message).await, expected);
    }
    // A field of a sender that is no proxy proves nothing.
    gateway.rewrite(
        &Settings::new(&issuer, &[&instance]).line("listen", &proxies(ELSEWHERE, "x-forwarded-for")),
    );
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    let request = request("m-4").with("X-Forwarded-For", "192.0.2.7");
    assert_eq!(client.exchange(request.bytes()).await.status(), 202);
    assert_eq!(address(&gateway, "m-4").await, "127.0.0.1");
}
