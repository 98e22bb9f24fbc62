//! `cargo xtask check`: the gate, step by step. Continuous integration runs this one command.

mod changes;
mod compiler;
mod shell;
mod steps;
mod times;

use std::{env, path::Path, process::ExitCode, time::Instant};

use self::{
    changes::Changes,
    compiler::Compiler,
    steps::{Decision, STEPS, Step, Tool, Without},
    times::{Times, seconds},
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
    let is_ci = env::var_os("CI").is_some_and(|value| value == "true");
    let decided: Vec<_> = STEPS.iter().map(|step| (step, step.decide(&compiler, changes.as_ref()))).collect();
    let is_missing = |tool: &Tool| !tool.probes.iter().any(|probe| shell::is_installed(probe, root));
    let missing: Vec<_> = missing(&decided, is_missing);
    if is_ci && !missing.is_empty() {
        for problem in missing {
            complain(&format!("check: {problem}"));
        }
        complain("check: a tool is missing, and CI=true");
        return ExitCode::FAILURE;
    }
    let mut times = Times::default();
    for (number, (step, decision)) in (1..).zip(decided) {
        let place = format!("check {number}/{}: {}", STEPS.len(), step.name);
        let tool = step.tool.filter(|tool| missing.contains(&tool.missing));
        if !passes(root, step, &place, decision, tool, &mut times) {
            return ExitCode::FAILURE;
        }
    }
    let whole = now().duration_since(started);
    for line in times.table(whole) {
        say(&format!("check: {line}"));
    }
    match quick {
        false => say(&format!("check: passed in {}", seconds(whole))),
        true => say(&format!(
            "check: the quick steps passed in {}; the gate is `cargo xtask check`",
            seconds(whole)
        )),
    }
    ExitCode::SUCCESS
}

/// The lines about the missing tools of the steps that run. They are looked for before the first step, so
/// that continuous integration fails at once.
fn missing(decided: &[(&'static Step, Decision)], is_missing: impl Fn(&Tool) -> bool) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (step, decision) in decided {
        if let (Some(tool), Decision::Run(_)) = (&step.tool, decision)
            && !missing.contains(&tool.missing)
            && is_missing(tool)
        {
            missing.push(tool.missing);
        }
    }
    missing
}

/// Runs one step, with a line before and after it. `missing` is the tool of the step if it is not installed.
fn passes(
    root: &Path,
    step: &Step,
    place: &str,
    decision: Decision,
    missing: Option<Tool>,
    times: &mut Times,
) -> bool {
    let line = match (decision, missing) {
        (Decision::LeaveOut(reason), _) => {
            say(&format!("{place}: left out: {reason}"));
            times.leave_out(step.name, reason);
            return true;
        }
        (Decision::Run(_), Some(Tool { missing, without: Without::LeaveOut, .. })) => {
            say(&format!("{place}: left out: {missing}"));
            times.leave_out(step.name, missing);
            return true;
        }
        (Decision::Run(_), Some(Tool { missing, without: Without::Fail, .. })) => {
            complain(&format!("{place}: {missing}"));
            return false;
        }
        (Decision::Run(line), Some(Tool { missing, without: Without::RunPartly, .. })) => {
            say(&format!("{place}: {missing}"));
            line
        }
        (Decision::Run(line), None) => line,
    };
    say(&format!("{place}: {line}"));
    let started = now();
    let passed = match step.inside {
        Some(action) => action(root) == ExitCode::SUCCESS,
        None => shell::run(&line, root),
    };
    let took = now().duration_since(started);
    times.add(step.name, took);
    if passed {
        say(&format!("{place}: passed in {}", seconds(took)));
    } else {
        complain(&format!("{place}: failed after {}; run it again with: {line}", seconds(took)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_missing_tool_of_the_steps_that_run_is_named_once() {
        let compiler = Compiler::parse("rustc 1.95.0").unwrap();
        let decided: Vec<_> = STEPS.iter().map(|step| (step, step.decide(&compiler, None))).collect();
        let found = missing(&decided, |_| true);
        let named = |word: &str| found.iter().filter(|line| line.contains(word)).count();
        for tool in [
            "rustfmt is",
            "clippy is",
            "promtool is",
            "Chromium is",
            "cargo-deny is",
            "haproxy is",
            "debootstrap is",
            "valgrind is",
        ] {
            assert_eq!(named(tool), 1, "{tool}");
        }
        assert!(missing(&decided, |_| false).is_empty());
        let left_out: Vec<_> = STEPS.iter().map(|step| (step, Decision::LeaveOut("quick"))).collect();
        assert!(missing(&left_out, |_| true).is_empty());
    }

    #[test]
    fn a_missing_tool_fails_the_step_or_leaves_it_out() {
        let step = |name: &str| STEPS.iter().find(|step| step.name == name).unwrap();
        let mut times = Times::default();
        for (name, passed) in [("lints", false), ("dependencies", true), ("rehearsal", false)] {
            let step = step(name);
            let decision = Decision::Run("no-such-program".to_owned());
            assert_eq!(passes(Path::new("/"), step, name, decision, step.tool, &mut times), passed, "{name}");
        }
        // The tests run without Chromium: here they fail, since the program of the line is missing.
        let decision = Decision::Run("no-such-program".to_owned());
        assert!(!passes(Path::new("/"), step("tests"), "tests", decision, step("tests").tool, &mut times));
        assert_eq!(times.table(std::time::Duration::ZERO).len(), 3);
    }
}
