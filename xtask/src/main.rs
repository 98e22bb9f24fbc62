//! `cargo xtask`: the tasks of this repository, such as its gate, its fixtures and its demo.

mod bench;
mod check;
mod console;
mod demo;
mod dist;
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

/// Tasks of the Switchboard repository.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write fixtures/ from the committed keys; a second run changes nothing.
    Fixtures {
        /// Change nothing; fail if a byte would change or if no module generates a file.
        #[arg(long)]
        check: bool,
    },
    /// Check the rules that no compiler checks: arrows between crates, circles between files, words, lengths,
    /// links.
    Tidy,
    /// Run the gate, step by step, up to the first failure.
    Check {
        /// Check what changed: format, tidy and fixtures of everything; tests of the crates that differ from
        /// the main branch; lints of these crates and of the crates that depend on them. Uncommitted files
        /// count.
        #[arg(long)]
        quick: bool,
    },
    /// Run two regions and a platform that calls them on this machine, until Ctrl-C.
    Demo {
        /// Exit after the summary, with 0 only if every call ended as expected.
        #[arg(long)]
        once: bool,
    },
    /// Run real gateways under load and faults: every kind of call, 2,000 calls, every refusal, a rolling
    /// restart, a killed instance and a suspended one, and partial failure: instances that hang, are slow or
    /// die, a DNS server that is away, few file descriptors.
    Rehearse {
        /// Run the form that the gate runs: fewer calls, no key rotation, debug builds.
        #[arg(long)]
        quick: bool,
        /// Use the binaries in this folder instead of building them.
        #[arg(long, value_name = "FOLDER")]
        binaries: Option<PathBuf>,
        /// Run this scene only.
        #[arg(long, value_name = "SCENE")]
        only: Option<rehearse::SceneName>,
    },
    /// Measure the CPU time of a request beside nginx, HAProxy and a bare proxy, and the gateway's memory and
    /// start. Or count instructions.
    Bench(bench::Options),
    /// Make the archive, the Debian package, the SBOM and SHA256SUMS of a release in target/dist.
    Dist(dist::Options),
    /// Run Microsoft's client libraries against the emulator; installs them from the package registries.
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
        Command::Rehearse { quick, binaries, only } => {
            rehearse::run(&root, &rehearse::Options { quick, binaries, only })
        }
        Command::Bench(options) => bench::run(&root, &options),
        Command::Dist(options) => dist::run(&root, &options),
        Command::Interop => interop::run(&root),
    }
}

/// The folder of the workspace. The search starts at the manifest that cargo names when it runs this program,
/// or else at the current folder.
fn root() -> PathBuf {
    let start = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).or_else(|| env::current_dir().ok());
    let start = start.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    start.ancestors().find(|folder| is_workspace(folder)).unwrap_or(&start).to_owned()
}

fn is_workspace(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|manifest| manifest.lines().any(|line| line == "[workspace]"))
}
