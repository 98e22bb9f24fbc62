//! The signals of the operating system, as commands to the server.

use std::io;

use tokio::sync::mpsc::Sender;

use crate::process::server::ProcessCommand;

/// Sends a command for each signal: SIGTERM and SIGINT drain, SIGHUP reloads the configuration.
#[cfg(unix)]
pub(crate) fn forward(commands: &Sender<ProcessCommand>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for (kind, command) in [
        (SignalKind::terminate(), ProcessCommand::Drain),
        (SignalKind::interrupt(), ProcessCommand::Drain),
        (SignalKind::hangup(), ProcessCommand::Reload),
    ] {
        let mut signals = signal(kind)?;
        let commands = commands.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if commands.send(command).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

/// Sends a command to drain for each Ctrl-C. Nothing asks for a reload.
#[cfg(not(unix))]
pub(crate) fn forward(commands: &Sender<ProcessCommand>) -> io::Result<()> {
    let commands = commands.clone();
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if commands.send(ProcessCommand::Drain).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}
