//! Files that hang, as on a mount whose server is away: the gateway serves on, with what it had. And the file
//! of the system's certificate authorities, which is large and is read once.

use std::{path::Path, process::Command};

use crate::support::{
    Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    gateway::CONFIG,
    settings::SEALS,
    tls::{self, Identity},
    until,
};

/// Replaces a file by a pipe without a writer: opening it for reading never ends.
fn hang(path: &Path) {
    let _ = std::fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Replaces a file, and ends the reads that hang.
fn restore(path: &Path, content: &[u8]) {
    let moved = path.with_extension("fifo");
    std::fs::rename(path, &moved).unwrap();
    std::fs::write(path, content).unwrap();
    // Opened for both, a pipe does not wait for the other end.
    drop(std::fs::File::options().read(true).write(true).open(moved).unwrap());
}

async fn place(gateway: &Gateway) -> u16 {
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    Client::connect(gateway.public).await.exchange(request.bytes()).await.status()
}

const REFUSED: &str = "reload refused: keeping the old configuration";

#[tokio::test]
async fn a_reload_whose_files_hang_is_refused_and_stops_nothing() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let configuration = std::fs::read(gateway.path(CONFIG)).unwrap();
    for (count, (file, content)) in
        [("seal-k1", SEALS[0].1.as_bytes()), (CONFIG, &configuration)].into_iter().enumerate()
    {
        hang(&gateway.path(file));
        gateway.signal("HUP");
        // New connections are accepted, and the admin listener responds.
        for _ in 0..3 {
            assert_eq!(place(&gateway).await, 202, "{file}");
            assert_eq!(gateway.admin("/readyz").await.status(), 200, "{file}");
        }
        assert_eq!(gateway.log.events().iter().filter(|event| event["message"] == REFUSED).count(), count);
        let refused = gateway.log.nth(count, REFUSED, |event| event["message"] == REFUSED).await;
        let problems = refused["problems"].as_str().unwrap();
        assert!(problems.contains(file) && problems.contains("no response in 5 s"), "{problems}");
        restore(&gateway.path(file), content);
        gateway.signal("HUP");
        gateway.log.nth(count, "reload", |event| event["message"] == "configuration reloaded").await;
        assert_eq!(place(&gateway).await, 202, "{file}");
    }
}

#[tokio::test]
async fn a_gateway_whose_files_hang_drains() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings =
        Settings::new(&issuer, &[&instance]).line("listen", "drain = { delay = \"0s\", deadline = \"1s\" }");
    let mut gateway = Gateway::start(&settings).await;
    hang(&gateway.path("seal-k1"));
    gateway.signal("HUP");
    assert_eq!(place(&gateway).await, 202);
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
    // The drain did not wait for the file.
    assert!(gateway.log.events().iter().all(|event| event["message"] != REFUSED));
}

#[tokio::test]
async fn a_certificate_that_hangs_leaves_the_old_one() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut settings = Settings::new(&issuer, &[&instance]);
    settings.tls = true;
    let gateway = Gateway::start(&settings).await;
    hang(&gateway.path("tls.crt"));
    let kept = "keeping the old certificate: the new one cannot be used";
    let error = gateway.log.message(kept).await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("tls.crt") && error.contains("no response in 5 s"), "{error}");
    assert_eq!(tls::serial(gateway.public).await, 1);
    // It is replaced although the read of the old file hangs on.
    Identity::new(2).write(&gateway.path(""));
    gateway.log.message("certificate reloaded").await;
    assert_eq!(tls::serial(gateway.public).await, 2);
    assert_eq!(gateway.log.events().iter().filter(|event| event["message"] == kept).count(), 1);
}

/// Parsing it takes tens of milliseconds, and each copy a megabyte.
#[tokio::test]
async fn the_authorities_of_the_system_are_read_once_and_again_when_they_change() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    // Text before a certificate is allowed in a PEM file.
    let comment = "an authority\n".repeat(40_000);
    let write = |serial: u32| {
        Identity::new(serial).write(folder.path());
        let certificate = std::fs::read_to_string(folder.path().join("tls.crt")).unwrap();
        std::fs::write(&bundle, format!("{comment}{serial}\n{certificate}")).unwrap();
    };
    write(1);
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer");
    let gateway = Gateway::start_trusting(&settings, &bundle).await;
    // The bytes that the process has read since its start, in bundles.
    let bundles = || gateway.bytes_read() / u64::try_from(comment.len()).unwrap();
    let reload = async |count: usize| {
        gateway.signal("HUP");
        gateway.log.nth(count, "reload", |event| event["message"] == "configuration reloaded").await;
    };
    until("the start", async || (bundles() > 0).then_some(())).await;
    assert_eq!(bundles(), 1);
    reload(0).await;
    reload(1).await;
    assert_eq!(bundles(), 1, "unchanged");
    write(2);
    reload(2).await;
    assert_eq!(bundles(), 2, "changed");
}
