//! A line of JSON for each request. The lines are collected in memory and written to stdout several times a
//! second, like the log of the gateway.

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, interval};

/// The lines that are yet to be written. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct AccessLog(Arc<Mutex<Vec<u8>>>);

impl AccessLog {
    /// Starts to write.
    pub(crate) fn start() -> Self {
        let log = Self::default();
        let lines = log.clone();
        tokio::spawn(async move {
            let mut ticks = interval(Duration::from_millis(250));
            loop {
                ticks.tick().await;
                let written = std::mem::take(&mut *lines.0.lock().unwrap_or_else(PoisonError::into_inner));
                if io::stdout().write_all(&written).and_then(|()| io::stdout().flush()).is_err() {
                    return;
                }
            }
        });
        log
    }

    /// Adds the line of a request.
    pub(crate) fn add(&self, method: &http::Method, path: &str, status: u16, started: Instant) {
        let duration = started.elapsed().as_secs_f64() * 1_000.0;
        let time = unix_now().as_millis();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The paths of the benchmark need no escapes.
        let _ = write!(lines, r#"{{"time":{time},"method":"{method}","path":"{path}","#);
        let _ = writeln!(lines, r#""status":{status},"duration_ms":{duration:.3}}}"#);
    }
}

#[expect(clippy::disallowed_methods, reason = "a log line has the real time")]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
