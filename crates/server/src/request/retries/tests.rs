//! Retries on a paused clock.

use std::{future::Future, sync::LazyLock};

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{advance, sleep},
};

use switchboard_delivery::{CLIENT_REQUEST_ID, SCENARIO_ID};
use switchboard_routing::Name;
use uuid::Uuid;

use super::{response_copy::RESPONSE_BYTES_MAX, *};
use crate::{request::outcome::Outcome, telemetry::LogCounts};

const APP: Uuid = Uuid::from_u128(1);
const TENANT: Uuid = Uuid::from_u128(2);
const SECOND: Duration = Duration::from_secs(1);

fn key(message_id: &str) -> MessageKey {
    MessageKey::of(APP, TENANT, "/api/calls", false, &HeaderValue::from_str(message_id).unwrap(), b"{}")
}

fn shared(status: u16, outcome: Outcome, body: &str) -> SharedResponse {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let name = |text| Name::parse(text).unwrap();
    SharedResponse::new(&response, outcome, None, Some((name("bot-0"), name("0")))).with_body(body.as_bytes())
}

fn retries() -> Arc<Retries> {
    Arc::new(Retries::new(Arc::new(Metrics::new(LogCounts::default()))))
}

async fn role(retries: &Arc<Retries>, message_id: &str) -> Role {
    retries.role(key(message_id), Instant::now() + 12 * SECOND, |_| true).await
}

#[track_caller]
fn lead(role: Role) -> Leader {
    match role {
        Role::Leader(leader) => leader,
        other @ (Role::Shared(_) | Role::Repeated(_) | Role::Successor(..) | Role::TooLate) => {
            panic!("not the leader: {other:?}")
        }
    }
}

#[track_caller]
fn check(role: Role, how: &str, body: &str) {
    let (seen, response) = match role {
        Role::Shared(response) => ("shared", response),
        Role::Repeated(response) => ("repeated", response),
        other @ (Role::Leader(_) | Role::Successor(..) | Role::TooLate) => panic!("not {how}: {other:?}"),
    };
    let response = response.response();
    assert_eq!((seen, &**response.body()), (how, body.as_bytes()));
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
}

/// Starts a retry and runs it until it waits.
async fn waiting(retries: &Arc<Retries>, message_id: &'static str) -> JoinHandle<Role> {
    let retries = Arc::clone(retries);
    let task = tokio::spawn(async move { role(&retries, message_id).await });
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    task
}

#[tokio::test(start_paused = true)]
async fn a_waiting_retry_gets_any_response_of_the_leader() {
    for (status, outcome) in [(202, Outcome::Placed), (503, Outcome::Unreachable), (302, Outcome::Redirected)]
    {
        let retries = retries();
        let leader = lead(role(&retries, "m").await);
        let (one, two) = (waiting(&retries, "m").await, waiting(&retries, "m").await);
        sleep(SECOND).await;
        leader.responded(shared(status, outcome, "body"));
        check(one.await.unwrap(), "shared", "body");
        check(two.await.unwrap(), "shared", "body");
    }
}

#[tokio::test(start_paused = true)]
async fn a_2xx_of_an_instance_is_repeated_for_three_minutes() {
    let retries = retries();
    lead(role(&retries, "m").await).responded(shared(202, Outcome::Forwarded, "body"));
    advance(AGE_MAX - Duration::from_millis(1)).await;
    check(role(&retries, "m").await, "repeated", "body");
    // A repetition does not extend the time.
    advance(Duration::from_millis(1)).await;
    lead(role(&retries, "m").await).responded(shared(200, Outcome::Forwarded, "new"));
    check(role(&retries, "m").await, "repeated", "new");
}

#[tokio::test(start_paused = true)]
async fn other_responses_are_not_remembered() {
    for (status, outcome) in [
        (204, Outcome::AskedForGraph),
        (302, Outcome::Redirected),
        (400, Outcome::Placed),
        (404, Outcome::Forwarded),
        (500, Outcome::Placed),
        (502, Outcome::BadResponse),
        (503, Outcome::PartFailed),
        (200, Outcome::Health),
    ] {
        let retries = retries();
        lead(role(&retries, "m").await).responded(shared(status, outcome, ""));
        let again = role(&retries, "m").await;
        assert!(matches!(again, Role::Leader(_)), "{status} {outcome:?}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiting_retry_becomes_the_leader_when_the_first_is_dropped() {
    let retries = retries();
    let leader = lead(role(&retries, "m").await);
    let (one, two) = (waiting(&retries, "m").await, waiting(&retries, "m").await);
    drop(leader);
    tokio::task::yield_now().await;
    let (successor, other) = if one.is_finished() { (one, two) } else { (two, one) };
    let leader = lead(successor.await.unwrap());
    assert!(!other.is_finished());
    leader.responded(shared(202, Outcome::Placed, "at last"));
    check(other.await.unwrap(), "shared", "at last");
}

#[tokio::test(start_paused = true)]
async fn a_retry_waits_until_its_time_is_up() {
    let retries = retries();
    let _leader = lead(role(&retries, "m").await);
    let began = Instant::now();
    assert!(matches!(role(&retries, "m").await, Role::TooLate));
    assert_eq!(began.elapsed(), 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_not_shared() {
    let retries = retries();
    let leader = lead(role(&retries, "m").await);
    let one = waiting(&retries, "m").await;
    let copy = ResponseCopy::new(leader, shared(200, Outcome::Placed, ""), 0).unwrap();
    let copy = copy.push(&[b'a'; RESPONSE_BYTES_MAX]).unwrap();
    assert!(copy.push(b"b").is_none());
    lead(one.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_copied_whole() {
    let retries = retries();
    let leader = lead(role(&retries, "m").await);
    let copy = ResponseCopy::new(leader, shared(200, Outcome::Placed, ""), 0).unwrap();
    copy.push(b"one, ").unwrap().push(b"two").unwrap().complete();
    check(role(&retries, "m").await, "repeated", "one, two");
}

#[tokio::test(start_paused = true)]
async fn requests_that_differ_in_anything_are_different_messages() {
    let id = HeaderValue::from_static("m");
    let other = Uuid::from_u128(3);
    let body = b"{}".as_slice();
    let keys = [
        MessageKey::of(APP, TENANT, "/a", false, &id, body),
        MessageKey::of(other, TENANT, "/a", false, &id, body),
        MessageKey::of(APP, other, "/a", false, &id, body),
        MessageKey::of(TENANT, APP, "/a", false, &id, body),
        MessageKey::of(APP, TENANT, "/b", false, &id, body),
        MessageKey::of(APP, TENANT, "/a", true, &id, body),
        MessageKey::of(APP, TENANT, "/a", false, &HeaderValue::from_static("n"), body),
        MessageKey::of(APP, TENANT, "/a", false, &id, b"{ }"),
        // The same bytes, cut elsewhere.
        MessageKey::of(APP, TENANT, "/am", false, &HeaderValue::from_static(""), body),
        MessageKey::of(APP, TENANT, "/a", false, &HeaderValue::from_static("m{"), b"}"),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys.iter().enumerate().all(|(place, two)| (place == at) == (one == two)), "{at}");
    }
}

/// Runs on a thread with a runtime of its own, as each worker does.
fn on_a_worker<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
}

#[test]
fn workers_share_their_responses() {
    let retries = retries();
    let leader = {
        let retries = Arc::clone(&retries);
        lead(on_a_worker(async move { role(&retries, "m").await }).join().unwrap())
    };
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let retries = Arc::clone(&retries);
            on_a_worker(async move { role(&retries, "m").await })
        })
        .collect();
    on_a_worker(async move { leader.responded(shared(202, Outcome::Placed, "body")) }).join().unwrap();
    for worker in waiting {
        // A retry that came after the response gets it repeated.
        match worker.join().unwrap() {
            Role::Shared(response) | Role::Repeated(response) => {
                assert_eq!(&**response.response().body(), b"body");
            }
            other @ (Role::Leader(_) | Role::Successor(..) | Role::TooLate) => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Claim(u8),
    Respond(u8, usize),
    Abandon(u8),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..12_u8).prop_map(Event::Claim),
        4 => (0..12_u8, 0..40_usize).prop_map(|(message, bytes)| Event::Respond(message, bytes)),
        1 => (0..12_u8).prop_map(Event::Abandon),
        1 => (0..40_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_is_bounded_and_every_response_is_that_of_its_message(events in events()) {
        // The smallest memory has one segment.
        let limits = TableLimits { bytes: 24 * 1024, age: 60 * SECOND };
        let mut now = Instant::now();
        let mut table = MessageTable::new(limits, now);
        let mut leading = std::collections::HashSet::new();
        for event in events {
            match event {
                Event::Claim(message) => match table.claim(key(&message.to_string()), now) {
                    Claim::Lead => prop_assert!(leading.insert(message), "two leaders of {message}"),
                    Claim::Wait(_) => prop_assert!(leading.contains(&message)),
                    Claim::Repeat(response) => {
                        prop_assert!(!leading.contains(&message));
                        prop_assert_eq!(response.reason(), Some(REASONS[usize::from(message)]));
                    }
                },
                Event::Respond(message, bytes) if leading.remove(&message) => {
                    let reason = Some(REASONS[usize::from(message)]);
                    let response = SharedResponse::new(&Response::new(()), Outcome::Placed, reason, None);
                    let response = response.with_body("x".repeat(bytes * 10).as_bytes());
                    table.responded(key(&message.to_string()), response, now);
                }
                Event::Abandon(message) if leading.remove(&message) => {
                    table.abandoned(key(&message.to_string()));
                }
                Event::Respond(..) | Event::Abandon(_) => {}
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let (_, bytes) = table.size();
            prop_assert!(bytes <= limits.bytes, "{bytes} bytes");
        }
    }
}

/// Responses as a bot on Microsoft's SDK sends them: 202, without a body, with both correlation ids.
fn sdk_response(number: u128) -> SharedResponse {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::ACCEPTED;
    for name in [&CLIENT_REQUEST_ID, &SCENARIO_ID] {
        let id = Uuid::from_u128(number).hyphenated().to_string();
        response.headers_mut().insert(name, HeaderValue::from_str(&id).unwrap());
    }
    SharedResponse::new(&response, Outcome::Forwarded, None, Some(OWNER.clone()))
}

static OWNER: LazyLock<(Name, Name)> =
    LazyLock::new(|| (Name::parse("bot-0").unwrap(), Name::parse("1").unwrap()));

fn numbered(number: u128) -> MessageKey {
    MessageKey::of(APP, Uuid::from_u128(number), "/api/calls", false, &HeaderValue::from_static("m"), b"{}")
}

/// 30 s of 20,000 callbacks a second stay within 96 MiB. What comes beyond it makes the oldest leave, which
/// is counted.
#[test]
fn thirty_seconds_of_twenty_thousand_responses_a_second_are_remembered() {
    let limits = TableLimits { bytes: REMEMBERED_BYTES_MAX / SHARDS, age: AGE_MAX };
    let start = Instant::now();
    // One shard has a sixteenth of them.
    let mut table = MessageTable::new(limits, start);
    let per_second = 20_000 / u32::try_from(SHARDS).unwrap();
    let mut respond = |number: u32| {
        let key = numbered(number.into());
        let now = start + SECOND / per_second * number;
        assert!(matches!(table.claim(key, now), Claim::Lead));
        let forgotten_early = table.responded(key, sdk_response(number.into()), now).forgotten_early;
        let (_, bytes) = table.size();
        assert!(bytes <= limits.bytes, "{bytes} bytes");
        (forgotten_early, bytes)
    };
    assert_eq!((0..30 * per_second).map(|number| respond(number).0).sum::<u64>(), 0);
    let early: u64 = (30 * per_second..60 * per_second).map(|number| respond(number).0).sum();
    let remembered = 60 * u64::from(per_second) - early;
    assert!(remembered >= 30 * u64::from(per_second), "{remembered} remembered");
    let now = start + 60 * SECOND;
    assert!(matches!(table.claim(numbered(30 * u128::from(per_second)), now), Claim::Repeat(_)));
    assert!(matches!(table.claim(numbered(0), now), Claim::Lead));
}

#[test]
fn nothing_is_allocated_ahead_of_need_and_old_responses_go() {
    let limits = TableLimits { bytes: REMEMBERED_BYTES_MAX / SHARDS, age: AGE_MAX };
    let start = Instant::now();
    let mut table = MessageTable::new(limits, start);
    assert_eq!(table.size(), (0, 0));
    for number in 0..10_000 {
        table.responded(numbered(number), sdk_response(number), start);
    }
    let (_, full) = table.size();
    for number in 0..1000 {
        let responded = table.responded(numbered(number), sdk_response(number), start + AGE_MAX);
        assert_eq!(responded.forgotten_early, 0);
    }
    let (messages, bytes) = table.size();
    assert_eq!(messages, 1000);
    assert!(bytes * 5 < full, "{bytes} bytes of {full}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_holds_no_more_is_forgotten() {
    let retries = retries();
    lead(role(&retries, "m").await).responded(shared(202, Outcome::Placed, "lost"));
    let until = Instant::now() + SECOND;
    let again = retries.role(key("m"), until, |_| false).await;
    let Role::Successor(leader) = again else { panic!("{again:?}") };
    // Another retry waits for it.
    let other = waiting(&retries, "m").await;
    drop(leader);
    // It does not get the old response, whatever it thinks of it.
    lead(other.await.unwrap()).responded(shared(202, Outcome::Placed, "new"));
    check(role(&retries, "m").await, "repeated", "new");
}

const REASONS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
