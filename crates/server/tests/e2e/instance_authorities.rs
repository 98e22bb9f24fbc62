//! Instances of a fleet file that have certificate authorities of their own.

use std::path::Path;

use openssl::asn1::Asn1Time;

use crate::support::{
    APP, Gateway, Issuer, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of},
    https_instance::https_instance,
    soon,
    tls::Identity,
    until,
};

const KEPT: &str = "keeping the current fleet: its source was not read";
const FAILED: &str = "TLS handshake with an upstream failed";

/// The authorities of bot-0 and bot-1, each the certificate itself, and their hosts.
fn identities() -> [Identity; 2] {
    let not_after = Asn1Time::days_from_now(365).unwrap();
    // Keys of their own, so that neither can be taken for the issuer of the other.
    [("stranger", "one.example"), ("skype-1", "other.example")]
        .map(|(key, host)| Identity::of(key, 1, host, &not_after))
}

fn replace(folder: &Path, name: &str, content: &[u8]) {
    std::fs::write(folder.join("new"), content).unwrap();
    std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
}

/// Writes the list, with these files of authorities of bot-0 and bot-1.
fn list(folder: &Path, ports: [u16; 2], authorities: [&str; 2]) {
    let instance = |at: usize| {
        format!(
            "{{\"name\": \"bot-{at}\", \"url\": \"https://127.0.0.1:{}/api/calls\", \
             \"tls_name\": \"localhost\", \"ca\": \"{}\"}}",
            ports[at], authorities[at]
        )
    };
    replace(folder, "fleet.json", format!("[{},\n{}]", instance(0), instance(1)).as_bytes());
}

/// Posts a callback of each instance. Returns the statuses.
async fn call_back(gateway: &Gateway) -> [u16; 2] {
    let mut statuses = [0; 2];
    for (at, status) in statuses.iter_mut().enumerate() {
        let minted = gateway.admin(&format!("/fleet/bot-{at}/callback?app={APP}")).await.json();
        let path = path_of(minted["callback_uri"].as_str().unwrap());
        let body = bodies::updated("call-1", "established");
        *status = Request::post(&path, &Token::skype().sign(), body).send(gateway).await.status();
    }
    statuses
}

async fn until_both(gateway: &Gateway, status: u16) {
    let expected = [status; 2];
    until(&format!("{status}"), async || (call_back(gateway).await == expected).then_some(())).await;
}

async fn run(command: &str, gateway: &Gateway) -> (String, String) {
    let mut process = tokio::process::Command::new(BINARY);
    process.arg(command).arg("--config").arg(gateway.path(CONFIG));
    let output = soon(command, process.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn each_instance_of_a_file_is_verified_by_its_own_authorities() {
    let issuer = Issuer::start();
    let identities = identities();
    let [pem, other_pem] = [identities[0].pem(), identities[1].pem()];
    let (port, _requests, _server) = https_instance(&identities[0]);
    let (other_port, _other_requests, _other_server) = https_instance(&identities[1]);
    let ports = [port, other_port];
    let settings = Settings::new(&issuer, &[])
        .line("callback", "patience = \"300ms\"")
        .table("[fleet.file]\npath = \"fleet.json\"\n");
    let gateway = Gateway::start_unready(&settings).await;
    let folder = gateway.path("");
    replace(&folder, "one.pem", &pem);
    replace(&folder, "other.pem", &other_pem);
    list(&folder, ports, ["one.pem", "other.pem"]);
    gateway.wait_for_ready(200).await;
    gateway.log.message("fleet updated").await;
    for _ in 0..3 {
        assert_eq!(call_back(&gateway).await, [202, 202]);
    }
    let placed = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).send(&gateway).await;
    assert_eq!(placed.status(), 202);
    let (doctor, _) = run("doctor", &gateway).await;
    assert_eq!(doctor.matches("accepts connections; no probe is configured").count(), 2, "{doctor}");

    // Swapped, each fails, although there are open connections and sessions of a moment ago.
    list(&folder, ports, ["other.pem", "one.pem"]);
    until_both(&gateway, 503).await;
    for (port, host) in [(port, "one.example"), (other_port, "other.example")] {
        let failed = |event: &serde_json::Value| {
            event["message"] == FAILED && event["host"] == format!("127.0.0.1:{port}")
        };
        let event = gateway.log.event(FAILED, failed).await;
        assert_eq!(
            event["error"],
            format!("unknown authority: the certificate of {host} is self-signed and not trusted")
        );
    }
    let (doctor, _) = run("doctor", &gateway).await;
    assert_eq!(doctor.matches("or in `ca` of the instance if it has one").count(), 2, "{doctor}");

    // The files change and the list does not.
    replace(&folder, "one.pem", &other_pem);
    replace(&folder, "other.pem", &pem);
    until_both(&gateway, 202).await;

    // A file that cannot be used changes nothing.
    let read_at = "switchboard_fleet_source_last_success_timestamp_seconds";
    for (count, (content, reason)) in [
        (None, "cannot be read: No such file or directory (os error 2)"),
        (
            Some("-----BEGIN"),
            "is not a PEM file with a certificate, which has a line -----BEGIN CERTIFICATE-----",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let before = gateway.log.events().iter().filter(|event| event["message"] == KEPT).count();
        match content {
            None => std::fs::remove_file(folder.join("one.pem")).unwrap(),
            Some(content) => replace(&folder, "one.pem", content.as_bytes()),
        }
        let event = gateway.log.nth(before, KEPT, |event| event["message"] == KEPT).await;
        let list = folder.join("fleet.json").display().to_string();
        let column = 83 + other_port.to_string().len();
        let problem = format!("instance[1].ca: {} {reason}", folder.join("one.pem").display());
        assert_eq!(event["error"], format!("{list}:2:{column}: {problem}"), "{count}");
        assert_eq!(call_back(&gateway).await, [202, 202]);
        let (_, warnings) = run("check", &gateway).await;
        assert!(warnings.contains(&format!("warning: {problem}")), "{warnings}");
    }
    let last = gateway.metric(read_at, &[]).await;
    replace(&folder, "one.pem", &other_pem);
    gateway.log.message("fleet source is readable again").await;
    until("a later read", async || (gateway.metric(read_at, &[]).await > last).then_some(())).await;
    assert_eq!(call_back(&gateway).await, [202, 202]);
}
