//! The documents of both issuers, and the requests that the server refuses.

use openssl::{sha::sha1, x509::X509};
use serde_json::{Value, json};

use crate::support::{APP, TENANT, exchange, get, platform, post, request};

#[tokio::test]
async fn the_skype_like_metadata_has_the_real_shape() {
    let platform = platform().await;
    for (folder, issuer) in
        [("", "https://api.botframework.com"), ("/slash", "https://api.botframework.com/")]
    {
        let path = format!("{folder}/v1/.well-known/OpenIdConfiguration");
        let document = get(platform.address(), &path).await.json();
        let expected = json!({
            "issuer": issuer,
            "authorization_endpoint": "https://invalid.botframework.com",
            "jwks_uri": format!("{}/v1/keys", platform.origin()),
            "id_token_signing_alg_values_supported": ["RSA256"],
            "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        });
        assert_eq!(document, expected);
    }
}

#[tokio::test]
async fn the_entra_like_metadata_has_a_template_issuer_for_many_tenants() {
    let platform = platform().await;
    for (authority, issuer) in [
        ("common".to_owned(), "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned()),
        ("organizations".to_owned(), "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned()),
        (TENANT.to_string(), format!("https://login.microsoftonline.com/{TENANT}/v2.0")),
    ] {
        let path = format!("/{authority}/v2.0/.well-known/openid-configuration");
        let document = get(platform.address(), &path).await.json();
        assert_eq!(document["issuer"], issuer.as_str());
        assert_eq!(document["cloud_instance_name"], "microsoftonline.com");
        let jwks_uri = format!("{}/{authority}/discovery/v2.0/keys", platform.origin());
        assert_eq!(document["jwks_uri"], jwks_uri.as_str());
        assert_eq!(get(platform.address(), &format!("/{authority}/discovery/v2.0/keys")).await.status, 200);
    }
    for path in ["/contoso/v2.0/.well-known/openid-configuration", "/../discovery/v2.0/keys"] {
        let reply = get(platform.address(), path).await;
        let error = reply.json();
        assert_eq!((reply.status, &error["error"]), (400, &json!("invalid_tenant")), "{path}");
        assert_eq!(error["error_codes"], json!([90_002]));
        for member in ["error_description", "timestamp", "trace_id", "correlation_id", "error_uri"] {
            assert!(error[member].is_string(), "{member}: {error}");
        }
    }
}

#[tokio::test]
async fn published_keys_have_the_real_members_and_no_private_part() {
    let platform = platform().await;
    for path in ["/v1/keys", "/common/discovery/v2.0/keys"] {
        let document = get(platform.address(), path).await.json();
        for key in document["keys"].as_array().unwrap() {
            assert_eq!((&key["kty"], &key["use"], &key["e"]), (&json!("RSA"), &json!("sig"), &json!("AQAB")));
            assert_eq!(key["kid"], key["x5t"]);
            assert!(key.get("d").is_none() && key.get("alg").is_none());
            assert_eq!(crate::support::decode(key["n"].as_str().unwrap()).len(), 256);
            let certificate = openssl::base64::decode_block(key["x5c"][0].as_str().unwrap()).unwrap();
            assert_eq!(crate::support::decode(key["kid"].as_str().unwrap()), sha1(&certificate));
            X509::from_der(&certificate).unwrap();
        }
    }
}

#[tokio::test]
async fn the_entra_like_set_contains_keys_that_a_bot_must_not_use() {
    let platform = platform().await;
    let members = |document: Value| -> Vec<(String, String)> {
        let keys = document["keys"].as_array().unwrap().clone();
        let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
        keys.iter().map(|key| (text(key, "cloud_instance_name"), text(key, "issuer"))).collect()
    };
    let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
    let consumers = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0";
    let pair = |cloud: &str, issuer: &str| (cloud.to_owned(), issuer.to_owned());
    let common = get(platform.address(), "/common/discovery/v2.0/keys").await.json();
    let expected = [
        pair("microsoftonline.com", template),
        pair("microsoftonline.us", template),
        pair("microsoftonline.com", consumers),
    ];
    assert_eq!(members(common), expected);
}

#[tokio::test]
async fn the_issuers_share_no_key() {
    let platform = platform().await;
    let kids = |document: Value| -> Vec<Value> {
        document["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
    };
    let skype = kids(get(platform.address(), "/v1/keys").await.json());
    let entra = kids(get(platform.address(), "/common/discovery/v2.0/keys").await.json());
    assert!(skype.iter().all(|kid| !entra.contains(kid)));
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let platform = platform().await;
    let address = platform.address();
    let head = |more: &str| format!("GET /v1/keys HTTP/1.1\r\nConnection: close\r\n{more}\r\n");
    let host = format!("Host: {address}\r\n");
    let many_headers = format!("{host}{}", "X: y\r\n".repeat(64));
    for (text, expected) in [
        (head(&host), 200),
        (head("Host: localhost\r\n"), 200),
        (head(""), 400),
        (head(&format!("{host}{host}")), 400),
        (head("Host: rebound.example\r\n"), 403),
        (head(&format!("{host}Origin: https://page.example\r\n")), 403),
        (head(&many_headers), 431),
        ("\0\u{1}garbage\r\n\r\n".to_owned(), 400),
        (
            format!("POST /v1/keys HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: 5000000\r\n\r\n"),
            413,
        ),
    ] {
        assert_eq!(
            exchange(address, &text).await.status,
            expected,
            "{}",
            text.chars().take(80).collect::<String>()
        );
    }
    assert_eq!(get(address, "/nothing").await.status, 404);
    assert_eq!(post(address, "/v1/keys", "").await.status, 405);
    assert_eq!(get(address, "/emulator/token").await.status, 405);
    assert_eq!(request(address, "PUT", "/v1.0/communications/calls/1", "").await.status, 405);
    assert_eq!(post(address, "/emulator/rotate?issuer=apple", "").await.status, 400);
    let deep = "[".repeat(100_000);
    for body in ["", "[]", "{", "{\"kind\":7}", "\u{0}", deep.as_str()] {
        for path in ["/emulator/token", "/emulator/calls"] {
            assert_eq!(post(address, path, body).await.status, 400, "{path} {}", body.len());
        }
    }
}

#[tokio::test]
async fn the_index_names_every_url() {
    let platform = platform().await;
    let index = get(platform.address(), "/emulator").await.json();
    for name in ["health", "events", "calls", "load", "token", "rotate", "faults"] {
        assert!(index[name].as_str().unwrap().contains(&format!("/emulator/{name}")), "{name}");
    }
    for named in platform.urls() {
        assert_eq!(index[named.name], named.url.as_str());
    }
    let token =
        post(platform.address(), "/emulator/token", &json!({"app": APP.to_string()}).to_string()).await;
    assert_eq!(token.status, 200);
}
