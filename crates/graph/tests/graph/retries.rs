//! Which requests are repeated, and when; on a paused clock.

use std::{iter, sync::Arc, time::Duration};

use switchboard_graph::{Action, GraphError, GraphResponseBody, TransportErrorKind};
use tokio::time::Instant;

use crate::support::{Reply, Script, call, callback, calls, now, reject, tenant};

/// Rejects the call with `seconds` to the deadline. Returns the label of the error, or "done", and the times
/// of the requests in milliseconds.
async fn rejected(script: &Arc<Script>, seconds: u64) -> (&'static str, Vec<u128>) {
    let result = reject(&calls(script), seconds).await;
    (result.as_ref().map_or_else(GraphError::label, |()| "done"), script.times())
}

/// No action is repeated after `reply`.
async fn check_never_repeated(reply: impl Fn() -> Reply, label: &str) {
    for text in [
        r##"{"action":"answer","acceptedModalities":["audio"],
             "mediaConfig":{"@odata.type":"#microsoft.graph.serviceHostedMediaConfig"}}"##,
        r#"{"action":"reject"}"#,
        r#"{"action":"redirect","targets":[{"identity":{"user":{"id":"a"}}}]}"#,
    ] {
        let script = Script::graph([reply()]);
        let action = Action::parse(text.as_bytes()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(12);
        let result = calls(&script).act(tenant(), &call(), &action, &callback(), deadline, now()).await;
        assert_eq!((result.unwrap_err().label(), script.bodies().len()), (label, 1), "{}", action.name());
    }
    let script = Script::graph([reply()]);
    let deadline = Instant::now() + Duration::from_secs(12);
    let result = calls(&script).hang_up(tenant(), &call(), deadline, now()).await;
    assert_eq!((result.unwrap_err().label(), script.bodies().len()), (label, 1), "hang up");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_never_repeated() {
    check_never_repeated(|| Reply::error(TransportErrorKind::Lost), "lost").await;
    check_never_repeated(|| Reply::error(TransportErrorKind::TimedOut), "timeout").await;
    check_never_repeated(|| Reply::status(500), "server").await;
    check_never_repeated(|| Reply::status(502), "server").await;
    check_never_repeated(|| Reply::status(503), "unavailable").await;
    check_never_repeated(|| Reply::status(504), "server").await;
    check_never_repeated(|| Reply::unread(500, GraphResponseBody::CutOff), "server").await;
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_is_not_repeated() {
    check_never_repeated(|| Reply::status(400), "bad_request").await;
    check_never_repeated(|| Reply::status(403), "missing_permission").await;
    check_never_repeated(|| Reply::status(404), "call_not_found").await;
    check_never_repeated(|| Reply::status(409), "conflict").await;
    check_never_repeated(|| Reply::status(302), "unexpected").await;
    check_never_repeated(|| Reply::error(TransportErrorKind::Tls), "tls").await;
    let limit = r#"{"errorCode":"8529","message":"Application reached the monthly call creation limit."}"#;
    check_never_repeated(|| Reply::new(429, &[("retry-after", "1")], limit), "monthly_limit").await;
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured() {
    let throttled = |value: &str| Reply::new(429, &[("retry-after", value)], "");
    let script = Script::graph([throttled("3")]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 3000]));
    let script = Script::graph([throttled("2.128"), throttled("0")]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 2128, 2128]));
    let script = Script::graph([Reply::new(503, &[("Retry-After", "1")], "")]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 1000]));
    // Five seconds after `now()`.
    let script = Script::graph([throttled("Fri, 15 Jan 2027 08:00:05 GMT")]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 5000]));
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_date_is_relative_to_the_response() {
    let date = [("retry-after", "Fri, 15 Jan 2027 08:00:05 GMT")];
    let script = Script::graph([Reply::new(429, &date, "").after(3)]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 5000]));
}

#[tokio::test(start_paused = true)]
async fn without_retry_after_the_back_off_applies() {
    let script = Script::graph([
        Reply::status(429),
        Reply::status(429),
        Reply::new(429, &[("retry-after", "soon")], ""),
    ]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 100, 300, 700]));
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_deadline_fails_at_once() {
    let started = Instant::now();
    let script = Script::graph([Reply::new(429, &[("retry-after", "12")], "")]);
    assert_eq!(rejected(&script, 12).await, ("throttled", vec![0]));
    // The remaining time is too short for an attempt.
    let script = Script::graph([Reply::new(429, &[("retry-after", "11.9")], "")]);
    assert_eq!(rejected(&script, 12).await, ("throttled", vec![0]));
    assert_eq!(started.elapsed(), Duration::ZERO);
    let script = Script::graph([Reply::new(429, &[("retry-after", "11.7")], "")]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 11_700]));
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_tried_again() {
    let refused = || Reply::error(TransportErrorKind::Unreachable);
    let script = Script::graph([refused(), refused()]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 100, 300]));
    let script = Script::graph(iter::repeat_with(refused).take(9));
    assert_eq!(rejected(&script, 12).await, ("unreachable", vec![0, 100, 300, 700, 1500]));
    let script = Script::graph(iter::repeat_with(refused).take(9));
    assert_eq!(rejected(&script, 1).await, ("unreachable", vec![0, 100, 300, 700]));
}

#[tokio::test(start_paused = true)]
async fn keep_alive_and_get_are_repeated_after_an_unknown_outcome() {
    let replies = || {
        [
            Reply::error(TransportErrorKind::Lost),
            Reply::status(500),
            Reply::status(503),
            Reply::new(200, &[], r#"{"state":"established"}"#),
        ]
    };
    let deadline = Instant::now() + Duration::from_secs(12);
    let script = Script::graph(replies());
    calls(&script).keep_alive(tenant(), &call(), deadline, now()).await.unwrap();
    assert_eq!(script.times(), [0, 100, 300, 700]);
    let ids = script.headers("client-request-id");
    assert!(ids.iter().all(|id| id.is_some() && *id == ids[0]), "{ids:?}");
    let script = Script::graph(replies());
    calls(&script).get(tenant(), &call(), deadline, now()).await.unwrap();
    assert_eq!(script.times().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_response_ends_at_the_deadline() {
    let started = Instant::now();
    let script = Script::graph([Reply::never()]);
    let error = reject(&calls(&script), 3).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Graph did not respond in time: the deadline of the call passed; the outcome is unknown"
    );
    assert!(error.is_outcome_unknown());
    assert_eq!(started.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_after_the_deadline() {
    let script = Script::graph([]);
    let calls = calls(&script);
    let error = reject(&calls, 0).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the deadline passed before the request could be sent; nothing was sent to Graph"
    );
    assert_eq!((error.label(), error.is_outcome_unknown()), ("deadline_passed", false));
    // Also with a token in the cache.
    reject(&calls, 5).await.unwrap();
    assert_eq!(reject(&calls, 0).await.unwrap_err().label(), "deadline_passed");
    assert_eq!(script.bodies().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_replaced_once() {
    let script = Script::graph([Reply::status(401)]);
    assert_eq!(rejected(&script, 12).await, ("done", vec![0, 0]));
    let tokens: Vec<_> = script.headers("authorization").into_iter().flatten().collect();
    assert_eq!(tokens, ["Bearer token.1", "Bearer token.2"]);
    let script = Script::graph([Reply::status(401), Reply::status(401), Reply::status(401)]);
    assert_eq!(rejected(&script, 12).await, ("unauthorized", vec![0, 0]));
    // Also after another error.
    let script = Script::graph([Reply::status(429), Reply::status(401), Reply::status(429)]);
    assert_eq!(rejected(&script, 12).await.0, "done");
}

#[tokio::test(start_paused = true)]
async fn a_status_counts_even_if_the_body_breaks_off() {
    for body in [GraphResponseBody::CutOff, GraphResponseBody::TooLarge] {
        let script = Script::graph([Reply::unread(202, body)]);
        assert_eq!(rejected(&script, 12).await, ("done", vec![0]));
    }
}
