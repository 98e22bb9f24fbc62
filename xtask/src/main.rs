//! `cargo xtask fixtures | tidy | check | demo | rehearse | interop`: what is done to this repository, as opposed to with it.

mod check;
mod console;
mod demo;
mod fixtures;
mod interop;
mod rehearse;
mod support;
mod tidy;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::console::{complain, report, say};

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
    /// Run the gate, step by step, up to the first failure.
    Check {
        /// For the edit loop: format, tidy and fixtures; lints of the crates that differ from the main branch and of
        /// the crates that depend on them; tests of the crates that differ. Files that are not committed count.
        #[arg(long)]
        quick: bool,
    },
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
        Command::Check { quick } => check::run(&root, quick),
        Command::Demo { once } => demo::run(&root, once),
        Command::Rehearse { quick, binaries } => rehearse::run(&root, &rehearse::Options { quick, binaries }),
        Command::Interop => interop::run(&root),
    }
}

/// The workspace's folder: around the manifest that cargo names when it runs this program, or else around the current
/// folder.
fn root() -> PathBuf {
    let start = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).or_else(|| env::current_dir().ok());
    let start = start.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    start.ancestors().find(|folder| is_workspace(folder)).unwrap_or(&start).to_owned()
}

fn is_workspace(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line == "[workspace]"))
}
