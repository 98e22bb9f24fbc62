//! TLS for the public listener: certificate files to an acceptor, read again when they change.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use openssl::{
    asn1::Asn1Time,
    error::ErrorStack,
    ssl::{AlpnError, SslAcceptor, SslFiletype, SslMethod, SslSessionCacheMode, select_next_proto},
};

use crate::config::TlsFiles;

/// Reads certificate chain and key. TLS 1.2 and 1.3, HTTP/2 by ALPN only, sessions resumed by tickets.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate_chain_file(&files.certificate)?;
    builder.set_private_key_file(&files.key, SslFiletype::PEM)?;
    builder.check_private_key()?;
    // Tickets are stateless: they serve every worker, and a server-side cache would be one more lock.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2\x08http/1.1", offered).ok_or(AlpnError::NOACK)
    });
    Ok(builder.build())
}

/// The end of the validity of an acceptor's certificate.
pub(crate) fn not_after(acceptor: &SslAcceptor) -> Option<SystemTime> {
    let epoch = Asn1Time::from_unix(0).ok()?;
    let left = epoch.diff(acceptor.context().certificate()?.not_after()).ok()?;
    let seconds = i64::from(left.days) * 86_400 + i64::from(left.secs);
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

/// What tells whether a file is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint(Vec<Option<(SystemTime, u64)>>);

impl Fingerprint {
    /// Follows links: Kubernetes swaps a link to replace a mounted secret.
    pub(crate) fn of(files: &TlsFiles) -> Self {
        let one = |path: &Path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        Self(vec![one(&files.certificate), one(&files.key)])
    }
}

/// How often the files are looked at. A certificate is replaced days before it ends.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
