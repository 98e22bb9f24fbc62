//! `cargo xtask rehearse`: real gateways, a platform and bots on loopback, under load and under faults.

mod balancer;
mod journal;
mod lives;
mod loads;
mod refusals;
mod report;
mod rolls;
mod scene;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use self::balancer::Balancer;
use crate::{
    complain, say,
    stage::{
        http, instant, pause,
        process::{self, Binaries, Profile},
        screen::{self, Screen},
        setup,
    },
};

/// What is rehearsed, and with what.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// What fits into the gate: less load, keys that stay, the same calls and refusals.
    pub(crate) quick: bool,
    /// The binaries to take instead of building them.
    pub(crate) binaries: Option<PathBuf>,
}

/// Plays every part, sums up; succeeds only if all of them hold.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    match play(root, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("rehearse: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn play(root: &Path, options: &Options) -> Result<bool, String> {
    let screen = Screen::new();
    let began = instant();
    // What is missing is said before minutes are spent.
    Balancer::find()?;
    let binaries = match &options.binaries {
        Some(folder) => Binaries::in_folder(folder)?,
        None => {
            // The gate has just built the former; the figures of the whole rehearsal are to be those of what is deployed.
            let profile = if options.quick { Profile::Dev } else { Profile::Release };
            say(&screen.title("Building switchboard and switchboard-emulator"));
            process::build(root, profile)?
        }
    };

    let mut findings = Vec::new();
    findings.extend(lives::play(&binaries, &screen)?);
    findings.extend(refusals::play(&binaries, &screen, options.quick)?);
    for plan in if options.quick { &loads::QUICK[..] } else { &loads::WHOLE[..] } {
        findings.extend(loads::play(&binaries, &screen, plan)?);
    }

    for plan in if options.quick { &rolls::QUICK } else { &rolls::WHOLE } {
        findings.extend(rolls::play(&binaries, &screen, plan)?);
    }

    let took = began.elapsed().as_secs_f64();
    if findings.is_empty() {
        say(&screen.title(&screen.good(&format!("all of it holds, after {took:.0} s"))));
        return Ok(true);
    }
    say(&screen.title(&screen.bad(&format!("NOT all of it holds, after {took:.0} s"))));
    for finding in &findings {
        say(&format!("  {}", screen::printable(finding)));
    }
    Ok(false)
}

const POLL: Duration = Duration::from_millis(20);
