//! The managed identity endpoint: its tokens, its refusals and its faults.

use serde_json::{Value, json};
use switchboard_emulator::{FaultSetting, Faults, Platform, PlatformSettings};
use uuid::Uuid;

use crate::support::{APP, Reply, TENANT, get, platform_with, request, send, verify};

const OTHER: Uuid = Uuid::from_u128(0x1efc_74f7_41c3_47a4_8775_7259_bfef_4241);
const GRAPH: &str = "https%3A%2F%2Fgraph.microsoft.com";
const IMDS: &str = "/metadata/identity/oauth2/token?api-version=2018-02-01";
const APP_SERVICE: &str = "/MSI/token?api-version=2019-08-01";

async fn platform() -> Platform {
    platform_with(|settings| PlatformSettings {
        apps: vec![APP, OTHER],
        tenants: vec![TENANT],
        graph_auth: Some(true),
        ..settings
    })
    .await
}

/// The headers of a good request in either form.
fn headers(platform: &Platform) -> Vec<(&'static str, String)> {
    let variables = platform.identity_variables();
    let header = variables.into_iter().find(|(name, _)| *name == "IDENTITY_HEADER").unwrap().1;
    vec![("Metadata", "true".to_owned()), ("X-IDENTITY-HEADER", header)]
}

async fn ask(platform: &Platform, path: &str) -> Reply {
    let headers = headers(platform);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    send(platform.address(), "GET", path, &headers, "").await
}

#[tokio::test]
async fn a_managed_identity_gets_a_token_in_both_forms() {
    let platform = platform().await;
    let keys = get(platform.address(), "/common/discovery/v2.0/keys").await.json();
    for (form, client, expected) in [
        (IMDS, String::new(), APP),
        (IMDS, format!("&client_id={OTHER}"), OTHER),
        (APP_SERVICE, String::new(), APP),
        (APP_SERVICE, format!("&client_id={OTHER}"), OTHER),
    ] {
        let reply = ask(&platform, &format!("{form}&resource={GRAPH}{client}")).await;
        let document = reply.json();
        assert_eq!(reply.status, 200, "{document}");
        assert_eq!(document["token_type"], "Bearer");
        assert_eq!(document["resource"], "https://graph.microsoft.com");
        assert_eq!(document["client_id"], expected.to_string());
        let token = document["access_token"].as_str().unwrap();
        let (_, claims, _) = verify(token, &keys).unwrap();
        assert_eq!(claims["aud"], "https://graph.microsoft.com");
        assert_eq!((&claims["appid"], &claims["tid"]), (&json!(expected.to_string()), &json!(TENANT)));
        assert_eq!((&claims["appidacr"], &claims["idtyp"]), (&json!("2"), &json!("app")));
        // Text in both forms, and seconds since 1970.
        assert_eq!(document["expires_on"], claims["exp"].to_string());
        let texts = ["expires_in", "ext_expires_in", "not_before"].map(|name| document[name].as_str());
        let not_before = claims["nbf"].to_string();
        let imds = [Some("3599"), Some("3599"), Some(not_before.as_str())];
        assert_eq!(texts, if form == IMDS { imds } else { [None; 3] });

        // Graph accepts it: the call is unknown, the token is not.
        let path = "/v1.0/communications/calls/00000000-0000-4000-8000-000000000000";
        let bearer = format!("Bearer {token}");
        let graph = send(platform.address(), "GET", path, &[("Authorization", &bearer)], "").await;
        assert_eq!(graph.json()["error"]["code"], "8522");
    }
    // MSAL for Node writes a slash at the end of the path.
    let path = format!("{}&resource=api://{OTHER}", IMDS.replace('?', "/?"));
    let reply = ask(&platform, &path).await;
    let (_, claims, _) = verify(reply.json()["access_token"].as_str().unwrap(), &keys).unwrap();
    assert_eq!(claims["aud"], format!("api://{OTHER}"));
}

#[tokio::test]
async fn refusals_have_the_format_of_each_form() {
    let platform = platform().await;
    let good = format!("&resource={GRAPH}");
    let missing = "Required query variable 'resource' is missing";
    for (query, error, text) in [
        ("", "invalid_request", missing),
        ("&resource=", "invalid_request", missing),
        ("&resource=https://api.example", "invalid_resource", "AADSTS500011: The resource principal"),
        (
            &format!("{good}&client_id=00000000-0000-4000-8000-000000000000"),
            "invalid_request",
            "Identity not",
        ),
        (&format!("{good}&client_id=x%0A"), "invalid_request", "Identity not found"),
        (&format!("{good}&mi_res_id=/subscriptions/x"), "invalid_request", "Identity not found"),
        (
            &format!("{good}&api-version=latest"),
            "invalid_request",
            "The api-version 'latest' is not supported",
        ),
    ] {
        let reply = ask(&platform, &format!("{IMDS}{query}")).await;
        let document = reply.json();
        assert_eq!((reply.status, &document["error"]), (400, &json!(error)), "{query}: {document}");
        let said = document["error_description"].as_str().unwrap();
        assert!(said.starts_with(text), "{query}: {said}");

        let reply = ask(&platform, &format!("{APP_SERVICE}{query}")).await;
        let document = reply.json();
        assert_eq!((reply.status, &document["statusCode"]), (400, &json!(400)), "{query}: {document}");
        assert!(document["message"].is_string() && document["correlationId"].is_string());
    }
    for (path, header, status) in [
        (format!("{IMDS}{good}"), ("Accept", "application/json"), 400),
        (format!("{IMDS}{good}"), ("Metadata", "True"), 400),
        (format!("{APP_SERVICE}{good}"), ("Metadata", "true"), 401),
        (format!("{APP_SERVICE}{good}"), ("X-IDENTITY-HEADER", "wrong"), 401),
    ] {
        let reply = send(platform.address(), "GET", &path, &[header], "").await;
        assert_eq!(reply.status, status, "{path} {header:?}");
    }
    let reply = send(platform.address(), "GET", &format!("{IMDS}{good}"), &[], "").await.json();
    let expected = json!({
        "error": "bad_request_102",
        "error_description": "Required metadata header not specified",
    });
    assert_eq!(reply, expected);
    assert_eq!(request(platform.address(), "POST", IMDS, "").await.status, 405);
}

#[tokio::test]
async fn without_apps_a_request_must_name_its_identity() {
    let platform = platform_with(|settings| PlatformSettings { apps: Vec::new(), ..settings }).await;
    let unnamed = ask(&platform, &format!("{IMDS}&resource={GRAPH}")).await;
    assert_eq!(unnamed.json()["error_description"], "Identity not found");
    let named = ask(&platform, &format!("{IMDS}&resource={GRAPH}&client_id={APP}")).await;
    assert_eq!(named.status, 200);
}

#[tokio::test]
async fn the_faults_of_the_token_endpoint_strike_a_managed_identity_too() {
    let platform = platform().await;
    for (fault, status, imds) in [
        ("login=429:7*2", 429, json!("unknown")),
        ("login=500*2", 500, json!("unknown")),
        ("login=53003*2", 400, json!("access_denied")),
        ("login=html*2", 200, Value::Null),
        ("login=down*2", 0, Value::Null),
    ] {
        let mut faults = Faults::default();
        fault.parse::<FaultSetting>().unwrap().apply(&mut faults);
        platform.set_faults(faults);
        let reply = ask(&platform, &format!("{IMDS}&resource={GRAPH}")).await;
        assert_eq!(reply.status, status, "{fault}");
        if !imds.is_null() {
            assert_eq!(reply.json()["error"], imds, "{fault}");
        }
        assert_eq!(reply.head.contains("retry-after: 7"), status == 429, "{fault}");
        let reply = ask(&platform, &format!("{APP_SERVICE}&resource={GRAPH}")).await;
        assert_eq!(reply.status, status, "{fault}");
        if !imds.is_null() {
            assert_eq!(reply.json()["statusCode"], status, "{fault}");
        }
        // Struck twice, and ended.
        assert_eq!(ask(&platform, &format!("{IMDS}&resource={GRAPH}")).await.status, 200, "{fault}");
    }
}

#[tokio::test]
async fn the_index_names_the_variables_of_the_client_libraries() {
    let platform = platform().await;
    let variables = get(platform.address(), "/emulator").await.json()["identity_variables"].clone();
    let origin = platform.origin();
    assert_eq!(variables["IDENTITY_ENDPOINT"], format!("{origin}/MSI/token"));
    assert_eq!(variables["IDENTITY_HEADER"], headers(&platform)[1].1);
    assert_eq!(variables["AZURE_POD_IDENTITY_AUTHORITY_HOST"], origin);
}
