//! The installation of the log: the subscriber, the panic hook, and the guard that flushes.

use std::{
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::Level;

use crate::telemetry::{
    counts::LogCounts,
    settings::{Format, LogSettings},
    subscriber::LineSubscriber,
    writer::Writer,
};

/// Writes the events and the panics of this process to stderr as lines. Only the first call in a process has
/// an effect.
///
/// Events of Switchboard's crates are logged from `level` on, events of other crates only as warnings and
/// errors: their details may contain header fields, which are never logged.
pub fn install(format: Format, level: Level) -> Guard {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let guard = Guard::new(LogSettings { format, level, colour }, Box::new(io::stderr()));
    if tracing::subscriber::set_global_default(guard.subscriber()).is_ok() {
        let (writer, counts) = (guard.writer.clone(), guard.counts.clone());
        std::panic::set_hook(Box::new(move |info| {
            counts.add_panic();
            log_panic(info);
            // The process may be about to end. But most panics end only a request, which must not wait for a
            // stuck stderr.
            writer.flush(Duration::from_millis(100));
        }));
    }
    guard
}

/// Keeps the log open, and writes the remaining lines when it is dropped. Hold it until the process ends.
#[derive(Debug)]
pub struct Guard {
    settings: Arc<ArcSwap<LogSettings>>,
    pub(super) writer: Writer,
    counts: LogCounts,
}

impl Guard {
    pub(super) fn new(settings: LogSettings, out: Box<dyn Write + Send>) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let counts = LogCounts::default();
        let writer = Writer::new(out, Arc::clone(&settings), counts.clone());
        Self { settings, writer, counts }
    }

    pub(super) fn subscriber(&self) -> LineSubscriber {
        LineSubscriber::new(Arc::clone(&self.settings), self.writer.clone())
    }

    /// Changes the format and the level, from the next event on.
    pub fn reconfigure(&self, format: Format, level: Level) {
        let colour = self.settings.load().colour;
        self.settings.store(Arc::new(LogSettings { format, level, colour }));
        tracing::callsite::rebuild_interest_cache();
    }

    /// Waits until all lines so far are written, at most a second: a stderr without a reader must not keep
    /// the process from ending.
    pub fn flush(&self) {
        self.writer.flush(Duration::from_secs(1));
    }

    /// Returns the counts of the log, for the metrics.
    pub fn counts(&self) -> LogCounts {
        self.counts.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.writer.close();
        self.flush();
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(tracing::field::display);
    let thread = std::thread::current();
    tracing::error!(
        panic.message = info.payload_as_str(),
        panic.location = location,
        thread = thread.name(),
        "thread panicked: this is a bug"
    );
}
