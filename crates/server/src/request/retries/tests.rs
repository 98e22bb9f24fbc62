//! Retries on a paused clock.

use std::future::Future;

use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{advance, sleep},
};

use switchboard_routing::Name;
use uuid::Uuid;

use super::{response_copy::RESPONSE_BYTES_MAX, *};
use crate::request::outcome::Outcome;

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
    SharedResponse::new(&response, outcome, None, Some(Name::parse("bot-0").unwrap()))
        .with_body(body.as_bytes())
}

fn retries() -> Arc<Retries> {
    Arc::new(Retries::new())
}

async fn role(retries: &Arc<Retries>, message_id: &str) -> Role {
    retries.role(key(message_id), Instant::now() + 12 * SECOND).await
}

#[track_caller]
fn lead(role: Role) -> Leader {
    match role {
        Role::Leader(leader) => leader,
        other @ (Role::Shared(_) | Role::Repeated(_) | Role::TooLate) => panic!("not the leader: {other:?}"),
    }
}

#[track_caller]
fn check(role: Role, how: &str, body: &str) {
    let (seen, response) = match role {
        Role::Shared(response) => ("shared", response),
        Role::Repeated(response) => ("repeated", response),
        other @ (Role::Leader(_) | Role::TooLate) => panic!("not {how}: {other:?}"),
    };
    assert_eq!((seen, &*response.body), (how, body.as_bytes()));
    let response = response.response();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    assert_eq!(response.body(), body.as_bytes());
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
            Role::Shared(response) | Role::Repeated(response) => assert_eq!(&*response.body, b"body"),
            other @ (Role::Leader(_) | Role::TooLate) => panic!("{other:?}"),
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
        let limits = TableLimits { responses: 4, bytes: 100, age: 60 * SECOND };
        let mut table = MessageTable::new(limits);
        let mut now = Instant::now();
        let mut leading = std::collections::HashSet::new();
        for event in events {
            match event {
                Event::Claim(message) => match table.claim(key(&message.to_string()), now) {
                    Claim::Lead => prop_assert!(leading.insert(message), "two leaders of {message}"),
                    Claim::Wait(_) => prop_assert!(leading.contains(&message)),
                    Claim::Repeat(response) => {
                        prop_assert!(!leading.contains(&message));
                        prop_assert_eq!(response.reason, Some(REASONS[usize::from(message)]));
                    }
                },
                Event::Respond(message, bytes) if leading.remove(&message) => {
                    let mut response = shared(200, Outcome::Placed, &"x".repeat(bytes));
                    response.headers.clear();
                    response.reason = Some(REASONS[usize::from(message)]);
                    table.responded(key(&message.to_string()), &Arc::new(response), now);
                }
                Event::Abandon(message) if leading.remove(&message) => {
                    table.abandoned(key(&message.to_string()));
                }
                Event::Respond(..) | Event::Abandon(_) => {}
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let (messages, bytes) = table.size();
            prop_assert!(messages <= leading.len() + limits.responses, "{messages} messages");
            prop_assert!(bytes <= limits.bytes, "{bytes} bytes");
        }
    }
}

const REASONS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
