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
mod listeners;
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
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use self::{
    accept::Workers,
    background::BackgroundTasks,
    drain::{DrainSchedule, accepting_stops},
    file_tasks::{FileTasks, Finished},
    fixed::FixedSettings,
    listeners::Listener,
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
        systemd::{InheritedSockets, Message, Notifier, StatusSource},
    },
    traces::{Exporter, TraceSettings},
    wall_clock::wall_clock,
};

pub use self::{command::ProcessCommand, listeners::ListenError};
pub use crate::{
    clients::{authorities::AuthoritiesError, tls_clients::TlsClientsError},
    gateway::BuildError,
    process::certificate::CertificateError,
    traces::ExporterError,
};

/// A gateway whose sockets are bound and which does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    admin: Listener,
    reloader: Reloader,
    exporter: Option<Exporter>,
}

/// An error that keeps the gateway from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is valid, but the gateway cannot be built from it.
    #[error("invalid configuration")]
    Build(#[from] BuildError),
    /// A listener cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The spans of requests cannot be exported.
    #[error("cannot export traces")]
    Traces(#[from] ExporterError),
}

impl Server {
    /// Binds both listeners, so that a taken port is known before anything is served. Each of `sockets`
    /// replaces one of them. `timeouts` replaces the time limits of production; for tests. Without `traces`,
    /// requests have no spans.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or a part of the gateway cannot be built.
    pub async fn bind(
        config: Config,
        timeouts: Option<Timeouts>,
        metrics: Arc<Metrics>,
        traces: Option<TraceSettings>,
        sockets: InheritedSockets,
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
        let listener = Listener::open("public", "listen.address", fixed.listen, sockets.public).await?;
        let admin = Listener::open("admin", "admin.address", fixed.admin, sockets.admin).await?;
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
        self.listener.socket.local_addr()
    }

    /// Returns the address of the admin listener.
    ///
    /// # Errors
    ///
    /// The operating system does not report the address.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.socket.local_addr()
    }

    /// Serves until a drain command, then drains. Returns true if nothing was cut off.
    ///
    /// `load` reads the configuration again, on a thread for blocking work; `reloaded` receives the log
    /// settings of each configuration that applies. `notifier` tells the service manager when the gateway
    /// serves, reloads and drains.
    ///
    /// # Errors
    ///
    /// A worker thread cannot start.
    pub async fn run(
        self,
        mut commands: mpsc::Receiver<ProcessCommand>,
        load: impl Fn() -> Result<Config, Problems> + Send + Sync + 'static,
        mut reloaded: impl FnMut(&Log),
        notifier: Notifier,
    ) -> io::Result<bool> {
        let Self { listener, admin, mut reloader, exporter } = self;
        let state = Arc::clone(&reloader.state);
        let (shutdown, requested) = watch::channel(Shutdown::None);
        let workers = Workers::start(&state, &requested, &notifier)?;
        let api = AdminApi {
            state: Arc::clone(&reloader.admin_state),
            metrics: Arc::clone(&state.metrics),
            draining: Arc::clone(&reloader.draining),
            feed: Feed::default(),
        };
        let admin = tokio::spawn(admin::serve(api, admin.socket));
        let metrics = Arc::clone(&state.metrics);
        let exporter = exporter.map(Exporter::start);
        let suppressed = tokio::spawn(async move { metrics.refusal_events.report_each_minute().await });
        let mut background = BackgroundTasks::start(&state.gateway.load());
        let mut files = FileTasks::new(Arc::new(load));
        let mut certificates = tokio::time::interval(CERTIFICATE_INTERVAL);
        let mut drain: Option<DrainSchedule> = None;
        let status = StatusSource(Arc::clone(&state));
        let supervised = supervise(&notifier, status.clone());
        let mut acceptor = notifier.heartbeat("acceptor");
        notifier.send(Message::Ready(status.read().to_string()));
        loop {
            tokio::select! {
                accepted = listener.socket.accept() => workers.dispatch(accepted).await,
                command = commands.recv() => match command {
                    Some(ProcessCommand::Reload) => {
                        notifier.send(Message::Reloading);
                        files.reload(&state.gateway.load().authorities);
                    }
                    Some(ProcessCommand::Drain) if drain.is_none() => {
                        reloader.draining.store(true, Relaxed);
                        notifier.send(Message::Stopping(status.read().to_string()));
                        drain = Some(DrainSchedule::start(reloader.drain, listener.is_inherited));
                    }
                    // A second command skips the delay. So does the end of all senders of commands.
                    Some(ProcessCommand::Drain) | None => break,
                },
                () = accepting_stops(drain) => break,
                work = files.finished() => {
                    let is_reload = matches!(work, Finished::Reload(_));
                    if reloader.finish(work, &mut reloaded) {
                        files.cancel_renewal();
                        background = BackgroundTasks::start(&state.gateway.load());
                    }
                    if files.is_reload_due() {
                        files.reload(&state.gateway.load().authorities);
                    } else if is_reload {
                        notifier.send(Message::Reloaded);
                    }
                }
                () = acceptor.respond() => {}
                _ = certificates.tick() => if let Some(certificate) = reloader.certificate.take() {
                    files.renew(certificate);
                },
            }
        }
        reloader.draining.store(true, Relaxed);
        acceptor.end();
        let deadline = drain.map_or_else(|| Instant::now() + reloader.drain.deadline, |drain| drain.deadline);
        drain::close(listener, &workers, deadline).await;
        let tasks = Arc::clone(&state.gateway.load().tasks);
        let is_clean = drain::finish(workers, &tasks, &shutdown, &mut commands, deadline).await;
        if let Some(exports) = exporter.map(|exporter| exporter.finish(deadline)) {
            exports.await;
        }
        drop(background);
        admin.abort();
        suppressed.abort();
        drop(supervised);
        state.metrics.refusal_events.report();
        Ok(is_clean)
    }
}

/// Starts the tasks of the service manager: the heartbeat of the control thread, and the status.
fn supervise(notifier: &Notifier, status: StatusSource) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if notifier.is_active() {
        let mut control = notifier.heartbeat("control thread");
        tasks.spawn(async move {
            loop {
                control.respond().await;
            }
        });
        tasks.spawn(status.report(notifier.clone()));
    }
    tasks
}

/// The time between two checks of the certificate files. A certificate is replaced days before it expires.
const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(5);
