//! A webhook over https needs a certificate that the platform trusts, as with the real platform.

use std::{net::SocketAddr, pin::Pin};

use openssl::{
    asn1::Asn1Time,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    ssl::{Ssl, SslAcceptor, SslMethod},
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use switchboard_emulator::{CallOutcome, Protocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_openssl::SslStream;

use crate::support::{call_to, platform, platform_that_trusts, played};

#[tokio::test]
async fn a_webhook_with_an_untrusted_certificate_gets_no_notification() {
    let (key, certificate) = self_signed();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, certificate.to_pem().unwrap()).unwrap();
    let address = serve(&key, &certificate).await;
    let mut call = call_to(&format!("https://{address}/api/calls"));
    call.protocol = Protocol::Graph;

    let trusting = platform_that_trusts(Some(ca)).await;
    call.expect = CallOutcome::Refused;
    let (_, _, end) = played(trusting.call(call.clone()).unwrap()).await;
    assert_eq!((end.ok, end.status), (true, Some(418)), "{end:?}");

    let strict = platform().await;
    call.expect = CallOutcome::Undelivered;
    // Less than the pause before a second attempt, which would fail alike.
    call.answer_within = std::time::Duration::from_millis(450);
    let (_, steps, end) = played(strict.call(call).unwrap()).await;
    // On a slow machine the deadline comes first.
    assert!(end.reason.contains("TLS handshake failed") || end.outcome == "unanswered", "{end:?}");
    assert!(steps.iter().all(|step| step.status.is_none()));
}

/// Responds to every request with 418.
async fn serve(key: &PKey<Private>, certificate: &X509) -> SocketAddr {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(key).unwrap();
    acceptor.set_certificate(certificate).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            if Pin::new(&mut stream).accept().await.is_err() {
                continue;
            }
            let mut head = vec![0; 16_384];
            let _ = stream.read(&mut head).await;
            let response = "HTTP/1.1 418 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(response.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn self_signed() -> (PKey<Private>, X509) {
    let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "webhook.example").unwrap();
    let name = name.build();
    let mut certificate = X509::builder().unwrap();
    certificate.set_version(2).unwrap();
    certificate.set_subject_name(&name).unwrap();
    certificate.set_issuer_name(&name).unwrap();
    certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    certificate.set_pubkey(&key).unwrap();
    certificate.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    let context = certificate.x509v3_context(None, None);
    let names = SubjectAlternativeName::new().ip("127.0.0.1").build(&context).unwrap();
    certificate.append_extension(names).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    (key, certificate.build())
}
