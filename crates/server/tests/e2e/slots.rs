//! Connection slots: an unauthenticated sender holds none for long, and each refusal reaches its sender.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    gateway::path_of,
    soon,
    tls::{self, HTTP1},
};

/// A sender that writes all of its request before it reads the response, as many clients do.
async fn exchange_whole<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, request: &[u8]) -> String {
    soon("the request", stream.write_all(request)).await.unwrap();
    let mut response = Vec::new();
    soon("the response", stream.read_to_end(&mut response)).await.unwrap();
    String::from_utf8(response).unwrap()
}

/// RFC 9112 section 9.6: the close is announced, and no reset overtakes the response.
#[tokio::test]
async fn a_refusal_reaches_a_sender_that_is_still_sending() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut settings = Settings::new(&issuer, &[&instance]).line("limits", "body = \"200KiB\"");
    let plain = Gateway::start(&settings).await;
    settings.tls = true;
    let secure = Gateway::start(&settings).await;
    let right = Token::skype().sign();
    let wrong = Token::skype().signed_by("stranger").sign();
    for bytes in [300 * 1024, 3 << 20] {
        let body = vec![b' '; bytes];
        for (status, request) in [
            (401, Request::webhook(&wrong, body.clone())),
            (404, Request::post("/nowhere", &right, body.clone())),
            (405, Request::webhook(&right, body.clone()).method("PUT")),
            (413, Request::webhook(&right, body.clone())),
            (415, Request::webhook(&right, body.clone()).replace("Content-Type", "text/plain")),
        ] {
            for gateway in [&plain, &secure] {
                let response = if std::ptr::eq(gateway, &secure) {
                    let session = tls::session(&tls::connector(HTTP1).build());
                    exchange_whole(tls::connect(gateway.public, session).await, &request.bytes()).await
                } else {
                    let stream = TcpStream::connect(gateway.public).await.unwrap();
                    exchange_whole(stream, &request.bytes()).await
                };
                let what = format!("{status} with {bytes} bytes: {response}");
                assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
                assert!(response.to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{what}");
                assert!(response.ends_with("\r\n\r\n"), "{what}");
            }
        }
    }
    instance.expect_nothing();
}

/// A client that goes on sending after its refusal cannot make the gateway read without end.
#[tokio::test]
async fn what_arrives_after_a_refusal_is_read_within_bounds() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let head = "POST /nowhere HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000000\r\n\r\n";

    // Endless: more than any buffer of the kernel and the 8 MiB of the gateway together.
    let mut stream = TcpStream::connect(gateway.public).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let part = vec![b'x'; 1 << 20];
    let endless = async {
        for sent in 0..64 {
            if stream.write_all(&part).await.is_err() {
                return sent;
            }
        }
        64
    };
    let sent = soon("the end of an endless body", endless).await;
    assert!(sent < 64, "the gateway has read {sent} MiB");

    // Silent: the response and the end of the gateway's side come at once, and its socket is closed later.
    let mut client = Client::connect(gateway.public).await;
    let response = client.exchange(head).await;
    assert_eq!((response.status(), response.field("connection")), (404, Some("close")));
    assert!(client.closed().await.1.is_empty());
    let open = async || gateway.metric("switchboard_connections", &[]).await;
    assert_eq!(open().await, 1.0, "the connection lingers");
    crate::support::until("the end of the lingering", async || (open().await == 0.0).then_some(())).await;
}

#[tokio::test]
async fn a_wrong_request_ends_a_connection_that_had_no_authenticated_sender() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("listen", "health_path = \"/health\"");
    let gateway = Gateway::start(&settings).await;
    let right = Token::skype().sign();
    let call = Request::webhook(&right, bodies::incoming("call-1"));
    let health = Request::get("/health");
    let wrong = [
        (400, call.clone().with("Host", "another.example")),
        (401, Request::webhook(&Token::skype().signed_by("stranger").sign(), "{}")),
        (404, Request::get("/nowhere")),
        (405, Request::get("/health").method("DELETE")),
        (415, call.clone().without("Authorization").replace("Content-Type", "text/plain")),
    ];
    for (status, request) in wrong {
        // A sender without a token gets 401 before its content type is looked at.
        let status = if status == 415 { 401 } else { status };
        for before in [None, Some(&health)] {
            let mut client = Client::connect(gateway.public).await;
            if let Some(before) = before {
                let response = client.exchange(before.bytes()).await;
                assert_eq!((response.status(), response.field("connection")), (200, None));
            }
            let response = client.exchange(request.bytes()).await;
            assert_eq!((response.status(), response.field("connection")), (status, Some("close")));
            let (after, rest) = client.closed().await;
            assert!(rest.is_empty() && after < Duration::from_secs(4), "{status}: {rest:?} after {after:?}");
        }
        // The platform may be wrong and keeps its connection.
        let mut client = Client::connect(gateway.public).await;
        for (request, status) in [(&call, 202), (&request, status), (&call, 202)] {
            let response = client.exchange(request.bytes()).await;
            assert_eq!((response.status(), response.field("connection")), (status, None));
        }
    }
}

/// An error of the gateway is no fault of its sender.
#[tokio::test]
async fn a_503_ends_no_connection() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance]).line("limits", "in_flight = 1")).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    instance.next(crate::support::Reply::status(202).held());
    let mut first = Client::connect(gateway.public).await;
    first.send(request.bytes()).await;
    instance.request().await;
    let mut client = Client::connect(gateway.public).await;
    for _ in 0..2 {
        let response = client.exchange(request.bytes()).await;
        assert_eq!((response.status(), response.field("connection")), (503, None));
    }
    instance.release();
    assert_eq!(first.response().await.status(), 202);
    assert_eq!(client.exchange(request.bytes()).await.status(), 202);
}

/// Connections that send nothing, with and without TLS, give up their slots to the platform, one for one.
#[tokio::test]
async fn unauthenticated_senders_give_up_their_slots() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut settings = Settings::new(&issuer, &[&instance]).line("limits", "connections = 6");
    for tls in [false, true] {
        settings.tls = tls;
        let gateway = Gateway::start(&settings).await;
        let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes();
        let exchange = async |client: &mut Platform| match client {
            Platform::Plain(client) => client.exchange(&request).await.status(),
            Platform::Secure(client) => client.exchange(&request).await.status(),
        };
        let mut platform = Platform::connect(&gateway, tls).await;
        assert_eq!(exchange(&mut platform).await, 202);
        // More than there are slots: the later ones replace the earlier ones, and never the platform.
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(Client::connect(gateway.public).await);
        }
        let mut others = Vec::new();
        for _ in 0..3 {
            let mut other = Platform::connect(&gateway, tls).await;
            assert_eq!(exchange(&mut other).await, 202);
            others.push(other);
        }
        assert_eq!(exchange(&mut platform).await, 202);
        let message = "evicting idle connections: all slots are in use";
        let event = gateway.log.message(message).await;
        assert_eq!((&event["level"], &event["listener"]), (&"warn".into(), &"public".into()));
        let lines = gateway.log.events().iter().filter(|event| event["message"] == message).count();
        assert_eq!(lines, 1, "one warning for an episode");
        // 1 + 20 + 3 connections for 6 slots.
        assert_eq!(gateway.metric("switchboard_connections_evicted_total", &[]).await, 18.0);
        assert_eq!(gateway.metric("switchboard_connections_refused_total", &[]).await, 0.0);
        drop(silent);
    }
}

enum Platform {
    Plain(Client),
    Secure(Client<tokio_openssl::SslStream<TcpStream>>),
}

impl Platform {
    async fn connect(gateway: &Gateway, tls: bool) -> Self {
        if tls {
            let session = tls::session(&tls::connector(HTTP1).build());
            Self::Secure(Client::over(tls::connect(gateway.public, session).await))
        } else {
            Self::Plain(Client::connect(gateway.public).await)
        }
    }
}

/// A connection of an authenticated sender, or with a request in flight, is never the victim.
#[tokio::test]
async fn a_connection_of_an_authenticated_sender_keeps_its_slot() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("limits", "connections = 3");
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let mut served = [Client::connect(gateway.public).await, Client::connect(gateway.public).await];
    for client in &mut served {
        assert_eq!(client.exchange(request.bytes()).await.status(), 202);
        instance.request().await;
    }
    // The first request of its connection is in flight.
    instance.next(crate::support::Reply::status(202).held());
    let mut busy = Client::connect(gateway.public).await;
    busy.send(request.bytes()).await;
    instance.request().await;
    for _ in 0..3 {
        let (_, rest) = Client::connect(gateway.public).await.closed().await;
        assert!(rest.is_empty());
    }
    let event = gateway.log.message("refusing connections").await;
    assert_eq!(
        (&event["level"], &event["listener"], &event["reason"], &event["connections"]),
        (&"warn".into(), &"public".into(), &"no_slot".into(), &1.into())
    );
    let refused = gateway.metric("switchboard_connections_refused_total", &[("reason", "no_slot")]).await;
    assert_eq!(refused, 3.0);
    instance.release();
    assert_eq!(busy.response().await.status(), 202);
    for client in &mut served {
        assert_eq!(client.exchange(request.bytes()).await.status(), 202);
    }
}

#[tokio::test]
async fn a_source_may_have_a_bound_that_does_not_count_authenticated_senders() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("limits", "connections_per_source = 2");
    let gateway = Gateway::start(&settings).await;
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={}", crate::support::APP)).await.json();
    let path = path_of(minted["callback_uri"].as_str().unwrap());
    let request = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    let mut authenticated = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(gateway.public).await;
        assert_eq!(client.exchange(request.bytes()).await.status(), 202);
        authenticated.push(client);
    }
    let silent = [Client::connect(gateway.public).await, Client::connect(gateway.public).await];
    let (after, rest) = Client::connect(gateway.public).await.closed().await;
    assert!(rest.is_empty() && after < Duration::from_secs(4), "{rest:?} after {after:?}");
    let event = gateway.log.message("refusing connections").await;
    assert_eq!(event["reason"], "source_share");
    for client in &mut authenticated {
        assert_eq!(client.exchange(request.bytes()).await.status(), 202);
    }
    drop(silent);
}
