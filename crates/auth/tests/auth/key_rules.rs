//! Fetching keys, keeping them, waiting for them and refusing them, on a paused clock.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use switchboard_auth::{Authenticator, FetchError};
use tokio::{
    task::JoinHandle,
    time::{Instant, advance, sleep},
};

use crate::support::{
    BOTH_KEYS, Behaviour, COOLDOWN, FIRST, FIRST_KEY, HOUR, NOW, SECOND, SECOND_KEY, SWAPPED_KEY, World,
    keys, unknown,
};

const EMPTY: &str = include_str!("../../../../fixtures/jwks/empty.json");
const PAGE: &str = include_str!("../../../../fixtures/jwks/not-keys.html");
const CUT_SHORT: &str = include_str!("../../../../fixtures/jwks/cut-short.json");
const ONE_MALFORMED: &str = include_str!("../../../../fixtures/jwks/one-malformed.json");
const ENTRA_TOKEN: &[u8] = include_bytes!("../../../../fixtures/tokens/entra-v2.jwt");

/// Runs the refreshers until they wait.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

async fn started(behaviour: Behaviour) -> World {
    let world = World::new(behaviour);
    settle().await;
    world
}

/// Advances the clock so far that a fetch is allowed and no refresh is due.
async fn past_cooldown() {
    sleep(COOLDOWN).await;
}

#[tokio::test(start_paused = true)]
async fn a_known_key_never_waits() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    world.skype.set(Behaviour::Hangs);
    sleep(2 * HOUR).await;
    let before = Instant::now();
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_first_request_waits_for_the_first_fetch() {
    let world = World::new(Behaviour::publishes(BOTH_KEYS));
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_are_refreshed_in_the_background() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    sleep(HOUR * 94 / 100).await;
    assert_eq!(world.skype.fetches(), 1);
    sleep(HOUR * 12 / 100).await;
    assert_eq!(world.skype.fetches(), 2);
    // The same keys keep their generation: verified tokens stay in the cache.
    assert_eq!(world.keys(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_with_overlap_refuses_no_token() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.set(Behaviour::publishes(BOTH_KEYS));
    sleep(HOUR * 106 / 100).await;
    assert_eq!((world.skype.fetches(), world.keys()), (2, (2, 2)));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rotation_without_overlap_costs_one_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    past_cooldown().await;
    world.skype.set(Behaviour::publishes(SECOND_KEY));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 2);
    // The key was withdrawn: its tokens are refused from now on, also the cached one.
    assert_eq!(world.verdict(&FIRST.fresh()).await, "key_not_fetched");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_refused_after_the_next_refresh() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    let token = FIRST.fresh();
    assert_eq!(world.verdict(&token).await, "accepted");
    world.skype.set(Behaviour::publishes(SECOND_KEY));
    assert_eq!(world.verdict(&token).await, "accepted");
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.verdict(&token).await, "unknown_key");
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_with_the_same_id_replaces_the_old_one() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let (old, new) = (FIRST.fresh(), SECOND.token_with_id(&FIRST.id(), NOW - 10, NOW + 290));
    assert_eq!(world.verdict(&old).await, "accepted");
    assert_eq!(world.verdict(&new).await, "signature");
    world.skype.set(Behaviour::publishes(SWAPPED_KEY));
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.verdict(&old).await, "signature");
    assert_eq!(world.verdict(&new).await, "accepted");
    assert_eq!(world.keys(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn each_change_of_the_keys_is_noticed_within_a_cooldown() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    for (set, mine, other) in
        [(SECOND_KEY, SECOND, FIRST), (FIRST_KEY, FIRST, SECOND), (SECOND_KEY, SECOND, FIRST)]
    {
        past_cooldown().await;
        world.skype.set(Behaviour::publishes(set));
        assert_eq!(world.verdict(&mine.fresh()).await, "accepted");
        assert_eq!(world.verdict(&other.fresh()).await, "key_not_fetched");
    }
    assert_eq!((world.skype.fetches(), world.keys().1), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_not_rejected_while_the_issuer_is_down_at_the_start() {
    let world = started(Behaviour::Fails("connect")).await;
    assert_eq!(world.keys(), (0, 0));
    let error = world.authenticate(&FIRST.fresh(), NOW).await.unwrap_err().error;
    assert_eq!((error.label(), error.trust()), ("keys_unavailable", Some("skype")));
    world.skype.set(Behaviour::publishes(BOTH_KEYS));
    // The first back-off is short.
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn failed_fetches_are_repeated_after_one_second_to_one_minute() {
    let world = started(Behaviour::Fails("connect")).await;
    sleep(Duration::from_secs(10)).await;
    // At 0, 1, 3 and 7 s, each up to a quarter later.
    assert!((3..=4).contains(&world.skype.fetches()), "{}", world.skype.fetches());
    sleep(HOUR).await;
    let before = world.skype.fetches();
    sleep(HOUR).await;
    assert!((59..=76).contains(&(world.skype.fetches() - before)), "{}", world.skype.fetches() - before);
}

#[tokio::test(start_paused = true)]
async fn keys_are_used_for_a_day_while_the_endpoint_fails() {
    for behaviour in [
        Behaviour::Fails("dns"),
        Behaviour::Hangs,
        Behaviour::publishes(EMPTY),
        Behaviour::publishes(PAGE),
        Behaviour::publishes(CUT_SHORT),
        Behaviour::Publishes(Bytes::from(vec![b' '; 256 * 1024 + 1])),
        Behaviour::BadMetadata(Bytes::from_static(b"<html>")),
        Behaviour::BadMetadata(Bytes::from_static(br#"{"jwks_uri":"http://169.254.169.254/keys"}"#)),
        Behaviour::BadMetadata(Bytes::from_static(br#"{"jwks_uri":"https://evil.example/keys"}"#)),
        Behaviour::slow(6, SECOND_KEY),
    ] {
        let world = started(Behaviour::publishes(FIRST_KEY)).await;
        world.skype.set(behaviour.clone());
        sleep(23 * HOUR + 59 * HOUR / 60).await;
        assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted", "{behaviour:?}");
        assert_eq!(world.keys(), (1, 1), "{behaviour:?}");
        sleep(2 * HOUR / 60).await;
        // Also a cached token.
        assert_eq!(world.verdict(&FIRST.fresh()).await, "keys_unavailable", "{behaviour:?}");
        assert_eq!(world.keys(), (0, 1), "{behaviour:?}");
        world.skype.set(Behaviour::publishes(FIRST_KEY));
        sleep(Duration::from_secs(66)).await;
        assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted", "{behaviour:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_without_usable_keys_is_not_used_and_counted() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.set(Behaviour::publishes(EMPTY));
    past_cooldown().await;
    assert_eq!(world.verdict(&SECOND.fresh()).await, "keys_unavailable");
    let status = &world.authenticator.trusts()[0];
    assert_eq!((status.fetches_ok, status.fetches_failed, status.fetches_held_back), (1, 1, 1));
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn one_malformed_key_does_not_disable_the_others() {
    let world = started(Behaviour::publishes(ONE_MALFORMED)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_disjoint_set_with_usable_keys_is_used() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.set(Behaviour::publishes(SECOND_KEY));
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.keys(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_rejected_only_after_a_fetch_that_began_after_the_request() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    // The set was fetched before the request arrived, and the cool-down allows no other fetch.
    assert_eq!(world.verdict(&unknown("a")).await, "key_not_fetched");
    assert_eq!(world.skype.fetches(), 1);
    past_cooldown().await;
    // One fetch serves all requests that arrived before it, and no later one.
    let (a, b) = (unknown("a"), unknown("b"));
    assert_eq!(tokio::join!(world.verdict(&a), world.verdict(&b)), ("unknown_key", "unknown_key"));
    settle().await;
    assert_eq!(world.verdict(&unknown("b")).await, "key_not_fetched");
    assert_eq!(world.skype.fetches(), 2);
}

/// A fetch that was in flight when the request arrived may have read the set before the key was published.
#[tokio::test(start_paused = true)]
async fn a_fetch_in_flight_does_not_prove_that_a_key_is_missing() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::Slow(Duration::from_millis(500), Bytes::from_static(FIRST_KEY.as_bytes())));
    let early = unknown("a");
    let late = async {
        sleep(Duration::from_millis(100)).await;
        world.verdict(&unknown("b")).await
    };
    assert_eq!(tokio::join!(world.verdict(&early), late), ("unknown_key", "key_not_fetched"));
    assert_eq!(world.skype.fetches(), 2);
}

/// An unauthenticated sender with an unknown key id in each cool-down does not turn a rotation of the keys
/// into rejections: a token of the new key gets a response that the platform retries, until a fetch has the
/// key.
#[tokio::test(start_paused = true)]
async fn junk_in_each_cooldown_rejects_no_token_of_a_new_key() {
    for junk_after_ms in [0, 1, 10_000, 29_999, 30_000] {
        let world = started(Behaviour::publishes(FIRST_KEY)).await;
        past_cooldown().await;
        assert_eq!(world.verdict(&unknown("junk")).await, "unknown_key");
        world.skype.set(Behaviour::publishes(BOTH_KEYS));
        let new = SECOND.fresh();
        let rotated = Instant::now();
        let mut junk_at = rotated + Duration::from_millis(junk_after_ms);
        loop {
            if Instant::now() >= junk_at {
                world.verdict(&unknown("junk")).await;
                junk_at += COOLDOWN;
            }
            match world.verdict(&new).await {
                "accepted" => break,
                verdict => assert_eq!(verdict, "key_not_fetched"),
            }
            sleep(Duration::from_millis(250)).await;
        }
        assert!(rotated.elapsed() <= COOLDOWN + Duration::from_secs(1), "{:?}", rotated.elapsed());
    }
}

/// The edges of an issuer publish a key one after the other, and each fetch reads another edge.
#[tokio::test(start_paused = true)]
async fn a_key_that_one_edge_publishes_later_costs_no_call() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let new = SECOND.fresh();
    let published = Instant::now();
    // Each request is one that the platform retries after 503, and loses after 401.
    let mut verdicts = Vec::new();
    while verdicts.last() != Some(&"accepted") {
        verdicts.push(world.verdict(&new).await);
        sleep(Duration::from_secs(1)).await;
        if published.elapsed() > COOLDOWN / 2 {
            world.skype.set(Behaviour::publishes(BOTH_KEYS));
        }
    }
    verdicts.dedup();
    assert_eq!(verdicts, ["key_not_fetched", "accepted"]);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_not_rejected_after_a_failed_or_during_an_unfinished_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::Fails("status"));
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!(world.skype.fetches(), 2);
    // The cool-down counts attempts: no fetch, no wait.
    let before = Instant::now();
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!((world.skype.fetches(), before.elapsed()), (2, Duration::ZERO));

    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::Hangs);
    let before = Instant::now();
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_one_second_for_a_slow_issuer() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::Slow(Duration::from_millis(900), Bytes::from_static(BOTH_KEYS.as_bytes())));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");

    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::slow(3, BOTH_KEYS));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "keys_unavailable");
    sleep(Duration::from_secs(2)).await;
    // The fetch continued without the request.
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_fetch_and_its_failure() {
    for (behaviour, expected) in [
        (Behaviour::Slow(Duration::from_millis(500), Bytes::from_static(BOTH_KEYS.as_bytes())), "accepted"),
        (Behaviour::Fails("connect"), "keys_unavailable"),
    ] {
        let world = Arc::new(started(Behaviour::publishes(FIRST_KEY)).await);
        past_cooldown().await;
        world.skype.set(behaviour);
        let waiters: Vec<_> = (0..50)
            .map(|nth| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.verdict(&SECOND.token(NOW - 10, NOW + 200 + nth)).await })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap(), expected);
        }
        assert_eq!(world.skype.fetches(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn the_number_of_waiting_requests_is_bounded() {
    let world = Arc::new(started(Behaviour::publishes(FIRST_KEY)).await);
    past_cooldown().await;
    world.skype.set(Behaviour::Hangs);
    let token = unknown("a");
    let waiters: Vec<_> = (0..1024)
        .map(|_| {
            let (world, token) = (Arc::clone(&world), token.clone());
            tokio::spawn(async move { world.verdict(&token).await })
        })
        .collect();
    settle().await;
    let before = Instant::now();
    assert_eq!(world.verdict(&token).await, "keys_unavailable");
    assert_eq!(before.elapsed(), Duration::ZERO);
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), "keys_unavailable");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_request_does_not_cancel_the_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.set(Behaviour::Slow(Duration::from_millis(500), Bytes::from_static(BOTH_KEYS.as_bytes())));
    {
        let token = SECOND.fresh();
        let mut waiting = pin!(world.verdict(&token));
        poll_fn(|context| {
            assert!(waiting.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!((world.skype.fetches(), world.skype.dropped()), (2, 0));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_a_token_that_meets_the_other_rules_causes_a_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let header = r#"{"alg":"RS256","kid":"unknown"}"#;
    past_cooldown().await;
    for (from, to) in [
        ("\"iss\":\"https://api.botframework.com\"", "\"iss\":\"https://evil.example\""),
        ("\"aud\":\"9fd00000", "\"aud\":\"00000000"),
        ("\"exp\":1800000290", "\"exp\":1799990290"),
        ("\"exp\":1800000290", "\"exp\":1900000290"),
        ("\"nbf\":1799999990", "\"nbf\":1800000289"),
        ("\"tid\":\"11111111", "\"tid\":\"x1111111"),
        ("\"tid\"", "\"tiddler\""),
        ("{", "{\"scp\":\"x\","),
    ] {
        let claims = crate::support::claims(NOW - 10, NOW + 290).replacen(from, to, 1);
        let token = FIRST.sign(header, &claims);
        let verdict = world.authenticate(&token, NOW - if to.contains("nbf") { 400 } else { 0 }).await;
        let verdict = crate::support::verdict(&verdict);
        assert!(!matches!(verdict, "unknown_key" | "key_not_fetched"), "{claims}");
    }
    settle().await;
    assert_eq!(world.skype.fetches(), 1);
    assert_eq!(world.verdict(&unknown("unknown")).await, "unknown_key");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_causes_one_fetch_per_cooldown() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let started = Instant::now();
    for nth in 0..600 {
        let verdict = world.verdict(&unknown(&format!("junk-{nth}"))).await;
        assert!(matches!(verdict, "unknown_key" | "key_not_fetched"), "{verdict}");
        advance(Duration::from_millis(500)).await;
    }
    // 300 s of flood, ten cool-downs.
    assert_eq!(started.elapsed().as_secs(), 300);
    assert!(world.skype.fetches() <= 11, "{}", world.skype.fetches());

    world.skype.set(Behaviour::publishes(SECOND_KEY));
    let rotated = Instant::now();
    let mut nth = 0;
    let new = SECOND.fresh();
    while world.verdict(&new).await != "accepted" {
        nth += 1;
        world.verdict(&unknown(&format!("more-{nth}"))).await;
        advance(Duration::from_millis(100)).await;
    }
    assert!(rotated.elapsed() <= COOLDOWN + Duration::from_secs(1), "{:?}", rotated.elapsed());
}

#[tokio::test(start_paused = true)]
async fn issuers_do_not_affect_each_other() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.set(Behaviour::Hangs);
    sleep(25 * HOUR).await;
    assert_eq!(world.verdict(ENTRA_TOKEN).await, "accepted");
    let trusts = world.authenticator.trusts();
    assert_eq!((trusts[0].keys, trusts[1].keys), (0, 3));
    assert_eq!(trusts[1].fetches_failed, 0);
    assert!(trusts[0].fetches_failed > 0);
    // Unknown keys of one issuer cause no fetch at the other.
    let before = world.entra.fetches();
    world.verdict(&unknown("a")).await;
    assert_eq!(world.entra.fetches(), before);
}

#[tokio::test(start_paused = true)]
async fn the_status_contains_the_age_of_the_keys() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    sleep(Duration::from_secs(100)).await;
    let status = &world.authenticator.trusts()[0];
    assert_eq!(status.age.map(|age| age.as_secs()), Some(100));
    assert_eq!((&*status.name, status.fetches_ok, status.fetches_failed), ("skype", 1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_status_contains_the_next_fetch_and_the_last_failure() {
    let world = World::new(Behaviour::publishes(FIRST_KEY));
    let status = |authenticator: &Authenticator| authenticator.trusts().swap_remove(0);
    assert_eq!(status(&world.authenticator).next_fetch, None);
    settle().await;
    let planned = status(&world.authenticator).next_fetch.unwrap();
    assert!(planned > HOUR * 94 / 100 && planned < HOUR * 106 / 100, "{planned:?}");
    assert_eq!(status(&world.authenticator).last_failure, None);

    world.skype.set(Behaviour::Fails("connect"));
    sleep(planned + Duration::from_millis(500)).await;
    let failing = status(&world.authenticator);
    assert!(failing.next_fetch.unwrap() < Duration::from_secs(2), "{failing:?}");
    let failure = failing.last_failure.unwrap();
    assert_eq!(failure.age.as_secs(), 0);
    assert!(failure.error.starts_with("fetch failed: "), "{failure:?}");

    // It stays after a success, and after a reload.
    world.skype.set(Behaviour::publishes(FIRST_KEY));
    sleep(Duration::from_secs(30)).await;
    let status = status(&world.authenticator);
    assert_eq!((status.fetches_ok, status.last_failure.unwrap().age.as_secs()), (2, 30));
    let trusts = crate::support::trusts(&world.skype, &world.entra);
    let next = world.authenticator.successor(trusts, crate::support::apps(), keys()).unwrap();
    let status = next.trusts().swap_remove(0);
    assert_eq!(status.last_failure.unwrap().error, failure.error);
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_keys_and_history_and_forgets_tokens() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
    let successor = |apps| {
        let trusts = crate::support::trusts(&world.skype, &world.entra);
        Arc::new(world.authenticator.successor(trusts, apps, keys()).unwrap())
    };
    let next = successor(crate::support::apps());
    let running = tokio::spawn(Arc::clone(&next).run(|| crate::support::at(NOW)));
    let verdict = async |token: &[u8]| {
        let found = next.authenticate(&crate::support::bearer(token), crate::support::at(NOW)).await;
        crate::support::verdict(&found)
    };
    // A reload causes no fetch, neither at once nor by an unknown key.
    assert_eq!(verdict(&FIRST.fresh()).await, "accepted");
    assert_eq!(verdict(&unknown("a")).await, "key_not_fetched");
    settle().await;
    assert_eq!(world.skype.fetches(), 1);
    assert_eq!(next.trusts()[0].generation, 1);
    world.running.abort();
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.skype.fetches(), 2);
    running.abort();

    // The app is no longer configured: its tokens are not in the cache.
    let mut apps = crate::support::apps();
    apps.remove(0);
    let next = successor(apps);
    let found = next.authenticate(&crate::support::bearer(&FIRST.fresh()), crate::support::at(NOW)).await;
    assert_eq!(crate::support::verdict(&found), "audience");
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_another_address_forgets_the_keys() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let mut trusts = crate::support::trusts(&world.skype, &world.entra);
    trusts[0].0.metadata.set_host(Some("elsewhere.example")).unwrap();
    let next = world.authenticator.successor(trusts, crate::support::apps(), keys()).unwrap();
    let keys: Vec<_> = next.trusts().iter().map(|trust| (trust.keys, trust.generation)).collect();
    assert_eq!(keys, [(0, 0), (3, 1)]);
}

/// Starts the successor of `world` for a trust with other authorities.
fn with_other_authorities(world: &World) -> (Arc<Authenticator>, JoinHandle<()>) {
    let mut trusts = crate::support::trusts(&world.skype, &world.entra);
    trusts[0].0.ca_digest = Some([1; 32]);
    let next = Arc::new(world.authenticator.successor(trusts, crate::support::apps(), keys()).unwrap());
    world.running.abort();
    let running = tokio::spawn(Arc::clone(&next).run(|| crate::support::at(NOW)));
    (next, running)
}

#[tokio::test(start_paused = true)]
async fn keys_that_the_former_authorities_vouched_for_are_fetched_again_at_once() {
    for (behaviour, keys_after, generation) in [
        // The new authorities vouch for the same keys, or for others.
        (Behaviour::publishes(FIRST_KEY), 1, 1),
        (Behaviour::publishes(BOTH_KEYS), 2, 2),
        // They do not vouch for the endpoint.
        (Behaviour::Fails(FetchError::UNTRUSTED), 0, 2),
        // The endpoint does not respond, or responds with an error.
        (Behaviour::Fails("connect"), 1, 1),
        (Behaviour::Fails("status"), 1, 1),
    ] {
        let world = started(Behaviour::publishes(FIRST_KEY)).await;
        let token = FIRST.fresh();
        assert_eq!(world.verdict(&token).await, "accepted");
        world.skype.set(behaviour.clone());
        let (next, running) = with_other_authorities(&world);
        let verdict = async || {
            let found = next.authenticate(&crate::support::bearer(&token), crate::support::at(NOW)).await;
            crate::support::verdict(&found)
        };
        settle().await;
        assert_eq!(world.skype.fetches(), 2, "{behaviour:?}");
        let status = &next.trusts()[0];
        assert_eq!((status.keys, status.generation), (keys_after, generation), "{behaviour:?}");
        let expected = if keys_after == 0 { "keys_unavailable" } else { "accepted" };
        assert_eq!(verdict().await, expected, "{behaviour:?}");
        // A verified answer of the endpoint restores the keys. Until then they last for keep_stale.
        if keys_after == 0 {
            world.skype.set(Behaviour::publishes(FIRST_KEY));
            sleep(HOUR).await;
            assert_eq!(verdict().await, "accepted");
        } else if matches!(behaviour, Behaviour::Fails(_)) {
            world.skype.set(Behaviour::Fails(FetchError::UNTRUSTED));
            sleep(HOUR).await;
            assert_eq!(verdict().await, "keys_unavailable", "{behaviour:?}");
        }
        running.abort();
    }
}

/// An endpoint whose certificate has expired is an outage like any other while the authorities are the same.
#[tokio::test(start_paused = true)]
async fn an_untrusted_endpoint_costs_no_keys_while_the_authorities_stay() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.set(Behaviour::Fails(FetchError::UNTRUSTED));
    sleep(2 * HOUR).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_reload_during_a_fetch_fetches_again_soon() {
    let world = World::new(Behaviour::Hangs);
    settle().await;
    let trusts = crate::support::trusts(&world.skype, &world.entra);
    let next = Arc::new(world.authenticator.successor(trusts, crate::support::apps(), keys()).unwrap());
    world.running.abort();
    world.skype.set(Behaviour::publishes(FIRST_KEY));
    let running = tokio::spawn(Arc::clone(&next).run(|| crate::support::at(NOW)));
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(next.trusts()[0].keys, 1);
    running.abort();
}
