//! Tokens: their shape, their flaws, and their signatures against the served key set.

use serde_json::{Value, json};
use switchboard_emulator::{Flaw, Issuer, Platform, TokenRequest};

use crate::support::{APP, TENANT, get, platform, post, verify};

async fn keys(platform: &Platform, issuer: Issuer) -> Value {
    let path = match issuer {
        Issuer::Skype => "/v1/keys",
        Issuer::Entra => "/common/discovery/v2.0/keys",
    };
    get(platform.address(), path).await.json()
}

fn issuer_of(choice: &str) -> Issuer {
    if choice.starts_with("entra") { Issuer::Entra } else { Issuer::Skype }
}

fn mint(platform: &Platform, choice: &str) -> String {
    let request = TokenRequest { choice: choice.parse().unwrap(), ..TokenRequest::new(APP, TENANT) };
    platform.token(&request).unwrap().compact
}

#[tokio::test]
async fn each_kind_has_the_real_shape() {
    let platform = platform().await;
    let service = json!("26a18ebc-cdf7-4a6a-91cb-beb352805e81");
    for (choice, issuer, caller, life, version) in [
        ("skype", "https://api.botframework.com".to_owned(), "appid", 300, Value::Null),
        ("skype-slash", "https://api.botframework.com/".to_owned(), "appid", 300, Value::Null),
        ("entra-v1", format!("https://sts.windows.net/{TENANT}/"), "appid", 3_900, json!("1.0")),
        ("entra-v2", format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "azp", 3_900, json!("2.0")),
    ] {
        let token = mint(&platform, choice);
        let (header, claims, _) = verify(&token, &keys(&platform, issuer_of(choice)).await).unwrap();
        assert_eq!(claims["iss"], issuer.as_str(), "{choice}");
        assert_eq!(claims["aud"], APP.to_string().as_str());
        assert_eq!(claims["tid"], TENANT.to_string().as_str());
        assert_eq!(claims[caller], service);
        assert_eq!(claims["ver"], version);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["nbf"].as_i64().unwrap(), life);
        assert_eq!(claims.get("iat").is_none(), choice.starts_with("skype"));
        assert_eq!(header.get("cty").is_some(), choice.starts_with("skype"));
        assert_eq!((&header["typ"], &header["x5t"]), (&json!("JWT"), &header["kid"]));
        assert!(token.len() < 2_048);
    }
}

#[tokio::test]
async fn each_token_has_the_flaw_that_it_names() {
    let platform = platform().await;
    let now_ish = |claims: &Value, name: &str| {
        let good = TokenRequest::new(APP, TENANT);
        claims[name].as_i64().unwrap() - platform.token(&good).unwrap().expires_at
    };
    for word in Flaw::WORDS {
        let flaw: Flaw = word.parse().unwrap();
        let choice = format!("entra-v2+{word}");
        let request = TokenRequest { choice: choice.parse().unwrap(), ..TokenRequest::new(APP, TENANT) };
        if flaw == Flaw::Missing {
            assert!(platform.token(&request).is_err());
            continue;
        }
        let token = platform.token(&request).unwrap().compact;
        let verdict = verify(&token, &keys(&platform, Issuer::Entra).await);
        let claims = verdict.as_ref().map(|(_, claims, _)| claims.clone()).unwrap_or_default();
        let key = verdict.as_ref().map(|(_, _, key)| key.clone()).unwrap_or_default();
        match flaw {
            Flaw::Forged => assert_eq!(verdict.unwrap_err(), "wrong signature"),
            Flaw::UnknownKey => assert_eq!(verdict.unwrap_err(), "no such key"),
            Flaw::Unsigned => {
                assert_eq!(verdict.unwrap_err(), "alg \"none\"");
                assert!(token.ends_with('.'));
            }
            Flaw::None => assert_eq!(claims["aud"], APP.to_string().as_str()),
            Flaw::Expired => assert!(now_ish(&claims, "exp") < -3_600, "{claims}"),
            Flaw::NotYetValid => assert!(now_ish(&claims, "nbf") > 3_600, "{claims}"),
            Flaw::WrongAudience => assert_ne!(claims["aud"], APP.to_string().as_str()),
            Flaw::WrongIssuer => assert_eq!(claims["iss"], "https://issuer.example"),
            Flaw::WrongTenant => {
                assert_ne!(claims["tid"], TENANT.to_string().as_str());
                assert!(claims["iss"].as_str().unwrap().contains(&TENANT.to_string()));
            }
            Flaw::OtherCaller => assert_ne!(claims["azp"], "26a18ebc-cdf7-4a6a-91cb-beb352805e81"),
            Flaw::Bound => assert!(claims["cnf"]["kid"].is_string()),
            Flaw::OtherCloud => assert_eq!(key["cloud_instance_name"], "microsoftonline.us"),
            Flaw::ConsumerKey => assert!(key["issuer"].as_str().unwrap().contains("9188040d")),
            Flaw::Missing => unreachable!("handled above"),
        }
    }
}

#[tokio::test]
async fn the_control_api_makes_tokens_with_overrides() {
    let platform = platform().await;
    let body = json!({
        "kind": "entra-v1",
        "tenant": TENANT.to_string(),
        "overrides": {"exp": 1, "appid": null, "scp": "user_impersonation"},
    });
    let reply = post(platform.address(), "/emulator/token", &body.to_string()).await;
    let token = reply.json()["token"].as_str().unwrap().to_owned();
    let (header, claims, _) = verify(&token, &keys(&platform, Issuer::Entra).await).unwrap();
    assert_eq!((&claims["exp"], &claims["scp"]), (&json!(1), &json!("user_impersonation")));
    assert!(claims.get("appid").is_none());
    assert_eq!(header["kid"], reply.json()["kid"]);

    let forged = post(platform.address(), "/emulator/token", r#"{"forged":true}"#).await.json();
    let verdict = verify(forged["token"].as_str().unwrap(), &keys(&platform, Issuer::Skype).await);
    assert_eq!(verdict.unwrap_err(), "wrong signature");

    let refused = post(platform.address(), "/emulator/token", r#"{"kind":"skype+other-cloud"}"#).await;
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(refused.status, 400);
    assert!(message.contains("use entra-v1+other-cloud or entra-v2+other-cloud"), "{message}");
}

#[tokio::test]
async fn an_earlier_key_is_published_only_after_a_rotation_with_overlap() {
    let platform = platform().await;
    for choice in ["skype", "entra-v2"] {
        let issuer = issuer_of(choice);
        let before = mint(&platform, choice);

        let path = format!("/emulator/rotate?issuer={issuer}&overlap=true");
        let kid = post(platform.address(), &path, "").await.json()["kid"].clone();
        let overlapping = mint(&platform, choice);
        let published = keys(&platform, issuer).await;
        assert!(verify(&before, &published).is_ok());
        assert_eq!(verify(&overlapping, &published).unwrap().0["kid"], kid);

        platform.rotate(issuer, false).await.unwrap();
        let published = keys(&platform, issuer).await;
        assert_eq!(verify(&before, &published).unwrap_err(), "no such key");
        assert_eq!(verify(&overlapping, &published).unwrap_err(), "no such key");
        assert!(verify(&mint(&platform, choice), &published).is_ok());
    }
}
