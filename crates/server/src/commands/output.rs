//! The output of a command: results to stdout, errors to stderr.

use std::{
    env,
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use crate::telemetry::is_deceptive;

/// Prints a result. A reader that closes the pipe early is not a failure.
pub(super) fn print(text: &str) -> ExitCode {
    match write(&format!("{text}\n")) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write: {error}"), FAILURE)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Writes to stdout at once.
pub(super) fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Prints an error to stderr, and returns the exit code.
pub(super) fn complain(text: &str, code: u8) -> ExitCode {
    // If stderr is closed, the error cannot be shown.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(code)
}

/// Returns true if stdout shows colours: a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub(super) fn is_coloured() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The escape sequence that colours `text`.
pub(super) fn coloured(text: &str, colour: u8) -> String {
    format!("\x1b[{colour}m{text}\x1b[0m")
}

/// Makes the text of a server fit for a terminal: a bounded length, no control characters, and none that
/// reorder or hide the text around them.
pub(super) fn plain(text: &str) -> String {
    text.chars().take(PLAIN_MAX).map(|char| if is_unsafe(char) { '?' } else { char }).collect()
}

/// Returns true if a terminal obeys the character, or shows other characters differently because of it.
pub(super) fn is_unsafe(char: char) -> bool {
    char.is_control() || is_deceptive(char)
}

/// Makes JSON fit for a terminal, with the same meaning: in strings such characters are escaped.
pub(super) fn json_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\n' => safe.push(char),
            // White space between values: in strings they are escaped already.
            '\t' | '\r' => safe.push(' '),
            // All of these are in the basic multilingual plane: four digits are enough.
            _ if is_unsafe(char) => safe.push_str(&format!("\\u{:04x}", u32::from(char))),
            _ => safe.push(char),
        }
    }
    safe
}

/// The exit code of a command that failed although its command line is right.
pub(super) const FAILURE: u8 = 1;
pub(super) const RED: u8 = 31;
pub(super) const GREEN: u8 = 32;
pub(super) const YELLOW: u8 = 33;
pub(super) const DIM: u8 = 2;
/// The longest text of a server that is shown.
const PLAIN_MAX: usize = 500;
