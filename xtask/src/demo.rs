//! `cargo xtask demo`: two regions on loopback, with a platform that calls them.

mod calls;
mod scene;

use std::{path::Path, process::ExitCode};

use crate::{
    console::{complain, say},
    stage::{http, instant, pause, process, screen, setup},
};

/// Builds, starts everything, places the calls, sums up; with `once` ends there, else stays until Ctrl-C.
///
/// Succeeds only if every call ended where it should.
pub(crate) fn run(root: &Path, once: bool) -> ExitCode {
    match play(root, once) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            complain(&format!("demo: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn play(root: &Path, once: bool) -> Result<bool, String> {
    let screen = screen::Screen::new();
    say(&screen.title("Building switchboard and switchboard-emulator"));
    let binaries = process::build(root, process::Profile::Dev)?;

    say(&screen.title("Starting a platform, two regions and three bots in each"));
    let mut scene = scene::Scene::start(&binaries)?;

    say(&screen.title("Placing calls"));
    let all_well = calls::play_all(&mut scene, &screen)?;
    if !all_well {
        scene.show_gateway_logs();
    }
    if once {
        return Ok(all_well);
    }

    say(&screen.title("Everything stays up until Ctrl-C"));
    for line in scene.addresses() {
        say(&line);
    }
    scene.watch()
}
