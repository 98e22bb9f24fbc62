//! A configuration, and the parts of it that come from files.

use std::sync::Arc;

use crate::{
    clients::{authorities::Authorities, tls_clients::TlsClients},
    config::{Config, Problems},
    gateway::BuildError,
    process::certificate::{Certificate, CertificateError, CertificateFiles},
};

/// A configuration and the contents of the files that it names. A gateway is built from it without waiting
/// for a file.
#[derive(Debug)]
pub(super) struct LoadedConfig {
    pub(super) config: Config,
    pub(super) tls: TlsClients,
    pub(super) certificate: Option<(CertificateFiles, Certificate)>,
}

/// A configuration that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Invalid(Problems),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl From<Problems> for LoadError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl LoadedConfig {
    /// Reads the files that `config` names. `last` are the authorities of the system when they were last
    /// read.
    pub(super) fn of<E>(config: Config, last: Option<&Arc<Authorities>>) -> Result<Self, E>
    where
        E: From<BuildError> + From<CertificateError>,
    {
        let certificate = config.listen.tls.clone().map(CertificateFiles::open).transpose()?;
        let tls = TlsClients::load(&config, last).map_err(BuildError::Tls)?;
        Ok(Self { config, tls, certificate })
    }
}
