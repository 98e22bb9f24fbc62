//! How lines reach stderr: collected in memory, written by a thread of their own a few times a second.
//!
//! A request that logs takes a lock for as long as it takes to copy its line, and nothing else: a slow, full or
//! closed stderr costs lines, which are counted, never a request.

use std::{
    fmt,
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use tracing::Level;

use super::{
    Counts, Settings,
    line::Line,
    timestamp::{self, Timestamp},
};

/// Collects lines for one output; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
}

impl Writer {
    /// Starts the thread that writes to `out`. Where a thread cannot be had, lines are written by `flush`.
    pub(super) fn new(out: Box<dyn Write + Send>, settings: Arc<ArcSwap<Settings>>, counts: Counts) -> Self {
        let shared = Arc::new(Shared {
            batch: Mutex::new(Batch::default()),
            wake: Condvar::new(),
            written: Condvar::new(),
            output: Mutex::new(Output { out, torn: false }),
            settings,
            counts,
        });
        let spawned = thread::Builder::new().name("log".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run()
        });
        shared.lock().has_thread = spawned.is_ok();
        Self { shared }
    }

    /// Takes over one line, its line feed included; never waits for the output.
    pub(super) fn append(&self, line: &str) {
        let mut batch = self.shared.lock();
        let before = batch.text.len();
        let after = before + line.len();
        if after > BATCH_BYTES_MAX || batch.closed {
            batch.lost += 1;
            drop(batch);
            self.shared.counts.inner.dropped.fetch_add(1, Relaxed);
            return;
        }
        batch.text.push_str(line);
        batch.appended += 1;
        drop(batch);
        // The thread needs to hear of a batch twice: when it begins, and when it should wait no longer.
        if before == 0 || (before < BATCH_BYTES_LARGE && after >= BATCH_BYTES_LARGE) {
            self.shared.wake.notify_one();
        }
    }

    /// Waits until the lines of before were written or given up, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let mut batch = self.shared.lock();
        let target = batch.appended;
        if !batch.has_thread {
            self.shared.write_batch(batch, &mut String::new());
            return;
        }
        batch.urgent = true;
        self.shared.wake.notify_one();
        drop(self.shared.written.wait_timeout_while(batch, limit, |batch| batch.written < target));
    }

    /// Takes no more lines and lets the thread end.
    pub(super) fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
    }
}

#[derive(Debug)]
struct Shared {
    batch: Mutex<Batch>,
    /// The thread has something to do.
    wake: Condvar,
    /// A batch was written or given up.
    written: Condvar,
    output: Mutex<Output>,
    settings: Arc<ArcSwap<Settings>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Batch {
    text: String,
    /// Lines taken since the start.
    appended: u64,
    /// Of these, lines that have been written or given up.
    written: u64,
    /// Lines dropped of which the log does not tell yet.
    lost: u64,
    /// Someone waits in `flush`.
    urgent: bool,
    closed: bool,
    has_thread: bool,
}

impl Shared {
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

    /// Writes what is there; `spare` is an empty buffer and is one afterwards.
    fn write_batch(&self, mut batch: MutexGuard<'_, Batch>, spare: &mut String) {
        mem::swap(&mut batch.text, spare);
        batch.urgent = false;
        let appended = batch.appended;
        let lost = mem::take(&mut batch.lost);
        drop(batch);

        if lost > 0 {
            self.tell_lost(spare, lost);
        }
        let refused = self.output.lock().unwrap_or_else(PoisonError::into_inner).write(spare);
        spare.clear();
        // Memory that a burst needed is given back.
        spare.shrink_to(2 * BATCH_BYTES_LARGE);

        // Of a refused batch the line about losses is the last: it is told again, and is itself no loss.
        let refused_lines = if lost > 0 { refused.saturating_sub(1) } else { refused };
        self.counts.inner.dropped.fetch_add(refused_lines, Relaxed);
        let mut batch = self.lock();
        batch.written = appended;
        batch.lost += refused_lines + if refused > 0 { lost } else { 0 };
        drop(batch);
        self.written.notify_all();
    }

    fn tell_lost(&self, out: &mut String, lost: u64) {
        let time = |out: &mut String| Timestamp::default().push(out, timestamp::now());
        let mut line = Line::begin(out, &self.settings.load(), Level::WARN, module_path!(), time);
        line.message("lines of this log were dropped: its reader is slow or refuses them");
        line.number("dropped", lost);
        line.finish();
    }
}

struct Output {
    out: Box<dyn Write + Send>,
    /// The last write ended inside a line.
    torn: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("torn", &self.torn).finish_non_exhaustive()
    }
}

impl Output {
    /// Writes whole lines; returns how many of them could not be written.
    fn write(&mut self, lines: &str) -> u64 {
        // What was cut off stays a line of its own, and does not run into the next.
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

    /// Writes as much as the output takes; returns the rest.
    fn write_bytes<'a>(&mut self, mut bytes: &'a [u8]) -> &'a [u8] {
        let mut pauses_left = PAUSES_MAX;
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => break,
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Another process made the terminal or pipe that we share non-blocking.
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

/// How long lines are collected: short for a person who watches, long against the cost of a write.
const LINGER: Duration = Duration::from_millis(50);

/// A batch that is written without waiting for more: some hundred lines make the write cheap, and they are still in the
/// processor's cache.
const BATCH_BYTES_LARGE: usize = 128 * 1024;

/// The batch that is collected and the batch that is being written may each be as large as this: 4 MiB in all.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How long and how often a non-blocking output is waited for.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES_MAX: u32 = 100;
