//! Storing and restoring a fleet: real files, in-memory streams, paused time.

use std::{fs, path::Path};

use bytes::Bytes;
use http::HeaderMap;
use openssl::ssl::{SslConnector, SslMethod};
use switchboard_routing::{AffinityKey, CallbackUris, Name, Owner, SealKey};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{AbortHandle, JoinHandle},
};
use url::Url;
use uuid::Uuid;

use super::*;
use crate::TlsClient;
use crate::{
    Awaited, Connections, DeliverySettings, Discovery, DnsSettings, Fill, ForwardError, Orphaned, Outbound,
    PlacementLimits, UpstreamResponse,
    member::{Member, SourceState},
    simulation::Wires,
};

/// The wall clock at the start of a test.
const NOW: u64 = 1_800_000_000;

pub(crate) fn dns() -> DnsSettings {
    DnsSettings {
        name: "bots.example".into(),
        port: 3978,
        secure: false,
        path: "/api/calls".into(),
        refresh: Duration::from_secs(30),
        servers: Vec::new(),
        allow: Vec::new(),
    }
}

pub(crate) fn settings(folder: &Path) -> DeliverySettings {
    DeliverySettings {
        region: Name::parse("emea").unwrap(),
        instances: Vec::new(),
        discovery: Some(Discovery::Dns(dns())),
        store: Some(folder.join("a/fleet")),
        name_servers: Vec::new(),
        keep_leaving: Duration::from_secs(24 * 3600),
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe: None,
        attempt: Duration::from_secs(3),
        patience: Duration::from_secs(8),
        orphaned: Orphaned::Refuse,
        authorization: true,
        waiting_max: 100,
        eject_share: 0.5,
        in_flight_per_instance: 10_000,
    }
}

pub(crate) fn uris() -> Arc<CallbackUris> {
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap())
}

pub(crate) fn tls() -> TlsClient {
    TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap()
}

/// A gateway whose source answers when the test calls `apply_members`.
struct Gateway {
    delivery: Arc<Delivery>,
    store: AbortHandle,
}

impl Gateway {
    fn start(settings: DeliverySettings, wires: &Arc<Wires>) -> Self {
        let mut delivery = Delivery::new(settings, uris(), tls());
        delivery.connector = delivery.connector.simulated(Arc::clone(wires));
        let delivery = Arc::new(delivery);
        let store = run_store(&delivery).abort_handle();
        Self { delivery, store }
    }

    async fn forward(&self, instance: &str, incarnation: &str) -> Result<UpstreamResponse, ForwardError> {
        let name = |text| Name::parse(text).unwrap();
        let owner = Owner { region: name("emea"), instance: name(instance), incarnation: name(incarnation) };
        self.delivery.forward(&Connections::default(), &outbound(), owner.as_ref()).await
    }

    async fn is_gone(&self, instance: &str, incarnation: &str) -> bool {
        matches!(self.forward(instance, incarnation).await, Err(ForwardError::Gone { .. }))
    }

    fn shown(&self) -> Vec<String> {
        let shown = |status: crate::InstanceStatus| {
            let age = status.restored_age.map_or_else(String::new, |age| format!(" of {} s", age.as_secs()));
            format!("{} {}{age}", status.name, status.state)
        };
        self.delivery.instances().into_iter().map(shown).collect()
    }

    /// Waits until the delivery has read its store.
    async fn restored(&self) {
        for _ in 0..2000 {
            if !self.delivery.instances().is_empty() {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.store.abort();
    }
}

/// Stores with a wall clock that runs along with the paused one.
fn run_store(delivery: &Arc<Delivery>) -> JoinHandle<()> {
    let began = Instant::now();
    let clock = move || UNIX_EPOCH + Duration::from_secs(NOW) + began.elapsed();
    tokio::spawn(Arc::clone(delivery).run_store(clock))
}

pub(crate) fn outbound() -> Outbound {
    Outbound {
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        app: Uuid::from_u128(1),
        tenant: Uuid::from_u128(2),
        call_id: Some("call".into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: None,
    }
}

pub(crate) fn member(name: &str, incarnation: &str, address: &str) -> Member {
    let url = Discovery::Dns(dns()).url("bots.example", 3978).unwrap();
    let url = url.found_at(&[address.parse().unwrap()]);
    Member {
        name: Name::parse(name).unwrap(),
        incarnation: Name::parse(incarnation).unwrap(),
        new_calls: url.clone(),
        callbacks: url,
        apps: None,
        weight: 1,
        source_state: SourceState::Ready,
    }
}

pub(crate) fn three() -> Vec<Member> {
    vec![member("bot-0", "a", "10.0.0.1"), member("bot-1", "b", "10.0.0.2"), member("bot-2", "c", "10.0.0.3")]
}

/// Responds with 202 to each connection at an address.
fn accept_all(wires: &Arc<Wires>, address: &str) {
    let mut accepted = wires.listen(format!("{address}:3978").parse().unwrap());
    tokio::spawn(async move {
        while let Some((_, mut stream)) = accepted.recv().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
}

fn file(folder: &Path) -> FleetFile {
    let settings = settings(folder);
    FleetFile::new(settings.store.unwrap(), &settings.region, settings.discovery.unwrap())
}

/// The names in the file.
fn stored(folder: &Path) -> Vec<String> {
    let Ok(Some(stored)) = file(folder).read(NOW + 3600) else { return Vec::new() };
    stored.members.iter().map(|member| member.name.to_string()).collect()
}

fn write(folder: &Path, members: &[Member]) {
    let file = file(folder);
    let instances: Vec<_> = members.iter().filter_map(|member| file.stored(member)).collect();
    file.write(&instances, members, NOW).unwrap();
}

// A restart.

#[tokio::test(start_paused = true)]
async fn a_fleet_survives_a_restart_while_its_source_is_away() {
    let (folder, wires) = (tempfile::tempdir().unwrap(), Arc::new(Wires::default()));
    accept_all(&wires, "10.0.0.1");
    accept_all(&wires, "10.0.0.2");
    let before = Gateway::start(settings(folder.path()), &wires);
    before.delivery.apply_members(three());
    sleep(CHECK_INTERVAL * 2).await;
    drop(before);

    let gateway = Gateway::start(settings(folder.path()), &wires);
    assert_eq!(gateway.delivery.awaited(), Some(Awaited::Source));
    gateway.restored().await;
    assert_eq!(gateway.delivery.awaited(), None);
    assert!(!gateway.delivery.is_known());
    assert_eq!(gateway.shown(), ["bot-0", "bot-1", "bot-2"].map(|name| format!("{name} starting of 0 s")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(gateway.shown()[0], "bot-0 starting of 60 s");
    // Callbacks of stored instances are forwarded. Any other owner may still run.
    assert_eq!(gateway.forward("bot-0", "a").await.unwrap().status, 202);
    for (instance, incarnation) in [("bot-0", "b"), ("bot-9", "a")] {
        let refused = gateway.forward(instance, incarnation).await;
        assert_eq!(refused.unwrap_err(), ForwardError::FleetUnknown, "{instance} {incarnation}");
    }
    // New calls and items without an owner need a fleet that is known.
    let (connections, key) = (Connections::default(), AffinityKey::of("call"));
    let limits = PlacementLimits { budget: Duration::from_secs(3), outcome_unknown_max: 3 };
    let placed = gateway.delivery.place(&connections, &outbound(), key, limits).await;
    assert!(placed.is_err());
    let unsealed = gateway.delivery.forward_unsealed(&connections, &outbound()).await;
    assert_eq!(unsealed.unwrap_err(), ForwardError::FleetUnknown);
    assert!(!gateway.delivery.can_take_call());

    // The source is read: bot-1 has another incarnation, and bot-2 is not listed any more.
    let tracker = Arc::clone(&gateway.delivery.fleet.load().instance("bot-0").unwrap().tracker);
    gateway.delivery.apply_members(vec![member("bot-0", "a", "10.0.0.1"), member("bot-1", "d", "10.0.0.2")]);
    assert!(Arc::ptr_eq(&tracker, &gateway.delivery.fleet.load().instance("bot-0").unwrap().tracker));
    assert_eq!(gateway.shown(), ["bot-0 ready", "bot-1 ready", "bot-2 draining"]);
    assert!(gateway.delivery.can_take_call());
    assert!(gateway.is_gone("bot-1", "b").await);
    assert!(gateway.is_gone("bot-9", "a").await);
    assert!(!gateway.is_gone("bot-2", "c").await);
}

#[tokio::test(start_paused = true)]
async fn no_owner_is_gone_for_good_while_the_source_cannot_be_read() {
    let (folder, wires) = (TempDir::new().unwrap(), Arc::default());
    accept_all(&wires, "10.0.0.1");
    let gateway = Gateway::start(settings(folder.path()), &wires);
    gateway.delivery.apply_members(three());
    assert!(gateway.is_gone("bot-9", "a").await && gateway.is_gone("bot-0", "z").await);
    gateway.delivery.source_times.source_failed();
    for (instance, incarnation) in [("bot-9", "a"), ("bot-0", "z")] {
        let refused = gateway.forward(instance, incarnation).await;
        assert_eq!(refused.unwrap_err(), ForwardError::FleetUnknown, "{instance} {incarnation}");
    }
    assert_eq!(gateway.forward("bot-0", "a").await.unwrap().status, 202);
    gateway.delivery.apply_members(three());
    assert!(gateway.is_gone("bot-9", "a").await && gateway.is_gone("bot-0", "z").await);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_is_known_is_not_replaced_by_the_stored_one() {
    let (folder, wires) = (tempfile::tempdir().unwrap(), Arc::new(Wires::default()));
    write(folder.path(), &three());
    let gateway = Gateway::start(settings(folder.path()), &wires);
    gateway.delivery.apply_members(vec![member("bot-0", "a", "10.0.0.1")]);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(gateway.shown(), ["bot-0 ready"]);
    // Nor does a reload restore anything.
    let next = Arc::new(gateway.delivery.successor(settings(folder.path()), uris(), tls()));
    write(folder.path(), &three());
    let storing = run_store(&next);
    sleep(Duration::from_millis(500)).await;
    assert_eq!(next.instances().len(), 1);
    storing.abort();
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_the_restored_fleet() {
    let (folder, wires) = (tempfile::tempdir().unwrap(), Arc::new(Wires::default()));
    accept_all(&wires, "10.0.0.1");
    write(folder.path(), &three());
    let gateway = Gateway::start(settings(folder.path()), &wires);
    gateway.restored().await;
    let mut next = gateway.delivery.successor(settings(folder.path()), uris(), tls());
    next.connector = next.connector.simulated(wires);
    let next = Gateway { delivery: Arc::new(next), store: gateway.store.clone() };
    assert!(!next.delivery.is_known());
    assert_eq!(next.shown()[0], "bot-0 starting of 0 s");
    assert_eq!(next.forward("bot-0", "a").await.unwrap().status, 202);
}

// Writing.

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn the_file_follows_the_fleet() {
    let (folder, wires) = (tempfile::tempdir().unwrap(), Arc::new(Wires::default()));
    let gateway = Gateway::start(settings(folder.path()), &wires);
    sleep(CHECK_INTERVAL * 3).await;
    assert!(!file(folder.path()).path().exists(), "a fleet that is not known was stored");
    gateway.delivery.apply_members(three());
    sleep(CHECK_INTERVAL * 2).await;
    assert_eq!(stored(folder.path()), ["bot-0", "bot-1", "bot-2"]);
    // An instance that has left and keeps its callbacks is stored, too.
    gateway.delivery.apply_members(vec![member("bot-0", "a", "10.0.0.1"), member("bot-3", "d", "10.0.0.4")]);
    sleep(CHECK_INTERVAL * 2).await;
    assert_eq!(stored(folder.path()), ["bot-0", "bot-3", "bot-1", "bot-2"]);

    // A change of a state alone is not written; once an hour the file is renewed.
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(file(folder.path()).path()).unwrap());
    let held = fs::File::open(file(folder.path()).path()).unwrap();
    let before = inode();
    let unready = Member { source_state: SourceState::NotReady, ..member("bot-0", "a", "10.0.0.1") };
    gateway.delivery.apply_members(vec![unready, member("bot-3", "d", "10.0.0.4")]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(inode(), before);
    sleep(REFRESH).await;
    assert_ne!(inode(), before);
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_harms_nothing_and_is_tried_again() {
    let (folder, wires) = (tempfile::tempdir().unwrap(), Arc::new(Wires::default()));
    accept_all(&wires, "10.0.0.1");
    fs::write(folder.path().join("a"), "a file where the folder should be").unwrap();
    let gateway = Gateway::start(settings(folder.path()), &wires);
    gateway.delivery.apply_members(three());
    sleep(CHECK_INTERVAL * 2).await;
    assert_eq!(gateway.forward("bot-0", "a").await.unwrap().status, 202);
    fs::remove_file(folder.path().join("a")).unwrap();
    sleep(RETRY + CHECK_INTERVAL).await;
    assert_eq!(stored(folder.path()), ["bot-0", "bot-1", "bot-2"]);
}

#[test]
fn an_error_is_logged_when_it_starts_and_again_after_it_ended() {
    let mut log = StoreLog::default();
    let full = || Err::<(), _>(StoreError::Write(std::io::ErrorKind::StorageFull.into()));
    log.ended(&full());
    assert_eq!(log.error.as_deref(), Some("cannot write the file: no storage space"));
    log.ended(&full());
    log.ended(&Ok(()));
    assert_eq!(log.error, None);
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_the_file_and_no_temporary_file_is_left() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &three());
    write(folder.path(), &three());
    let path = file(folder.path()).path();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    // A link is replaced, not followed.
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "precious").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
    write(folder.path(), &three());
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "precious");
    assert!(fs::symlink_metadata(path).unwrap().is_file());
}

// Reading.

#[track_caller]
fn check(change: impl FnOnce(&mut serde_json::Value), now: u64, expected: &str) {
    let folder = written();
    let path = file(folder.path()).path();
    let mut content = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut content);
    fs::write(&path, content.to_string()).unwrap();
    check_read(&folder, now, expected);
}

#[track_caller]
fn check_read(folder: &TempDir, now: u64, expected: &str) {
    let found = match file(folder.path()).read(now) {
        Ok(None) => "no file".to_owned(),
        Ok(Some(StoredFleet { members, age })) => format!("{} of {} s", members.len(), age.as_secs()),
        Err(error) => chain(&error),
    };
    assert_eq!(found, expected);
}

fn written() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &three());
    folder
}

#[test]
fn stored_instances_are_read_as_they_were() {
    let folder = written();
    let read = file(folder.path()).read(NOW + 60).unwrap().unwrap();
    let restored = |member| Member { source_state: SourceState::Restored, ..member };
    assert_eq!(read.members, three().into_iter().map(restored).collect::<Vec<_>>());
    assert_eq!(read.age, Duration::from_secs(60));
}

#[test]
fn a_fleet_that_is_too_large_does_not_replace_the_stored_one() {
    let folder = written();
    let file = file(folder.path());
    let mut instances: Vec<_> = three().iter().filter_map(|member| file.stored(member)).collect();
    let StoredInstance::Found { host, .. } = &mut instances[0] else { unreachable!("they are found by DNS") };
    *host = "x".repeat(33 << 20);
    let error = file.write(&instances, &three(), NOW).unwrap_err();
    assert!(error.to_string().starts_with("a stored fleet has at most 32 MiB"), "{error}");
    assert_eq!(stored(folder.path()).len(), 3);
}

#[test]
fn a_stored_fleet_is_used_for_a_day_and_never_from_the_future() {
    check(|_| (), NOW, "3 of 0 s");
    check(|_| (), NOW + 24 * 3600, "3 of 86400 s");
    check(|_| (), NOW + 24 * 3600 + 1, "the fleet was stored more than a day ago");
    check(|_| (), NOW - 300, "3 of 0 s");
    check(|_| (), NOW - 301, "the fleet was stored in the future");
    check(|file| file["stored_at"] = u64::MAX.into(), NOW, "the fleet was stored in the future");
}

#[test]
fn the_file_of_another_fleet_is_ignored() {
    let other = "the file is of another region, source or version";
    check(|file| file["region"] = "amer".into(), NOW, other);
    check(|file| file["version"] = 2.into(), NOW, other);
    check(|file| file["source"] = "dns http://others.example:3978/api/calls".into(), NOW, other);
    let folder = written();
    for changed in [
        DnsSettings { name: "others.example".into(), ..dns() },
        DnsSettings { port: 80, ..dns() },
        DnsSettings { secure: true, ..dns() },
        DnsSettings { path: "/others".into(), ..dns() },
    ] {
        let settings = settings(folder.path());
        let file = FleetFile::new(settings.store.unwrap(), &settings.region, Discovery::Dns(changed));
        assert_eq!(file.read(NOW).unwrap_err().to_string(), other);
    }
}

#[test]
fn stored_addresses_pass_the_checks_of_found_ones() {
    for (address, why) in [
        ("127.0.0.1", "a loopback address"),
        ("169.254.169.254", "a metadata address"),
        ("::ffff:127.0.0.1", "a loopback address"),
        ("fe80::1", "a link-local address"),
        ("0.0.0.0", "an unspecified address"),
    ] {
        let expected = format!("it has {address}, which is {why}; fleet.allow permits it");
        check(|file| file["instances"][1]["addresses"][0] = address.into(), NOW, &expected);
    }
}

#[test]
fn a_file_that_was_tampered_with_is_ignored_as_a_whole() {
    let malformed = "the file is not a stored fleet";
    let set = |pointer: &'static str, value: serde_json::Value| {
        move |file: &mut serde_json::Value| *file.pointer_mut(pointer).unwrap() = value
    };
    let long = "b".repeat(64);
    for (pointer, value) in [
        ("/instances/1/name", "bot-0".into()),
        ("/instances/1/name", "".into()),
        ("/instances/1/name", "../bot".into()),
        ("/instances/1/name", long.as_str().into()),
        ("/instances/1/incarnation", "\r\n".into()),
        ("/instances/1/host", "bots.example/x".into()),
        ("/instances/1/host", "user@bots.example".into()),
        ("/instances/1/host", "bots.example:80".into()),
        ("/instances/1/host", "169.254.169.254".into()),
        ("/instances/1/host", "[::1]".into()),
        ("/instances/1/host", "".into()),
        ("/instances/1/port", 0.into()),
        ("/instances/1/port", 65_536.into()),
        ("/instances/1/addresses", serde_json::json!([])),
        ("/instances/1/addresses/0", "localhost".into()),
        ("/instances/1/addresses/0", "10.0.0.1/8".into()),
        ("/instances/1", serde_json::json!({})),
        ("/instances", serde_json::json!({})),
        ("/stored_at", (-1).into()),
        ("", "nonsense".into()),
    ] {
        check(set(pointer, value), NOW, malformed);
    }
    check(|file| file["more"] = 1.into(), NOW, malformed);
    let many = |file: &mut serde_json::Value| {
        let one = file["instances"][0].clone();
        let numbered = (0..=crate::discovery::INSTANCES_MAX).map(|number| {
            let mut one = one.clone();
            one["name"] = format!("bot-{number}").into();
            one
        });
        file["instances"] = numbered.collect();
    };
    check(many, NOW, malformed);
    let too_large = "a stored fleet has at most 32 MiB; certificate authorities of instances count, too";
    for (content, problem) in
        [(Vec::new(), malformed), (vec![b'['; 100_000], malformed), (vec![b' '; 33 << 20], too_large)]
    {
        let folder = written();
        fs::write(file(folder.path()).path(), content).unwrap();
        check_read(&folder, NOW, problem);
    }
    let folder = written();
    fs::remove_file(file(folder.path()).path()).unwrap();
    check_read(&folder, NOW, "no file");
}

#[test]
fn a_stored_fleet_may_have_the_size_of_the_largest_fleet() {
    let folder = tempfile::tempdir().unwrap();
    let members: Vec<_> = (0..crate::discovery::INSTANCES_MAX)
        .map(|at| member(&format!("{at:0>63}"), "0b1e3f5c-7a2d", "10.0.0.1"))
        .collect();
    write(folder.path(), &members);
    check_read(&folder, NOW, "20000 of 0 s");
}
