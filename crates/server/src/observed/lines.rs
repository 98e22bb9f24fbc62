//! `RequestLines`: the log lines of requests, kept while an operator reads them.
//!
//! While no operator reads, a request costs one relaxed load. Readers share one ring, and each has a place in
//! it: a slow reader loses the oldest lines and holds up nothing.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::request::outcome::Outcome;

/// The log lines of the latest requests.
#[derive(Debug, Default)]
pub(crate) struct RequestLines {
    is_recording: AtomicBool,
    ring: Mutex<Ring>,
}

/// The log line of a request, in JSON.
#[derive(Debug)]
pub(crate) struct RequestLine {
    /// Consecutive in this process, except for a pause without readers.
    pub(crate) number: u64,
    pub(crate) call_id: Option<Box<str>>,
    pub(crate) outcome: Outcome,
    pub(crate) text: Box<str>,
}

/// A reader of the lines. As long as it lives, they are recorded.
#[derive(Debug)]
pub(crate) struct LineReader {
    lines: Arc<RequestLines>,
    /// The number of the last line that was read.
    last: u64,
}

/// The lines after the last ones that were read.
#[derive(Debug, Default)]
pub(crate) struct NewLines {
    pub(crate) lines: Vec<Arc<RequestLine>>,
    /// The lines that the ring lost before they were read. After a pause without readers it is unknown, and
    /// at least 1.
    pub(crate) missed: u64,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Arc<RequestLine>>,
    bytes: usize,
    /// The number of the last line.
    last: u64,
    readers: usize,
    unused_since: Option<Instant>,
}

impl RequestLines {
    /// Returns true if the lines of requests are wanted.
    pub(crate) fn is_recording(&self) -> bool {
        self.is_recording.load(Relaxed)
    }

    /// Adds the line of a request.
    pub(crate) fn push(&self, call_id: Option<&str>, outcome: Outcome, text: String) {
        let (call_id, text) = (call_id.map(Box::from), text.into_boxed_str());
        let mut ring = self.lock();
        // The last reader may have gone meanwhile.
        if !self.is_recording() {
            return;
        }
        ring.last += 1;
        let line = RequestLine { number: ring.last, call_id, outcome, text };
        ring.bytes += line.bytes();
        ring.lines.push_back(Arc::new(line));
        while ring.bytes > BYTES_MAX
            && let Some(oldest) = ring.lines.pop_front()
        {
            ring.bytes -= oldest.bytes();
        }
    }

    /// Stops the recording if it has had no reader for a minute.
    pub(crate) fn stop_if_unused(&self, now: Instant) {
        if !self.is_recording() {
            return;
        }
        let mut ring = self.lock();
        let is_unused = |since| now.saturating_duration_since(since) >= KEPT_WITHOUT_READER;
        if ring.readers == 0 && ring.unused_since.is_none_or(is_unused) {
            self.is_recording.store(false, Relaxed);
            ring.lines = VecDeque::new();
            ring.bytes = 0;
            // A reader that comes back later learns that it has missed lines.
            ring.last += 1;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RequestLine {
    /// The memory that it takes, about.
    fn bytes(&self) -> usize {
        self.text.len() + self.call_id.as_deref().map_or(0, str::len) + LINE_OVERHEAD_BYTES
    }
}

impl LineReader {
    /// Starts to read: after the line with this number, or with the next request.
    pub(crate) fn start(lines: &Arc<RequestLines>, after: Option<u64>) -> Self {
        let mut ring = lines.lock();
        ring.readers += 1;
        lines.is_recording.store(true, Relaxed);
        // A number of the future is of another process.
        let last = after.map_or(ring.last, |after| after.min(ring.last));
        drop(ring);
        Self { lines: Arc::clone(lines), last }
    }

    /// The number of the last line that was read.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Returns the next lines, of at most `bytes_max` unless the first one is longer.
    pub(crate) fn read(&mut self, bytes_max: usize) -> NewLines {
        let ring = self.lines.lock();
        let first = ring.lines.front().map_or(ring.last + 1, |line| line.number);
        let missed = first.saturating_sub(self.last + 1);
        let mut new = NewLines { lines: Vec::new(), missed };
        self.last += missed;
        let skipped = usize::try_from((self.last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        for line in ring.lines.iter().skip(skipped) {
            bytes += line.text.len();
            if bytes > bytes_max && !new.lines.is_empty() {
                break;
            }
            self.last = line.number;
            new.lines.push(Arc::clone(line));
        }
        new
    }
}

impl Drop for LineReader {
    fn drop(&mut self) {
        let mut ring = self.lines.lock();
        ring.readers -= 1;
        ring.unused_since = Some(Instant::now());
    }
}

/// Some six thousand lines: ten seconds of a busy gateway, and all of a quiet hour.
const BYTES_MAX: usize = 4 << 20;
/// The numbers, the pointers and the memory of the allocations of a line.
const LINE_OVERHEAD_BYTES: usize = 112;
/// A reader whose connection broke comes back within seconds.
const KEPT_WITHOUT_READER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn push(lines: &RequestLines, texts: impl IntoIterator<Item = u32>) {
        for text in texts {
            lines.push(Some("call"), Outcome::Placed, text.to_string());
        }
    }

    fn read(reader: &mut LineReader) -> (Vec<String>, u64) {
        let new = reader.read(usize::MAX);
        (new.lines.iter().map(|line| line.text.to_string()).collect(), new.missed)
    }

    #[tokio::test(start_paused = true)]
    async fn lines_are_recorded_while_there_is_a_reader_and_for_a_minute_after() {
        let lines = &Arc::new(RequestLines::default());
        push(lines, 0..3);
        assert!(!lines.is_recording());
        let mut reader = LineReader::start(lines, None);
        assert!(lines.is_recording());
        assert_eq!(read(&mut reader), (vec![], 0));
        push(lines, 3..5);
        assert_eq!(read(&mut reader), (vec!["3".to_owned(), "4".to_owned()], 0));
        assert_eq!(read(&mut reader), (vec![], 0));
        let last = reader.last;
        drop(reader);
        tokio::time::advance(KEPT_WITHOUT_READER - Duration::from_millis(1)).await;
        lines.stop_if_unused(Instant::now());
        push(lines, 5..6);
        let mut reader = LineReader::start(lines, Some(last));
        assert_eq!(read(&mut reader), (vec!["5".to_owned()], 0));
        let last = reader.last;
        tokio::time::advance(2 * KEPT_WITHOUT_READER).await;
        lines.stop_if_unused(Instant::now());
        assert!(lines.is_recording(), "it has a reader");
        drop(reader);
        tokio::time::advance(KEPT_WITHOUT_READER).await;
        lines.stop_if_unused(Instant::now());
        assert!(!lines.is_recording());
        assert!(lines.lock().lines.is_empty());
        // The lines of the pause are lost, and the reader learns of it.
        push(lines, 6..9);
        let mut reader = LineReader::start(lines, Some(last));
        push(lines, 9..10);
        assert_eq!(read(&mut reader), (vec!["9".to_owned()], 1));
    }

    #[test]
    fn a_slow_reader_loses_the_oldest_lines() {
        let lines = &Arc::new(RequestLines::default());
        let mut slow = LineReader::start(lines, None);
        let mut fast = LineReader::start(lines, None);
        let long = "x".repeat(BYTES_MAX / 4);
        for number in 0..10 {
            lines.push(None, Outcome::Placed, format!("{number}{long}"));
            let new = fast.read(usize::MAX);
            assert_eq!((new.lines.len(), new.missed), (1, 0));
            assert!(lines.lock().bytes <= BYTES_MAX);
        }
        let new = slow.read(usize::MAX);
        assert_eq!((new.lines.len(), new.missed), (3, 7));
        assert!(new.lines[0].text.starts_with('7'));
        assert_eq!((slow.read(usize::MAX).lines.len(), slow.last), (0, 10));
    }

    #[test]
    fn a_reader_takes_what_fits() {
        let lines = &Arc::new(RequestLines::default());
        let mut reader = LineReader::start(lines, None);
        push(lines, 1000..1010);
        assert_eq!(reader.read(8).lines.len(), 2);
        assert_eq!(reader.read(1).lines.len(), 1);
        assert_eq!(reader.read(100).lines.len(), 7);
    }

    #[test]
    fn a_number_of_another_process_starts_at_the_end() {
        let lines = &Arc::new(RequestLines::default());
        let mut reader = LineReader::start(lines, Some(u64::MAX));
        push(lines, 1..2);
        assert_eq!(read(&mut reader), (vec!["1".to_owned()], 0));
    }
}
