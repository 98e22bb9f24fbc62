//! What an operator says of Graph: the app, the cloud and its hosts, the credential; and which of it could not work.

use std::{fmt, str::FromStr};

use url::Url;
use uuid::Uuid;

use crate::{
    Credential,
    address::{has_userinfo, is_safe},
};

/// All that one app needs to act on calls.
#[derive(Clone, Debug)]
pub struct GraphSettings {
    pub(crate) app: Uuid,
    pub(crate) authority: Url,
    pub(crate) endpoint: Url,
    pub(crate) scope: &'static str,
    pub(crate) credential: Credential,
}

impl GraphSettings {
    /// The settings of `app`, with the hosts of `cloud` where `hosts` names no others.
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
            credential,
        })
    }

    /// Where tokens come from, without the tenant.
    pub fn authority(&self) -> &Url {
        &self.authority
    }

    /// Where Graph is, without the version.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// What tokens are asked for: always that of the cloud.
    pub fn scope(&self) -> &'static str {
        self.scope
    }
}

/// Other hosts than the cloud's: https, or http on this machine; a path is kept, with a query they are refused.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Instead of the cloud's login host.
    pub authority: Option<Url>,
    /// Instead of the cloud's Graph host.
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
    /// As configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::GccHigh => "gcc-high",
            Self::Dod => "dod",
        }
    }

    fn preset(self) -> Preset {
        match self {
            Self::Public => Preset {
                authority: "https://login.microsoftonline.com",
                endpoint: "https://graph.microsoft.com",
                scope: "https://graph.microsoft.com/.default",
            },
            Self::GccHigh => Preset {
                authority: "https://login.microsoftonline.us",
                endpoint: "https://graph.microsoft.us",
                scope: "https://graph.microsoft.us/.default",
            },
            Self::Dod => Preset {
                authority: "https://login.microsoftonline.us",
                endpoint: "https://dod-graph.microsoft.us",
                scope: "https://dod-graph.microsoft.us/.default",
            },
        }
    }
}

impl FromStr for Cloud {
    type Err = InvalidGraphSettings;

    fn from_str(text: &str) -> Result<Self, InvalidGraphSettings> {
        let problem = match text {
            "public" => return Ok(Self::Public),
            "gcc-high" => return Ok(Self::GccHigh),
            "dod" => return Ok(Self::Dod),
            "china" => "has no calls API: Graph of the China cloud, run by 21Vianet, does not offer it",
            _ => "must be \"public\", \"gcc-high\" or \"dod\"",
        };
        Err(InvalidGraphSettings::new("cloud", problem))
    }
}

impl fmt::Display for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Settings that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidGraphSettings {
    /// The setting, like `graph.certificate`.
    pub path: String,
    /// What is wrong and what would be right. No part of a secret.
    pub problem: String,
}

impl InvalidGraphSettings {
    pub(crate) fn new(path: &str, problem: &str) -> Self {
        Self { path: path.to_owned(), problem: problem.to_owned() }
    }
}

struct Preset {
    authority: &'static str,
    endpoint: &'static str,
    scope: &'static str,
}

fn host(path: &str, given: Option<Url>, preset: &str) -> Result<Url, InvalidGraphSettings> {
    let url = match given {
        Some(url) => url,
        None => Url::parse(preset).map_err(|_| InvalidGraphSettings::new(path, "must be an absolute URL"))?,
    };
    // The credential and the tokens go there.
    if !is_safe(&url) {
        return Err(InvalidGraphSettings::new(path, "must be https (http for loopback hosts only)"));
    }
    if has_userinfo(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidGraphSettings::new(path, "must have neither userinfo nor query nor fragment"));
    }
    Ok(url)
}
