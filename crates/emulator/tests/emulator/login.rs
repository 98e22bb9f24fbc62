//! The token endpoint: credentials, claims and error responses.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use openssl::{
    asn1::Asn1Time,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::{Padding, Rsa},
    sha::{sha1, sha256},
    sign::{RsaPssSaltlen, Signer},
    x509::X509,
};
use serde_json::{Value, json};
use switchboard_emulator::{Credential, Permission, Platform, PlatformSettings, TokenRequest};

use crate::support::{APP, Reply, TENANT, get, platform_with, send, verify};

const SECRET: &str = "s3cret+/=";

async fn platform() -> Platform {
    platform_with(|settings| PlatformSettings {
        credentials: vec![(APP, Credential::secret(SECRET))],
        ..settings
    })
    .await
}

fn form(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

async fn ask(platform: &Platform, tenant: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
    let mut all = vec![("Content-Type", "application/x-www-form-urlencoded")];
    all.extend(headers);
    send(platform.address(), "POST", &format!("/{tenant}/oauth2/v2.0/token"), &all, body).await
}

/// The parameters of a good request with changes. An empty value removes a parameter.
fn parameters(changes: &[(&str, &str)]) -> String {
    let app = APP.to_string();
    let mut pairs = vec![
        ("grant_type", "client_credentials"),
        ("client_id", app.as_str()),
        ("scope", "https://graph.microsoft.com/.default"),
        ("client_secret", SECRET),
    ];
    for (name, value) in changes {
        pairs.retain(|(key, _)| key != name);
        if !value.is_empty() {
            pairs.push((name, value));
        }
    }
    form(&pairs)
}

#[tokio::test]
async fn a_secret_yields_a_token_for_graph() {
    let platform = platform().await;
    let keys = get(platform.address(), "/common/discovery/v2.0/keys").await.json();
    let basic = format!("Basic {}", STANDARD.encode(format!("{APP}:s3cret%2B%2F%3D")));
    let in_body = ask(&platform, &TENANT.to_string(), &parameters(&[]), &[]).await;
    let headers = [("Authorization", basic.as_str())];
    let body = parameters(&[("client_id", ""), ("client_secret", "")]);
    let in_header = ask(&platform, &TENANT.to_string(), &body, &headers).await;
    for reply in [in_body, in_header] {
        assert_eq!(reply.status, 200, "{}", reply.body);
        let document = reply.json();
        assert_eq!((&document["token_type"], &document["expires_in"]), (&json!("Bearer"), &json!(3_599)));
        let (_, claims, _) = verify(document["access_token"].as_str().unwrap(), &keys).unwrap();
        assert_eq!(claims["aud"], "https://graph.microsoft.com");
        assert_eq!(claims["iss"], format!("https://sts.windows.net/{TENANT}/"));
        assert_eq!(
            (&claims["ver"], &claims["idtyp"], &claims["appidacr"]),
            (&json!("1.0"), &json!("app"), &json!("1"))
        );
        assert_eq!((&claims["appid"], &claims["tid"]), (&json!(APP.to_string()), &json!(TENANT.to_string())));
        assert_eq!(claims["roles"].as_array().unwrap().len(), Permission::ALL.len());
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3_599);
    }
}

#[tokio::test]
async fn the_name_of_an_app_decides_the_version_of_a_token_for_it() {
    let other = TENANT;
    let platform = platform_with(|settings| PlatformSettings {
        apps: vec![APP, other],
        credentials: vec![(APP, Credential::secret(SECRET))],
        ..settings
    })
    .await;
    let keys = get(platform.address(), "/common/discovery/v2.0/keys").await.json();
    let v1 = format!("https://sts.windows.net/{TENANT}/");
    let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
    for (resource, version, audience, caller, issuer) in [
        (APP.to_string(), "2.0", APP.to_string(), "azp", &v2),
        (other.to_string(), "2.0", other.to_string(), "azp", &v2),
        (format!("api://{APP}"), "1.0", format!("api://{APP}"), "appid", &v1),
        (format!("api://{other}"), "1.0", format!("api://{other}"), "appid", &v1),
    ] {
        let body = parameters(&[("scope", &format!("{resource}/.default"))]);
        let document = ask(&platform, &TENANT.to_string(), &body, &[]).await.json();
        let (_, claims, _) = verify(document["access_token"].as_str().unwrap(), &keys).unwrap();
        let seen = (&claims["aud"], &claims["ver"], &claims["iss"], &claims[caller]);
        let expected = (&json!(audience), &json!(version), &json!(issuer), &json!(APP.to_string()));
        assert_eq!(seen, expected, "{resource}");
        assert!(claims.get("roles").is_none(), "the roles are those of Graph");
    }
}

#[track_caller]
fn check(reply: &Reply, status: u16, error: &str, code: u32) {
    let document = reply.json();
    let seen = (reply.status, &document["error"], &document["error_codes"]);
    assert_eq!(seen, (status, &json!(error), &json!([code])), "{}", reply.body);
    let text = document["error_description"].as_str().unwrap();
    assert!(text.starts_with(&format!("AADSTS{code}: ")) && text.contains(" Trace ID: "), "{text}");
    assert!(
        ["timestamp", "trace_id", "correlation_id", "error_uri"]
            .iter()
            .all(|name| document[name].is_string())
    );
}

#[tokio::test]
async fn errors_have_the_codes_of_the_real_endpoint() {
    let platform = platform_with(|settings| PlatformSettings {
        credentials: vec![(APP, Credential::secret(SECRET))],
        tenants: vec![TENANT],
        ..settings
    })
    .await;
    let tenant = TENANT.to_string();
    let other = "00000000-0000-4000-8000-000000000001";
    for (changes, status, error, code) in [
        (vec![("client_secret", "wrong")], 401, "invalid_client", 7_000_215),
        (vec![("client_secret", "")], 401, "invalid_client", 7_000_218),
        (vec![("client_id", other)], 400, "unauthorized_client", 700_016),
        (vec![("client_id", "contoso")], 400, "unauthorized_client", 700_016),
        (vec![("client_id", "")], 400, "invalid_request", 900_144),
        (vec![("grant_type", "")], 400, "invalid_request", 900_144),
        (vec![("grant_type", "password")], 400, "unsupported_grant_type", 70_003),
        (vec![("scope", "")], 400, "invalid_request", 900_144),
        (vec![("scope", "https://graph.microsoft.com/Calls.Initiate.All")], 400, "invalid_scope", 1_002_012),
        (vec![("scope", "https://api.example/.default")], 400, "invalid_resource", 500_011),
        (vec![("scope", &format!("api://{other}/.default"))], 400, "invalid_resource", 500_011),
        (vec![("scope", &format!("api://{}/.default", APP.simple()))], 400, "invalid_resource", 500_011),
        (
            vec![("client_assertion", "a.b.c"), ("client_assertion_type", "x")],
            400,
            "invalid_request",
            900_023,
        ),
    ] {
        let reply = ask(&platform, &tenant, &parameters(&changes), &[]).await;
        check(&reply, status, error, code);
    }
    check(&ask(&platform, other, &parameters(&[]), &[]).await, 400, "invalid_request", 90_002);
    check(&ask(&platform, "contoso", &parameters(&[]), &[]).await, 400, "invalid_request", 90_002);
    let json = send(platform.address(), "POST", &format!("/{tenant}/oauth2/v2.0/token"), &[], "{}").await;
    check(&json, 400, "invalid_request", 900_144);

    let echoed = ask(&platform, &tenant, "", &[("client-request-id", "mine-1")]).await;
    assert_eq!(echoed.json()["correlation_id"], "mine-1");
    let unknown = get(platform.address(), &format!("/{other}/v2.0/.well-known/openid-configuration")).await;
    assert_eq!((unknown.status, &unknown.json()["error"]), (400, &json!("invalid_tenant")));
}

#[tokio::test]
async fn without_credentials_every_secret_of_a_known_app_is_accepted() {
    let platform = crate::support::platform().await;
    let tenant = TENANT.to_string();
    assert_eq!(ask(&platform, &tenant, &parameters(&[("client_secret", "any")]), &[]).await.status, 200);
    let other = parameters(&[("client_id", "00000000-0000-4000-8000-000000000001")]);
    check(&ask(&platform, &tenant, &other, &[]).await, 400, "unauthorized_client", 700_016);
}

/// A certificate and its key.
fn certificate() -> (PKey<Private>, X509) {
    let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (key, builder.build())
}

fn base64_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn assertion(key: &PKey<Private>, header: &Value, claims: &Value) -> String {
    let signed = format!(
        "{}.{}",
        base64_url(header.to_string().as_bytes()),
        base64_url(claims.to_string().as_bytes())
    );
    let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
    if header["alg"] == "PS256" {
        signer.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
    }
    format!("{signed}.{}", base64_url(&signer.sign_oneshot_to_vec(signed.as_bytes()).unwrap()))
}

#[tokio::test]
async fn an_assertion_needs_a_registered_key_and_valid_claims() {
    let (key, certificate) = certificate();
    let other_key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let pem = certificate.to_pem().unwrap();
    let platform = platform_with(|settings| PlatformSettings {
        credentials: vec![
            (APP, Credential::certificate(&pem).unwrap()),
            (APP, Credential::federated(&other_key.public_key_to_pem().unwrap()).unwrap()),
        ],
        ..settings
    })
    .await;
    // The time of the platform, without reading the clock of the machine.
    let now = platform.token(&TokenRequest::new(APP, TENANT)).unwrap().expires_at - 300;
    let now_fraction = f64::from(i32::try_from(now).unwrap());
    let tenant = TENANT.to_string();
    let endpoint = format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    let app = APP.to_string();
    let good = json!({
        "aud": endpoint, "iss": app, "sub": app, "jti": "1", "nbf": now, "iat": now, "exp": now + 600,
    });
    let with = |changes: Value| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        claims
    };
    let der = certificate.to_der().unwrap();
    let pss = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": base64_url(&sha256(&der))});
    let rsa = json!({"alg": "RS256", "typ": "JWT", "x5t": base64_url(&sha1(&der))});
    let unknown = json!({"alg": "RS256", "x5t": "AAAA"});
    let none = json!({"alg": "none", "x5t": base64_url(&sha1(&der))});
    let exchange =
        json!({"aud": "api://AzureADTokenExchange", "iss": "https://cluster.example", "sub": "system:bot"});
    let plain = json!({"alg": "RS256", "kid": "cluster-1"});
    for (what, text, expected) in [
        ("PS256", assertion(&key, &pss, &good), None),
        ("RS256", assertion(&key, &rsa, &good), None),
        (
            "own endpoint",
            assertion(&key, &rsa, &with(json!({"aud": format!("{}/{tenant}/v2.0", platform.origin())}))),
            None,
        ),
        ("federated", assertion(&other_key, &plain, &with(exchange.clone())), None),
        ("federated, other key", assertion(&key, &plain, &with(exchange.clone())), Some(70_021)),
        ("expired", assertion(&key, &rsa, &with(json!({"exp": now - 400}))), Some(700_024)),
        ("not yet valid", assertion(&key, &rsa, &with(json!({"nbf": now + 400}))), Some(700_024)),
        (
            "other audience",
            assertion(&key, &rsa, &with(json!({"aud": "https://graph.microsoft.com"}))),
            Some(700_023),
        ),
        ("other client", assertion(&key, &rsa, &with(json!({"iss": "other"}))), Some(700_021)),
        ("unknown certificate", assertion(&key, &unknown, &good), Some(700_027)),
        ("forged", assertion(&other_key, &rsa, &good), Some(700_027)),
        ("alg none", assertion(&key, &none, &good), Some(700_027)),
        ("fractions of seconds", assertion(&key, &rsa, &with(json!({"exp": now_fraction + 600.5}))), None),
        ("not a token", "a.b.c".to_owned(), Some(50_027)),
        ("nothing in it", "..".to_owned(), Some(50_027)),
    ] {
        let body = parameters(&[
            ("client_secret", ""),
            ("client_assertion", &text),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ]);
        let reply = ask(&platform, &tenant, &body, &[]).await;
        let code = (reply.status != 200).then(|| reply.json()["error_codes"][0].clone());
        assert_eq!(code, expected.map(|code: u32| json!(code)), "{what}: {}", reply.body);
    }
}

#[tokio::test]
async fn version_1_metadata_and_instance_discovery_are_served() {
    let platform = crate::support::platform().await;
    let origin = platform.origin();
    let document =
        get(platform.address(), &format!("/{TENANT}/.well-known/openid-configuration")).await.json();
    assert_eq!(document["issuer"], format!("https://sts.windows.net/{TENANT}/"));
    assert_eq!(document["jwks_uri"], format!("{origin}/{TENANT}/discovery/keys"));
    let common = get(platform.address(), "/common/.well-known/openid-configuration").await.json();
    assert_eq!(common["issuer"], "https://sts.windows.net/{tenantid}/");
    let keys = get(platform.address(), "/common/discovery/keys").await.json();
    assert_eq!(keys, get(platform.address(), "/common/discovery/v2.0/keys").await.json());
    let discovery = get(platform.address(), "/common/discovery/instance?api-version=1.1").await.json();
    let endpoint = format!("{origin}/common/v2.0/.well-known/openid-configuration");
    assert_eq!(discovery["tenant_discovery_endpoint"], endpoint.as_str());
    assert_eq!(discovery["metadata"][0]["aliases"], json!([platform.address().to_string()]));
}
