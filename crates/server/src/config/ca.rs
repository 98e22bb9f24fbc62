//! `ca`: certificate authorities that are trusted besides those of the system, or by one instance in their
//! place.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use openssl::{sha::sha256, x509::X509};
use switchboard_delivery::TrustAnchors;

use super::{
    file_time::is_running,
    secret::{FILE_BYTES_MAX, Surroundings, UTF_16, is_utf16, read_bounded, shown},
    section::Setting,
};

/// Certificate authorities from a PEM file. The file is not read again: what is trusted is what was checked.
#[derive(Clone, Debug)]
pub struct CaCertificates {
    /// The certificates.
    pub certificates: Vec<X509>,
    /// The SHA-256 of all of them, in any order.
    pub digest: [u8; 32],
}

impl CaCertificates {
    /// Reads the file that a setting names.
    pub(super) fn read(setting: &Setting<'_>, around: &Surroundings<'_>) -> Option<Self> {
        if around.without_secrets {
            around.path(setting, "the path of a file")?;
            return Some(Self { certificates: Vec::new(), digest: [0; 32] });
        }
        let (_, pem) = around.read(setting)?;
        let authorities = Self::parse(&pem);
        if authorities.is_none() {
            setting.problem(NO_CERTIFICATE);
        }
        authorities
    }

    /// Reads the file at `path`, which no setting names. The error says what is wrong with it.
    #[cfg(feature = "otlp")]
    pub(crate) fn load(path: &Path) -> Result<Self, String> {
        let pem = read_bounded(path, FILE_BYTES_MAX).map_err(|reason| format!("cannot be read: {reason}"))?;
        Self::parse(&pem).ok_or_else(|| NO_CERTIFICATE.to_owned())
    }

    /// Parses the certificates of a PEM file; `None` if there is none.
    fn parse(pem: &[u8]) -> Option<Self> {
        let anchors = TrustAnchors::from_pem(pem)?;
        Some(Self { certificates: anchors.certificates().to_vec(), digest: anchors.digest() })
    }
}

/// The files of authorities that a list of instances names. Each is read once.
pub(super) struct CaFiles<'s> {
    around: &'s Surroundings<'s>,
    read: BTreeMap<PathBuf, CaFile>,
    /// A file does not respond. Others may be on the same mount, and each would take its time.
    hangs: bool,
}

/// A file of authorities that was read.
struct CaFile {
    digest: [u8; 32],
    anchors: Result<Arc<TrustAnchors>, String>,
    hangs: bool,
}

impl<'s> CaFiles<'s> {
    pub(super) fn new(around: &'s Surroundings<'s>) -> Self {
        Self { around, read: BTreeMap::new(), hangs: false }
    }

    /// Reads the file that the `ca` of an instance names.
    pub(super) fn anchors(&mut self, setting: &Setting<'_>) -> Option<Arc<TrustAnchors>> {
        let path = self.around.path(setting, "the path of a file")?;
        if self.around.without_secrets {
            return Some(Arc::default());
        }
        let is_new = !self.read.contains_key(&path);
        if is_new && self.hangs {
            setting.problem(format!("{} was not read, because another file hangs", shown(&path)));
            return None;
        }
        if is_new && self.read.len() >= CA_FILES_MAX {
            setting.problem(format!("more than {CA_FILES_MAX} files; a file may have several certificates"));
            return None;
        }
        let file = self.read.entry(path).or_insert_with_key(|path| CaFile::read(path));
        match &file.anchors {
            Ok(anchors) => Some(Arc::clone(anchors)),
            Err(reason) => {
                self.hangs |= file.hangs;
                // Once for all instances with this file.
                if is_new {
                    setting.problem(reason);
                }
                None
            }
        }
    }

    /// The files that were read, each with a digest of its content, or of the error of reading it.
    pub(super) fn digests(self) -> Vec<(PathBuf, [u8; 32])> {
        self.read.into_iter().map(|(path, file)| (path, file.digest)).collect()
    }
}

impl CaFile {
    fn read(path: &Path) -> Self {
        let (digest, content) = read_with_digest(path);
        let hangs = content.is_err() && is_running(path);
        let anchors = content.and_then(|pem| match TrustAnchors::from_pem(&pem) {
            Some(anchors) if anchors.certificates().len() <= CERTIFICATES_MAX => Ok(Arc::new(anchors)),
            Some(_) => Err(format!("has more than {CERTIFICATES_MAX} certificates")),
            None if is_utf16(&pem) => Err(format!("is {UTF_16}")),
            None => Err(format!("is {NO_CERTIFICATE}")),
        });
        Self { digest, anchors: anchors.map_err(|reason| format!("{} {reason}", shown(path))), hangs }
    }
}

/// Reads a file of authorities as [`CaFiles`] does. Returns the digest of its content, or of the error of
/// reading it, and the one or the other.
pub(super) fn read_with_digest(path: &Path) -> ([u8; 32], Result<Vec<u8>, String>) {
    let content = read_bounded(path, FILE_BYTES_MAX).map_err(|reason| format!("cannot be read: {reason}"));
    let digest = sha256(content.as_deref().unwrap_or_else(|reason| reason.as_bytes()));
    (digest, content)
}

/// The files of authorities of one list. The gateway reads all of them every 2 s, each on a thread.
const CA_FILES_MAX: usize = 256;
/// The certificates of one such file. Each handshake puts them into a store: one takes 0.5 µs, 64 take
/// 0.2 ms, and 128 take 1.3 ms.
const CERTIFICATES_MAX: usize = 64;

pub(super) const NO_CERTIFICATE: &str =
    "not a PEM file with a certificate, which has a line -----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::certificate;

    #[test]
    fn the_digest_depends_on_the_certificates_alone() {
        let [one, other] = [certificate().0, certificate().0].map(|pem| String::from_utf8(pem).unwrap());
        let digest = |pem: &str| CaCertificates::parse(pem.as_bytes()).map(|authorities| authorities.digest);
        let both = digest(&format!("{one}{other}"));
        assert!(both.is_some());
        assert_eq!(both, digest(&format!("# text\n{other}\n{one}{one}")));
        assert_ne!(both, digest(&one));
        assert_ne!(digest(&other), digest(&one));
        assert_eq!(digest(""), None);
    }
}
