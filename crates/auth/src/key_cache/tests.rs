//! What can be said without a network. The rest is in `tests/auth/key_rules.rs`, through the boundary.

use super::*;

#[track_caller]
fn check(outcome: Option<Outcome>, ended: u64, age_s: u64, expected: Judgement) {
    let started = Instant::now();
    let attempts = Attempts { ended, last: outcome.map(|outcome| Attempt { started, outcome }) };
    let now = started + Duration::from_secs(age_s);
    assert_eq!(attempts.judge(3, Duration::from_secs(30), now), expected, "{outcome:?} {ended} {age_s}");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_the_tokens_fault_only_after_a_good_fetch() {
    check(None, 3, 0, Judgement::Wait);
    check(Some(Outcome::Unfinished), 3, 0, Judgement::Wait);
    check(Some(Outcome::Unfinished), 3, 31, Judgement::Wait);
    check(Some(Outcome::Succeeded), 3, 29, Judgement::Missing);
    check(Some(Outcome::Succeeded), 3, 30, Judgement::Ask);
    check(Some(Outcome::Failed), 3, 29, Judgement::Unavailable);
    check(Some(Outcome::Failed), 3, 30, Judgement::Ask);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_ended_while_one_waited_has_answered() {
    check(Some(Outcome::Succeeded), 4, 31, Judgement::Missing);
    check(Some(Outcome::Failed), 4, 31, Judgement::Unavailable);
    check(Some(Outcome::Unfinished), 4, 31, Judgement::Wait);
}

/// With `keep_stale` hardly longer than `refresh`, a set can outlive its time before its successor is fetched.
#[tokio::test(start_paused = true)]
async fn a_set_that_is_too_old_cannot_say_that_a_key_is_missing() {
    let policy = KeyPolicy {
        refresh: Duration::from_secs(100),
        cooldown: Duration::from_secs(3600),
        keep_stale: Duration::from_secs(101),
        store: None,
    };
    let metadata = Url::parse("https://issuer.example/metadata").unwrap();
    let cache = KeyCache::new("skype".into(), metadata, Arc::new(NoNetwork), Arc::new(policy));
    let keys = KeySet::parse(include_bytes!("../../../../fixtures/jwks/skype.json")).unwrap();
    let known = keys.key_ids().next().unwrap().to_owned();
    cache.put_in_force(keys, None, Duration::ZERO);
    let last = Some(Attempt { started: Instant::now(), outcome: Outcome::Succeeded });
    cache.attempts.send_replace(Attempts { ended: 1, last });

    tokio::time::advance(Duration::from_secs(101)).await;
    assert_eq!(cache.wait_for(&known).await, Ok(()));
    assert_eq!(cache.wait_for("unknown").await, Err(NoKey::Missing));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(cache.wait_for(&known).await, Err(NoKey::Unavailable));
}

struct NoNetwork;

impl Fetch for NoNetwork {
    fn get(
        &self,
        _: &Url,
        _: usize,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<bytes::Bytes, FetchError>> + Send + '_>> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn back_off_doubles_from_one_second_to_a_minute() {
    for (failures, base_s) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 48), (8, 48), (1000, 48), (u32::MAX, 48)]
    {
        for _ in 0..20 {
            let waits = back_off(failures);
            let base = Duration::from_secs(base_s);
            assert!((base..=base + base / 4).contains(&waits), "{failures}: {waits:?}");
        }
    }
}

#[test]
fn refresh_is_within_five_percent() {
    let hour = Duration::from_secs(3600);
    for _ in 0..100 {
        assert!((hour - hour / 20..=hour + hour / 20).contains(&jittered_refresh(hour)));
    }
}

#[test]
fn errors_are_logged_in_one_harmless_line() {
    let failure = Failure::Fetch(FetchError {
        kind: "status",
        detail: format!("500\r\nINFO \u{1b}[31m{}", "x".repeat(999)),
    });
    let text = chain(&failure);
    assert!(text.starts_with(r"fetch failed: 500\r\nINFO \u{1b}[31mxxx"), "{text}");
    assert!(!text.chars().any(char::is_control));
    assert_eq!(text.chars().count(), LOGGED_CHARS_MAX);
}

#[test]
fn a_url_is_logged_without_what_may_be_secret() {
    for (url, expected) in [
        ("https://issuer.example/metadata", "https://issuer.example/metadata"),
        ("https://user:password@issuer.example:8443/a?key=secret#part", "https://issuer.example:8443/a"),
        ("https://issuer.example/\u{1b}[31m\u{202e}", "https://issuer.example/%1B[31m%E2%80%AE"),
    ] {
        assert_eq!(logged(Url::parse(url).unwrap()), expected);
    }
    let long = format!("https://issuer.example/{}", "a".repeat(5_000));
    assert_eq!(logged(Url::parse(&long).unwrap()).len(), LOGGED_CHARS_MAX);
}
