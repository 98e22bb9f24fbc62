//! `cargo xtask bench`: the cost of a request.

mod budget;
mod callgrind;
mod client;
mod comparison;
mod footprint;
mod gateway;
mod goals;
mod groups;
mod instructions;
mod load;
mod machine;
mod measures;
mod origin;
mod page;
mod profile;
mod proxies;
mod report;
mod resources;
mod results;
mod subjects;
mod traffic;
mod verification;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use self::{
    budget::{Budget, Verdict},
    comparison::Size,
    measures::MEASURES,
    results::Results,
    subjects::{Plan, Subjects},
};
use crate::{
    console::{complain, say},
    support::{binaries, instant},
};

/// The options of `cargo xtask bench`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Count the instructions of the gateway per request instead, by callgrind, and compare them with the
    /// budget. The load of the machine hardly changes them.
    #[arg(long)]
    instructions: bool,
    /// Write the counts to the budget.
    #[arg(long, requires = "instructions", conflicts_with = "json")]
    record: bool,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    json: bool,
    /// Use this binary of the gateway instead of building it.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// The rounds of each comparison.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// The seconds of a round with wrk.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    seconds: u8,
    /// Run these comparisons only; `footprint` is memory, start and reload.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "instructions")]
    only: Vec<String>,
}

impl Options {
    /// The step of the gate: instructions within the budget.
    pub(crate) fn of_gate() -> Self {
        let (rounds, seconds) = (1, 1);
        Self {
            instructions: true,
            record: false,
            json: false,
            binary: None,
            rounds,
            seconds,
            only: Vec::new(),
        }
    }
}

/// Measures, and prints the results. Fails if a count of instructions exceeds its budget.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    let result = match options.instructions {
        true => count_instructions(root, options),
        false => compare(root, options).map(|()| Vec::new()),
    };
    match result {
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

/// Compares the servers, and prints the results.
fn compare(root: &Path, options: &Options) -> Result<(), String> {
    let names = MEASURES.iter().map(|measure| measure.name).chain([FOOTPRINT]).collect::<Vec<_>>();
    if let Some(unknown) = options.only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no comparison {unknown}; there are {}", names.join(", ")));
    }
    let is_wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    let mut machine = machine::describe()?;
    let verification_us = verification::time()?.as_secs_f64() * 1e6;
    machine.push(("RSA check", format!("{verification_us:.1} µs for a signature of 2,048 bits")));
    let gateway = gateway_binary(root, options, "release")?;
    let plan =
        Plan { gateway, tool: binaries::build_bench_tool(root)?, processors: machine::two_processors()? };
    if !options.json {
        for (name, text) in &machine {
            say(&format!("{name:<12}{text}"));
        }
    }
    let mut subjects = Subjects::start(&plan)?;
    let measures: Vec<_> = MEASURES.into_iter().filter(|measure| is_wanted(measure.name)).collect();
    let size = Size { rounds: options.rounds.into(), seconds: options.seconds.into() };
    let rows = comparison::run(&mut subjects, &plan, &measures, size)?;
    let footprints = match is_wanted(FOOTPRINT) {
        true => footprint::measure(&mut subjects, &plan, options.rounds.into())?,
        false => Vec::new(),
    };
    let results = Results { rows, footprints, verification_us };
    if options.json {
        say(&report::json(&machine, &results).to_string());
        return Ok(());
    }
    for line in [String::new()].into_iter().chain(report::text(&results)) {
        say(&line);
    }
    Ok(())
}

fn gateway_binary(root: &Path, options: &Options, profile: &str) -> Result<PathBuf, String> {
    match &options.binary {
        // Servers run in other folders.
        Some(binary) => binary.canonicalize().map_err(|error| format!("{}: {error}", binary.display())),
        None => binaries::build_gateway(root, profile),
    }
}

/// Counts, prints the counts, and returns the rows that exceed their budget.
fn count_instructions(root: &Path, options: &Options) -> Result<Vec<String>, String> {
    if !machine::is_x86_64() {
        say("bench: the instructions are counted on x86-64 only");
        return Ok(Vec::new());
    }
    let environment = machine::environment()?;
    let binary = gateway_binary(root, options, "gate")?;
    let started = instant();
    let counts = instructions::count(&binary)?;
    let rows = &counts.rows;
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
        Budget::of(&environment, rows).write(&path)?;
        say(&format!("bench: wrote {}", budget::FILE));
        return Ok(Vec::new());
    }
    match Budget::read(&path)?.judge(&environment, rows) {
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

/// The name of the last part for `--only`.
const FOOTPRINT: &str = "footprint";
