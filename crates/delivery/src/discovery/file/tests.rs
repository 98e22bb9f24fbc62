//! A delivery that follows a scripted file, with a paused clock.

use std::{
    path::Path,
    sync::{LazyLock, Mutex, atomic::AtomicUsize, atomic::Ordering::Relaxed},
    time::UNIX_EPOCH,
};

use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::X509,
};
use serde_json::{Value, json};
use switchboard_routing::{Name, Owner};
use tokio::task::AbortHandle;

use super::*;
use crate::{
    Connections, DeliverySettings, Discovery, FleetFile, ForwardError, InstanceSettings, InstanceState,
    TrustAnchors, UpstreamUrl,
    fleet_store::tests::{self as store, settings, tls, uris},
    upstream_url::Hostname,
};

/// A file whose content a test replaces. Each line is one instance: a name, and after it `draining`, an
/// incarnation `=a`, `own` for an authority of its own, or the URL.
#[derive(Debug)]
struct Scripted {
    content: Mutex<Result<String, String>>,
    /// The content of each file that a line `ca PATH` names.
    ca: Mutex<Result<String, String>>,
    parsed: AtomicUsize,
}

impl Scripted {
    fn new(content: Result<&str, &str>) -> Arc<Self> {
        let content = Mutex::new(content.map(str::to_owned).map_err(str::to_owned));
        Arc::new(Self { content, ca: Mutex::new(Ok("an authority".to_owned())), parsed: AtomicUsize::new(0) })
    }
}

impl FleetFile for Scripted {
    fn read(&self) -> Result<Vec<u8>, String> {
        self.content.lock().unwrap().clone().map(String::into_bytes)
    }

    fn parse(&self, content: &[u8]) -> ParsedFile {
        self.parsed.fetch_add(1, Relaxed);
        let text = String::from_utf8(content.to_vec()).unwrap();
        let named: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("ca ")).collect();
        let ca = self.ca.lock().unwrap().clone();
        let instances = match ca {
            Err(error) if !named.is_empty() => Err(error),
            _ => text.lines().filter(|line| !line.starts_with("ca ")).map(instance).collect(),
        };
        ParsedFile {
            instances,
            named: named.iter().map(|path| (path.into(), self.digest(path.as_ref()))).collect(),
        }
    }

    fn digest(&self, _: &Path) -> [u8; 32] {
        let (Ok(text) | Err(text)) = self.ca.lock().unwrap().clone();
        sha256(text.as_bytes())
    }
}

fn instance(line: &str) -> Result<FileInstance, String> {
    let mut words = line.split(' ');
    let name = Name::parse(words.next().unwrap()).map_err(|_| format!("not a name: {line}"))?;
    let mut url = format!("http://10.0.0.1:3978/{name}");
    let (mut incarnation, mut is_draining, mut anchors) = (None, false, None);
    for word in words {
        match word.strip_prefix('=') {
            Some(text) => incarnation = Some(Name::parse(text).unwrap()),
            None if word == "draining" => is_draining = true,
            None if word == "own" => anchors = Some(authority(0)),
            None => url = word.to_owned(),
        }
    }
    let url = UpstreamUrl::parse(&url).unwrap().with_trust_anchors(anchors);
    let settings = InstanceSettings { name, url, callback_url: None, apps: None, weight: 1 };
    Ok(FileInstance { settings, incarnation, is_draining })
}

/// One of two certificate authorities.
fn authority(index: usize) -> &'static Arc<TrustAnchors> {
    static AUTHORITIES: LazyLock<[Arc<TrustAnchors>; 2]> = LazyLock::new(|| {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        [1, 2].map(|serial| {
            let mut builder = X509::builder().unwrap();
            let serial = BigNum::from_u32(serial).unwrap().to_asn1_integer().unwrap();
            builder.set_serial_number(&serial).unwrap();
            builder.set_pubkey(&key).unwrap();
            builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
            builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
            builder.sign(&key, MessageDigest::sha256()).unwrap();
            Arc::new(TrustAnchors::from_pem(&builder.build().to_pem().unwrap()).unwrap())
        })
    });
    &AUTHORITIES[index]
}

struct Gateway {
    delivery: Arc<Delivery>,
    file: Arc<Scripted>,
    tasks: Vec<AbortHandle>,
}

impl Gateway {
    fn start(content: Result<&str, &str>) -> Self {
        let file = Scripted::new(content);
        let folder = Path::new("/nowhere");
        let settings = DeliverySettings { store: None, ..following(&file, settings(folder)) };
        Self::following(Delivery::new(settings, uris(), tls()), file)
    }

    fn following(delivery: Delivery, file: Arc<Scripted>) -> Self {
        let delivery = Arc::new(delivery);
        let task = tokio::spawn({
            let delivery = Arc::clone(&delivery);
            async move { delivery.follow_source().await }
        });
        Self { delivery, file, tasks: vec![task.abort_handle()] }
    }

    async fn read_again(&self, content: Result<&str, &str>) {
        *self.file.content.lock().unwrap() = content.map(str::to_owned).map_err(str::to_owned);
        sleep(INTERVAL * 2).await;
    }

    fn shown(&self) -> Vec<String> {
        let shown = |one: crate::InstanceStatus| format!("{} {}: {}", one.name, one.state, one.reason);
        self.delivery.instances().into_iter().map(shown).collect()
    }

    /// The error of a callback for `owner`.
    async fn callback(&self, owner: &Owner) -> Option<ForwardError> {
        let (connections, outbound) = (Connections::default(), store::outbound());
        self.delivery.forward(&connections, &outbound, owner.as_ref()).await.err()
    }

    #[track_caller]
    fn check(&self, expected: &[&str]) {
        assert_eq!(self.shown(), expected);
    }

    fn is_failing(&self) -> bool {
        self.delivery.source_times.is_failing()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn following(file: &Arc<Scripted>, settings: DeliverySettings) -> DeliverySettings {
    let file =
        FileSettings { path: "/run/switchboard/fleet.json".into(), file: Arc::<Scripted>::clone(file) };
    DeliverySettings { discovery: Some(Discovery::File(file)), ..settings }
}

const READY: &str = "no probe is configured";
const BY_FILE: &str = "drained in the file of the fleet";
const BY_OPERATOR: &str = "drained by the operator";
const BY_BOTH: &str = "drained by the operator and in the file of the fleet";

#[tokio::test(start_paused = true)]
async fn the_instances_of_the_file_are_the_fleet() {
    let gateway = Gateway::start(Ok("b\na"));
    assert!(!gateway.delivery.is_known());
    sleep(INTERVAL).await;
    assert!(gateway.delivery.is_known());
    gateway.check(&[&format!("a ready: {READY}"), &format!("b ready: {READY}")]);
    gateway.read_again(Ok("c")).await;
    gateway.check(&[
        &format!("c ready: {READY}"),
        "a draining: no longer listed",
        "b draining: no longer listed",
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_content_is_parsed_once_and_its_age_is_that_of_the_last_read() {
    let gateway = Gateway::start(Ok("a"));
    sleep(INTERVAL * 10).await;
    assert_eq!(gateway.file.parsed.load(Relaxed), 1);
    assert!(gateway.delivery.source_age().unwrap() <= INTERVAL);
    gateway.read_again(Err("cannot be read")).await;
    sleep(INTERVAL * 10).await;
    assert!(gateway.delivery.source_age().unwrap() >= INTERVAL * 10);
    gateway.read_again(Ok("a")).await;
    assert_eq!(gateway.file.parsed.load(Relaxed), 1);
    assert!(gateway.delivery.source_age().unwrap() <= INTERVAL);
}

#[tokio::test(start_paused = true)]
async fn a_changed_file_that_the_list_names_is_a_change_of_the_list() {
    let gateway = Gateway::start(Ok("a\nca one\nca two"));
    let parsed = || gateway.file.parsed.load(Relaxed);
    let replace = |ca: Result<&str, &str>| {
        *gateway.file.ca.lock().unwrap() = ca.map(str::to_owned).map_err(str::to_owned);
    };
    sleep(INTERVAL * 10).await;
    assert_eq!(parsed(), 1);
    for (count, (ca, is_failing)) in
        [(Ok("another"), false), (Err("No such file"), true), (Ok("another"), false)].into_iter().enumerate()
    {
        replace(ca);
        sleep(INTERVAL * 10).await;
        assert_eq!((parsed(), gateway.is_failing()), (count + 2, is_failing), "{ca:?}");
        gateway.check(&[&format!("a ready: {READY}")]);
    }
    // A list that names it no more does not depend on it.
    gateway.read_again(Ok("a")).await;
    replace(Err("No such file"));
    sleep(INTERVAL * 10).await;
    assert_eq!((parsed(), gateway.is_failing()), (5, false));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_changes_nothing() {
    let gateway = Gateway::start(Ok("a\nb draining"));
    sleep(INTERVAL).await;
    let before = gateway.shown();
    for content in [Err("No such file"), Ok("a\n%"), Err("no response in 5 s"), Ok("%")] {
        gateway.read_again(content).await;
        assert_eq!(gateway.shown(), before, "{content:?}");
        assert!(gateway.is_failing(), "{content:?}");
    }
    // Its owner may be in the file that cannot be read.
    let owner = Owner {
        region: Name::parse("emea").unwrap(),
        instance: Name::parse("c").unwrap(),
        incarnation: Name::parse("0").unwrap(),
    };
    assert_eq!(gateway.callback(&owner).await, Some(ForwardError::FleetUnknown));
    gateway.read_again(Ok("a\nb draining")).await;
    assert!(!gateway.is_failing());
    assert!(matches!(gateway.callback(&owner).await, Some(ForwardError::Gone { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_instance_drains_if_the_file_or_the_operator_says_so() {
    let gateway = Gateway::start(Ok("a"));
    sleep(INTERVAL).await;
    gateway.read_again(Ok("a draining")).await;
    gateway.check(&[&format!("a draining: {BY_FILE}")]);
    assert!(gateway.delivery.drain("a"));
    gateway.check(&[&format!("a draining: {BY_BOTH}")]);
    gateway.read_again(Ok("a")).await;
    gateway.check(&[&format!("a draining: {BY_OPERATOR}")]);
    assert!(gateway.delivery.resume("a"));
    gateway.check(&[&format!("a ready: {READY}")]);

    // The other way round, over a reload.
    assert!(gateway.delivery.drain("a"));
    gateway.read_again(Ok("a draining")).await;
    let settings = following(&gateway.file, settings(Path::new("/nowhere")));
    let gateway =
        Gateway::following(gateway.delivery.successor(settings, uris(), tls()), Arc::clone(&gateway.file));
    gateway.check(&[&format!("a draining: {BY_BOTH}")]);
    assert!(gateway.delivery.resume("a"));
    gateway.check(&[&format!("a draining: {BY_FILE}")]);
    sleep(INTERVAL * 2).await;
    gateway.check(&[&format!("a draining: {BY_FILE}")]);
    assert!(!gateway.delivery.can_take_call());
    gateway.read_again(Ok("a")).await;
    gateway.check(&[&format!("a ready: {READY}")]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_counts_after_five_minutes() {
    let gateway = Gateway::start(Ok("a"));
    sleep(INTERVAL).await;
    gateway.read_again(Ok("")).await;
    gateway.check(&[&format!("a ready: {READY}")]);
    assert!(gateway.is_failing());
    // A list in between, or a file that cannot be read, starts the time anew.
    for content in [Ok("a"), Err("away")] {
        sleep(EMPTY_HOLD - INTERVAL * 3).await;
        gateway.read_again(content).await;
        gateway.read_again(Ok("")).await;
        gateway.check(&[&format!("a ready: {READY}")]);
    }
    sleep(EMPTY_HOLD).await;
    gateway.check(&["a draining: no longer listed"]);
    assert!(!gateway.is_failing());
    gateway.read_again(Ok("a")).await;
    gateway.check(&[&format!("a ready: {READY}")]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_at_the_start_is_no_known_fleet() {
    let gateway = Gateway::start(Ok(""));
    sleep(EMPTY_HOLD - INTERVAL).await;
    assert!(!gateway.delivery.is_known());
    sleep(INTERVAL * 2).await;
    assert!(gateway.delivery.is_known());
    gateway.check(&[]);
}

#[tokio::test(start_paused = true)]
async fn another_incarnation_is_another_process() {
    let gateway = Gateway::start(Ok("a =1"));
    sleep(INTERVAL).await;
    gateway.delivery.drain("a");
    gateway.read_again(Ok("a =2")).await;
    let owner = gateway.delivery.owner("a").unwrap();
    assert_eq!(owner.incarnation.as_str(), "2");
    // The operator has drained the process before it.
    gateway.check(&[&format!("a ready: {READY}")]);
    let old = Owner { incarnation: Name::parse("1").unwrap(), ..owner };
    assert!(matches!(gateway.callback(&old).await, Some(ForwardError::Gone { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_another_path_keeps_the_fleet_until_that_file_is_read() {
    let gateway = Gateway::start(Ok("a"));
    sleep(INTERVAL).await;
    let file = Scripted::new(Err("No such file"));
    let settings = following(&file, settings(Path::new("/nowhere")));
    let next = Gateway::following(gateway.delivery.successor(settings, uris(), tls()), file);
    sleep(INTERVAL).await;
    next.check(&[&format!("a ready: {READY}")]);
    next.read_again(Ok("b")).await;
    next.check(&[&format!("b ready: {READY}"), "a draining: no longer listed"]);
}

#[tokio::test(start_paused = true)]
async fn new_names_are_looked_up_and_known_ones_keep_their_addresses() {
    let gateway = Gateway::start(Ok("a"));
    sleep(INTERVAL).await;
    let following = tokio::spawn({
        let delivery = Arc::clone(&gateway.delivery);
        async move { delivery.follow_names().await }
    });
    let name = |gateway: &Gateway| {
        let fleet = gateway.delivery.fleet.load();
        let mut names = fleet.origins().list().iter().filter_map(|one| match &one.origin.host {
            Hostname::Name(name) => Some(Arc::clone(name)),
            Hostname::Address(_) | Hostname::Found(..) => None,
        });
        names.next()
    };
    assert!(name(&gateway).is_none());
    gateway.read_again(Ok("a\nb http://localhost:3978/")).await;
    let first = name(&gateway).unwrap();
    first.looked_up().await;
    assert!(first.addresses().next().is_some(), "of the hosts file");
    gateway.read_again(Ok("c http://localhost:3979/c")).await;
    assert!(Arc::ptr_eq(&first, &name(&gateway).unwrap()));
    // It leaves with the last instance that has it, and comes back.
    gateway.read_again(Ok("a")).await;
    gateway.delivery.replace_fleet(|_| Some((Vec::new(), true)));
    gateway.read_again(Ok("d http://localhost:3980/")).await;
    let again = name(&gateway).unwrap();
    again.looked_up().await;
    assert!(again.addresses().next().is_some());
    following.abort();
}

/// Starts a gateway that follows this file, and has its store in `folder`.
fn storing(folder: &Path, file: &Arc<Scripted>) -> Gateway {
    let settings = following(file, settings(folder));
    let mut gateway = Gateway::following(Delivery::new(settings, uris(), tls()), Arc::clone(file));
    let began = Instant::now();
    let clock = move || UNIX_EPOCH + Duration::from_secs(1_790_000_000) + began.elapsed();
    let storing = tokio::spawn(Arc::clone(&gateway.delivery).run_store(clock));
    gateway.tasks.push(storing.abort_handle());
    gateway
}

#[tokio::test(start_paused = true)]
async fn a_stored_fleet_of_a_file_serves_callbacks_until_the_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = Scripted::new(Ok("a =1 https://bot-0.example:8443/api/{app}"));
    let gateway = storing(folder.path(), &file);
    sleep(INTERVAL * 2).await;
    let owner = gateway.delivery.owner("a").unwrap();
    drop(gateway);

    *file.content.lock().unwrap() = Err("No such file".to_owned());
    let gateway = storing(folder.path(), &file);
    sleep(INTERVAL * 2).await;
    gateway.check(&["a starting: restored: its source has not been read yet"]);
    assert_eq!(gateway.delivery.owner("a").unwrap(), owner);
    assert!(!gateway.delivery.is_known());
    assert_eq!(gateway.delivery.awaited(), None);
    // The same instance, once the file is back.
    gateway.read_again(Ok("a =1 https://bot-0.example:8443/api/{app}\nb")).await;
    gateway.check(&[&format!("a ready: {READY}"), &format!("b ready: {READY}")]);
    assert_eq!(gateway.delivery.instances()[0].state, InstanceState::Ready);
}

/// The source is away, and perhaps the files of the authorities, too.
#[tokio::test(start_paused = true)]
async fn a_stored_instance_keeps_its_own_authorities_and_never_gets_others() {
    let folder = tempfile::tempdir().unwrap();
    let stored =
        || -> Value { serde_json::from_slice(&std::fs::read(path(folder.path())).unwrap()).unwrap() };
    let list = "a https://10.0.0.1/a own\nb https://10.0.0.2/b own\nc https://10.0.0.3/c";
    let gateway = storing(folder.path(), &Scripted::new(Ok(list)));
    sleep(INTERVAL * 2).await;
    drop(gateway);
    let good = stored();
    let id = good["instances"][0]["ca"].as_str().unwrap().to_owned();
    assert_eq!(good["instances"][1]["ca"], *id);
    assert_eq!(good["instances"][2].get("ca"), None, "a former version can read it");
    assert_eq!(good["authorities"].as_object().unwrap().len(), 1, "once for all instances");
    let away = Scripted::new(Err("No such file"));
    let gateway = storing(folder.path(), &away);
    sleep(INTERVAL * 2).await;
    let fleet = gateway.delivery.fleet.load();
    let anchors: Vec<_> = fleet.origins().list().iter().map(|one| one.origin.anchors.clone()).collect();
    let own = Some(Arc::clone(authority(0)));
    assert_eq!(anchors, [own.clone(), own, None]);
    drop(gateway);

    let other = authority(1).to_pem().unwrap();
    for (pointer, value) in [
        ("/authorities", json!({})),
        ("/authorities", json!({ "another": &good["authorities"][&id] })),
        ("/authorities", json!({ &id: "" })),
        ("/authorities", json!({ &id: other })),
        ("/instances/0/ca", json!("another")),
    ] {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        std::fs::write(path(folder.path()), changed.to_string()).unwrap();
        let gateway = storing(folder.path(), &away);
        sleep(INTERVAL * 2).await;
        assert_eq!(gateway.shown(), [""; 0], "{pointer}");
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("a/fleet/emea.fleet.json")
}
