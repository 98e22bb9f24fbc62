//! A deterministic simulation of a fleet: the code of this crate over in-memory streams, in virtual time.
//!
//! A seed decides everything: the bots, the faults, the arrivals. A seed that breaks a rule is printed; it
//! belongs into [`REGRESSIONS`]. To run other seeds than those of the gate:
//!
//! ```text
//! SWITCHBOARD_SEEDS=1000..5000 cargo test --release -p switchboard-delivery --lib -- --ignored environment
//! ```

mod bot;
mod faults;
mod ledger;
mod platform;
mod wires;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use openssl::ssl::{SslConnector, SslMethod};
use switchboard_routing::{CallbackUris, Name, SealKey};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use url::Url;

pub(crate) use self::wires::Wires;
use self::{
    bot::Bot,
    ledger::{Counts, Ledger},
    platform::Platform,
};
use crate::{Connections, Delivery, DeliverySettings, Fill, Orphaned, ProbeSettings, TlsClient};

/// A gateway of a run.
struct Gateway {
    delivery: Arc<Delivery>,
    connections: Connections,
}

impl Gateway {
    fn region(&self) -> Name {
        self.delivery.settings.region.clone()
    }

    fn status(&self, instance: &Name) -> String {
        let status = self.delivery.instances().into_iter().find(|status| status.name == *instance);
        status.map_or_else(String::new, |status| format!("{} ({})", status.state, status.reason))
    }
}

/// The result of a run.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    violations: Vec<String>,
    counts: Counts,
    events: u64,
}

/// Runs a seed.
fn run(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(simulate(seed))
}

async fn simulate(seed: u64) -> Outcome {
    let mut random = fastrand::Rng::with_seed(seed);
    let (wires, ledger) = (Wires::default(), Arc::new(Mutex::new(Ledger::default())));
    let capacity = random.bool().then(|| random.u32(6..60));
    let bots = (0..random.usize(1..7)).map(|at| Bot::new(at, capacity, random.u64(..), &wires, &ledger));
    let bots = Arc::new(bots.collect::<Vec<_>>());
    let interval = random.bool().then(|| Duration::from_millis(random.u64(500..3000)));
    let fill = if random.bool() { Fill::Pack { share: 0.8 } } else { Fill::Spread };
    let gateways = (0..random.usize(1..4))
        .map(|number| gateway(interval, fill, wires.of_gateway(number)))
        .collect::<Vec<_>>();
    let end = Instant::now() + RUN_TIME;
    let mut tasks = JoinSet::new();
    for gateway in &gateways {
        gateway.delivery.apply_members(bots.iter().map(|bot| faults::member(bot)).collect());
        tasks.spawn(Arc::clone(&gateway.delivery).run());
        tasks.spawn(faults::read_source(Arc::clone(gateway), Arc::clone(&bots), random.fork(), end));
    }
    let faults = faults::misbehave(Arc::clone(&bots), random.fork(), end);
    tasks.spawn(faults);
    let known_after = Duration::from_secs(2) + 4 * interval.unwrap_or_default();
    let platform = Platform { gateways, bots, ledger: Arc::clone(&ledger), known_after };
    let platform = Arc::new(platform);
    let mut calls = JoinSet::new();
    tasks.spawn(Arc::clone(&platform).watch_estimates());
    let per_second = random.u64(1..8);
    while Instant::now() < end {
        let pause = random.u64(0..2 * 1000 / per_second);
        sleep(Duration::from_millis(pause)).await;
        calls.spawn(Arc::clone(&platform).call(calls.len(), random.fork()));
    }
    calls.join_all().await;
    sleep_until(end + QUIET).await;
    platform.check_end();
    drop(tasks);
    let ledger = ledger.lock().unwrap();
    Outcome { violations: ledger.violations.clone(), counts: ledger.counts, events: ledger.hash() }
}

fn gateway(interval: Option<Duration>, fill: Fill, wires: Wires) -> Arc<Gateway> {
    let settings = DeliverySettings {
        region: Name::parse("emea").unwrap(),
        instances: Vec::new(),
        discovery: None,
        name_servers: Vec::new(),
        keep_leaving: Duration::from_secs(3600),
        slow_start: Duration::ZERO,
        fill,
        probe: interval.map(|interval| ProbeSettings {
            path: "/healthz".into(),
            interval,
            is_forwarded: false,
        }),
        attempt: Duration::from_secs(3),
        eject_share: 0.5,
        patience: Duration::from_secs(8),
        in_flight_per_instance: 100,
        orphaned: Orphaned::Refuse,
        authorization: true,
        waiting_max: 100,
        store: None,
    };
    let key = SealKey::new("k1", &[7; 32]).unwrap();
    let base = Url::parse("https://emea.bots.contoso.com").unwrap();
    let uris = Arc::new(CallbackUris::new(&base, "/api/callbacks", vec![key]).unwrap());
    let tls = TlsClient::new(SslConnector::builder(SslMethod::tls_client()).unwrap()).unwrap();
    let mut delivery = Delivery::new(settings, uris, tls);
    delivery.connector = delivery.connector.simulated(Arc::new(wires));
    Arc::new(Gateway { delivery: Arc::new(delivery), connections: Connections::default() })
}

/// The time in which calls arrive and bots misbehave.
const RUN_TIME: Duration = Duration::from_secs(40);
/// The time after it until all is settled: the longest ejection and a few probes.
const QUIET: Duration = Duration::from_secs(90);
/// Broken rules that are printed.
const SHOWN_MAX: usize = 40;
/// Seeds that broke a rule once.
const REGRESSIONS: &[u64] = &[];
/// The number of seeds of the gate.
const SEEDS: u64 = 200;

#[track_caller]
fn check(seeds: impl IntoIterator<Item = u64>) {
    let mut total = Counts::default();
    let mut broken = Vec::new();
    for seed in seeds {
        let Outcome { violations, counts, .. } = run(seed);
        total += counts;
        broken.extend(violations.into_iter().map(|rule| format!("seed {seed}: {rule}")));
    }
    // The most telling rules first: a refusal is often the consequence of another fault.
    broken.sort_by_key(|rule| rule.contains("refused"));
    let (count, shown) = (broken.len(), broken.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>());
    assert!(broken.is_empty(), "{total:?}\n{count} rules are broken:\n{}", shown.join("\n"));
}

#[test]
fn the_rules_hold_for_seeds_that_broke_them_once() {
    check(REGRESSIONS.iter().copied());
}

/// The seeds of the gate, in parts that run side by side.
fn part(number: u64) -> Range<u64> {
    let size = SEEDS / 4;
    number * size..(number + 1) * size
}

#[test]
fn the_rules_hold_for_the_first_part_of_the_seeds() {
    check(part(0));
}

#[test]
fn the_rules_hold_for_the_second_part_of_the_seeds() {
    check(part(1));
}

#[test]
fn the_rules_hold_for_the_third_part_of_the_seeds() {
    check(part(2));
}

#[test]
fn the_rules_hold_for_the_fourth_part_of_the_seeds() {
    check(part(3));
}

#[test]
#[ignore = "for a run by hand: SWITCHBOARD_SEEDS says which seeds"]
fn the_rules_hold_for_the_seeds_of_the_environment() {
    let text = std::env::var("SWITCHBOARD_SEEDS").expect("SWITCHBOARD_SEEDS is set");
    let (start, end) = text.split_once("..").expect("SWITCHBOARD_SEEDS is like 1000..5000");
    check(start.parse().unwrap()..end.parse().unwrap());
}

#[test]
fn a_seed_gives_the_same_run_each_time() {
    for seed in 0..5 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
