//! The certificate of the public listener: read from its files, and read again when they change.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    ssl::{AlpnError, SslAcceptor, SslFiletype, SslMethod, SslSessionCacheMode, select_next_proto},
};

use crate::config::TlsFiles;

/// A certificate and its key, ready to accept TLS connections.
pub(crate) struct Certificate {
    acceptor: SslAcceptor,
}

impl Certificate {
    /// Reads the certificate chain and the key. TLS 1.2 and 1.3, HTTP/2 by ALPN only, sessions resumed by
    /// tickets.
    fn read(files: &TlsFiles) -> Result<Self, CertificateError> {
        Self::from_files(files).map_err(CertificateError)
    }

    fn from_files(files: &TlsFiles) -> Result<Self, ErrorStack> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_certificate_chain_file(&files.certificate)?;
        builder.set_private_key_file(&files.key, SslFiletype::PEM)?;
        builder.check_private_key()?;
        // Tickets are stateless: they work on every worker. A cache on the server would be one more lock.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        Ok(Self { acceptor: builder.build() })
    }

    /// The acceptor of new connections.
    pub(crate) fn acceptor(&self) -> SslAcceptor {
        self.acceptor.clone()
    }

    /// The end of the certificate's validity.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        let epoch = Asn1Time::from_unix(0).ok()?;
        let left = epoch.diff(self.acceptor.context().certificate()?.not_after()).ok()?;
        let seconds = i64::from(left.days) * 86_400 + i64::from(left.secs);
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

/// The certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the certificate of listen.tls")]
pub struct CertificateError(#[source] ErrorStack);

/// The files of a certificate, and their fingerprint when they were last read.
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    files: TlsFiles,
    fingerprint: Fingerprint,
}

impl CertificateFiles {
    /// Reads the certificate in `files`.
    pub(crate) fn open(files: TlsFiles) -> Result<(Self, Certificate), CertificateError> {
        // The fingerprint is taken first: files that change meanwhile are read again.
        let fingerprint = Fingerprint::of(&files);
        let certificate = Certificate::read(&files)?;
        Ok((Self { files, fingerprint }, certificate))
    }

    /// Reads the certificate again if its files changed since the last read; `None` if they did not.
    pub(crate) fn reread(&mut self) -> Option<Result<Certificate, CertificateError>> {
        let now = Fingerprint::of(&self.files);
        if self.fingerprint == now {
            return None;
        }
        self.fingerprint = now;
        Some(Certificate::read(&self.files))
    }
}

/// The modification times and sizes of the files; another value means that a file changed.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint(Vec<Option<(SystemTime, u64)>>);

impl Fingerprint {
    /// Follows symbolic links: Kubernetes replaces a link to replace a mounted secret.
    fn of(files: &TlsFiles) -> Self {
        let of_file = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self(vec![of_file(&files.certificate), of_file(&files.key)])
    }
}
