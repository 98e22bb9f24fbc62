//! `cargo xtask rehearse`: real gateways, a platform and bots on loopback, under load and under faults.

mod balancer;
mod gateway_settings;
mod journal;
mod layout;
mod lifecycles;
mod load;
mod load_report;
mod members;
mod metrics;
mod page;
mod partial_failure;
mod refusals;
mod restarts;
mod slots;
mod testbed;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::ValueEnum;

use self::balancer::Balancer;
use crate::{
    console::{complain, say},
    support::{
        binaries::{self, Binaries, Profile},
        instant,
        screen::{Screen, printable},
    },
};

/// The extent of a rehearsal, and the binaries that it uses.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The form that the gate runs: less load, no key rotation, the same calls and refusals.
    pub(crate) quick: bool,
    /// A folder with binaries, to use instead of building them.
    pub(crate) binaries: Option<PathBuf>,
    /// The only scene to run, instead of all.
    pub(crate) only: Option<SceneName>,
}

/// A scene of the rehearsal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SceneName {
    /// The lifecycle of each kind of call.
    Lifecycles,
    /// Refusals by Graph and by the token endpoint.
    Refusals,
    /// Many calls, and in the whole rehearsal also keys that rotate and an instance that is killed.
    Load,
    /// Ten thousand unauthenticated senders that stay; not in the gate.
    Slots,
    /// A rolling restart, and an instance that is killed and one that is suspended.
    Restarts,
    /// The operators' page in Chromium while instances drain and die and keys rotate. Ten minutes if it is
    /// named, a short form in the whole rehearsal and with `--quick`; not in the gate.
    Page,
    /// Instances that hang, are slow or die, a DNS server that is away, few file descriptors.
    PartialFailure,
}

/// Runs every part and prints the violations; succeeds if there is none.
pub(crate) fn run(root: &Path, options: &Options) -> ExitCode {
    match rehearse(root, options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("rehearse: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn rehearse(root: &Path, options: &Options) -> Result<bool, String> {
    let screen = Screen::new();
    let started = instant();
    let plays = |scene: SceneName| options.only.is_none_or(|only| only == scene);
    // A missing program is reported before minutes are spent.
    if plays(SceneName::Restarts) {
        Balancer::find()?;
    }
    let mut binaries = match &options.binaries {
        Some(folder) => Binaries::in_folder(folder)?,
        None => {
            // The gate has just built the debug binaries. The whole rehearsal measures release binaries, as
            // deployed.
            let profile = if options.quick { Profile::Dev } else { Profile::Release };
            say(&screen.title("Building switchboard and switchboard-emulator"));
            binaries::build(root, profile)?
        }
    };

    let mut violations = Vec::new();
    if plays(SceneName::Lifecycles) {
        violations.extend(lifecycles::run(&binaries, &screen)?);
    }
    if plays(SceneName::Refusals) {
        violations.extend(refusals::run(&binaries, &screen, options.quick)?);
    }
    let loads = if options.quick { &load::QUICK[..] } else { &load::WHOLE[..] };
    for plan in loads.iter().filter(|_| plays(SceneName::Load)) {
        violations.extend(load::run(&binaries, &screen, plan)?);
    }
    if plays(SceneName::Slots) && (!options.quick || options.only.is_some()) {
        violations.extend(slots::run(&binaries, &screen)?);
    }
    let scenarios = if options.quick { &restarts::QUICK } else { &restarts::WHOLE };
    for plan in scenarios.iter().filter(|_| plays(SceneName::Restarts)) {
        violations.extend(restarts::run(&binaries, &screen, plan)?);
    }
    if plays(SceneName::Page) && (!options.quick || options.only.is_some()) {
        let is_long = options.only.is_some() && !options.quick;
        let plan = if is_long { &page::WHOLE } else { &page::SHORT };
        violations.extend(page::run(&binaries, &screen, plan)?);
    }
    if plays(SceneName::PartialFailure) {
        binaries.dns_server = Some(binaries::build_dns_server(root)?);
        let plan = if options.quick { partial_failure::QUICK } else { partial_failure::WHOLE };
        violations.extend(partial_failure::run(&binaries, &screen, &plan)?);
    }

    let took = started.elapsed().as_secs_f64();
    if violations.is_empty() {
        say(&screen.title(&screen.good(&format!("rehearsal passed in {took:.0} s"))));
        return Ok(true);
    }
    say(&screen.title(&screen.bad(&format!("rehearsal FAILED after {took:.0} s"))));
    for violation in &violations {
        say(&format!("  {}", printable(violation)));
    }
    Ok(false)
}
