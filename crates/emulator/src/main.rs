//! The `switchboard-emulator` binary: the platform, a call, a bot.

mod cli;
mod screen;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    // One thread is plenty for a developer's machine, and leaves the others to what is being tested.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen::complain(&format!("cannot start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(cli::run(command)) {
        Ok(code) => code,
        Err(problem) => {
            screen::complain(&problem);
            ExitCode::FAILURE
        }
    }
}
