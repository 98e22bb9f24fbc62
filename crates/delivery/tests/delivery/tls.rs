//! Instances with https: they are verified, and their sessions are resumed.

use std::{
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    ssl::{Ssl, SslAcceptor, SslConnector, SslMethod, SslVersion},
    x509::{X509, X509Builder, X509NameBuilder, extension::SubjectAlternativeName},
};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, ForwardError, TlsClient, TrustAnchors, UpstreamUrl,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet};

use crate::{connections::ask_from_threads, setup::*, upstream::read};

/// An https instance with a self-signed certificate. Stops when it is dropped.
struct TlsInstance {
    address: SocketAddr,
    certificate: X509,
    handshakes: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl TlsInstance {
    /// An instance whose certificate is for 127.0.0.1.
    async fn start(version: SslVersion) -> Self {
        Self::start_for(version, SubjectAlternativeName::new().ip("127.0.0.1")).await
    }

    async fn start_for(version: SslVersion, names: &SubjectAlternativeName) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut subject = X509NameBuilder::new().unwrap();
        subject.append_entry_by_text("CN", "bot").unwrap();
        let subject = subject.build();
        let mut builder: X509Builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&subject).unwrap();
        builder.set_issuer_name(&subject).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();

        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.set_certificate(&certificate).unwrap();
        acceptor.set_min_proto_version(Some(version)).unwrap();
        acceptor.set_max_proto_version(Some(version)).unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (handshakes, resumed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut server = JoinSet::new();
        server.spawn({
            let (handshakes, resumed) = (Arc::clone(&handshakes), Arc::clone(&resumed));
            async move {
                let mut connections = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let ssl = Ssl::new(acceptor.context()).unwrap();
                    let (handshakes, resumed) = (Arc::clone(&handshakes), Arc::clone(&resumed));
                    connections.spawn(async move {
                        let mut stream = tokio_openssl::SslStream::new(ssl, stream).unwrap();
                        if Pin::new(&mut stream).accept().await.is_err() {
                            return;
                        }
                        handshakes.fetch_add(1, Ordering::SeqCst);
                        resumed.fetch_add(usize::from(stream.ssl().session_reused()), Ordering::SeqCst);
                        while let Some(request) = read(&mut stream).await {
                            let close = request.head.contains("never-again");
                            let close =
                                if close { "Connection: close\r\n" } else { "Keep-Alive: timeout=60\r\n" };
                            let response =
                                format!("HTTP/1.1 202 Accepted\r\n{close}Content-Length: 0\r\n\r\n");
                            stream.write_all(response.as_bytes()).await.unwrap();
                        }
                    });
                }
            }
        });
        Self { address, certificate, handshakes, resumed, _server: server }
    }

    /// Its settings, with `host` in its URL.
    fn settings(&self, host: &str, path: &str) -> DeliverySettings {
        let mut settings = settings([self.address]);
        let url = format!("https://{host}:{}/{path}", self.address.port());
        settings.instances[0].url = UpstreamUrl::parse(&url).unwrap();
        settings
    }

    /// A client that trusts its certificate.
    fn client(&self) -> TlsClient {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.cert_store_mut().add_cert(self.certificate.clone()).unwrap();
        TlsClient::new(builder).unwrap()
    }

    /// Its own authority.
    fn anchors(&self) -> Arc<TrustAnchors> {
        Arc::new(TrustAnchors::from_pem(&self.certificate.to_pem().unwrap()).unwrap())
    }

    /// The handshakes so far, and how many of them resumed a session.
    fn handshakes(&self) -> (usize, usize) {
        (self.handshakes.load(Ordering::SeqCst), self.resumed.load(Ordering::SeqCst))
    }
}

async fn ask(delivery: &Delivery) -> Result<u16, ForwardError> {
    // A pool for each request, so that each makes a connection.
    let response = forward(delivery, &Connections::default(), "bot-0").await?;
    let status = response.status.as_u16();
    text(response).await.unwrap();
    Ok(status)
}

#[tokio::test]
async fn an_instance_is_verified() {
    let instance = TlsInstance::start(SslVersion::TLS1_3).await;
    let check = async |host: &str, tls: TlsClient, expected: Result<u16, &str>| {
        let mut settings = instance.settings(host, "x");
        settings.patience = if expected.is_ok() { LONG } else { SHORT };
        let delivery = Arc::new(Delivery::new(settings, uris(), tls));
        // It looks names up.
        let running = tokio::spawn(Arc::clone(&delivery).run());
        let asked = ask(&delivery).await;
        running.abort();
        match (asked, expected) {
            (Ok(status), Ok(expected)) => assert_eq!(status, expected, "{host}"),
            (Err(ForwardError::Unreachable { last, .. }), Err(expected)) => {
                assert_eq!(last, expected, "{host}");
            }
            (asked, expected) => panic!("{host}: {asked:?}, and not {expected:?}"),
        }
    };
    check("127.0.0.1", tls(), Err("tls_unknown_authority")).await;
    // One client for all: a session of one host is none of another.
    let client = instance.client();
    check("127.0.0.1", client.clone(), Ok(202)).await;
    // The certificate is for the address, not for this name of it.
    check("localhost", client.clone(), Err("tls_wrong_name")).await;
    check("127.0.0.1", client, Ok(202)).await;
}

#[tokio::test]
async fn the_certificate_of_an_instance_at_an_address_can_have_a_name() {
    let mut names = SubjectAlternativeName::new();
    let instance = TlsInstance::start_for(SslVersion::TLS1_3, names.dns("bots.contoso.com")).await;
    // One client for all: a session of one name is none of another.
    let client = instance.client();
    for (tls_name, trusted) in [
        (None, false),
        (Some("bots.contoso.com"), true),
        (Some("evil.contoso.com"), false),
        (None, false),
        (Some("bots.contoso.com"), true),
    ] {
        let mut settings = instance.settings("127.0.0.1", "never-again");
        settings.patience = if trusted { LONG } else { SHORT };
        if let Some(name) = tls_name {
            let url = settings.instances[0].url.clone();
            settings.instances[0].url = url.with_tls_name(name).unwrap();
        }
        let asked = ask(&Delivery::new(settings, uris(), client.clone())).await;
        match asked {
            Ok(status) => assert!(trusted && status == 202, "{tls_name:?} {status}"),
            Err(ForwardError::Unreachable { last: "tls_wrong_name", .. }) => {
                assert!(!trusted, "{tls_name:?}")
            }
            Err(error) => panic!("{tls_name:?}: {error}"),
        }
    }
    // The last connection resumed the session of the first one for this name, and no other.
    assert_eq!(instance.handshakes().1, 1);
}

#[tokio::test]
async fn sessions_are_resumed_by_the_client_that_verified_them() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let instance = TlsInstance::start(version).await;
        let settings = instance.settings("127.0.0.1", "never-again");
        let client = instance.client();
        let before = Delivery::new(settings.clone(), uris(), client.clone());
        for expected in [(1, 0), (2, 1), (3, 2), (4, 3)] {
            assert_eq!(ask(&before).await, Ok(202));
            assert_eq!(instance.handshakes(), expected, "{version:?}");
        }
        // The same client in another delivery has its sessions; another client has none, whatever it trusts.
        let same = before.successor(settings.clone(), uris(), client);
        assert_eq!(ask(&same).await, Ok(202));
        assert_eq!(instance.handshakes(), (5, 4), "{version:?}");
        let mut distrusting = settings.clone();
        distrusting.patience = SHORT;
        let distrusting = before.successor(distrusting, uris(), tls());
        assert!(ask(&distrusting).await.is_err());
        let after = before.successor(settings, uris(), instance.client());
        assert_eq!(ask(&after).await, Ok(202));
        assert_eq!(instance.handshakes(), (6, 4), "{version:?}");
    }
}

fn with_anchors(mut settings: DeliverySettings, anchors: Option<&Arc<TrustAnchors>>) -> DeliverySettings {
    settings.instances[0].url = settings.instances[0].url.clone().with_trust_anchors(anchors);
    settings
}

#[tokio::test]
async fn the_authorities_of_an_instance_verify_it_alone_and_share_no_session() {
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let [instance, other] = [TlsInstance::start(version).await, TlsInstance::start(version).await];
        let (own, others) = (instance.anchors(), other.anchors());
        // One client for all. It trusts the instance, too.
        let client = instance.client();
        for (anchors, is_trusted, expected) in [
            (Some(&own), true, (1, 0)),
            (Some(&others), false, (1, 0)),
            (None, true, (2, 0)),
            (Some(&own), true, (3, 1)),
            (None, true, (4, 2)),
            (Some(&others), false, (4, 2)),
        ] {
            let mut settings = with_anchors(instance.settings("127.0.0.1", "never-again"), anchors);
            settings.patience = if is_trusted { LONG } else { SHORT };
            let asked = ask(&Delivery::new(settings, uris(), client.clone())).await;
            match asked {
                Ok(status) => assert!(is_trusted && status == 202, "{version:?} {expected:?} {status}"),
                Err(ForwardError::Unreachable { last: "tls_unknown_authority", .. }) => {
                    assert!(!is_trusted, "{version:?} {expected:?}");
                }
                Err(error) => panic!("{version:?} {expected:?} {error:?}"),
            }
            assert_eq!(instance.handshakes(), expected, "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_is_not_used_under_other_authorities() {
    let [instance, other] =
        [TlsInstance::start(SslVersion::TLS1_3).await, TlsInstance::start(SslVersion::TLS1_3).await];
    let (own, same, others, client) = (instance.anchors(), instance.anchors(), other.anchors(), tls());
    let settings = |anchors| with_anchors(instance.settings("127.0.0.1", "x"), Some(anchors));
    let connections = Connections::default();
    let ask = async |delivery: &Delivery| {
        text(forward(delivery, &connections, "bot-0").await?).await.unwrap();
        Ok::<_, ForwardError>(())
    };
    let delivery = Delivery::new(settings(&own), uris(), client.clone());
    for _ in 0..3 {
        ask(&delivery).await.unwrap();
    }
    assert_eq!(instance.handshakes(), (1, 0), "one connection for all requests");
    // The same certificates from another file change nothing.
    let delivery = delivery.successor(settings(&same), uris(), client.clone());
    ask(&delivery).await.unwrap();
    assert_eq!(instance.handshakes(), (1, 0));
    let distrusting = DeliverySettings { patience: SHORT, ..settings(&others) };
    let delivery = delivery.successor(distrusting, uris(), client.clone());
    assert!(ask(&delivery).await.is_err());
    let delivery = delivery.successor(settings(&own), uris(), client);
    ask(&delivery).await.unwrap();
    assert_eq!(instance.handshakes(), (2, 1), "the connection was closed");
}

#[tokio::test]
async fn all_threads_use_the_same_connections() {
    let instance = TlsInstance::start(SslVersion::TLS1_3).await;
    let delivery = Delivery::new(instance.settings("127.0.0.1", "x"), uris(), instance.client());
    ask_from_threads(Arc::new(delivery), Arc::default(), 16).await;
    let (handshakes, resumed) = instance.handshakes();
    assert!(handshakes <= 4 && resumed + 1 == handshakes, "{handshakes} handshakes, {resumed} resumed");
}
