//! `drain --wait`: until the last call of an instance has ended.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{Desk, Instance, Trouble, table::duration};

/// Looks at a drained instance until it is empty; the instance as it was then, and the fleet's own words.
pub(super) async fn until_empty(desk: &Desk<'_>, drained: Instance) -> Result<(Instance, Bytes), Trouble> {
    let name = drained.name;
    let began = Instant::now();
    let mut progress = Progress::new();
    let mut misses = 0;
    loop {
        sleep(INTERVAL).await;
        let since_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        match desk.fleet().await {
            // A gateway that reloads or has a bad moment: calls last for hours, and so may this.
            Err(Trouble::Unreachable { .. }) if misses < MISSES_MAX => misses += 1,
            Err(trouble) => {
                progress.end();
                return Err(trouble);
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
                    Err(trouble) => {
                        progress.end();
                        return Err(trouble);
                    }
                }
            }
        }
    }
}

/// Whether the instance is empty, `since_ms` after it was drained.
pub(super) fn judge(name: &str, instance: Option<&Instance>, since_ms: u64) -> Result<bool, Trouble> {
    let Some(instance) = instance else { return Err(Trouble::Left { instance: name.to_owned() }) };
    if instance.state != DRAINING {
        return Err(Trouble::Resumed { instance: name.to_owned() });
    }
    match instance.calls {
        // What this gateway placed there is waited for; that there is nothing else nobody knows.
        None if instance.calls_counted == 0 && instance.in_flight == 0 && since_ms >= UNTOLD_MS_MAX => {
            Err(Trouble::Untold { instance: name.to_owned() })
        }
        None => Ok(false),
        // A report of before the drain does not know of the call that came with it.
        Some(calls) => {
            let is_fresh = instance.last_probe_ms.is_none_or(|ago_ms| ago_ms <= since_ms);
            let is_idle = instance.calls_now() == Some(0) && instance.in_flight == 0;
            Ok(calls == 0 && is_idle && is_fresh)
        }
    }
}

/// One line that changes on a terminal; elsewhere a line for each change.
struct Progress {
    on_terminal: bool,
    shown: String,
}

impl Progress {
    fn new() -> Self {
        Self { on_terminal: io::stderr().is_terminal(), shown: String::new() }
    }

    fn show(&mut self, name: &str, instance: Option<&Instance>, since_ms: u64) {
        let Some(instance) = instance else { return };
        let silent = match instance.last_probe_ms {
            Some(ago_ms) if ago_ms >= SILENT_MS_MIN => ", and does not answer its probes",
            Some(_) | None => "",
        };
        let text = format!("{name}: {}{silent}", instance.has());
        // Where stderr is closed there is nobody left to tell.
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

const DRAINING: &str = "draining";
const INTERVAL: Duration = Duration::from_secs(1);
/// Half a minute without a gateway is more than a reload.
const MISSES_MAX: u32 = 30;
/// Three probes of the default interval.
const UNTOLD_MS_MAX: u64 = 15_000;
/// By then it has missed its probes.
const SILENT_MS_MIN: u64 = 30_000;
