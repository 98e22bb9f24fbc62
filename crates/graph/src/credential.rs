//! `Credential`: the proof of an app's identity, and the part of it that a token request carries.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::io::AsyncReadExt;
use uuid::Uuid;

use crate::{InvalidGraphSettings, ManagedIdentity, assertion::Certificate, secret::Secret};

/// The proof of an app's identity. `Debug` shows the kind and nothing else.
///
/// ```
/// use switchboard_graph::Credential;
///
/// let credential = Credential::secret("not-secret")?;
/// assert_eq!(format!("{credential:?}"), "Credential(secret)");
///
/// let error = Credential::secret("two words").unwrap_err();
/// assert_eq!(error.path, "graph.secret");
/// # Ok::<(), switchboard_graph::InvalidGraphSettings>(())
/// ```
#[derive(Clone)]
pub struct Credential(CredentialKind);

/// The ways to a token.
#[derive(Clone)]
pub(crate) enum CredentialKind {
    /// The app proves its identity to Entra.
    Proof(ProofSource),
    /// The same; the proof is a token of a managed identity that Entra trusts for the app.
    FederatedIdentity(ManagedIdentity),
    /// The identity endpoint issues the token itself, for this tenant only.
    ManagedIdentity(ManagedIdentity, Uuid),
}

/// The sources of a proof that need no network.
#[derive(Clone)]
pub(crate) enum ProofSource {
    Secret(Secret),
    Certificate(Arc<Certificate>),
    FederatedToken(PathBuf),
}

impl Credential {
    /// A client secret: its value, not its id.
    ///
    /// # Errors
    ///
    /// `text` is empty, is too long, or contains other characters than visible ASCII.
    pub fn secret(text: &str) -> Result<Self, InvalidGraphSettings> {
        let plain = |byte: u8| byte.is_ascii_graphic();
        if text.is_empty() || text.len() > SECRET_BYTES_MAX || !text.bytes().all(plain) {
            let problem = "must be 1 to 1024 visible ASCII characters, without blanks and line breaks";
            return Err(InvalidGraphSettings::new("graph.secret", problem));
        }
        Ok(Self(CredentialKind::Proof(ProofSource::Secret(Secret::new(text.to_owned())))))
    }

    /// A certificate and its RSA key, both as PEM. In a chain, the first certificate counts. The key has no
    /// password.
    ///
    /// # Errors
    ///
    /// One of them is malformed, they do not belong together, or the key cannot sign with PS256.
    pub fn certificate(certificate: &[u8], key: &[u8]) -> Result<Self, InvalidGraphSettings> {
        let certificate = Arc::new(Certificate::parse(certificate, key)?);
        Ok(Self(CredentialKind::Proof(ProofSource::Certificate(certificate))))
    }

    /// A file with a token of another issuer that Entra trusts for this app (workload identity federation).
    /// The file is read for every token request, since the issuer replaces it before the token expires.
    ///
    /// # Errors
    ///
    /// `path` is empty.
    pub fn federated_token(path: PathBuf) -> Result<Self, InvalidGraphSettings> {
        if path.as_os_str().is_empty() {
            return Err(InvalidGraphSettings::new("graph.federated_token", "must be the path of a file"));
        }
        Ok(Self(CredentialKind::Proof(ProofSource::FederatedToken(path))))
    }

    /// A managed identity whose tokens for another audience Entra trusts for this app (workload identity
    /// federation with a managed identity). The app may act in any tenant.
    pub fn federated_identity(identity: ManagedIdentity) -> Self {
        Self(CredentialKind::FederatedIdentity(identity))
    }

    /// A managed identity that is itself the app. Its tokens are for `tenant`, the identity's own, and no
    /// other: an action on a call of another tenant fails before anything is sent.
    pub fn managed_identity(identity: ManagedIdentity, tenant: Uuid) -> Self {
        Self(CredentialKind::ManagedIdentity(identity, tenant))
    }

    pub(crate) fn kind(&self) -> &CredentialKind {
        &self.0
    }
}

impl ProofSource {
    /// Returns the proof of `app`'s identity for the token endpoint `audience`.
    pub(crate) async fn proof(
        &self,
        app: Uuid,
        audience: &str,
        now: SystemTime,
    ) -> Result<Proof, CredentialError> {
        match self {
            Self::Secret(secret) => Ok(Proof::Secret(secret.clone())),
            Self::Certificate(certificate) => certificate
                .assertion(app, audience, now)
                .map(|assertion| Proof::Assertion(Secret::new(assertion)))
                .ok_or(CredentialError::Signing),
            Self::FederatedToken(path) => read_token(path).await.map(Proof::Assertion),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CredentialKind::Proof(ProofSource::Secret(_)) => "Credential(secret)",
            CredentialKind::Proof(ProofSource::Certificate(_)) => "Credential(certificate)",
            CredentialKind::Proof(ProofSource::FederatedToken(_)) => "Credential(federated token)",
            CredentialKind::FederatedIdentity(_) => "Credential(federated identity)",
            CredentialKind::ManagedIdentity(..) => "Credential(managed identity)",
        })
    }
}

/// The proof in a token request (RFC 6749 section 2.3.1, RFC 7523 section 2.2).
#[derive(Debug)]
pub(crate) enum Proof {
    Secret(Secret),
    Assertion(Secret),
}

/// The credential cannot be used at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file of the federated token cannot be read.
    #[error("the federated token file cannot be read: {0}")]
    FileUnreadable(io::ErrorKind),
    /// The file does not contain exactly one token.
    #[error("the federated token file does not contain a token: 1 to 16384 visible ASCII characters")]
    FileMalformed,
    /// The assertion could not be signed.
    #[error("the client assertion could not be signed")]
    Signing,
}

impl CredentialError {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::FileUnreadable(_) => "token_file_unreadable",
            Self::FileMalformed => "token_file_malformed",
            Self::Signing => "token_signing",
        }
    }
}

async fn read_token(path: &Path) -> Result<Secret, CredentialError> {
    let unreadable = |error: io::Error| CredentialError::FileUnreadable(error.kind());
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    let is_short = u64::try_from(bytes.len()).is_ok_and(|length| length <= TOKEN_BYTES_MAX);
    let token = bytes.trim_ascii();
    let is_token = is_short && !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(token) {
        Ok(token) if is_token => Ok(Secret::new(token.to_owned())),
        Ok(_) | Err(_) => Err(CredentialError::FileMalformed),
    }
}

/// Entra's secrets have 40 characters.
const SECRET_BYTES_MAX: usize = 1024;

/// Kubernetes tokens have about 1 KiB.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
