//! The cost of the size of a fleet: `Delivery::place` and `Delivery::forward` with one and with ten thousand
//! instances. Run `cargo bench -p switchboard-delivery` on Linux. All instances are one listener on loopback.
//! The figures are processor time of the thread that places and forwards, requests included. The difference
//! between two fleets is the cost of their size.

use std::{
    fs, io,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt;
use openssl::ssl::{SslConnector, SslMethod};
use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, Fill, InstanceSettings, InstanceState, Orphaned, Outbound,
    PlacementLimits, ProbeSettings, TlsClient, UpstreamResponse, UpstreamUrl,
};
use switchboard_routing::{AffinityKey, CallbackUris, Name, Owner, SealKey};
use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};
use url::Url;
use uuid::Uuid;

type BenchError = Box<dyn std::error::Error>;

fn main() -> Result<(), BenchError> {
    for (fleet, reports) in
        [("no load reported", NO_LOAD), ("a third full", THIRD_FULL), ("half of it overloaded", CROWDED)]
    {
        for count in [1, 10_000] {
            let address = listen(reports)?;
            Builder::new_current_thread().enable_all().build()?.block_on(measure(
                count,
                &format!("{count} instances, {fleet}"),
                address,
            ))?;
        }
    }
    let address = listen(FULL)?;
    Builder::new_current_thread().enable_all().build()?.block_on(measure_refusals(10_000, address))
}

/// The cost of a call that a full fleet refuses: a storm of calls must not be dearer than the calm.
async fn measure_refusals(count: usize, address: SocketAddr) -> Result<(), BenchError> {
    let delivery = Arc::new(delivery(count, address)?);
    probe_until(&delivery, InstanceState::Full).await;
    let connections = Connections::default();
    let mut refusal = Times::new();
    for _ in 0..BATCHES {
        let started = processor_time()?;
        for call in 0..BATCH {
            let key = AffinityKey::of(&format!("491f0b00-6aee-11ef-a87f-{call:012x}"));
            let limits = PlacementLimits { budget: Duration::from_secs(12), outcome_unknown_max: 3 };
            if delivery.place(&connections, &outbound("a-call"), key, limits).await.is_ok() {
                return Err("a full instance took a call".into());
            }
        }
        refusal.add(processor_time()?.saturating_sub(started));
    }
    refusal.report(&format!("{count} instances, all full: a refused call"));
    Ok(())
}

/// Probes until all instances are in a state, and then stops: the probes would be measured, too.
async fn probe_until(delivery: &Arc<Delivery>, state: InstanceState) {
    let running = tokio::spawn(Arc::clone(delivery).run());
    while !delivery.instances().iter().all(|one| one.state == state) {
        sleep(Duration::from_millis(100)).await;
    }
    running.abort();
}

async fn measure(count: usize, fleet: &str, address: SocketAddr) -> Result<(), BenchError> {
    let before = resident_kib()?;
    let delivery = Arc::new(delivery(count, address)?);
    probe_until(&delivery, InstanceState::Ready).await;
    let connections = Connections::default();
    // The first request to an instance mints its callback URI.
    for at in 0..count {
        let owner = owner(at)?;
        finish(delivery.forward(&connections, &outbound("a-call"), owner.as_ref()).await?).await?;
    }
    let (mut place, mut forward) = (Times::new(), Times::new());
    let mut calls = 0_u64;
    for batch in 0..=BATCHES {
        let started = processor_time()?;
        for _ in 0..BATCH {
            calls += 1;
            let call_id = format!("491f0b00-6aee-11ef-a87f-{calls:012x}");
            let key = AffinityKey::of(&call_id);
            let limits = PlacementLimits { budget: Duration::from_secs(12), outcome_unknown_max: 3 };
            let response = delivery.place(&connections, &outbound(&call_id), key, limits).await?;
            finish(response).await?;
        }
        // The first batch warms up.
        if batch > 0 {
            place.add(processor_time()?.saturating_sub(started));
        }
        let owners = (0..u64::from(BATCH)).map(|nth| owner(usize::try_from(nth * 7919).unwrap_or(0) % count));
        let owners = owners.collect::<Result<Vec<_>, _>>()?;
        let started = processor_time()?;
        for owner in &owners {
            let response = delivery.forward(&connections, &outbound("a-call"), owner.as_ref()).await?;
            finish(response).await?;
        }
        if batch > 0 {
            forward.add(processor_time()?.saturating_sub(started));
        }
    }
    place.report(&format!("{fleet}: a new call"));
    forward.report(&format!("{fleet}: a callback"));
    say(&format!("{fleet}: {} KiB more in memory", resident_kib()?.saturating_sub(before)));
    Ok(())
}

async fn finish(response: UpstreamResponse) -> Result<(), BenchError> {
    if response.attempts > 1 {
        return Err("an instance failed".into());
    }
    response.body.collect().await?;
    Ok(())
}

fn delivery(count: usize, address: SocketAddr) -> Result<Delivery, BenchError> {
    let keys = vec![SealKey::new("k1", &[7; 32])?];
    let base = Url::parse("https://emea.bots.contoso.com")?;
    let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", keys)?);
    let instance = |at| -> Result<_, BenchError> {
        Ok(InstanceSettings {
            name: name(at)?,
            url: UpstreamUrl::parse(&format!("http://{address}/api/calls"))?,
            callback_url: None,
            apps: None,
            weight: 1,
        })
    };
    let settings = DeliverySettings {
        region: Name::parse("emea")?,
        instances: (0..count).map(instance).collect::<Result<_, _>>()?,
        discovery: None,
        store: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::from_secs(24 * 3600),
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe: Some(ProbeSettings {
            path: "/healthz".into(),
            interval: Duration::from_secs(20),
            is_forwarded: false,
        }),
        attempt: Duration::from_secs(3),
        waiting_max: 100,
        eject_share: 0.5,
        patience: Duration::from_secs(8),
        in_flight_per_instance: 100,
        orphaned: Orphaned::Refuse,
        authorization: true,
    };
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client())?)?;
    Ok(Delivery::new(settings, uris, tls))
}

fn outbound(call_id: &str) -> Outbound {
    Outbound {
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"{\"value\":[]}"),
        app: Uuid::from_u128(1),
        tenant: Uuid::from_u128(2),
        call_id: Some(call_id.into()),
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: None,
    }
}

fn owner(at: usize) -> Result<Owner, BenchError> {
    Ok(Owner { region: Name::parse("emea")?, instance: name(at)?, incarnation: Name::parse("0")? })
}

fn name(at: usize) -> Result<Name, BenchError> {
    Ok(Name::parse(&format!("bot-{at}"))?)
}

/// Accepts all requests, and responds to probes with each of `reports` in turn.
fn listen(reports: &'static [&str]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let turn = Arc::new(AtomicU64::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let turn = Arc::clone(&turn);
            thread::spawn(move || serve(&stream, reports, &turn));
        }
    });
    Ok(address)
}

fn serve(stream: &TcpStream, reports: &[&str], turn: &AtomicU64) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let (mut line, mut probe, mut length) = (String::new(), false, 0);
        while reader.read_line(&mut line).ok()? > 2 {
            let field = line.to_ascii_lowercase();
            probe |= field.starts_with("get ");
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            line.clear();
        }
        if line.is_empty() {
            return None;
        }
        io::copy(&mut io::Read::take(&mut reader, length), &mut io::sink()).ok()?;
        let response = if probe {
            let turn = usize::try_from(turn.fetch_add(1, Ordering::Relaxed)).ok()?;
            let report = reports.get(turn % reports.len())?;
            format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{report}",
                report.len()
            )
        } else {
            "HTTP/1.1 202 Accepted\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n".to_owned()
        };
        writer.write_all(response.as_bytes()).ok()?;
        if probe {
            return None;
        }
    }
}

/// The processor time of this thread.
fn processor_time() -> Result<Duration, BenchError> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn resident_kib() -> Result<u64, BenchError> {
    let text = fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).unwrap_or_default().parse()?;
    Ok(pages * 4)
}

/// The times of one operation, in batches. The least is its cost; the median shows how busy the machine is.
struct Times(Vec<Duration>);

impl Times {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, batch: Duration) {
        self.0.push(batch / BATCH);
    }

    fn report(mut self, name: &str) {
        self.0.sort_unstable();
        let nanos = |at: usize| self.0.get(at).map_or(0, Duration::as_nanos);
        say(&format!("{name:55} least {:>7} ns, median {:>7} ns", nanos(0), nanos(self.0.len() / 2)));
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its results")]
fn say(line: &str) {
    println!("{line}");
}

const NO_LOAD: &[&str] = &["{}"];
const THIRD_FULL: &[&str] = &[r#"{"calls":100000,"capacity":300000}"#];
const CROWDED: &[&str] =
    &[r#"{"calls":500000,"capacity":1000000}"#, r#"{"calls":900000,"capacity":1000000}"#];
const FULL: &[&str] = &[r#"{"state":"full"}"#];
const BATCHES: u32 = 30;
const BATCH: u32 = 500;
