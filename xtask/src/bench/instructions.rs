//! Counts the instructions of a gateway per request.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    callgrind::Callgrind,
    client::Client,
    gateway::{self, Settings},
    groups::{GROUPS, by_group},
    machine,
    origin::Origin,
    traffic::{Mode, Traffic},
};
use crate::support::{instant, pause, process::Processes};

/// The instructions per request of one mode, in user space and in all threads.
#[derive(Debug)]
pub(super) struct Count {
    pub(super) mode: Mode,
    pub(super) instructions: u64,
    /// The part of each group, in the order of `GROUPS`.
    pub(super) groups: Vec<u64>,
}

/// Runs the gateway under callgrind, with one worker, and counts each mode.
///
/// The connections are kept alive. The instructions without requests are counted first, and subtracted in
/// proportion to the time, so that a slow machine does not add to the counts.
pub(super) fn count(binary: &Path) -> Result<Vec<Count>, String> {
    let mut processes = Processes::new("bench")?;
    let origin = Origin::start()?;
    let settings = Settings { issuer: origin.address, bot: origin.address, instances: INSTANCES, tls: false };
    let settings = gateway::write_settings(processes.folder(), GATEWAY, settings)?;
    let mut traffic = Traffic::new(&gateway::callback_path(binary, &settings)?);
    let mut command = Callgrind::command(processes.folder(), machine::first_processor()?, binary);
    let gateway = gateway::start(&mut processes, GATEWAY, &mut command, &settings)?;
    let mut callgrind = Callgrind::of(&processes, GATEWAY)?;
    let mut client = Client::connect(gateway.public, CONNECTIONS)?;

    callgrind.start_counting()?;
    for mode in MODES {
        client.send(&mut traffic, mode, WARM_UP)?;
    }
    let idle = idle_per_second(&mut callgrind)?;
    let mut counts = Vec::new();
    for mode in MODES {
        client.send(&mut traffic, mode, WARM_UP)?;
        callgrind.take()?;
        let started = instant();
        client.send(&mut traffic, mode, REQUESTS)?;
        // The thread of the log writes its last lines.
        pause(SETTLE);
        let profile = callgrind.take()?;
        let idle = idle * started.elapsed().as_secs_f64();
        let per_request = |instructions: f64| whole(instructions / number(REQUESTS));
        let groups = by_group(&profile);
        counts.push(Count {
            mode,
            instructions: per_request(profile.total_instructions() - idle),
            groups: GROUPS
                .iter()
                .map(|group| per_request(groups.get(group).copied().unwrap_or(0.0)))
                .collect(),
        });
        processes.check_running()?;
    }
    Ok(counts)
}

/// The instructions of the gateway in a second without requests.
fn idle_per_second(callgrind: &mut Callgrind) -> Result<f64, String> {
    pause(SETTLE);
    callgrind.take()?;
    let started = instant();
    pause(IDLE);
    let profile = callgrind.take()?;
    Ok(profile.total_instructions() / started.elapsed().as_secs_f64())
}

/// The table of the counts, a column for each mode.
pub(super) fn table(counts: &[Count]) -> Vec<String> {
    let row = |name: &str, values: &mut dyn Iterator<Item = String>| {
        values.fold(format!("{name:<30}"), |line, value| format!("{line}{value:>12}"))
    };
    let mut lines =
        vec![row("instructions per request", &mut counts.iter().map(|count| count.mode.name().to_owned()))];
    for (index, group) in GROUPS.iter().enumerate() {
        let values = counts.iter().map(|count| count.groups.get(index).copied().unwrap_or(0).to_string());
        lines.push(row(group, &mut { values }));
    }
    lines.push(row("in all", &mut counts.iter().map(|count| count.instructions.to_string())));
    lines
}

/// The counts as JSON.
pub(super) fn json(environment: &str, counts: &[Count]) -> Value {
    let modes: serde_json::Map<String, Value> = counts
        .iter()
        .map(|count| {
            let groups: serde_json::Map<String, Value> = GROUPS
                .iter()
                .zip(&count.groups)
                .map(|(group, instructions)| ((*group).to_owned(), json!(instructions)))
                .collect();
            let value = json!({ "instructions": count.instructions, "groups": groups });
            (count.mode.name().to_owned(), value)
        })
        .collect();
    json!({ "environment": environment, "modes": modes })
}

#[expect(clippy::as_conversions, reason = "a count of requests is far below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates; a count is no negative number"
)]
fn whole(instructions: f64) -> u64 {
    instructions.round() as u64
}

/// The modes that have a budget.
const MODES: [Mode; 4] = [Mode::Callback, Mode::Legacy, Mode::Redirect, Mode::NewCall];
const GATEWAY: &str = "gateway";
/// A fleet of a usual size.
const INSTANCES: usize = 100;
const CONNECTIONS: usize = 16;
const WARM_UP: usize = 320;
const REQUESTS: usize = 3_200;
const IDLE: Duration = Duration::from_secs(3);
/// The log is written several times a second.
const SETTLE: Duration = Duration::from_millis(700);
