//! The admin listener over loopback sockets.

mod feed;

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use openssl::{
    rsa::Rsa,
    ssl::{SslConnector, SslMethod},
};
use serde_json::{Value, json};
use switchboard_auth::{AppSettings, Authenticator, Fetch, FetchError, KeyPolicy, Tenants, TrustSettings};
use switchboard_delivery::{
    Delivery, DeliverySettings, Fill, InstanceSettings, Orphaned, TlsClient, UpstreamUrl,
};
use switchboard_routing::{CallbackUris, Name, Policy, SealKey};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use url::Url;
use uuid::{Uuid, uuid};

use super::{
    AdminApi, AdminState, AdminToken, Feed,
    listener::{CONNECTIONS_MAX, serve},
};
use crate::{
    clients::{fetch::Fetcher, peer_health::PeerHealth},
    config::tests::{MINIMAL, parse},
    metrics::{self, Metrics, RequestKind, WorkerGuard},
    observed::Observed,
    request::outcome::Outcome,
    telemetry::LogCounts,
};

const APP: Uuid = uuid!("0efc74f7-41c3-47a4-8775-7259bfef4241");
const TOKEN: &str = "the-token-of-an-operator";

/// An issuer with one key, or one that cannot be reached.
struct Issuer {
    keys: Option<String>,
}

impl Fetch for Issuer {
    fn get(
        &self,
        url: &Url,
        _: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let body = match (&self.keys, url.path()) {
            (None, _) => Err(FetchError { kind: "connect", detail: "refused".to_owned() }),
            (Some(keys), "/keys") => Ok(Bytes::from(keys.clone())),
            (Some(_), _) => {
                Ok(Bytes::from_static(br#"{"issuer":"https://i.test","jwks_uri":"https://i.test/keys"}"#))
            }
        };
        Box::pin(async { body })
    }
}

fn key_set() -> String {
    let modulus = Rsa::generate(2048).unwrap().n().to_vec();
    let modulus = openssl::base64::encode_block(&modulus).replace('+', "-").replace('/', "_");
    let modulus = modulus.trim_end_matches('=');
    json!({"keys": [{"kty": "RSA", "use": "sig", "kid": "k1", "e": "AQAB", "n": modulus}]}).to_string()
}

/// A running admin listener.
struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    draining: Arc<AtomicBool>,
    state: Arc<ArcSwap<AdminState>>,
    worker: Option<WorkerGuard>,
    _serving: JoinSet<()>,
}

#[derive(Clone, Copy)]
struct Setup {
    bind: &'static str,
    token: Option<&'static str>,
    has_keys: bool,
}

const LOCAL: Setup = Setup { bind: "127.0.0.1:0", token: None, has_keys: false };

fn admin_state(setup: Setup) -> AdminState {
    let trust = |name: &str, keys: Option<String>| {
        let settings = TrustSettings {
            name: name.to_owned(),
            metadata: Url::parse("https://i.test/metadata").unwrap(),
            issuers: vec![format!("https://{name}.test")],
            callers: Vec::new(),
            ca_digest: None,
        };
        let fetch: Arc<dyn Fetch> = Arc::new(Issuer { keys });
        (settings, fetch)
    };
    let trusts = vec![trust("skype", setup.has_keys.then(key_set)), trust("other", None)];
    let app = AppSettings { id: APP, tenants: Tenants::Any, audiences: Vec::new() };
    let policy = KeyPolicy {
        refresh: Duration::from_secs(3600),
        cooldown: Duration::from_secs(30),
        keep_stale: Duration::from_secs(86_400),
        store: None,
    };
    let keys = vec![SealKey::new("k1", &[7; 32]).unwrap()];
    let base = Url::parse("https://emea.bots.test").unwrap();
    let callbacks = Arc::new(CallbackUris::new(&base, "/api/callbacks", keys).unwrap());
    let instance = |name: &str| InstanceSettings {
        name: Name::parse(name).unwrap(),
        url: UpstreamUrl::parse("http://127.0.0.1:9/api/calls").unwrap(),
        callback_url: None,
        apps: None,
        weight: 1,
    };
    let settings = DeliverySettings {
        region: Name::parse("emea").unwrap(),
        instances: vec![instance("bot-0"), instance("bot-1")],
        discovery: None,
        store: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::ZERO,
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe: None,
        attempt: Duration::from_secs(3),
        waiting_max: 100,
        eject_share: 0.5,
        patience: Duration::from_secs(8),
        in_flight_per_instance: 100,
        orphaned: Orphaned::Refuse,
        authorization: true,
    };
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap();
    let fetcher = Fetcher::new(SslConnector::builder(SslMethod::tls_client()).unwrap().build());
    AdminState {
        region: Name::parse("emea").unwrap(),
        authenticator: Arc::new(Authenticator::new(trusts, vec![app], policy).unwrap()),
        delivery: Arc::new(Delivery::new(settings, Arc::clone(&callbacks), tls)),
        connections: Arc::default(),
        callbacks,
        policy: Arc::new(Policy::new(Name::parse("emea").unwrap(), Vec::new(), Vec::new()).unwrap()),
        peers: Arc::new(PeerHealth::new(Vec::new(), fetcher, None)),
        observed: Arc::new(Observed::new(UNIX_EPOCH + Duration::from_secs(1_700_000_000))),
        apps: vec![APP],
        config: Arc::new(parse(MINIMAL).unwrap().effective),
        config_loaded_ms: 0,
        limits: metrics::tests::LIMITS,
        instance_metrics: true,
        head_room: 0.2,
        admin_token: setup.token.map(|token| AdminToken::new(token.as_bytes())),
    }
}

async fn start(setup: Setup) -> Running {
    let state = admin_state(setup);
    let mut serving = JoinSet::new();
    if setup.has_keys {
        let authenticator = Arc::clone(&state.authenticator);
        serving.spawn(Arc::clone(&authenticator).run(|| UNIX_EPOCH));
        while authenticator.trusts().iter().all(|trust| trust.keys == 0) {
            tokio::task::yield_now().await;
        }
    }
    let listener = TcpListener::bind(setup.bind).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
    let metrics = Arc::new(Metrics::new(LogCounts::default()));
    let draining = Arc::new(AtomicBool::new(false));
    let state = Arc::new(ArcSwap::from_pointee(state));
    let api = AdminApi {
        state: Arc::clone(&state),
        metrics: Arc::clone(&metrics),
        draining: Arc::clone(&draining),
        feed: Feed::default(),
    };
    serving.spawn(serve(api, listener));
    let worker = Some(metrics.worker());
    Running { address, metrics, draining, state, worker, _serving: serving }
}

/// A response as it came over the socket.
#[derive(Debug)]
struct RawResponse {
    status: u16,
    head: String,
    body: String,
}

impl RawResponse {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    #[track_caller]
    fn expect_error(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["error"]["code"], code);
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
}

impl Running {
    /// Sends bytes as they are and reads until the connection ends.
    async fn raw(&self, request: &str) -> RawResponse {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The listener may respond and close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        let response = String::from_utf8(response).unwrap();
        let (head, body) =
            response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response to {request}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        RawResponse { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn send(&self, line: &str, fields: &str) -> RawResponse {
        let host = if fields.to_ascii_lowercase().contains("host:") { "" } else { "Host: localhost\r\n" };
        self.raw(&format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{fields}\r\n")).await
    }

    fn state_of(&self, instance: &str) -> &'static str {
        let instances = self.state.load().delivery.instances();
        instances.iter().find(|status| status.name.as_str() == instance).unwrap().state.label()
    }
}

#[tokio::test]
async fn a_running_process_is_healthy() {
    let running = start(LOCAL).await;
    running.draining.store(true, Relaxed);
    let response = running.send("GET /healthz", "").await;
    assert_eq!((response.status, response.json()), (200, json!({"healthy": true})));
    for field in
        ["content-type: application/json", "cache-control: no-store", "x-content-type-options: nosniff"]
    {
        assert!(response.head.contains(field), "{}", response.head);
    }
    let response = running.send("HEAD /healthz", "").await;
    assert_eq!((response.status, response.body.as_str()), (200, ""));
}

/// Only a panic outside of any request ends a worker. The gateway still accepts connections then, and closes
/// them without a response.
#[tokio::test]
async fn a_gateway_without_workers_is_neither_ready_nor_healthy() {
    let mut running = start(Setup { has_keys: true, ..LOCAL }).await;
    let another = running.metrics.worker();
    let worker = running.worker.take();
    let panicked = std::thread::spawn(move || {
        let _alive = worker;
        panic!("a bug");
    });
    assert!(panicked.join().is_err());
    assert_eq!(running.send("GET /readyz", "").await.status, 200, "the other worker lives");
    drop(another);
    let ready = running.send("GET /readyz", "").await;
    assert_eq!((ready.status, &ready.json()["failing"]), (503, &json!(["workers"])));
    let healthy = running.send("GET /healthz", "").await;
    assert_eq!((healthy.status, healthy.json()), (503, json!({"healthy": false})));
    // The workers of a gateway that drains stop one after the other.
    running.draining.store(true, Relaxed);
    assert_eq!(running.send("GET /healthz", "").await.status, 200);
}

#[tokio::test]
async fn a_gateway_without_keys_is_not_ready() {
    let running = start(LOCAL).await;
    let response = running.send("GET /readyz", "").await;
    assert_eq!(response.status, 503);
    assert_eq!(
        response.json(),
        json!({
            "ready": false, "failing": ["keys"], "configuration_loaded": true, "trusts_with_keys": [],
            "trusts_without_keys": ["skype", "other"], "fleet_known": true, "draining": false,
        })
    );
}

#[tokio::test]
async fn a_gateway_with_keys_of_one_trust_is_ready_until_it_drains() {
    let running = start(Setup { has_keys: true, ..LOCAL }).await;
    let response = running.send("GET /readyz", "").await;
    assert_eq!(response.status, 200);
    assert_eq!(
        response.json(),
        json!({
            "ready": true, "failing": [], "configuration_loaded": true, "trusts_with_keys": ["skype"],
            "trusts_without_keys": ["other"], "fleet_known": true, "draining": false,
        })
    );
    running.draining.store(true, Relaxed);
    let response = running.send("GET /readyz", "").await;
    assert_eq!((response.status, &response.json()["failing"]), (503, &json!(["drain"])));
}

#[tokio::test]
async fn metrics_can_be_scraped() {
    let running = start(Setup { has_keys: true, ..LOCAL }).await;
    running.metrics.request(Outcome::Placed, RequestKind::Webhook, Duration::from_millis(3));
    let response = running.send("GET /metrics", "").await;
    assert_eq!(response.status, 200);
    assert!(response.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let series = metrics::tests::parse(&response.body);
    let accept = "Accept: application/openmetrics-text; version=1.0.0, */*; q=0.1\r\n";
    let response = running.send("GET /metrics", accept).await;
    assert!(
        response.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(response.body.ends_with("# EOF\n"));
    assert_eq!(metrics::tests::parse(&response.body).len(), series.len());
    assert_eq!(series["switchboard_requests_total{outcome=placed}"], 1.0);
    assert_eq!(series["switchboard_keys{trust=skype}"], 1.0);
    assert_eq!(series["switchboard_keys{trust=other}"], 0.0);
    assert_eq!(series["switchboard_instance_state{bot=bot-1,state=ready}"], 1.0);
}

/// The text of thousands of instances takes milliseconds, and the thread of the listener also accepts the
/// connections of the platform.
#[test]
fn long_responses_are_written_on_another_thread() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let running = start(LOCAL).await;
        // While the only other thread is busy, short responses come and long ones wait.
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let occupied = tokio::task::spawn_blocking(move || busy.recv());
        let mut long = JoinSet::new();
        for path in ["/metrics", "/fleet"] {
            let mut stream = TcpStream::connect(running.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            long.spawn(async move {
                let mut response = Vec::new();
                stream.read_to_end(&mut response).await.unwrap();
                response
            });
        }
        for _ in 0..3 {
            assert_eq!(running.send("GET /healthz", "").await.status, 200);
        }
        assert!(long.try_join_next().is_none(), "written by the thread of the listener");
        drop(free);
        let _ = occupied.await;
        for response in long.join_all().await {
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
    });
}

#[tokio::test]
async fn the_fleet_lists_every_instance_with_its_status() {
    let running = start(LOCAL).await;
    let response = running.send("GET /fleet", "").await;
    assert_eq!(response.status, 200);
    let fleet = response.json();
    assert_eq!(fleet.as_array().unwrap().len(), 2);
    let mut first = fleet[0].clone();
    let first = first.as_object_mut().unwrap();
    assert!(first.remove("since_ms").unwrap().is_u64());
    assert!(first.remove("reason").unwrap().is_string());
    assert_eq!(
        Value::from(first.clone()),
        json!({
            "name": "bot-0", "incarnation": "0", "state": "ready", "drained": false, "calls_counted": 0,
            "calls_expected": null, "entered": {}, "calls": null, "capacity": null, "placed": 0,
            "callbacks": 0, "in_flight": 0, "attempts": 0, "failures": {}, "missed_probes": 0,
            "last_miss": null, "last_probe_ms": null, "restored_age_ms": null,
        })
    );
}

#[tokio::test]
async fn the_callback_uri_is_the_one_that_the_instance_receives() {
    let running = start(LOCAL).await;
    let state = running.state.load();
    let owner = state.delivery.owner("bot-1").unwrap();
    let expected = json!({"callback_uri": state.callbacks.mint(&owner, APP)});
    for query in [format!("app={APP}"), format!("x=y&app={}", APP.to_string().to_uppercase())] {
        let response = running.send(&format!("GET /fleet/bot-1/callback?{query}"), "").await;
        assert_eq!((response.status, response.json()), (200, expected.clone()));
    }
    for (path, status, code) in [
        ("/fleet/bot-1/callback".to_owned(), 400, "bad_app"),
        ("/fleet/bot-1/callback?app=".to_owned(), 400, "bad_app"),
        ("/fleet/bot-1/callback?app=bot".to_owned(), 400, "bad_app"),
        (format!("/fleet/bot-1/callback?app={APP}&app={APP}"), 400, "bad_app"),
        (format!("/fleet/bot-1/callback?app={}", Uuid::nil()), 404, "unknown_app"),
        (format!("/fleet/bot-2/callback?app={APP}"), 404, "unknown_instance"),
        (format!("/fleet/%62ot-1/callback?app={APP}"), 404, "unknown_instance"),
        (format!("/fleet//callback?app={APP}"), 404, "unknown_instance"),
    ] {
        running.send(&format!("GET {path}"), "").await.expect_error(status, code);
    }
}

#[tokio::test]
async fn an_instance_is_drained_and_resumed() {
    let running = start(LOCAL).await;
    let response = running.send("POST /fleet/bot-0/drain", "Content-Length: 0\r\n").await;
    assert_eq!((response.status, &response.json()["state"]), (200, &json!("draining")));
    assert_eq!((running.state_of("bot-0"), running.state_of("bot-1")), ("draining", "ready"));
    let response = running.send("POST /fleet/bot-0/resume", "Content-Length: 2\r\n\r\n{}").await;
    assert_eq!((response.status, &response.json()["state"]), (200, &json!("ready")));
    assert_eq!(running.state_of("bot-0"), "ready");
    running.send("POST /fleet/bot-9/drain", "").await.expect_error(404, "unknown_instance");
    running.send("POST /fleet/bot-9/resume", "").await.expect_error(404, "unknown_instance");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let running = start(LOCAL).await;
    for path in
        ["/page", "/fleet/", "/fleet/bot-0", "/fleet/bot-0/x", "/metrics/", "/HEALTHZ", "/fleet/a/b/drain"]
    {
        running.send(&format!("GET {path}"), "").await.expect_error(404, "not_found");
    }
    for (line, allow) in [
        ("POST /healthz", "get, head"),
        ("DELETE /readyz", "get, head"),
        ("POST /metrics", "get, head"),
        ("PUT /fleet", "get, head"),
        ("POST /fleet/bot-0/callback", "get, head"),
        ("GET /fleet/bot-0/drain", "post"),
        ("HEAD /fleet/bot-0/resume", "post"),
        ("TRACE /healthz", "get, head"),
    ] {
        let response = running.send(line, "").await;
        assert_eq!(response.status, 405, "{line}");
        assert!(response.head.contains(&format!("\r\nallow: {allow}\r\n")), "{line}: {}", response.head);
    }
    assert_eq!(running.state_of("bot-0"), "ready");
}

const CALLBACK: &str = "GET /fleet/bot-0/callback?app=0efc74f7-41c3-47a4-8775-7259bfef4241";

#[tokio::test]
async fn changes_and_callback_uris_require_the_token() {
    for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
        let running = start(Setup { bind, token: Some("s3cret-token"), ..LOCAL }).await;
        for line in ["POST /fleet/bot-0/drain", "POST /fleet/bot-0/resume", CALLBACK] {
            let before = running.state_of("bot-0");
            for fields in [
                "",
                "Authorization: s3cret-token\r\n",
                "Authorization: Basic s3cret-token\r\n",
                "Authorization: Bearer\r\n",
                "Authorization: Bearer \r\n",
                "Authorization: Bearer s3cret-toke\r\n",
                "Authorization: Bearer s3cret-token2\r\n",
                "Authorization: Bearer S3cret-token\r\n",
                "Authorization: Bearer  s3cret-token\r\n",
                "Authorization: Bearer s3cret-token\r\nAuthorization: Bearer s3cret-token\r\n",
            ] {
                let response = running.send(line, fields).await;
                response.expect_error(401, "unauthenticated");
                assert!(response.head.contains("\r\nwww-authenticate: bearer\r\n"));
            }
            assert_eq!(running.state_of("bot-0"), before);
            for scheme in ["Bearer", "bearer"] {
                let response = running.send(line, &format!("Authorization: {scheme} s3cret-token\r\n")).await;
                assert_eq!(response.status, 200, "{line}");
            }
        }
        for path in ["/healthz", "/metrics", "/fleet"] {
            assert_eq!(running.send(&format!("GET {path}"), "").await.status, 200);
        }
    }
}

#[tokio::test]
async fn without_a_configured_token_a_public_listener_refuses_changes() {
    let running = start(Setup { bind: "0.0.0.0:0", ..LOCAL }).await;
    for line in ["POST /fleet/bot-0/drain", "POST /fleet/bot-0/resume", CALLBACK] {
        running.send(line, "").await.expect_error(403, "no_token_configured");
        running.send(line, "Authorization: Bearer \r\n").await.expect_error(403, "no_token_configured");
    }
    assert_eq!(running.state_of("bot-0"), "ready");
}

#[tokio::test]
async fn a_reload_changes_the_token() {
    let running = start(Setup { token: Some("old"), ..LOCAL }).await;
    running.state.store(Arc::new(admin_state(Setup { token: Some("new"), ..LOCAL })));
    assert_eq!(running.send(CALLBACK, "Authorization: Bearer old\r\n").await.status, 401);
    assert_eq!(running.send(CALLBACK, "Authorization: Bearer new\r\n").await.status, 200);
}

#[tokio::test]
async fn a_loopback_listener_refuses_foreign_host_names() {
    let running = start(LOCAL).await;
    for host in
        ["localhost", "LocalHost:1", "127.0.0.1", "127.0.0.1:9090", "[::1]", "[::1]:65535", "localhost:"]
    {
        assert_eq!(running.send("GET /fleet", &format!("Host: {host}\r\n")).await.status, 200, "{host}");
    }
    for host in [
        "evil.test",
        "evil.test:9090",
        "localhost.evil.test",
        "localhost.",
        "127.0.0.1.evil.test",
        "127.0.0.1:x",
        "127.0.0.1:1:1",
        "::1",
        "[::2]",
        "[localhost]",
        "10.0.0.1",
        "localhost@evil.test",
        "",
    ] {
        running.send("GET /fleet", &format!("Host: {host}\r\n")).await.expect_error(403, "foreign_host");
    }
    for (request, status) in [
        ("GET /fleet HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET /fleet HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        ("GET http://localhost/fleet HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        ("GET http://evil.test/fleet HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        ("GET /fleet HTTP/1.0\r\n\r\n", 200),
        ("GET /fleet HTTP/1.0\r\nHost: evil.test\r\n\r\n", 403),
    ] {
        assert_eq!(running.raw(request).await.status, status, "{request}");
    }
}

#[tokio::test]
async fn a_public_listener_accepts_any_host_name() {
    let running = start(Setup { bind: "0.0.0.0:0", ..LOCAL }).await;
    assert_eq!(running.send("GET /fleet", "Host: gateway.internal:9090\r\n").await.status, 200);
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let running = start(LOCAL).await;
    for (fields, status) in [
        (format!("X: {}\r\n", "x".repeat(15_000)), 200),
        (format!("X: {}\r\n", "x".repeat(17_000)), 431),
        ("X: x\r\n".repeat(60), 200),
        ("X: x\r\n".repeat(70), 431),
    ] {
        assert_eq!(running.send("GET /healthz", &fields).await.status, status);
    }
}

#[tokio::test]
async fn a_body_is_not_read() {
    let running = start(LOCAL).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    // The response arrives although the body never does.
    let head = "POST /fleet/bot-0/drain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_are_reused_and_limited() {
    let running = start(LOCAL).await;
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        for _ in 0..2 {
            stream.write_all(request).await.unwrap();
            let mut buffer = [0; 1024];
            let mut response = Vec::new();
            while !response.ends_with(b"}\n") {
                let count = stream.read(&mut buffer).await.unwrap();
                assert!(count > 0);
                response.extend_from_slice(&buffer[..count]);
            }
        }
        held.push(stream);
    }
    // Sixty-four idle connections do not keep a probe out: the longest idle one ends for it.
    let mut probe = TcpStream::connect(running.address).await.unwrap();
    probe.write_all(request).await.unwrap();
    assert!(probe.read(&mut [0; 16]).await.unwrap() > 0);
    assert!(matches!(held[0].read(&mut [0; 16]).await, Ok(0) | Err(_)));
    held[1].write_all(request).await.unwrap();
    assert!(held[1].read(&mut [0; 16]).await.unwrap() > 0);
}

/// The connections of an operator with the token are not evicted, and neither is one with a slow head.
#[tokio::test]
async fn an_operator_keeps_the_connection() {
    let running = start(Setup { token: Some(TOKEN), ..LOCAL }).await;
    let request =
        format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let mut operator = TcpStream::connect(running.address).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..2 {
        operator.write_all(request.as_bytes()).await.unwrap();
        assert!(operator.read(&mut [0; 1024]).await.unwrap() > 0);
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(running.address).await.unwrap());
        }
    }
    operator.write_all(request.as_bytes()).await.unwrap();
    assert!(operator.read(&mut [0; 1024]).await.unwrap() > 0);
}

/// A wrong request ends its connection, and its sender gets the whole response although its body is not read.
#[tokio::test]
async fn a_wrong_request_ends_its_connection() {
    let running = start(LOCAL).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &[b' '; 3_000_000]].concat()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 404 ") && response.contains("\r\nconnection: close\r\n"));
    assert!(response.ends_with("}\n"));
}
