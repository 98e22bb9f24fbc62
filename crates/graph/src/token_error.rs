//! `TokenError`: the errors of a request for a Graph token.

use std::time::Duration;

use uuid::Uuid;

use crate::{CredentialError, TransportError};

/// An error of a request for a Graph token.
///
/// It contains numbers, this crate's own words, and ids of Entra's log. It contains no text of a response: an
/// endpoint that is not Entra may repeat the credential that it was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The credential cannot be read or cannot sign.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// Entra refused.
    #[error("{} ({})", reason.meaning(), references(*aadsts, *trace_id))]
    Refused {
        /// The reason.
        reason: TokenRefusal,
        /// The number of the AADSTS code.
        aadsts: Option<u32>,
        /// The id that Microsoft's support asks for.
        trace_id: Option<Uuid>,
    },
    /// The tokens of the managed identity are for another tenant than the call's. Nothing was sent.
    #[error("the managed identity has tokens for the tenant {identity} only, and the call is of another")]
    OtherTenant {
        /// The tenant of the managed identity.
        identity: Uuid,
    },
    /// The token endpoint responded 429.
    #[error("the token endpoint throttles the app")]
    Throttled {
        /// The wait that it asks for.
        retry_after: Option<Duration>,
    },
    /// The token endpoint responded 5xx, or the identity endpoint 404, 408, 410 or 5xx.
    #[error("the token endpoint is unavailable: it responded {status}")]
    Unavailable {
        /// The HTTP status.
        status: u16,
        /// The wait that it asks for.
        retry_after: Option<Duration>,
    },
    /// There was no response.
    #[error("the token endpoint {0}")]
    Transport(TransportError),
    /// The response is not one of a token endpoint.
    #[error("not a token endpoint: it responded {status} with neither a token nor an OAuth error")]
    InvalidResponse {
        /// The HTTP status.
        status: u16,
    },
    /// The runtime that ran the token request has shut down.
    #[error("the token request was interrupted")]
    Interrupted,
}

impl TokenError {
    /// Returns a stable name for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credential(error) => error.label(),
            Self::Refused { reason, .. } => reason.label(),
            Self::OtherTenant { .. } => "token_other_tenant",
            Self::Throttled { .. } => "token_throttled",
            Self::Unavailable { .. } => "token_unavailable",
            Self::Transport(error) => error.kind.token_label(),
            Self::InvalidResponse { .. } => "token_nonsense",
            Self::Interrupted => "token_interrupted",
        }
    }
}

impl From<TransportError> for TokenError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// The reasons for which Entra refuses a token (Microsoft identity platform, "Authentication and
/// authorization error codes").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// AADSTS7000215.
    InvalidSecret,
    /// AADSTS7000222.
    ExpiredSecret,
    /// AADSTS700027 and the like.
    InvalidAssertion,
    /// AADSTS70021 and the like.
    MissingFederatedCredential,
    /// The identity endpoint responded 4xx: it has no such managed identity.
    UnknownIdentity,
    /// `invalid_client` without a code that this crate knows.
    InvalidClient,
    /// AADSTS700016, AADSTS7000229.
    UnknownApp,
    /// AADSTS7000112.
    DisabledApp,
    /// AADSTS90002 and the like.
    UnknownTenant,
    /// Any other reason.
    Other,
}

impl TokenRefusal {
    /// Returns true if the app did not prove its identity.
    pub fn is_wrong_credential(self) -> bool {
        self.row().1
    }

    fn label(self) -> &'static str {
        self.row().0
    }

    fn meaning(self) -> &'static str {
        self.row().2
    }

    /// The label, whether the credential is wrong, and the meaning with what to do.
    fn row(self) -> (&'static str, bool, &'static str) {
        match self {
            Self::InvalidSecret => (
                "token_invalid_secret",
                true,
                "the app's credential is wrong: Entra does not know the client secret; \
                 configure its value, not its id",
            ),
            Self::ExpiredSecret => {
                ("token_expired_secret", true, "the app's credential is wrong: the client secret has expired")
            }
            Self::InvalidAssertion => (
                "token_invalid_assertion",
                true,
                "the app's credential is wrong: Entra does not accept the assertion; \
                 upload this certificate, check the clock",
            ),
            Self::MissingFederatedCredential => (
                "token_not_federated",
                true,
                "the app's credential is wrong: \
                 no federated credential of the app fits the token that it sent",
            ),
            Self::UnknownIdentity => (
                "token_unknown_identity",
                true,
                "the app's credential is wrong: the machine does not have this managed identity; \
                 assign it to the machine, check client_id",
            ),
            Self::InvalidClient => ("token_invalid_client", true, "the app's credential is wrong"),
            Self::UnknownApp => (
                "token_unknown_app",
                false,
                "the app is not known in the call's tenant: check its id, or have an administrator consent",
            ),
            Self::DisabledApp => ("token_disabled_app", false, "the app is disabled"),
            Self::UnknownTenant => {
                ("token_unknown_tenant", false, "Entra does not know the call's tenant: check the cloud")
            }
            Self::Other => ("token_refused", false, "Entra does not issue a token to the app"),
        }
    }

    pub(crate) fn of(aadsts: Option<u32>, error: Option<&str>) -> Self {
        match (aadsts, error) {
            (Some(7000215), _) => Self::InvalidSecret,
            (Some(7000222), _) => Self::ExpiredSecret,
            (Some(700021 | 700023 | 700024 | 700027 | 700030 | 50027 | 5002723), _) => Self::InvalidAssertion,
            (Some(70021 | 700211 | 700212 | 700213 | 700222..=700224), _) => Self::MissingFederatedCredential,
            (Some(700016 | 7000229), _) => Self::UnknownApp,
            (Some(7000112), _) => Self::DisabledApp,
            (Some(90002 | 900021 | 900023), _) => Self::UnknownTenant,
            (_, Some("invalid_client")) => Self::InvalidClient,
            (_, _) => Self::Other,
        }
    }
}

/// Returns the references with which one finds more: the AADSTS code and the trace id.
fn references(aadsts: Option<u32>, trace_id: Option<Uuid>) -> String {
    let code = aadsts.map_or_else(|| "Entra gave no AADSTS code".to_owned(), |code| format!("AADSTS{code}"));
    trace_id.map_or_else(|| code.clone(), |id| format!("{code}, trace id {id}"))
}
