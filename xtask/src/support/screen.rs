//! Output for people: titles, times, and colour on a terminal.

use std::io::{self, IsTerminal as _};

/// Paints text, or leaves it plain.
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        // https://no-color.org: any value but the empty one switches colour off.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: io::stdout().is_terminal() && !no_colour }
    }

    pub(crate) fn title(&self, text: &str) -> String {
        format!("\n{}", self.paint("\u{1b}[1m", text))
    }

    pub(crate) fn good(&self, text: &str) -> String {
        self.paint("\u{1b}[32m", text)
    }

    pub(crate) fn fair(&self, text: &str) -> String {
        self.paint("\u{1b}[33m", text)
    }

    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint("\u{1b}[31m", text)
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("{colour}{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Milliseconds as readable text.
pub(crate) fn time(milliseconds: f64) -> String {
    if milliseconds < 999.95 {
        format!("{milliseconds:.1} ms")
    } else {
        format!("{:.2} s", milliseconds / 1_000.0)
    }
}

/// The text of another process, with control characters replaced.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}
