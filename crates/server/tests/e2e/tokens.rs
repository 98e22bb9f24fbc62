//! Authentication: the kinds of tokens that the platform sends, and each kind of forgery once. The tests of
//! `switchboard-auth` have the whole table of forgeries.

use serde_json::json;

use crate::support::{
    APP, Gateway, Instance, Issuer, OTHER_APP, Request, Settings, TENANT, Token, bodies, flipped,
    token::{CALLING_SERVICE, base64url, private_key},
    unix_now,
};

async fn status(gateway: &Gateway, token: &str) -> u16 {
    let response = Request::webhook(token, bodies::incoming("call-1")).send(gateway).await;
    match response.status() {
        401 => {
            assert_eq!(response.field("www-authenticate"), Some("Bearer error=\"invalid_token\""));
            assert!(response.body.is_empty());
        }
        403 => assert!(response.body.is_empty() && response.field("www-authenticate").is_none()),
        _ => {}
    }
    response.status()
}

#[tokio::test]
async fn the_platforms_tokens_are_accepted() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let now = unix_now();
    for (what, token) in [
        ("skype", Token::skype()),
        ("skype without a caller", Token::skype().without("appid")),
        ("skype with a slash", Token::skype().claim("iss", "https://api.botframework.com/")),
        ("the documents' issuer", Token::skype().claim("iss", "https://graph.microsoft.com")),
        ("an audience of one", Token::skype().claim("aud", json!([APP]))),
        ("an audience in capitals", Token::skype().claim("aud", APP.to_uppercase())),
        ("a tenant by its long name", {
            Token::skype()
                .without("tid")
                .claim("http://schemas.microsoft.com/identity/claims/tenantid", TENANT)
        }),
        ("a clock that is slow", Token::skype().claim("nbf", now + 200).claim("exp", now + 500)),
        ("a clock that is fast", Token::skype().claim("nbf", now - 500).claim("exp", now - 200)),
        ("entra v1", Token::entra_v1()),
        ("entra v2", Token::entra_v2()),
    ] {
        let token = token.sign();
        // The second verdict comes from the cache.
        for time in ["first", "second"] {
            assert_eq!(status(&gateway, &token).await, 202, "{what}, {time} time");
            assert_eq!(instance.request().await.field("switchboard-tenant-id"), Some(TENANT), "{what}");
        }
    }
    let lower = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let field = lower
        .fields
        .iter()
        .find(|(name, _)| name == "Authorization")
        .unwrap()
        .1
        .replacen("Bearer", "bEARER", 1);
    assert_eq!(lower.replace("Authorization", &field).send(&gateway).await.status(), 202);
}

#[tokio::test]
async fn forged_and_foreign_tokens_are_rejected() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("keys", "cooldown = \"5m\"");
    let gateway = Gateway::start(&settings).await;
    let now = unix_now();
    let good = Token::skype();
    let signed = good.sign();
    let (input, signature) = signed.rsplit_once('.').unwrap();
    // An attacker knows the public key.
    let hmac = {
        let token = good.clone().header("alg", "HS256");
        let public = private_key("skype-1").public_key_to_pem().unwrap();
        let key = openssl::pkey::PKey::hmac(&public).unwrap();
        let mut signer = openssl::sign::Signer::new(openssl::hash::MessageDigest::sha256(), &key).unwrap();
        let mac = signer.sign_oneshot_to_vec(token.signing_input().as_bytes()).unwrap();
        token.with_signature(&mac)
    };
    let twice = format!(
        r#"{{"iss":"https://api.botframework.com","aud":"{APP}","tid":"{TENANT}","exp":{},"exp":{}}}"#,
        now + 300,
        now + 300
    );
    let huge_exp =
        format!(r#"{{"iss":"https://api.botframework.com","aud":"{APP}","tid":"{TENANT}","exp":1e300}}"#);
    let jwk = crate::support::token::jwk("stranger");
    let metadata = issuer.metadata("entra");
    let table = [
        ("none", good.clone().header("alg", "none").with_signature(b"")),
        ("none with a signature", good.clone().header("alg", "none").sign()),
        ("no signature", format!("{input}.")),
        ("HS256 by the public key", hmac),
        ("RS384", good.clone().header("alg", "RS384").sign()),
        ("lower case", good.clone().header("alg", "rs256").sign()),
        ("no algorithm", good.clone().without("alg").sign()),
        ("a line break", good.clone().header("kid", "skype-1\r\nX: y").sign()),
        ("no kid", good.clone().without("kid").sign()),
        ("a number", good.clone().header("kid", 1).sign()),
        ("jku", good.clone().header("jku", metadata.as_str()).sign()),
        ("x5u", good.clone().header("x5u", metadata.as_str()).sign()),
        ("a key of its own", good.clone().signed_by("stranger").header("jwk", jwk).sign()),
        ("crit", good.clone().header("crit", json!(["exp"])).sign()),
        ("an empty crit", good.clone().header("crit", json!([])).sign()),
        ("b64", good.clone().header("b64", false).sign()),
        ("a claim twice", good.with_payload(&twice)),
        ("another case", good.clone().claim("Iss", "https://evil.example").sign()),
        ("nested", good.clone().with_payload(&format!("{}{}", "[".repeat(2000), "]".repeat(2000)))),
        ("a huge exp", good.with_payload(&huge_exp)),
        ("exp as text", good.clone().claim("exp", (now + 300).to_string()).sign()),
        ("no exp", good.clone().without("exp").sign()),
        ("expired", good.clone().claim("nbf", now - 900).claim("exp", now - 301).sign()),
        ("of tomorrow", good.clone().claim("nbf", now + 400).claim("exp", now + 700).sign()),
        ("for two days", good.clone().claim("exp", now + 172_800).sign()),
        ("no audience", good.clone().without("aud").sign()),
        ("two audiences", good.clone().claim("aud", json!([APP, OTHER_APP])).sign()),
        ("another issuer", good.clone().claim("iss", "https://api.botframework.com.evil.example").sign()),
        ("plain http", good.clone().claim("iss", "http://api.botframework.com").sign()),
        ("padding", format!("{signed}==")),
        ("a blank before", format!(" {signed}")),
        ("a byte order mark", good.with_payload("\u{feff}{}")),
        ("JSON", json!({ "payload": "", "signatures": [] }).to_string()),
        ("five parts", format!("{signed}.a.b")),
        ("zip", good.clone().header("zip", "DEF").sign()),
        ("dots", ".".repeat(8000)),
        ("endless", format!("{signed}{}", "A".repeat(9000))),
        ("a changed signature", format!("{input}.{}", flipped(signature))),
        ("the signature of an unknown key", good.clone().signed_by("stranger").sign()),
        ("cut short", signed.get(..signed.len() - 1).unwrap().to_owned()),
        ("the tenant of another issuer", Token::entra_v2().claim("tid", OTHER_APP).sign()),
        ("no tenant", good.clone().without("tid").sign()),
        ("a tenant that is not a GUID", good.clone().claim("tid", "contoso.com").sign()),
        ("v1 claims in v2", Token::entra_v2().without("azp").claim("appid", CALLING_SERVICE).sign()),
        ("no version", Token::entra_v1().without("ver").sign()),
        ("a person", Token::entra_v2().claim("scp", "user_impersonation").sign()),
        ("a person by idtyp", Token::entra_v2().claim("idtyp", "user").sign()),
        ("no caller", Token::entra_v2().without("azp").sign()),
        ("another bot", good.clone().claim("aud", OTHER_APP).sign()),
        ("Graph", good.clone().claim("aud", "https://graph.microsoft.com").sign()),
        ("entra signs for skype", good.clone().signed_by("entra-1").sign()),
        ("nothing", String::new()),
        ("two words", format!("{signed} {signed}")),
        ("no token", base64url(b"hello")),
    ];
    for (what, token) in table {
        assert_eq!(status(&gateway, &token).await, 401, "{what}");
    }
    // The issuer may have published these keys since the last fetch, and the next one is not allowed yet.
    for kid in ["../../../../dev/null", "Skype-1", "entra-1"] {
        assert_eq!(status(&gateway, &good.clone().header("kid", kid).sign()).await, 503, "{kid}");
    }
    instance.expect_nothing();
    let fetches = issuer.fetches();
    assert_eq!((fetches.skype, fetches.entra), (1, 1), "a forged token has caused a fetch");
    assert_eq!(gateway.metric("switchboard_requests_total", &[("outcome", "placed")]).await, 0.0);
}

#[tokio::test]
async fn an_authenticated_caller_that_is_not_allowed_is_403() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("app", &format!("tenants = [\"{TENANT}\"]"));
    let gateway = Gateway::start(&settings).await;
    let other = "33333333-41c3-47a4-8775-7259bfef4241";
    let table = [
        ("another tenant", Token::skype().claim("tid", other), 403),
        ("another calling app", Token::entra_v2().claim("azp", other), 403),
        ("another calling app, v1", Token::entra_v1().claim("appid", other), 403),
        ("another caller, signed by skype", Token::skype().claim("appid", other), 403),
        ("the allowed ones", Token::skype(), 202),
        // An unauthenticated sender gets 401, not 403.
        ("a forged one of another tenant", Token::skype().claim("tid", other).signed_by("stranger"), 401),
    ];
    for (what, token, expected) in table {
        assert_eq!(status(&gateway, &token.sign()).await, expected, "{what}");
        if expected == 202 {
            instance.request().await;
        }
    }
    instance.expect_nothing();
}

#[tokio::test]
async fn a_configured_audience_is_accepted() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let audience = format!("api://{APP}");
    let settings = Settings::new(&issuer, &[&instance]).line("app", &format!("audiences = [\"{audience}\"]"));
    let gateway = Gateway::start(&settings).await;
    assert_eq!(status(&gateway, &Token::skype().claim("aud", audience.as_str()).sign()).await, 202);
    assert_eq!(status(&gateway, &Token::skype().claim("aud", audience.to_uppercase()).sign()).await, 401);
    assert_eq!(
        status(&gateway, &Token::skype().claim("aud", format!("api://{OTHER_APP}")).sign()).await,
        401
    );
}
