//! Handshakes with servers on loopback.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use openssl::{
    pkey::PKey,
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod},
    x509::X509,
};
use switchboard_graph::GraphMethod;
use tokio::{net::TcpListener, time::Instant};
use tokio_openssl::SslStream;

use super::*;
use crate::config::tests::certificate;

#[tokio::test]
async fn a_failed_handshake_names_the_fault_of_the_certificate() {
    let (certificate, key) = certificate();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&certificate).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&key).unwrap()).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            let _ = Pin::new(&mut stream).accept().await;
        }
    };
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap();
    let request = GraphRequest {
        method: GraphMethod::Post,
        url: format!("https://localhost:{port}/").parse().unwrap(),
        headers: Vec::new(),
        body: Vec::new(),
        body_bytes_max: 1024,
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let transport = GraphTransport::new(&tls);
    let error = tokio::select! {
        response = pin!(transport.send(request)) => response.unwrap_err(),
        () = server => unreachable!(),
    };
    assert_eq!(error.kind, TransportErrorKind::Tls);
    assert_eq!(
        error.detail,
        "client error (Connect): unknown authority: the certificate of localhost is self-signed and not \
         trusted"
    );
}
