//! The certificate authorities of one instance, in place of those of the TLS client.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use openssl::{
    error::ErrorStack,
    sha::Sha256,
    x509::{
        X509,
        store::{X509Store, X509StoreBuilder},
    },
};

/// Certificate authorities, from PEM. With [`UpstreamUrl::with_trust_anchors`] they alone verify an instance:
/// neither those of its [`TlsClient`] nor those of the system do.
///
/// Equal if the certificates are, in any order. The default has none, so it verifies nothing.
///
/// ```
/// use switchboard_delivery::TrustAnchors;
///
/// assert!(TrustAnchors::from_pem(b"not a certificate").is_none());
/// assert!(TrustAnchors::default().certificates().is_empty());
/// ```
///
/// [`TlsClient`]: crate::TlsClient
/// [`UpstreamUrl::with_trust_anchors`]: crate::UpstreamUrl::with_trust_anchors
#[derive(Clone, Default)]
pub struct TrustAnchors {
    certificates: Vec<X509>,
    digest: [u8; 32],
}

impl TrustAnchors {
    /// Parses the certificates of a PEM file; `None` if there is none.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
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

    /// The certificates.
    pub fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    /// The SHA-256 of the certificates, in any order.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The digest in hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        self.digest.iter().fold(String::with_capacity(64), |id, byte| id + &format!("{byte:02x}"))
    }

    /// The certificates in PEM, without the other text of their file.
    pub(crate) fn to_pem(&self) -> Result<String, ErrorStack> {
        let pem = |one: &X509| Ok(String::from_utf8_lossy(&one.to_pem()?).into_owned());
        self.certificates.iter().map(pem).collect()
    }

    /// A store of these certificates alone, for one handshake. It has references to them, so nothing is
    /// parsed.
    pub(crate) fn store(&self) -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        for certificate in &self.certificates {
            store.add_cert(certificate.clone())?;
        }
        Ok(store.build())
    }
}

impl PartialEq for TrustAnchors {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for TrustAnchors {}

impl Hash for TrustAnchors {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for TrustAnchors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrustAnchors").field(&self.certificates.len()).finish()
    }
}
