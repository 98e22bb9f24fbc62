//! The credentials by which the token endpoint recognizes an app.

use std::fmt;

use openssl::{
    error::ErrorStack,
    pkey::{PKey, Public},
    sha::{sha1, sha256},
    x509::X509,
};

use crate::encoding::base64_url;

/// A credential that an app registered with the token endpoint.
#[derive(Clone)]
pub struct Credential(pub(super) CredentialKind);

#[derive(Clone)]
pub(super) enum CredentialKind {
    /// The SHA-256 of the secret.
    Secret([u8; 32]),
    /// The thumbprints are base64url, as the header of an assertion carries them.
    Certificate {
        public: PKey<Public>,
        sha1: String,
        sha256: String,
    },
    Federated {
        public: PKey<Public>,
    },
}

impl Credential {
    /// A client secret.
    pub fn secret(text: &str) -> Self {
        Self(CredentialKind::Secret(sha256(text.as_bytes())))
    }

    /// A certificate (PEM) whose key signs client assertions.
    ///
    /// # Errors
    /// The text is not a certificate in PEM.
    pub fn certificate(pem: &[u8]) -> Result<Self, ErrorStack> {
        let certificate = X509::from_pem(pem)?;
        let der = certificate.to_der()?;
        Ok(Self(CredentialKind::Certificate {
            public: certificate.public_key()?,
            sha1: base64_url(&sha1(&der)),
            sha256: base64_url(&sha256(&der)),
        }))
    }

    /// The public key or certificate (PEM) of another issuer: a federated identity.
    ///
    /// Its tokens for `api://AzureADTokenExchange` are accepted as assertions of the app, whatever their
    /// issuer and subject.
    ///
    /// # Errors
    /// The text is neither a public key nor a certificate in PEM.
    pub fn federated(pem: &[u8]) -> Result<Self, ErrorStack> {
        let public = match PKey::public_key_from_pem(pem) {
            Ok(public) => public,
            Err(_) => X509::from_pem(pem)?.public_key()?,
        };
        Ok(Self(CredentialKind::Federated { public }))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CredentialKind::Secret(_) => "Secret",
            CredentialKind::Certificate { .. } => "Certificate",
            CredentialKind::Federated { .. } => "Federated",
        })
    }
}
