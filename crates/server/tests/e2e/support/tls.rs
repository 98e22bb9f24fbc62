//! Self-signed certificates, and TLS clients for the tests.

use std::{net::SocketAddr, path::Path, pin::Pin};

use openssl::{
    asn1::{Asn1Time, Asn1TimeRef},
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode},
    x509::{X509, X509Name, extension::SubjectAlternativeName},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::{soon, token::private_key};

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    certificate: X509,
    key: PKey<Private>,
}

impl Identity {
    /// Makes a self-signed certificate with this serial number.
    pub(crate) fn new(serial: u32) -> Self {
        Self::of("stranger", serial, HOST, &Asn1Time::days_from_now(365).unwrap())
    }

    /// Makes one that expired in 1970. It has a key and a name of its own, so that no other one can be taken
    /// for its issuer.
    pub(crate) fn expired(serial: u32) -> Self {
        Self::of("skype-1", serial, "expired.example", &Asn1Time::from_unix(86_400).unwrap())
    }

    /// Makes one with this committed key, for this host and `localhost`, until `not_after`.
    pub(crate) fn of(key: &str, serial: u32, host: &str, not_after: &Asn1TimeRef) -> Self {
        // Generating a key would take half a second in each test.
        let key = private_key(key).clone();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", host).unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        builder.set_not_after(not_after).unwrap();
        let names = SubjectAlternativeName::new()
            .dns(host)
            .dns("localhost")
            .build(&builder.x509v3_context(None, None));
        builder.append_extension(names.unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Self { certificate: builder.build(), key }
    }

    /// The certificate in PEM.
    pub(crate) fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// Completes handshakes on `listener` with this certificate, and closes each connection.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let acceptor = self.acceptor();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            // A client that does not trust the certificate ends the handshake.
            let _ = Pin::new(&mut stream).accept().await;
        }
    }

    /// A server with this certificate.
    pub(crate) fn acceptor(&self) -> SslAcceptor {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&self.key).unwrap();
        acceptor.set_certificate(&self.certificate).unwrap();
        acceptor.build()
    }

    /// Replaces the files by rename, as certificate tools do.
    pub(crate) fn write(&self, folder: &Path) {
        let key = self.key.private_key_to_pem_pkcs8().unwrap();
        let certificate = self.certificate.to_pem().unwrap();
        for (name, pem) in [("tls.key", key), ("tls.crt", certificate)] {
            let temporary = folder.join(format!("{name}.new"));
            std::fs::write(&temporary, pem).unwrap();
            std::fs::rename(temporary, folder.join(name)).unwrap();
        }
    }
}

/// A client that offers these protocols by ALPN and accepts any certificate.
pub(crate) fn connector(protocols: &[u8]) -> SslConnectorBuilder {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.set_verify(SslVerifyMode::NONE);
    if !protocols.is_empty() {
        builder.set_alpn_protos(protocols).unwrap();
    }
    builder
}

pub(crate) fn session(connector: &SslConnector) -> Ssl {
    let configuration = connector.configure().unwrap().verify_hostname(false);
    configuration.into_ssl("emea.bots.example").unwrap()
}

pub(crate) async fn connect(address: SocketAddr, session: Ssl) -> SslStream<TcpStream> {
    let stream = soon("connect", TcpStream::connect(address)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = SslStream::new(session, stream).unwrap();
    soon("TLS handshake", Pin::new(&mut stream).connect()).await.unwrap();
    stream
}

/// Returns the serial number of the certificate that the gateway serves.
pub(crate) async fn serial(address: SocketAddr) -> u32 {
    let stream = connect(address, session(&connector(b"").build())).await;
    let certificate = stream.ssl().peer_certificate().unwrap();
    let serial = certificate.serial_number().to_bn().unwrap().to_vec();
    serial.into_iter().fold(0, |number, byte| number * 256 + u32::from(byte))
}

const HOST: &str = "emea.bots.example";

pub(crate) const HTTP2: &[u8] = b"\x02h2";
pub(crate) const HTTP1: &[u8] = b"\x08http/1.1";
