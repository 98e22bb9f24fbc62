//! The tasks that probe a fleet: they do not delay each other, and they survive a panic.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Mutex,
};

use openssl::ssl::{SslConnector, SslMethod};
use switchboard_routing::{CallbackUris, SealKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use url::Url;

use super::*;
use crate::TlsClient;
use crate::{
    DeliverySettings, Fill, InstanceSettings, InstanceState, Orphaned, UpstreamUrl, simulation::Wires,
};

const INTERVAL: Duration = Duration::from_secs(5);

fn address(at: u16) -> SocketAddr {
    let [high, low] = at.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 3978)
}

/// A delivery to `count` instances, `bot-0` at `address(0)` and so on.
fn delivery(count: u16, wires: &Arc<Wires>) -> Arc<Delivery> {
    let instance = |at| InstanceSettings {
        name: Name::parse(&format!("bot-{at}")).unwrap(),
        url: UpstreamUrl::parse(&format!("http://{}/api/calls", address(at))).unwrap(),
        callback_url: None,
        apps: None,
        weight: 1,
    };
    let settings = DeliverySettings {
        region: Name::parse("emea").unwrap(),
        instances: (0..count).map(instance).collect(),
        discovery: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::ZERO,
        slow_start: Duration::ZERO,
        fill: Fill::Spread,
        probe: Some(ProbeSettings { path: "/healthz".into(), interval: INTERVAL, is_forwarded: false }),
        attempt: Duration::from_secs(3),
        eject_share: 0.5,
        waiting_max: 100,
        in_flight_per_instance: 100,
        store: None,
        patience: Duration::from_secs(8),
        orphaned: Orphaned::Refuse,
        authorization: true,
    };
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap();
    let mut delivery = Delivery::new(settings, uris, tls);
    delivery.connector = delivery.connector.simulated(Arc::clone(wires));
    Arc::new(delivery)
}

/// Responds to all probes at an address. Returns their times.
fn respond(wires: &Wires, address: SocketAddr) -> Arc<Mutex<Vec<Instant>>> {
    let mut accepted = wires.listen(address);
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    tokio::spawn(async move {
        while let Some((_, mut stream)) = accepted.recv().await {
            seen.lock().unwrap().push(Instant::now());
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    times
}

#[tokio::test(start_paused = true)]
async fn instances_that_hang_do_not_delay_the_probes_of_others() {
    const HANGING: u16 = 2000;
    let wires = Arc::new(Wires::default());
    // They accept connections and never respond.
    let hanging: Vec<_> = (1..=HANGING).map(|at| wires.listen(address(at))).collect();
    let times = respond(&wires, address(0));
    let running = tokio::spawn(delivery(HANGING + 1, &wires).run());
    // In the first round nothing is known about any instance. With 256 at once, half an interval each, it
    // takes 20 s.
    sleep(Duration::from_secs(30)).await;
    let start = Instant::now();
    sleep(Duration::from_secs(120)).await;
    running.abort();
    let times: Vec<_> = times.lock().unwrap().iter().copied().filter(|at| *at >= start).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest <= INTERVAL + Duration::from_millis(10), "{longest:?}");
    assert!(times.len() >= 23, "{}", times.len());
    drop(hanging);
}

#[tokio::test(start_paused = true)]
async fn a_probe_task_that_panics_is_restarted() {
    let wires = Arc::new(Wires::default());
    let times = [respond(&wires, address(0)), respond(&wires, address(1))];
    let delivery = delivery(2, &wires);
    let running = tokio::spawn(Arc::clone(&delivery).run());
    sleep(INTERVAL * 3).await;
    wires.panic_once(address(0));
    sleep(INTERVAL * 10).await;
    running.abort();
    for times in times {
        let times = times.lock().unwrap();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest <= INTERVAL * 2 + Duration::from_millis(10), "{longest:?}");
        assert!(times.len() >= 11, "{}", times.len());
    }
    assert!(delivery.instances().iter().all(|one| one.state == InstanceState::Ready));
}
