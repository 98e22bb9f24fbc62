//! Hostile HTTP/1.1, as bytes. The gateway refuses or repairs it; an instance never receives it unchanged.

use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, WEBHOOK, bodies,
    gateway::path_of, tls,
};

struct Fixture {
    _issuer: Issuer,
    instance: Instance,
    gateway: Gateway,
    request: Request,
}

async fn fixture() -> Fixture {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    Fixture { _issuer: issuer, instance, gateway, request }
}

impl Fixture {
    /// Sends bytes. The gateway must respond with one of `statuses` (0: it closes without response), and no
    /// instance must receive a request.
    async fn refused(&mut self, what: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
        let mut client = Client::connect(self.gateway.public).await;
        client.send(bytes).await;
        let response = client.response_or_end().await;
        let status = response.as_ref().map_or(0, |response| response.status());
        assert!(statuses.contains(&status), "{what}: {response:?}");
        if let Some(request) = self.instance.request_now() {
            panic!("{what}: the instance received {request:?}");
        }
    }

    /// Returns the head of a valid request with these framing fields, followed by `rest`.
    fn framed(&self, fields: &[(&str, &str)], rest: impl AsRef<[u8]>) -> Vec<u8> {
        let mut request = self.request.clone();
        for (name, value) in fields {
            request = request.with(name, value);
        }
        request.body = Vec::new();
        let bytes = request.bytes();
        [bytes.as_slice(), rest.as_ref()].concat()
    }

    fn body(&self) -> String {
        String::from_utf8(self.request.body.clone()).unwrap()
    }

    /// Returns the body in one chunk, followed by `rest`.
    fn chunk(&self, rest: &str) -> String {
        let body = self.body();
        format!("{:x}\r\n{body}\r\n{rest}", body.len())
    }
}

/// A description of the mistake, the framing fields, the bytes after the head, and the allowed statuses.
type Framing<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, &'a [u16]);

/// RFC 9112 sections 6.1, 6.3 and 7.1.
#[tokio::test]
async fn ambiguous_framing_is_refused() {
    let mut fixture = fixture().await;
    let body = fixture.body();
    let length = body.len().to_string();
    let whole = fixture.chunk("0\r\n\r\n");
    let plus = format!("+{length}");
    let hex = format!("0x{:x}", body.len());
    let list = format!("{length}, {}", body.len() + 1);
    let length = length.as_str();
    let rows: &[Framing<'_>] = &[
        ("two lengths", &[("Content-Length", length), ("Content-Length", "5")], &body, &[400]),
        ("a list of lengths", &[("Content-Length", &list)], &body, &[400]),
        ("a sign", &[("Content-Length", &plus)], &body, &[400]),
        ("hexadecimal", &[("Content-Length", &hex)], &body, &[400]),
        ("a negative length", &[("Content-Length", "-1")], &body, &[400]),
        ("a huge length", &[("Content-Length", "99999999999999999999999")], &body, &[400, 413]),
        ("no digits", &[("Content-Length", "")], &body, &[400]),
        ("blanks in it", &[("Content-Length", "1 2")], &body, &[400]),
        ("identity", &[("Transfer-Encoding", "identity, chunked")], &whole, &[400, 501]),
        ("gzip", &[("Transfer-Encoding", "gzip, chunked")], &whole, &[400, 501]),
        (
            "two codings",
            &[("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
            &whole,
            &[400, 501],
        ),
        ("chunked twice", &[("Transfer-Encoding", "chunked, chunked")], &whole, &[400, 501]),
        ("chunked first", &[("Transfer-Encoding", "chunked, identity")], &whole, &[400, 501]),
        ("a tab before", &[("Transfer-Encoding", "\u{b}chunked")], &whole, &[400, 501]),
        ("xchunked", &[("Transfer-Encoding", "xchunked")], &whole, &[400, 501]),
        ("quoted", &[("Transfer-Encoding", "\"chunked\"")], &whole, &[400, 501]),
        ("a parameter", &[("Transfer-Encoding", "chunked;a=b")], &whole, &[400, 501]),
    ];
    for (what, fields, rest, statuses) in rows {
        fixture.refused(what, fixture.framed(fields, rest), statuses).await;
    }
    let old = fixture.framed(&[("Transfer-Encoding", "chunked")], &whole);
    let old = String::from_utf8(old).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    fixture.refused("a coding in HTTP/1.0", old, &[400, 501]).await;

    let extension = format!("5;{}\r\nabcde\r\n0\r\n\r\n", "a".repeat(40_000));
    let trailers = fixture.chunk(&format!("0\r\nX-A: {}\r\n\r\n", "a".repeat(40_000)));
    let chunks: &[(&str, &str)] = &[
        ("a bare line feed in a chunk line", "5\nabcde\r\n0\r\n\r\n"),
        ("an overflowing size", "ffffffffffffffff1\r\nabcde\r\n0\r\n\r\n"),
        ("a size with a sign", "+5\r\nabcde\r\n0\r\n\r\n"),
        ("a size in decimal words", "0x5\r\nabcde\r\n0\r\n\r\n"),
        ("no size", "\r\nabcde\r\n0\r\n\r\n"),
        ("a chunk without its end", "5\r\nabcdefg\r\n0\r\n\r\n"),
        ("a chunk that ends in a bare line feed", "5\r\nabcde\n0\r\n\r\n"),
        ("an endless extension", &extension),
        ("a line feed in an extension", "5;a=\nb\r\nabcde\r\n0\r\n\r\n"),
        ("endless trailers", &trailers),
    ];
    for (what, rest) in chunks {
        let bytes = fixture.framed(&[("Transfer-Encoding", "chunked")], rest);
        fixture.refused(what, bytes, &[400, 413, 0]).await;
    }
}

/// RFC 9112 section 6.3: the coding takes precedence, the length is not forwarded, the connection is closed.
#[tokio::test]
async fn a_length_beside_a_coding_ends_the_connection() {
    let mut fixture = fixture().await;
    let smuggled = Request::webhook("x", "").bytes();
    let rest = [fixture.chunk("0\r\n\r\n").as_bytes(), &smuggled].concat();
    for fields in [
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "5")],
    ] {
        let mut client = Client::connect(fixture.gateway.public).await;
        client.send(fixture.framed(&fields, &rest)).await;
        let response = client.response().await;
        assert!([202, 400].contains(&response.status()), "{response:?}");
        assert!(client.response_or_end().await.is_none(), "the bytes after it must not be read as a request");
        if response.status() == 202 {
            let request = fixture.instance.request().await;
            assert_eq!(request.body, fixture.request.body);
            assert_eq!(request.all("content-length"), [fixture.request.body.len().to_string()]);
            assert_eq!(request.all("transfer-encoding"), Vec::<&str>::new());
        }
        fixture.instance.expect_nothing();
    }
}

/// RFC 9112 sections 2.2, 3.2 and 5, RFC 6750 section 2.
#[tokio::test]
async fn ambiguous_heads_are_refused() {
    let mut fixture = fixture().await;
    let good = fixture.request.clone();
    let text = String::from_utf8(good.bytes()).unwrap();
    let host = "Host: emea.bots.example\r\n";
    let rows: &[(&str, String)] = &[
        ("a folded line", text.replacen(host, "Host: emea.bots.example\r\nX-A: b\r\n c\r\n", 1)),
        ("a folded first line", text.replacen(host, &format!(" X: y\r\n{host}"), 1)),
        ("a blank before the colon", text.replacen("Host:", "Host :", 1)),
        ("a bare carriage return", text.replacen(host, &format!("{host}X-A: b\rc\r\n"), 1)),
        ("a NUL", text.replacen(host, &format!("{host}X-A: b\0c\r\n"), 1)),
        ("a name with a blank", text.replacen(host, &format!("{host}X A: b\r\n"), 1)),
        ("no colon", text.replacen(host, &format!("{host}X-A\r\n"), 1)),
        ("no name", text.replacen(host, &format!("{host}: b\r\n"), 1)),
        ("a NUL in the target", text.replacen(WEBHOOK, "/api/calls\0", 1)),
        ("a blank in the target", text.replacen(WEBHOOK, "/api/calls /x", 1)),
        ("no host", text.replacen(host, "", 1)),
        ("two hosts", text.replacen(host, &format!("{host}{host}"), 1)),
        ("an empty host", text.replacen(host, "Host:\r\n", 1)),
        ("a host with a path", text.replacen(host, "Host: a/b\r\n", 1)),
        ("a host with a name", text.replacen(host, "Host: user@a\r\n", 1)),
        ("a host with a blank", text.replacen(host, "Host: a b\r\n", 1)),
        ("a list of hosts", text.replacen(host, "Host: a, b\r\n", 1)),
        ("a host with an invalid port", text.replacen(host, "Host: a:99999\r\n", 1)),
        ("another host in the target", text.replacen(WEBHOOK, "https://evil.example/api/calls", 1)),
        ("two tokens", text.replacen("Authorization", "Authorization: Bearer x\r\nAuthorization", 1)),
        ("a token in the query", text.replacen(WEBHOOK, "/api/calls?access_token=x", 1)),
        ("two versions", text.replacen("HTTP/1.1", "HTTP/1.1 HTTP/1.1", 1)),
        ("an unknown version", text.replacen("HTTP/1.1", "HTTP/1.9", 1)),
        ("no version", text.replacen(" HTTP/1.1", "", 1)),
        ("bytes of TLS", "\u{16}\u{3}\u{1}hello\r\n\r\n".into()),
        ("an HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into()),
        ("a PROXY protocol preface", format!("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n{text}")),
    ];
    for (what, bytes) in rows {
        assert_ne!(bytes, &text, "{what}");
        fixture.refused(what, bytes, &[400, 505, 0]).await;
    }
    // Any valid host is accepted: a load balancer may address the gateway by any name.
    for host in ["emea.bots.example:8443", "10.0.0.1", "[::1]:80", "localhost", "EMEA.bots.example."] {
        let response = good.clone().replace("Host", host).send(&fixture.gateway).await;
        assert_eq!(response.status(), 202, "{host}");
        fixture.instance.request().await;
    }
}

/// Harmless deviations are accepted, and forwarded in canonical form.
#[tokio::test]
async fn harmless_deviations_are_accepted_and_repaired() {
    let mut fixture = fixture().await;
    let good = fixture.request.clone();
    let trailers = "0\r\nAuthorization: Bearer evil\r\nSwitchboard-Tenant-Id: evil\r\nX-T: evil\r\n\r\n";
    let bare = String::from_utf8(good.bytes()).unwrap().replace("\r\n", "\n");
    let body = fixture.body();
    let (left, right) = body.split_at(10);
    let many = format!("{:X};a=b\r\n{left}\r\n{:x}\r\n{right}\r\n0\r\n\r\n", left.len(), right.len());
    let overridden = good.clone().with("X-HTTP-Method-Override", "DELETE").with("X-Original-URL", "/admin");
    let upgrade = good
        .clone()
        .with("Connection", "Upgrade, HTTP2-Settings")
        .with("Upgrade", "h2c")
        .with("HTTP2-Settings", "AAMAAABk");
    let rows: &[(&str, Vec<u8>)] = &[
        ("bare line feeds", bare.into_bytes()),
        ("trailers", fixture.framed(&[("Transfer-Encoding", "chunked")], fixture.chunk(trailers))),
        ("several chunks", fixture.framed(&[("Transfer-Encoding", "Chunked")], &many)),
        ("an upgrade to HTTP/2", upgrade.bytes()),
        ("another method by a field", overridden.bytes()),
        ("an absolute target", good.clone().target("https://emea.bots.example/api/calls").bytes()),
        ("empty lines before", [b"\r\n\r\n".as_slice(), &good.bytes()].concat()),
        ("an expectation", good.clone().with("Expect", "100-continue").bytes()),
    ];
    for (what, bytes) in rows {
        let response = Client::connect(fixture.gateway.public).await.exchange(bytes).await;
        assert_eq!(response.status(), 202, "{what}: {response:?}");
        let request = fixture.instance.request().await;
        assert_eq!(
            (request.start.as_str(), &request.body),
            ("POST /api/calls HTTP/1.1", &good.body),
            "{what}"
        );
        assert!(request.fields.iter().all(|(_, value)| !value.contains("evil")), "{what}: {request:?}");
        assert_eq!(request.all("content-length"), [good.body.len().to_string()], "{what}");
        assert_eq!(request.all("transfer-encoding"), Vec::<&str>::new(), "{what}");
        assert_eq!(request.all("authorization").len(), 1, "{what}");
    }
    // Responses to pipelined requests keep the order of the requests.
    let mut client = Client::connect(fixture.gateway.public).await;
    let nowhere = good.clone().target("/nowhere").bytes();
    client.send([good.bytes(), nowhere, good.bytes()].concat()).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(client.response().await.status());
    }
    assert_eq!(statuses, [202, 404, 202]);
}

/// RFC 9110 sections 9.1 and 10.1.1.
#[tokio::test]
async fn other_methods_and_expectations_are_refused() {
    let mut fixture = fixture().await;
    let good = fixture.request.clone();
    for method in
        ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "Post", "PROPFIND", "QUERY"]
    {
        // The response to HEAD has no body. The client finds its end only when the connection closes.
        let request = good.clone().method(method).with("Connection", "close");
        fixture.refused(method, request.bytes(), &[405]).await;
    }
    for target in ["emea.bots.example:443", "*"] {
        for method in ["CONNECT", "OPTIONS"] {
            fixture
                .refused(target, good.clone().method(method).target(target).bytes(), &[400, 404, 405])
                .await;
        }
    }
    for (what, bytes) in [
        ("an unknown expectation", good.clone().with("Expect", "bogus").bytes()),
        (
            "two expectations",
            good.clone().with("Expect", "100-continue").with("Expect", "100-continue").bytes(),
        ),
    ] {
        fixture.refused(what, bytes, &[417]).await;
    }
}

/// RFC 9110 section 7.6.1: `Connection` must not remove fields that the gateway relies on.
#[tokio::test]
async fn connection_cannot_name_end_to_end_fields() {
    let mut fixture = fixture().await;
    for named in [
        "authorization",
        "close, Authorization",
        "content-type",
        "Content-Length",
        "host",
        "content-encoding",
        "close, x-forwarded-proto",
        "X-Forwarded-For",
        "x-forwarded-host",
    ] {
        let request = fixture.request.clone().with("Connection", named);
        fixture.refused(named, request.bytes(), &[400]).await;
    }
}

/// RFC 6585 section 5, RFC 9110 sections 15.5.14 to 15.5.16.
#[tokio::test]
async fn requests_that_are_too_large_are_refused() {
    let mut fixture = fixture().await;
    let good = fixture.request.clone();
    let many = |count: usize| {
        (0..count).fold(good.clone(), |request, number| request.with(&format!("X-{number}"), "y"))
    };
    let query = |bytes: usize| good.clone().target(&format!("{WEBHOOK}?{}", "q".repeat(bytes))).bytes();
    fixture.refused("a large head", good.clone().with("X-A", &"a".repeat(20_000)).bytes(), &[431]).await;
    fixture.refused("many small fields", many(101).bytes(), &[431]).await;
    fixture.refused("a few fields too many", many(60).bytes(), &[431]).await;
    fixture.refused("a long target", query(3_000), &[414]).await;
    fixture.refused("an endless target", query(70_000), &[414, 431]).await;

    let mut large = good.clone();
    large.body.extend(vec![b' '; 4 << 20]);
    fixture.refused("a large body", large.bytes(), &[413]).await;
    let announced = fixture.framed(&[("Content-Length", "1000000000000")], "{");
    fixture.refused("an announced large body", announced, &[413]).await;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, " ".repeat(1 << 19));
    let bomb = fixture.framed(&[("Transfer-Encoding", "chunked")], chunk.repeat(9));
    fixture.refused("a large body of unknown length", bomb, &[413]).await;
    fixture.refused("a compressed body", good.clone().with("Content-Encoding", "gzip").bytes(), &[415]).await;

    // A request just within the limits.
    let mut request = many(58 - good.fields.len()).with("X-A", &"a".repeat(12_000));
    request.body.extend(vec![b' '; (4 << 20) - request.body.len()]);
    let response = request.target(&format!("{WEBHOOK}?{}", "q".repeat(2_000))).send(&fixture.gateway).await;
    assert_eq!(response.status(), 202, "{response:?}");
    assert_eq!(fixture.instance.request().await.body.len(), 4 << 20);
}

/// Paths are matched without normalization.
#[tokio::test]
async fn each_path_has_one_spelling() {
    let mut fixture = fixture().await;
    let minted = fixture.gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let callback = path_of(minted["callback_uri"].as_str().unwrap());
    let good = fixture.request.clone();
    for path in [
        "/api/calls/",
        "//api/calls",
        "/api//calls",
        "/api/./calls",
        "/api/x/../calls",
        "/api/%63alls",
        "/api%2fcalls",
        "/API/calls",
        "/api/calls;a=b",
        "/api/calls%00",
        "/api/calls%0d%0aX:1",
        "/api/calls/..",
        "/api/callbacks",
        "/api/callbacks/",
        "/api/callback",
        "/x/api/calls",
        "/api/calls%3fx",
    ] {
        fixture.refused(path, good.clone().target(path).bytes(), &[404]).await;
    }
    for change in ["/./", "/../api/callbacks/", "//", "/%2e/", "/x/../"] {
        let path = callback.replacen("/api/callbacks/", &format!("/api/callbacks{change}"), 1);
        fixture.refused(&path, good.clone().target(&path).bytes(), &[404]).await;
    }
    assert_eq!(good.target(&callback).send(&fixture.gateway).await.status(), 202);
}

/// hyper drops `#` and what follows it. It reaches neither the route nor an instance.
#[tokio::test]
async fn a_fragment_is_dropped() {
    let mut fixture = fixture().await;
    let minted = fixture.gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let callback = path_of(minted["callback_uri"].as_str().unwrap());
    for path in [WEBHOOK, &callback] {
        for fragment in ["#", "#x", "#/../admin?a=b", "?a=b#c"] {
            let target = format!("{path}{fragment}");
            let without = target.split('#').next().unwrap();
            let mut received = Vec::new();
            for target in [&target, without] {
                let response = fixture.request.clone().target(target).send(&fixture.gateway).await;
                assert_eq!(response.status(), 202, "{target}");
                received.push(fixture.instance.request().await.target().to_owned());
            }
            assert_eq!(received[0], received[1]);
        }
    }
    fixture.refused("a path", fixture.request.clone().target("/api#/calls").bytes(), &[404]).await;
}

/// RFC 9112 section 9.6: a client may close its sending side and read on.
#[tokio::test]
async fn a_sender_that_half_closes_after_its_request_is_answered() {
    let issuer = Issuer::start();
    for tls in [false, true] {
        let mut instance = Instance::start("bot-0");
        let mut settings = Settings::new(&issuer, &[&instance]).line("placement", "budget = \"2s\"");
        settings.tls = tls;
        let gateway = Gateway::start(&settings).await;
        let call = |id| Request::webhook(&Token::skype().sign(), bodies::incoming(id));
        // The FIN arrives while the instance works on the request.
        instance.next(Reply::status(202).held());
        let held = half_closed(&gateway, tls, call("call-1").bytes());
        let released = async {
            instance.request().await;
            instance.release();
        };
        assert_eq!(tokio::join!(held, released).0.status(), 202);
        // The time limits hold, too.
        instance.next(Reply::Never);
        assert_eq!(half_closed(&gateway, tls, call("call-2").bytes()).await.status(), 503);
        // The FIN arrives with the request.
        let unauthenticated = call("call-3").without("Authorization").bytes();
        for _ in 0..10 {
            assert_eq!(half_closed(&gateway, tls, &unauthenticated).await.status(), 401);
        }
        let broken_off = &unauthenticated[..unauthenticated.len() - 10];
        let broken_off = [broken_off, b""].concat();
        assert_eq!(half_closed(&gateway, tls, broken_off).await.status(), 401);
        let marker = Request::get("/nowhere").with("X-Microsoft-Skype-Message-ID", "marker").bytes();
        assert_eq!(half_closed(&gateway, tls, marker).await.status(), 404);
        gateway.log.event("the last request", |event| event["message.id"] == "marker").await;
        let outcomes = ["placed", "not_placed", "unauthenticated"]
            .map(|outcome| gateway.log.events().iter().filter(|event| event["outcome"] == outcome).count());
        assert_eq!(outcomes, [1, 1, 11], "each request has one event");
    }
}

/// Sends bytes and a FIN. Returns the response, after which the gateway must close the connection.
async fn half_closed(gateway: &Gateway, tls: bool, bytes: impl AsRef<[u8]>) -> Response {
    async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut client: Client<S>, bytes: &[u8]) -> Response {
        client.send(bytes).await;
        client.half_close().await;
        let response = client.response().await;
        assert_eq!(client.closed().await.1, b"");
        response
    }
    if tls {
        let session = tls::session(&tls::connector(tls::HTTP1).build());
        exchange(Client::over(tls::connect(gateway.public, session).await), bytes.as_ref()).await
    } else {
        exchange(Client::connect(gateway.public).await, bytes.as_ref()).await
    }
}

/// The gateway never parses the body of a refused request as the next request.
#[tokio::test]
async fn an_unread_body_is_not_parsed_as_a_request() {
    let mut fixture = fixture().await;
    let hidden = fixture.request.clone().bytes();
    for (what, refused) in [
        ("no token", fixture.request.clone().without("Authorization")),
        ("nowhere", fixture.request.clone().target("/nowhere")),
        ("another method", fixture.request.clone().method("PUT")),
        ("no host", fixture.request.clone().without("Host")),
        ("text", fixture.request.clone().replace("Content-Type", "text/plain")),
    ] {
        let mut outer = refused;
        outer.body = hidden.repeat(20);
        let mut client = Client::connect(fixture.gateway.public).await;
        client.send(outer.bytes()).await;
        assert!(client.response().await.status() >= 400, "{what}");
        // If the connection is still open, the next request gets exactly one response.
        client.send(fixture.request.clone().target("/marker").bytes()).await;
        if let Some(response) = client.response_or_end().await {
            assert_eq!(response.status(), 404, "{what}");
        }
        fixture.instance.expect_nothing();
    }
}

/// RFC 9110 section 10.1.1: a client that waits for `100 Continue` receives a refusal before the body.
#[tokio::test]
async fn only_an_authenticated_sender_receives_100_continue() {
    let mut fixture = fixture().await;
    let good = fixture.request.clone().with("Expect", "100-continue");
    let head = |request: &Request| {
        let bytes = request.bytes();
        bytes[..bytes.len() - request.body.len()].to_vec()
    };
    for (request, status) in [
        (good.clone().replace("Authorization", "Bearer x"), 401),
        (good.clone().target("/nowhere"), 404),
        (good.clone().with("Content-Encoding", "gzip"), 415),
    ] {
        let mut client = Client::connect(fixture.gateway.public).await;
        client.send(head(&request)).await;
        assert_eq!(client.any_response().await.status(), status);
    }
    let mut client = Client::connect(fixture.gateway.public).await;
    client.send(head(&good)).await;
    assert_eq!(client.any_response().await.status(), 100);
    assert_eq!(client.exchange(&good.body).await.status(), 202);
    fixture.instance.request().await;
    fixture.instance.expect_nothing();
}

#[tokio::test]
async fn http_1_0_and_connection_close_are_supported() {
    let mut fixture = fixture().await;
    let close = fixture.request.clone().with("Connection", "close");
    let old = String::from_utf8(fixture.request.bytes()).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    for bytes in [close.bytes(), old.into_bytes()] {
        let mut client = Client::connect(fixture.gateway.public).await;
        assert_eq!(client.exchange(bytes).await.status(), 202);
        assert_eq!(client.closed().await.1, b"");
        assert_eq!(fixture.instance.request().await.start, "POST /api/calls HTTP/1.1");
    }
}
