//! `cargo xtask check`: the gate, step by step. Continuous integration runs this one command.

mod changes;
mod compiler;
mod shell;
mod steps;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use self::{
    changes::Changes,
    compiler::Compiler,
    steps::{Decision, STEPS, Step},
};
use crate::console::{complain, say};

/// Runs the steps in order and stops at the first failure. With `quick`, lints and tests only the crates that
/// changed, and leaves out the long steps.
pub(crate) fn run(root: &Path, quick: bool) -> ExitCode {
    let started = now();
    let prepared = Compiler::installed(root).and_then(|compiler| {
        let changes = if quick { Some(Changes::find(root)?) } else { None };
        Ok((compiler, changes))
    });
    let (compiler, changes) = match prepared {
        Ok(prepared) => prepared,
        Err(problem) => {
            complain(&format!("check: {problem}"));
            return ExitCode::FAILURE;
        }
    };
    say(&format!("check: {compiler}"));
    if let Some(changes) = &changes {
        say(&format!("check: {changes}"));
    }
    for (number, step) in (1..).zip(&STEPS) {
        let place = format!("check {number}/{}: {}", STEPS.len(), step.name);
        if !passes(root, step, &place, step.decide(&compiler, changes.as_ref())) {
            return ExitCode::FAILURE;
        }
    }
    let took = seconds(now().duration_since(started));
    match quick {
        false => say(&format!("check: passed in {took}")),
        true => say(&format!("check: the quick steps passed in {took}; the gate is `cargo xtask check`")),
    }
    ExitCode::SUCCESS
}

/// Runs one step, with a line before and after it.
fn passes(root: &Path, step: &Step, place: &str, decision: Decision) -> bool {
    let line = match decision {
        Decision::Run(line) => line,
        Decision::LeaveOut(reason) => {
            say(&format!("{place}: left out: {reason}"));
            return true;
        }
    };
    if let Some(tool) = step.tool
        && !shell::is_installed(tool.probe, root)
    {
        if tool.is_optional {
            say(&format!("{place}: left out: {}", tool.missing));
        } else {
            complain(&format!("{place}: {}", tool.missing));
        }
        return tool.is_optional;
    }
    say(&format!("{place}: {line}"));
    let started = now();
    let passed = match step.inside {
        Some(action) => action(root) == ExitCode::SUCCESS,
        None => shell::run(&line, root),
    };
    let took = seconds(now().duration_since(started));
    if passed {
        say(&format!("{place}: passed in {took}"));
    } else {
        complain(&format!("{place}: failed after {took}; run it again with: {line}"));
    }
    passed
}

#[expect(
    clippy::disallowed_methods,
    reason = "the gate measures how long its steps take; there is no runtime to pause"
)]
fn now() -> Instant {
    Instant::now()
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
