//! Command lines as the gate prints them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::console::complain;

/// Runs a command line in `root` and shows its output; true if it succeeds.
pub(super) fn run(line: &str, root: &Path) -> bool {
    match command(line, root).status() {
        Ok(status) => status.success(),
        Err(error) => {
            complain(&format!("cannot run `{line}`: {error}"));
            false
        }
    }
}

/// The output of a command line, or the reason why it failed.
pub(super) fn output(line: &str, root: &Path) -> Result<String, String> {
    let output = command(line, root).output().map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let reason = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{line}` failed: {}", reason.trim().lines().next().unwrap_or("it printed no reason")))
}

/// True if the command line succeeds; its output is dropped.
pub(super) fn is_installed(probe: &str, root: &Path) -> bool {
    let mut command = command(probe, root);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The command of a line: first `NAME=value`, then words without quotes. The printed line is the one that
/// runs.
fn command(line: &str, root: &Path) -> Command {
    let mut words = line.split(' ').peekable();
    let mut variables = Vec::new();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        variables.push((name, value));
        words.next();
    }
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words).envs(variables).current_dir(root);
    command
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_printed_line_is_the_one_that_runs() {
        let command = command("A=b C=d=e cargo doc --x=y", Path::new("/"));
        assert_eq!(command.get_program(), "cargo");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["doc", "--x=y"]);
        let variables: Vec<_> = command.get_envs().collect();
        let pair = |name, value| (OsStr::new(name), Some(OsStr::new(value)));
        assert_eq!(variables, [pair("A", "b"), pair("C", "d=e")]);
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output("no-such-program --version", Path::new("/")).unwrap_err();
        assert!(error.starts_with("cannot run `no-such-program --version`: "), "{error}");
        assert!(!is_installed("no-such-program --version", Path::new("/")));
    }
}
