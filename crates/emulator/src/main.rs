//! The `switchboard-emulator` binary: the platform, a call, a bot.

mod cli;
mod screen;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let command = cli::Cli::parse().command;
    // One thread is enough, and leaves the other cores to the programs under test.
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
