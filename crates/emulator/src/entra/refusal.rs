//! The error responses of the token endpoint, with the codes and the shape of Entra ("Microsoft Entra
//! authentication and authorization error codes").

use std::time::SystemTime;

use http::{HeaderValue, Response, StatusCode, header};
use openssl::error::ErrorStack;
use serde_json::json;
use uuid::Uuid;

use crate::{
    clock,
    encoding::random_id,
    server::{Body, json_response, printable},
};

/// The reason why the token endpoint issues no token.
#[derive(Debug)]
pub(super) enum TokenRefusal {
    Missing(&'static str),
    UnknownTenant(String),
    UnsupportedGrant(String),
    UnknownApp { client: String, tenant: Uuid },
    NoCredential,
    WrongSecret(Uuid),
    BadScope(String),
    UnknownResource(String),
    AssertionType,
    AssertionMalformed,
    AssertionKey,
    AssertionSignature,
    AssertionClient,
    AssertionAudience,
    AssertionTime,
    Federated,
    Crypto,
}

impl From<ErrorStack> for TokenRefusal {
    fn from(_: ErrorStack) -> Self {
        Self::Crypto
    }
}

impl TokenRefusal {
    /// The AADSTS code, the OAuth error (RFC 6749 section 5.2) and the text.
    pub(super) fn parts(&self) -> (u32, &'static str, String) {
        match self {
            Self::Missing(name) => (
                900_144,
                "invalid_request",
                format!("The request body must contain the following parameter: '{name}'."),
            ),
            Self::UnknownTenant(name) => (
                90_002,
                "invalid_request",
                format!(
                    "Tenant '{}' not found. Check to make sure you have the correct tenant ID: common, \
                     organizations or a GUID.",
                    printable(name)
                ),
            ),
            Self::UnsupportedGrant(grant) => (
                70_003,
                "unsupported_grant_type",
                format!(
                    "The app requested an unsupported grant type '{}': this emulator supports \
                     client_credentials only.",
                    printable(grant)
                ),
            ),
            Self::UnknownApp { client, tenant } => (
                700_016,
                "unauthorized_client",
                format!(
                    "Application with identifier '{}' was not found in the directory '{tenant}'.",
                    printable(client)
                ),
            ),
            Self::NoCredential => (
                7_000_218,
                "invalid_client",
                "The request body must contain the following parameter: 'client_assertion' or \
                 'client_secret'."
                    .to_owned(),
            ),
            Self::WrongSecret(app) => (
                7_000_215,
                "invalid_client",
                format!(
                    "Invalid client secret provided. Ensure the secret being sent in the request is the \
                     client secret value, not the client secret ID, for a secret added to app '{app}'."
                ),
            ),
            Self::BadScope(scope) => (
                1_002_012,
                "invalid_scope",
                format!(
                    "The provided value for scope {} is not valid. Client credential flows must have a scope \
                     value with /.default suffixed to the resource identifier (application ID URI).",
                    printable(scope)
                ),
            ),
            Self::UnknownResource(resource) => (
                500_011,
                "invalid_resource",
                format!("The resource principal named {} was not found in the tenant.", printable(resource)),
            ),
            Self::AssertionType => (
                900_023,
                "invalid_request",
                "client_assertion_type must be urn:ietf:params:oauth:client-assertion-type:jwt-bearer."
                    .to_owned(),
            ),
            Self::AssertionMalformed => {
                (50_027, "invalid_request", "JWT token is invalid or malformed.".to_owned())
            }
            Self::AssertionKey => (
                700_027,
                "invalid_client",
                "The certificate with identifier used to sign the client assertion is not registered on \
                 application. [Reason - The key was not found.]"
                    .to_owned(),
            ),
            Self::AssertionSignature => (
                700_027,
                "invalid_client",
                "Client assertion failed signature validation. [Reason - The key was found, but use of the \
                 key to verify the signature failed.]"
                    .to_owned(),
            ),
            Self::AssertionClient => (
                700_021,
                "invalid_client",
                "Client assertion application identifier doesn't match 'client_id' parameter.".to_owned(),
            ),
            Self::AssertionAudience => (
                700_023,
                "invalid_client",
                "Client assertion audience claim does not match Realm issuer.".to_owned(),
            ),
            Self::AssertionTime => {
                (700_024, "invalid_client", "Client assertion is not within its valid time range.".to_owned())
            }
            Self::Federated => (
                70_021,
                "invalid_client",
                "No matching federated identity record found for presented assertion.".to_owned(),
            ),
            Self::Crypto => (90_033, "temporarily_unavailable", "A transient error has occurred.".to_owned()),
        }
    }

    pub(super) fn response(&self, correlation: Option<&str>, now: SystemTime) -> Response<Body> {
        let (code, error, text) = self.parts();
        response(code, error, &text, correlation, now)
    }
}

/// Responds with one of [`CODES`], which a fault asks for.
pub(crate) fn coded(code: u32, now: SystemTime) -> Response<Body> {
    let (error, text) = fault_text(code);
    response(code, error, text, None, now)
}

/// Returns the OAuth error and the text of one of [`CODES`].
pub(super) fn fault_text(code: u32) -> (&'static str, &'static str) {
    match code {
        700_016 => ("unauthorized_client", "Application was not found in the directory."),
        90_033 | 50_196 => ("temporarily_unavailable", "A transient error has occurred. Please try again."),
        90_002 => ("invalid_request", "Tenant not found."),
        7_000_112 => ("unauthorized_client", "Application is disabled."),
        53_003 => ("access_denied", "Access has been blocked by Conditional Access policies."),
        7_000_222 => ("invalid_client", "The provided client secret keys are expired."),
        _ => ("invalid_client", "Invalid client secret provided."),
    }
}

/// Responds to a request for a document of an unknown tenant.
pub(crate) fn no_such_tenant(name: &str, now: SystemTime) -> Response<Body> {
    let (code, _, text) = TokenRefusal::UnknownTenant(name.to_owned()).parts();
    response(code, "invalid_tenant", &text, None, now)
}

fn response(
    code: u32,
    error: &str,
    text: &str,
    correlation: Option<&str>,
    now: SystemTime,
) -> Response<Body> {
    let trace = random_id().unwrap_or_default().to_string();
    let correlation = correlation.map_or_else(|| random_id().unwrap_or_default().to_string(), printable);
    let date = clock::graph_date(now).replace('T', " ");
    let document = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {date}Z"
        ),
        "error_codes": [code],
        "timestamp": format!("{date}Z"),
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    let status = match error {
        "invalid_client" => StatusCode::UNAUTHORIZED,
        "temporarily_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    };
    let mut response = json_response(status, &document);
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

pub(super) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store, no-cache");

/// The codes that a fault may ask for.
pub(crate) const CODES: [u32; 8] = [7_000_215, 7_000_222, 7_000_112, 700_016, 90_002, 90_033, 50_196, 53_003];
