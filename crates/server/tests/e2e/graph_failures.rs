//! What Graph and the token endpoint say instead of yes: one error line that says who can help, in words that only this kind
//! of trouble has.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::{
    actions::{ACTION, ANSWER, Stage},
    support::{APP, Reply, Request, Token, bodies, settings::SEALS},
};

const NO_GRAPH: &str = "0efc74f7-41c3-47a4-8775-7259bfef4201";
const NO_AUTHORITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4202";
const GRAPH_WITHOUT_TLS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4203";
const AUTHORITY_WITHOUT_TLS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4204";
const NO_FILE: &str = "0efc74f7-41c3-47a4-8775-7259bfef4205";
const NO_TOKEN_IN_FILE: &str = "0efc74f7-41c3-47a4-8775-7259bfef4206";

const CREDENTIAL: &str = "the app's credential is wrong";
const PERMISSION: &str = "lacks a permission";
const NETWORK: &str = "could not be reached";
const UNKNOWN: &str = "the outcome is unknown";

/// Labels of docs/actions.md that no test of whole processes waits for, or can bring about.
const ELSEWHERE: [&str; 3] = ["token_timeout", "token_signing", "token_interrupted"];

struct Case {
    reason: &'static str,
    says: &'static str,
    app: &'static str,
    /// Of the token endpoint and of Graph, in the order in which they are asked.
    replies: Vec<Reply>,
}

fn real(app: &'static str, reason: &'static str, says: &'static str) -> Case {
    Case { reason, says, app, replies: vec![Stage::token()] }
}

/// Graph refuses, after a token.
fn graph(reply: Reply, reason: &'static str, says: &'static str) -> Case {
    Case { reason, says, app: APP, replies: vec![Stage::token(), reply] }
}

/// The token endpoint refuses.
fn login(reply: Reply, reason: &'static str, says: &'static str) -> Case {
    Case { reason, says, app: APP, replies: vec![reply; 3] }
}

fn code(status: u16, code: &str) -> Reply {
    let body = json!({ "error": { "code": code, "message": "Words that\nname people." } });
    Reply::with(status, &[("Content-Type", "application/json")], &body.to_string())
}

fn aadsts(error: &str, number: u32) -> Reply {
    let body = json!({ "error": error, "error_description": format!("AADSTS{number}: Words."), "error_codes": [number] });
    Reply::with(400, &[("Content-Type", "application/json")], &body.to_string())
}

fn cases() -> Vec<Case> {
    let later = [("Retry-After", "60")];
    vec![
        // These three must not look alike.
        login(aadsts("invalid_client", 7_000_215), "token_invalid_secret", CREDENTIAL),
        graph(code(403, "7504"), "missing_permission", PERMISSION),
        real(NO_GRAPH, "unreachable", NETWORK),
        real(NO_AUTHORITY, "token_unreachable", NETWORK),
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
        login(Reply::with(200, &[], "<html>"), "token_nonsense", "no token endpoint"),
        login(Reply::Reset, "token_lost", "the token endpoint broke the connection"),
        real(AUTHORITY_WITHOUT_TLS, "token_tls", "the token endpoint has no TLS that can be trusted"),
        real(NO_FILE, "token_file_unreadable", "federated token"),
        real(NO_TOKEN_IN_FILE, "token_file_malformed", "federated token"),
        login(Reply::Never, "deadline_passed", "the deadline passed"),
        graph(code(404, "8522"), "call_not_found", "the call is not there"),
        graph(code(409, "Conflict"), "conflict", "already"),
        graph(code(400, "BadRequest"), "bad_request", "does not accept the request"),
        graph(code(403, "7505"), "tenant_mismatch", "of another tenant"),
        graph(code(403, "7503"), "not_registered", "enable calling"),
        graph(Reply::with(429, &later, ""), "throttled", "for 60 s"),
        graph(code(429, "8529"), "monthly_limit", "this month"),
        Case {
            replies: vec![Stage::token(), Reply::status(401), Stage::token(), Reply::status(401)],
            ..real(APP, "unauthorized", "accepts no token of this app")
        },
        graph(Reply::status(503), "unavailable", UNKNOWN),
        graph(code(500, "9999"), "server", UNKNOWN),
        graph(
            Reply::with(200, &[("Content-Type", "text/html")], "<html>"),
            "unexpected",
            "check the endpoint",
        ),
        real(GRAPH_WITHOUT_TLS, "tls", "Graph has no TLS that can be trusted"),
        graph(Reply::Reset, "lost", UNKNOWN),
        graph(Reply::Never, "timeout", UNKNOWN),
    ]
}

/// The labels in the tables of one chapter of docs/actions.md.
fn documented() -> BTreeSet<&'static str> {
    let document = include_str!("../../../../docs/actions.md");
    let (_, chapter) = document.split_once("## What can go wrong with Graph").unwrap();
    let first_cells = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    first_cells.flat_map(|cell| cell.split('`').step_by(2)).filter(|label| !label.trim().is_empty()).collect()
}

/// A server that has never heard of TLS; its origin.
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
async fn each_trouble_is_one_line_that_says_who_can_help() {
    let cases = cases();
    let mut played: BTreeSet<&str> = cases.iter().map(|case| case.reason).collect();
    played.extend(ELSEWHERE);
    assert_eq!(played, documented(), "the tables of docs/actions.md");

    let strange = without_tls().await;
    let nobody = "http://127.0.0.1:9"; // nobody listens there
    let mut stage = Stage::set_around(|settings, origin| {
        let secret = format!("secret = {{ file = \"{}\" }}", SEALS[1].0);
        let federated = |file: &str| format!("federated_token = \"{file}\"");
        [
            (NO_GRAPH, &secret, origin, nobody),
            (NO_AUTHORITY, &secret, nobody, origin),
            (GRAPH_WITHOUT_TLS, &secret, origin, &*strange),
            (AUTHORITY_WITHOUT_TLS, &secret, &*strange, origin),
            (NO_FILE, &federated("no-such-file"), origin, origin),
            (NO_TOKEN_IN_FILE, &federated("switchboard.toml"), origin, origin),
        ]
        .into_iter()
        .fold(settings, |settings, (app, credential, authority, endpoint)| {
            settings.table(&format!(
                "[[app]]\nid = \"{app}\"\ngraph = {{ {credential}, authority = \"{authority}\", endpoint = \"{endpoint}\" }}\n"
            ))
        })
    })
    .await;
    for (number, case) in cases.into_iter().enumerate() {
        check(&mut stage, number, case).await;
    }
}

async fn check(stage: &mut Stage, number: usize, case: Case) {
    let Case { reason, says, app, replies } = case;
    stage.graph.take_back();
    while stage.graph.request_now().is_some() {}
    for reply in replies {
        stage.graph.next(reply);
    }
    // A token is kept for each tenant: only a new one is asked for again.
    let tenant = format!("11111111-2222-4333-8444-{number:012}");
    let token = Token::skype().claim("aud", app).claim("tid", tenant.as_str()).sign();
    let call_id = format!("call-{number}");
    stage.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    // A recording, since nobody waits longer than 5 s for it.
    let answer = Request::webhook(&token, bodies::recording(&call_id)).send(&stage.gateway).await;
    assert_eq!(answer.status(), 202, "{reason}");
    stage.bot.request().await;
    let told = stage.bot.request().await.json();
    assert_eq!((&told["callId"], &told["error"]["code"]), (&json!(call_id), &json!(reason)));

    let is_about = |event: &Value| event["call.id"] == call_id.as_str();
    let line = stage
        .gateway
        .log
        .event(reason, |event| is_about(event) && event["message"] == "request finished")
        .await;
    for (field, value) in
        [("outcome", "acted"), ("action", "answer"), ("action_result", reason), ("instance", "bot-0")]
    {
        assert_eq!(line[field], value, "{reason}: {field}");
    }
    let events = stage.gateway.log.events();
    let errors: Vec<_> = events.iter().filter(|event| is_about(event) && event["level"] == "error").collect();
    let [error] = errors.as_slice() else { panic!("{reason}: {errors:?}") };
    let said = error["error"].as_str().unwrap();
    assert_eq!((&error["reason"], &error["tenant.id"]), (&json!(reason), &json!(tenant)), "{said}");
    assert!(said.contains(says) && !said.contains("name people"), "{reason}: {said}");
    assert_eq!(told["error"]["message"], said);
    for words in [CREDENTIAL, PERMISSION, NETWORK] {
        assert_eq!(said.contains(words), says == words, "{reason}: {said}");
    }
    assert_eq!(told["error"]["outcomeUnknown"], said.contains(UNKNOWN), "{reason}: {said}");
    let labels = [("action", "answer"), ("result", reason)];
    assert_eq!(stage.gateway.metric("switchboard_actions_total", &labels).await, 1.0, "{reason}");
}
