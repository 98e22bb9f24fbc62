//! TLS on the public listener: both protocols, resumption, and certificates replaced without a restart.

use std::{
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

use openssl::{asn1::Asn1Time, ssl::SslVersion};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use crate::support::{
    Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    tls::{self, HTTP1, HTTP2, Identity},
    until,
};

async fn gateway(issuer: &Issuer, instance: &Instance) -> Gateway {
    let mut settings = Settings::new(issuer, &[instance]);
    settings.tls = true;
    Gateway::start(&settings).await
}

async fn client(address: SocketAddr) -> Client<SslStream<TcpStream>> {
    Client::over(tls::connect(address, tls::session(&tls::connector(HTTP1).build())).await)
}

fn request() -> Vec<u8> {
    Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).bytes()
}

#[tokio::test]
async fn the_protocol_is_chosen_by_the_client() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let both = [HTTP1, HTTP2].concat();
    let cases: [(&[u8], Option<&[u8]>); 4] =
        [(b"", None), (HTTP1, Some(b"http/1.1")), (HTTP2, Some(b"h2")), (&both, Some(b"h2"))];
    for (offered, chosen) in cases {
        let stream = tls::connect(gateway.public, tls::session(&tls::connector(offered).build())).await;
        assert_eq!(stream.ssl().selected_alpn_protocol(), chosen, "{offered:?}");
        if chosen != Some(b"h2") {
            assert_eq!(Client::over(stream).exchange(request()).await.status(), 202);
        }
    }
    for (version, served) in
        [(SslVersion::TLS1_2, true), (SslVersion::TLS1_3, true), (SslVersion::TLS1_1, false)]
    {
        let mut connector = tls::connector(HTTP1);
        // Without this, the OpenSSL of the test may not offer old versions.
        connector.set_cipher_list("DEFAULT:@SECLEVEL=0").unwrap();
        connector.set_min_proto_version(Some(version)).unwrap();
        connector.set_max_proto_version(Some(version)).unwrap();
        let stream = TcpStream::connect(gateway.public).await.unwrap();
        let mut stream = SslStream::new(tls::session(&connector.build()), stream).unwrap();
        let handshake = std::pin::Pin::new(&mut stream).connect().await;
        assert_eq!(handshake.is_ok(), served, "{version:?}");
    }
    // A client without TLS gets no response.
    let mut plain = Client::connect(gateway.public).await;
    plain.send(request()).await;
    let (_, rest) = plain.closed().await;
    assert!(!rest.starts_with(b"HTTP/"), "{rest:?}");
    assert!(gateway.metric("switchboard_handshakes_failed_total", &[]).await >= 2.0);
}

#[tokio::test]
async fn sessions_are_resumed() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    for version in ["-tls1_2", "-tls1_3"] {
        let session = gateway.path(&format!("session{version}"));
        let session = session.to_str().unwrap();
        let first = s_client(gateway.public, &[version, "-sess_out", session]);
        assert!(first.contains("New, TLSv1"), "{first}");
        // Any worker may accept the connection: all of them share the ticket keys.
        for _ in 0..4 {
            let again = s_client(gateway.public, &[version, "-sess_in", session]);
            assert!(again.contains("Reused, TLSv1"), "{version}: {again}");
        }
    }
}

/// Returns the output of OpenSSL's `s_client` for a connection with one request.
///
/// A Rust client would need unsafe code to set a session.
fn s_client(address: SocketAddr, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", "emea.bots.example", "-ign_eof"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let request = Request::get("/nowhere").with("Connection", "close");
    child.stdin.take().unwrap().write_all(&request.bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_replaced_certificate_is_served_without_a_restart() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    assert_eq!(tls::serial(gateway.public).await, 1);
    let mut before = client(gateway.public).await;
    assert_eq!(before.exchange(request()).await.status(), 202);

    // An unusable certificate leaves the old one in place.
    std::fs::write(gateway.path("tls.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    gateway.log.message("keeping the old certificate: the new one cannot be used").await;
    assert_eq!(tls::serial(gateway.public).await, 1);

    Identity::new(2).write(gateway.path("tls.crt").parent().unwrap());
    until("the new certificate", async || (tls::serial(gateway.public).await == 2).then_some(())).await;
    assert_eq!(before.exchange(request()).await.status(), 202, "open connections are not closed");

    // SIGHUP makes the gateway read the certificate at once.
    Identity::new(3).write(gateway.path("tls.crt").parent().unwrap());
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(tls::serial(gateway.public).await, 3);
}

#[tokio::test]
async fn the_faults_of_a_certificate_are_logged_at_the_start_and_at_each_renewal() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let findings = || {
        let events = gateway.log.events();
        let of_certificate = |event: &&serde_json::Value| {
            event["message"] == "certificate of listen.tls needs attention" && event["level"] == "warn"
        };
        let finding = |event: &serde_json::Value| event["finding"].as_str().unwrap().to_owned();
        events.iter().filter(of_certificate).map(finding).collect::<Vec<_>>()
    };
    assert_eq!(findings(), ["self_signed"]);
    let long_ago = Asn1Time::from_unix(1_700_000_000).unwrap();
    Identity::of("stranger", 2, "amer.bots.example", &long_ago)
        .write(gateway.path("tls.crt").parent().unwrap());
    gateway.log.message("certificate reloaded").await;
    assert_eq!(findings(), ["self_signed", "self_signed", "wrong_host", "expired"]);
    let wrong_host = gateway.log.event("the host", |event| event["finding"] == "wrong_host").await;
    assert_eq!(
        wrong_host["detail"],
        "the certificate is for amer.bots.example, localhost and not for emea.bots.example, the host of \
         callback.base, to which the platform posts; use one for that name"
    );
    assert_eq!(gateway.metric("switchboard_certificate_not_after_timestamp_seconds", &[]).await, 1.7e9);
}
