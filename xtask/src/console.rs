//! Lines on the terminal, and the exit code that goes with them.

use std::{
    io::{self, Write},
    process::ExitCode,
};

/// Writes a line to stdout. A closed pipe is ignored: the work itself did not fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Writes a line to stderr. A closed pipe is ignored.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints every problem on its own line; fails if there is one.
pub(crate) fn report(name: &str, problems: &[String]) -> ExitCode {
    for problem in problems {
        complain(problem);
    }
    match problems.len() {
        0 => {
            say(&format!("{name}: passed"));
            return ExitCode::SUCCESS;
        }
        1 => complain(&format!("{name}: 1 problem")),
        count => complain(&format!("{name}: {count} problems")),
    }
    ExitCode::FAILURE
}
