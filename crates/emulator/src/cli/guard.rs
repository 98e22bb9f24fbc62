//! `guard`: runs a program that must not outlive the process that asked for it.
//!
//! A process that is killed cannot end its children. Its end of a pipe is closed all the same, and the guard
//! reads the other end.

use std::{
    ffi::OsString,
    io::{self, Read as _},
    process::{ExitCode, Stdio},
};

use clap::Args;
use tokio::{process::Command, sync::oneshot};

use super::stop::stop_signal;

#[derive(Debug, Args)]
pub(crate) struct GuardArguments {
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the program. Kills it when stdin ends, on Ctrl-C and on SIGTERM. Returns its exit code.
pub(super) async fn run(arguments: GuardArguments) -> Result<ExitCode, String> {
    let Some((program, options)) = arguments.command.split_first() else {
        return Err("no program is given".to_owned());
    };
    let mut child = Command::new(program)
        .args(options)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
    let asked_to_stop = async {
        tokio::select! {
            () = stdin_closed() => {}
            _ = stop_signal() => {}
        }
    };
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        () = asked_to_stop => None,
    };
    let Some(ended) = ended else {
        let _ = child.kill().await;
        return Ok(ExitCode::SUCCESS);
    };
    let status = ended.map_err(|error| format!("cannot wait for {}: {error}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Waits for the end of stdin. A thread reads it: a task that reads would keep the process from ending.
async fn stdin_closed() {
    let (closed, wait) = oneshot::channel::<()>();
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        drop(closed);
    });
    let _ = wait.await;
}
