//! The output for people: lines, an aligned table, and colour on a terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use switchboard_emulator::{CallEvent, CallStep, SentRequest, printable};
use tokio::time::Instant;

/// Prints a line to stdout. A closed pipe is ignored: its reader has seen enough.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line about a failure to stderr.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "switchboard-emulator: {}", printable(line));
}

/// The timeline of a call as a table, row by row as events happen.
///
/// A request has one row if its response is the next event. If another event comes first, or none for a
/// while, the request has two rows: one when it was sent and one when its response came.
#[derive(Debug)]
pub(crate) struct TimelineTable {
    colour: bool,
    /// The requests in flight. The flag is true if a row shows that the request was sent.
    pending: Vec<(SentRequest, bool)>,
}

impl TimelineTable {
    pub(crate) fn new() -> Self {
        // https://no-color.org: any value but the empty one.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !no_colour, pending: Vec::new() }
    }

    /// Prints the rows that an event adds.
    pub(crate) fn show(&mut self, event: &CallEvent) {
        for line in self.rows(event) {
            say(&line);
        }
    }

    /// Prints a row for each request in flight that has none. Called when no event came for a while.
    pub(crate) fn waiting(&mut self) {
        for line in self.sent() {
            say(&line);
        }
    }

    fn rows(&mut self, event: &CallEvent) -> Vec<String> {
        match event {
            CallEvent::Call(call) => {
                let heading =
                    format!("call {}, chain {}, {}\n", call.call, call.chain, printable(&call.kind));
                vec![heading, row("time", "", "what", "status", "took", "where")]
            }
            CallEvent::Sent(sent) => {
                let lines = self.sent();
                self.pending.push((sent.clone(), false));
                lines
            }
            CallEvent::Step(step) => {
                let own =
                    |sent: &SentRequest| Some(sent.message_id) == step.message_id && sent.at_ms == step.at_ms;
                let place = self.pending.iter().position(|(sent, _)| own(sent));
                let shown = place.is_some_and(|place| self.pending.remove(place).1);
                let mut lines = self.sent();
                lines.push(self.step(step, shown));
                lines
            }
            // The caller reports an unexpected end on stderr.
            CallEvent::End(end) if !end.ok => vec![String::new()],
            CallEvent::End(end) => {
                let verdict = self.paint(GREEN, &format!("ok: {}", printable(&end.outcome)));
                vec![format!("\n{verdict} after {}: {}", time(end.took_ms), printable(&end.reason))]
            }
        }
    }

    /// Makes a row for each request in flight that has none.
    fn sent(&mut self) -> Vec<String> {
        let unshown = self.pending.iter_mut().filter(|(_, shown)| !shown);
        unshown
            .map(|(sent, shown)| {
                *shown = true;
                let what = request_name(&sent.what, sent.attempt);
                row(&time(sent.at_ms), "->", &what, "...", "", &printable(&sent.url))
            })
            .collect()
    }

    /// Makes the row of a request that has ended. `shown` is true if an earlier row shows that it was sent.
    fn step(&self, step: &CallStep, shown: bool) -> String {
        let (at_ms, direction) = match (step.received, shown) {
            (true, _) => (step.at_ms, "<-"),
            (false, false) => (step.at_ms, "->"),
            (false, true) => (step.at_ms + step.took_ms, ".."),
        };
        let status = step.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        // A step without a message id posted nothing. It is a remark.
        let remark = !step.received && step.message_id.is_none();
        let colour = match step.status {
            Some(200..300) => GREEN,
            Some(300..400) => YELLOW,
            _ if remark => YELLOW,
            _ => RED,
        };
        // Pad before painting: escape codes have no width.
        let status = self.paint(colour, &format!("{status:>6}"));
        let took = if step.received || remark { String::new() } else { time(step.took_ms) };
        let what = request_name(&step.what, step.attempt);
        let mut line = row(&time(at_ms), direction, &what, &status, &took, &printable(&step.url));
        if let Some(note) = &step.note {
            line.push_str("  ");
            line.push_str(&printable(note));
        }
        line
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// The progress of many calls on stderr: a bar on a terminal, else a line every few seconds.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: None }
    }

    pub(crate) fn show(&mut self, calls: u32, placed: u32, ended: usize, failed: u32, took: Duration) {
        let every = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(3) };
        let due = match self.shown {
            Some(shown) => shown.elapsed() >= every,
            // A short load needs no line.
            None => self.terminal || took >= every,
        };
        if !due {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!(
            "{ended} of {calls} calls ended, {placed} placed, {failed} failed, {:.0} s",
            took.as_secs_f64()
        );
        let mut out = io::stderr().lock();
        let _ = if self.terminal {
            let width =
                ended.saturating_mul(BAR_WIDTH).checked_div(usize::try_from(calls).unwrap_or(1)).unwrap_or(0);
            let bar = "#".repeat(width.min(BAR_WIDTH));
            write!(out, "\r\u{1b}[K[{bar:<BAR_WIDTH$}] {line}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
    }

    /// Clears the bar, so that the report can be printed.
    pub(crate) fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

/// Names a request, with the number of its attempt from the second on.
fn request_name(what: &str, attempt: u32) -> String {
    match attempt {
        0 | 1 => printable(what),
        attempt => format!("{} (attempt {attempt})", printable(what)),
    }
}

/// Formats a row. The only column without a bound is the last, so that the others stay aligned.
fn row(at: &str, direction: &str, what: &str, status: &str, took: &str, place: &str) -> String {
    format!("{at:>9}  {direction:2} {what:<26} {status:>6} {took:>9}  {place}").trim_end().to_owned()
}

/// Formats milliseconds for people.
pub(crate) fn time(milliseconds: f64) -> String {
    if milliseconds < 999.95 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{:.2} s", milliseconds / 1_000.0)
    }
}

const BAR_WIDTH: usize = 30;

const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn step(status: Option<u16>, attempt: u32) -> CallStep {
        CallStep {
            at_ms: 1_234.5,
            what: "incoming".to_owned(),
            received: false,
            url: "http://x/\u{1b}[2J".to_owned(),
            status,
            took_ms: 2.25,
            attempt,
            message_id: None,
            request: None,
            response: None,
            note: None,
        }
    }

    fn table(colour: bool) -> TimelineTable {
        TimelineTable { colour, pending: Vec::new() }
    }

    #[test]
    fn columns_are_aligned_with_and_without_colour() {
        let posted = |status, attempt| CallStep { message_id: Some(Uuid::nil()), ..step(status, attempt) };
        let plain = table(false);
        let expected = "   1.23 s  -> incoming                      202    2.2 ms  http://x/\\u{1b}[2J";
        assert_eq!(plain.step(&posted(Some(202), 1), false), expected);
        let unanswered = "   1.23 s  -> incoming (attempt 2)            -    2.2 ms  http://x/\\u{1b}[2J";
        assert_eq!(plain.step(&posted(None, 2), false), unanswered);
        let remark = "   1.23 s  -> incoming                        -            http://x/\\u{1b}[2J";
        assert_eq!(plain.step(&step(None, 1), false), remark);
        let coloured = table(true).step(&posted(Some(202), 1), false);
        assert_eq!(coloured.replace(GREEN, "").replace(PLAIN, ""), expected);
    }

    /// A request that was sent at a time. `took_ms` is given if its response has come.
    fn posted(id: u128, at_ms: f64, took_ms: Option<f64>) -> CallEvent {
        let (what, url, message_id) = (format!("n{id}"), "http://x/".to_owned(), Uuid::from_u128(id));
        match took_ms {
            None => CallEvent::Sent(SentRequest { at_ms, what, url, attempt: 1, message_id }),
            Some(took_ms) => {
                let message_id = Some(message_id);
                let step = CallStep { at_ms, what, url, took_ms, message_id, ..step(Some(202), 1) };
                CallEvent::Step(Box::new(step))
            }
        }
    }

    #[track_caller]
    fn check_rows(events: &[CallEvent], expected: &[&str]) {
        let mut table = table(false);
        let rows: Vec<String> = events
            .iter()
            .flat_map(|event| table.rows(event))
            .map(|row| row.split_whitespace().filter(|word| *word != "ms").collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_are_in_order_of_time() {
        // Each response is the next event: one row each.
        check_rows(
            &[
                posted(1, 1.0, None),
                posted(1, 1.0, Some(2.0)),
                posted(2, 4.0, None),
                posted(2, 4.0, Some(1.0)),
            ],
            &["1.0 -> n1 202 2.0 http://x/", "4.0 -> n2 202 1.0 http://x/"],
        );
        // The bot answers the call and gets another notification before it responds to the first one.
        let answer = CallStep { at_ms: 2.0, what: "answer".to_owned(), received: true, ..step(Some(202), 1) };
        let answer = CallEvent::Step(Box::new(answer));
        let events = [
            posted(1, 1.0, None),
            answer,
            posted(2, 3.0, None),
            posted(1, 1.0, Some(4.0)),
            posted(2, 3.0, Some(5.0)),
        ];
        check_rows(
            &events,
            &[
                "1.0 -> n1 ... http://x/",
                "2.0 <- answer 202 http://x/\\u{1b}[2J",
                "3.0 -> n2 ... http://x/",
                "5.0 .. n1 202 4.0 http://x/",
                "8.0 .. n2 202 5.0 http://x/",
            ],
        );
    }

    #[test]
    fn a_request_in_flight_is_shown_once() {
        let mut table = table(false);
        assert!(table.rows(&posted(1, 1.0, None)).is_empty());
        assert_eq!((table.sent().len(), table.sent().len()), (1, 0));
        let rows = table.rows(&posted(1, 1.0, Some(900.0)));
        assert!(rows[0].contains("901.0 ms  .. n1"), "{rows:?}");
    }
}
