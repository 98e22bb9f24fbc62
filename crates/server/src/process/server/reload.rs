//! Reload: the parts of the process that a new configuration or a new certificate replaces.

use std::sync::{Arc, atomic::AtomicBool};

use arc_swap::ArcSwap;

use crate::{
    admin::AdminState,
    config::{Drain, Log},
    gateway::{BuildError, Gateway},
    process::{
        certificate::{Certificate, CertificateError, CertificateFiles},
        connection::Timeouts,
        server::{
            file_tasks::{FileWorkError, Finished},
            fixed::FixedSettings,
            loaded::{LoadError, LoadedConfig},
        },
        state::ProcessState,
    },
    telemetry::Chain,
    wall_clock::wall_clock,
};

/// Applies new configurations and new certificates to the running process.
#[derive(Debug)]
pub(super) struct Reloader {
    pub(super) state: Arc<ProcessState>,
    pub(super) admin_state: Arc<ArcSwap<AdminState>>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) timeouts: Option<Timeouts>,
    pub(super) fixed: FixedSettings,
    pub(super) certificate: Option<CertificateFiles>,
    pub(super) drain: Drain,
}

impl Reloader {
    /// Applies file work that ended. Returns true if a new gateway applies. `reloaded` receives the log
    /// settings of a new configuration first, so that the event of the reload is written by them.
    pub(super) fn finish(&mut self, work: Finished, reloaded: &mut impl FnMut(&Log)) -> bool {
        match work {
            Finished::Reload(loaded) => self.reload(*loaded, reloaded),
            Finished::Renewal(files, renewed) => {
                self.certificate = Some(files);
                self.renew_certificate(renewed);
                false
            }
        }
    }

    /// Applies a configuration that was read again, or keeps the old one. Returns true if it applies.
    fn reload(
        &mut self,
        loaded: Result<Result<LoadedConfig, LoadError>, FileWorkError>,
        reloaded: &mut impl FnMut(&Log),
    ) -> bool {
        let loaded = loaded.map_err(ReloadError::Hangs).and_then(|loaded| loaded.map_err(ReloadError::Load));
        let built = loaded.and_then(|loaded| self.build(loaded));
        let observed = Arc::clone(&self.state.gateway.load().observed);
        self.state.metrics.reload(built.is_ok(), wall_clock());
        match built {
            Ok(built) => {
                let log = built.log;
                self.apply(built);
                reloaded(&log);
                observed.note_reload(None, wall_clock());
                tracing::info!("configuration reloaded");
                true
            }
            Err(error) => {
                observed.note_reload(Some(&Chain(&error).to_string()), wall_clock());
                tracing::error!(problems = %Chain(&error), "reload refused: keeping the old configuration");
                false
            }
        }
    }

    /// Serves the certificate in the files of `listen.tls` if they changed. An unusable certificate leaves
    /// the old one in place: the files may be half-written, and are read again when they change again.
    fn renew_certificate(&self, renewed: Option<Result<Certificate, CertificateError>>) {
        match renewed {
            None => {}
            Some(Ok(certificate)) => {
                self.state.serve_certificate(Some(certificate));
                tracing::info!("certificate reloaded");
            }
            Some(Err(error)) => tracing::error!(
                error = %Chain(&error),
                "keeping the old certificate: the new one cannot be used"
            ),
        }
    }

    /// Builds everything that the configuration needs. Nothing of it applies yet.
    fn build(&self, loaded: LoadedConfig) -> Result<Built, ReloadError> {
        let LoadedConfig { config, tls, certificate } = loaded;
        let problems = self.fixed.problems(&FixedSettings::of(&config));
        if !problems.is_empty() {
            return Err(ReloadError::Fixed(problems));
        }
        let (log, drain) = (config.log, config.listen.drain);
        let (files, certificate) = certificate.unzip();
        let last = self.state.gateway.load();
        let metrics = Arc::clone(&self.state.metrics);
        let draining = Arc::clone(&self.draining);
        let gateway = Gateway::build(config, &tls, self.timeouts, metrics, draining, None, Some(&last))?;
        Ok(Built { gateway: Arc::new(gateway), files, certificate, drain, log })
    }

    fn apply(&mut self, built: Built) {
        let Built { gateway, files, certificate, drain, log: _ } = built;
        self.admin_state.store(Arc::new(gateway.admin_state()));
        self.state.metrics.retain_peers(|peer| gateway.peers.has(peer));
        self.state.gateway.store(gateway);
        self.state.serve_certificate(certificate);
        self.certificate = files;
        self.drain = drain;
    }
}

/// The parts of a configuration that does not apply yet.
struct Built {
    gateway: Arc<Gateway>,
    files: Option<CertificateFiles>,
    certificate: Option<Certificate>,
    drain: Drain,
    log: Log,
}

/// A configuration that cannot replace the old one.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Load(LoadError),
    #[error(transparent)]
    Hangs(FileWorkError),
    #[error("{}", .0.join("\n"))]
    Fixed(Vec<String>),
    #[error(transparent)]
    Build(#[from] BuildError),
}
