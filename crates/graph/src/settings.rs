//! `GraphSettings`: the app, the cloud with its hosts, and the credential.

use std::{fmt, str::FromStr};

use url::Url;
use uuid::Uuid;

use crate::{
    Credential, InvalidGraphSettings,
    address::{has_userinfo, is_safe},
    credential::CredentialKind,
};

/// The settings that one app needs to act on calls.
///
/// ```
/// use switchboard_graph::{Cloud, Credential, GraphSettings, Hosts};
///
/// let app = "0efc74f7-41c3-47a4-8775-7259bfef4241".parse()?;
/// let credential = Credential::secret("not-secret")?;
/// let settings = GraphSettings::new(app, Cloud::GccHigh, Hosts::default(), credential)?;
/// assert_eq!(settings.endpoint().as_str(), "https://graph.microsoft.us/");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct GraphSettings {
    pub(crate) app: Uuid,
    pub(crate) authority: Url,
    pub(crate) endpoint: Url,
    pub(crate) scope: &'static str,
    /// The resource of the scope, for the identity endpoint.
    pub(crate) resource: &'static str,
    /// The audience of a token that proves the app's identity to Entra.
    pub(crate) exchange: &'static str,
    pub(crate) credential: Credential,
}

impl GraphSettings {
    /// Creates the settings of `app`. `hosts` overrides the hosts of `cloud`.
    ///
    /// # Errors
    ///
    /// A host of `hosts` is not safe to send a credential to.
    pub fn new(
        app: Uuid,
        cloud: Cloud,
        hosts: Hosts,
        credential: Credential,
    ) -> Result<Self, InvalidGraphSettings> {
        let preset = cloud.preset();
        Ok(Self {
            app,
            authority: host("graph.authority", hosts.authority, preset.authority)?,
            endpoint: host("graph.endpoint", hosts.endpoint, preset.endpoint)?,
            scope: preset.scope,
            resource: preset.resource,
            exchange: preset.exchange,
            credential,
        })
    }

    /// Returns the base URL of the token endpoints, without the tenant.
    pub fn authority(&self) -> &Url {
        &self.authority
    }

    /// Returns the base URL of Graph, without the version.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Returns the scope of token requests. It depends on the cloud only.
    pub fn scope(&self) -> &'static str {
        self.scope
    }

    /// Returns the identity endpoint of a managed identity, which issues the tokens or the proofs for them.
    pub fn identity_endpoint(&self) -> Option<&Url> {
        match self.credential.kind() {
            CredentialKind::Proof(_) => None,
            CredentialKind::FederatedIdentity(identity) | CredentialKind::ManagedIdentity(identity, _) => {
                Some(identity.endpoint())
            }
        }
    }

    /// Returns the only tenant on whose calls the app can act: that of its managed identity. `None` if the
    /// credential works in any tenant.
    pub fn only_tenant(&self) -> Option<Uuid> {
        match self.credential.kind() {
            CredentialKind::ManagedIdentity(_, tenant) => Some(*tenant),
            CredentialKind::Proof(_) | CredentialKind::FederatedIdentity(_) => None,
        }
    }
}

/// Hosts that replace the cloud's: https, or http to a loopback host. A path is kept; a query is an error.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Replaces the cloud's login host.
    pub authority: Option<Url>,
    /// Replaces the cloud's Graph host.
    pub endpoint: Option<Url>,
}

/// The clouds whose Graph has a calls API (Microsoft Graph documentation, "National cloud deployments").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cloud {
    /// The public cloud, and GCC.
    Public,
    /// US Government L4.
    GccHigh,
    /// US Government L5.
    Dod,
}

impl Cloud {
    /// Returns the name as the configuration spells it.
    pub fn as_str(self) -> &'static str {
        self.preset().name
    }

    fn preset(self) -> Preset {
        match self {
            Self::Public => Preset {
                name: "public",
                authority: "https://login.microsoftonline.com",
                endpoint: "https://graph.microsoft.com",
                scope: "https://graph.microsoft.com/.default",
                resource: "https://graph.microsoft.com",
                exchange: "api://AzureADTokenExchange",
            },
            Self::GccHigh => Preset {
                name: "gcc-high",
                authority: "https://login.microsoftonline.us",
                endpoint: "https://graph.microsoft.us",
                scope: "https://graph.microsoft.us/.default",
                resource: "https://graph.microsoft.us",
                exchange: "api://AzureADTokenExchangeUSGov",
            },
            Self::Dod => Preset {
                name: "dod",
                authority: "https://login.microsoftonline.us",
                endpoint: "https://dod-graph.microsoft.us",
                scope: "https://dod-graph.microsoft.us/.default",
                resource: "https://dod-graph.microsoft.us",
                exchange: "api://AzureADTokenExchangeUSGov",
            },
        }
    }
}

impl FromStr for Cloud {
    type Err = InvalidGraphSettings;

    fn from_str(text: &str) -> Result<Self, InvalidGraphSettings> {
        let clouds = [Self::Public, Self::GccHigh, Self::Dod];
        clouds.into_iter().find(|cloud| cloud.as_str() == text).ok_or_else(|| {
            let problem = match text {
                "china" => "has no calls API: Graph of the China cloud, run by 21Vianet, does not offer it",
                _ => "must be \"public\", \"gcc-high\" or \"dod\"",
            };
            InvalidGraphSettings::new("cloud", problem)
        })
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name and the hosts of a cloud.
struct Preset {
    name: &'static str,
    authority: &'static str,
    endpoint: &'static str,
    scope: &'static str,
    resource: &'static str,
    exchange: &'static str,
}

/// Returns the host that is `given`, or that of the preset, if it is safe.
fn host(path: &str, given: Option<Url>, preset: &str) -> Result<Url, InvalidGraphSettings> {
    let url = match given {
        Some(url) => url,
        None => Url::parse(preset).map_err(|_| InvalidGraphSettings::new(path, "must be an absolute URL"))?,
    };
    // The credential and the tokens are sent there.
    if !is_safe(&url) {
        return Err(InvalidGraphSettings::new(path, "must be https (http for loopback hosts only)"));
    }
    if has_userinfo(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidGraphSettings::new(path, "must have neither userinfo nor query nor fragment"));
    }
    Ok(url)
}
