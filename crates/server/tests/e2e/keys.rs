//! Signing keys: rotation, outages and wrong documents of an issuer. No valid token is refused without need.

use openssl::asn1::Asn1Time;
use tokio::time::Instant;

use crate::support::{
    Client, Document, Gateway, Instance, Issuer, Request, Response, Settings, Token, bodies, every,
    issuer::Fetches, soon, tls::Identity, until,
};

async fn post(gateway: &Gateway, token: &Token) -> Response {
    Request::webhook(&token.sign(), bodies::incoming("call-1")).send(gateway).await
}

async fn status(gateway: &Gateway, token: &Token) -> u16 {
    post(gateway, token).await.status()
}

/// Checks that the response is 503 with `Retry-After`.
async fn unavailable(gateway: &Gateway, token: &Token) {
    let response = post(gateway, token).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
}

fn settings(issuer: &Issuer, instance: &Instance, keys: &str) -> Settings {
    Settings::new(issuer, &[instance]).line("keys", keys)
}

#[tokio::test]
async fn a_new_key_is_accepted_beside_the_old_one() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&settings(&issuer, &instance, "cooldown = \"100ms\"")).await;
    assert_eq!(status(&gateway, &Token::skype()).await, 202);
    issuer.skype(Document::Keys(vec!["skype-1", "skype-2"]));
    // The first request with the new key may arrive within the cool-down. No request waits longer than that.
    until("the new key", async || {
        (status(&gateway, &Token::skype().key("skype-2")).await == 202).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &Token::skype()).await, 202);
    assert_eq!(gateway.metric("switchboard_key_generation", &[("trust", "skype")]).await, 2.0);
    assert_eq!(issuer.fetches().entra, 1, "the keys of the other trust are not fetched");
}

#[tokio::test]
async fn a_new_key_replaces_the_old_one() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&settings(&issuer, &instance, "cooldown = \"1s\"")).await;
    let known = Token::skype();
    assert_eq!(status(&gateway, &known).await, 202);
    issuer.skype(Document::Keys(vec!["skype-2"]));
    let started = Instant::now();
    let before = issuer.fetches().skype;
    until("the new key", async || {
        let status = status(&gateway, &Token::skype().key("skype-2")).await;
        assert!([202, 503].contains(&status), "{status}");
        (status == 202).then_some(())
    })
    .await;
    let cooldowns = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    let fetches = issuer.fetches().skype - before;
    assert!((1..=cooldowns).contains(&fetches), "{fetches} fetches in {cooldowns} cool-downs");
    // The old key is refused at once, also for a token that the gateway has accepted before: with 503 until a
    // fetch for the request proves that it is withdrawn.
    for token in [&known, &Token::skype()] {
        until("the old key is rejected", async || match status(&gateway, token).await {
            401 => Some(()),
            status => {
                assert_eq!(status, 503);
                None
            }
        })
        .await;
    }
}

#[tokio::test]
async fn unknown_keys_cause_at_most_one_fetch_per_cooldown() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&settings(&issuer, &instance, "cooldown = \"5m\"")).await;
    let mut flood = tokio::task::JoinSet::new();
    for number in 0..150 {
        let token = Token::skype().header("kid", format!("unknown-{number}")).sign();
        let request = Request::webhook(&token, bodies::incoming("call-1")).bytes();
        let address = gateway.public;
        flood.spawn(async move { Client::connect(address).await.exchange(request).await.status() });
    }
    // The set was fetched before, and the cool-down allows no other fetch: the keys may be new.
    assert_eq!(flood.join_all().await, [503; 150]);
    let refused = [("outcome", "key_not_fetched")];
    assert_eq!(gateway.metric("switchboard_requests_total", &refused).await, 150.0);
    let unavailable = [("outcome", "keys_unavailable")];
    assert_eq!(gateway.metric("switchboard_requests_total", &unavailable).await, 0.0);
    assert_eq!((issuer.fetches().skype, issuer.fetches().entra), (1, 1));
    instance.expect_nothing();
    assert_eq!(status(&gateway, &Token::skype()).await, 202);
}

#[tokio::test]
async fn tokens_are_503_while_an_issuer_is_down_at_startup() {
    let mut issuer = Issuer::down();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start_unready(&settings(&issuer, &instance, "cooldown = \"100ms\"")).await;
    gateway.wait_for_ready(503).await;
    let event = gateway.log.event("the first fetch", |event| event["trust"] == "skype").await;
    assert_eq!(
        (&event["level"], &event["url"]),
        (&"warn".into(), &issuer.metadata("skype").into()),
        "{event}"
    );
    for token in [Token::skype(), Token::entra_v1(), Token::entra_v2()] {
        unavailable(&gateway, &token).await;
    }
    // A token that can be refused without a key is refused.
    assert_eq!(status(&gateway, &Token::skype().claim("aud", "someone")).await, 401);
    assert_eq!(gateway.admin("/healthz").await.status(), 200);

    issuer.come_up();
    until("keys", async || {
        let status = status(&gateway, &Token::skype()).await;
        assert!([202, 503].contains(&status), "{status}");
        (status == 202).then_some(())
    })
    .await;
    gateway.wait_for_ready(200).await;
}

#[tokio::test]
async fn an_outage_of_one_trust_does_not_affect_the_other() {
    let issuer = Issuer::start();
    issuer.entra(Document::Text(500, "no".into()));
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&settings(&issuer, &instance, "")).await;
    assert_eq!(status(&gateway, &Token::skype()).await, 202);
    unavailable(&gateway, &Token::entra_v2()).await;
    let ready = gateway.admin("/readyz").await.json();
    assert_eq!(
        (&ready["trusts_with_keys"][0], &ready["trusts_without_keys"][0]),
        (&"skype".into(), &"entra".into())
    );
    let event = gateway.log.message("keys not fetched").await;
    let keys = issuer.metadata("entra").replace("/metadata", "/keys");
    assert_eq!((&event["trust"], &event["url"]), (&"entra".into(), &keys.into()), "{event}");
}

#[tokio::test]
async fn fetched_keys_stay_usable_during_an_outage() {
    let mut issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway =
        Gateway::start(&settings(&issuer, &instance, "cooldown = \"100ms\"\nrefresh = \"1s\"")).await;
    issuer.go_down().await;
    until("a failed refresh", async || {
        let failed = [("trust", "skype"), ("result", "failed")];
        (gateway.metric("switchboard_key_fetches_total", &failed).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, &Token::skype()).await, 202);
    assert_eq!(status(&gateway, &Token::entra_v2()).await, 202);
    // An unknown key may be a new one: the response is 503, not 401, while the keys cannot be fetched.
    unavailable(&gateway, &Token::skype().key("skype-2")).await;
    gateway.wait_for_ready(200).await;

    issuer.skype(Document::Keys(vec!["skype-2"]));
    issuer.come_up();
    until("the new key", async || {
        (status(&gateway, &Token::skype().key("skype-2")).await == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_unusable_key_document_changes_nothing() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway =
        Gateway::start(&settings(&issuer, &instance, "cooldown = \"100ms\"\nrefresh = \"1s\"")).await;
    let short = crate::support::token::jwk("short");
    let mut secret = crate::support::token::jwk("stranger");
    secret["d"] = "AQAB".into();
    for document in [
        Document::Text(200, "<html>Sign in</html>".into()),
        Document::Text(200, "{\"keys\":[]}".into()),
        Document::Text(200, "{\"keys\":[{\"kty\":\"RSA\"".into()),
        Document::Text(200, serde_json::json!({ "keys": [short, secret] }).to_string()),
        Document::Text(302, String::new()),
        Document::Text(500, String::new()),
        Document::Endless,
    ] {
        let before = issuer.fetches();
        issuer.skype(document.clone());
        // A token with an unknown key causes a fetch, since the key might be new.
        let fetched = async {
            let mut ticks = every(50);
            while issuer.fetches().skype == before.skype {
                ticks.tick().await;
                let token = Token::skype().key("skype-2");
                assert!([401, 503].contains(&status(&gateway, &token).await), "{document:?}");
            }
        };
        soon("a fetch", fetched).await;
        assert_eq!(status(&gateway, &Token::skype()).await, 202, "{document:?}");
        assert_eq!(
            gateway.metric("switchboard_key_generation", &[("trust", "skype")]).await,
            1.0,
            "{document:?}"
        );
    }
}

#[tokio::test]
async fn requests_wait_a_second_for_an_issuer_that_does_not_respond() {
    let issuer = Issuer::start();
    issuer.skype(Document::Never);
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&settings(&issuer, &instance, "")).await;
    let started = Instant::now();
    let (skype, entra) = (Token::skype(), Token::entra_v1());
    let (statuses, other) = tokio::join!(at_once(&gateway, &skype, 20), status(&gateway, &entra));
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    assert_eq!(other, 202);
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    assert_eq!(issuer.fetches().skype, 1, "all requests wait for one fetch");
}

/// Posts the same token over `count` connections at once.
async fn at_once(gateway: &Gateway, token: &Token, count: usize) -> Vec<u16> {
    let request = Request::webhook(&token.sign(), bodies::incoming("call-1")).bytes();
    let address = gateway.public;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let request = request.clone();
        tasks.spawn(async move { Client::connect(address).await.exchange(request).await.status() });
    }
    tasks.join_all().await
}

#[tokio::test]
async fn stored_keys_survive_a_restart_during_an_outage() {
    let mut issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let store = tempfile::tempdir().unwrap();
    let folder = store.path().join("keys");
    let settings = settings(&issuer, &instance, &format!("store = \"{}\"", folder.display()));
    let first = Gateway::start(&settings).await;
    until("both files", async || {
        ["skype", "entra"].iter().all(|trust| folder.join(format!("{trust}.json")).exists()).then_some(())
    })
    .await;
    drop(first);
    issuer.go_down().await;
    let before = issuer.fetches();
    let second = Gateway::start(&settings).await;
    assert_eq!(status(&second, &Token::skype()).await, 202);
    assert_eq!(status(&second, &Token::entra_v2()).await, 202);
    assert_eq!(issuer.fetches(), before);
    // A corrupt file is ignored and does not affect the other trust.
    std::fs::write(folder.join("skype.json"), "{").unwrap();
    let third = Gateway::start(&settings).await;
    unavailable(&third, &Token::skype()).await;
    assert_eq!(status(&third, &Token::entra_v2()).await, 202);
}

/// The file of `trust.ca` keeps its path, and its content is replaced. Each certificate is self-signed, with
/// a key and a name of its own, so that none vouches for another.
#[tokio::test]
async fn a_reload_of_a_changed_ca_revokes_what_the_former_one_vouched_for() {
    let later = Asn1Time::days_from_now(365).unwrap();
    let [first, second] = [("stranger", 1), ("skype-1", 2)]
        .map(|(key, serial)| Identity::of(key, serial, &format!("issuer-{serial}.example"), &later));
    let mut issuer = Issuer::secure(&first);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, first.pem()).unwrap();
    let instance = Instance::start("bot-0");
    // An unknown key causes no fetch meanwhile.
    let settings = settings(&issuer, &instance, "cooldown = \"5m\"")
        .line("trust", &format!("ca = \"{}\"", ca.display()));
    let gateway = Gateway::start(&settings).await;
    let mut reloads = 0..;
    let mut reload = async |authorities: &[&Identity]| {
        let pem: Vec<u8> = authorities.iter().flat_map(|identity| identity.pem()).collect();
        std::fs::write(&ca, pem).unwrap();
        gateway.signal("HUP");
        let nth = reloads.next().unwrap();
        gateway.log.nth(nth, "reload", |event| event["message"] == "configuration reloaded").await;
    };
    let fetched = async |count: usize| {
        let expected = Fetches { skype: count, entra: count };
        until("the fetches", async || (issuer.fetches() == expected).then_some(())).await;
    };
    let accepted = async |token: Token| {
        until("an accepted token", async || (status(&gateway, &token).await == 202).then_some(())).await;
    };
    let known = Token::skype();
    assert_eq!(status(&gateway, &known).await, 202);
    fetched(1).await;

    // The authorities of the file do not vouch for the issuer: nothing is left of its keys.
    reload(&[&second]).await;
    for trust in ["skype", "entra"] {
        let dropped = "keys dropped: the changed ca does not vouch for the endpoint";
        let is_dropped = |event: &serde_json::Value| event["message"] == dropped && event["trust"] == trust;
        gateway.log.event(trust, is_dropped).await;
    }
    for token in [&known, &Token::skype(), &Token::entra_v2()] {
        unavailable(&gateway, token).await;
    }
    gateway.wait_for_ready(503).await;
    assert_eq!(issuer.fetches(), Fetches { skype: 1, entra: 1 });

    // They do again.
    reload(&[&second, &first]).await;
    fetched(2).await;
    accepted(Token::skype()).await;
    accepted(Token::entra_v2()).await;

    // The issuer has moved to the other certificate, and to another key. Only a fetch at the reload finds it:
    // the gateway has keys, and they are refreshed once an hour.
    issuer.identify(&second);
    issuer.skype(Document::Keys(vec!["skype-2"]));
    reload(&[&second]).await;
    fetched(3).await;
    accepted(Token::skype().key("skype-2")).await;
    let withdrawn = status(&gateway, &Token::skype()).await;
    assert!([401, 503].contains(&withdrawn), "{withdrawn}");

    // An issuer that does not respond has not been refused: its keys stay.
    issuer.go_down().await;
    reload(&[&first]).await;
    let kept = gateway.log.message("keeping the old keys: the refresh failed").await;
    assert_eq!(kept["note"], "the former ca vouched for the keys", "{kept}");
    assert_eq!(status(&gateway, &Token::skype().key("skype-2")).await, 202);
}
