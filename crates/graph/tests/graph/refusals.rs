//! Each error of an action on a call: its label and its line.

use std::{iter, sync::Arc, time::Duration};

use switchboard_graph::{
    CallResult, GraphCall, GraphCallState, GraphError, GraphRefusal, GraphResponseBody, TransportErrorKind,
};
use tokio::time::Instant;

use crate::support::{Reply, Script, call, calls, now, reject, tenant};

const DOCUMENT: &str = include_str!("../../../../docs/actions.md");

/// Graph responds to a rejection with `reply`.
#[track_caller]
fn check(reply: Reply, label: &str, line: &str) -> GraphError {
    let error = run(&Script::graph([reply]));
    judge(&error, label, line);
    error
}

/// The token endpoint responds with `reply` to every request.
#[track_caller]
fn check_token(reply: impl Fn() -> Reply, label: &str, line: &str) -> GraphError {
    let error = run(&Script::new(iter::repeat_with(reply).take(5), []));
    judge(&error, label, line);
    assert!(!error.is_outcome_unknown());
    error
}

/// Returns the error of a rejection with 15 seconds to its deadline.
fn run(script: &Arc<Script>) -> GraphError {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(reject(&calls(script), 15)).unwrap_err()
}

#[track_caller]
fn judge(error: &GraphError, label: &str, line: &str) {
    assert_eq!((error.label(), error.to_string().as_str()), (label, line));
    assert!(DOCUMENT.contains(&format!("`{label}`")), "{label} is not documented");
    assert!(!line.contains('\n') && std::error::Error::source(error).is_none());
}

fn graph(code: &str) -> String {
    format!(
        r#"{{"error":{{"code":"{code}","message":"Words.","innerError":{{
             "date":"2026-01-01T00:00:00","request-id":"f5000000-0000-4b00-8000-000000000205",
             "client-request-id":"f5000000-0000-4b00-8000-000000000206"}}}}}}"#
    )
}

fn service(code: &str) -> String {
    format!(r#"{{"errorCode":"{code}","message":"Words.","instanceAnnotations":[]}}"#)
}

#[test]
fn codes_of_the_calls_service_are_read_in_both_shapes() {
    let rows = [
        (404, "8522", "call_not_found", "the call is not there: it has ended, or the request came too late"),
        (
            403,
            "7504",
            "missing_permission",
            "the app lacks a permission in the call's tenant: grant it, and have an administrator consent",
        ),
        (403, "7505", "tenant_mismatch", "the call is of another tenant than the token"),
        (
            403,
            "7503",
            "not_registered",
            "the app is not registered for calling: enable calling in the bot's Teams channel",
        ),
        (429, "8529", "monthly_limit", "the app has reached its limit of calls for this month"),
        (500, "9999", "server", "Graph failed, the outcome is unknown"),
        (409, "Conflict", "conflict", "the call was already answered, rejected, redirected or ended"),
        (400, "BadRequest", "bad_request", "Graph does not accept the request"),
    ];
    for (status, code, label, meaning) in rows {
        let responded = format!("Graph responded {status}, code {code}");
        let id = "request-id f5000000-0000-4b00-8000-000000000205";
        check(Reply::new(status, &[], &graph(code)), label, &format!("{meaning} ({responded}, {id})"));
        check(Reply::new(status, &[], &service(code)), label, &format!("{meaning} ({responded})"));
        // The second shape inside the first, as Graph has sent it.
        let wrapped = graph("UnknownError").replace("Words.", &service(code).replace('"', "\\\""));
        let error =
            check(Reply::new(status, &[], &wrapped), label, &format!("{meaning} ({responded}, {id})"));
        let GraphError::Refused(refusal) = error else { panic!("{error}") };
        assert_eq!((refusal.code(), refusal.message()), (Some(code), Some("Words.")));
    }
}

#[test]
fn without_a_code_the_status_decides() {
    let rows = [
        (404, "call_not_found", "the call is not there: it has ended, or the request came too late"),
        (
            403,
            "missing_permission",
            "the app lacks a permission in the call's tenant: grant it, and have an administrator consent",
        ),
        (409, "conflict", "the call was already answered, rejected, redirected or ended"),
        (412, "conflict", "the call was already answered, rejected, redirected or ended"),
        (400, "bad_request", "Graph does not accept the request"),
        (405, "bad_request", "Graph does not accept the request"),
        (500, "server", "Graph failed, the outcome is unknown"),
        (502, "server", "Graph failed, the outcome is unknown"),
        (503, "unavailable", "Graph is unavailable, the outcome is unknown"),
        (302, "unexpected", "the response is not one of the calls API: check the endpoint"),
        (199, "unexpected", "the response is not one of the calls API: check the endpoint"),
        (600, "unexpected", "the response is not one of the calls API: check the endpoint"),
    ];
    let deep = "[".repeat(60_000);
    let bodies = [
        "",
        "<html><h1>Forbidden</h1></html>",
        "{}",
        "[]",
        "null",
        r#"{"error":"no"}"#,
        r#"{"error":{"code":[]}}"#,
        &deep,
    ];
    for (status, label, meaning) in rows {
        for body in bodies {
            let line = format!("{meaning} (Graph responded {status} without a code)");
            check(Reply::new(status, &[], body), label, &line);
        }
        for body in [
            GraphResponseBody::TooLarge,
            GraphResponseBody::CutOff,
            GraphResponseBody::Whole(vec![b' '; 2 << 20]),
        ] {
            let line = format!("{meaning} (Graph responded {status} without a code)");
            check(Reply::unread(status, body), label, &line);
        }
    }
}

#[test]
fn the_line_contains_the_wait_of_a_throttled_request() {
    let body = graph("TooManyRequests");
    let id = "request-id f5000000-0000-4b00-8000-000000000205";
    check(
        Reply::new(429, &[("Retry-After", "60.5")], &body),
        "throttled",
        &format!(
            "the app makes too many requests and is throttled, for 60.5 s \
             (Graph responded 429, code TooManyRequests, {id})"
        ),
    );
    check(
        Reply::new(503, &[("retry-after", "120")], ""),
        "unavailable",
        "Graph is unavailable, for 120 s (Graph responded 503 without a code)",
    );
}

#[test]
fn a_second_401_is_an_error() {
    let script = Script::graph([Reply::status(401), Reply::status(401)]);
    let error = run(&script);
    judge(
        &error,
        "unauthorized",
        "Graph accepts no token of this app, not even a new one (Graph responded 401 without a code)",
    );
    assert_eq!(script.token_requests(), 2);
}

#[test]
fn texts_of_graph_are_bounded_and_printable() {
    let body = format!(
        r#"{{"error":{{"code":"a\u0000b\r\nc{0}","message":"\u001b[2J\u202e{0}",
             "innerError":{{"request-id":"x\ny{0}"}}}}}}"#,
        "z".repeat(1000)
    );
    let error = run(&Script::graph([Reply::new(400, &[], &body)]));
    let GraphError::Refused(refusal) = &error else { panic!("{error}") };
    assert!(refusal.code().unwrap().starts_with(r"a\0b\r\ncz") && refusal.code().unwrap().len() == 64);
    assert!(refusal.request_id().unwrap().starts_with(r"x\nyz") && refusal.request_id().unwrap().len() == 64);
    assert!(
        refusal.message().unwrap().starts_with(r"\u{1b}[2J\u{202e}z")
            && refusal.message().unwrap().len() == 300
    );
    // Graph's own message may contain names of people, so it is for the bot and not for the line.
    assert!(!error.to_string().contains("[2J"), "{error}");
    assert!(error.to_string().len() < 250, "{error}");
}

#[test]
fn the_request_id_of_the_head_comes_first() {
    let error =
        run(&Script::graph([Reply::new(400, &[("Request-Id", "from-the-head")], &graph("BadRequest"))]));
    let GraphError::Refused(refusal) = &error else { panic!("{error}") };
    assert_eq!(refusal.request_id(), Some("from-the-head"));
    let by_number = run(&Script::graph([Reply::new(403, &[], r#"{"errorCode":7505}"#)]));
    assert_eq!(by_number.label(), "tenant_mismatch");
}

#[test]
fn a_transport_error_decides_the_outcome() {
    use TransportErrorKind::{Lost, TimedOut, Tls, Unreachable};
    let rows = [
        (Unreachable, "unreachable", "could not be reached", "nothing was sent"),
        (Tls, "tls", "has no TLS that can be trusted", "nothing was sent"),
        (Lost, "lost", "broke the connection", "the outcome is unknown"),
        (TimedOut, "timeout", "did not respond in time", "the outcome is unknown"),
    ];
    for (failure, label, meaning, consequence) in rows {
        let error = run(&Script::graph(iter::repeat_with(|| Reply::error(failure)).take(9)));
        judge(&error, label, &format!("Graph {meaning}: Connection refused (os error 111); {consequence}"));
        assert_eq!(error.is_outcome_unknown(), consequence == "the outcome is unknown");
        check_token(
            || Reply::error(failure),
            &format!("token_{label}"),
            &format!("the token endpoint {meaning}: Connection refused (os error 111)"),
        );
    }
}

#[test]
fn the_outcome_is_unknown_if_graph_may_have_acted() {
    let unknown = |reply| {
        let error = run(&Script::graph([reply]));
        assert_eq!(
            error.to_string().contains("the outcome is unknown"),
            error.is_outcome_unknown(),
            "{error}"
        );
        error.is_outcome_unknown()
    };
    for reply in [Reply::status(500), Reply::status(502), Reply::status(503), Reply::status(504)] {
        assert!(unknown(reply));
    }
    for reply in [
        Reply::status(400),
        Reply::status(403),
        Reply::status(404),
        Reply::status(409),
        Reply::new(429, &[("retry-after", "100")], ""),
        Reply::new(503, &[("retry-after", "100")], ""),
    ] {
        assert!(!unknown(reply));
    }
}

/// Returns Entra's error document for `code`.
fn entra(error: &str, code: u32) -> String {
    format!(
        r#"{{"error":"{error}","error_description":"AADSTS{code}: Words. Trace ID: x","error_codes":[{code}],
             "timestamp":"2026-01-01 00:00:00Z","trace_id":"f5000000-0000-4b00-8000-000000000205",
             "correlation_id":"x","error_uri":"https://login.microsoftonline.com/error?code={code}"}}"#
    )
}

#[test]
fn refusals_of_entra_have_different_labels_and_lines() {
    let trace = "trace id f5000000-0000-4b00-8000-000000000205";
    let secret = "the app's credential is wrong: Entra does not know the client secret; \
                  configure its value, not its id";
    let assertion = "the app's credential is wrong: Entra does not accept the assertion; \
                     upload this certificate, check the clock";
    let federated =
        "the app's credential is wrong: no federated credential of the app fits the token that it sent";
    let app = "the app is not known in the call's tenant: check its id, or have an administrator consent";
    let unknown_tenant = "Entra does not know the call's tenant: check the cloud";
    let rows = [
        (401, "invalid_client", 7_000_215, "token_invalid_secret", secret, true),
        (
            401,
            "invalid_client",
            7_000_222,
            "token_expired_secret",
            "the app's credential is wrong: the client secret has expired",
            true,
        ),
        (401, "invalid_client", 700_027, "token_invalid_assertion", assertion, true),
        (401, "invalid_client", 700_024, "token_invalid_assertion", assertion, true),
        (401, "invalid_client", 700_213, "token_not_federated", federated, true),
        (400, "invalid_request", 70_021, "token_not_federated", federated, true),
        (401, "invalid_client", 1, "token_invalid_client", "the app's credential is wrong", true),
        (400, "unauthorized_client", 700_016, "token_unknown_app", app, false),
        (401, "invalid_client", 7_000_229, "token_unknown_app", app, false),
        (401, "unauthorized_client", 7_000_112, "token_disabled_app", "the app is disabled", false),
        (400, "invalid_request", 90_002, "token_unknown_tenant", unknown_tenant, false),
        (400, "invalid_scope", 70_011, "token_refused", "Entra does not issue a token to the app", false),
    ];
    for (status, error, code, label, meaning, wrong_credential) in rows {
        let body = entra(error, code);
        let found = check_token(
            || Reply::new(status, &[], &body),
            label,
            &format!("{meaning} (AADSTS{code}, {trace})"),
        );
        let GraphError::Token(switchboard_graph::TokenError::Refused { reason, .. }) = found else {
            panic!("{found}")
        };
        assert_eq!(reason.is_wrong_credential(), wrong_credential);
        let short = format!(r#"{{"error":"{error}","error_description":"AADSTS{code}: Words."}}"#);
        check_token(|| Reply::new(status, &[], &short), label, &format!("{meaning} (AADSTS{code})"));
    }
    check_token(
        || Reply::new(400, &[], r#"{"error":"access_denied"}"#),
        "token_refused",
        "Entra does not issue a token to the app (Entra gave no AADSTS code)",
    );
}

#[test]
fn other_responses_are_not_from_a_token_endpoint() {
    let not_a_token = |status| {
        format!("not a token endpoint: it responded {status} with neither a token nor an OAuth error")
    };
    let deep = format!(r#"{{"token_type":{}"#, "[".repeat(60_000));
    let long = "x".repeat(15 * 1024 + 1);
    let tokens = [
        "",
        "<html>",
        "{}",
        "[]",
        r#"{"token_type":"Bearer","expires_in":3599}"#,
        r#"{"token_type":"mac","expires_in":3599,"access_token":"a"}"#,
        r#"{"token_type":"Bearer","expires_in":0,"access_token":"a"}"#,
        r#"{"token_type":"Bearer","expires_in":-1,"access_token":"a"}"#,
        r#"{"token_type":"Bearer","expires_in":1.5e300,"access_token":"a"}"#,
        r#"{"token_type":"Bearer","expires_in":"soon","access_token":"a"}"#,
        r#"{"token_type":"Bearer","access_token":"a"}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":""}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a\r\nHost: evil"}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a b"}"#,
        &format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{long}"}}"#),
        &deep,
    ];
    for body in tokens {
        check_token(|| Reply::new(200, &[], body), "token_nonsense", &not_a_token(200));
    }
    for (status, body) in [(404, "<html>"), (400, "{}"), (302, ""), (204, ""), (401, "[]"), (418, &deep)] {
        check_token(|| Reply::new(status, &[], body), "token_nonsense", &not_a_token(status));
    }
    check_token(|| Reply::unread(200, GraphResponseBody::TooLarge), "token_nonsense", &not_a_token(200));
    check_token(|| Reply::unread(200, GraphResponseBody::CutOff), "token_nonsense", &not_a_token(200));
}

#[test]
fn a_token_endpoint_may_be_throttling_or_unavailable() {
    check_token(
        || Reply::new(429, &[("retry-after", "60")], ""),
        "token_throttled",
        "the token endpoint throttles the app",
    );
    check_token(
        || Reply::status(503),
        "token_unavailable",
        "the token endpoint is unavailable: it responded 503",
    );
    check_token(
        || Reply::new(400, &[], r#"{"error":"temporarily_unavailable","error_codes":[90033]}"#),
        "token_unavailable",
        "the token endpoint is unavailable: it responded 400",
    );
}

/// Returns the result of `get` when Graph responds with `reply`.
async fn got(reply: Reply) -> Result<GraphCall, GraphError> {
    let script = Script::graph([reply]);
    calls(&script).get(tenant(), &call(), Instant::now() + Duration::from_secs(5), now()).await
}

#[tokio::test]
async fn get_returns_the_state_and_the_result() {
    let alive =
        got(Reply::new(200, &[], r##"{"@odata.type":"#microsoft.graph.call","state":"Established"}"##)).await;
    assert_eq!(alive.unwrap(), GraphCall { state: Some(GraphCallState::Established), result: None });
    let ended =
        got(Reply::new(200, &[], r#"{"state":"terminated","resultInfo":{"code":408,"subcode":"8537"}}"#))
            .await;
    let result = Some(CallResult { code: Some(408), subcode: Some(8537) });
    assert_eq!(ended.unwrap(), GraphCall { state: Some(GraphCallState::Terminated), result });
    let odd = got(Reply::new(200, &[], r#"{"state":"new\nstate","resultInfo":[]}"#)).await;
    assert_eq!(
        odd.unwrap(),
        GraphCall { state: Some(GraphCallState::Other(r"new\nstate".to_owned())), result: None }
    );
    let empty = got(Reply::new(200, &[], "{}")).await;
    assert_eq!(empty.unwrap(), GraphCall { state: None, result: None });
    for body in ["", "[]", "<html>"] {
        let error = got(Reply::new(200, &[], body)).await.unwrap_err();
        judge(
            &error,
            "unexpected",
            "the response is not one of the calls API: check the endpoint \
             (Graph responded 200 without a code)",
        );
    }
    let large = got(Reply::unread(200, GraphResponseBody::TooLarge)).await.unwrap_err();
    assert_eq!(large.label(), "unexpected");
}

#[test]
fn an_html_page_is_not_a_success() {
    let line =
        "the response is not one of the calls API: check the endpoint (Graph responded 200 without a code)";
    for kind in ["text/html", "Text/HTML; charset=utf-8"] {
        check(Reply::new(200, &[("content-type", kind)], "<title>Sign in</title>"), "unexpected", line);
    }
}

#[test]
fn a_refusal_can_be_cloned_and_compared() {
    let error = run(&Script::graph([Reply::status(404)]));
    let GraphError::Refused(refusal) = error else { panic!("{error}") };
    let copy: GraphRefusal = refusal.clone();
    assert_eq!(copy, refusal);
}
