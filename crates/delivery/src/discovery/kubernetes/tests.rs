//! The members in slices, and following slices at a fake API server over real sockets.

pub(super) mod api_server;

use std::{collections::BTreeMap, sync::Arc};

use openssl::ssl::{SslConnector, SslMethod};
use proptest::prelude::*;
use serde_json::{Value, json};
use switchboard_routing::{CallbackUris, Name, SealKey};
use tokio::{task::JoinSet, time::timeout};
use url::Url;

use self::api_server::{ApiServer, ok, pod, ready, slice, status, terminating, uid, unready};
use super::{
    super::source::INSTANCES_MAX,
    slices::{LeftOut, Pod, Slice},
    wire::WatchEvent,
    *,
};
use crate::{
    DeliverySettings, Discovery, Fill, InstanceState, Orphaned, PodPort, ProbeSettings, TlsClient,
    member::SourceState,
};

/// Long enough for any expected event on a loaded machine.
const LONG: Duration = Duration::from_secs(60);

pub(super) const CALLS: (&str, u16) = ("calls", 3978);

pub(super) fn settings() -> KubernetesSettings {
    KubernetesSettings {
        namespace: Some("media".into()),
        service: "bots".into(),
        port: PodPort::Named("calls".into()),
        secure: false,
        path: "/api/calls".into(),
        allow: Vec::new(),
    }
}

pub(super) fn delivery(discovery: KubernetesSettings) -> Arc<Delivery> {
    delivery_with(discovery, None)
}

pub(super) fn delivery_with(discovery: KubernetesSettings, probe: Option<ProbeSettings>) -> Arc<Delivery> {
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let uris = CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap();
    let settings = DeliverySettings {
        region: Name::parse("emea").unwrap(),
        instances: Vec::new(),
        discovery: Some(Discovery::Kubernetes(discovery)),
        store: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::from_secs(24 * 3600),
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe,
        attempt: LONG,
        waiting_max: 100,
        eject_share: 0.5,
        patience: LONG,
        in_flight_per_instance: 100,
        orphaned: Orphaned::Refuse,
        authorization: true,
    };
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap();
    Arc::new(Delivery::new(settings, Arc::new(uris), tls))
}

/// A delivery that follows the service `bots` at this server.
pub(super) fn follow(server: &ApiServer) -> Arc<Delivery> {
    follow_as(server, settings())
}

fn follow_as(server: &ApiServer, settings: KubernetesSettings) -> Arc<Delivery> {
    let delivery = delivery(settings.clone());
    let (following, url) = (Arc::clone(&delivery), format!("http://{}", server.address));
    tokio::spawn(async move {
        let config = kube::Config::new(url.parse().unwrap());
        let connect = || std::future::ready(Api::new(config.clone(), &settings));
        Kubernetes::new(&settings).follow_by(&following, connect).await;
    });
    delivery
}

/// Names, the first digit of the incarnations, and states, without instances that are gone.
pub(super) fn shown(delivery: &Delivery) -> Vec<String> {
    let there = delivery.instances().into_iter().filter(|status| status.state != InstanceState::Gone);
    there
        .map(|status| format!("{} {:.1} {}", status.name, status.incarnation.as_str(), status.state))
        .collect()
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waited = timeout(LONG, async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "timed out before {what}");
}

#[track_caller]
pub(super) fn until_shown<'a>(
    delivery: &'a Delivery,
    expected: &'a [&'a str],
) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let waited = timeout(LONG, async {
            while shown(delivery) != expected {
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "{caller}: {expected:?}, but {:?}", shown(delivery));
    }
}

fn watches(server: &ApiServer) -> usize {
    server.requests().iter().filter(|seen| seen.is_watch()).count()
}

fn lists(server: &ApiServer) -> usize {
    server.requests().iter().filter(|seen| !seen.is_watch() && !seen.is_pod()).count()
}

// Reading slices.

#[track_caller]
fn read(slice: &Value, port: &PodPort) -> Slice {
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "metadata": {"resourceVersion": "7"}, "items": [slice]
    });
    let mut page = wire::page(body.to_string().as_bytes(), port).unwrap();
    assert_eq!((&*page.version, &page.more, page.slices.len()), ("7", &None, 1));
    page.slices.remove(0).1
}

fn named(slice: &Value) -> Value {
    let mut slice = slice.clone();
    slice["metadata"]["name"] = json!("bots-1");
    slice
}

#[test]
fn conditions_decide_the_state_of_an_endpoint() {
    for (conditions, source_state) in [
        (ready(), SourceState::Ready),
        (unready(), SourceState::NotReady),
        (terminating(), SourceState::Terminating),
        (json!({"ready": false, "serving": false, "terminating": true}), SourceState::Terminating),
        // A service with `publishNotReadyAddresses`.
        (json!({"ready": true, "serving": true, "terminating": true}), SourceState::Terminating),
        (json!({}), SourceState::Ready),
        (Value::Null, SourceState::Ready),
        (json!({"ready": null, "terminating": null}), SourceState::Ready),
        (json!({"ready": false}), SourceState::NotReady),
        (json!({"terminating": true}), SourceState::Terminating),
    ] {
        let slice = named(&slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", conditions.clone())]));
        let pods = read(&slice, &PodPort::Named("calls".into())).pods;
        let expected = Pod {
            name: Name::parse("bot-0").unwrap(),
            incarnation: Name::parse("aaaaaaaa-0000").unwrap(),
            address: [10, 0, 0, 1].into(),
            port: 3978,
            source_state,
        };
        assert_eq!(pods, [expected], "{conditions}");
    }
}

#[test]
fn a_port_is_a_number_or_the_name_of_a_port_of_the_slice() {
    let ports = |ports: Value| {
        let mut slice = named(&slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
        slice["ports"] = ports;
        slice
    };
    let calls = PodPort::Named("calls".into());
    for (shown, port, found) in [
        (json!([{"name": "calls", "port": 3978, "protocol": "TCP"}]), &calls, Some(3978)),
        (json!([{"name": "calls", "port": 3978}]), &calls, Some(3978)),
        (
            json!([{"name": "calls", "port": 1, "protocol": "UDP"}, {"name": "calls", "port": 2}]),
            &calls,
            Some(2),
        ),
        (json!([{"name": "calls", "port": null}]), &calls, None),
        (json!([{"name": "calls", "port": 0}]), &calls, None),
        (json!([{"name": "", "port": 3978}, {"port": 3979}]), &calls, None),
        (Value::Null, &calls, None),
        (Value::Null, &PodPort::Number(80), Some(80)),
        (json!([{"name": "calls", "port": 3978}]), &PodPort::Number(80), Some(80)),
    ] {
        let slice = read(&ports(shown.clone()), port);
        assert_eq!(slice.pods.first().map(|pod| pod.port), found, "{shown} {port:?}");
        assert_eq!(slice.left_out.without_port, usize::from(found.is_none()), "{shown} {port:?}");
    }
}

#[test]
fn an_endpoint_that_is_not_a_pod_is_left_out() {
    let with = |key: &str, value: Value| {
        let mut endpoint = pod("bot-0", 'a', "10.0.0.1", ready());
        endpoint[key] = value;
        named(&slice("IPv4", CALLS, &[endpoint]))
    };
    let reference = |kind: Value, name: Value, uid: Value| {
        with("targetRef", json!({"kind": kind, "name": name, "uid": uid}))
    };
    let (pod_kind, name, incarnation) = (json!("Pod"), json!("bot-0"), json!(uid('a')));
    for slice in [
        with("targetRef", Value::Null),
        reference(json!("Node"), name.clone(), incarnation.clone()),
        reference(Value::Null, name.clone(), incarnation.clone()),
        reference(pod_kind.clone(), Value::Null, incarnation.clone()),
        reference(pod_kind.clone(), json!(""), incarnation.clone()),
        reference(pod_kind.clone(), json!("b".repeat(254)), incarnation.clone()),
        reference(pod_kind.clone(), name.clone(), Value::Null),
        reference(pod_kind.clone(), name.clone(), json!("../../secrets")),
        reference(pod_kind, name, json!("a".repeat(100_000))),
        with("addresses", Value::Null),
        with("addresses", json!([])),
        named(&slice("FQDN", CALLS, &[pod("bot-0", 'a', "bot-0.example", ready())])),
    ] {
        let slice = read(&slice, &PodPort::Number(3978));
        assert_eq!(slice, Slice { pods: Vec::new(), left_out: LeftOut { no_pods: 1, without_port: 0 } });
    }
}

#[test]
fn nonsense_is_an_error_and_is_cut_for_the_log() {
    let port = PodPort::Number(3978);
    let list = |metadata: Value, items: Value| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
            "metadata": metadata, "items": items
        })
    };
    let version = json!({"resourceVersion": "7"});
    let slices = |slice: Value| list(version.clone(), json!([slice]));
    let good = named(&slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    let with = |pointer: &str, value: Value| {
        let mut slice = good.clone();
        *slice.pointer_mut(pointer).unwrap() = value;
        slices(slice)
    };
    assert!(wire::page(slices(good.clone()).to_string().as_bytes(), &port).is_ok());
    assert!(wire::page(list(version.clone(), Value::Null).to_string().as_bytes(), &port).is_ok());
    let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let pods = json!({"apiVersion": "v1", "kind": "PodList", "metadata": version, "items": []});
    for body in [
        String::new(),
        "null".into(),
        "{".into(),
        "<html>".into(),
        nested.clone(),
        pods.to_string(),
        list(json!({}), json!([])).to_string(),
        list(json!({"resourceVersion": ""}), json!([])).to_string(),
        list(json!({"resourceVersion": "7".repeat(100_000)}), json!([])).to_string(),
        list(json!({"resourceVersion": 7}), json!([])).to_string(),
        list(version.clone(), json!({})).to_string(),
        with("/metadata/name", Value::Null).to_string(),
        with("/metadata/name", json!("b".repeat(300))).to_string(),
        with("/addressType", Value::Null).to_string(),
        with("/endpoints/0/addresses/0", json!("localhost")).to_string(),
        with("/endpoints/0/addresses/0", json!("fe80::1%eth0")).to_string(),
        with("/endpoints/0/addresses/0", json!("\u{1b}[31m".repeat(10_000))).to_string(),
        with("/endpoints/0/conditions/ready", json!("yes")).to_string(),
        with("/ports/0/port", json!(65_536)).to_string(),
        with("/ports/0/port", json!(-1)).to_string(),
    ] {
        let fault = wire::page(body.as_bytes(), &port).unwrap_err();
        let text = fault.to_string();
        assert_eq!(fault.label(), "nonsense", "{body:.100}");
        assert!(text.len() < 2000 && !text.contains('\u{1b}'), "{text}");
    }
    let event = |kind: &str, object: &Value| json!({"type": kind, "object": object}).to_string();
    let mut object = good;
    object["metadata"]["resourceVersion"] = json!("8");
    let unnamed = event("ADDED", &object);
    object["apiVersion"] = json!("discovery.k8s.io/v1");
    object["kind"] = json!("EndpointSlice");
    let mut pod = object.clone();
    pod["kind"] = json!("Pod");
    let mut nameless = object.clone();
    nameless["metadata"]["name"] = Value::Null;
    assert!(wire::event(event("ADDED", &object).as_bytes(), &port).is_ok());
    for line in [
        String::new(),
        "{}".into(),
        "\u{0}".into(),
        nested,
        unnamed,
        event("ADDED", &pod),
        event("ADDED", &nameless),
        event("DELETED", &nameless),
        event("RENAMED", &object),
        event("ADDED", &Value::Null),
        event("ERROR", &json!("no")),
        format!("{0}{0}", event("ADDED", &object)),
    ] {
        assert_eq!(wire::event(line.as_bytes(), &port).unwrap_err().label(), "nonsense", "{line:.100}");
    }
}

#[test]
fn the_errors_of_a_watch_are_distinguished() {
    let error = |object: Value| {
        let line = json!({"type": "ERROR", "object": object}).to_string();
        wire::event(line.as_bytes(), &PodPort::Number(1)).unwrap()
    };
    assert_eq!(error(json!({"code": 410})), WatchEvent { change: SliceChange::Expired, version: None });
    let change = SliceChange::Refused("500 etcd has \\n gone".into());
    assert_eq!(
        error(json!({"code": 500, "message": "etcd has \n gone"})),
        WatchEvent { change, version: None }
    );
    assert_eq!(error(json!({})), WatchEvent { change: SliceChange::Refused("0 ".into()), version: None });
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(text in "\\PC{0,200}", at in 0_usize..600, byte in any::<u8>()) {
        let port = PodPort::Named("calls".into());
        let _ = wire::page(text.as_bytes(), &port);
        let _ = wire::event(text.as_bytes(), &port);
        let _ = wire::status_message(text.as_bytes());
        let _ = wire::pod(text.as_bytes());
        let mut slice = named(&slice("IPv6", CALLS, &[pod("bot-0", 'a', "2001:db8::1", ready())]));
        slice["metadata"]["resourceVersion"] = json!("8");
        slice["apiVersion"] = json!("discovery.k8s.io/v1");
        slice["kind"] = json!("EndpointSlice");
        let mut line = json!({"type": "MODIFIED", "object": slice}).to_string().into_bytes();
        let at = at % line.len();
        line[at] = byte;
        let _ = wire::event(&line, &port);
    }
}

// The members in slices.

pub(super) fn pod_at(name: &str, incarnation: char, address: &str, source_state: SourceState) -> Pod {
    Pod {
        name: Name::parse(name).unwrap(),
        incarnation: Name::parse(&format!("{}-0000", incarnation.to_string().repeat(8))).unwrap(),
        address: address.parse().unwrap(),
        port: 3978,
        source_state,
    }
}

pub(super) fn slices(all: impl IntoIterator<Item = Vec<Pod>>) -> Slices {
    let mut slices = Slices::default();
    for (at, pods) in all.into_iter().enumerate() {
        slices.put(format!("bots-{at}").into(), Slice { pods, left_out: LeftOut::default() }).unwrap();
    }
    slices
}

#[track_caller]
fn members(slices: &Slices) -> BTreeMap<String, (String, SourceState)> {
    let members = slices.members(&settings(), "media").unwrap();
    let shown = |member: &Member| {
        (member.name.to_string(), (format!("{:?}", member.callbacks.origin().host), member.source_state))
    };
    members.iter().map(shown).collect()
}

#[test]
fn a_pod_of_two_families_is_one_instance_in_its_worst_state() {
    let (four, six) = ("10.0.0.1", "2001:db8::1");
    let host = "Found(\"bots.media.svc\", [10.0.0.1, 2001:db8::1])".to_owned();
    for (first, second, source_state) in [
        (SourceState::Ready, SourceState::Ready, SourceState::Ready),
        (SourceState::Ready, SourceState::NotReady, SourceState::NotReady),
        (SourceState::Terminating, SourceState::Ready, SourceState::Terminating),
        (SourceState::NotReady, SourceState::Terminating, SourceState::Terminating),
    ] {
        let both = slices([vec![pod_at("bot-0", 'a', six, first)], vec![pod_at("bot-0", 'a', four, second)]]);
        assert_eq!(members(&both), BTreeMap::from([("bot-0".into(), (host.clone(), source_state))]));
    }
    // Moved from one slice to another, and not yet removed from the first.
    let doubled = slices([
        vec![
            pod_at("bot-0", 'a', four, SourceState::Ready),
            pod_at("bot-1", 'b', "10.0.0.2", SourceState::Ready),
        ],
        vec![pod_at("bot-0", 'a', four, SourceState::Ready)],
    ]);
    assert_eq!(members(&doubled).len(), 2);
    assert_eq!(members(&doubled)["bot-0"].0, "Found(\"bots.media.svc\", [10.0.0.1])");
}

#[test]
fn implausible_slices_are_rejected_as_a_whole() {
    let error = |slices: &Slices| slices.members(&settings(), "media").unwrap_err();
    let with = |pod: Pod| slices([vec![pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready)], vec![pod]]);
    assert_eq!(
        error(&with(pod_at("bot-0", 'b', "10.0.0.2", SourceState::Ready))),
        SourceError::Doubled("bot-0".into())
    );
    let other_port = Pod { port: 1, ..pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready) };
    assert_eq!(error(&with(other_port)), SourceError::Doubled("bot-0".into()));
    for address in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "168.63.129.16"] {
        let named = with(pod_at("bot-1", 'b', address, SourceState::Ready));
        assert_eq!(error(&named).label(), "forbidden_address", "{address}");
        let allow = vec![address.parse().unwrap()];
        assert!(named.members(&KubernetesSettings { allow, ..settings() }, "media").is_ok(), "{address}");
    }
    assert_eq!(error(&Slices::default()), SourceError::NoService);
    assert_eq!(error(&slices([Vec::new(), Vec::new()])), SourceError::Empty);
    let mut unusable = Slices::default();
    let left_out = LeftOut { no_pods: 2, without_port: 1 };
    unusable.put("bots-0".into(), Slice { pods: Vec::new(), left_out }).unwrap();
    assert_eq!(error(&unusable), SourceError::Unusable { endpoints: 3 });
    assert_eq!(unusable.left_out(), left_out);
}

#[test]
fn instances_endpoints_and_slices_are_bounded() {
    let pods = |from: usize, count: usize| -> Vec<Pod> {
        (from..from + count)
            .map(|at| {
                pod_at(
                    &format!("bot-{at}"),
                    'a',
                    &format!("10.{}.{}.1", at / 250, at % 250),
                    SourceState::Ready,
                )
            })
            .collect()
    };
    let mut most = slices((0..INSTANCES_MAX / 1000).map(|at| pods(at * 1000, 1000)));
    assert_eq!(most.members(&settings(), "media").unwrap().len(), INSTANCES_MAX);
    most.put("more".into(), Slice { pods: pods(INSTANCES_MAX, 1), left_out: LeftOut::default() }).unwrap();
    assert_eq!(
        most.members(&settings(), "media").unwrap_err(),
        SourceError::TooMany { count: INSTANCES_MAX + 1 }
    );
    most.remove("more");
    assert!(most.members(&settings(), "media").is_ok());
    let flood =
        |endpoints| Slice { pods: Vec::new(), left_out: LeftOut { no_pods: endpoints, without_port: 0 } };
    let too_many = SourceError::TooMany { count: 3 * INSTANCES_MAX + 1 };
    assert_eq!(most.put("flood".into(), flood(2 * INSTANCES_MAX + 1)).unwrap_err(), too_many);
    // The pods of the slice that it would have replaced are still listed.
    assert_eq!(most.put("bots-0".into(), flood(2 * INSTANCES_MAX + 1001)).unwrap_err(), too_many);
    assert_eq!(most.members(&settings(), "media").unwrap().len(), INSTANCES_MAX);
    most.put("flood".into(), flood(2 * INSTANCES_MAX)).unwrap();
    most.put("flood".into(), flood(2 * INSTANCES_MAX)).unwrap();
    let mut empty = Slices::default();
    let refused = (0..).find(|at| empty.put(format!("bots-{at}").into(), Slice::default()).is_err());
    assert_eq!(refused, Some(INSTANCES_MAX));
    empty.put("bots-0".into(), Slice::default()).unwrap();
}

#[test]
fn a_service_without_pods_applies_after_a_while_and_one_without_slices_never() {
    let settings = settings();
    let mut kubernetes = Kubernetes::new(&settings);
    let start = Instant::now();
    let mut settle = |slices: Slices, has_instances: bool, after: Duration| {
        kubernetes.slices = slices;
        let settled = kubernetes.settle("media", has_instances, start + after);
        (settled.map(|members| members.len()), kubernetes.due.map(|due| due - start))
    };
    let one = || slices([vec![pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready)]]);
    let none = || slices([Vec::new()]);
    let second = Duration::from_secs(1);
    // A fleet without instances can become empty at once.
    assert_eq!(settle(none(), false, Duration::ZERO), (Ok(0), None));
    assert_eq!(settle(one(), true, Duration::ZERO), (Ok(1), None));
    assert_eq!(settle(none(), true, second), (Err(SourceError::Empty), Some(second + EMPTY_HOLD)));
    assert_eq!(settle(none(), true, EMPTY_HOLD), (Err(SourceError::Empty), Some(second + EMPTY_HOLD)));
    assert_eq!(settle(one(), true, EMPTY_HOLD), (Ok(1), None));
    assert_eq!(settle(none(), true, EMPTY_HOLD), (Err(SourceError::Empty), Some(EMPTY_HOLD * 2)));
    assert_eq!(settle(none(), true, EMPTY_HOLD * 2), (Ok(0), None));
    assert_eq!(settle(Slices::default(), true, EMPTY_HOLD * 9), (Err(SourceError::NoService), None));
    assert_eq!(settle(Slices::default(), false, EMPTY_HOLD * 9), (Err(SourceError::NoService), None));
}

#[test]
fn pauses_grow_and_are_short_again_after_a_response() {
    let mut pace = Pace::default();
    let start = Instant::now();
    for longest in [1, 2, 4, 8, 16, 30, 30, 30] {
        let (pause, longest) = (pace.pause(), Duration::from_secs(longest));
        assert!((longest - longest / 4..=longest).contains(&pause), "{pause:?} is not about {longest:?}");
    }
    assert!(pace.ease(start));
    assert!(pace.pause() <= Duration::from_secs(1));
    // A server that responds and hangs up.
    assert!(!pace.ease(start + CALM - Duration::from_millis(1)));
    assert!(pace.pause() > Duration::from_secs(1));
    assert!(pace.ease(start + CALM));
    assert!(pace.pause() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_hour_without_a_server_changes_nothing_and_causes_few_requests() {
    let settings = settings();
    let delivery = delivery(settings.clone());
    let mut kubernetes = Kubernetes::new(&settings);
    kubernetes.slices = slices([vec![
        pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready),
        pod_at("bot-1", 'b', "10.0.0.2", SourceState::Terminating),
    ]]);
    kubernetes.version = Some("7".into());
    kubernetes.build(&delivery, "media");
    let before = shown(&delivery);
    assert_eq!(before, ["bot-0 a ready", "bot-1 b draining"]);
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let away = || {
        asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Err(SourceError::NoResponse("connection refused".into())))
    };
    assert!(timeout(Duration::from_secs(3600), kubernetes.follow_by(&delivery, away)).await.is_err());
    assert_eq!(shown(&delivery), before);
    assert!(delivery.is_known());
    let asked = asked.into_inner();
    assert!((120..=170).contains(&asked), "asked {asked} times");
}

#[tokio::test]
async fn a_service_does_not_become_empty_while_its_server_is_unreachable() {
    let server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[]));
    let settings = settings();
    let delivery = delivery(settings.clone());
    let mut kubernetes = Kubernetes::new(&settings);
    kubernetes.slices = slices([vec![pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready)]]);
    kubernetes.build(&delivery, "media");
    delivery.drain("bot-0");
    kubernetes.slices = slices([Vec::new()]);
    kubernetes.version = Some(server.version().into());
    kubernetes.build(&delivery, "media");
    // The server is away for longer than `EMPTY_HOLD`, and then its pods are found again.
    let pods = [pod("bot-0", 'a', "10.0.0.1", ready()), pod("bot-1", 'b', "10.0.0.2", ready())];
    server.put("bots-0", slice("IPv4", CALLS, &pods));
    kubernetes.empty_since = Some(Instant::now().checked_sub(EMPTY_HOLD).unwrap());
    let away = std::sync::atomic::AtomicBool::new(true);
    let config = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    let connect = || {
        std::future::ready(if away.swap(false, std::sync::atomic::Ordering::Relaxed) {
            Err(SourceError::NoResponse("connection refused".into()))
        } else {
            Api::new(config.clone(), &settings)
        })
    };
    // If it had left, it would be another instance, without the drain of the operator.
    tokio::select! {
        () = kubernetes.follow_by(&delivery, connect) => {}
        () = until_shown(&delivery, &["bot-0 a draining", "bot-1 b ready"]) => {}
    }
}

// Following a server.

#[tokio::test]
async fn the_pods_of_a_service_are_the_instances() {
    let server = ApiServer::start();
    let pods = [pod("bot-0", 'a', "10.0.0.1", ready()), pod("bot-1", 'b', "10.0.0.2", unready())];
    server.put("bots-1", slice("IPv4", CALLS, &pods));
    let delivery = follow(&server);
    assert!(!delivery.is_known());
    until_shown(&delivery, &["bot-0 a ready", "bot-1 b starting"]).await;
    assert!(delivery.is_known());
    let list = &server.requests()[0];
    assert_eq!(list.path, "/apis/discovery.k8s.io/v1/namespaces/media/endpointslices");
    assert_eq!((list.query["limit"].as_str(), list.is_watch(), &list.authorization), ("20", false, &None));
    until("the gateway watches", || watches(&server) == 1).await;
    let watch = server.requests()[1].clone();
    assert_eq!((&*watch.query["resourceVersion"], &*watch.query["timeoutSeconds"]), ("101", "120"));

    // A second slice, as for a second hundred of pods.
    server.put("bots-2", slice("IPv4", CALLS, &[pod("bot-2", 'c', "10.0.0.3", ready())]));
    until_shown(&delivery, &["bot-0 a ready", "bot-1 b starting", "bot-2 c ready"]).await;
    let pods = [pod("bot-0", 'a', "10.0.0.1", terminating()), pod("bot-1", 'b', "10.0.0.2", ready())];
    server.put("bots-1", slice("IPv4", CALLS, &pods));
    until_shown(&delivery, &["bot-0 a draining", "bot-1 b ready", "bot-2 c ready"]).await;
    assert_eq!(delivery.instances()[0].reason, "its pod is terminating");
    // Replaced under the same name.
    let pods = [pod("bot-0", 'd', "10.0.0.4", ready()), pod("bot-1", 'b', "10.0.0.2", ready())];
    server.put("bots-1", slice("IPv4", CALLS, &pods));
    until_shown(&delivery, &["bot-0 d ready", "bot-1 b ready", "bot-2 c ready"]).await;
    server.delete("bots-2");
    until_shown(&delivery, &["bot-0 d ready", "bot-1 b ready"]).await;
    assert_eq!((lists(&server), watches(&server)), (1, 1));
}

#[tokio::test]
async fn the_second_family_of_a_pod_does_not_add_an_instance() {
    let server = ApiServer::start();
    server.put("bots-4", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    let delivery = follow(&server);
    until_shown(&delivery, &["bot-0 a ready"]).await;
    delivery.drain("bot-0");
    server.put("bots-6", slice("IPv6", CALLS, &[pod("bot-0", 'a', "2001:db8::1", ready())]));
    let generation = delivery.fleet.load().origins().generation();
    until("both addresses are known", || delivery.fleet.load().origins().generation() > generation).await;
    assert_eq!(shown(&delivery), ["bot-0 a draining"]);
    // With another address only, it is another process.
    server.put("bots-4", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.9", ready())]));
    server.delete("bots-6");
    until_shown(&delivery, &["bot-0 a ready"]).await;
}

#[tokio::test]
async fn a_list_of_many_pages_is_read_completely_and_again_when_its_token_expires() {
    let server = ApiServer::start();
    server.page_max(3);
    for at in 0..10 {
        let pods = [pod(&format!("bot-{at}"), 'a', &format!("10.0.0.{at}"), ready())];
        server.put(&format!("bots-{at}"), slice("IPv4", CALLS, &pods));
    }
    let delivery = follow(&server);
    until("the list is read", || delivery.is_known()).await;
    assert_eq!(shown(&delivery).len(), 10);
    until("the gateway watches", || watches(&server) == 1).await;
    assert_eq!(lists(&server), 4);

    // Then a list also starts again.
    server.script(status(410, "Expired", "too old"));
    server.forget();
    server.put("bots-9", slice("IPv4", CALLS, &[pod("bot-9", 'b', "10.0.0.9", ready())]));
    until("the list is read again", || shown(&delivery).last().is_some_and(|last| last == "bot-9 b ready"))
        .await;
}

#[tokio::test]
async fn a_watch_that_breaks_continues_from_the_last_version() {
    let server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    let delivery = follow(&server);
    until("the gateway watches", || watches(&server) == 1).await;
    // Only a bookmark has this version.
    server.bookmark();
    let version = server.version();
    server.put("bots-2", slice("IPv4", CALLS, &[pod("bot-1", 'b', "10.0.0.2", ready())]));
    until_shown(&delivery, &["bot-0 a ready", "bot-1 b ready"]).await;
    server.drop_watches();
    server.put("bots-2", slice("IPv4", CALLS, &[]));
    until_shown(&delivery, &["bot-0 a ready"]).await;
    until("the gateway watches again", || watches(&server) == 2).await;
    let last = server.requests().into_iter().rfind(|seen| seen.is_watch()).unwrap();
    let from: u64 = last.query["resourceVersion"].parse().unwrap();
    assert!(from > version.parse().unwrap(), "{from}");
    assert_eq!(lists(&server), 1);
}

#[tokio::test]
async fn slices_are_listed_again_when_the_server_has_forgotten_the_version() {
    // Once as a line of the watch, once as its status.
    for in_the_watch in [true, false] {
        let server = ApiServer::start();
        server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
        let delivery = follow(&server);
        until("the gateway watches", || watches(&server) == 1).await;
        if !in_the_watch {
            server.script(status(410, "Expired", "too old resource version"));
            server.drop_watches();
            until("the watch is refused", || watches(&server) == 2).await;
        }
        server.forget();
        server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'b', "10.0.0.2", ready())]));
        until_shown(&delivery, &["bot-0 b ready"]).await;
        until("the gateway watches again", || watches(&server) >= 2).await;
        assert!(lists(&server) >= 2);
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_followed_again() {
    let mut server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    let delivery = follow(&server);
    until_shown(&delivery, &["bot-0 a ready"]).await;
    until("the gateway watches", || watches(&server) == 1).await;
    server.go_away().await;
    server.forget();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'b', "10.0.0.2", ready())]));
    assert_eq!(shown(&delivery), ["bot-0 a ready"]);
    server.come_back();
    until_shown(&delivery, &["bot-0 b ready"]).await;
}

#[tokio::test]
async fn a_service_that_is_not_there_yet_is_waited_for() {
    let server = ApiServer::start();
    let delivery = follow(&server);
    until("the gateway watches", || watches(&server) == 1).await;
    assert!(!delivery.is_known());
    server.put("bots-1", slice("IPv4", CALLS, &[]));
    until("the empty service applies", || delivery.is_known()).await;
    assert_eq!(shown(&delivery), [""; 0]);
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    until_shown(&delivery, &["bot-0 a ready"]).await;
}

#[tokio::test]
async fn forbidden_or_doubled_pods_change_nothing_until_they_are_corrected() {
    let settings = settings();
    for wrong in [
        pod_at("bot-1", 'b', "169.254.169.254", SourceState::Ready),
        pod_at("bot-0", 'b', "10.0.0.2", SourceState::Ready),
    ] {
        let delivery = delivery(settings.clone());
        let mut kubernetes = Kubernetes::new(&settings);
        kubernetes.slices = slices([vec![pod_at("bot-0", 'a', "10.0.0.1", SourceState::Ready)]]);
        kubernetes.build(&delivery, "media");
        assert_eq!(shown(&delivery), ["bot-0 a ready"]);
        let right = pod_at("bot-3", 'c', "10.0.0.3", SourceState::Ready);
        let name: Box<str> = "wrong".into();
        kubernetes
            .slices
            .put(name.clone(), Slice { pods: vec![wrong, right], left_out: LeftOut::default() })
            .unwrap();
        kubernetes.build(&delivery, "media");
        assert_eq!(shown(&delivery), ["bot-0 a ready"]);
        let right = pod_at("bot-3", 'c', "10.0.0.3", SourceState::Ready);
        kubernetes.slices.put(name, Slice { pods: vec![right], left_out: LeftOut::default() }).unwrap();
        kubernetes.build(&delivery, "media");
        assert_eq!(shown(&delivery), ["bot-0 a ready", "bot-3 c ready"]);
    }
}

#[tokio::test]
async fn an_address_that_the_operator_allows_is_followed() {
    let server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "127.0.0.1", ready())]));
    let mut allowed = settings();
    allowed.allow = vec!["127.0.0.0/8".parse().unwrap()];
    until_shown(&follow_as(&server, allowed), &["bot-0 a ready"]).await;
}

#[tokio::test]
async fn nonsense_in_any_response_is_survived() {
    let enormous = "x".repeat(5 << 20);
    let endless = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSliceList",
        "metadata": {"resourceVersion": "7", "continue": "more"}, "items": []
    });
    let too_many: Vec<_> = (0..=200).map(|_| ok(&endless.to_string())).collect();
    let responses: Vec<Vec<Vec<u8>>> = vec![
        vec![ok("")],
        vec![ok("nonsense")],
        vec![ok("{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{},\"items\":[]}")],
        vec![b"HTTP/1.1 200 X\r\nContent-Length: 99\r\n\r\n{".to_vec()],
        vec![b"not HTTP at all\r\n\r\n".to_vec()],
        vec![Vec::new()],
        vec![status(403, "Forbidden", "endpointslices is forbidden")],
        vec![status(500, "InternalError", &enormous)],
        vec![status(429, "TooManyRequests", "later")],
        vec![b"HTTP/1.1 302 X\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n".to_vec()],
        too_many,
    ];
    // Each is followed by a pause, so all run at once.
    let all: JoinSet<()> = responses.into_iter().map(is_survived).collect();
    all.join_all().await;
}

async fn is_survived(responses: Vec<Vec<u8>>) {
    let server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    for response in responses {
        server.script(response);
    }
    let delivery = follow(&server);
    until_shown(&delivery, &["bot-0 a ready"]).await;
    until("the gateway watches", || watches(&server) >= 1).await;
}

#[tokio::test]
async fn nonsense_in_a_watch_is_survived() {
    let enormous = "x".repeat(5 << 20);
    let error = "{\"type\":\"ERROR\",\"object\":{\"code\":500}}";
    let lines = ["nonsense", "{}", "", error, &enormous].map(ToOwned::to_owned);
    let all: JoinSet<()> = lines.into_iter().map(is_survived_in_a_watch).collect();
    all.join_all().await;
}

async fn is_survived_in_a_watch(line: String) {
    let server = ApiServer::start();
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'a', "10.0.0.1", ready())]));
    let delivery = follow(&server);
    until("the gateway watches", || watches(&server) == 1).await;
    server.say(&line);
    until("the gateway lists again", || lists(&server) == 2).await;
    assert_eq!(shown(&delivery), ["bot-0 a ready"]);
    server.put("bots-1", slice("IPv4", CALLS, &[pod("bot-0", 'b', "10.0.0.2", ready())]));
    until_shown(&delivery, &["bot-0 b ready"]).await;
}

#[tokio::test]
async fn a_page_has_a_bound() {
    let server = ApiServer::start();
    let head = b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\n{\"items\":[".to_vec();
    server.script([head, vec![b' '; 33 << 20]].concat());
    let config = kube::Config::new(format!("http://{}", server.address).parse().unwrap());
    let api = Api::new(config, &settings()).unwrap();
    let read_end = api.list(&PodPort::Number(1)).await.err().unwrap();
    assert_eq!(
        read_end,
        ReadEnd::Misread(SourceError::Nonsense("a page of more than 33554432 bytes".into()))
    );
}

#[test]
fn a_namespace_is_a_label() {
    for (text, is_label) in [
        ("media", true),
        ("a", true),
        ("0-9", true),
        ("", false),
        ("Media", false),
        ("-a", false),
        ("a-", false),
        ("a.b", false),
        ("a/b", false),
        ("a%2fb", false),
    ] {
        assert_eq!(KubernetesSettings::is_label(text), is_label, "{text}");
    }
}
