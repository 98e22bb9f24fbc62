//! The Graph calls API: tokens and permissions, bodies, and the phases of a call.

use serde_json::{Value, json};
use switchboard_emulator::{CallEvent, CallKind, Permission, Platform, Protocol, Timeline, TokenRequest};
use uuid::Uuid;

use crate::support::{APP, Act, Reply, TENANT, Webhook, call_to, guarded, send};

/// A live call: its path, and the timeline and webhook that keep it alive.
async fn live(platform: &Platform, kind: CallKind) -> (String, Timeline, Webhook) {
    let webhook = Webhook::start(platform, |_, _| Act::status(202)).await;
    let mut call = call_to(&webhook.url()).with_kind(kind);
    call.protocol = Protocol::Graph;
    call.duration = std::time::Duration::from_secs(600);
    let mut timeline = platform.call(call).unwrap();
    let Some(CallEvent::Call(placed)) = timeline.next().await else {
        panic!("the first event names the call")
    };
    (format!("/v1.0/communications/calls/{}", placed.call), timeline, webhook)
}

fn graph_token(platform: &Platform, app: Uuid, tenant: Uuid, roles: &[&str], more: &Value) -> String {
    let mut claims = json!({"aud": "https://graph.microsoft.com", "appid": app.to_string(), "roles": roles});
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let mut request = TokenRequest::new(APP, tenant);
    request.choice = "entra-v1".parse().unwrap();
    request.overrides = claims.to_string().parse().unwrap();
    platform.token(&request).unwrap().compact
}

async fn ask(platform: &Platform, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    send(platform.address(), method, path, &headers, &body.to_string()).await
}

#[track_caller]
fn check(what: &str, reply: &Reply, status: u16, code: &str) {
    let document = reply.json();
    let seen = (reply.status, document["error"]["code"].as_str().unwrap_or_default());
    assert_eq!(seen, (status, code), "{what}: {}", reply.body);
    let inner = &document["error"]["innerError"];
    assert!(["date", "request-id", "client-request-id"].iter().all(|name| inner[name].is_string()), "{what}");
}

fn answer() -> Value {
    json!({
        "callbackUri": "https://bot.example/callbacks/1",
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    })
}

#[tokio::test]
async fn a_token_of_the_calls_app_and_tenant_is_required() {
    let platform = guarded().await;
    let (path, _timeline, _webhook) = live(&platform, CallKind::P2p).await;
    let token = |more: Value| graph_token(&platform, APP, TENANT, &[], &more);
    let good = token(json!({}));
    let skype = platform.token(&TokenRequest::new(APP, TENANT)).unwrap().compact;
    let other = Uuid::from_u128(7);
    let flawed = |flaw: &str| {
        let choice = format!("entra-v1+{flaw}").parse().unwrap();
        let mut request = TokenRequest { choice, ..TokenRequest::new(APP, TENANT) };
        request.overrides = json!({"aud": "https://graph.microsoft.com", "appid": APP.to_string()})
            .to_string()
            .parse()
            .unwrap();
        platform.token(&request).unwrap().compact
    };
    for (what, token, status, code) in [
        ("no token", None, 401, "InvalidAuthenticationToken"),
        ("garbage", Some("x".to_owned()), 401, "InvalidAuthenticationToken"),
        ("a token of the calling service", Some(skype), 401, "InvalidAuthenticationToken"),
        (
            "another audience",
            Some(token(json!({"aud": "https://x.example"}))),
            401,
            "InvalidAuthenticationToken",
        ),
        ("expired", Some(token(json!({"exp": 1}))), 401, "InvalidAuthenticationToken"),
        ("not yet valid", Some(token(json!({"nbf": 99_999_999_999_i64}))), 401, "InvalidAuthenticationToken"),
        ("forged", Some(flawed("forged")), 401, "InvalidAuthenticationToken"),
        ("unsigned", Some(flawed("unsigned")), 401, "InvalidAuthenticationToken"),
        ("bound to a key", Some(flawed("bound")), 401, "InvalidAuthenticationToken"),
        ("another tenant", Some(graph_token(&platform, APP, other, &[], &json!({}))), 403, "7505"),
        ("another app", Some(graph_token(&platform, other, TENANT, &[], &json!({}))), 404, "8522"),
    ] {
        let reply = ask(&platform, "POST", &format!("{path}/answer"), token.as_deref(), &answer()).await;
        check(what, &reply, status, code);
        assert_eq!(
            reply.head.to_ascii_lowercase().contains("www-authenticate: bearer"),
            status == 401,
            "{what}"
        );
    }
    let unknown = "/v1.0/communications/calls/00000000-0000-4000-8000-000000000000";
    check(
        "an unknown call without a token",
        &ask(&platform, "GET", unknown, None, &json!({})).await,
        401,
        "InvalidAuthenticationToken",
    );
    check("an unknown call", &ask(&platform, "GET", unknown, Some(&good), &json!({})).await, 404, "8522");
    let path = format!("{path}/microsoft.graph.answer");
    assert_eq!(ask(&platform, "POST", &path, Some(&good), &answer()).await.status, 202);
}

#[tokio::test]
async fn each_action_needs_its_permission() {
    let platform = guarded().await;
    let redirect = json!({"targets": [{"identity": {"user": {"id": "u"}}}]});
    let mut app_hosted = answer();
    app_hosted["mediaConfig"] = json!({"@odata.type": "#microsoft.graph.appHostedMediaConfig", "blob": "x"});
    let [initiate, _, media, join, guest] = Permission::ALL.map(Permission::label);
    for (kind, method, action, body, enough) in [
        (CallKind::Meeting, "POST", "/answer", answer(), vec![join, guest]),
        (CallKind::Group, "POST", "/answer", answer(), vec![join, guest]),
        (CallKind::P2p, "POST", "/answer", app_hosted, vec![media]),
        (CallKind::P2p, "POST", "/redirect", redirect, vec![initiate]),
        (CallKind::P2p, "DELETE", "", json!({}), vec![initiate, media]),
    ] {
        let (path, _timeline, _webhook) = live(&platform, kind).await;
        let path = format!("{path}{action}");
        let others: Vec<&str> = Permission::ALL
            .map(Permission::label)
            .into_iter()
            .filter(|role| !enough.contains(role))
            .collect();
        let poor = graph_token(&platform, APP, TENANT, &others, &json!({}));
        check(action, &ask(&platform, method, &path, Some(&poor), &body).await, 403, "7504");
        let rich = graph_token(&platform, APP, TENANT, &enough[..1], &json!({}));
        let status = ask(&platform, method, &path, Some(&rich), &body).await.status;
        assert!((200..300).contains(&status), "{kind} {action}: {status}");
    }
}

#[tokio::test]
async fn each_operation_needs_its_permission() {
    let platform = guarded().await;
    let (path, _timeline, _webhook) = live(&platform, CallKind::Meeting).await;
    let [initiate, _, media, join, guest] = Permission::ALL.map(Permission::label);
    let target = json!({"transferTarget": {"identity": {"user": {"id": "u"}}}});
    for (action, body, enough) in [
        ("recordResponse", json!({}), vec![media]),
        ("subscribeToTone", json!({}), vec![media]),
        ("updateRecordingStatus", json!({"status": "recording"}), vec![media]),
        ("changeScreenSharingRole", json!({"role": "viewer"}), vec![media]),
        ("transfer", target, vec![initiate]),
        ("addLargeGalleryView", json!({}), vec![join, guest]),
        // The reference says that these are not checked again.
        ("cancelMediaProcessing", json!({}), vec![]),
        ("mute", json!({}), vec![]),
    ] {
        let path = format!("{path}/{action}");
        let others: Vec<&str> = Permission::ALL
            .map(Permission::label)
            .into_iter()
            .filter(|role| !enough.contains(role))
            .collect();
        if !enough.is_empty() {
            let poor = graph_token(&platform, APP, TENANT, &others, &json!({}));
            check(action, &ask(&platform, "POST", &path, Some(&poor), &body).await, 403, "7504");
        }
        let rich = graph_token(&platform, APP, TENANT, &enough, &json!({}));
        check(action, &ask(&platform, "POST", &path, Some(&rich), &body).await, 409, "Conflict");
    }
}

#[tokio::test]
async fn a_refusal_is_in_the_timeline_with_its_reason() {
    let platform = guarded().await;
    let (path, mut timeline, _webhook) = live(&platform, CallKind::P2p).await;
    let poor = graph_token(&platform, APP, TENANT, &[], &json!({}));
    let body = json!({"targets": [{"identity": {"user": {"id": "u"}}}]});
    ask(&platform, "POST", &format!("{path}/redirect"), Some(&poor), &body).await;
    while let Some(event) = timeline.next().await {
        if let CallEvent::Step(step) = event
            && step.received
        {
            assert_eq!((step.what.as_str(), step.status), ("redirect", Some(403)));
            assert_eq!(step.note.as_deref(), Some("7504: the token has no role Calls.Initiate.All"));
            return;
        }
    }
    panic!("the timeline ended without the refusal");
}

#[tokio::test]
async fn invalid_bodies_are_refused_with_a_message() {
    let platform = crate::support::platform().await;
    let (path, _timeline, _webhook) = live(&platform, CallKind::P2p).await;
    let target = json!({"identity": {"user": {"id": "u"}}});
    let redirect = |change: Value| {
        let mut body = json!({"targets": [target.clone()]});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        body
    };
    let changed = |name: &str, value: Value| {
        let mut body = answer();
        body[name] = value;
        body
    };
    for (action, body, expected) in [
        ("answer", json!({}), "mediaConfig is needed"),
        ("answer", changed("acceptedModalities", Value::Null), "acceptedModalities is needed"),
        ("answer", changed("acceptedModalities", json!(["smell"])), "acceptedModalities takes audio, video"),
        (
            "answer",
            changed("mediaConfig", json!({"@odata.type": "#microsoft.graph.appHostedMediaConfig"})),
            "blob is needed",
        ),
        (
            "answer",
            changed(
                "mediaConfig",
                json!({"@odata.type": "#microsoft.graph.serviceHostedMediaConfig", "preFetchMedia": [{}]}),
            ),
            "each with uri and perhaps resourceId",
        ),
        ("answer", changed("participantCapacity", json!(1.5)), "participantCapacity must be an Int32"),
        (
            "answer",
            changed("participantCapacity", json!(3_000_000_000_u32)),
            "participantCapacity must be an Int32",
        ),
        ("answer", changed("callOptions", json!([])), "incomingCallOptions"),
        (
            "answer",
            changed("callbackUri", json!("http://bot.example/")),
            "callbackUri must be an absolute https URL",
        ),
        (
            "answer",
            changed("callbackUri", json!(format!("https://bot.example/{}", "x".repeat(4_096)))),
            "callbackUri takes at most 4096 bytes",
        ),
        ("reject", json!({"reason": "bored"}), "reason must be one of none, busy, forbidden"),
        ("redirect", json!({"targets": []}), "targets takes 1 to 25"),
        ("redirect", redirect(json!({"targets": vec![target.clone(); 26]})), "targets takes 1 to 25"),
        ("redirect", redirect(json!({"targets": [{"identity": {"user": {}}}]})), "an identity with an id"),
        ("redirect", redirect(json!({"timeout": 91})), "15 to 90 seconds"),
        ("redirect", redirect(json!({"maskCaller": "yes"})), "must be true or false"),
        ("redirect", redirect(json!({"callbackUri": "/relative"})), "callbackUri must be"),
        (
            "updateRecordingStatus",
            json!({"status": "paused"}),
            "status must be one of notRecording, recording, failed",
        ),
        (
            "updateRecordingStatus",
            json!({"status": "recording", "clientContext": "x".repeat(257)}),
            "256 characters",
        ),
        ("levitate", json!({}), "this emulator does not serve it"),
    ] {
        let reply = ask(&platform, "POST", &format!("{path}/{action}"), None, &body).await;
        check(action, &reply, 400, "BadRequest");
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(expected), "{action}: {message}");
    }
    let gzip = [("Content-Encoding", "gzip")];
    let compressed = send(platform.address(), "POST", &format!("{path}/answer"), &gzip, "x").await;
    check("compressed", &compressed, 415, "UnsupportedMediaType");
}

#[tokio::test]
async fn actions_are_refused_in_the_wrong_phase() {
    let platform = crate::support::platform().await;
    let (path, _timeline, _webhook) = live(&platform, CallKind::Recording).await;
    let status = json!({"status": "recording", "clientContext": "mine"});
    let recording = format!("{path}/updateRecordingStatus");
    check("not answered yet", &ask(&platform, "POST", &recording, None, &status).await, 409, "Conflict");
    assert_eq!(ask(&platform, "POST", &format!("{path}/answer"), None, &answer()).await.status, 202);
    for action in ["answer", "reject", "redirect"] {
        let body = json!({
            "acceptedModalities": ["audio"],
            "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
            "targets": [{"identity": {"user": {"id": "u"}}}],
        });
        check(
            action,
            &ask(&platform, "POST", &format!("{path}/{action}"), None, &body).await,
            409,
            "Conflict",
        );
    }
    let beta = recording.replace("/v1.0/", "/beta/");
    let operation = ask(&platform, "POST", &beta, None, &status).await;
    let document = operation.json();
    assert_eq!(
        (operation.status, &document["status"], &document["clientContext"]),
        (200, &json!("completed"), &json!("mine"))
    );
    assert_eq!(document["@odata.type"], "#microsoft.graph.updateRecordingStatusOperation");

    let headers = [("Client-Request-Id", "mine-1"), ("Scenario-Id", "s-1")];
    let shown = send(platform.address(), "GET", &path, &headers, "").await;
    assert_eq!((shown.status, &shown.json()["state"]), (200, &json!("establishing")));
    let head = shown.head.to_ascii_lowercase();
    assert!(head.contains("client-request-id: mine-1") && head.contains("scenario-id: s-1"), "{head}");
    assert_eq!(ask(&platform, "DELETE", &path, None, &json!({})).await.status, 204);
}
