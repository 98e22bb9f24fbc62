//! `ca`: certificate authorities that are trusted besides those of the system.

#[cfg(feature = "otlp")]
use std::path::Path;

use openssl::{sha::Sha256, x509::X509};

#[cfg(feature = "otlp")]
use super::secret::{FILE_BYTES_MAX, read_bounded};
use super::{secret::Surroundings, section::Setting};

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
        let certificates = X509::stack_from_pem(pem).ok().filter(|certificates| !certificates.is_empty())?;
        let mut documents: Vec<_> =
            certificates.iter().map(|certificate| certificate.to_der().ok()).collect::<Option<_>>()?;
        documents.sort_unstable();
        documents.dedup();
        let mut digest = Sha256::new();
        for document in &documents {
            digest.update(document);
        }
        Some(Self { certificates, digest: digest.finish() })
    }
}

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
