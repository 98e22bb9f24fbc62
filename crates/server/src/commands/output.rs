//! The output of a command: results to stdout, errors to stderr.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

/// Prints a result. A reader that closes the pipe early is not a failure.
pub(super) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.write_all(b"\n"))
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("cannot write: {error}"), FAILURE)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints an error to stderr, and returns the exit code.
pub(super) fn complain(text: &str, code: u8) -> ExitCode {
    // If stderr is closed, the error cannot be shown.
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::from(code)
}

/// The exit code of a command that failed although its command line is right.
pub(super) const FAILURE: u8 = 1;
