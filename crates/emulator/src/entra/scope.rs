//! The scope of a token request, and the audience that it asks for.

use uuid::Uuid;

use super::refusal::TokenRefusal;

/// The audience of a token.
pub(super) enum TokenAudience {
    /// One of Microsoft's own APIs.
    Resource(String),
    /// The app itself.
    App(Uuid),
}

impl TokenAudience {
    /// Reads a scope of the form `{resource}/.default`. Other scopes are for users only.
    pub(super) fn parse(scope: &str, app: Uuid) -> Result<Self, TokenRefusal> {
        let resource =
            scope.trim().strip_suffix("/.default").ok_or_else(|| TokenRefusal::BadScope(scope.to_owned()))?;
        let own = resource.strip_prefix("api://").unwrap_or(resource);
        if Uuid::try_parse(own).is_ok_and(|own| own == app) {
            return Ok(Self::App(app));
        }
        let plain = resource.trim_end_matches('/');
        if GRAPH_RESOURCES.contains(&plain) || BOT_FRAMEWORK_RESOURCES.contains(&plain) {
            Ok(Self::Resource(plain.to_owned()))
        } else {
            Err(TokenRefusal::UnknownResource(resource.to_owned()))
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
