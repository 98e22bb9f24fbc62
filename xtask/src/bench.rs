//! `cargo xtask bench`: the cost of a request.

mod budget;
mod callgrind;
mod client;
mod gateway;
mod groups;
mod instructions;
mod machine;
mod origin;
mod profile;
mod traffic;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use self::budget::{Budget, Verdict};
use crate::{
    console::{complain, say},
    support::{binaries, instant},
};

/// The options of a count of instructions.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstructionOptions {
    /// Write the counts to the budget instead of comparing them.
    pub(crate) record: bool,
    /// Print JSON instead of tables.
    pub(crate) json: bool,
    /// The binary of the gateway, instead of a build.
    pub(crate) binary: Option<PathBuf>,
}

/// Counts the instructions of each mode. Fails if a mode exceeds its budget.
pub(crate) fn count_instructions(root: &Path, options: &InstructionOptions) -> ExitCode {
    match compare(root, options) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in problems {
                complain(&format!("bench: {problem}"));
            }
            complain(&format!(
                "bench: make it cheaper, or accept it with `{RECORD}` and give the reason in the commit"
            ));
            ExitCode::FAILURE
        }
        Err(problem) => {
            complain(&format!("bench: {problem}"));
            ExitCode::FAILURE
        }
    }
}

/// Counts, prints the counts, and returns the modes that exceed their budget.
fn compare(root: &Path, options: &InstructionOptions) -> Result<Vec<String>, String> {
    if !machine::is_x86_64() {
        say("bench: the instructions are counted on x86-64 only");
        return Ok(Vec::new());
    }
    let environment = machine::environment()?;
    let binary = match &options.binary {
        Some(binary) => binary.clone(),
        None => binaries::build_gateway(root)?,
    };
    let started = instant();
    let counts = instructions::count(&binary)?;
    if options.json {
        say(&instructions::json(&environment, &counts).to_string());
    } else {
        for line in instructions::table(&counts) {
            say(&line);
        }
        say(&format!("bench: counted in {:.0} s", started.elapsed().as_secs_f64()));
    }
    let path = root.join(budget::FILE);
    if options.record {
        Budget::of(&environment, &counts).write(&path)?;
        say(&format!("bench: wrote {}", budget::FILE));
        return Ok(Vec::new());
    }
    match Budget::read(&path)?.judge(&environment, &counts) {
        Verdict::Within => Ok(Vec::new()),
        Verdict::OtherEnvironment(reason) => {
            complain(&format!("bench: the budget does not apply: {reason}"));
            Ok(Vec::new())
        }
        Verdict::Cheaper(notes) => {
            for note in notes {
                complain(&format!("bench: {note}; lower the budget with `{RECORD}`"));
            }
            Ok(Vec::new())
        }
        Verdict::Exceeded(problems) => Ok(problems),
    }
}

/// The command that accepts the present counts.
const RECORD: &str = "cargo xtask bench --instructions --record";
