//! The output of the log: lines are collected in memory, and a thread writes them several times a second.
//!
//! A request that logs holds a lock only while its line is copied. A slow, full or closed stderr costs lines,
//! which are counted; it never costs a request.

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::Level;

use crate::{
    telemetry::{counts::LogCounts, line::Line, settings::LogSettings, timestamp::Timestamp},
    wall_clock::wall_clock,
};

/// Collects lines for one output. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    state: Arc<WriterState>,
}

impl Writer {
    /// Starts the thread that writes to `out`. If the thread cannot start, `flush` writes the lines.
    pub(super) fn new(
        out: Box<dyn Write + Send>,
        settings: Arc<ArcSwap<LogSettings>>,
        counts: LogCounts,
    ) -> Self {
        let state = Arc::new(WriterState {
            batch: Mutex::new(Batch::default()),
            wake: Condvar::new(),
            written: Condvar::new(),
            output: Mutex::new(LogOutput { out, torn: false }),
            settings,
            counts,
        });
        let spawned = thread::Builder::new().name("log".to_owned()).spawn({
            let state = Arc::clone(&state);
            move || state.run()
        });
        state.lock().has_thread = spawned.is_ok();
        Self { state }
    }

    /// Appends one line, including its line feed. Never waits for the output.
    pub(super) fn append(&self, line: &str) {
        let mut batch = self.state.lock();
        let before = batch.text.len();
        let after = before + line.len();
        if after > BATCH_BYTES_MAX || batch.closed {
            batch.lost += 1;
            drop(batch);
            self.state.counts.add_dropped(1);
            return;
        }
        batch.text.push_str(line);
        batch.appended += 1;
        drop(batch);
        // The thread is woken twice for a batch: when it starts, and when it is large enough to be written.
        if before == 0 || (before < BATCH_BYTES_LARGE && after >= BATCH_BYTES_LARGE) {
            self.state.wake.notify_one();
        }
    }

    /// Waits until the lines so far are written or dropped, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let mut batch = self.state.lock();
        let target = batch.appended;
        if !batch.has_thread {
            self.state.write_batch(batch, &mut String::new());
            return;
        }
        batch.urgent = true;
        self.state.wake.notify_one();
        drop(self.state.written.wait_timeout_while(batch, limit, |batch| batch.written < target));
    }

    /// Accepts no more lines and lets the thread end.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.state.wake.notify_one();
    }
}

/// The state that the writer shares with its thread.
#[derive(Debug)]
struct WriterState {
    batch: Mutex<Batch>,
    /// Wakes the thread.
    wake: Condvar,
    /// Signals that a batch was written or dropped.
    written: Condvar,
    output: Mutex<LogOutput>,
    settings: Arc<ArcSwap<LogSettings>>,
    counts: LogCounts,
}

/// The lines that wait to be written.
#[derive(Debug, Default)]
struct Batch {
    text: String,
    /// Lines accepted since the start.
    appended: u64,
    /// Accepted lines that have been written or dropped.
    written: u64,
    /// Dropped lines that the log does not report yet.
    lost: u64,
    /// True while a caller waits in `flush`.
    urgent: bool,
    closed: bool,
    has_thread: bool,
}

impl WriterState {
    fn lock(&self) -> MutexGuard<'_, Batch> {
        // Every change to a batch is complete before anything can panic.
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut spare = String::new();
        loop {
            let batch = self
                .wake
                .wait_while(self.lock(), |batch| batch.text.is_empty() && !batch.closed)
                .unwrap_or_else(PoisonError::into_inner);
            if batch.text.is_empty() {
                return;
            }
            let (batch, _) = self
                .wake
                .wait_timeout_while(batch, LINGER, |batch| {
                    batch.text.len() < BATCH_BYTES_LARGE && !batch.urgent && !batch.closed
                })
                .unwrap_or_else(PoisonError::into_inner);
            self.write_batch(batch, &mut spare);
        }
    }

    /// Writes the batch. `spare` is an empty buffer, before and after.
    fn write_batch(&self, mut batch: MutexGuard<'_, Batch>, spare: &mut String) {
        mem::swap(&mut batch.text, spare);
        batch.urgent = false;
        let appended = batch.appended;
        let lost = mem::take(&mut batch.lost);
        drop(batch);

        if lost > 0 {
            self.report_lost(spare, lost);
        }
        let refused = self.output.lock().unwrap_or_else(PoisonError::into_inner).write(spare);
        spare.clear();
        // Return the memory that a burst needed.
        spare.shrink_to(2 * BATCH_BYTES_LARGE);

        // In a refused batch, the last line is the report of lost lines. It is written again later, and is
        // not a lost line.
        let refused_lines = if lost > 0 { refused.saturating_sub(1) } else { refused };
        self.counts.add_dropped(refused_lines);
        let mut batch = self.lock();
        batch.written = appended;
        batch.lost += refused_lines + if refused > 0 { lost } else { 0 };
        drop(batch);
        self.written.notify_all();
    }

    fn report_lost(&self, out: &mut String, lost: u64) {
        let time = |out: &mut String| Timestamp::new().push(out, wall_clock());
        let mut line = Line::start(out, **self.settings.load(), Level::WARN, module_path!(), time);
        line.message("log lines dropped: stderr is slow or refuses them");
        line.number("dropped", Some(lost));
        line.finish();
    }
}

struct LogOutput {
    out: Box<dyn Write + Send>,
    /// True if the last write ended inside a line.
    torn: bool,
}

impl fmt::Debug for LogOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogOutput").field("torn", &self.torn).finish_non_exhaustive()
    }
}

impl LogOutput {
    /// Writes whole lines. Returns the number of lines that could not be written.
    fn write(&mut self, lines: &str) -> u64 {
        // A torn line stays a line of its own and does not run into the next one.
        if self.torn && self.write_bytes(b"\n").is_empty() {
            self.torn = false;
        }
        let rest = if self.torn { lines.as_bytes() } else { self.write_bytes(lines.as_bytes()) };
        if rest.is_empty() {
            return 0;
        }
        let taken = lines.len() - rest.len();
        self.torn |= taken > 0 && lines.as_bytes().get(taken - 1) != Some(&b'\n');
        rest.iter().map(|byte| u64::from(*byte == b'\n')).sum()
    }

    /// Writes as much as the output accepts. Returns the rest.
    fn write_bytes<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let mut pauses_left = PAUSES_MAX;
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => break,
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process made the shared terminal or pipe non-blocking.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && pauses_left > 0 => {
                    pauses_left -= 1;
                    thread::park_timeout(PAUSE);
                }
                Err(_) => break,
            }
        }
        bytes
    }
}

/// The time for which lines are collected: short for a person who watches, long compared with a write.
const LINGER: Duration = Duration::from_millis(50);

/// A batch of this size is written at once: some hundred lines make the write cheap and still fit the
/// processor's cache.
const BATCH_BYTES_LARGE: usize = 128 * 1024;

/// The limit of the batch that is collected, and of the batch that is being written: 4 MiB in all.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The time and the number of waits for a non-blocking output.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_MAX: u32 = 100;
