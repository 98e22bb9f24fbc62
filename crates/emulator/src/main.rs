//! The `switchboard-emulator` binary: the platform, calls, bots, a recorder, or all in one.

mod cli;
mod screen;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = match cli::parse() {
        Ok(command) => command,
        // Help and the version are among these; they succeed.
        Err(error) => {
            let _ = error.print();
            return u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
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
