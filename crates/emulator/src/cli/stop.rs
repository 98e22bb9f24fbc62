//! The signals that stop a command.

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopSignal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, which Unix has.
    #[cfg_attr(not(unix), expect(dead_code, reason = "only Unix has SIGTERM"))]
    Terminate,
}

/// Waits for Ctrl-C or SIGTERM.
#[cfg(unix)]
pub(super) async fn stop_signal() -> Result<StopSignal, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map(|()| StopSignal::Interrupt).map_err(unavailable),
        _ = terminate.recv() => Ok(StopSignal::Terminate),
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) async fn stop_signal() -> Result<StopSignal, String> {
    tokio::signal::ctrl_c().await.map(|()| StopSignal::Interrupt).map_err(unavailable)
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` passes the error by value")]
fn unavailable(error: std::io::Error) -> String {
    format!("cannot wait for signals: {error}")
}
