//! The audience that a token request asks for, by a scope or by a resource.

use uuid::Uuid;

use super::refusal::TokenRefusal;

/// The audience of a token. It decides the version of the token.
#[derive(Debug, PartialEq)]
pub(super) enum TokenAudience {
    /// One of Microsoft's own APIs. They take tokens of version 1.0 with the permissions as roles.
    Microsoft(String),
    /// An app that takes tokens of version 1.0, as `api://{id}`: the audience is the resource as requested.
    AppV1(String),
    /// An app that takes tokens of version 2.0: the audience is always its bare id.
    AppV2(Uuid),
}

impl TokenAudience {
    /// Reads a scope of the form `{resource}/.default`. Other scopes are for users only.
    pub(super) fn of_scope(scope: &str, apps: &[Uuid]) -> Result<Self, TokenRefusal> {
        let resource =
            scope.trim().strip_suffix("/.default").ok_or_else(|| TokenRefusal::BadScope(scope.to_owned()))?;
        Self::of_resource(resource, apps)
    }

    /// Finds a resource: an API of Microsoft, or one of the apps, of which an empty list has all.
    ///
    /// In the cloud the manifest of an app decides which version it takes. Here its name does: `api://{id}`
    /// gives version 1.0, `{id}` gives version 2.0.
    pub(super) fn of_resource(resource: &str, apps: &[Uuid]) -> Result<Self, TokenRefusal> {
        let known = |id: &str| {
            let id = if id.len() == 36 { Uuid::try_parse(id).ok() } else { None };
            id.filter(|id| apps.is_empty() || apps.contains(id))
        };
        let plain = resource.trim_end_matches('/');
        if GRAPH_RESOURCES.contains(&plain) || BOT_FRAMEWORK_RESOURCES.contains(&plain) {
            return Ok(Self::Microsoft(plain.to_owned()));
        }
        match (plain.strip_prefix("api://"), known(plain)) {
            (Some(id), _) if known(id).is_some() => Ok(Self::AppV1(plain.to_owned())),
            (None, Some(app)) => Ok(Self::AppV2(app)),
            _ => Err(TokenRefusal::UnknownResource(resource.to_owned())),
        }
    }
}

/// The names of Graph as a resource, in the clouds that have the calls API.
pub(crate) const GRAPH_RESOURCES: [&str; 4] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "00000003-0000-0000-c000-000000000000",
];

const BOT_FRAMEWORK_RESOURCES: [&str; 2] = ["https://api.botframework.com", "https://api.botframework.us"];
