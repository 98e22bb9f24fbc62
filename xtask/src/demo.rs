//! `cargo xtask demo`: two regions on loopback, with a platform that calls them.

mod calls;
mod http;
mod process;
mod scene;
mod screen;

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{complain, say};

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
    let binaries = process::build(root)?;

    say(&screen.title("Starting a platform, two regions and two bots in each"));
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

/// Monotonic time.
#[expect(
    clippy::disallowed_methods,
    reason = "the demo drives real processes; nothing here pauses the clock"
)]
fn instant() -> Instant {
    Instant::now()
}

/// Lets the processes get on with it.
#[expect(clippy::disallowed_methods, reason = "no runtime here; the demo polls processes")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
