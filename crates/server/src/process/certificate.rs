//! The certificate of the public listener: read from its files, and read again when they change.

use std::{
    fmt,
    path::Path,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    pkey::PKey,
    ssl::{AlpnError, SslAcceptor, SslMethod, SslSessionCacheMode, select_next_proto},
    x509::X509,
};
use url::Url;

use crate::{
    certificate_findings::{CertificateFinding, examine, key_fault},
    config::{FILE_BYTES_MAX, FileFingerprint, TlsFiles, is_running, read_bounded, shown},
    wall_clock::wall_clock,
};

/// A certificate and its key, ready to accept TLS connections.
pub(crate) struct Certificate {
    acceptor: SslAcceptor,
    /// The certificates of the file, in its order.
    chain: Vec<X509>,
}

impl Certificate {
    /// Parses the certificate chain and the key. TLS 1.2 and 1.3, HTTP/2 by ALPN only, sessions resumed by
    /// tickets.
    fn parse(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        let chain = X509::stack_from_pem(chain)?;
        // OpenSSL would ask for the password of an encrypted key on the terminal. Pass an empty one instead.
        let key = PKey::private_key_from_pem_passphrase(key, b"")?;
        if let Some(fault) = key_fault(&chain, &key) {
            return Err(CertificateError::Key(fault.to_string()));
        }
        let mut certificates = chain.iter();
        if let Some(own) = certificates.next() {
            builder.set_certificate(own)?;
        }
        for certificate in certificates {
            builder.add_extra_chain_cert(certificate.clone())?;
        }
        builder.set_private_key(&key)?;
        builder.check_private_key()?;
        // Tickets are stateless: they work on every worker. A cache on the server would be one more lock.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_alpn_select_callback(|_, offered| {
            select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
        });
        Ok(Self { acceptor: builder.build(), chain })
    }

    /// The acceptor of new connections.
    pub(crate) fn acceptor(&self) -> SslAcceptor {
        self.acceptor.clone()
    }

    /// The faults of the certificate for a gateway whose callbacks are at `origin`.
    pub(crate) fn findings(&self, origin: &str) -> Vec<CertificateFinding> {
        let base = Url::parse(origin).ok();
        let Some(host) = base.as_ref().and_then(Url::host) else { return Vec::new() };
        // The key was compared when it was parsed.
        examine(&self.chain, None, &host, wall_clock())
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
pub enum CertificateError {
    /// A file cannot be read, or does not respond.
    #[error("cannot read the certificate of listen.tls: {path}: {reason}")]
    Unreadable {
        /// The path of the file, escaped.
        path: String,
        /// The reason.
        reason: String,
    },
    /// OpenSSL refuses the certificate or its key.
    #[error("cannot use the certificate of listen.tls")]
    Unusable(#[from] ErrorStack),
    /// The key is not that of the first certificate.
    #[error("cannot use the certificate of listen.tls: {0}")]
    Key(String),
    /// Reading it ended by a panic, which is a bug of the gateway.
    #[error("reading the certificate of listen.tls ended by a panic: report it as a bug")]
    Panicked,
}

/// The files of a certificate, and their fingerprint when they were last read.
#[derive(Debug)]
pub(crate) struct CertificateFiles {
    files: TlsFiles,
    fingerprint: [FileFingerprint; 2],
    /// Set while the files do not respond, to their fingerprint if that much is known.
    hanging: Option<Option<[FileFingerprint; 2]>>,
}

impl CertificateFiles {
    /// Reads the certificate in `files`. It may wait for a file: not for a thread that serves.
    pub(crate) fn open(files: TlsFiles) -> Result<(Self, Certificate), CertificateError> {
        // The fingerprint is taken first: files that change meanwhile are read again.
        let fingerprint = fingerprint(&files)?;
        let certificate = Self::read(&files)?;
        Ok((Self { files, fingerprint, hanging: None }, certificate))
    }

    /// Reads the certificate again if its files changed since the last read; `None` if they did not. Files
    /// that do not respond are an error once.
    pub(crate) fn reread(&mut self) -> Option<Result<Certificate, CertificateError>> {
        let now = match fingerprint(&self.files) {
            Ok(now) => now,
            Err(error) => return self.hangs(None, error),
        };
        if self.fingerprint == now {
            self.hanging = None;
            return None;
        }
        if self.hanging.as_ref().is_some_and(|hanging| hanging.as_ref() == Some(&now)) && self.is_running() {
            return None; // one thread that waits for these files is enough
        }
        // Set before the read: files whose read panics are read again only when they change.
        let last = std::mem::replace(&mut self.fingerprint, now);
        match Self::read(&self.files) {
            Err(error) if self.is_running() => {
                let now = std::mem::replace(&mut self.fingerprint, last);
                self.hangs(Some(now), error)
            }
            read => {
                self.hanging = None;
                Some(read)
            }
        }
    }

    /// The files do not respond. Returns the error the first time.
    fn hangs(
        &mut self,
        fingerprint: Option<[FileFingerprint; 2]>,
        error: CertificateError,
    ) -> Option<Result<Certificate, CertificateError>> {
        self.hanging.replace(fingerprint).is_none().then_some(Err(error))
    }

    /// True while a read of one of the files has not ended.
    fn is_running(&self) -> bool {
        [&self.files.certificate, &self.files.key].into_iter().any(|path| is_running(path))
    }

    fn read(files: &TlsFiles) -> Result<Certificate, CertificateError> {
        let read =
            |path: &Path| read_bounded(path, FILE_BYTES_MAX).map_err(|reason| unreadable(path, &reason));
        Certificate::parse(&read(&files.certificate)?, &read(&files.key)?)
    }
}

/// The fingerprints of the certificate and of the key.
fn fingerprint(files: &TlsFiles) -> Result<[FileFingerprint; 2], CertificateError> {
    let of = |path: &Path| FileFingerprint::of(path).map_err(|hangs| unreadable(path, &hangs));
    Ok([of(&files.certificate)?, of(&files.key)?])
}

fn unreadable(path: &Path, reason: &impl ToString) -> CertificateError {
    CertificateError::Unreadable { path: shown(path), reason: reason.to_string() }
}
