//! The signals that stop a command.

use tokio::signal::unix::{SignalKind, signal};

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Waits for Ctrl-C or SIGTERM.
pub(super) async fn stop_signal() -> Result<StopSignal, String> {
    let unavailable = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map(|()| StopSignal::Interrupt).map_err(unavailable),
        _ = terminate.recv() => Ok(StopSignal::Terminate),
    }
}
