//! `cargo xtask demo`: two regions on loopback, and a platform that places calls.

mod calls;
mod regions;

use std::{path::Path, process::ExitCode};

use crate::{
    console::{complain, say},
    support::{
        binaries::{self, Profile},
        screen::Screen,
    },
};

/// Builds and starts everything, places the calls, and prints a summary. Without `once`, the processes stay
/// until Ctrl-C.
///
/// Succeeds only if every call ended as expected.
pub(crate) fn run(root: &Path, once: bool) -> ExitCode {
    match show(root, once) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("demo: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn show(root: &Path, once: bool) -> Result<bool, String> {
    let screen = Screen::new();
    say(&screen.title("Building switchboard and switchboard-emulator"));
    let binaries = binaries::build(root, Profile::Dev)?;

    say(&screen.title("Starting a platform, two regions and three bots in each"));
    let mut regions = regions::Regions::start(&binaries)?;

    say(&screen.title("Placing calls"));
    let passed = calls::place_all(&mut regions, &screen)?;
    if !passed {
        regions.show_gateway_logs();
    }
    if once {
        return Ok(passed);
    }

    say(&screen.title("All processes run until Ctrl-C"));
    for line in regions.addresses() {
        say(&line);
    }
    regions.watch()
}
