//! Ten thousand unauthenticated senders that each send one wrong request and stay. The platform's calls must
//! go on, and take no more than twice the time.

use std::{
    collections::VecDeque,
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    load::{self, Load},
    metrics::Metrics,
};
use crate::{
    console::say,
    support::{
        binaries::Binaries,
        instant, pause,
        screen::{Screen, time},
    },
};

/// Runs the load without and with the senders, and returns the violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen) -> Result<Vec<String>, String> {
    say(&screen.title("Slots: unauthenticated senders that stay"));
    let mut testbed = load::calm_testbed(binaries)?;
    let calm = load::place_and_sum(&mut testbed, &PLAN)?;
    let gateway = testbed.gateways.first().ok_or("no gateway")?;
    let (public, admin) = (gateway.public, gateway.admin);
    let senders = Senders::start(public);
    // Until all slots are in use.
    let started = instant();
    while senders.sent.load(Relaxed) < SENDERS && started.elapsed() < FILL_TIME_MAX {
        pause(Duration::from_millis(50));
    }
    let crowded = load::place_and_sum(&mut testbed, &PLAN)?;
    let sent = senders.stop();
    let metrics = Metrics::read(admin)?;
    let ratio = crowded.p99_ms / calm.p99_ms.max(f64::MIN_POSITIVE);
    let row = |name: &str, value: String| say(&format!("  {name:<44} {value:>10}"));
    row("wrong requests, each on its own connection", sent.to_string());
    row("time to answer, 99th percentile, calm", time(calm.p99_ms));
    row("time to answer, 99th percentile, with senders", time(crowded.p99_ms));
    row("ratio", format!("{ratio:.2}"));
    let refused = metrics.sum("switchboard_connections_refused_total", &[]);
    row("connections evicted", metrics.sum("switchboard_connections_evicted_total", &[]).to_string());
    row("connections refused", refused.to_string());
    let mut violations = load::judge(&PLAN, &calm, 0);
    violations.extend(load::judge(&PLAN, &crowded, 0));
    if sent < SENDERS {
        violations.push(format!("only {sent} senders, which prove nothing"));
    }
    if refused > 0.0 {
        violations.push(format!("{refused} connections were refused, perhaps some of the platform"));
    }
    if ratio > RATIO_MAX {
        violations.push(format!("the 99th percentile is {ratio:.2} times the calm one"));
    }
    Ok(violations.into_iter().map(|text| format!("slots: {text}")).collect())
}

/// A thread that connects again and again, and keeps the latest connections.
struct Senders {
    sent: Arc<AtomicUsize>,
    stops: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Senders {
    fn start(to: SocketAddr) -> Self {
        let (sent, stops) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&sent), Arc::clone(&stops));
        let thread = std::thread::spawn(move || {
            let mut held = VecDeque::new();
            while !stopped.load(Relaxed) {
                if count.load(Relaxed) >= SENDERS {
                    pause(PAUSE);
                }
                if held.len() >= SENDERS {
                    held.pop_front();
                }
                match TcpStream::connect(to) {
                    Ok(stream) if (&stream).write_all(WRONG).is_ok() => {
                        held.push_back(stream);
                        count.fetch_add(1, Relaxed);
                    }
                    // Without more descriptors, the oldest connection ends.
                    Ok(_) | Err(_) => drop(held.pop_front()),
                }
            }
        });
        Self { sent, stops, thread }
    }

    /// Ends all connections. Returns the number of requests that were sent.
    fn stop(self) -> usize {
        self.stops.store(true, Relaxed);
        let _ = self.thread.join();
        self.sent.load(Relaxed)
    }
}

const PLAN: Load = Load { about: "1,000 calls at 100 per second", calls: 1_000, rate: 100, storm: false };
const SENDERS: usize = 10_000;
/// Once all have come, they come back at 500 a second, four times what would hold all slots for 75 s.
const PAUSE: Duration = Duration::from_millis(2);
const FILL_TIME_MAX: Duration = Duration::from_secs(30);
const RATIO_MAX: f64 = 2.0;
const WRONG: &[u8] = b"GET /nowhere HTTP/1.1\r\nHost: emea.bots.example\r\n\r\n";
