//! The managed identity endpoint, in the form of a virtual machine (IMDS) and of App Service.
//!
//! Its clients have no secret: in the cloud the machine is the proof, here it is the reach of this server.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderName, Request, Response, StatusCode, header};
use openssl::memcmp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    directory::Directory,
    refusal::{NO_STORE, TokenRefusal, fault_text},
    scope::TokenAudience,
};
use crate::{
    clock::unix_seconds,
    encoding::random_id,
    issuer::DEFAULT_TENANT,
    keys::Keys,
    server::{Body, header_text, json_response, printable},
};

/// The form of a request for a token of a managed identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdentityForm {
    /// The Instance Metadata Service of a virtual machine: `GET /metadata/identity/oauth2/token`.
    Imds,
    /// App Service, Functions and Container Apps: `GET $IDENTITY_ENDPOINT`.
    AppService,
}

/// Returns the environment variables that lead Microsoft's client libraries to the endpoint at `origin`. The
/// first two are those of App Service, the last one that of IMDS. A process needs one form only; a library
/// that finds both uses App Service.
pub(crate) fn identity_variables(origin: &str) -> [(&'static str, String); 3] {
    [
        ("IDENTITY_ENDPOINT", format!("{origin}/MSI/token")),
        ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", origin.to_owned()),
    ]
}

impl Directory {
    /// Responds to a request for a token of a managed identity. Returns the token too, if the response holds
    /// one.
    pub(crate) fn managed_identity_token(
        &self,
        request: &Request<Bytes>,
        form: IdentityForm,
        keys: &Keys,
        now: SystemTime,
    ) -> (Response<Body>, Option<String>) {
        let query = IdentityQuery::parse(request);
        let (token, app) = match self.grant_to_identity(request, &query, form, keys, now) {
            Ok(granted) => granted,
            Err(refusal) => return (refusal.response(form), None),
        };
        let life = i64::try_from(self.token_life.as_secs()).unwrap_or(i64::MAX);
        let now = unix_seconds(now);
        // Both forms write numbers as text.
        let mut document = json!({
            "access_token": token,
            "client_id": app.to_string(),
            "expires_on": now.saturating_add(life).to_string(),
            "resource": query.resource,
            "token_type": "Bearer",
        });
        if let (IdentityForm::Imds, Value::Object(members)) = (form, &mut document) {
            members.insert("expires_in".to_owned(), life.to_string().into());
            members.insert("ext_expires_in".to_owned(), life.to_string().into());
            members.insert("not_before".to_owned(), now.to_string().into());
        }
        let mut response = json_response(StatusCode::OK, &document);
        response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        (response, Some(token))
    }

    fn grant_to_identity(
        &self,
        request: &Request<Bytes>,
        query: &IdentityQuery,
        form: IdentityForm,
        keys: &Keys,
        now: SystemTime,
    ) -> Result<(String, Uuid), IdentityRefusal> {
        let text = |name: HeaderName| header_text(request.headers(), &name).unwrap_or_default();
        match form {
            IdentityForm::Imds if text(HeaderName::from_static("metadata")) != "true" => {
                return Err(IdentityRefusal::NoMetadataHeader);
            }
            IdentityForm::AppService => {
                let secret = text(HeaderName::from_static("x-identity-header"));
                if secret.len() != IDENTITY_HEADER.len()
                    || !memcmp::eq(secret.as_bytes(), IDENTITY_HEADER.as_bytes())
                {
                    return Err(IdentityRefusal::WrongIdentityHeader);
                }
            }
            IdentityForm::Imds => {}
        }
        let version = query.api_version.as_deref().ok_or(IdentityRefusal::Missing("api-version"))?;
        if !form.takes_version(version) {
            return Err(IdentityRefusal::Version(version.to_owned()));
        }
        let resource = query.resource.as_deref().ok_or(IdentityRefusal::Missing("resource"))?;
        let app = self.identity(query).ok_or(IdentityRefusal::NoSuchIdentity)?;
        let tenant = self.tenants.first().copied().unwrap_or(DEFAULT_TENANT);
        let audience = TokenAudience::of_resource(resource, &self.apps)?;
        Ok((self.mint(keys, app, tenant, audience, CERTIFICATE, now)?, app))
    }

    /// Returns the app of a managed identity: the one that the request names, else the first one.
    fn identity(&self, query: &IdentityQuery) -> Option<Uuid> {
        if query.names_another_id {
            return None;
        }
        match &query.client_id {
            Some(id) => Uuid::try_parse(id).ok().filter(|id| self.apps.is_empty() || self.apps.contains(id)),
            None => self.apps.first().copied(),
        }
    }
}

impl IdentityForm {
    /// Returns true for a version of the API, which is a date, from the first one of this form on.
    fn takes_version(self, version: &str) -> bool {
        let digits = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let mut parts = version.split('-');
        let is_date = parts.next().is_some_and(|year| digits(year, 4))
            && parts.next().is_some_and(|month| digits(month, 2))
            && parts.next().is_some_and(|day| digits(day, 2))
            && parts.next().is_none();
        is_date
            && match self {
                Self::Imds => version >= "2018-02-01",
                Self::AppService => version == "2019-08-01",
            }
    }
}

/// The parameters of a request.
struct IdentityQuery {
    api_version: Option<String>,
    resource: Option<String>,
    client_id: Option<String>,
    /// The request names its identity by an object id or a resource id, which this server does not have.
    names_another_id: bool,
}

impl IdentityQuery {
    fn parse(request: &Request<Bytes>) -> Self {
        let mut query = Self { api_version: None, resource: None, client_id: None, names_another_id: false };
        let pairs = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        for (name, value) in pairs.take(PARAMETERS_MAX).filter(|(_, value)| !value.is_empty()) {
            match name.as_ref() {
                "api-version" => query.api_version = Some(value.into_owned()),
                "resource" => query.resource = Some(value.into_owned()),
                "client_id" => query.client_id = Some(value.into_owned()),
                "object_id" | "principal_id" | "mi_res_id" | "msi_res_id" => query.names_another_id = true,
                _ => {}
            }
        }
        query
    }
}

/// The reason why the endpoint issues no token.
#[derive(Debug)]
enum IdentityRefusal {
    NoMetadataHeader,
    WrongIdentityHeader,
    Missing(&'static str),
    Version(String),
    NoSuchIdentity,
    Token(TokenRefusal),
}

impl From<TokenRefusal> for IdentityRefusal {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token(refusal)
    }
}

impl IdentityRefusal {
    fn response(&self, form: IdentityForm) -> Response<Body> {
        let bad = |error: &str, text: &str| error_response(form, StatusCode::BAD_REQUEST, error, text);
        match self {
            Self::NoMetadataHeader => bad("bad_request_102", "Required metadata header not specified"),
            // What App Service responds to a wrong header is not documented.
            Self::WrongIdentityHeader => {
                let text = "X-IDENTITY-HEADER is not the value of IDENTITY_HEADER.";
                error_response(form, StatusCode::UNAUTHORIZED, "unauthorized", text)
            }
            Self::Missing(name) => {
                bad("invalid_request", &format!("Required query variable '{name}' is missing"))
            }
            Self::Version(version) => {
                let version = printable(version);
                bad("invalid_request", &format!("The api-version '{version}' is not supported"))
            }
            Self::NoSuchIdentity if form == IdentityForm::AppService => {
                let text = "No User Assigned or Delegated Managed Identity found for specified \
                            ClientId/ResourceId/PrincipalId.";
                bad("invalid_request", text)
            }
            Self::NoSuchIdentity => bad("invalid_request", "Identity not found"),
            Self::Token(refusal) => {
                let (code, error, text) = refusal.parts();
                bad(error, &format!("AADSTS{code}: {text}"))
            }
        }
    }
}

/// Responds with the error that a fault of the token endpoint asks for: a status, or an AADSTS code.
pub(crate) fn identity_fault(form: IdentityForm, status: StatusCode, code: Option<u32>) -> Response<Body> {
    match code {
        Some(code) => {
            let (error, text) = fault_text(code);
            error_response(form, StatusCode::BAD_REQUEST, error, &format!("AADSTS{code}: {text}"))
        }
        None => {
            error_response(form, status, "unknown", "Failed to retrieve token from the Active directory.")
        }
    }
}

/// An error in the format of IMDS, which is that of OAuth, or of App Service.
fn error_response(form: IdentityForm, status: StatusCode, error: &str, text: &str) -> Response<Body> {
    let document = match form {
        IdentityForm::Imds => json!({"error": error, "error_description": text}),
        IdentityForm::AppService => {
            let correlation = random_id().unwrap_or_default().to_string();
            json!({"statusCode": status.as_u16(), "message": text, "correlationId": correlation})
        }
    };
    json_response(status, &document)
}

/// The value of `IDENTITY_HEADER`. It is the same for every process: it guards nothing here, because every
/// client that reaches the emulator can make tokens.
const IDENTITY_HEADER: &str = "emulated-identity";

/// The `appidacr` of a certificate, by which a managed identity proves itself to Entra.
const CERTIFICATE: &str = "2";

const PARAMETERS_MAX: usize = 32;
