//! The gateway under a service manager: inherited sockets, messages, and restarts without a refused
//! connection. The test is the service manager: it holds the sockets and reads the messages.

mod watchdog;

use std::{
    cell::{Cell, RefCell},
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tokio::net::{TcpStream, UnixDatagram};

use crate::support::{
    Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, path_of},
    soon, until,
};

/// The command of a gateway that inherits `sockets` as the descriptors 3 and 4, with these names.
///
/// They travel as its standard input and output, so that no other process of the tests inherits them, and
/// the shell moves them. `exec` keeps the process id, which `LISTEN_PID` must have.
fn activated(names: &str, sockets: Vec<OwnedFd>) -> Command {
    let moves = ["", "3<&0", "3<&0 4<&1"][sockets.len()];
    let variables = "LISTEN_PID=$$ LISTEN_FDS=$FDS LISTEN_FDNAMES=$NAMES";
    let script = format!("{variables} exec \"$0\" \"$@\" {moves} </dev/null >/dev/null");
    let mut command = Command::new("sh");
    command.args(["-c", &script, BINARY]).env("FDS", sockets.len().to_string()).env("NAMES", names);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    for (number, socket) in sockets.into_iter().enumerate() {
        match number {
            0 => command.stdin(socket),
            _ => command.stdout(socket),
        };
    }
    command
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// A duplicate for a process; this one keeps the socket.
fn shared(socket: &TcpListener) -> OwnedFd {
    socket.try_clone().unwrap().into()
}

/// The socket that `NOTIFY_SOCKET` names.
struct NotifySocket {
    socket: UnixDatagram,
    folder: TempDir,
}

impl NotifySocket {
    fn bind() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { socket: UnixDatagram::bind(folder.path().join("notify")).unwrap(), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// The lines of the next message.
    #[track_caller]
    fn next(&self) -> impl Future<Output = Vec<String>> {
        soon("a message", async {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes).await.unwrap();
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            text.lines().map(str::to_owned).collect()
        })
    }

    /// The next message that is more than a status.
    async fn next_change(&self) -> Vec<String> {
        loop {
            let message = self.next().await;
            if !message.iter().all(|line| line.starts_with("STATUS=")) {
                return message;
            }
        }
    }
}

/// The setting of a key store, with which the next process has keys at once.
fn store(keys: &TempDir) -> String {
    format!("store = {:?}", keys.path().join("keys"))
}

/// Waits until the keys of both trusts are stored.
async fn stored(keys: &TempDir) {
    until("the keys are stored", async || {
        let files = std::fs::read_dir(keys.path().join("keys")).ok()?.count();
        (files == 2).then_some(())
    })
    .await;
}

fn placed_request(call_id: &str) -> Request {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call_id))
}

#[tokio::test]
async fn inherited_sockets_replace_the_configured_addresses() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let (public, admin) = (listener(), listener());
    for is_swapped in [false, true] {
        let (names, sockets) = if is_swapped {
            ("admin:public", vec![shared(&admin), shared(&public)])
        } else {
            ("public:admin", vec![shared(&public), shared(&admin)])
        };
        let mut gateway = Gateway::run(&settings, activated(names, sockets)).await;
        assert_eq!(gateway.public, public.local_addr().unwrap());
        assert_eq!(gateway.admin, admin.local_addr().unwrap());
        for (name, setting) in [("public", "listen.address"), ("admin", "admin.address")] {
            let event = gateway.log.event("replaced", |event| event["socket"] == name).await;
            assert_eq!(event["message"], "inherited socket replaces a configured address");
            assert_eq!((&event["setting"], &event["configured"]), (&setting.into(), &"127.0.0.1:0".into()));
        }
        gateway.wait_for_ready(200).await;
        assert_eq!(placed_request("call-1").send(&gateway).await.status(), 202);

        // A reload keeps the sockets, and refuses another address as ever.
        gateway.signal("HUP");
        gateway.log.message("configuration reloaded").await;
        assert_eq!(placed_request("call-2").send(&gateway).await.status(), 202);
        gateway.signal("TERM");
        assert_eq!(gateway.exit().await, Some(0));
    }
}

#[tokio::test]
async fn one_inherited_socket_leaves_the_other_address_to_the_configuration() {
    let issuer = Issuer::start();
    let settings = Settings::without_fleet(&issuer);
    let admin = listener();
    let gateway = Gateway::run(&settings, activated("admin", vec![shared(&admin)])).await;
    assert_eq!(gateway.admin, admin.local_addr().unwrap());
    assert_ne!(gateway.public, gateway.admin);
    gateway.wait_for_ready(200).await;
}

#[tokio::test]
async fn sockets_that_cannot_be_used_are_named_with_the_setting_of_their_unit() {
    let issuer = Issuer::start();
    let settings = Settings::without_fleet(&issuer);
    let folder = tempfile::tempdir().unwrap();
    let connection = || std::net::TcpStream::connect(held_listener()).unwrap();
    let unix = || UnixListener::bind(folder.path().join("socket")).unwrap();
    let (pair, _other) = UnixStream::pair().unwrap();
    for (names, sockets, problem) in [
        (
            "web",
            vec![listener().into()],
            "unknown inherited socket \"web\": set FileDescriptorName=public or",
        ),
        (
            "public:public",
            vec![listener().into(), listener().into()],
            "two inherited sockets are named public",
        ),
        ("public", vec![listener().into(), listener().into()], "2 inherited sockets have 1 names"),
        ("", vec![listener().into()], "1 inherited sockets have 0 names"),
        ("public", vec![connection().into()], "inherited socket public does not listen: set Accept=no"),
        ("admin", vec![unix().into()], "inherited socket admin is not a TCP socket: set ListenStream="),
        ("admin", vec![pair.into()], "FileDescriptorName=admin"),
    ] {
        let mut gateway = Gateway::launch(&settings, activated(names, sockets));
        assert_eq!(gateway.exit().await, Some(64), "{names}");
        let event = gateway.log.message("gateway cannot run").await;
        let error = event["error"].as_str().unwrap();
        assert!(error.contains(problem), "{names}: {error}");
    }
}

/// The address of a listener that lasts as long as the process.
fn held_listener() -> std::net::SocketAddr {
    static HELD: std::sync::OnceLock<TcpListener> = std::sync::OnceLock::new();
    HELD.get_or_init(listener).local_addr().unwrap()
}

#[tokio::test]
async fn the_service_manager_is_notified_of_start_reload_and_stop() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings =
        Settings::new(&issuer, &[&instance]).line("listen", "drain = { delay = \"0s\", deadline = \"60s\" }");
    let notify = NotifySocket::bind();
    let mut gateway = Gateway::start_in(&settings, ("NOTIFY_SOCKET", &notify.path())).await;

    // The first message: the listeners accept. Keys may be missing still, and the status says so.
    let ready = notify.next().await;
    assert_eq!(ready[0], "READY=1", "{ready:?}");
    assert!(ready[1].starts_with("STATUS="), "{ready:?}");
    assert_eq!(ready.len(), 2);
    assert!(TcpStream::connect(gateway.public).await.is_ok());
    while notify.next().await != ["STATUS=serving emea: 1 of 1 instances ready"] {}

    gateway.signal("HUP");
    let reloading = notify.next_change().await;
    assert_eq!(reloading[0], "RELOADING=1", "{reloading:?}");
    let time = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
    assert!(time.parse::<u64>().unwrap() > 0);
    assert_eq!(notify.next_change().await, ["READY=1"]);

    // A refused reload ends, too.
    gateway.rewrite_text("region = ");
    gateway.signal("HUP");
    assert_eq!(notify.next_change().await[0], "RELOADING=1");
    assert_eq!(notify.next_change().await, ["READY=1"]);
    let refused = "STATUS=serving emea: 1 of 1 instances ready; the last reload was refused";
    while notify.next().await != [refused] {}

    gateway.signal("TERM");
    let stopping = notify.next_change().await;
    assert_eq!(stopping[0], "STOPPING=1", "{stopping:?}");
    assert!(stopping[1].starts_with("STATUS=draining emea: "), "{stopping:?}");
    assert_eq!(gateway.exit().await, Some(0));
}

/// A gateway without keys starts: an issuer that is down must not keep systemd from starting it.
#[tokio::test]
async fn a_gateway_without_keys_is_started_and_says_what_it_waits_for() {
    let issuer = Issuer::start();
    let mut settings = Settings::without_fleet(&issuer);
    settings.tls = false;
    let notify = NotifySocket::bind();
    // No process listens on port 9 of loopback.
    let unreachable = Settings::render(&settings);
    let unreachable = unreachable.replace(&issuer.metadata("skype"), "http://127.0.0.1:9/skype");
    let unreachable = unreachable.replace(&issuer.metadata("entra"), "http://127.0.0.1:9/entra");
    assert!(unreachable.contains("127.0.0.1:9/entra"));
    let folder = tempfile::tempdir().unwrap();
    crate::support::gateway::write_configuration(folder.path(), &settings);
    let file = folder.path().join(crate::support::gateway::CONFIG);
    std::fs::write(&file, unreachable).unwrap();
    let mut child = tokio::process::Command::new(BINARY)
        .args(["serve", "--config"])
        .arg(&file)
        .env("NOTIFY_SOCKET", notify.path())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = notify.next().await;
    assert_eq!(ready, ["READY=1", "STATUS=not ready in emea: waiting for keys"]);
    child.kill().await.unwrap();
}

/// The process that drains serves the connections that wait in the socket; later ones wait there for the next
/// process.
#[tokio::test]
async fn connections_that_arrive_during_and_after_a_drain_are_served() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let keys = tempfile::tempdir().unwrap();
    let settings = Settings::new(&issuer, &[&instance]).line("keys", &store(&keys));
    let public = listener();
    let start = async || Gateway::run(&settings, activated("public", vec![shared(&public)])).await;
    let mut first = start().await;
    first.wait_for_ready(200).await;
    stored(&keys).await;
    instance.next(Reply::status(202).held());
    let mut busy = Client::connect(first.public).await;
    busy.send(placed_request("call-1").bytes()).await;
    instance.request().await;
    first.signal("TERM");
    first.log.message("drain started: new connections wait for the next process").await;
    // It may arrive before or after the process has accepted the waiting ones for the last time.
    let mut waiting = Client::connect(first.public).await;
    waiting.send(placed_request("call-2").bytes()).await;
    instance.release();
    assert_eq!(busy.response().await.status(), 202);
    assert_eq!(first.exit().await, Some(0));

    let mut late = Client::connect(public.local_addr().unwrap()).await;
    late.send(placed_request("call-3").bytes()).await;
    let second = start().await;
    for client in [&mut waiting, &mut late] {
        assert_eq!(client.response().await.status(), 202);
    }
    drop(second);
}

/// Six clients post callbacks, each over a new connection, while the gateway is restarted three times.
#[tokio::test]
async fn restarts_under_load_refuse_no_connection_and_lose_no_notification() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let keys = tempfile::tempdir().unwrap();
    let settings = Settings::new(&issuer, &[&instance]).line("keys", &store(&keys));
    let (public, admin) = (listener(), listener());
    let start = async || {
        let sockets = vec![shared(&public), shared(&admin)];
        Gateway::run(&settings, activated("public:admin", sockets)).await
    };
    let mut gateway = start().await;
    gateway.wait_for_ready(200).await;
    assert_eq!(placed_request("call-1").send(&gateway).await.status(), 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    stored(&keys).await;
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    let (address, bytes) = (gateway.public, callback.bytes());

    let load = Load::default();
    let client = async || {
        while !load.is_over.get() {
            load.started.set(load.started.get() + 1);
            let Ok(stream) = TcpStream::connect(address).await else {
                load.refused.set(load.refused.get() + 1);
                continue;
            };
            let mut client = Client::over(stream);
            client.send(&bytes).await;
            match client.response_or_end().await.map(|response| response.status()) {
                Some(202) => load.accepted.set(load.accepted.get() + 1),
                other => load.lost.borrow_mut().push(other),
            }
        }
    };
    let restarts = async {
        for _ in 0..RESTARTS {
            load.more().await;
            gateway.signal("TERM");
            assert_eq!(gateway.exit().await, Some(0));
            gateway = start().await;
        }
        load.more().await;
        load.is_over.set(true);
    };
    tokio::join!(restarts, client(), client(), client(), client(), client(), client());

    assert_eq!(load.refused.get(), 0, "refused connections of {}", load.started.get());
    assert_eq!(*load.lost.borrow(), [], "lost notifications of {}", load.started.get());
    assert_eq!(load.accepted.get(), load.started.get());
    let mut received = 0;
    while instance.request_now().is_some() {
        received += 1;
    }
    assert_eq!(received, load.accepted.get(), "notifications at the instance");
}

/// The counts of a load.
#[derive(Default)]
struct Load {
    started: Cell<usize>,
    accepted: Cell<usize>,
    refused: Cell<usize>,
    lost: RefCell<Vec<Option<u16>>>,
    is_over: Cell<bool>,
}

impl Load {
    /// Waits for further notifications.
    async fn more(&self) {
        let goal = self.accepted.get() + BETWEEN_RESTARTS;
        until("accepted notifications", async || (self.accepted.get() >= goal).then_some(())).await;
    }
}

const RESTARTS: usize = 3;
const BETWEEN_RESTARTS: usize = 100;
