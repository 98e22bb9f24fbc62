//! `Credential`: how an app proves who it is, and what of that a token request carries.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::io::AsyncReadExt;
use uuid::Uuid;

use crate::{InvalidGraphSettings, assertion::Certificate};

/// How an app proves who it is. `Debug` shows the kind and nothing else.
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    Secret(Secret),
    Certificate(Arc<Certificate>),
    FederatedToken(PathBuf),
}

impl Credential {
    /// A client secret: its value, not its id.
    pub fn secret(text: &str) -> Result<Self, InvalidGraphSettings> {
        let plain = |byte: u8| byte.is_ascii_graphic();
        if text.is_empty() || text.len() > SECRET_BYTES_MAX || !text.bytes().all(plain) {
            let problem = "must be 1 to 1024 visible ASCII characters, without blanks and line breaks";
            return Err(InvalidGraphSettings::new("graph.secret", problem));
        }
        Ok(Self(Kind::Secret(Secret(text.into()))))
    }

    /// A certificate and its RSA key, both PEM; of a chain the first certificate counts. The key has no password.
    pub fn certificate(certificate: &[u8], key: &[u8]) -> Result<Self, InvalidGraphSettings> {
        Ok(Self(Kind::Certificate(Arc::new(Certificate::parse(certificate, key)?))))
    }

    /// A file with a token of another issuer that Entra trusts for this app (workload identity federation). It is read
    /// for every token request, since whoever writes it replaces it before it expires.
    pub fn federated_token(path: PathBuf) -> Result<Self, InvalidGraphSettings> {
        if path.as_os_str().is_empty() {
            return Err(InvalidGraphSettings::new("graph.federated_token", "must be the path of a file"));
        }
        Ok(Self(Kind::FederatedToken(path)))
    }

    /// What proves that `app` asks, for a token endpoint known as `audience`.
    pub(crate) async fn proof(
        &self,
        app: Uuid,
        audience: &str,
        now: SystemTime,
    ) -> Result<Proof, InvalidCredential> {
        match &self.0 {
            Kind::Secret(secret) => Ok(Proof::Secret(secret.clone())),
            Kind::Certificate(certificate) => certificate
                .assertion(app, audience, now)
                .map(|assertion| Proof::Assertion(Secret(assertion.into())))
                .ok_or(InvalidCredential::Signing),
            Kind::FederatedToken(path) => read_token(path).await.map(Proof::Assertion),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Secret(_) => "Credential(secret)",
            Kind::Certificate(_) => "Credential(certificate)",
            Kind::FederatedToken(_) => "Credential(federated token)",
        })
    }
}

/// What a token request carries (RFC 6749 section 2.3.1, RFC 7523 section 2.2).
#[derive(Debug)]
pub(crate) enum Proof {
    Secret(Secret),
    Assertion(Secret),
}

/// Text that neither `Debug` nor an error shows.
#[derive(Clone)]
pub(crate) struct Secret(Box<str>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text.into())
    }

    /// The text; for the request that needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why there is nothing to prove the app with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredential {
    /// The file of the federated token cannot be read.
    #[error("the federated token file cannot be read: {0}")]
    FileUnreadable(io::ErrorKind),
    /// The file does not hold one token.
    #[error("the federated token file does not hold a token: 1 to 16384 visible ASCII characters")]
    FileMalformed,
    /// The assertion could not be signed.
    #[error("the client assertion could not be signed")]
    Signing,
}

impl InvalidCredential {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::FileUnreadable(_) => "token_file_unreadable",
            Self::FileMalformed => "token_file_malformed",
            Self::Signing => "token_signing",
        }
    }
}

async fn read_token(path: &Path) -> Result<Secret, InvalidCredential> {
    let unreadable = |error: io::Error| InvalidCredential::FileUnreadable(error.kind());
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    file.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(unreadable)?;
    let is_short = u64::try_from(bytes.len()).is_ok_and(|length| length <= TOKEN_BYTES_MAX);
    let token = bytes.trim_ascii();
    let is_token = is_short && !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(token) {
        Ok(token) if is_token => Ok(Secret(token.into())),
        Ok(_) | Err(_) => Err(InvalidCredential::FileMalformed),
    }
}

/// Entra's have 40.
const SECRET_BYTES_MAX: usize = 1024;

/// Tokens of Kubernetes have about 1 KiB.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;
