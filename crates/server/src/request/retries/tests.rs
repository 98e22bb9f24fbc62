//! Retries, with a clock that the tests drive.

use std::future::Future;

use http::header::CONTENT_TYPE;
use proptest::prelude::*;
use tokio::{
    runtime::Builder,
    task::JoinHandle,
    time::{advance, sleep},
};

use super::*;

const APP: Uuid = Uuid::from_u128(1);
const TENANT: Uuid = Uuid::from_u128(2);
const SECOND: Duration = Duration::from_secs(1);

fn key(message_id: &str) -> Key {
    Key::of(APP, TENANT, "/api/calls", false, &HeaderValue::from_str(message_id).unwrap(), b"{}")
}

fn kept(status: u16, outcome: Outcome, body: &str) -> Kept {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Kept::new(&response, outcome, None, Some(Name::parse("bot-0").unwrap())).with_body(body.as_bytes())
}

fn retries() -> Arc<Retries> {
    Arc::new(Retries::new())
}

async fn turn(retries: &Arc<Retries>, message_id: &str) -> Turn {
    retries.turn(key(message_id), Instant::now() + 12 * SECOND).await
}

#[track_caller]
fn first(turn: Turn) -> Lead {
    match turn {
        Turn::First(lead) => lead,
        other @ (Turn::Shared(_) | Turn::Repeated(_) | Turn::Late) => panic!("not the first: {other:?}"),
    }
}

#[track_caller]
fn check(turn: Turn, how: &str, body: &str) {
    let (seen, kept) = match turn {
        Turn::Shared(kept) => ("shared", kept),
        Turn::Repeated(kept) => ("repeated", kept),
        other @ (Turn::First(_) | Turn::Late) => panic!("not {how}: {other:?}"),
    };
    assert_eq!((seen, &*kept.body), (how, body.as_bytes()));
    let response = kept.response();
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    assert_eq!(response.body(), body.as_bytes());
}

/// A retry that waits: it runs until it has to.
async fn waiting(retries: &Arc<Retries>, message_id: &'static str) -> JoinHandle<Turn> {
    let retries = Arc::clone(retries);
    let task = tokio::spawn(async move { turn(&retries, message_id).await });
    tokio::task::yield_now().await;
    assert!(!task.is_finished());
    task
}

#[tokio::test(start_paused = true)]
async fn a_retry_shares_the_answer_of_the_first_whatever_it_is() {
    for (status, outcome) in [(202, Outcome::Placed), (503, Outcome::Unreachable), (302, Outcome::Redirected)]
    {
        let retries = retries();
        let lead = first(turn(&retries, "m").await);
        let (one, two) = (waiting(&retries, "m").await, waiting(&retries, "m").await);
        sleep(SECOND).await;
        lead.answered(kept(status, outcome, "body"));
        check(one.await.unwrap(), "shared", "body");
        check(two.await.unwrap(), "shared", "body");
    }
}

#[tokio::test(start_paused = true)]
async fn an_instances_2xx_is_repeated_for_three_minutes() {
    let retries = retries();
    first(turn(&retries, "m").await).answered(kept(202, Outcome::Forwarded, "body"));
    advance(AGE_MAX - Duration::from_millis(1)).await;
    check(turn(&retries, "m").await, "repeated", "body");
    // To be asked for makes it no younger.
    advance(Duration::from_millis(1)).await;
    first(turn(&retries, "m").await).answered(kept(200, Outcome::Forwarded, "new"));
    check(turn(&retries, "m").await, "repeated", "new");
}

#[tokio::test(start_paused = true)]
async fn nothing_else_is_remembered() {
    for (status, outcome) in [
        (204, Outcome::AskedForGraph),
        (302, Outcome::Redirected),
        (400, Outcome::Placed),
        (404, Outcome::Forwarded),
        (500, Outcome::Placed),
        (502, Outcome::BadAnswer),
        (503, Outcome::PartFailed),
        (200, Outcome::Health),
    ] {
        let retries = retries();
        first(turn(&retries, "m").await).answered(kept(status, outcome, ""));
        let again = turn(&retries, "m").await;
        assert!(matches!(again, Turn::First(_)), "{status} {outcome:?}: {again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_takes_over_when_the_first_is_gone() {
    let retries = retries();
    let lead = first(turn(&retries, "m").await);
    let (one, two) = (waiting(&retries, "m").await, waiting(&retries, "m").await);
    drop(lead);
    tokio::task::yield_now().await;
    let (heir, other) = if one.is_finished() { (one, two) } else { (two, one) };
    let lead = first(heir.await.unwrap());
    assert!(!other.is_finished());
    lead.answered(kept(202, Outcome::Placed, "at last"));
    check(other.await.unwrap(), "shared", "at last");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_there_is_time() {
    let retries = retries();
    let _lead = first(turn(&retries, "m").await);
    let began = Instant::now();
    assert!(matches!(turn(&retries, "m").await, Turn::Late));
    assert_eq!(began.elapsed(), 12 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_is_nobodys() {
    let retries = retries();
    let lead = first(turn(&retries, "m").await);
    let one = waiting(&retries, "m").await;
    let copying = Box::new(Copying::new(lead, kept(200, Outcome::Placed, "")));
    let copying = copying.push(&[b'a'; ANSWER_BYTES_MAX]).unwrap();
    assert!(copying.push(b"b").is_none());
    first(one.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_body_is_copied_whole() {
    let retries = retries();
    let lead = first(turn(&retries, "m").await);
    let copying = Box::new(Copying::new(lead, kept(200, Outcome::Placed, "")));
    copying.push(b"one, ").unwrap().push(b"two").unwrap().complete();
    check(turn(&retries, "m").await, "repeated", "one, two");
}

#[tokio::test(start_paused = true)]
async fn what_differs_in_anything_is_another_message() {
    let id = HeaderValue::from_static("m");
    let other = Uuid::from_u128(3);
    let body = b"{}".as_slice();
    let keys = [
        Key::of(APP, TENANT, "/a", false, &id, body),
        Key::of(other, TENANT, "/a", false, &id, body),
        Key::of(APP, other, "/a", false, &id, body),
        Key::of(TENANT, APP, "/a", false, &id, body),
        Key::of(APP, TENANT, "/b", false, &id, body),
        Key::of(APP, TENANT, "/a", true, &id, body),
        Key::of(APP, TENANT, "/a", false, &HeaderValue::from_static("n"), body),
        Key::of(APP, TENANT, "/a", false, &id, b"{ }"),
        // The same bytes, cut elsewhere.
        Key::of(APP, TENANT, "/am", false, &HeaderValue::from_static(""), body),
        Key::of(APP, TENANT, "/a", false, &HeaderValue::from_static("m{"), b"}"),
    ];
    for (at, one) in keys.iter().enumerate() {
        assert!(keys.iter().enumerate().all(|(place, two)| (place == at) == (one == two)), "{at}");
    }
}

/// Runs on a thread and a runtime of its own, as each worker does.
fn on_a_worker<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
}

#[test]
fn workers_share_what_they_have() {
    let retries = retries();
    let lead = {
        let retries = Arc::clone(&retries);
        first(on_a_worker(async move { turn(&retries, "m").await }).join().unwrap())
    };
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let retries = Arc::clone(&retries);
            on_a_worker(async move { turn(&retries, "m").await })
        })
        .collect();
    on_a_worker(async move { lead.answered(kept(202, Outcome::Placed, "body")) }).join().unwrap();
    for worker in waiting {
        // Whoever came after the answer has it repeated.
        match worker.join().unwrap() {
            Turn::Shared(kept) | Turn::Repeated(kept) => assert_eq!(&*kept.body, b"body"),
            other @ (Turn::First(_) | Turn::Late) => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Come(u8),
    Respond(u8, usize),
    Abandon(u8),
    Wait(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0..12_u8).prop_map(Event::Come),
        4 => (0..12_u8, 0..40_usize).prop_map(|(message, bytes)| Event::Respond(message, bytes)),
        1 => (0..12_u8).prop_map(Event::Abandon),
        1 => (0..40_u64).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn memory_is_bounded_and_every_answer_is_that_of_its_message(events in events()) {
        let limits = Limits { answers: 4, bytes: 100, age: 60 * SECOND };
        let mut table = Table::new(limits);
        let mut now = Instant::now();
        let mut leads = std::collections::HashSet::new();
        for event in events {
            match event {
                Event::Come(message) => match table.begin(key(&message.to_string()), now) {
                    Begin::Lead => prop_assert!(leads.insert(message), "two lead {message}"),
                    Begin::Wait(_) => prop_assert!(leads.contains(&message)),
                    Begin::Repeat(kept) => {
                        prop_assert!(!leads.contains(&message));
                        prop_assert_eq!(kept.reason, Some(REASONS[usize::from(message)]));
                    }
                },
                Event::Respond(message, bytes) if leads.remove(&message) => {
                    let mut answer = kept(200, Outcome::Placed, &"x".repeat(bytes));
                    answer.headers.clear();
                    answer.reason = Some(REASONS[usize::from(message)]);
                    table.answered(key(&message.to_string()), &Arc::new(answer), now);
                }
                Event::Abandon(message) if leads.remove(&message) => {
                    table.abandoned(key(&message.to_string()));
                }
                Event::Respond(..) | Event::Abandon(_) => {}
                Event::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let (messages, bytes) = table.size();
            prop_assert!(messages <= leads.len() + limits.answers, "{messages} messages");
            prop_assert!(bytes <= limits.bytes, "{bytes} bytes");
        }
    }
}

const REASONS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
