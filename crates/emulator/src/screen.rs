//! What people see: lines, an aligned table, and colour where there is a terminal for it.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use switchboard_emulator::{Event, Step, printable};
use tokio::time::Instant;

/// Prints a line. A closed pipe is no fault of ours.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line about a failure.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "switchboard-emulator: {}", printable(line));
}

/// The timeline of a call, row by row as it happens.
#[derive(Debug)]
pub(crate) struct Table {
    colour: bool,
}

impl Table {
    pub(crate) fn new() -> Self {
        // https://no-color.org: any value but the empty one.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !no_colour }
    }

    pub(crate) fn row(&self, event: &Event) {
        match event {
            Event::Call(call) => {
                say(&format!("call {}, chain {}, {}\n", call.call, call.chain, printable(&call.kind)));
                say(&row("time", "", "what", "status", "took", "where"));
            }
            Event::Step(step) => say(&self.step(step)),
            // What did not end as expected is a complaint, which the caller makes.
            Event::End(end) if !end.ok => say(""),
            Event::End(end) => {
                let verdict = self.paint(GREEN, &format!("ok: {}", printable(&end.outcome)));
                say(&format!("\n{verdict} after {}: {}", time(end.took_ms), printable(&end.reason)));
            }
        }
    }

    fn step(&self, step: &Step) -> String {
        let direction = if step.received { "<-" } else { "->" };
        let what = match step.attempt {
            0 | 1 => printable(&step.what),
            attempt => format!("{} (try {attempt})", printable(&step.what)),
        };
        let status = step.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
        // Without a message id nothing was posted: it is a remark.
        let remark = !step.received && step.message_id.is_none();
        let colour = match step.status {
            Some(200..300) => GREEN,
            Some(300..400) => YELLOW,
            _ if remark => YELLOW,
            _ => RED,
        };
        // Padded before it is painted, since escape codes have no width.
        let status = self.paint(colour, &format!("{status:>6}"));
        let took = if step.received { String::new() } else { time(step.took_ms) };
        let mut line = row(&time(step.at_ms), direction, &what, &status, &took, &printable(&step.url));
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

/// How far many calls are: a bar on a terminal, else a line every few seconds. Both go to stderr.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal(), shown: None }
    }

    pub(crate) fn show(&mut self, calls: u32, placed: u32, over: usize, wrong: u32, took: Duration) {
        let every = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(3) };
        let due = match self.shown {
            Some(shown) => shown.elapsed() >= every,
            // A load that is over in a moment needs no line.
            None => self.terminal || took >= every,
        };
        if !due {
            return;
        }
        self.shown = Some(Instant::now());
        let line = format!(
            "{over} of {calls} calls over, {placed} placed, {wrong} wrong, {:.0} s",
            took.as_secs_f64()
        );
        let mut out = io::stderr().lock();
        let _ = if self.terminal {
            let width =
                over.saturating_mul(BAR_WIDTH).checked_div(usize::try_from(calls).unwrap_or(1)).unwrap_or(0);
            let bar = "#".repeat(width.min(BAR_WIDTH));
            write!(out, "\r\u{1b}[K[{bar:<BAR_WIDTH$}] {line}").and_then(|()| out.flush())
        } else {
            writeln!(out, "{line}")
        };
    }

    /// Makes room for the table.
    pub(crate) fn clear(&self) {
        if self.terminal {
            let _ = write!(io::stderr().lock(), "\r\u{1b}[K");
        }
    }
}

/// The one unbounded column is the last, so that the others stay aligned.
fn row(at: &str, direction: &str, what: &str, status: &str, took: &str, place: &str) -> String {
    format!("{at:>9}  {direction:2} {what:<26} {status:>6} {took:>9}  {place}").trim_end().to_owned()
}

/// Milliseconds for people.
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
    use super::*;

    fn step(status: Option<u16>, attempt: u32) -> Step {
        Step {
            at_ms: 1_234.5,
            what: "incoming".to_owned(),
            received: false,
            url: "http://x/\u{1b}[2J".to_owned(),
            status,
            took_ms: 2.25,
            attempt,
            message_id: None,
            note: None,
        }
    }

    #[test]
    fn columns_are_aligned_with_and_without_colour() {
        let plain = Table { colour: false };
        let expected = "   1.23 s  -> incoming                      202    2.2 ms  http://x/\\u{1b}[2J";
        assert_eq!(plain.step(&step(Some(202), 1)), expected);
        let unanswered = "   1.23 s  -> incoming (try 2)                -    2.2 ms  http://x/\\u{1b}[2J";
        assert_eq!(plain.step(&step(None, 2)), unanswered);
        let coloured = Table { colour: true }.step(&step(Some(202), 1));
        assert_eq!(coloured.replace(GREEN, "").replace(PLAIN, ""), expected);
    }
}
