//! A fleet of pods, discovered at a fake API server through a kubeconfig. All pods share one address here, so
//! that each one needs its own slice and port.

use std::{fs, net::SocketAddr, path::Path, pin::Pin, process::Command};

use openssl::ssl::{Ssl, SslAcceptor, SslFiletype, SslMethod};
use serde_json::Value;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_openssl::SslStream;

use self::api_server::{ApiServer, pod, ready, slice, terminating, uid};
use crate::support::{
    APP, Gateway, Instance, Issuer, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, path_of},
    instance::first_request,
    tls::Identity,
    until,
};

#[path = "../../../delivery/src/discovery/kubernetes/tests/api_server.rs"]
#[expect(dead_code, reason = "some items are used by the tests of delivery only")]
mod api_server;

const TOKEN: &str = "not-secret-token-of-a-service-account";

/// Writes a kubeconfig. `cluster` is the URL of the server, with further members if needed.
fn write_kubeconfig(file: &Path, cluster: &str) {
    write_kubeconfig_of(file, cluster, &format!("{{token: {TOKEN}}}"));
}

fn write_kubeconfig_of(file: &Path, cluster: &str, user: &str) {
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         contexts: [{{name: test, context: {{cluster: test, user: gateway, namespace: media}}}}]\n\
         clusters: [{{name: test, cluster: {{server: {cluster}}}}}]\n\
         users: [{{name: gateway, user: {user}}}]\n"
    );
    // Replaced by rename, like a mounted secret: the gateway never reads a half-written file.
    let next = file.with_extension("next");
    fs::write(&next, kubeconfig).unwrap();
    fs::rename(next, file).unwrap();
}

fn settings(issuer: &Issuer) -> Settings {
    Settings::new(issuer, &[]).table(
        "[fleet]\nallow = [\"127.0.0.0/8\"]\n[fleet.kubernetes]\nservice = \"bots\"\nport = \"calls\"\n",
    )
}

/// Sets the slice of one pod, with the port at which `instance` listens.
fn put(server: &ApiServer, instance: &Instance, incarnation: char, conditions: Value) {
    let port = instance.url().rsplit_once(':').unwrap().1.split('/').next().unwrap().parse().unwrap();
    let pods = [pod(&instance.name, incarnation, "127.0.0.1", conditions)];
    server.put(&instance.name, slice("IPv4", ("calls", port), &pods));
}

/// Waits until `/fleet` has these values for `key`, in the order of the instances.
async fn until_fleet(gateway: &Gateway, key: &str, expected: &[&str]) {
    until(&format!("{key} {expected:?}"), async || {
        let fleet = gateway.admin("/fleet").await.json();
        let present = fleet.as_array().unwrap().iter().filter(|instance| instance["state"] != "gone");
        let shown: Vec<_> = present.map(|instance| instance[key].as_str().unwrap()).collect();
        (shown == expected).then_some(())
    })
    .await;
}

/// The URI that `switchboard mint` writes in a pod.
fn minted_in_pod(gateway: &Gateway, pod: &str, uid: &str) -> String {
    let file = gateway.path("uri");
    let minted = Command::new(BINARY)
        .arg("mint")
        .arg("--config")
        .arg(gateway.path(CONFIG))
        .args(["--app", APP, "--out"])
        .arg(&file)
        .envs([("POD_NAME", pod), ("POD_UID", uid)])
        .output()
        .unwrap();
    assert!(minted.status.success() && minted.stdout.is_empty(), "{minted:?}");
    fs::read_to_string(file).unwrap().trim_end().to_owned()
}

async fn post(gateway: &Gateway, path: &str, body: String) -> u16 {
    Request::post(path, &Token::skype().sign(), body).send(gateway).await.status()
}

/// Places a call. Returns the index of its instance and the path of its callback URI.
async fn place(gateway: &Gateway, bots: &mut [Instance], call_id: &str) -> (usize, String) {
    assert_eq!(post(gateway, "/api/calls", bodies::incoming(call_id)).await, 202);
    let (at, request) = first_request(bots).await;
    (at, path_of(request.field("switchboard-callback-uri").unwrap()))
}

#[tokio::test]
async fn a_terminating_pod_keeps_its_callbacks_and_its_successor_gets_none_of_them() {
    let issuer = Issuer::start();
    let mut server = ApiServer::start();
    let mut bots = Instance::start_all(["bot-0", "bot-1"]);
    for bot in &bots {
        put(&server, bot, 'a', ready());
    }
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, &format!("\"http://{}\"", server.address));
    let gateway = Gateway::start_in(&settings(&issuer), ("KUBECONFIG", &kubeconfig)).await;
    gateway.wait_for_ready(200).await;
    let bearer = format!("Bearer {TOKEN}");
    assert!(server.requests().iter().all(|seen| seen.authorization.as_ref() == Some(&bearer)));

    let mut calls = Vec::new();
    for number in 0.. {
        let (owner, path) = place(&gateway, &mut bots, &format!("call-{number}")).await;
        calls.push(path);
        if owner == 0 {
            break;
        }
    }
    let old = calls.pop().unwrap();
    assert!(old.contains("/bot-0/k1.aaaaaaaa-0000."), "{old}");

    // The pod terminates: it keeps its call and gets no new ones.
    put(&server, &bots[0], 'a', terminating());
    until_fleet(&gateway, "state", &["draining", "ready"]).await;
    for number in 0..16 {
        assert_eq!(place(&gateway, &mut bots, &format!("late-{number}")).await.0, 1);
    }
    assert_eq!(post(&gateway, &old, bodies::updated("call-0", "established")).await, 202);
    bots[0].request().await;

    // The successor listens at the same address, which is the worst case.
    put(&server, &bots[0], 'b', ready());
    until_fleet(&gateway, "incarnation", &["bbbbbbbb-0000", "aaaaaaaa-0000"]).await;
    assert_eq!(post(&gateway, &old, bodies::updated("call-0", "terminated")).await, 410);
    bots[0].expect_nothing();
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let new = path_of(minted["callback_uri"].as_str().unwrap());
    // The pod makes the same URI of its own name and uid.
    assert_eq!(Some(minted_in_pod(&gateway, "bot-0", &uid('b')).as_str()), minted["callback_uri"].as_str());
    assert_eq!(post(&gateway, &new, bodies::updated("call-1", "established")).await, 202);
    bots[0].request().await;

    // The gateway keeps the last state while the server is unreachable.
    server.go_away().await;
    let is_outage = |event: &Value| event["reason"] == "unanswered" && event["source"] == "bots";
    let outage = gateway.log.event("the outage of the server", is_outage).await;
    assert_eq!(outage["message"], "keeping the current fleet: its source was not read");
    assert_eq!(post(&gateway, &new, bodies::updated("call-1", "terminated")).await, 202);
    bots[0].request().await;
    place(&gateway, &mut bots, "meanwhile").await;
    server.delete("bot-0");
    server.come_back();
    until_fleet(&gateway, "name", &["bot-1"]).await;
    gateway.log.message("fleet source is readable again").await;
    assert_eq!(post(&gateway, &new, bodies::updated("call-1", "terminated")).await, 410);
    assert!(!gateway.log.text().contains(TOKEN));
    // The gateway logs failures itself; it suppresses the events of the library.
    let events = gateway.log.events();
    assert!(events.iter().all(|event| event["target"].as_str().unwrap().starts_with("switchboard")));
}

#[tokio::test]
async fn a_pod_that_has_lost_its_label_keeps_its_callbacks() {
    let issuer = Issuer::start();
    let server = ApiServer::start();
    let mut bots = Instance::start_all(["bot-0", "bot-1"]);
    for bot in &bots {
        put(&server, bot, 'a', ready());
        server.put_pod(&bot.name, 'a');
    }
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, &format!("\"http://{}\"", server.address));
    let gateway = Gateway::start_in(&settings(&issuer), ("KUBECONFIG", &kubeconfig)).await;
    gateway.wait_for_ready(200).await;
    let (owner, path) = place(&gateway, &mut bots, "call-1").await;
    let (left, other) = (bots[owner].name.clone(), bots[1 - owner].name.clone());
    server.delete(&left);
    until_fleet(&gateway, "name", &[&other, &left]).await;
    let asked = format!("/api/v1/namespaces/media/pods/{left}");
    until("the server is asked for the pod", async || {
        server.requests().iter().any(|seen| seen.path == asked).then_some(())
    })
    .await;
    until_fleet(&gateway, "state", &["ready", "draining"]).await;
    assert_eq!(post(&gateway, &path, bodies::updated("call-1", "established")).await, 202);
    bots[owner].request().await;
    for number in 0..16 {
        assert_eq!(place(&gateway, &mut bots, &format!("late-{number}")).await.0, 1 - owner);
    }
}

#[tokio::test]
async fn an_invalid_kubeconfig_is_logged_and_read_again() {
    let issuer = Issuer::start();
    let server = ApiServer::start();
    let bots = Instance::start_all(["bot-0"]);
    put(&server, &bots[0], 'a', ready());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // The kubeconfig has a mistake beside a token.
    fs::write(&kubeconfig, format!("users: [{{name: gateway, user: {{token: {TOKEN}}}}}\nclusters: 7\n"))
        .unwrap();
    let gateway = Gateway::start_in(&settings(&issuer), ("KUBECONFIG", &kubeconfig)).await;
    let failure = gateway.log.event("the failure", |event| event["reason"] == "unanswered").await;
    assert_eq!(failure["error"], "no usable response: the kubeconfig is not valid");
    gateway.wait_for_ready(503).await;
    write_kubeconfig(&kubeconfig, &format!("\"http://{}\"", server.address));
    gateway.wait_for_ready(200).await;
    until_fleet(&gateway, "state", &["ready"]).await;
    assert!(!gateway.log.text().contains(TOKEN));
}

#[tokio::test]
async fn a_credential_program_that_hangs_blocks_nothing_else() {
    let issuer = Issuer::start();
    let server = ApiServer::start();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    // The program runs until the gateway has ended.
    let program = "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, \
                   args: [-c, 'while kill -0 $PPID; do echo waiting > \"$0\"; sleep 0.1; done', PLACE]}}";
    let place = folder.path().join("waiting");
    let program = program.replace("PLACE", place.to_str().unwrap());
    write_kubeconfig_of(&kubeconfig, &format!("\"http://{}\"", server.address), &program);
    let settings = settings(&issuer).line("listen", "drain = { delay = \"0s\", deadline = \"10s\" }");
    let mut gateway = Gateway::start_in(&settings, ("KUBECONFIG", &kubeconfig)).await;
    until("the program runs", async || place.exists().then_some(())).await;
    assert_eq!(gateway.admin("/healthz").await.status(), 200);
    assert_eq!(post(&gateway, "/api/calls", bodies::incoming("call-1")).await, 503);
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
}

#[tokio::test]
async fn the_api_server_needs_a_certificate_that_the_kubeconfig_trusts() {
    let issuer = Issuer::start();
    let server = ApiServer::start();
    let bots = Instance::start_all(["bot-0"]);
    put(&server, &bots[0], 'a', ready());
    let folder = tempfile::tempdir().unwrap();
    Identity::new(1).write(folder.path());
    let (port, _proxy) = behind_tls(server.address, folder.path()).await;
    let kubeconfig = folder.path().join("kubeconfig");
    write_kubeconfig(&kubeconfig, &format!("\"https://localhost:{port}\""));
    let gateway = Gateway::start_in(&settings(&issuer), ("KUBECONFIG", &kubeconfig)).await;
    let failure = gateway.log.event("the failure", |event| event["reason"] == "unanswered").await;
    assert!(failure["error"].as_str().unwrap().contains("certificate verify failed"), "{failure}");
    gateway.wait_for_ready(503).await;
    assert!(server.requests().is_empty());
    write_kubeconfig(&kubeconfig, &format!("\"https://localhost:{port}\", certificate-authority: tls.crt"));
    gateway.wait_for_ready(200).await;
    until_fleet(&gateway, "state", &["ready"]).await;
}

/// Starts a TLS proxy in front of `server`, with the certificate in `folder`. Returns its port and its tasks.
async fn behind_tls(server: SocketAddr, folder: &Path) -> (u16, JoinSet<()>) {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key_file(folder.join("tls.key"), SslFiletype::PEM).unwrap();
    acceptor.set_certificate_file(folder.join("tls.crt"), SslFiletype::PEM).unwrap();
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut proxy = JoinSet::new();
    proxy.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            connections.spawn(async move {
                if Pin::new(&mut stream).accept().await.is_ok() {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    // Either side may close the connection.
                    let _ = copy_bidirectional(&mut stream, &mut server).await;
                }
            });
        }
    });
    (port, proxy)
}
