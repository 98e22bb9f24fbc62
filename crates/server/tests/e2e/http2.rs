//! HTTP/2: ordinary requests, and the floods that the protocol makes possible.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_openssl::SslStream;

use crate::support::{
    Client, Gateway, Instance, Issuer, Request, Settings, Token, WEBHOOK, bodies, soon,
    tls::{self, HTTP2},
};

async fn gateway(issuer: &Issuer, instance: &Instance) -> Gateway {
    let mut settings = Settings::new(issuer, &[instance]);
    settings.tls = true;
    Gateway::start(&settings).await
}

async fn connect(gateway: &Gateway) -> SslStream<TcpStream> {
    tls::connect(gateway.public, tls::session(&tls::connector(HTTP2).build())).await
}

/// A valid request with additional fields.
fn post(target: &str, fields: &[(&str, &str)]) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::post(target)
        .header("authorization", format!("Bearer {}", Token::skype().sign()))
        .header("content-type", "application/json");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(bodies::incoming("call-1")))).unwrap()
}

#[tokio::test]
async fn requests_of_one_connection_are_served_concurrently() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(connect(&gateway).await))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let url = format!("https://emea.bots.example{WEBHOOK}");
    let twice = [("authorization", "Bearer x")];
    let rows: [(&str, http::Request<Full<Bytes>>, u16); 7] = [
        ("a call", post(&url, &[]), 202),
        ("the same host twice", post(&url, &[("host", "emea.bots.example")]), 202),
        ("another host", post(&url, &[("host", "evil.example")]), 400),
        ("two tokens", post(&url, &twice), 400),
        ("a coded body", post(&url, &[("content-encoding", "br")]), 415),
        ("another path", post("https://emea.bots.example/nowhere", &[]), 404),
        ("a token in the query", post(&format!("{url}?access_token=x"), &[]), 400),
    ];
    for (what, request, status) in rows {
        let response = soon(what, sender.clone().send_request(request)).await.unwrap();
        assert_eq!(response.status(), status, "{what}");
        assert!(response.headers().get("connection").is_none(), "{what}");
        assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty(), "{what}");
        if status == 202 {
            let request = instance.request().await;
            assert_eq!(request.start, "POST /api/calls HTTP/1.1");
            assert_eq!(request.body, bodies::incoming("call-1").as_bytes());
        }
    }
    instance.expect_nothing();

    // A slow request does not delay the others.
    instance.next(crate::support::Reply::status(202).held());
    let slow = sender.clone().send_request(post(&url, &[]));
    let quick = async {
        instance.request().await;
        let response = sender.clone().send_request(post(&url, &[])).await.unwrap();
        instance.release();
        response.status()
    };
    let (slow, quick) = soon("both responses", async { tokio::join!(slow, quick) }).await;
    assert_eq!((slow.unwrap().status(), quick), (202.try_into().unwrap(), 202.try_into().unwrap()));
    driver.abort();
}

/// RFC 9113 section 8.1: a response that does not need the body, then `RST_STREAM` with `NO_ERROR`. GOAWAY
/// announces the close to a sender that was never authenticated.
#[tokio::test]
async fn a_refusal_before_the_body_resets_the_stream_without_error() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let right = format!("Bearer {}", Token::skype().sign());
    let wrong = format!("Bearer {}", Token::skype().signed_by("stranger").sign());
    let body = bodies::incoming("call-1");
    let large = [("authorization", right.as_str()), ("content-length", "5000000")];
    // The pieces of a body that fit into the window of the stream.
    let data = |stream: u32| frame(DATA, 0, stream, &[b' '; 16_000]).repeat(4);
    for (is_authenticated, fields, status) in
        [(false, &[("authorization", wrong.as_str())][..], "401"), (true, &large[..], "413")]
    {
        let mut stream = connect(&gateway).await;
        let mut first = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let mut next = 1;
        if is_authenticated {
            first.extend(frame(HEADERS, 0x4, next, &head(&[("authorization", &right)])));
            first.extend(frame(DATA, 0x1, next, body.as_bytes()));
            next += 2;
        }
        stream.write_all(&first).await.unwrap();
        if is_authenticated {
            instance.request().await;
        }
        stream.write_all(&[frame(HEADERS, 0x4, next, &head(fields)), data(next)].concat()).await.unwrap();
        let mut frames = Vec::new();
        let reset = loop {
            let (kind, flags, on, payload) = soon(status, read_frame(&mut stream)).await.unwrap();
            if on == next && kind == RST_STREAM {
                break payload;
            }
            frames.push((kind, flags, on));
            if kind == SETTINGS && flags == 0 {
                stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.unwrap();
            }
        };
        assert_eq!(reset, [0; 4], "{status}: NO_ERROR");
        // The response is complete before the reset: HEADERS with END_STREAM.
        let response = frames.iter().find(|(kind, _, on)| *kind == HEADERS && *on == next);
        assert!(response.is_some_and(|(_, flags, _)| flags & 1 == 1), "{status}: {frames:?}");
        let outcome = if is_authenticated { "body_too_large" } else { "unauthenticated" };
        gateway.log.event(outcome, |event| event["outcome"] == outcome).await;
        if is_authenticated {
            assert!(frames.iter().all(|(kind, _, _)| *kind != GOAWAY), "{frames:?}");
            // The connection goes on.
            let again = frame(HEADERS, 0x4, next + 2, &head(&[("authorization", &right)]));
            stream.write_all(&[again, frame(DATA, 0x1, next + 2, body.as_bytes())].concat()).await.unwrap();
            instance.request().await;
            continue;
        }
        // Sent on, the body does no harm: the client reads until the end and gets no reset.
        stream.write_all(&data(next)).await.unwrap();
        loop {
            let Ok((kind, flags, on, payload)) = soon("the end", read_frame(&mut stream)).await else {
                break;
            };
            if kind == PING && flags == 0 {
                stream.write_all(&frame(PING, 1, 0, &payload)).await.unwrap();
            }
            frames.push((kind, flags, on));
        }
        assert!(frames.iter().any(|(kind, _, _)| *kind == GOAWAY), "{frames:?}");
    }
}

/// Reads a frame: its type, its flags, its stream and its payload.
async fn read_frame(stream: &mut SslStream<TcpStream>) -> std::io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, on @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes(on), payload))
}

/// RFC 9113 section 10.5: the gateway closes the connection of each flood and serves other connections. The
/// unit tests of the worker count the frames until the cut.
#[tokio::test]
async fn a_flood_ends_its_connection() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let head = head(&[("authorization", &format!("Bearer {}", Token::skype().sign()))]);
    let resets = |stream: u32| {
        [frame(HEADERS, 0x4, stream, &head), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    };
    let streams = (0..20_000).map(|number| number * 2 + 1);
    let rapid_reset: Vec<u8> = streams.flat_map(resets).collect();
    let open = frame(HEADERS, 0x4, 1, &head);
    let without_end = frame(HEADERS, 0, 1, &head);
    let continuation = [0, 10_000].map(|bytes| {
        let field = [&[0_u8, 1, b'x', 0x7f][..], &integer(bytes), &vec![b'y'; bytes]].concat();
        let more = if bytes == 0 { Vec::new() } else { field };
        [without_end.as_slice(), &frame(CONTINUATION, 0, 1, &more).repeat(20_000 / (bytes / 100 + 1))]
            .concat()
    });
    let [empty_continuations, full_continuations] = continuation;
    let floods = [
        // The flag is true if the connection must end, and false if the stream alone may end.
        ("rapid reset", rapid_reset, true),
        ("empty continuations", empty_continuations, true),
        ("full continuations", full_continuations, true),
        ("empty data", [open.as_slice(), &frame(DATA, 0, 1, &[]).repeat(600_000)].concat(), true),
        ("pings", frame(PING, 0, 0, &[0; 8]).repeat(400_000), true),
        ("settings", frame(SETTINGS, 0, 0, &[]).repeat(400_000), true),
        ("a frame that is too large", frame(HEADERS, 0x4, 1, &vec![0; 20_000]), true),
        ("an upper-case name", frame(HEADERS, 0x5, 1, &field_block(&[("X-Upper", "y")])), false),
        ("a line break in a value", frame(HEADERS, 0x5, 1, &field_block(&[("x-a", "y\r\nz")])), false),
    ];
    for (what, flood, ends) in floods {
        let mut stream = connect(&gateway).await;
        // Nothing is read meanwhile: an attacker does not wait for responses.
        let written = async {
            stream.write_all(PREFACE).await?;
            stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
            for part in flood.chunks(64 * 1024) {
                stream.write_all(part).await?;
            }
            stream.flush().await
        };
        let written = soon(what, written).await;
        if ends {
            let (_, rest) = Client::over(stream).closed().await;
            assert!(written.is_err() || !rest.is_empty(), "{what}: closed without any frame");
        }
        let good = tls::connect(gateway.public, tls::session(&tls::connector(b"").build())).await;
        let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
        assert_eq!(Client::over(good).exchange(request.bytes()).await.status(), 202, "{what}");
    }
    let placed = gateway.metric("switchboard_requests_total", &[("outcome", "placed")]).await;
    assert_eq!(placed, 9.0, "only the valid requests were placed");
}

/// Returns a frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns the field block of a POST to the webhook.
fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    field_block(&[&[("content-type", "application/json")], fields].concat())
}

/// Returns a field block (RFC 7541): the pseudo-header fields, then literals without indexing.
fn field_block(fields: &[(&str, &str)]) -> Vec<u8> {
    // :method POST, :scheme https
    let mut block = vec![0x83, 0x87];
    let text = |bytes: &[u8]| match u8::try_from(bytes.len()) {
        Ok(length) if length < 127 => [&[length], bytes].concat(),
        _ => [&[127], integer(bytes.len()).as_slice(), bytes].concat(),
    };
    // :path and :authority by index, with literal values
    block.extend([&[0x04], text(WEBHOOK.as_bytes()).as_slice()].concat());
    block.extend([&[0x01], text(b"emea.bots.example").as_slice()].concat());
    for (name, value) in fields {
        block.push(0);
        block.extend(text(name.as_bytes()));
        block.extend(text(value.as_bytes()));
    }
    block
}

/// Returns the bytes of an integer after a prefix of seven ones (RFC 7541 section 5.1).
fn integer(number: usize) -> Vec<u8> {
    let mut rest = number.saturating_sub(127);
    let mut bytes = Vec::new();
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
