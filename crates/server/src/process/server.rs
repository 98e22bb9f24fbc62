//! The running gateway: it binds its sockets, serves and reloads, and drains.
//!
//! Reading order: [`Server::run`], `accept`, `reload` (with `loaded`, `file_tasks`, `fixed` and
//! `background`), `drain`.

mod accept;
mod background;
mod command;
mod drain;
mod file_tasks;
mod fixed;
mod loaded;
mod reload;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::Instant,
};

use self::{
    accept::Workers,
    background::BackgroundTasks,
    drain::{DrainSchedule, accepting_stops},
    file_tasks::FileTasks,
    fixed::FixedSettings,
    loaded::LoadedConfig,
    reload::Reloader,
};
use crate::{
    admin::{self, AdminApi, Feed},
    config::{Config, Log, Problems},
    gateway::Gateway,
    metrics::Metrics,
    process::{
        connection::{Shutdown, Timeouts},
        state::ProcessState,
    },
    traces::{Exporter, TraceSettings},
    wall_clock::wall_clock,
};

pub use self::command::ProcessCommand;
pub use crate::{
    clients::{authorities::AuthoritiesError, tls_clients::TlsClientsError},
    gateway::BuildError,
    process::certificate::CertificateError,
    traces::ExporterError,
};

/// A gateway whose sockets are bound and which does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    admin: TcpListener,
    reloader: Reloader,
    exporter: Option<Exporter>,
}

/// An error that keeps the gateway from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is valid, but the gateway cannot be built from it.
    #[error("invalid configuration")]
    Build(#[from] BuildError),
    /// An address cannot be bound.
    #[error("cannot listen on {address} ({setting})")]
    Listen {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The spans of requests cannot be exported.
    #[error("cannot export traces")]
    Traces(#[from] ExporterError),
}

impl Server {
    /// Binds both listeners, so that a taken port is known before anything is served. `timeouts` replaces the
    /// time limits of production; for tests. Without `traces`, requests have no spans.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or a part of the gateway cannot be built.
    pub async fn bind(
        config: Config,
        timeouts: Option<Timeouts>,
        metrics: Arc<Metrics>,
        traces: Option<TraceSettings>,
    ) -> Result<Self, StartError> {
        let fixed = FixedSettings::of(&config);
        let drain = config.listen.drain;
        // No thread serves yet, so this one may wait for a file.
        let LoadedConfig { config, tls, certificate } = LoadedConfig::of::<StartError>(config, None)?;
        let (files, certificate) = certificate.unzip();
        let exporter = traces.map(|traces| Exporter::new(traces, &tls.authorities, &fixed.region, &metrics));
        let exporter = exporter.transpose()?;
        let tracer = exporter.as_ref().map(Exporter::tracer);
        let draining = Arc::new(AtomicBool::new(false));
        let (metrics_of, draining_of) = (Arc::clone(&metrics), Arc::clone(&draining));
        let gateway = Gateway::build(config, &tls, timeouts, metrics_of, draining_of, tracer, None)?;
        let listener = listen("listen.address", fixed.listen).await?;
        let admin = listen("admin.address", fixed.admin).await?;
        let admin_state = Arc::new(ArcSwap::from_pointee(gateway.admin_state()));
        metrics.configured(wall_clock());
        let state = Arc::new(ProcessState::new(gateway, metrics));
        state.serve_certificate(certificate);
        let reloader = Reloader { state, admin_state, draining, timeouts, fixed, certificate: files, drain };
        Ok(Self { listener, admin, reloader, exporter })
    }

    /// Returns the address of the webhook and the callbacks. With port 0 configured, it has the port that was
    /// assigned.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the address of the admin listener.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until a drain command, then drains. Returns true if nothing was cut off.
    ///
    /// `load` reads the configuration again, on a thread for blocking work; `reloaded` receives the log
    /// settings of each configuration that applies.
    ///
    /// # Errors
    ///
    /// A worker thread cannot start.
    pub async fn run(
        self,
        mut commands: mpsc::Receiver<ProcessCommand>,
        load: impl Fn() -> Result<Config, Problems> + Send + Sync + 'static,
        mut reloaded: impl FnMut(&Log),
    ) -> io::Result<bool> {
        let Self { listener, admin, mut reloader, exporter } = self;
        let state = Arc::clone(&reloader.state);
        let (shutdown, requested) = watch::channel(Shutdown::None);
        let workers = Workers::start(&state, &requested)?;
        let api = AdminApi {
            state: Arc::clone(&reloader.admin_state),
            metrics: Arc::clone(&state.metrics),
            draining: Arc::clone(&reloader.draining),
            feed: Feed::default(),
        };
        let admin = tokio::spawn(admin::serve(api, admin));
        let metrics = Arc::clone(&state.metrics);
        let exporter = exporter.map(Exporter::start);
        let suppressed = tokio::spawn(async move { metrics.refusal_events.report_each_minute().await });
        let mut background = BackgroundTasks::start(&state.gateway.load());
        let mut files = FileTasks::new(Arc::new(load));
        let mut certificates = tokio::time::interval(CERTIFICATE_INTERVAL);
        let mut drain: Option<DrainSchedule> = None;
        loop {
            tokio::select! {
                accepted = listener.accept() => workers.dispatch(accepted).await,
                command = commands.recv() => match command {
                    Some(ProcessCommand::Reload) => files.reload(&state.gateway.load().authorities),
                    Some(ProcessCommand::Drain) if drain.is_none() => {
                        reloader.draining.store(true, Relaxed);
                        drain = Some(DrainSchedule::start(reloader.drain));
                    }
                    // A second command skips the delay. So does the end of all senders of commands.
                    Some(ProcessCommand::Drain) | None => break,
                },
                () = accepting_stops(drain) => break,
                work = files.finished() => {
                    if reloader.finish(work, &mut reloaded) {
                        files.cancel_renewal();
                        background = BackgroundTasks::start(&state.gateway.load());
                    }
                    if files.is_reload_due() {
                        files.reload(&state.gateway.load().authorities);
                    }
                }
                _ = certificates.tick() => if let Some(certificate) = reloader.certificate.take() {
                    files.renew(certificate);
                },
            }
        }
        reloader.draining.store(true, Relaxed);
        let deadline = drain.map_or_else(|| Instant::now() + reloader.drain.deadline, |drain| drain.deadline);
        drain::accept_backlog(listener, &workers, deadline).await;
        let tasks = Arc::clone(&state.gateway.load().tasks);
        let is_clean = drain::finish(workers, &tasks, &shutdown, &mut commands, deadline).await;
        if let Some(exports) = exporter.map(|exporter| exporter.finish(deadline)) {
            exports.await;
        }
        drop(background);
        admin.abort();
        suppressed.abort();
        state.metrics.refusal_events.report();
        Ok(is_clean)
    }
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { setting, address, source })
}

/// The time between two checks of the certificate files. A certificate is replaced days before it expires.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
