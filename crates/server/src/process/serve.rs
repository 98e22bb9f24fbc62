//! `switchboard serve`: the process around a [`Server`]: configuration, log, signals, exit code.

use std::{io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    cli::EX_USAGE,
    commands::load,
    config::Config,
    metrics::Metrics,
    process::{
        descriptors,
        server::{Command, Server},
    },
    telemetry::{self, Chain},
};

/// Runs the gateway with the configuration at `path` until it is told to stop. 0 after a drain that cut nothing, 1 after
/// one that did or a start that failed, 64 for a configuration that is wrong.
pub fn serve(path: &Path) -> ExitCode {
    let config = match load(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let log = telemetry::install(config.log.format, config.log.level);
    descriptors::provide(&config.limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map_err(Stopped::Io).and_then(|runtime| {
        let served = runtime.block_on(run(config, path, &log));
        runtime.shutdown_timeout(STOP_TIME);
        served
    });
    match served {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the gateway cannot run");
            match error {
                Stopped::Start(crate::process::server::StartError::Build(_)) => ExitCode::from(EX_USAGE),
                Stopped::Start(_) | Stopped::Io(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// Why the gateway ended without a drain.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("cannot start")]
    Start(#[from] crate::process::server::StartError),
    #[error("the operating system refuses")]
    Io(#[from] io::Error),
}

async fn run(config: Config, path: &Path, log: &telemetry::Guard) -> Result<bool, Stopped> {
    let metrics = Arc::new(Metrics::new(log.counts()));
    let region = config.region.to_string();
    let server = Server::bind(config, None, metrics).await?;
    let (commands, received) = mpsc::channel(8);
    for (kind, command) in [
        (SignalKind::terminate(), Command::Drain),
        (SignalKind::interrupt(), Command::Drain),
        (SignalKind::hangup(), Command::Reload),
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
    tracing::info!(
        public.address = %server.public_address()?,
        admin.address = %server.admin_address()?,
        region,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let reload = || Config::load(path, |name| std::env::var(name).ok());
    Ok(server.run(received, reload, |settings| log.reconfigure(settings.format, settings.level)).await?)
}

/// For what waits for the operating system after a drain: a key set may still be written. A silent resolver, a disk or a
/// program that hangs must not keep a process that has drained.
const STOP_TIME: Duration = Duration::from_secs(1);
