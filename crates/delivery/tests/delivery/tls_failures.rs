//! Handshakes that fail: each failure says what is wrong with the certificate of the instance.

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use openssl::{
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod},
    x509::X509,
};
use switchboard_delivery::{Delivery, InstanceState, TlsClient, TlsFailure, TlsVerification, UpstreamUrl};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_openssl::SslStream;
use url::Host;

use crate::{authority::Certified, setup::*, upstream::read};

/// An https server that sends these certificates, its own first. It responds with 200 to each request.
struct Server {
    address: SocketAddr,
    _server: JoinSet<()>,
}

impl Server {
    async fn start(own: &Certified, issuers: &[&Certified]) -> Self {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&own.key).unwrap();
        acceptor.set_certificate(&own.certificate).unwrap();
        for issuer in issuers {
            acceptor.add_extra_chain_cert(issuer.certificate.clone()).unwrap();
        }
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let ssl = Ssl::new(acceptor.context()).unwrap();
                connections.spawn(async move {
                    let mut stream = SslStream::new(ssl, stream).unwrap();
                    if Pin::new(&mut stream).accept().await.is_ok() && read(&mut stream).await.is_some() {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                    }
                });
            }
        });
        Self { address, _server: server }
    }
}

fn trusting(authority: &X509) -> openssl::ssl::SslConnectorBuilder {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.cert_store_mut().add_cert(authority.clone()).unwrap();
    builder
}

/// Returns the failure of one handshake with `host` at `address`.
async fn failure(authority: &X509, address: SocketAddr, host: &str) -> Option<TlsFailure> {
    let session = trusting(authority).build().configure().unwrap().verify_hostname(false);
    let mut session = session.into_ssl(host).unwrap();
    let verification = TlsVerification::default();
    verification.verify(&mut session, &Host::parse(host).unwrap()).unwrap();
    let mut stream = SslStream::new(session, TcpStream::connect(address).await.unwrap()).unwrap();
    let error = Pin::new(&mut stream).connect().await.err()?;
    Some(verification.failure(&error).unwrap())
}

/// The faults of certificates, with the label of the cause and the text of the failure. `…` is any text.
#[tokio::test]
async fn a_failed_handshake_names_the_fault_of_the_certificate() {
    let root = Certified::authority("Test Root");
    let intermediate = root.intermediate("Test Intermediate");
    let other_root = Certified::authority("Other Root");
    let here: &[&str] = &["127.0.0.1"];
    for (own, issuers, cause, text) in [
        (root.server(here, (-1, 1)), vec![], None, ""),
        (intermediate.server(here, (-1, 1)), vec![&intermediate], None, ""),
        (
            intermediate.server(here, (-9, -2)),
            vec![&intermediate],
            Some(("tls_expired", "certificate has expired")),
            "the certificate of bot expired at … GMT",
        ),
        (
            root.server(here, (2, 9)),
            vec![],
            Some(("tls_not_yet_valid", "certificate is not valid yet")),
            "the certificate of bot is not valid before … GMT",
        ),
        (
            root.server(&["other.test", "10.0.0.1", "b\u{1b}[2J.test"], (-1, 1)),
            vec![],
            Some(("tls_wrong_name", "certificate is for another name")),
            "wrong name: the certificate is not for 127.0.0.1 but for other.test, 10.0.0.1, b\\u{1b}[2J.test",
        ),
        (
            intermediate.server(here, (-1, 1)),
            vec![],
            Some((
                "tls_missing_issuer",
                "certificate was sent without its intermediate, or is of an unknown authority",
            )),
            "missing intermediate or unknown authority: the server sent the certificate of bot without that \
             of its issuer Test Intermediate, which is no trusted authority",
        ),
        (
            other_root.server(here, (-1, 1)),
            vec![&other_root],
            Some(("tls_unknown_authority", "certificate is of an unknown authority")),
            "unknown authority: the certificate's chain ends at Other Root, which is not trusted",
        ),
        (
            Certified::self_signed(here),
            vec![],
            Some(("tls_unknown_authority", "certificate is of an unknown authority")),
            "unknown authority: the certificate of bot is self-signed and not trusted",
        ),
    ] {
        let server = Server::start(&own, &issuers).await;
        let failure = failure(&root.certificate, server.address, "127.0.0.1").await;
        let shown = failure.as_ref().map(ToString::to_string).unwrap_or_default();
        let (start, end) = text.split_once('…').unwrap_or((text, ""));
        assert!(shown.starts_with(start) && shown.ends_with(end), "{shown}\n{text}");
        assert!(!shown.contains("statem"), "{shown}");
        assert_eq!(failure.as_ref().is_some_and(TlsFailure::is_untrusted), cause.is_some(), "{text}");

        // A probe meets the same failure. The state of the instance names it.
        let mut settings = probed(settings([server.address]));
        settings.instances[0].url = UpstreamUrl::parse(&format!("https://{}/", server.address)).unwrap();
        let tls = TlsClient::new(trusting(&root.certificate)).unwrap();
        let delivery = Arc::new(Delivery::new(settings, uris(), tls));
        let running = tokio::spawn(Arc::clone(&delivery).run());
        let known = || status(&delivery, "bot-0");
        match cause {
            None => until("ready", || known().state == InstanceState::Ready).await,
            Some((label, reason)) => {
                // On a busy machine a probe may be missed for its time first.
                let reason = format!("missed its probes: {reason}");
                until(&reason, || known().reason == reason && known().last_miss == Some(label)).await;
            }
        }
        running.abort();
    }
}

#[tokio::test]
async fn a_server_without_tls_is_named_as_such() {
    let root = Certified::authority("Test Root");
    for (sent, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], TlsFailure::NotTls),
        (b"220 mail.contoso.com ESMTP\r\n", TlsFailure::NotTls),
        (b"", TlsFailure::Closed),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(sent).await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        });
        assert_eq!(failure(&root.certificate, address, "127.0.0.1").await, Some(expected));
        server.await.unwrap();
    }
}
