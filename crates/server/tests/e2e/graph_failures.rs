//! Failures of Graph and of the token endpoint. Each one is logged as one error that names the remedy, in
//! words that no other kind of failure uses.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    actions::{ACTION, ANSWER, GraphFixture},
    support::{APP, Reply, Request, TENANT, Token, bodies, settings::SEALS},
};

const NO_GRAPH: &str = "0efc74f7-41c3-47a4-8775-7259bfef4201";
const NO_AUTHORITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4202";
const GRAPH_WITHOUT_TLS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4203";
const AUTHORITY_WITHOUT_TLS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4204";
const NO_FILE: &str = "0efc74f7-41c3-47a4-8775-7259bfef4205";
const NO_TOKEN_IN_FILE: &str = "0efc74f7-41c3-47a4-8775-7259bfef4206";
const FEDERATED_IDENTITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4207";
const MANAGED_IDENTITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4208";

/// The words of a failed handshake, instead of those of OpenSSL.
const NOT_TLS: &str =
    "has no TLS that can be trusted: client error (Connect): the server does not speak TLS on this port";
const CREDENTIAL: &str = "the app's credential is wrong";
const PERMISSION: &str = "lacks a permission";
const NETWORK: &str = "could not be reached";
const UNKNOWN: &str = "the outcome is unknown";

/// Labels of docs/actions.md that an end-to-end test cannot provoke, or only by a long wait.
const ELSEWHERE: [&str; 3] = ["token_timeout", "token_signing", "token_interrupted"];

struct Case {
    reason: &'static str,
    /// A part of the error text.
    message: &'static str,
    app: &'static str,
    /// Responses of the token endpoint and of Graph, in the order of the requests.
    replies: Vec<Reply>,
}

/// A failure that the settings of `app` cause.
fn configured(app: &'static str, reason: &'static str, message: &'static str) -> Case {
    Case { reason, message, app, replies: vec![GraphFixture::token_response()] }
}

/// A failure of Graph, after a token.
fn graph(reply: Reply, reason: &'static str, message: &'static str) -> Case {
    Case { reason, message, app: APP, replies: vec![GraphFixture::token_response(), reply] }
}

/// A failure of the token endpoint.
fn login(reply: Reply, reason: &'static str, message: &'static str) -> Case {
    Case { reason, message, app: APP, replies: vec![reply; 3] }
}

fn code(status: u16, code: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": "Words that\nname people." } });
    Reply::with(status, &[("Content-Type", "application/json")], &body.to_string())
}

fn aadsts(error: &str, number: u32) -> Reply {
    let description = format!("AADSTS{number}: Words.");
    let body = json!({ "error": error, "error_description": description, "error_codes": [number] });
    Reply::with(400, &[("Content-Type", "application/json")], &body.to_string())
}

fn cases() -> Vec<Case> {
    let later = [("Retry-After", "60")];
    vec![
        // The texts of these three kinds must differ.
        login(aadsts("invalid_client", 7_000_215), "token_invalid_secret", CREDENTIAL),
        graph(code(403, "7504"), "missing_permission", PERMISSION),
        configured(NO_GRAPH, "unreachable", NETWORK),
        configured(NO_AUTHORITY, "token_unreachable", NETWORK),
        login(aadsts("invalid_client", 7_000_222), "token_expired_secret", CREDENTIAL),
        login(aadsts("invalid_client", 700_027), "token_invalid_assertion", CREDENTIAL),
        login(aadsts("invalid_request", 70_021), "token_not_federated", CREDENTIAL),
        login(aadsts("invalid_client", 1), "token_invalid_client", CREDENTIAL),
        login(aadsts("unauthorized_client", 700_016), "token_unknown_app", "not known in the call's tenant"),
        login(aadsts("unauthorized_client", 7_000_112), "token_disabled_app", "the app is disabled"),
        login(aadsts("invalid_request", 90_002), "token_unknown_tenant", "check the cloud"),
        login(aadsts("interaction_required", 53_003), "token_refused", "AADSTS53003"),
        login(Reply::with(429, &later, ""), "token_throttled", "throttles"),
        login(Reply::with(503, &later, ""), "token_unavailable", "unavailable"),
        login(Reply::with(200, &[], "<html>"), "token_nonsense", "not a token endpoint"),
        login(Reply::Reset, "token_lost", "the token endpoint broke the connection"),
        configured(AUTHORITY_WITHOUT_TLS, "token_tls", NOT_TLS),
        configured(NO_FILE, "token_file_unreadable", "federated token"),
        configured(NO_TOKEN_IN_FILE, "token_file_malformed", "federated token"),
        Case {
            replies: vec![Reply::with(400, &[], "{\"error\":\"invalid_request\"}")],
            ..configured(FEDERATED_IDENTITY, "token_unknown_identity", CREDENTIAL)
        },
        configured(MANAGED_IDENTITY, "token_other_tenant", "tokens for the tenant"),
        login(Reply::Never, "deadline_passed", "the deadline passed"),
        graph(code(404, "8522"), "call_not_found", "the call is not there"),
        graph(code(409, "Conflict"), "conflict", "already"),
        graph(code(400, "BadRequest"), "bad_request", "does not accept the request"),
        graph(code(403, "7505"), "tenant_mismatch", "of another tenant"),
        graph(code(403, "7503"), "not_registered", "enable calling"),
        graph(Reply::with(429, &later, ""), "throttled", "for 60 s"),
        graph(code(429, "8529"), "monthly_limit", "this month"),
        Case {
            replies: vec![
                GraphFixture::token_response(),
                Reply::status(401),
                GraphFixture::token_response(),
                Reply::status(401),
            ],
            ..configured(APP, "unauthorized", "accepts no token of this app")
        },
        graph(Reply::status(503), "unavailable", UNKNOWN),
        graph(code(500, "9999"), "server", UNKNOWN),
        graph(
            Reply::with(200, &[("Content-Type", "text/html")], "<html>"),
            "unexpected",
            "check the endpoint",
        ),
        configured(GRAPH_WITHOUT_TLS, "tls", NOT_TLS),
        graph(Reply::Reset, "lost", UNKNOWN),
        graph(Reply::Never, "timeout", UNKNOWN),
    ]
}

/// Returns the labels in the tables of one section of docs/actions.md.
fn documented() -> BTreeSet<&'static str> {
    let document = include_str!("../../../../docs/actions.md");
    let (_, chapter) = document.split_once("## What can go wrong with Graph").unwrap();
    let first_cells = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    first_cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|label| !label.trim().is_empty()).collect()
}

/// Starts a server without TLS and returns its https origin.
async fn without_tls() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        }
    });
    origin
}

#[tokio::test]
async fn each_failure_of_graph_is_logged_once_with_its_remedy() {
    let cases = cases();
    let mut tested: BTreeSet<&str> = cases.iter().map(|case| case.reason).collect();
    tested.extend(ELSEWHERE);
    assert_eq!(tested, documented(), "the tables of docs/actions.md");

    let plain = without_tls().await;
    // No process listens on port 9.
    let unreachable = "http://127.0.0.1:9";
    let mut fixture = GraphFixture::start_with_origin(|settings, origin| {
        let secret = format!("secret = {{ file = \"{}\" }}", SEALS[1].0);
        let identity = format!("federated_identity = {{ endpoint = \"{origin}/machine\" }}");
        let federated = |file: &str| format!("federated_token = \"{file}\"");
        [
            (NO_GRAPH, &secret, origin, unreachable),
            (NO_AUTHORITY, &secret, unreachable, origin),
            (GRAPH_WITHOUT_TLS, &secret, origin, &*plain),
            (AUTHORITY_WITHOUT_TLS, &secret, &*plain, origin),
            (NO_FILE, &federated("no-such-file"), origin, origin),
            (NO_TOKEN_IN_FILE, &federated("switchboard.toml"), origin, origin),
            (FEDERATED_IDENTITY, &identity, unreachable, origin),
        ]
        .into_iter()
        .fold(settings, |settings, (app, credential, authority, endpoint)| {
            settings.table(&format!(
                "[[app]]\nid = \"{app}\"\n\
                 graph = {{ {credential}, authority = \"{authority}\", endpoint = \"{endpoint}\" }}\n"
            ))
        })
        .table(&format!(
            "[[app]]\nid = \"{MANAGED_IDENTITY}\"\n\
             graph = {{ managed_identity = {{ tenant = \"{TENANT}\" }}, endpoint = \"{origin}\" }}\n"
        ))
    })
    .await;
    for (number, case) in cases.into_iter().enumerate() {
        check(&mut fixture, number, case).await;
    }
}

async fn check(fixture: &mut GraphFixture, number: usize, case: Case) {
    let Case { reason, message, app, replies } = case;
    fixture.graph.clear_next();
    while fixture.graph.request_now().is_some() {}
    for reply in replies {
        fixture.graph.next(reply);
    }
    // The gateway keeps a token per tenant: only a new tenant causes a request for a token.
    let tenant = format!("11111111-2222-4333-8444-{number:012}");
    let token = Token::skype().claim("aud", app).claim("tid", tenant.as_str()).sign();
    let call_id = format!("call-{number}");
    fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    // A recording, since its deadline is the shortest: 5 s.
    let response = Request::webhook(&token, bodies::recording(&call_id)).send(&fixture.gateway).await;
    assert_eq!(response.status(), 202, "{reason}");
    fixture.bot.request().await;
    let notice = fixture.bot.request().await.json();
    assert_eq!((&notice["callId"], &notice["error"]["code"]), (&json!(call_id), &json!(reason)));

    let is_about = |event: &Value| event["call.id"] == call_id.as_str();
    let line = fixture
        .gateway
        .log
        .event(reason, |event| is_about(event) && event["message"] == "request finished")
        .await;
    for (field, value) in
        [("outcome", "acted"), ("action", "answer"), ("action_result", reason), ("instance", "bot-0")]
    {
        assert_eq!(line[field], value, "{reason}: {field}");
    }
    let events = fixture.gateway.log.events();
    let errors: Vec<_> = events.iter().filter(|event| is_about(event) && event["level"] == "error").collect();
    let [error] = errors.as_slice() else { panic!("{reason}: {errors:?}") };
    let text = error["error"].as_str().unwrap();
    assert_eq!((&error["reason"], &error["tenant.id"]), (&json!(reason), &json!(tenant)), "{text}");
    assert!(text.contains(message) && !text.contains("name people"), "{reason}: {text}");
    assert_eq!(notice["error"]["message"], text);
    for words in [CREDENTIAL, PERMISSION, NETWORK] {
        assert_eq!(text.contains(words), message == words, "{reason}: {text}");
    }
    assert_eq!(notice["error"]["outcomeUnknown"], text.contains(UNKNOWN), "{reason}: {text}");
    let labels = [("action", "answer"), ("result", reason)];
    assert_eq!(fixture.gateway.metric("switchboard_actions_total", &labels).await, 1.0, "{reason}");
}
