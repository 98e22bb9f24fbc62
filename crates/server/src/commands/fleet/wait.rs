//! `drain --wait`: waits until the last call of an instance has ended.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    client::{AdminClient, FleetError},
    instance::{FleetInstance, duration},
};

/// Polls a drained instance until it is empty. Returns the instance, and the fleet as the gateway wrote it.
pub(super) async fn until_empty(
    client: &AdminClient<'_>,
    drained: FleetInstance,
) -> Result<(FleetInstance, Bytes), FleetError> {
    let name = drained.name;
    let began = Instant::now();
    let mut progress = Progress::new();
    let mut misses = 0;
    loop {
        sleep(INTERVAL).await;
        let since_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match client.fleet().await {
            // The gateway may reload, or fail for a moment. The wait may take hours, as calls do.
            Err(FleetError::Unreachable { .. }) if misses < MISSES_MAX => misses += 1,
            Err(error) => {
                progress.end();
                return Err(error);
            }
            Ok((fleet, body)) => {
                misses = 0;
                let instance = fleet.into_iter().find(|instance| instance.name == name);
                match judge(&name, instance.as_ref(), since_ms) {
                    Ok(false) => {
                        progress.show(&name, instance.as_ref(), since_ms);
                        continue;
                    }
                    Ok(true) => {
                        progress.end();
                        return Ok((instance.unwrap_or_default(), body));
                    }
                    Err(error) => {
                        progress.end();
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Returns true if the instance drains and has been empty since a report after the start of the drain.
pub(super) fn is_empty(instance: &FleetInstance) -> bool {
    judge(&instance.name, Some(instance), instance.since_ms).is_ok_and(|is_empty| is_empty)
}

/// Returns true if the instance is empty, `since_ms` after it was drained.
pub(super) fn judge(name: &str, instance: Option<&FleetInstance>, since_ms: u64) -> Result<bool, FleetError> {
    let Some(instance) = instance else { return Err(FleetError::Left { instance: name.to_owned() }) };
    if instance.state != DRAINING {
        return Err(FleetError::Resumed { instance: name.to_owned() });
    }
    match instance.calls {
        // The calls that this gateway placed have ended. Whether there are others, the gateway cannot know.
        None if instance.calls_counted == 0 && instance.in_flight == 0 && since_ms >= NO_COUNT_MS_MAX => {
            Err(FleetError::NoCallCount { instance: name.to_owned() })
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

    fn show(&mut self, name: &str, instance: Option<&FleetInstance>, since_ms: u64) {
        let Some(instance) = instance else { return };
        let silent = match instance.last_probe_ms {
            Some(ago_ms) if ago_ms >= SILENT_MS_MIN => ", and it does not respond to its probes",
            Some(_) | None => "",
        };
        let text = format!("{name}: {}{silent}", instance.workload());
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
