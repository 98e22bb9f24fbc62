//! One token per tenant, one request for all callers; on a paused clock, except in tests with several
//! runtimes.

use std::{
    iter,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

use switchboard_graph::{
    Calls, Credential, GraphError, GraphRequest, GraphResponse, GraphResponseBody, Reject, Transport,
    TransportError, TransportErrorKind,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Semaphore,
    time::{Instant, advance},
};
use uuid::Uuid;

use crate::support::{Reply, SECRET, Script, call, callback, calls, now, reject, settings};

#[tokio::test(start_paused = true)]
async fn a_token_is_reused() {
    let script = Script::graph([]);
    let calls = calls(&script);
    for _ in 0..5 {
        reject(&calls, 5).await.unwrap();
    }
    assert_eq!(script.token_requests(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_tenant_has_its_own_token() {
    let script = Script::graph([]);
    let calls = calls(&script);
    for tenant in [1, 2, 1, 2] {
        let deadline = Instant::now() + Duration::from_secs(5);
        let tenant = Uuid::from_u128(tenant);
        calls.reject(tenant, &call(), Reject::default(), Some(&callback()), deadline, now()).await.unwrap();
    }
    assert_eq!(script.token_requests(), 2);
    assert!(script.lines()[0].contains("/00000000-0000-0000-0000-000000000001/oauth2/v2.0/token"));
}

/// Runs the other tasks until they wait.
async fn settle() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_in_the_background_before_it_expires() {
    let script = Script::new([Reply::token("old", 3600), Reply::token("new", 3600).after(2)], []);
    let calls = calls(&script);
    let mut at = 0;
    for second in [0, 3299, 3300, 3301, 3303, 6000] {
        advance(Duration::from_secs(second - at)).await;
        at = second;
        settle().await;
        reject(&calls, 5).await.unwrap();
        settle().await;
    }
    let tokens: Vec<_> = script.headers("authorization").into_iter().flatten().collect();
    assert_eq!(tokens, ["Bearer old", "Bearer old", "Bearer old", "Bearer old", "Bearer new", "Bearer new"]);
    assert_eq!(script.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_short_lived_token_is_renewed_after_four_fifths() {
    let script = Script::new([Reply::token("old", 100), Reply::token("new", 100)], []);
    let calls = calls(&script);
    reject(&calls, 5).await.unwrap();
    advance(Duration::from_secs(79)).await;
    reject(&calls, 5).await.unwrap();
    settle().await;
    assert_eq!(script.token_requests(), 1);
    advance(Duration::from_secs(1)).await;
    reject(&calls, 5).await.unwrap();
    settle().await;
    assert_eq!(script.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_renewal_is_repeated_until_the_old_token_expires() {
    let refusals = iter::repeat_with(|| Reply::new(400, &[], r#"{"error":"invalid_client"}"#)).take(1000);
    let script = Script::new([Reply::token("old", 3600)].into_iter().chain(refusals), []);
    let calls = calls(&script);
    reject(&calls, 5).await.unwrap();
    advance(Duration::from_secs(3300)).await;
    for _ in 0..20 {
        for _ in 0..3 {
            reject(&calls, 5).await.unwrap();
            settle().await;
        }
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(script.token_requests(), 1 + 4);
    advance(Duration::from_secs(250)).await;
    assert_eq!(reject(&calls, 5).await.unwrap_err().label(), "token_invalid_client");
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_request() {
    let script = Script::new([Reply::token("one", 3600).after(1)], []);
    let calls = Arc::new(calls(&script));
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { reject(&calls, 5).await })
        })
        .collect();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert_eq!((script.token_requests(), script.bodies().len()), (1, 100));
}

#[tokio::test(start_paused = true)]
async fn many_waiters_share_one_failure_and_the_next_caller_starts_a_request() {
    let refused = Reply::new(401, &[], r#"{"error":"invalid_client","error_codes":[7000215]}"#).after(1);
    let script = Script::new([refused], []);
    let calls = Arc::new(calls(&script));
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let calls = Arc::clone(&calls);
            tokio::spawn(async move { reject(&calls, 5).await })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap().unwrap_err().label(), "token_invalid_secret");
    }
    assert_eq!(script.token_requests(), 1);
    reject(&calls, 5).await.unwrap();
    assert_eq!(script.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_caller_does_not_cancel_the_request() {
    let script = Script::new([Reply::token("one", 3600).after(3)], []);
    let calls = Arc::new(calls(&script));
    assert_eq!(reject(&calls, 1).await.unwrap_err().label(), "deadline_passed");
    assert_eq!(reject(&calls, 1).await.unwrap_err().label(), "deadline_passed");
    let started = Instant::now();
    reject(&calls, 5).await.unwrap();
    assert_eq!((started.elapsed().as_secs(), script.token_requests()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_token_request_is_repeated_if_that_can_help() {
    let rows: [fn() -> Reply; 5] = [
        || Reply::error(TransportErrorKind::Unreachable),
        || Reply::error(TransportErrorKind::Lost),
        || Reply::status(500),
        || Reply::new(429, &[("retry-after", "1.5")], ""),
        Reply::never,
    ];
    for reply in rows {
        let script = Script::new([reply()], []);
        reject(&calls(&script), 12).await.unwrap();
        assert_eq!(script.token_requests(), 2);
    }
    let script = Script::new(iter::repeat_with(|| Reply::status(502)).take(9), []);
    assert_eq!(reject(&calls(&script), 12).await.unwrap_err().label(), "token_unavailable");
    assert_eq!(script.token_requests(), 3);
    for reply in [
        Reply::error(TransportErrorKind::Tls),
        Reply::new(401, &[], r#"{"error":"invalid_client"}"#),
        Reply::new(200, &[], "<html>"),
        Reply::new(429, &[("retry-after", "60")], ""),
    ] {
        let script = Script::new([reply], []);
        reject(&calls(&script), 12).await.unwrap_err();
        assert_eq!(script.token_requests(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_endpoint_that_hangs_is_given_up_after_ten_seconds() {
    let script = Script::new([Reply::never(), Reply::never(), Reply::never()], []);
    let started = Instant::now();
    let error = reject(&calls(&script), 60).await.unwrap_err();
    assert_eq!((error.label(), started.elapsed().as_secs()), ("token_timeout", 10));
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_not_dropped_with_an_old_one() {
    // Two calls use the first token and both get 401. The second gets it after the first has obtained a new
    // token.
    let script =
        Script::graph([Reply::status(202), Reply::status(401).after(1), Reply::status(401).after(2)]);
    let calls = calls(&script);
    reject(&calls, 5).await.unwrap();
    let (first, second) = tokio::join!(reject(&calls, 5), reject(&calls, 5));
    first.unwrap();
    second.unwrap();
    assert_eq!(script.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lifetime_may_be_a_string() {
    let body = r#"{"token_type":"bearer","expires_in":"3599","ext_expires_in":"3599","access_token":"a"}"#;
    let script = Script::new([Reply::new(200, &[], body)], []);
    reject(&calls(&script), 5).await.unwrap();
    let body = r#"{"token_type":"Bearer","expires_in":18446744073709551615,"access_token":"a"}"#;
    let script = Script::new([Reply::new(200, &[], body)], []);
    let calls = calls(&script);
    reject(&calls, 5).await.unwrap();
    advance(Duration::from_secs(25 * 3600)).await;
    reject(&calls, 5).await.unwrap();
    assert_eq!(script.token_requests(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_tenants_is_bounded() {
    let script = Script::graph([]);
    let calls = calls(&script);
    for tenant in (0..6000).chain([0]) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let tenant = Uuid::from_u128(tenant);
        calls.reject(tenant, &call(), Reject::default(), Some(&callback()), deadline, now()).await.unwrap();
    }
    // The token of the first tenant was evicted.
    assert_eq!(script.token_requests(), 6001);
}

/// A token endpoint that responds only after its gate is open.
struct Gated {
    gate: Semaphore,
    requests: AtomicUsize,
}

impl Transport for Gated {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        Box::pin(async move {
            let (status, body) = if request.url.path().ends_with("/token") {
                self.requests.fetch_add(1, Ordering::Relaxed);
                let _open = self.gate.acquire().await.unwrap();
                (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#)
            } else {
                (202, "")
            };
            Ok(GraphResponse {
                status,
                headers: Vec::new(),
                body: GraphResponseBody::Whole(body.as_bytes().to_vec()),
            })
        })
    }
}

fn gated() -> (Arc<Gated>, Arc<Calls>) {
    let transport = Arc::new(Gated { gate: Semaphore::new(0), requests: AtomicUsize::new(0) });
    let shared: Arc<Gated> = Arc::clone(&transport);
    (transport, Arc::new(Calls::new(settings(Credential::secret(SECRET).unwrap()), shared)))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// Polls `future` once and asserts that it waits.
fn poll_once<F: Future<Output = Result<(), GraphError>>>(future: Pin<&mut F>) {
    assert!(matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Pending));
}

#[test]
fn waiters_of_several_runtimes_share_one_request() {
    let (transport, calls) = gated();
    let ready = Arc::new(std::sync::Barrier::new(3));
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (calls, ready) = (Arc::clone(&calls), Arc::clone(&ready));
            thread::spawn(move || {
                runtime().block_on(async {
                    let mut waiting = pin!(reject(&calls, 60));
                    poll_once(waiting.as_mut());
                    ready.wait();
                    waiting.await
                })
            })
        })
        .collect();
    ready.wait();
    transport.gate.add_permits(1);
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
    assert_eq!(transport.requests.load(Ordering::Relaxed), 1);
}

#[test]
fn a_request_is_started_again_if_its_runtime_shuts_down() {
    let (transport, calls) = gated();
    let (first, second) = (runtime(), runtime());
    first.block_on(async {
        let mut waiting = pin!(reject(&calls, 60));
        poll_once(waiting.as_mut());
        // The task of the request runs, and waits at the gate.
        tokio::task::yield_now().await;
    });
    assert_eq!(transport.requests.load(Ordering::Relaxed), 1);
    second.block_on(async {
        let mut waiting = pin!(reject(&calls, 60));
        poll_once(waiting.as_mut());
        thread::scope(|scope| scope.spawn(|| drop(first)).join().unwrap());
        transport.gate.add_permits(1);
        waiting.await.unwrap();
    });
    assert_eq!(transport.requests.load(Ordering::Relaxed), 2);
}
