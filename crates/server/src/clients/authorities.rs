//! `Authorities`: the certificate authorities of the system, parsed once for all TLS clients of the gateway.
//!
//! OpenSSL needs tens of milliseconds and a megabyte for a bundle of all public authorities. A reload parses
//! it again only if it changed.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use openssl::{
    error::ErrorStack,
    ssl::{
        SslConnector, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslMode, SslOptions,
        SslVerifyMode, SslVersion,
    },
    version,
    x509::{
        X509,
        store::{X509Lookup, X509Store, X509StoreBuilder},
    },
};
use switchboard_delivery::TlsClient;

use crate::config::{CaCertificates, FileFingerprint, FileHangs, shown};

/// The authorities of the system, and the TLS clients that trust them.
pub(crate) struct Authorities {
    /// The certificates of the bundle. Each store has references to them.
    certificates: Vec<X509>,
    bundle: Bundle,
    /// The context of all clients of documents without authorities of their own.
    pub(crate) documents: SslContext,
    upstreams: TlsClient,
}

impl Authorities {
    /// Reads the authorities of the system. Returns `last` if they have not changed since.
    ///
    /// # Errors
    ///
    /// The file of the authorities does not respond, or OpenSSL refuses a setting.
    pub(crate) fn load(last: Option<&Arc<Self>>) -> Result<Arc<Self>, AuthoritiesError> {
        let path = bundle_path();
        let fingerprint = FileFingerprint::of(&path)
            .map_err(|source| AuthoritiesError::Hangs { path: shown(&path), source })?;
        let bundle = Bundle { path, fingerprint };
        match last.filter(|last| last.bundle == bundle) {
            Some(last) => Ok(Arc::clone(last)),
            None => Ok(Arc::new(Self::parse(bundle)?)),
        }
    }

    fn parse(bundle: Bundle) -> Result<Self, ErrorStack> {
        // The only parse. The connector's own context is for documents; the one of upstreams takes its place,
        // because a builder of a connector cannot be had without a parse.
        let mut connector = SslConnector::builder(SslMethod::tls_client())?;
        let placeholder = SslContextBuilder::new(SslMethod::tls_client())?;
        let documents = std::mem::replace(&mut *connector, placeholder).build();
        let certificates: Vec<X509> = documents.cert_store().all_certificates().into_iter().collect();
        *connector = context(store(&certificates)?.build())?;
        Ok(Self { upstreams: TlsClient::new(connector)?, certificates, bundle, documents })
    }

    /// A context of a client that trusts the authorities of the system, and those of `ca`.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses a setting.
    pub(crate) fn with(&self, ca: &CaCertificates) -> Result<SslContext, ErrorStack> {
        let mut store = store(&self.certificates)?;
        for certificate in &ca.certificates {
            store.add_cert(certificate.clone())?;
        }
        Ok(context(store.build())?.build())
    }

    /// A client of instances, of peer gateways or of Graph. It has no sessions yet.
    pub(crate) fn upstreams(&self) -> TlsClient {
        self.upstreams.sibling()
    }
}

/// The file of the authorities of the system, and its fingerprint when it was read.
#[derive(PartialEq, Eq)]
struct Bundle {
    path: PathBuf,
    fingerprint: FileFingerprint,
}

/// The authorities of the system cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// Their file does not respond.
    #[error("{path} cannot be read")]
    Hangs {
        /// The path of the file, escaped.
        path: String,
        /// The reason.
        source: FileHangs,
    },
    /// OpenSSL refuses a setting.
    #[error(transparent)]
    OpenSsl(#[from] ErrorStack),
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("certificates", &self.certificates.len()).finish_non_exhaustive()
    }
}

/// A store of parsed certificates and of the system's folder of certificates, which OpenSSL reads on demand.
fn store(certificates: &[X509]) -> Result<X509StoreBuilder, ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    for certificate in certificates {
        store.add_cert(certificate.clone())?;
    }
    store.add_lookup(X509Lookup::hash_dir())?.add_dir(&folders(), SslFiletype::PEM)?;
    Ok(store)
}

/// A context that verifies servers, with the settings of `SslConnector::builder`, which would parse the
/// bundle.
fn context(authorities: X509Store) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
    let options = SslOptions::ALL & !SslOptions::DONT_INSERT_EMPTY_FRAGMENTS;
    context.set_options(options | SslOptions::NO_COMPRESSION);
    context.set_mode(
        SslMode::AUTO_RETRY
            | SslMode::ACCEPT_MOVING_WRITE_BUFFER
            | SslMode::ENABLE_PARTIAL_WRITE
            | SslMode::RELEASE_BUFFERS,
    );
    context.set_min_proto_version(Some(SslVersion::TLS1_2))?;
    context.set_cipher_list("DEFAULT:!aNULL:!eNULL:!MD5:!3DES:!DES:!RC4:!IDEA:!SEED:!aDSS:!SRP:!PSK")?;
    context.set_verify(SslVerifyMode::PEER);
    context.set_cert_store(authorities);
    Ok(context)
}

/// The file of the system's authorities, as OpenSSL finds it.
fn bundle_path() -> PathBuf {
    env::var_os("SSL_CERT_FILE").map_or_else(|| Path::new(openssl_folder()).join("cert.pem"), PathBuf::from)
}

/// The folders of the system's authorities, as OpenSSL finds them.
fn folders() -> String {
    env::var("SSL_CERT_DIR").unwrap_or_else(|_| format!("{}/certs", openssl_folder()))
}

/// `version::dir` is `OPENSSLDIR: "/usr/lib/ssl"`.
fn openssl_folder() -> &'static str {
    version::dir().split('"').nth(1).unwrap_or_default()
}
