//! The topic `requests`: the log line of each request.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::sleep;

use super::message::{comment, push_event};
use crate::{
    observed::{LineReader, NewLines, Observed, RequestLine},
    request::outcome::Outcome,
};

/// The requests that a stream sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RequestFilter {
    /// The id of their call.
    pub(super) call: Option<String>,
    /// Their outcomes; none means all.
    pub(super) outcomes: Vec<Outcome>,
}

impl RequestFilter {
    fn matches(&self, line: &RequestLine) -> bool {
        let is_call = self.call.as_deref().is_none_or(|call| {
            line.call_id.as_deref().is_some_and(|call_id| call_id.eq_ignore_ascii_case(call))
        });
        is_call && (self.outcomes.is_empty() || self.outcomes.contains(&line.outcome))
    }
}

/// The lines of one stream.
#[derive(Debug)]
pub(super) struct RequestEvents {
    reader: LineReader,
    filter: RequestFilter,
    /// The first part of the event ids, so that those of another process are not mistaken for ours.
    process: u64,
}

impl RequestEvents {
    /// Starts after the event that `Last-Event-ID` names, or with the next request.
    pub(super) fn start(observed: &Observed, filter: RequestFilter, headers: &HeaderMap) -> Self {
        let process = observed.started_ms();
        let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
        let last = last.and_then(|id| {
            let (of, number) = id.split_once('-')?;
            (of.parse() == Ok(process)).then(|| number.parse().ok())?
        });
        Self { reader: LineReader::start(observed.lines(), last), filter, process }
    }

    /// Waits for the next lines. Can be cancelled and called again.
    pub(super) async fn next(&mut self) -> Bytes {
        loop {
            let new = self.reader.read(BYTES_MAX);
            let events = self.events(&new);
            if !events.is_empty() {
                return events.into();
            }
            // Waking a stream for each line would cost the request that writes it. A narrow filter may leave
            // out all lines of a read, and there may be more.
            if new.lines.is_empty() {
                sleep(INTERVAL).await;
            }
        }
    }

    /// A comment that lets a client with a narrow filter resume from here.
    pub(super) fn comment(&self) -> Bytes {
        comment(Some(&self.id(self.reader.last()))).into()
    }

    fn events(&self, new: &NewLines) -> Vec<u8> {
        let mut events = Vec::new();
        if new.missed > 0 {
            let data = format!("{{\"dropped\":{}}}", new.missed);
            push_event(&mut events, "dropped", None, data.as_bytes());
        }
        for line in new.lines.iter().filter(|line| self.filter.matches(line)) {
            push_event(&mut events, "request", Some(&self.id(line.number)), line.text.as_bytes());
        }
        events
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.process)
    }
}

/// Short for a person who watches.
const INTERVAL: Duration = Duration::from_millis(100);
/// As much as a stream holds beside the shared ring.
const BYTES_MAX: usize = 64 * 1024;
