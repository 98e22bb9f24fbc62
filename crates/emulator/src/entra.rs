//! The token endpoint of the Entra-like issuer: client credentials, and the refusals that the real one makes.

mod assertion;
mod refusal;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use openssl::{
    base64,
    error::ErrorStack,
    memcmp,
    pkey::{PKey, Public},
    sha::sha256,
    x509::X509,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use self::refusal::Refusal;
pub(crate) use self::refusal::{CODES, coded, no_such_tenant};
use crate::{
    clock::unix_seconds,
    encoding::random_id,
    issuer::{Authority, entra_v1_issuer, entra_v2_issuer},
    keys::{Issuer, Keys},
    server::{Body, header_text, json_response},
    token::sign,
    words::words,
};

words! {
    /// An application permission of the calls API (Graph permissions reference).
    pub enum Permission {
        /// To place, redirect and end calls.
        Initiate = "Calls.Initiate.All",
        /// To get the media of calls: application-hosted media, recording status.
        AccessMedia = "Calls.AccessMedia.All",
        /// To answer group calls and meetings.
        JoinGroupCall = "Calls.JoinGroupCall.All",
        /// The same, as a guest.
        JoinGroupCallAsGuest = "Calls.JoinGroupCallAsGuest.All",
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 4] =
        [Self::Initiate, Self::AccessMedia, Self::JoinGroupCall, Self::JoinGroupCallAsGuest];
}

/// What proves to the token endpoint that a client is an app.
#[derive(Clone)]
pub struct Credential(Kind);

#[derive(Clone)]
enum Kind {
    Secret([u8; 32]),
    Certificate { public: PKey<Public>, sha1: String, sha256: String },
    Federated { public: PKey<Public> },
}

impl Credential {
    /// A client secret.
    pub fn secret(text: &str) -> Self {
        Self(Kind::Secret(sha256(text.as_bytes())))
    }

    /// A certificate (PEM) whose key signs client assertions.
    ///
    /// # Errors
    /// It is not one.
    pub fn certificate(pem: &[u8]) -> Result<Self, ErrorStack> {
        let certificate = X509::from_pem(pem)?;
        let der = certificate.to_der()?;
        Ok(Self(Kind::Certificate {
            public: certificate.public_key()?,
            sha1: crate::encoding::base64_url(&openssl::sha::sha1(&der)),
            sha256: crate::encoding::base64_url(&sha256(&der)),
        }))
    }

    /// The public key or certificate (PEM) of somebody else's issuer, whose tokens for `api://AzureADTokenExchange`
    /// are taken as the app's assertions, whatever their issuer and subject: a federated identity.
    ///
    /// # Errors
    /// It is neither.
    pub fn federated(pem: &[u8]) -> Result<Self, ErrorStack> {
        let public = match PKey::public_key_from_pem(pem) {
            Ok(public) => public,
            Err(_) => X509::from_pem(pem)?.public_key()?,
        };
        Ok(Self(Kind::Federated { public }))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Secret(_) => "Secret",
            Kind::Certificate { .. } => "Certificate",
            Kind::Federated { .. } => "Federated",
        })
    }
}

/// What the token endpoint knows.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) apps: Vec<Uuid>,
    /// Without any, every secret of every known app is right.
    pub(crate) credentials: Vec<(Uuid, Credential)>,
    /// Without any, every tenant id is one.
    pub(crate) tenants: Vec<Uuid>,
    pub(crate) permissions: Vec<Permission>,
    pub(crate) token_life: Duration,
}

impl Directory {
    /// `POST /{tenant}/oauth2/v2.0/token`: the answer, and the token in it if there is one.
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
        response.headers_mut().insert(header::CACHE_CONTROL, refusal::NO_STORE);
        (response, Some(token))
    }

    /// `common`, `organizations` or the id of a tenant that there is.
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
    ) -> Result<String, Refusal> {
        let form = Form::parse(request)?;
        let tenant =
            self.authority(authority).ok_or_else(|| Refusal::UnknownTenant(authority.to_owned()))?.tenant();
        match form.need("grant_type")? {
            "client_credentials" => {}
            other => return Err(Refusal::UnsupportedGrant(other.to_owned())),
        }
        let (client, basic_secret) = form.client(request)?;
        let app = Uuid::try_parse(&client).ok().filter(|app| self.apps.is_empty() || self.apps.contains(app));
        let app = app.ok_or_else(|| Refusal::UnknownApp { client: client.clone(), tenant })?;
        let method = self.prove(&form, basic_secret.as_deref(), app, authority, now)?;
        let audience = audience(form.need("scope")?, app)?;
        self.mint(keys, app, tenant, audience, method, now)
    }

    /// The authentication method, as the claim `appidacr` has it.
    fn prove(
        &self,
        form: &Form,
        basic_secret: Option<&str>,
        app: Uuid,
        authority: &str,
        now: SystemTime,
    ) -> Result<&'static str, Refusal> {
        let of_app = || self.credentials.iter().filter(|(owner, _)| *owner == app).map(|(_, held)| &held.0);
        if let Some(assertion) = form.first("client_assertion") {
            if form.need("client_assertion_type")? != ASSERTION_TYPE {
                return Err(Refusal::AssertionType);
            }
            assertion::check(assertion, of_app(), app, authority, now)?;
            return Ok("2");
        }
        let secret = form.first("client_secret").or(basic_secret).ok_or(Refusal::NoCredential)?;
        let offered = sha256(secret.as_bytes());
        let right = |kind: &Kind| matches!(kind, Kind::Secret(held) if memcmp::eq(held, &offered));
        if self.credentials.is_empty() || of_app().any(right) {
            Ok("1")
        } else {
            Err(Refusal::WrongSecret(app))
        }
    }

    fn mint(
        &self,
        keys: &Keys,
        app: Uuid,
        tenant: Uuid,
        audience: Audience,
        method: &str,
        now: SystemTime,
    ) -> Result<String, Refusal> {
        let issued_at = unix_seconds(now);
        let life = i64::try_from(self.token_life.as_secs()).unwrap_or(i64::MAX);
        let subject = random_id()?.to_string();
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        let (version, caller, caller_method, issuer) = match &audience {
            // Microsoft's own APIs ask for version 1.0, and other apps usually for 2.0.
            Audience::Resource(_) => ("1.0", "appid", "appidacr", entra_v1_issuer(tenant)),
            Audience::App(_) => ("2.0", "azp", "azpacr", entra_v2_issuer(tenant)),
        };
        match audience {
            Audience::Resource(resource) => {
                set("aud", resource.into());
                set("app_displayname", "emulated app".into());
                set("idtyp", "app".into());
                set("roles", self.permissions.iter().map(|permission| permission.label()).collect());
            }
            Audience::App(app) => {
                set("aud", app.to_string().into());
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

/// What a token is for.
enum Audience {
    /// One of Microsoft's own APIs.
    Resource(String),
    /// The app itself.
    App(Uuid),
}

/// `{resource}/.default`: what else a scope may say is for people.
fn audience(scope: &str, app: Uuid) -> Result<Audience, Refusal> {
    let resource =
        scope.trim().strip_suffix("/.default").ok_or_else(|| Refusal::BadScope(scope.to_owned()))?;
    let own = resource.strip_prefix("api://").unwrap_or(resource);
    if Uuid::try_parse(own).is_ok_and(|own| own == app) {
        return Ok(Audience::App(app));
    }
    let plain = resource.trim_end_matches('/');
    if RESOURCES.contains(&plain) {
        Ok(Audience::Resource(plain.to_owned()))
    } else {
        Err(Refusal::UnknownResource(resource.to_owned()))
    }
}

/// The parameters of a token request.
struct Form(Vec<(String, String)>);

impl Form {
    fn parse(request: &Request<Bytes>) -> Result<Self, Refusal> {
        let kind = header_text(request.headers(), &header::CONTENT_TYPE).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            // The real one then finds no parameter at all.
            return Err(Refusal::Missing("grant_type"));
        }
        let pairs = url::form_urlencoded::parse(request.body());
        Ok(Self(
            pairs.take(PARAMETERS_MAX).map(|(name, value)| (name.into_owned(), value.into_owned())).collect(),
        ))
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    fn need(&self, name: &'static str) -> Result<&str, Refusal> {
        self.first(name).ok_or(Refusal::Missing(name))
    }

    /// The client, from the body or from basic authentication (RFC 6749 section 2.3.1), and its secret in the latter case.
    fn client(&self, request: &Request<Bytes>) -> Result<(String, Option<String>), Refusal> {
        let basic = header_text(request.headers(), &header::AUTHORIZATION)
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|encoded| base64::decode_block(encoded.trim()).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((client, secret)) = basic.as_deref().and_then(|pair| pair.split_once(':')) else {
            return Ok((self.need("client_id")?.to_owned(), None));
        };
        let decoded = |text: &str| {
            let pair = format!("x={text}");
            url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
        };
        Ok((decoded(client).unwrap_or_default(), decoded(secret)))
    }
}

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The APIs that there are tokens for: Graph in the clouds that have the calls API, and the Bot Framework.
const RESOURCES: [&str; 6] = [
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "00000003-0000-0000-c000-000000000000",
    "https://api.botframework.com",
    "https://api.botframework.us",
];

const PARAMETERS_MAX: usize = 32;
