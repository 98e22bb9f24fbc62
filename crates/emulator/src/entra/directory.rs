//! The directory: checks a token request and issues the token.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use openssl::{memcmp, sha::sha256};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    assertion,
    credential::{Credential, CredentialKind},
    form::TokenForm,
    permission::Permission,
    refusal::{NO_STORE, TokenRefusal},
    scope::TokenAudience,
};
use crate::{
    clock::unix_seconds,
    encoding::random_id,
    issuer::{Authority, entra_v1_issuer, entra_v2_issuer},
    keys::{Issuer, Keys},
    server::{Body, header_text, json_response},
    token::sign,
};

/// The apps, credentials and tenants that the token endpoint knows.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) apps: Vec<Uuid>,
    /// If empty, every secret of every known app is accepted.
    pub(crate) credentials: Vec<(Uuid, Credential)>,
    /// If empty, every tenant id exists.
    pub(crate) tenants: Vec<Uuid>,
    pub(crate) permissions: Vec<Permission>,
    pub(crate) token_life: Duration,
}

impl Directory {
    /// Responds to `POST /{tenant}/oauth2/v2.0/token`. Returns the token too, if the response holds one.
    pub(crate) fn token(
        &self,
        request: &Request<Bytes>,
        authority: &str,
        keys: &Keys,
        now: SystemTime,
    ) -> (Response<Body>, Option<String>) {
        let correlation =
            header_text(request.headers(), &header::HeaderName::from_static("client-request-id"));
        let token = match self.grant(request, authority, keys, now) {
            Ok(token) => token,
            Err(refusal) => return (refusal.response(correlation, now), None),
        };
        let life = self.token_life.as_secs();
        let document = json!({
            "token_type": "Bearer",
            "expires_in": life,
            "ext_expires_in": life,
            "access_token": token,
        });
        let mut response = json_response(StatusCode::OK, &document);
        response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
        (response, Some(token))
    }

    /// Finds an authority: `common`, `organizations` or the id of an existing tenant.
    pub(crate) fn authority(&self, name: &str) -> Option<Authority> {
        Authority::parse(name).filter(|authority| match authority {
            Authority::Tenant(tenant) => self.tenants.is_empty() || self.tenants.contains(tenant),
            Authority::Common | Authority::Organizations => true,
        })
    }

    fn grant(
        &self,
        request: &Request<Bytes>,
        authority: &str,
        keys: &Keys,
        now: SystemTime,
    ) -> Result<String, TokenRefusal> {
        let form = TokenForm::parse(request)?;
        let tenant = self
            .authority(authority)
            .ok_or_else(|| TokenRefusal::UnknownTenant(authority.to_owned()))?
            .tenant();
        match form.need("grant_type")? {
            "client_credentials" => {}
            other => return Err(TokenRefusal::UnsupportedGrant(other.to_owned())),
        }
        let (client, basic_secret) = form.client(request)?;
        let app = Uuid::try_parse(&client).ok().filter(|app| self.apps.is_empty() || self.apps.contains(app));
        let app = app.ok_or_else(|| TokenRefusal::UnknownApp { client: client.clone(), tenant })?;
        let method = self.prove(&form, basic_secret.as_deref(), app, authority, now)?;
        let audience = TokenAudience::of_scope(form.need("scope")?, &self.apps)?;
        self.mint(keys, app, tenant, audience, method, now)
    }

    /// Checks the credential of the request. Returns the authentication method as the value of `appidacr`.
    fn prove(
        &self,
        form: &TokenForm,
        basic_secret: Option<&str>,
        app: Uuid,
        authority: &str,
        now: SystemTime,
    ) -> Result<&'static str, TokenRefusal> {
        let registered = || {
            self.credentials.iter().filter(|(owner, _)| *owner == app).map(|(_, credential)| &credential.0)
        };
        if let Some(assertion) = form.first("client_assertion") {
            if form.need("client_assertion_type")? != ASSERTION_TYPE {
                return Err(TokenRefusal::AssertionType);
            }
            assertion::check(assertion, registered(), app, authority, now)?;
            return Ok("2");
        }
        let secret = form.first("client_secret").or(basic_secret).ok_or(TokenRefusal::NoCredential)?;
        let offered = sha256(secret.as_bytes());
        let is_offered = |kind: &CredentialKind| match kind {
            CredentialKind::Secret(held) => memcmp::eq(held, &offered),
            CredentialKind::Certificate { .. } | CredentialKind::Federated { .. } => false,
        };
        if self.credentials.is_empty() || registered().any(is_offered) {
            Ok("1")
        } else {
            Err(TokenRefusal::WrongSecret(app))
        }
    }

    /// Makes a token. `method` is the value of `appidacr`: the way in which the app proved its identity.
    pub(super) fn mint(
        &self,
        keys: &Keys,
        app: Uuid,
        tenant: Uuid,
        audience: TokenAudience,
        method: &str,
        now: SystemTime,
    ) -> Result<String, TokenRefusal> {
        let issued_at = unix_seconds(now);
        let life = i64::try_from(self.token_life.as_secs()).unwrap_or(i64::MAX);
        let subject = random_id()?.to_string();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        let (version, caller, caller_method, issuer) = match &audience {
            TokenAudience::Microsoft(_) | TokenAudience::AppV1(_) => {
                ("1.0", "appid", "appidacr", entra_v1_issuer(tenant))
            }
            TokenAudience::AppV2(_) => ("2.0", "azp", "azpacr", entra_v2_issuer(tenant)),
        };
        match audience {
            TokenAudience::Microsoft(resource) => {
                set("aud", resource.into());
                set("app_displayname", "emulated app".into());
                set("idtyp", "app".into());
                set("roles", self.permissions.iter().map(|permission| permission.label()).collect());
            }
            TokenAudience::AppV1(resource) => {
                set("aud", resource.into());
            }
            TokenAudience::AppV2(resource) => {
                set("aud", resource.to_string().into());
            }
        }
        set("iss", issuer.into());
        set("iat", issued_at.into());
        set("nbf", issued_at.into());
        set("exp", issued_at.saturating_add(life).into());
        set(caller, app.to_string().into());
        set(caller_method, method.into());
        set("oid", subject.as_str().into());
        set("sub", subject.into());
        set("tid", tenant.to_string().into());
        set("uti", random_id()?.simple().to_string().into());
        set("ver", version.into());
        let key = keys.ring(Issuer::Entra).signing();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5t": key.kid(), "kid": key.kid()});
        Ok(sign(key, &header, &claims)?)
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
