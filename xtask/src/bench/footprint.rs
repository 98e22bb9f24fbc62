//! The memory of an idle gateway, and the time of its start and of a reload.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use super::{
    gateway::{self, Settings},
    resources,
    subjects::{Plan, Subjects},
    traffic::{Mode, Traffic},
};
use crate::support::{http, instant, pause, process::START_TIME_MAX};

/// The figures of gateways of one fleet size, with or without TLS.
#[derive(Clone, Copy, Debug)]
pub(super) struct Footprint {
    pub(super) instances: usize,
    pub(super) tls: bool,
    /// From the start of the process until `/readyz` responds with 200.
    pub(super) start: Duration,
    /// From SIGHUP until the reload is counted.
    pub(super) reload: Duration,
    /// Resident memory with no connection, and with `CONNECTIONS`; the latter is measured with a small fleet.
    pub(super) memory_kib: u64,
    pub(super) connected_kib: Option<u64>,
}

/// Starts gateways of their own, which have served nothing.
pub(super) fn measure(subjects: &mut Subjects, plan: &Plan, rounds: usize) -> Result<Vec<Footprint>, String> {
    let mut footprints = Vec::new();
    for (instances, tls) in [(1, false), (1, true), (100, false), (10_000, false)] {
        let mut all = Vec::new();
        for round in 0..rounds {
            all.push(one(subjects, plan, instances, tls, round)?);
        }
        let median = |value: &dyn Fn(&Footprint) -> Duration| {
            let mut values: Vec<_> = all.iter().map(value).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or_default()
        };
        let (start, reload) = (median(&|one| one.start), median(&|one| one.reload));
        footprints.extend(all.first().map(|first| Footprint { start, reload, ..*first }));
    }
    Ok(footprints)
}

fn one(
    subjects: &mut Subjects,
    plan: &Plan,
    instances: usize,
    tls: bool,
    round: usize,
) -> Result<Footprint, String> {
    let name = format!("footprint-{instances}-{tls}-{round}");
    let settings = Settings { issuer: subjects.issuer.address, bot: subjects.upstream, instances, tls };
    let settings = gateway::write_settings(subjects.processes.folder(), &name, settings)?;
    let processes = &mut subjects.processes;
    let started = instant();
    let gateway = gateway::start(processes, &name, &mut plan.measured(&plan.gateway), &settings)?;
    let start = started.elapsed();
    let process = processes.id(&name)?;
    pause(SETTLE);
    let memory_kib = resources::memory_kib(process);
    let connected_kib = match (instances, round) {
        (1, 0) => Some(connected(subjects, plan, gateway.public, tls, process)?),
        _ => None,
    };
    let processes = &mut subjects.processes;
    let started = instant();
    processes.signal(&name, "HUP")?;
    loop {
        let (_, metrics) = http::get(gateway.admin, "/metrics")?;
        if metrics.contains(RELOADED) {
            break;
        }
        if started.elapsed() > START_TIME_MAX {
            return Err(format!("no reload:\n{}", processes.last_lines(&name)));
        }
        pause(Duration::from_millis(1));
    }
    let reload = started.elapsed();
    processes.kill(&name)?;
    Ok(Footprint { instances, tls, start, reload, memory_kib, connected_kib })
}

/// The memory with `CONNECTIONS` idle connections, each of which has sent one request.
fn connected(
    subjects: &Subjects,
    plan: &Plan,
    address: std::net::SocketAddr,
    tls: bool,
    process: u32,
) -> Result<u64, String> {
    let request = Traffic::new("").request(Mode::Legacy);
    let file = subjects.processes.folder().join("request");
    fs::write(&file, &request).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut hold = plan.other(&plan.tool);
    hold.args(["hold", "--to", &address.to_string(), "--connections", &CONNECTIONS.to_string()]);
    hold.arg("--requests").arg(&file).args(["--length", &request.len().to_string()]);
    hold.args(["--first-message", "0"]);
    if tls {
        hold.args(["--tls", "full"]);
    }
    // It ends when its input closes, also if this process dies.
    let mut child = hold
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot hold connections: {error}"))?;
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    }
    pause(SETTLE);
    let memory = resources::memory_kib(process);
    drop(child.stdin.take());
    let ended = child.wait().map_err(|error| error.to_string())?;
    if !ended.success() || line.is_empty() {
        return Err("cannot hold the connections".to_owned());
    }
    Ok(memory)
}

/// The idle connections.
pub(super) const CONNECTIONS: u64 = 10_000;
const RELOADED: &str = "switchboard_config_reloads_total{result=\"ok\"} 1";
const SETTLE: Duration = Duration::from_secs(1);
