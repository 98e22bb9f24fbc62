//! `drain --wait`: waits until the last call of an instance has ended.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use bytes::Bytes;
use http::Method;
use tokio::time::{Instant, sleep};

use super::{
    instance::{FleetInstance, duration},
    merged::merge,
    report::FleetError,
};
use crate::commands::gateways::{AskError, Gateways, RESPONSE_TIME};

/// Polls a drained instance until it is empty at all gateways. Returns its last responses: the fleet of each
/// gateway, also as the gateway wrote it.
pub(super) async fn until_empty(
    gateways: &Gateways,
    name: &str,
) -> Result<Vec<(Vec<FleetInstance>, Bytes)>, FleetError> {
    let began = Instant::now();
    let mut progress = Progress::new();
    let mut misses = 0;
    loop {
        sleep(INTERVAL).await;
        let since_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let responses = gateways.ask_json(&Method::GET, "/fleet", RESPONSE_TIME).await;
        let responses: Vec<(Vec<FleetInstance>, Bytes)> = match responses.into_iter().collect() {
            Ok(responses) => responses,
            // A gateway may reload, or fail for a moment. The wait may take hours, as calls do.
            Err(AskError::Unreachable { .. }) if misses < MISSES_MAX => {
                misses += 1;
                continue;
            }
            Err(error) => {
                progress.end();
                return Err(error.into());
            }
        };
        misses = 0;
        let seen: Vec<_> = responses
            .iter()
            .map(|(fleet, _)| fleet.iter().find(|instance| instance.name == name).cloned())
            .collect();
        let verdicts = gateways.iter().zip(&seen).map(|(gateway, instance)| {
            let gateway = (!gateways.is_one()).then(|| gateway.name());
            judge(name, instance.as_ref(), since_ms, gateway)
        });
        match all_empty(verdicts) {
            Ok(true) => {
                progress.end();
                return Ok(responses);
            }
            Ok(false) => progress.show(name, seen, since_ms),
            Err(error) => {
                progress.end();
                return Err(error);
            }
        }
    }
}

/// Returns true if the instance drains and has been empty since a report after the start of the drain.
pub(super) fn is_empty(instance: &FleetInstance) -> bool {
    judge(&instance.name, Some(instance), instance.since_ms, None).is_ok_and(|is_empty| is_empty)
}

/// Returns true if the instance is empty at all gateways. A gateway that cannot know it fails the wait only
/// if no other one still counts calls.
pub(super) fn all_empty(
    verdicts: impl IntoIterator<Item = Result<bool, FleetError>>,
) -> Result<bool, FleetError> {
    let (mut is_empty, mut unknown) = (true, None);
    for verdict in verdicts {
        match verdict {
            Ok(empty) => is_empty &= empty,
            Err(error @ FleetError::NoCallCount { .. }) => unknown = Some(error),
            Err(error) => return Err(error),
        }
    }
    match unknown {
        Some(error) if is_empty => Err(error),
        Some(_) => Ok(false),
        None => Ok(is_empty),
    }
}

/// Returns true if the instance is empty, `since_ms` after it was drained. `gateway` is named in errors.
pub(super) fn judge(
    name: &str,
    instance: Option<&FleetInstance>,
    since_ms: u64,
    gateway: Option<&str>,
) -> Result<bool, FleetError> {
    let instance_name = || match gateway {
        Some(gateway) => format!("{gateway}: {name}"),
        None => name.to_owned(),
    };
    let Some(instance) = instance else { return Err(FleetError::Left { instance: instance_name() }) };
    if instance.state != DRAINING {
        return Err(FleetError::Resumed { instance: instance_name() });
    }
    match instance.calls {
        // The calls that this gateway placed have ended. Whether there are others, the gateway cannot know.
        None if instance.calls_counted == 0 && instance.in_flight == 0 && since_ms >= NO_COUNT_MS_MAX => {
            Err(FleetError::NoCallCount { instance: instance_name() })
        }
        None => Ok(false),
        // A report from before the drain may lack a call that was placed at the same moment.
        Some(calls) => {
            let is_fresh = instance.last_probe_ms.is_none_or(|ago_ms| ago_ms <= since_ms);
            let is_idle = instance.calls_now() == Some(0) && instance.in_flight == 0;
            Ok(calls == 0 && is_idle && is_fresh)
        }
    }
}

/// The progress: one line that changes on a terminal, elsewhere one line for each change.
struct Progress {
    on_terminal: bool,
    shown: String,
}

impl Progress {
    fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), shown: String::new() }
    }

    /// `seen` is the instance at each gateway.
    fn show(&mut self, name: &str, seen: Vec<Option<FleetInstance>>, since_ms: u64) {
        let gateways = seen.len();
        let at = seen.into_iter().flatten().map(|instance| {
            // Another incarnation has the same name, and calls of its own.
            FleetInstance { incarnation: String::new(), ..instance }
        });
        let fleets = at.enumerate().map(|(index, instance)| (index, vec![instance])).collect();
        let merged = merge(fleets, &|_| String::new());
        let Some(instance) = merged.first().map(|merged| &merged.total) else { return };
        let silent = match instance.last_probe_ms {
            Some(ago_ms) if ago_ms >= SILENT_MS_MIN => ", and it does not respond to its probes",
            Some(_) | None => "",
        };
        let text = format!("{name}: {}{silent}", instance.workload(gateways));
        // If stderr is closed, the progress cannot be shown.
        if self.on_terminal {
            let _ = write!(io::stderr(), "\r\x1b[K{text}, for {}", duration(since_ms));
            let _ = io::stderr().flush();
        } else if text != self.shown {
            let _ = writeln!(io::stderr(), "{text}");
        }
        self.shown = text;
    }

    fn end(&self) {
        if self.on_terminal && !self.shown.is_empty() {
            let _ = writeln!(io::stderr());
        }
    }
}

pub(super) const DRAINING: &str = "draining";
const INTERVAL: Duration = Duration::from_secs(1);
/// The number of failed polls in a row: half a minute is longer than a reload takes.
const MISSES_MAX: u32 = 30;
/// The time that an instance has for its first report: three probes of the default interval.
const NO_COUNT_MS_MAX: u64 = 15_000;
/// The age of the last report from which the instance counts as silent: it has missed several probes.
const SILENT_MS_MIN: u64 = 30_000;
