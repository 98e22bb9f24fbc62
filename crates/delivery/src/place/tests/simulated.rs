//! A fleet of simulated instances, and the calls that are placed there.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use openssl::ssl::{SslConnector, SslMethod};
use switchboard_routing::{AffinityKey, CallbackUris, Candidate, Name, SealKey, hash_name, rank};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::{Instant, sleep},
};
use url::Url;
use uuid::Uuid;

use crate::{
    Connections, Delivery, DeliverySettings, Fill, InstanceSettings, InstanceState, InstanceStatus, Orphaned,
    Outbound, PlaceError, PlacementLimits, ProbeSettings, TlsClient, UpstreamResponse, UpstreamUrl,
    simulation::Wires,
};

pub(super) const APP: Uuid = Uuid::from_u128(1);

/// The reaction of an instance to a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// It does not listen.
    Refuse,
    /// It responds with a status after some milliseconds.
    Respond(u16, u64),
    /// It responds with 429 and this `Retry-After`.
    Limit(u64),
    /// It responds with 401 until so many milliseconds after the start, then with 202.
    StaleKeys(u64),
    /// It closes the connection after some milliseconds.
    Close(u64),
    /// It never responds.
    Hang,
}

/// A request for a new call that an instance has received.
#[derive(Clone, Debug)]
pub(super) struct SeenCall {
    pub(super) instance: usize,
    pub(super) call_id: String,
    /// The time since the start of the fleet.
    pub(super) at: Duration,
}

/// Instances, the gateway's delivery to them, and the requests so far. The instance at index 0 ranks first
/// for the call `call`, and so on.
pub(super) struct SimulatedFleet {
    pub(super) delivery: Arc<Delivery>,
    pub(super) wires: Arc<Wires>,
    pub(super) started: Instant,
    names: Vec<String>,
    seen: Arc<Mutex<Vec<SeenCall>>>,
}

impl SimulatedFleet {
    pub(super) fn new(acts: &[Act]) -> Self {
        Self::with(acts, |_| {})
    }

    /// A fleet with changed settings.
    pub(super) fn with(acts: &[Act], change: impl FnOnce(&mut DeliverySettings)) -> Self {
        let (wires, names) = (Arc::new(Wires::default()), ranking(acts.len()));
        let instances = names.iter().enumerate().map(|(at, name)| InstanceSettings {
            name: Name::parse(name).unwrap(),
            url: UpstreamUrl::parse(&format!("http://{}/api/calls", address(at))).unwrap(),
            callback_url: None,
            apps: None,
            weight: 1,
        });
        let mut settings = DeliverySettings {
            region: Name::parse("emea").unwrap(),
            instances: instances.collect(),
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
            in_flight_per_instance: 10_000,
            patience: Duration::from_secs(8),
            orphaned: Orphaned::Refuse,
            authorization: true,
        };
        change(&mut settings);
        let key = SealKey::new("k1", &[7; 32]).unwrap();
        let base = Url::parse("https://emea.bots.contoso.com").unwrap();
        let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
        let mut delivery = Delivery::new(settings, uris, TLS.clone());
        delivery.connector = delivery.connector.clone().simulated(Arc::clone(&wires));
        let (delivery, started) = (Arc::new(delivery), Instant::now());
        let fleet = Self { delivery, wires, started, names, seen: Arc::default() };
        for (at, act) in acts.iter().enumerate() {
            if *act != Act::Refuse {
                fleet.listen(at, *act);
            }
        }
        fleet
    }

    /// Starts the instance at an index.
    pub(super) fn listen(&self, instance: usize, act: Act) {
        let mut accepted = self.wires.listen(address(instance));
        let (seen, started) = (Arc::clone(&self.seen), self.started);
        tokio::spawn(async move {
            while let Some((_, stream)) = accepted.recv().await {
                tokio::spawn(serve(stream, act, instance, Arc::clone(&seen), started));
            }
        });
    }

    pub(super) async fn place(
        &self,
        call_id: &str,
        limits: PlacementLimits,
    ) -> Result<UpstreamResponse, PlaceError> {
        let connections = Connections::default();
        self.delivery.place(&connections, &outbound(call_id), AffinityKey::of("call"), limits).await
    }

    /// The requests for new calls so far, in the order of their arrival.
    pub(super) fn seen(&self) -> Vec<SeenCall> {
        self.seen.lock().unwrap().clone()
    }

    /// The instances that have received a new call, in the order of its arrival.
    pub(super) fn asked(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.instance).collect()
    }

    pub(super) fn elapsed_ms(&self) -> u128 {
        self.started.elapsed().as_millis()
    }

    pub(super) fn name(&self, instance: usize) -> &str {
        &self.names[instance]
    }

    pub(super) fn status(&self, instance: usize) -> InstanceStatus {
        self.delivery.instances().into_iter().find(|one| one.name.as_str() == self.names[instance]).unwrap()
    }

    pub(super) fn states(&self) -> Vec<InstanceState> {
        (0..self.names.len()).map(|at| self.status(at).state).collect()
    }
}

/// Shared, since it reads the trust anchors of the system.
static TLS: LazyLock<TlsClient> =
    LazyLock::new(|| TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap());

/// The limits of a call that a policy records, in milliseconds.
pub(super) fn recorded(budget_ms: u64) -> PlacementLimits {
    PlacementLimits { budget: Duration::from_millis(budget_ms), outcome_unknown_max: 2 }
}

/// The limits of any other call.
pub(super) fn unrecorded(budget_ms: u64) -> PlacementLimits {
    PlacementLimits { budget: Duration::from_millis(budget_ms), outcome_unknown_max: 3 }
}

/// A probe that is due once a minute.
pub(super) fn probed(settings: &mut DeliverySettings) {
    settings.probe = Some(ProbeSettings {
        path: "/healthz".into(),
        interval: Duration::from_secs(60),
        is_forwarded: false,
    });
}

pub(super) fn outbound(call_id: &str) -> Outbound {
    Outbound {
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{}"),
        app: APP,
        tenant: Uuid::from_u128(2),
        call_id: Some(call_id.into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: None,
    }
}

/// The order in which `call` ranks `bot-0`, `bot-1`, ….
fn ranking(count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|at| format!("bot-{at}")).collect();
    let candidate = |text: &String| {
        let name_hash = hash_name(&Name::parse(text).unwrap());
        Candidate { name_hash, weight: 1, load: None }
    };
    let candidates: Vec<Candidate> = names.iter().map(candidate).collect();
    rank(AffinityKey::of("call"), &candidates).map(|at| names[at].clone()).collect()
}

fn address(instance: usize) -> SocketAddr {
    format!("10.0.0.{}:3978", instance + 1).parse().unwrap()
}

/// Does `act` on notifications, and responds to probes with 200.
async fn serve(
    mut stream: DuplexStream,
    act: Act,
    instance: usize,
    seen: Arc<Mutex<Vec<SeenCall>>>,
    started: Instant,
) {
    while let Some(head) = read_request(&mut stream).await {
        let mut fields = String::new();
        let (status, after_ms) = if head.starts_with("GET ") {
            (200, 0)
        } else {
            let call_id = head.lines().find_map(|line| line.strip_prefix("switchboard-call-id: "));
            let call_id = call_id.unwrap_or_default().to_owned();
            seen.lock().unwrap().push(SeenCall { instance, call_id, at: started.elapsed() });
            match act {
                Act::Respond(status, after_ms) => (status, after_ms),
                Act::Limit(seconds) => {
                    fields = format!("Retry-After: {seconds}\r\n");
                    (429, 0)
                }
                Act::StaleKeys(until_ms) if started.elapsed() < Duration::from_millis(until_ms) => (401, 0),
                Act::StaleKeys(_) => (202, 0),
                Act::Close(after_ms) => return sleep(Duration::from_millis(after_ms)).await,
                Act::Hang | Act::Refuse => return std::future::pending().await,
            }
        };
        sleep(Duration::from_millis(after_ms)).await;
        let response = format!("HTTP/1.1 {status} Whatever\r\n{fields}Content-Length: 0\r\n\r\n");
        if stream.write_all(response.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The head of the next request. Its body is read and dropped.
async fn read_request(stream: &mut DuplexStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some(head.to_owned());
            }
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}
