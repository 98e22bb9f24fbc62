//! The URLs of the platform, for the index and for the operator.

use http::{Response, StatusCode};

use crate::server::{Body, error_response};

/// A URL of the platform.
#[derive(Clone, Debug)]
pub struct NamedUrl {
    /// A stable name for machines.
    pub name: &'static str,
    /// The URL. `{tenant}` and `{id}` stand for any tenant or call.
    pub url: String,
    /// A description for people.
    pub about: &'static str,
}

impl NamedUrl {
    /// Returns every URL of the platform at `origin`.
    pub(crate) fn all(origin: &str) -> Vec<Self> {
        let urls = URLS.iter();
        urls.map(|&(name, path, about)| Self { name, url: format!("{origin}{path}"), about }).collect()
    }
}

/// Returns the response to a request for an unknown path.
pub(super) fn no_such_path() -> Response<Body> {
    error_response(StatusCode::NOT_FOUND, "notFound", "no such path; GET /emulator lists the paths")
}

/// Name, path and description.
const URLS: [(&str, &str, &str); 20] = [
    ("page", "/", "the page, for a browser"),
    ("skype_metadata", "/v1/.well-known/OpenIdConfiguration", "metadata of the Skype-like issuer"),
    ("skype_keys", "/v1/keys", "its keys"),
    (
        "skype_slash_metadata",
        "/slash/v1/.well-known/OpenIdConfiguration",
        "its metadata for tokens of the kind skype-slash: the issuer has a final slash",
    ),
    (
        "entra_metadata",
        "/common/v2.0/.well-known/openid-configuration",
        "metadata of the Entra-like issuer; a tenant id may stand for common",
    ),
    ("entra_keys", "/common/discovery/v2.0/keys", "its keys, and two that a bot must not use"),
    ("authority", "/{tenant}", "the authority for a client library"),
    ("token_endpoint", "/{tenant}/oauth2/v2.0/token", "POST: a token for client credentials"),
    (
        "managed_identity",
        "/metadata/identity/oauth2/token",
        "a token of a managed identity, as a virtual machine gets it (IMDS)",
    ),
    ("app_service_identity", "/MSI/token", "the same as App Service gives it (IDENTITY_ENDPOINT)"),
    (
        "graph",
        "/v1.0",
        "the Graph endpoint: /communications/calls/{id}/answer, reject, redirect, keepAlive, …",
    ),
    ("batch", "/v1.0/$batch", "POST: up to 20 requests to Graph in one"),
    ("openapi", "/emulator/openapi.json", "the OpenAPI document of the paths below /emulator"),
    ("health", "/emulator/health", "the version and the number of calls"),
    (
        "calls",
        "/emulator/calls",
        "GET: the calls; POST: place a call, read its timeline as JSON lines; DELETE: end all",
    ),
    ("events", "/emulator/events", "every call and each change of one, as server-sent events"),
    ("load", "/emulator/load", "POST: place many calls, read a result for each as JSON lines"),
    ("token", "/emulator/token", "POST: a token, good or flawed"),
    ("rotate", "/emulator/rotate?issuer=skype&overlap=true", "POST: make a new key sign"),
    ("faults", "/emulator/faults", "GET, PATCH, PUT, DELETE: the faults"),
];
