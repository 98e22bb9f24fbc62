//! `cargo xtask fixtures | tidy | check | demo | rehearse | interop`: what is done to this repository, as opposed to with it.

mod check;
mod demo;
mod fixtures;
mod interop;
mod rehearse;
mod stage;
mod tidy;

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Fixtures, the gate, and the demo.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write fixtures/ anew from the committed keys; a second run changes nothing.
    Fixtures {
        /// Change nothing; fail if a byte would change or a file is not generated.
        #[arg(long)]
        check: bool,
    },
    /// Check what compilers do not: the arrows between crates, manifests, file heads, links.
    Tidy,
    /// The whole gate, in order, up to the first failure.
    Check,
    /// Two regions and a platform that calls them, on this machine, until Ctrl-C.
    Demo {
        /// Exit after the summary: 0 only if every call ended where it should.
        #[arg(long)]
        once: bool,
    },
    /// Real gateways under load and under faults: every kind of call, 2,000 of them at once, every refusal, a fleet that
    /// restarts one by one, an instance that is killed and one that stands still.
    Rehearse {
        /// What fits into the gate: fewer calls, keys that stay, debug builds.
        #[arg(long)]
        quick: bool,
        /// Take the binaries in this folder instead of building them.
        #[arg(long, value_name = "FOLDER")]
        binaries: Option<PathBuf>,
    },
    /// Microsoft's own client libraries against the emulator; installs them from the package registries.
    Interop,
}

fn main() -> ExitCode {
    let root = root();
    match Cli::parse().command {
        Command::Fixtures { check: true } => report("fixtures", &fixtures::check(&root)),
        Command::Fixtures { check: false } => match fixtures::write(&root) {
            Ok(summary) => {
                say(&summary);
                ExitCode::SUCCESS
            }
            Err(error) => {
                complain(&format!("fixtures: {error}"));
                ExitCode::FAILURE
            }
        },
        Command::Tidy => tidy::run(&root),
        Command::Check => check::run(&root),
        Command::Demo { once } => demo::run(&root, once),
        Command::Rehearse { quick, binaries } => rehearse::run(&root, &rehearse::Options { quick, binaries }),
        Command::Interop => interop::run(&root),
    }
}

/// The workspace's folder. Cargo names it when it runs us; a binary that was moved falls back to where it was built.
fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map(PathBuf::from).unwrap_or(package)
}

/// Prints every problem on its own line; fails if there is one.
fn report(name: &str, problems: &[String]) -> ExitCode {
    for problem in problems {
        complain(problem);
    }
    match problems.len() {
        0 => {
            say(&format!("{name}: in order"));
            ExitCode::SUCCESS
        }
        1 => {
            complain(&format!("{name}: 1 problem"));
            ExitCode::FAILURE
        }
        count => {
            complain(&format!("{name}: {count} problems"));
            ExitCode::FAILURE
        }
    }
}

/// A line on stdout. A reader that went away is no reason to fail.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line on stderr.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
