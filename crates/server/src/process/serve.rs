//! `switchboard serve`: the process around a [`Server`], with its configuration, log, signals and exit code.

use std::{io, path::Path, process::ExitCode, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    cli::{ConfigArgs, EX_USAGE},
    commands::load,
    config::{Config, Log},
    metrics::Metrics,
    process::{
        descriptors,
        server::{Server, StartError},
        signals,
        systemd::{InheritedSockets, InvalidSocket, Notifier, NotifierThread},
    },
    telemetry::{self, Chain},
    traces::{InvalidTraceSettings, TraceSettings},
};

/// Runs the gateway with the configuration that `args` names until a signal stops it.
///
/// The exit code is 0 after a drain that cut nothing off, 1 after one that did or if the gateway cannot
/// start, and 64 if the configuration or an inherited socket is invalid.
pub fn serve(args: &ConfigArgs) -> ExitCode {
    // First: it removes variables, which is not safe beside other threads.
    let sockets = InheritedSockets::take();
    let config = match load(args) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let log = telemetry::install(config.log.format, config.log.level);
    descriptors::raise_limit(&config.limits);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served = runtime.map_err(ServeError::Io).and_then(|runtime| {
        let notifier = NotifierThread::start()?;
        let served = runtime.block_on(run(config, sockets?, args.path(), &log, notifier.notifier()));
        runtime.shutdown_timeout(STOP_TIME_MAX);
        notifier.finish();
        served
    });
    match served {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!(error = %Chain(&error), "gateway cannot run");
            match error {
                ServeError::Start(StartError::Build(_) | StartError::Traces(_))
                | ServeError::Traces(_)
                | ServeError::Sockets(_) => ExitCode::from(EX_USAGE),
                ServeError::Start(StartError::Listen(_) | StartError::Certificate(_)) | ServeError::Io(_) => {
                    ExitCode::FAILURE
                }
            }
        }
    }
}

/// An error that stops the gateway without a drain.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot start")]
    Start(#[from] StartError),
    #[error("cannot start")]
    Sockets(#[from] InvalidSocket),
    #[error("invalid variables of traces")]
    Traces(#[from] InvalidTraceSettings),
    #[error("the operating system reports an error")]
    Io(#[from] io::Error),
}

async fn run(
    config: Config,
    sockets: InheritedSockets,
    path: &Path,
    log: &telemetry::Guard,
    notifier: Notifier,
) -> Result<bool, ServeError> {
    let metrics = Arc::new(Metrics::new(log.counts()));
    let region = config.region.to_string();
    let variable = |name: &str| std::env::var(name).ok();
    let traces = TraceSettings::from_variables(variable)?;
    let server = Server::bind(config, None, metrics, traces, sockets).await?;
    let (commands, received) = mpsc::channel(8);
    signals::forward(&commands)?;
    tracing::info!(
        public.address = %server.public_address()?,
        admin.address = %server.admin_address()?,
        region,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let path = path.to_owned();
    let reload = move || Config::load(&path, variable);
    let reloaded = |settings: &Log| log.reconfigure(settings.format, settings.level);
    Ok(server.run(received, reload, reloaded, notifier).await?)
}

/// The time after a drain for blocking work, such as the write of a key set. A slow resolver, disk or program
/// must not keep a drained process alive.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);
