//! The documents of both issuers: OpenID configuration and key set, on the origin of the platform.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::keys::{Issuer, Keys};

/// The first path segment of the Entra-like issuer's documents: one tenant, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    Common,
    Organizations,
    Tenant(Uuid),
}

impl Authority {
    /// Parses `common`, `organizations` or a tenant id.
    pub(crate) fn parse(segment: &str) -> Option<Self> {
        match segment {
            "common" => Some(Self::Common),
            "organizations" => Some(Self::Organizations),
            other if other.len() == 36 => Uuid::try_parse(other).ok().map(Self::Tenant),
            _ => None,
        }
    }

    /// Returns the tenant of the authority. The many-tenant authorities stand for the app's home tenant.
    pub(crate) fn tenant(self) -> Uuid {
        match self {
            Self::Common | Self::Organizations => DEFAULT_TENANT,
            Self::Tenant(tenant) => tenant,
        }
    }

    fn v1_issuer(self) -> String {
        match self {
            Self::Common | Self::Organizations => ENTRA_V1_ISSUER.to_owned(),
            Self::Tenant(tenant) => entra_v1_issuer(tenant),
        }
    }

    fn segment(self) -> String {
        match self {
            Self::Common => "common".to_owned(),
            Self::Organizations => "organizations".to_owned(),
            Self::Tenant(tenant) => tenant.to_string(),
        }
    }

    /// Returns the issuer in these documents: a template if the authority is for many tenants.
    fn issuer(self) -> String {
        match self {
            Self::Common | Self::Organizations => ENTRA_ISSUER.to_owned(),
            Self::Tenant(tenant) => entra_v2_issuer(tenant),
        }
    }
}

/// `GET /v1/.well-known/OpenIdConfiguration`.
pub(crate) fn skype_configuration(origin: &str, issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": "https://invalid.botframework.com",
        "jwks_uri": format!("{origin}/v1/keys"),
        // RFC 7518 has no such name; the real document does.
        "id_token_signing_alg_values_supported": ["RSA256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    })
}

/// `GET /v1/keys`.
pub(crate) fn skype_keys(keys: &Keys) -> Value {
    let published: Vec<Value> = keys
        .ring(Issuer::Skype)
        .published()
        .map(|key| with_members(key.to_jwk(), json!({"endorsements": ["msteams", "skype"]})))
        .collect();
    json!({ "keys": published })
}

/// `GET /{authority}/v2.0/.well-known/openid-configuration`.
pub(crate) fn entra_configuration(origin: &str, authority: Authority) -> Value {
    let base = format!("{origin}/{}", authority.segment());
    json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": CLIENT_AUTHENTICATION,
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": authority.issuer(),
        "request_uri_parameter_supported": false,
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{base}/oauth2/v2.0/logout"),
        "tenant_region_scope": null,
        "cloud_instance_name": CLOUD,
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })
}

/// `GET /{authority}/.well-known/openid-configuration`: version 1.0.
pub(crate) fn entra_v1_configuration(origin: &str, authority: Authority) -> Value {
    let base = format!("{origin}/{}", authority.segment());
    json!({
        "token_endpoint": format!("{base}/oauth2/token"),
        "token_endpoint_auth_methods_supported": CLIENT_AUTHENTICATION,
        "jwks_uri": format!("{base}/discovery/keys"),
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "token id_token", "token"],
        "scopes_supported": ["openid"],
        "issuer": authority.v1_issuer(),
        "authorization_endpoint": format!("{base}/oauth2/authorize"),
        "http_logout_supported": true,
        "frontchannel_logout_supported": true,
        "end_session_endpoint": format!("{base}/oauth2/logout"),
        "tenant_region_scope": null,
        "cloud_instance_name": CLOUD,
        "cloud_graph_host_name": "graph.windows.net",
        "msgraph_host": "graph.microsoft.com",
    })
}

/// `GET /common/discovery/instance`: the hosts of one cloud. A client library reads it before it trusts a
/// host.
pub(crate) fn instance_discovery(origin: &str, host: &str) -> Value {
    json!({
        "tenant_discovery_endpoint": format!("{origin}/common/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}],
    })
}

/// `GET /{authority}/discovery/v2.0/keys`: the keys that sign, and two that a bot must not use.
///
/// The real common set contains certificates of the government cloud and keys of the tenant of personal
/// accounts too. A validator that accepts every key of the set lets those sign for any tenant.
pub(crate) fn entra_keys(keys: &Keys, authority: Authority) -> Value {
    let issuer = authority.issuer();
    let mut published: Vec<Value> = keys
        .ring(Issuer::Entra)
        .published()
        .map(|key| with_members(key.to_jwk(), json!({"cloud_instance_name": CLOUD, "issuer": issuer})))
        .collect();
    published.push(with_members(
        keys.other_cloud().to_jwk(),
        json!({"cloud_instance_name": OTHER_CLOUD, "issuer": issuer}),
    ));
    published.push(with_members(
        keys.consumer().to_jwk(),
        json!({"cloud_instance_name": CLOUD, "issuer": entra_v2_issuer(CONSUMER_TENANT)}),
    ));
    json!({ "keys": published })
}

/// Returns the issuer of v2.0 tokens of a tenant.
pub(crate) fn entra_v2_issuer(tenant: Uuid) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

/// Returns the issuer of v1.0 tokens of a tenant.
pub(crate) fn entra_v1_issuer(tenant: Uuid) -> String {
    format!("https://sts.windows.net/{tenant}/")
}

fn with_members(mut jwk: Value, more: Value) -> Value {
    if let (Value::Object(jwk), Value::Object(more)) = (&mut jwk, more) {
        jwk.extend(more);
    }
    jwk
}

/// The issuer of the tokens that the calling service sends today.
pub(crate) const SKYPE_ISSUER: &str = "https://api.botframework.com";

/// The same issuer with a final slash, as reported of tokens of the GCC High cloud.
pub(crate) const SKYPE_SLASH_ISSUER: &str = "https://api.botframework.com/";

const ENTRA_ISSUER: &str = "https://login.microsoftonline.com/{tenantid}/v2.0";
const ENTRA_V1_ISSUER: &str = "https://sts.windows.net/{tenantid}/";
const CLIENT_AUTHENTICATION: [&str; 3] = ["client_secret_post", "private_key_jwt", "client_secret_basic"];
const CLOUD: &str = "microsoftonline.com";
const OTHER_CLOUD: &str = "microsoftonline.us";

/// The tenant of a request that names none.
pub const DEFAULT_TENANT: Uuid = Uuid::from_u128(0x1111_1111_2222_4333_8444_5555_5555_5555);

/// The tenant of personal Microsoft accounts.
const CONSUMER_TENANT: Uuid = Uuid::from_u128(0x9188_040d_6c67_4c5b_b112_36a3_04b6_6dad);
