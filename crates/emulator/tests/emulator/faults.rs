//! Faults: the effect of each, and the control API that sets, shows and ends them.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};
use switchboard_emulator::{
    Bot, BotSettings, CallEvent, CallKind, CallOutcome, Client, FaultSetting, Platform, PlatformSettings,
    Protocol, Rotation, TokenRequest, parse_http_url,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::{
    APP, Act, Reply, TENANT, Webhook, call_to, decode, get, platform, platform_with, played, post, request,
    verify,
};

async fn set(platform: &Platform, faults: Value) {
    let reply = request(platform.address(), "PUT", "/emulator/faults", &faults.to_string()).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn an_issuer_can_be_down_or_serve_a_wrong_response() {
    let platform = platform().await;
    for (name, keys) in [("skype", "/v1/keys"), ("entra", "/common/discovery/v2.0/keys")] {
        let good = get(platform.address(), keys).await;
        for (fault, expected) in [
            ("down", 0),
            ("html", 200),
            ("empty", 200),
            ("truncated", 200),
            ("no-keys", 200),
            ("redirect", 302),
            ("500", 500),
            ("503:7", 503),
            ("404", 404),
        ] {
            set(&platform, json!({name: fault})).await;
            let reply = get(platform.address(), keys).await;
            assert_eq!(reply.status, expected, "{name} {fault}: {}", reply.body);
            let head = reply.head.to_ascii_lowercase();
            match fault {
                "html" => assert!(reply.body.starts_with("<!doctype html>") && head.contains("text/html")),
                "empty" => assert_eq!(reply.body, ""),
                "truncated" => assert_eq!(reply.body, good.body.split_at(good.body.len() / 2).0),
                "no-keys" => assert_eq!(reply.json(), json!({"keys": []})),
                "redirect" => assert!(head.contains("location: http://169.254.169.254/")),
                "503:7" => assert!(head.contains("retry-after: 7")),
                _ => {}
            }
        }
        set(&platform, json!({name: "no-keys"})).await;
        let metadata = get(platform.address(), "/v1/.well-known/OpenIdConfiguration").await;
        assert!(
            metadata.json()["jwks_uri"].is_string(),
            "the fault of the key set leaves the metadata alone"
        );
        set(&platform, json!({})).await;
        assert_eq!(get(platform.address(), keys).await.body, good.body);
    }
}

#[tokio::test]
async fn an_issuer_can_publish_other_keys_under_the_right_key_ids() {
    let platform = platform().await;
    let token = platform.token(&TokenRequest::new(APP, TENANT)).unwrap().compact;
    let keys = async || get(platform.address(), "/v1/keys").await.json();
    assert!(verify(&token, &keys().await).is_ok());
    set(&platform, json!({"skype": "wrong-keys*1"})).await;
    // The fault leaves the metadata alone, and does not count there.
    assert_eq!(get(platform.address(), "/v1/.well-known/OpenIdConfiguration").await.status, 200);
    assert_eq!(verify(&token, &keys().await).unwrap_err(), "wrong signature");
    assert!(verify(&token, &keys().await).is_ok());
}

#[tokio::test]
async fn an_issuer_can_be_slow_or_never_end() {
    let platform = platform().await;
    set(&platform, json!({"skype": "slow:60ms"})).await;
    let began = Instant::now();
    assert_eq!(get(platform.address(), "/v1/keys").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(60));

    set(&platform, json!({"skype": "hang", "entra": "huge"})).await;
    let silent = timeout(Duration::from_millis(100), get(platform.address(), "/v1/keys")).await;
    assert!(silent.is_err());

    // The body is endless; this test reads a part of it.
    assert!(read_at_least(&platform, "/common/discovery/v2.0/keys", 2 << 20).await);
    set(&platform, json!({"entra": "drip"})).await;
    assert!(read_at_least(&platform, "/common/discovery/v2.0/keys", 200).await);
}

async fn read_at_least(platform: &Platform, path: &str, bytes: usize) -> bool {
    let address = platform.address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).await.unwrap();
    let (mut seen, mut chunk) = (0, vec![0; 64 * 1024]);
    while seen < bytes {
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => seen += read,
            _ => return false,
        }
    }
    true
}

#[tokio::test]
async fn graph_and_the_token_endpoint_can_throttle_fail_and_hang() {
    let platform = platform().await;
    let call = "/v1.0/communications/calls/00000000-0000-4000-8000-000000000000";
    let ask = async || get(platform.address(), call).await;
    let code = |reply: &Reply| reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    for (fault, status, expected, after) in [
        ("429:2", 429, "TooManyRequests", Some("2")),
        ("429:2.128", 429, "TooManyRequests", Some("2.128")),
        ("429", 429, "TooManyRequests", None),
        ("400", 400, "BadRequest", None),
        ("401", 401, "InvalidAuthenticationToken", None),
        ("403", 403, "7504", None),
        ("404", 404, "8522", None),
        ("409", 409, "Conflict", None),
        ("412", 412, "PreconditionFailed", None),
        ("500", 500, "9999", None),
        ("502", 502, "BadGateway", None),
        ("503:1", 503, "ServiceNotAvailable", Some("1")),
        ("7504", 403, "7504", None),
        ("7505", 403, "7505", None),
        ("9999", 500, "9999", None),
    ] {
        set(&platform, json!({"graph": fault})).await;
        let reply = ask().await;
        assert_eq!((reply.status, code(&reply)), (status, expected.to_owned()), "{fault}");
        let header = after.map(|after| format!("retry-after: {after}\r\n"));
        let head = format!("{}\r\n", reply.head.to_ascii_lowercase());
        assert!(header.is_none_or(|header| head.contains(&header)), "{head}");
    }
    set(&platform, json!({"graph": "8529"})).await;
    let bare = ask().await.json();
    assert_eq!((&bare["errorCode"], bare.get("error")), (&json!("8529"), None));
    set(&platform, json!({"graph": "hang"})).await;
    assert!(timeout(Duration::from_millis(100), ask()).await.is_err());
    set(&platform, json!({"graph": "500*1"})).await;
    assert_eq!([ask().await.status, ask().await.status], [500, 404]);

    let token = format!("/{TENANT}/oauth2/v2.0/token");
    for (fault, status, code) in [
        ("7000215", 401, 7_000_215),
        ("401", 401, 7_000_215),
        ("503:3", 503, 90_033),
        ("429:3", 429, 90_033),
        ("700016", 400, 700_016),
    ] {
        set(&platform, json!({"login": fault})).await;
        let reply = post(platform.address(), &token, "").await;
        assert_eq!((reply.status, &reply.json()["error_codes"]), (status, &json!([code])), "{fault}");
    }
}

#[tokio::test]
async fn a_request_with_a_lost_response_takes_effect() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |_, _| Act::status(202)).await;
    let mut call = call_to(&webhook.url()).with_kind(CallKind::P2p);
    call.protocol = Protocol::Graph;
    call.duration = Duration::from_secs(600);
    let mut timeline = platform.call(call).unwrap();
    let Some(CallEvent::Call(placed)) = timeline.next().await else { panic!("the call is the first event") };
    let path = format!("/v1.0/communications/calls/{}/answer", placed.call);
    let body = json!({
        "callbackUri": webhook.url(),
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    });
    set(&platform, json!({"graph": "lost*1"})).await;
    assert_eq!(post(platform.address(), &path, &body.to_string()).await.status, 0);
    assert_eq!(post(platform.address(), &path, &body.to_string()).await.status, 409);
}

#[tokio::test]
async fn a_fault_of_graph_shows_in_the_timeline_of_the_call() {
    let platform = platform().await;
    let settings = BotSettings::new("bot-0", parse_http_url(platform.origin()).unwrap());
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    set(&platform, json!({"graph": "500*1"})).await;
    let (_, steps, end) =
        played(platform.call(call_to(&format!("http://{}/", bot.address()))).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let answers: Vec<_> = steps
        .iter()
        .filter(|step| step.what == "answer")
        .map(|step| (step.received, step.status, step.note.as_deref()))
        .collect();
    assert_eq!(answers, [(true, Some(500), Some("the fault graph=500 strikes")), (true, Some(202), None)]);
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&decode(token.split('.').nth(1).unwrap())).unwrap()
}

#[tokio::test]
async fn the_clock_fault_shifts_the_claims_of_tokens() {
    let platform = platform().await;
    let not_before = |platform: &Platform| {
        let token = platform.token(&TokenRequest::new(APP, TENANT)).unwrap();
        claims(&token.compact)["nbf"].as_i64().unwrap()
    };
    let now = not_before(&platform);
    for (skew, seconds) in [("+10m", 600), ("-6m", -360)] {
        set(&platform, json!({"clock": skew})).await;
        let off = not_before(&platform) - now - seconds;
        assert!((0..60).contains(&off), "{skew}: {off}");
    }
}

/// Returns true if a flaw shows in the header and the claims. The number is the expiry of a good token.
type Shows = fn(&Value, &Value, i64) -> bool;

#[tokio::test]
async fn the_token_fault_gives_a_flaw_to_the_tokens_of_all_calls() {
    let platform = platform().await;
    let flaws: [(&str, Shows); 5] = [
        ("unsigned", |header, _, _| header["alg"] == "none"),
        ("wrong-audience", |_, claims, _| claims["aud"] != APP.to_string()),
        ("wrong-issuer", |_, claims, _| claims["iss"] == "https://issuer.example"),
        ("wrong-tenant", |_, claims, _| claims["tid"] != TENANT.to_string()),
        ("expired", |_, claims, good| claims["exp"].as_i64().unwrap() < good - 3_600),
    ];
    for (flaw, check) in flaws {
        let good = platform.token(&TokenRequest::new(APP, TENANT)).unwrap().expires_at;
        set(&platform, json!({"token": flaw})).await;
        let webhook = Webhook::start(&platform, |_, _| Act::status(401)).await;
        let mut call = call_to(&webhook.url());
        call.expect = CallOutcome::Refused;
        let events = platform.call(call).unwrap().all().await;
        let Some(CallEvent::End(end)) = events.last() else { panic!("a call has an end") };
        assert!(end.ok, "{end:?}");
        let seen = webhook.seen().remove(0);
        let token = seen.header("authorization").unwrap().strip_prefix("Bearer ").unwrap().to_owned();
        let header = serde_json::from_slice(&decode(token.split('.').next().unwrap())).unwrap();
        assert!(check(&header, &claims(&token), good), "{flaw}");
    }
}

#[tokio::test]
async fn notifications_are_duplicated_dropped_reordered_and_delayed() {
    let platform = platform().await;
    for (faults, expected) in [
        (json!({}), vec!["establishing", "established", "participants", "terminated"]),
        (json!({"drop": "1*1"}), vec!["established", "participants", "terminated"]),
        (
            json!({"duplicate": "1*1"}),
            vec!["establishing", "establishing", "established", "participants", "terminated"],
        ),
        (
            json!({"drop": "1*1", "duplicate": "1*1"}),
            vec!["established", "established", "participants", "terminated"],
        ),
        (json!({"reorder": "1*1"}), vec!["established", "establishing", "participants", "terminated"]),
        (json!({"delay": "20ms"}), vec!["establishing", "established", "participants", "terminated"]),
    ] {
        set(&platform, faults.clone()).await;
        let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
            "incoming" => Act::answer(&format!("http://{}/", seen.header("host").unwrap())),
            _ => Act::status(202),
        })
        .await;
        let mut call = call_to(&webhook.url());
        call.protocol = Protocol::Graph;
        let began = Instant::now();
        let events = platform.call(call).unwrap().all().await;
        let Some(CallEvent::End(end)) = events.last() else { panic!("a call has an end") };
        assert!(end.ok, "{faults}: {end:?}");
        let late = webhook.seen().into_iter().filter(|seen| seen.kind() != "incoming");
        let (kinds, ids): (Vec<String>, HashSet<String>) = late
            .map(|seen| (seen.kind(), seen.header("x-microsoft-skype-message-id").unwrap().to_owned()))
            .unzip();
        assert_eq!(kinds, expected, "{faults}");
        let distinct: HashSet<&str> = expected.into_iter().collect();
        assert_eq!(ids.len(), distinct.len(), "{faults}: one message id for each notification");
        assert!(faults.get("delay").is_none() || began.elapsed() >= Duration::from_millis(80));
    }
}

#[tokio::test]
async fn the_control_api_sets_shows_and_ends_faults() {
    let platform = platform_with(|mut settings| {
        "drop=0.25".parse::<FaultSetting>().unwrap().apply(&mut settings.faults);
        settings
    })
    .await;
    let address = platform.address();
    let shown = get(address, "/emulator/faults").await.json();
    assert_eq!((&shown["drop"], &shown["graph"]), (&json!("0.25"), &Value::Null));
    let patched =
        request(address, "PATCH", "/emulator/faults", r#"{"graph":"429:2.128*3","delay":"100ms..2s"}"#).await;
    assert_eq!(patched.json()["graph"], "429:2.128*3");
    assert_eq!(patched.json()["drop"], "0.25");
    let ended = request(address, "PATCH", "/emulator/faults", r#"{"graph":null}"#).await.json();
    assert_eq!((&ended["graph"], &ended["delay"]), (&Value::Null, &json!("100ms..2s")));
    let replaced = request(address, "PUT", "/emulator/faults", r#"{"token":"expired"}"#).await.json();
    assert_eq!((&replaced["token"], &replaced["drop"]), (&json!("expired"), &Value::Null));
    let cleared = request(address, "DELETE", "/emulator/faults", "").await.json();
    assert!(cleared.as_object().unwrap().values().all(Value::is_null), "{cleared}");

    for (body, expected) in [
        ("", "the body must be JSON like"),
        (r#"{"grahp":"500"}"#, "the names are skype, entra, login, graph"),
        (r#"{"graph":"600"}"#, "graph does not take \"600\"; it takes one of down"),
        (r#"{"drop":"0.1","clock":"fast"}"#, "a sign and a duration, like +10m"),
    ] {
        let reply = request(address, "PATCH", "/emulator/faults", body).await;
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400, "{body}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(get(address, "/emulator/faults").await.json(), cleared, "an invalid change changes nothing");
    assert_eq!(request(address, "BREW", "/emulator/faults", "").await.status, 405);
    let index = get(address, "/emulator").await.json();
    assert!(index["fault_values"]["graph"].as_str().unwrap().contains("429:2.128"), "{index}");
}

fn kids(document: &Value) -> HashSet<String> {
    document["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_key_can_be_published_before_it_signs() {
    let platform = platform().await;
    let query = "/emulator/rotate?issuer=skype&overlap=true&publish_before=1h";
    let kid = post(platform.address(), query, "").await.json()["kid"].as_str().unwrap().to_owned();
    assert!(kids(&get(platform.address(), "/v1/keys").await.json()).contains(&kid));
    assert_ne!(platform.token(&TokenRequest::new(APP, TENANT)).unwrap().kid, kid);
    let refused = post(platform.address(), "/emulator/rotate?issuer=skype&publish_before=soon", "").await;
    assert!(refused.body.contains("publish_before: not a duration"), "{}", refused.body);
}

#[tokio::test]
async fn keys_of_a_repeated_rotation_are_published_before_they_sign() {
    let publish_before = Duration::from_millis(400);
    let rotation = Rotation { every: Duration::from_millis(200), publish_before };
    let platform = platform_with(|settings| PlatformSettings { rotation: Some(rotation), ..settings }).await;
    let (mut read_at, mut known) = (Instant::now(), HashSet::new());
    let mut signed = HashSet::new();
    while signed.len() < 4 {
        let kid = platform.token(&TokenRequest::new(APP, TENANT)).unwrap().kid;
        let now = Instant::now();
        // A longer gap between two reads proves nothing.
        if !known.is_empty() && now.duration_since(read_at) < publish_before {
            assert!(known.contains(&kid), "a key is published before it signs");
        }
        signed.insert(kid.clone());
        read_at = Instant::now();
        let published = kids(&get(platform.address(), "/v1/keys").await.json());
        assert!(published.contains(&kid), "a key that signs is published");
        known.extend(published);
    }
}

#[tokio::test]
async fn a_rotation_that_is_too_fast_is_refused_at_the_start() {
    for (every_ms, before_ms) in [(50, 0), (100, 10_000)] {
        let rotation = Rotation {
            every: Duration::from_millis(every_ms),
            publish_before: Duration::from_millis(before_ms),
        };
        let settings = PlatformSettings { rotation: Some(rotation), ..PlatformSettings::loopback() };
        let error = Platform::start(settings).await.expect_err("refused");
        assert_eq!(error.label(), "rotation");
    }
}
