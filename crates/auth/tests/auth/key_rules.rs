//! When keys are fetched, kept, waited for and refused, with the clock in the test's hand.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, advance, sleep};

use crate::support::{
    BOTH_KEYS, Behaviour, COOLDOWN, FIRST, FIRST_KEY, HOUR, NOW, SECOND, SECOND_KEY, SWAPPED_KEY, World,
    keys, unknown,
};

const EMPTY: &str = include_str!("../../../../fixtures/jwks/empty.json");
const PAGE: &str = include_str!("../../../../fixtures/jwks/not-keys.html");
const CUT_SHORT: &str = include_str!("../../../../fixtures/jwks/cut-short.json");
const ONE_MALFORMED: &str = include_str!("../../../../fixtures/jwks/one-malformed.json");
const ENTRA_TOKEN: &[u8] = include_bytes!("../../../../fixtures/tokens/entra-v2.jwt");

/// Lets the actors act.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

async fn started(behaviour: Behaviour) -> World {
    let world = World::new(behaviour);
    settle().await;
    world
}

/// So far that a fetch is allowed and no refresh is due.
async fn past_cooldown() {
    sleep(COOLDOWN).await;
}

#[tokio::test(start_paused = true)]
async fn a_known_key_never_waits() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    world.skype.now(Behaviour::Hangs);
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
async fn keys_are_refreshed_ahead_of_need() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    sleep(HOUR * 94 / 100).await;
    assert_eq!(world.skype.fetches(), 1);
    sleep(HOUR * 12 / 100).await;
    assert_eq!(world.skype.fetches(), 2);
    // The same keys are the same generation: verified tokens stay remembered.
    assert_eq!(world.keys(), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_with_overlap_is_not_noticed() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.now(Behaviour::publishes(BOTH_KEYS));
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
    world.skype.now(Behaviour::publishes(SECOND_KEY));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
    assert_eq!(world.skype.fetches(), 2);
    // Withdrawn, and refused from now on, although it was remembered.
    assert_eq!(world.verdict(&FIRST.fresh()).await, "unknown_key");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_refused_after_the_next_refresh() {
    let world = started(Behaviour::publishes(BOTH_KEYS)).await;
    let token = FIRST.fresh();
    assert_eq!(world.verdict(&token).await, "accepted");
    world.skype.now(Behaviour::publishes(SECOND_KEY));
    assert_eq!(world.verdict(&token).await, "accepted");
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.verdict(&token).await, "unknown_key");
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn the_same_key_id_on_another_key_verifies_by_the_new_one() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let (old, new) = (FIRST.fresh(), SECOND.token_with_id(&FIRST.id(), NOW - 10, NOW + 290));
    assert_eq!(world.verdict(&old).await, "accepted");
    assert_eq!(world.verdict(&new).await, "signature");
    world.skype.now(Behaviour::publishes(SWAPPED_KEY));
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.verdict(&old).await, "signature");
    assert_eq!(world.verdict(&new).await, "accepted");
    assert_eq!(world.keys(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn flapping_between_old_and_new_is_followed_within_a_cooldown() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    for (set, mine, other) in
        [(SECOND_KEY, SECOND, FIRST), (FIRST_KEY, FIRST, SECOND), (SECOND_KEY, SECOND, FIRST)]
    {
        past_cooldown().await;
        world.skype.now(Behaviour::publishes(set));
        assert_eq!(world.verdict(&mine.fresh()).await, "accepted");
        assert_eq!(world.verdict(&other.fresh()).await, "unknown_key");
    }
    assert_eq!((world.skype.fetches(), world.keys().1), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_at_the_start_is_our_fault() {
    let world = started(Behaviour::Fails("connect")).await;
    assert_eq!(world.keys(), (0, 0));
    let error = world.authenticate(&FIRST.fresh(), NOW).await.unwrap_err();
    assert_eq!((error.label(), error.trust()), ("keys_unavailable", Some("skype")));
    world.skype.now(Behaviour::publishes(BOTH_KEYS));
    // The first back-off is short.
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_after_one_second_to_one_minute() {
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
async fn keys_that_worked_outlive_a_silent_endpoint_for_a_day() {
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
        world.skype.now(behaviour.clone());
        sleep(23 * HOUR + 59 * HOUR / 60).await;
        assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted", "{behaviour:?}");
        assert_eq!(world.keys(), (1, 1), "{behaviour:?}");
        sleep(2 * HOUR / 60).await;
        // Remembered or not.
        assert_eq!(world.verdict(&FIRST.fresh()).await, "keys_unavailable", "{behaviour:?}");
        assert_eq!(world.keys(), (0, 1), "{behaviour:?}");
        world.skype.now(Behaviour::publishes(FIRST_KEY));
        sleep(Duration::from_secs(66)).await;
        assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted", "{behaviour:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_without_usable_keys_is_held_back_and_counted() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.now(Behaviour::publishes(EMPTY));
    past_cooldown().await;
    assert_eq!(world.verdict(&SECOND.fresh()).await, "keys_unavailable");
    let status = &world.authenticator.trusts()[0];
    assert_eq!((status.fetches_ok, status.fetches_failed, status.fetches_held_back), (1, 1, 1));
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn one_malformed_key_does_not_take_the_others_away() {
    let world = started(Behaviour::publishes(ONE_MALFORMED)).await;
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_disjoint_set_with_usable_keys_is_taken() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.now(Behaviour::publishes(SECOND_KEY));
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.keys(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_rejected_only_after_a_fetch_within_the_cooldown() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    // The set was just fetched.
    assert_eq!(world.verdict(&unknown("a")).await, "unknown_key");
    assert_eq!(world.skype.fetches(), 1);
    past_cooldown().await;
    // It was not: one look.
    assert_eq!(world.verdict(&unknown("a")).await, "unknown_key");
    assert_eq!(world.verdict(&unknown("b")).await, "unknown_key");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_our_fault_while_the_last_fetch_failed_or_is_unfinished() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.now(Behaviour::Fails("status"));
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!(world.skype.fetches(), 2);
    // The cool-down counts attempts: no fetch, no waiting.
    let before = Instant::now();
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!((world.skype.fetches(), before.elapsed()), (2, Duration::ZERO));

    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.now(Behaviour::Hangs);
    let before = Instant::now();
    assert_eq!(world.verdict(&unknown("a")).await, "keys_unavailable");
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!(world.verdict(&FIRST.fresh()).await, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_slow_issuer_is_waited_for_a_second() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.now(Behaviour::Slow(Duration::from_millis(900), Bytes::from_static(BOTH_KEYS.as_bytes())));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "accepted");

    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.now(Behaviour::slow(3, BOTH_KEYS));
    assert_eq!(world.verdict(&SECOND.fresh()).await, "keys_unavailable");
    sleep(Duration::from_secs(2)).await;
    // The fetch that it caused went on without it.
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
        world.skype.now(behaviour);
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
async fn only_so_many_may_wait() {
    let world = Arc::new(started(Behaviour::publishes(FIRST_KEY)).await);
    past_cooldown().await;
    world.skype.now(Behaviour::Hangs);
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
async fn a_caller_that_hangs_up_does_not_cancel_the_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    past_cooldown().await;
    world.skype.now(Behaviour::Slow(Duration::from_millis(500), Bytes::from_static(BOTH_KEYS.as_bytes())));
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
async fn only_a_token_that_would_pass_may_cause_a_fetch() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let header = r#"{"alg":"RS256","kid":"nobody"}"#;
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
        assert_ne!(crate::support::verdict(&verdict), "unknown_key", "{claims}");
    }
    settle().await;
    assert_eq!(world.skype.fetches(), 1);
    assert_eq!(world.verdict(&unknown("nobody")).await, "unknown_key");
    assert_eq!(world.skype.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_keys_is_one_fetch_a_cooldown_and_delays_a_rotation_no_longer() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    let began = Instant::now();
    for nth in 0..600 {
        let verdict = world.verdict(&unknown(&format!("junk-{nth}"))).await;
        assert_eq!(verdict, "unknown_key");
        advance(Duration::from_millis(500)).await;
    }
    // 300 s of flood, ten cool-downs.
    assert_eq!(began.elapsed().as_secs(), 300);
    assert!(world.skype.fetches() <= 11, "{}", world.skype.fetches());

    world.skype.now(Behaviour::publishes(SECOND_KEY));
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
async fn one_issuer_is_no_business_of_the_other() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    world.skype.now(Behaviour::Hangs);
    sleep(25 * HOUR).await;
    assert_eq!(world.verdict(ENTRA_TOKEN).await, "accepted");
    let trusts = world.authenticator.trusts();
    assert_eq!((trusts[0].keys, trusts[1].keys), (0, 3));
    assert_eq!(trusts[1].fetches_failed, 0);
    assert!(trusts[0].fetches_failed > 0);
    // A flood at one does not make the other fetch.
    let before = world.entra.fetches();
    world.verdict(&unknown("a")).await;
    assert_eq!(world.entra.fetches(), before);
}

#[tokio::test(start_paused = true)]
async fn the_age_of_keys_is_known() {
    let world = started(Behaviour::publishes(FIRST_KEY)).await;
    sleep(Duration::from_secs(100)).await;
    let status = &world.authenticator.trusts()[0];
    assert_eq!(status.age.map(|age| age.as_secs()), Some(100));
    assert_eq!((&*status.name, status.fetches_ok, status.fetches_failed), ("skype", 1, 0));
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
    // No fetch is bought by reloading: neither at once nor by an unknown key.
    assert_eq!(verdict(&FIRST.fresh()).await, "accepted");
    assert_eq!(verdict(&unknown("a")).await, "unknown_key");
    settle().await;
    assert_eq!(world.skype.fetches(), 1);
    assert_eq!(next.trusts()[0].generation, 1);
    world.running.abort();
    sleep(HOUR * 106 / 100).await;
    assert_eq!(world.skype.fetches(), 2);
    running.abort();

    // An app that is no longer served: its tokens are not remembered.
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

#[tokio::test(start_paused = true)]
async fn a_reload_in_the_middle_of_a_fetch_fetches_again_soon() {
    let world = World::new(Behaviour::Hangs);
    settle().await;
    let trusts = crate::support::trusts(&world.skype, &world.entra);
    let next = Arc::new(world.authenticator.successor(trusts, crate::support::apps(), keys()).unwrap());
    world.running.abort();
    world.skype.now(Behaviour::publishes(FIRST_KEY));
    let running = tokio::spawn(Arc::clone(&next).run(|| crate::support::at(NOW)));
    sleep(Duration::from_millis(1300)).await;
    assert_eq!(next.trusts()[0].keys, 1);
    running.abort();
}
