//! The running gateway: bind, accept, reload, drain. The parts that outlive a reload are `Shared`.

use std::{
    fmt, io,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use openssl::{error::ErrorStack, ssl::SslAcceptor};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::Instant,
};

use crate::{
    admin::{Admin, Parts},
    config::{Config, Drain, Log, Problems, TlsFiles},
    gateway::Gateway,
    metrics::Metrics,
    process::{
        connection::Timeouts,
        tasks::Tasks,
        tls::{self, Fingerprint},
        worker::{self, Stage},
    },
    telemetry::Chain,
};

pub use crate::gateway::BuildError;

/// What the process is asked to do while it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Read the configuration again (SIGHUP).
    Reload,
    /// Drain and end (SIGTERM, SIGINT). Asked again, the gateway waits for the balancer no longer; asked a third time, for
    /// nothing.
    Drain,
}

/// What every thread shares, whatever configuration it serves.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) app: ArcSwap<Gateway>,
    pub(crate) metrics: Arc<Metrics>,
    tls: ArcSwapOption<Tls>,
}

struct Tls {
    acceptor: SslAcceptor,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Shared {
    pub(crate) fn new(app: Gateway, metrics: Arc<Metrics>) -> Self {
        Self { app: ArcSwap::from_pointee(app), metrics, tls: ArcSwapOption::empty() }
    }

    fn serve_certificate(&self, tls: Option<Tls>) {
        if let Some(not_after) = tls.as_ref().and_then(|tls| tls::not_after(&tls.acceptor)) {
            self.metrics.certificate_not_after(not_after);
        }
        self.tls.store(tls.map(Arc::new));
    }

    /// The acceptor of the newest certificate; `None` without TLS.
    pub(crate) fn tls(&self) -> Option<SslAcceptor> {
        self.tls.load().as_ref().map(|tls| tls.acceptor.clone())
    }
}

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A part refuses its settings.
    #[error("invalid configuration")]
    Build(#[from] BuildError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting})")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key cannot be used.
    #[error("cannot use the certificate of listen.tls")]
    Certificate(#[source] ErrorStack),
}

/// A gateway whose sockets are bound and which does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    admin: TcpListener,
    shared: Arc<Shared>,
    parts: Arc<ArcSwap<Parts>>,
    draining: Arc<AtomicBool>,
    timeouts: Option<Timeouts>,
    files: Option<TlsFiles>,
    fingerprint: Option<Fingerprint>,
    drain: Drain,
    requested: Requested,
}

/// The settings that a reload may not change, as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requested {
    region: String,
    listen: SocketAddr,
    admin: SocketAddr,
    tls: bool,
}

impl Requested {
    fn of(config: &Config) -> Self {
        Self {
            region: config.region.to_string(),
            listen: config.listen.address,
            admin: config.admin.address,
            tls: config.listen.tls.is_some(),
        }
    }

    /// What `next` would change, in the words of the configuration.
    fn changed(&self, next: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        let mut compare = |setting: &str, now: &dyn ToString, next: &dyn ToString| {
            let (now, next) = (now.to_string(), next.to_string());
            if now != next {
                changed.push(format!("{setting}: a reload cannot change {now} into {next}; restart instead"));
            }
        };
        compare("region", &self.region, &next.region);
        compare("listen.address", &self.listen, &next.listen);
        compare("admin.address", &self.admin, &next.admin);
        let with = |tls: bool| if tls { "TLS" } else { "plain HTTP" };
        compare("listen.tls", &with(self.tls), &with(next.tls));
        changed
    }
}

impl Server {
    /// Binds both listeners, so that a port that is taken is known before anything is served. `timeouts` replaces the
    /// limits in time of production; for tests.
    pub async fn bind(
        config: Config,
        timeouts: Option<Timeouts>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StartError> {
        let requested = Requested::of(&config);
        let files = config.listen.tls.clone();
        let drain = config.listen.drain;
        let (tls, fingerprint) = certificate(files.as_ref())?;
        let draining = Arc::new(AtomicBool::new(false));
        let app = Gateway::build(config, timeouts, Arc::clone(&metrics), Arc::clone(&draining), None)?;
        let listener = listen("listen.address", requested.listen).await?;
        let admin = listen("admin.address", requested.admin).await?;
        let parts = Arc::new(ArcSwap::from_pointee(app.parts()));
        let shared = Shared::new(app, metrics);
        shared.serve_certificate(tls);
        Ok(Self {
            listener,
            admin,
            shared: Arc::new(shared),
            parts,
            draining,
            timeouts,
            files,
            fingerprint,
            drain,
            requested,
        })
    }

    /// The address of the webhook and the callbacks; with port 0 configured, the one that was given.
    pub fn public_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> io::Result<SocketAddr> {
        self.admin.local_addr()
    }

    /// Serves until it is told to drain; true if nothing was cut. `load` reads the configuration again; `accepted` is told
    /// the log settings of one that was put to work.
    pub async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut load: impl FnMut() -> Result<Config, Problems>,
        mut accepted: impl FnMut(&Log),
    ) -> io::Result<bool> {
        let (stage, staged) = watch::channel(Stage::Serving);
        let count = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            workers.push(worker::start(number, Arc::clone(&self.shared), staged.clone())?);
        }
        let admin = Admin {
            parts: Arc::clone(&self.parts),
            metrics: Arc::clone(&self.shared.metrics),
            draining: Arc::clone(&self.draining),
        };
        let admin = tokio::spawn(admin.serve(self.admin));
        let mut background = Background::start(&self.shared.app.load_full());
        let mut certificates = tokio::time::interval(tls::LOOK_INTERVAL);
        let mut stop_accepting: Option<Instant> = None;
        let mut cut_at: Option<Instant> = None;
        loop {
            let accepting_ends = async {
                match stop_accepting {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                accepted = self.listener.accept() => accept(accepted, &self.shared, &workers).await,
                command = commands.recv() => match command {
                    Some(Command::Reload) => match load() {
                        Err(problems) => {
                            self.shared.metrics.reload(false);
                            tracing::error!(problems = %problems, "reload refused; the old configuration runs on");
                        }
                        Ok(config) => {
                            let log = config.log;
                            let drain = config.listen.drain;
                            match reload(&self.requested, &self.shared, self.timeouts, &self.draining, config) {
                                Err(error) => {
                                    self.shared.metrics.reload(false);
                                    tracing::error!(problems = error, "reload refused; the old configuration runs on");
                                }
                                Ok((app, files, tls, fingerprint)) => {
                                    self.parts.store(Arc::new(app.parts()));
                                    self.shared.app.store(Arc::clone(&app));
                                    self.shared.serve_certificate(tls);
                                    self.shared.metrics.retain_peers(|peer| app.peers.has(peer));
                                    self.files = files;
                                    self.fingerprint = fingerprint;
                                    self.drain = drain;
                                    background = Background::start(&app);
                                    accepted(&log);
                                    self.shared.metrics.reload(true);
                                    tracing::info!("configuration reloaded");
                                }
                            }
                        }
                    },
                    Some(Command::Drain) if stop_accepting.is_none() => {
                        self.draining.store(true, Relaxed);
                        let now = Instant::now();
                        stop_accepting = Some(now + self.drain.delay);
                        cut_at = Some(now + self.drain.deadline);
                        tracing::info!(
                            delay_ms = milliseconds(self.drain.delay),
                            deadline_ms = milliseconds(self.drain.deadline),
                            "draining: not ready any more, still serving"
                        );
                    }
                    // Asked twice, or nobody is left to ask: without further delay.
                    Some(Command::Drain) | None => break,
                },
                () = accepting_ends => break,
                _ = certificates.tick() => if let Some(files) = &self.files {
                    renew(files, &mut self.fingerprint, &self.shared);
                },
            }
        }
        self.draining.store(true, Relaxed);
        let cut_at = cut_at.unwrap_or_else(|| Instant::now() + self.drain.deadline);
        drop(self.listener);
        let tasks = Arc::clone(&self.shared.app.load().tasks);
        let cut = finish(workers, &tasks, &stage, &mut commands, cut_at).await;
        drop(background);
        admin.abort();
        if cut.is_nothing() {
            tracing::info!("drained: nothing was cut");
        } else {
            tracing::warn!(
                requests = cut.requests,
                actions = cut.actions,
                "the drain's deadline passed; requests were cut"
            );
        }
        Ok(cut.is_nothing())
    }
}

/// The tasks that keep what an app knows fresh. They end when the app is replaced.
struct Background(JoinSet<()>);

impl Background {
    fn start(app: &Arc<Gateway>) -> Self {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&app.authenticator).run(wall_clock));
        tasks.spawn(Arc::clone(&app.delivery).run());
        tasks.spawn(Arc::clone(&app.peers).run(Arc::clone(&app.metrics)));
        Self(tasks)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.abort_all();
    }
}

type Reloaded = (Arc<Gateway>, Option<TlsFiles>, Option<Tls>, Option<Fingerprint>);

/// Builds everything of the new configuration before anything of it is put to work.
fn reload(
    requested: &Requested,
    shared: &Shared,
    timeouts: Option<Timeouts>,
    draining: &Arc<AtomicBool>,
    config: Config,
) -> Result<Reloaded, String> {
    let changed = requested.changed(&Requested::of(&config));
    if !changed.is_empty() {
        return Err(changed.join("\n"));
    }
    let files = config.listen.tls.clone();
    let (tls, fingerprint) = certificate(files.as_ref()).map_err(|error| Chain(&error).to_string())?;
    let last = shared.app.load();
    let app =
        Gateway::build(config, timeouts, Arc::clone(&shared.metrics), Arc::clone(draining), Some(&last))
            .map_err(|error| Chain(&error).to_string())?;
    Ok((Arc::new(app), files, tls, fingerprint))
}

/// The certificate, and what its files looked like before they were read: those that change meanwhile are read again.
fn certificate(files: Option<&TlsFiles>) -> Result<(Option<Tls>, Option<Fingerprint>), StartError> {
    let Some(files) = files else { return Ok((None, None)) };
    let fingerprint = Fingerprint::of(files);
    let acceptor = tls::acceptor(files).map_err(StartError::Certificate)?;
    Ok((Some(Tls { acceptor }), Some(fingerprint)))
}

/// Reads the certificate again if its files have changed. One that cannot be used leaves the old one in place: the
/// files may be half-written, and are looked at again.
fn renew(files: &TlsFiles, fingerprint: &mut Option<Fingerprint>, shared: &Shared) {
    let now = Fingerprint::of(files);
    if fingerprint.as_ref() == Some(&now) {
        return;
    }
    *fingerprint = Some(now);
    match tls::acceptor(files) {
        Ok(acceptor) => {
            shared.serve_certificate(Some(Tls { acceptor }));
            tracing::info!("certificate read again");
        }
        Err(error) => {
            tracing::error!(error = %Chain(&error), "the new certificate cannot be used; the old one serves on");
        }
    }
}

/// Hands a connection to the worker that has the fewest.
async fn accept(accepted: io::Result<(TcpStream, SocketAddr)>, shared: &Shared, workers: &[worker::Handle]) {
    let stream = match accepted {
        Ok((stream, _)) => stream,
        Err(error) => {
            // The peer that gave up before we came is nobody's problem. Out of descriptors is: it lasts, and without a pause
            // the loop would spin.
            if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                tracing::error!(error = %error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            return;
        }
    };
    let limit = shared.app.load().limits.connections;
    let Some(guard) = shared.metrics.connection(limit) else {
        // Before any crypto: the descriptor is all that it cost.
        return;
    };
    let _ = stream.set_nodelay(true); // a hint; without it answers wait for acknowledgements
    let Ok(stream) = stream.into_std() else { return };
    let living = workers.iter().filter_map(|worker| Some((worker, worker.open()?)));
    if let Some((worker, _)) = living.min_by_key(|(_, open)| *open) {
        worker.give(stream, guard);
    }
}

/// What did not end before the deadline of a drain.
#[derive(Clone, Copy, Debug)]
struct Cut {
    requests: usize,
    /// Those whose request has ended, too.
    actions: usize,
}

impl Cut {
    fn is_nothing(self) -> bool {
        self.requests == 0 && self.actions == 0
    }
}

/// Closes what is idle, waits for what is under way until `cut_at`, cuts the rest.
async fn finish(
    workers: Vec<worker::Handle>,
    tasks: &Tasks,
    stage: &watch::Sender<Stage>,
    commands: &mut mpsc::Receiver<Command>,
    cut_at: Instant,
) -> Cut {
    stage.send_replace(Stage::Finishing);
    // The threads are joined on a thread of their own: this runtime has the admin listener to serve.
    let mut joined: JoinHandle<usize> =
        tokio::task::spawn_blocking(move || workers.into_iter().map(worker::Handle::join).sum());
    let patience = async {
        let expired = tokio::time::sleep_until(cut_at);
        tokio::pin!(expired);
        loop {
            tokio::select! {
                () = &mut expired => return,
                command = commands.recv() => match command {
                    Some(Command::Drain) => return,
                    Some(Command::Reload) => {}
                    None => {
                        expired.as_mut().await;
                        return;
                    }
                },
            }
        }
    };
    // Workers first: what they have under way may begin tasks.
    let mut requests = None;
    let finished = async {
        requests = Some((&mut joined).await.unwrap_or(1));
        tasks.finished().await;
    };
    tokio::select! {
        () = finished => {}
        () = patience => {}
    }
    stage.send_replace(Stage::Cutting);
    let requests = match requests {
        Some(requests) => requests,
        None => joined.await.unwrap_or(1),
    };
    Cut { requests, actions: tasks.under_way() }
}

async fn listen(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { setting, address, source })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: the authenticator is given this clock for the age of stored keys"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// Long enough for a connection to end, short enough for nobody to notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
