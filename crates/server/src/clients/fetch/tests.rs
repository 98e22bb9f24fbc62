//! Exchanges with servers on loopback.

use openssl::{
    asn1::Asn1Time,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    ssl::{Ssl, SslAcceptor, SslMethod},
    x509::{X509, X509Name, extension::SubjectAlternativeName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::clients::tls_client;

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A server that writes `response` to one connection. Returns its URL.
async fn serve(response: &'static str) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        respond(stream, response).await;
    });
    Url::parse(&format!("http://127.0.0.1:{port}/keys?a=b")).unwrap()
}

/// Reads a head and writes the response. Returns the head.
async fn respond(mut stream: impl AsyncRead + AsyncWrite + Unpin, response: &str) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(response.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    String::from_utf8(head).unwrap()
}

fn fetcher() -> Fetcher {
    Fetcher::new(tls_client(None).unwrap().build())
}

async fn error_kind(response: &'static str) -> &'static str {
    fetcher().document(&serve(response).await, 5, LIMIT).await.unwrap_err().kind
}

#[tokio::test]
async fn a_document_is_returned_whole() {
    let url = serve("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\"}").await;
    assert_eq!(fetcher().document(&url, 5, LIMIT).await.unwrap(), "{\"a\"}");
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    assert_eq!(error_kind("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await, "status");
    assert_eq!(error_kind("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n").await, "status");
    assert_eq!(error_kind("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n123456").await, "too_large");
    assert_eq!(
        error_kind("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123456").await,
        "too_large"
    );
    assert_eq!(error_kind("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123").await, "http");
    assert_eq!(error_kind("SSH-2.0-OpenSSH_9.6\r\n").await, "http");
    let closed = Url::parse("http://127.0.0.1:1/").unwrap();
    assert_eq!(fetcher().document(&closed, 5, LIMIT).await.unwrap_err().kind, "connect");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let error = fetcher().document(&plain, 5, LIMIT).await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), ("tls", "the server does not speak TLS on this port"));
}

#[tokio::test]
async fn a_silent_server_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let error = fetcher().document(&url, 5, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind, "timeout");
}

#[tokio::test]
async fn a_silent_handshake_ends_before_the_whole_exchange() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let error = fetcher().document(&url, 5, LIMIT).await.unwrap_err();
    assert_eq!((error.kind, &*error.detail), ("tls", "no TLS handshake in 2 s"));
}

#[tokio::test]
async fn a_head_with_too_many_fields_is_refused() {
    for (fields, expected) in [(63, Ok("ok".into())), (64, Err("http"))] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nok", "X: y\r\n".repeat(fields));
        let fetched = fetcher().document(&serve(head.leak()).await, 5, LIMIT).await;
        assert_eq!(fetched.map_err(|error| error.kind), expected, "{fields}");
    }
}

#[tokio::test]
async fn every_exchange_checks_the_certificate() {
    let [good, other] = ["localhost", "other.test"].map(certificate);
    let trusted = good.0.clone();
    // One context: its tickets would let a client that resumes sessions skip the check of the second
    // certificate.
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&good.0).unwrap();
    acceptor.set_private_key(&good.1).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for (certificate, key) in [good, other] {
            let (stream, _) = listener.accept().await.unwrap();
            let mut ssl = Ssl::new(acceptor.context()).unwrap();
            ssl.set_certificate(&certificate).unwrap();
            ssl.set_private_key(&key).unwrap();
            let mut stream = SslStream::new(ssl, stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_ok() {
                respond(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    });
    let mut tls = tls_client(None).unwrap();
    tls.cert_store_mut().add_cert(trusted).unwrap();
    let fetcher = Fetcher::new(tls.build());
    let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
    assert_eq!(fetcher.document(&url, 5, LIMIT).await.unwrap(), "ok");
    assert_eq!(fetcher.document(&url, 5, LIMIT).await.unwrap_err().kind, "untrusted");
}

#[tokio::test]
async fn the_head_names_host_path_and_authorization() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = Url::parse(&format!("http://{address}/fleet/bot-0/drain?x=y")).unwrap();
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        respond(stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await
    });
    let token = HeaderValue::from_static("Bearer t");
    fetcher().exchange(Method::POST, &url, Some(token), 5, LIMIT).await.unwrap();
    let head = served.await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("post /fleet/bot-0/drain?x=y http/1.1\r\n"), "{head}");
    for field in [&format!("host: {address}"), "authorization: bearer t", "accept: application/json"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
}

/// A self-signed certificate for `host`, a name or an address.
fn certificate(host: &str) -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", "test").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    let mut names = SubjectAlternativeName::new();
    if host.parse::<std::net::IpAddr>().is_ok() {
        names.ip(host)
    } else {
        names.dns(host)
    };
    let extension = names.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(extension).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

/// Gets a document from a TLS server on `address` by the URL's `host`. The server has a certificate for
/// `certified`.
async fn over_tls(address: &str, host: &str, certified: &str) -> Result<Bytes, FetchError> {
    let (certificate, key) = certificate(certified);
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&certificate).unwrap();
    acceptor.set_private_key(&key).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind(address).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let ssl = Ssl::new(acceptor.context()).unwrap();
        let mut stream = SslStream::new(ssl, stream).unwrap();
        if Pin::new(&mut stream).accept().await.is_ok() {
            respond(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let mut tls = tls_client(None).unwrap();
    tls.cert_store_mut().add_cert(certificate).unwrap();
    let url = Url::parse(&format!("https://{host}:{port}/")).unwrap();
    Fetcher::new(tls.build()).document(&url, 5, LIMIT).await
}

#[tokio::test]
async fn a_certificate_must_name_the_host() {
    for (host, certified, wrong) in [
        ("localhost", "localhost", None),
        (
            "localhost",
            "other.test",
            Some("wrong name: the certificate is not for localhost but for other.test"),
        ),
        ("127.0.0.1", "127.0.0.1", None),
        (
            "127.0.0.1",
            "127.0.0.2",
            Some("wrong name: the certificate is not for 127.0.0.1 but for 127.0.0.2"),
        ),
    ] {
        let fetched = over_tls("127.0.0.1:0", host, certified).await;
        let fetched = fetched.map_err(|error| (error.kind, error.detail));
        let expected = wrong.map_or(Ok("ok".into()), |text| Err(("untrusted", text.to_owned())));
        assert_eq!(fetched, expected);
    }
}

#[tokio::test]
async fn a_certificate_must_name_an_ipv6_address() {
    if TcpListener::bind("[::1]:0").await.is_err() {
        return; // a machine without IPv6
    }
    for (certified, is_valid) in [("::1", true), ("::2", false), ("localhost", false)] {
        let fetched = over_tls("[::1]:0", "[::1]", certified).await;
        assert_eq!(
            fetched.map_err(|error| error.kind),
            if is_valid { Ok("ok".into()) } else { Err("untrusted") }
        );
    }
}

#[tokio::test]
async fn a_stream_arrives_in_small_pieces_and_may_not_fall_silent() {
    let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    let url = serve(response.leak()).await;
    let mut stream = fetcher().stream(&url, None, None, LIMIT).await.unwrap();
    assert_eq!(stream.status(), 200);
    let mut bytes = 0;
    while let Some(piece) = stream.next(LIMIT).await.unwrap() {
        assert!(piece.len() <= HEAD_BYTES_MAX, "{}", piece.len());
        bytes += piece.len();
    }
    assert_eq!(bytes, 100_000);

    let url = serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n123").await;
    let mut stream = fetcher().stream(&url, None, None, LIMIT).await.unwrap();
    while let Ok(piece) = stream.next(LIMIT).await {
        assert!(piece.is_some(), "the body is cut");
    }

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let silent = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        // Until the client gives up.
        let _ = connection.read_to_end(&mut Vec::new()).await;
    });
    let mut stream = fetcher().stream(&url, None, None, LIMIT).await.unwrap();
    assert_eq!(stream.next(Duration::from_millis(10)).await.unwrap_err().kind, "timeout");
    drop(stream);
    silent.await.unwrap();
}
