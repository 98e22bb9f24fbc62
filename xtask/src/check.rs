//! `cargo xtask check`: the whole gate, in order. It is the one command that continuous integration runs.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use crate::{
    console::{complain, report, say},
    demo, fixtures, rehearse, tidy,
};

/// Runs the steps one after the other and stops at the first that fails.
pub(crate) fn run(root: &Path) -> ExitCode {
    let steps = steps();
    let began = now();
    for (number, step) in (1..).zip(&steps) {
        let place = format!("check {number}/{}", steps.len());
        if let Err(reason) = step.possible(root) {
            say(&format!("{place}: {} left out: {reason}", step.name));
            continue;
        }
        say(&format!("{place}: {}: {}", step.name, step.command));
        let step_began = now();
        let passed = step.run(root);
        let took = seconds(now().duration_since(step_began));
        if !passed {
            complain(&format!("{place}: {} failed after {took}; rerun: {}", step.name, step.command));
            return ExitCode::FAILURE;
        }
        say(&format!("{place}: {} passed in {took}", step.name));
    }
    say(&format!("check: all passed in {}", seconds(now().duration_since(began))));
    ExitCode::SUCCESS
}

/// Cheap steps first; the demo and the rehearsal last, since they show nothing that the tests before have not proved in
/// part.
fn steps() -> Vec<Step> {
    vec![
        Step::cargo("format", "cargo fmt --all --check"),
        Step::cargo("lints", "cargo clippy --workspace --all-targets --locked -- -D warnings"),
        Step { name: "tidy", command: "cargo xtask tidy", action: Action::Here(tidy::run) },
        Step {
            name: "fixtures",
            command: "cargo xtask fixtures --check",
            action: Action::Here(|root| report("fixtures", &fixtures::check(root))),
        },
        Step::cargo("tests", "cargo test --workspace --locked"),
        // What only the release build has. Its dependencies are built once more, so nothing but what it changes is tested.
        Step::cargo(
            "kubernetes lints",
            "cargo clippy -p switchboard-delivery -p switchboard --features kubernetes --all-targets --locked -- -D warnings",
        ),
        Step::cargo(
            "kubernetes tests",
            "cargo test -p switchboard-delivery -p switchboard --features kubernetes --locked kubernetes",
        ),
        Step::cargo(
            "manifests",
            "cargo test -p switchboard-delivery -p switchboard --features kubernetes --locked --test manifests",
        ),
        Step {
            name: "documentation",
            command: "RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --locked",
            action: Action::Run { needs: None },
        },
        Step {
            name: "dependencies",
            command: "cargo deny check bans licenses sources",
            action: Action::Run { needs: Some(("cargo deny --version", "cargo-deny is not installed")) },
        },
        Step {
            name: "demo",
            command: "cargo xtask demo --once",
            action: Action::Here(|root| demo::run(root, true)),
        },
        Step {
            name: "rehearsal",
            command: "cargo xtask rehearse --quick",
            action: Action::Here(|root| {
                rehearse::run(root, &rehearse::Options { quick: true, binaries: None })
            }),
        },
    ]
}

/// One step of the gate.
struct Step {
    name: &'static str,
    /// What it is, and what to type to run it alone.
    command: &'static str,
    action: Action,
}

/// How a step is run.
enum Action {
    /// In this process.
    Here(fn(&Path) -> ExitCode),
    /// Its command, its output shown; left out with the reason if what it needs cannot be run.
    Run { needs: Option<(&'static str, &'static str)> },
}

impl Step {
    fn cargo(name: &'static str, command: &'static str) -> Self {
        Self { name, command, action: Action::Run { needs: None } }
    }

    fn possible(&self, root: &Path) -> Result<(), &'static str> {
        match self.action {
            Action::Run { needs: Some((command, reason)) } => {
                let mut probe = parse(command, root);
                probe.stdout(Stdio::null()).stderr(Stdio::null());
                if probe.status().is_ok_and(|status| status.success()) { Ok(()) } else { Err(reason) }
            }
            Action::Run { needs: None } | Action::Here(_) => Ok(()),
        }
    }

    fn run(&self, root: &Path) -> bool {
        match self.action {
            Action::Here(action) => action(root) == ExitCode::SUCCESS,
            Action::Run { .. } => match parse(self.command, root).status() {
                Ok(status) => status.success(),
                Err(error) => {
                    complain(&format!("{}: {error}", self.command));
                    false
                }
            },
        }
    }
}

/// A command line as it is printed: `NAME=value` in front, words without quotes. So what ran is what is shown.
fn parse(line: &str, root: &Path) -> Command {
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

#[expect(
    clippy::disallowed_methods,
    reason = "the gate tells how long its steps take; there is no runtime to pause"
)]
fn now() -> Instant {
    Instant::now()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn what_is_shown_is_what_runs() {
        let command = parse("A=b C=d=e cargo doc --x=y", Path::new("/"));
        assert_eq!(command.get_program(), "cargo");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["doc", "--x=y"]);
        let variables: Vec<_> = command.get_envs().collect();
        let pair = |name, value| (OsStr::new(name), Some(OsStr::new(value)));
        assert_eq!(variables, [pair("A", "b"), pair("C", "d=e")]);
    }

    #[test]
    fn tests_run_after_what_is_cheaper() {
        let names: Vec<_> = steps().iter().map(|step| step.name).collect();
        let tests = names.iter().position(|name| *name == "tests").unwrap();
        assert!(["format", "lints", "tidy", "fixtures"].iter().all(|name| names[..tests].contains(name)));
    }
}
