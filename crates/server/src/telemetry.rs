//! The log: one line per event on stderr, written off the request's path.
//!
//! Reading order: `subscriber` (which events), `line` (what a line looks like), `timestamp`, `writer` (how lines reach
//! stderr without making a request wait).

mod line;
mod subscriber;
mod timestamp;
mod writer;

use std::{
    error::Error,
    fmt,
    io::{self, IsTerminal, Write},
    panic::PanicHookInfo,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::Level;

use self::{subscriber::Lines, writer::Writer};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line; for collectors.
    Json,
    /// `time LEVEL target: message name=value …`; for people.
    Text,
}

/// Sends the events of this process to stderr as lines, and panics too. The first call in a process decides; the guard of
/// a later one has no effect.
///
/// Events of our own crates are shown from `level` on, those of other crates only as warnings and errors: their details
/// may hold header fields, which are never logged.
pub fn install(format: Format, level: Level) -> Guard {
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let guard = Guard::new(Settings { format, level, colour }, Box::new(io::stderr()));
    if tracing::subscriber::set_global_default(guard.subscriber()).is_ok() {
        let (writer, counts) = (guard.writer.clone(), guard.counts.clone());
        std::panic::set_hook(Box::new(move |info| {
            counts.inner.panics.fetch_add(1, Relaxed);
            log_panic(info);
            // The process may be about to end. Most panics end only a request, so it must not wait for a stuck stderr.
            writer.flush(Duration::from_millis(100));
        }));
    }
    guard
}

/// Keeps the log alive; what was logged is written when it is dropped. Hold it in `main`.
#[derive(Debug)]
pub struct Guard {
    settings: Arc<ArcSwap<Settings>>,
    writer: Writer,
    counts: Counts,
}

impl Guard {
    fn new(settings: Settings, out: Box<dyn Write + Send>) -> Self {
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let counts = Counts::default();
        let writer = Writer::new(out, Arc::clone(&settings), counts.clone());
        Self { settings, writer, counts }
    }

    fn subscriber(&self) -> Lines {
        Lines::new(Arc::clone(&self.settings), self.writer.clone())
    }

    /// Changes what is logged and how, from the next event on.
    pub fn reconfigure(&self, format: Format, level: Level) {
        let colour = self.settings.load().colour;
        self.settings.store(Arc::new(Settings { format, level, colour }));
        tracing::callsite::rebuild_interest_cache();
    }

    /// Waits until all that was logged so far is written, at most a second: a stderr that nobody reads must not keep the
    /// process from ending.
    pub fn flush(&self) {
        self.writer.flush(Duration::from_secs(1));
    }

    /// What is counted here, for the metrics.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.writer.close();
        self.flush();
    }
}

/// What the log counts; clones share the numbers.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    inner: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    dropped: AtomicU64,
    panics: AtomicU64,
}

impl Counts {
    /// Lines that were not written, because stderr was too slow or refused them.
    pub fn dropped(&self) -> u64 {
        self.inner.dropped.load(Relaxed)
    }

    /// Panics in any thread, whether or not something contained them.
    pub fn panics(&self) -> u64 {
        self.inner.panics.load(Relaxed)
    }
}

/// An error and its sources, joined by `: `.
///
/// ```
/// # use switchboard::telemetry::Chain;
/// #[derive(Debug, thiserror::Error)]
/// #[error("cannot read the certificate")]
/// struct Unreadable(#[source] std::num::ParseIntError);
///
/// let error = Unreadable("x".parse::<u8>().unwrap_err());
/// assert_eq!(Chain(&error).to_string(), "cannot read the certificate: invalid digit found in string");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        // An error whose sources form a ring would otherwise never end.
        for _ in 0..16 {
            let Some(error) = source else { break };
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// A duration for the field `duration_ms`: milliseconds, to the microsecond, so that it prints as few digits as it has.
pub fn milliseconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    format: Format,
    level: Level,
    /// Whether the text format may use colour.
    colour: bool,
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(tracing::field::display);
    let thread = std::thread::current();
    tracing::error!(
        panic.message = info.payload_as_str(),
        panic.location = location,
        thread = thread.name(),
        "a bug: a thread panicked"
    );
}

#[cfg(test)]
mod tests;
