//! Recording and replaying: a recorder between a sender and a bot, and calls from its file.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, OnceLock},
    time::Duration,
};

use serde_json::{Value, json};
use switchboard_emulator::{
    CallKind, Client, NotificationRecorder, Platform, RecorderSettings, Replay, ReplayedNotification, Script,
    parse_http_url,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};

use crate::support::{APP, Act, TENANT, Webhook, call_to, exchange, get, platform, played};

async fn recorder(forward_to: &str, folder: &TempDir) -> NotificationRecorder {
    let settings = RecorderSettings {
        listen: ([127, 0, 0, 1], 0).into(),
        forward_to: parse_http_url(forward_to).unwrap(),
        folder: folder.path().join("recordings"),
        on_received: |_| (),
    };
    NotificationRecorder::start(settings, Client::new(None).unwrap()).await.unwrap()
}

/// Serves one connection with a fixed response, and returns the request.
async fn upstream(response: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(response.as_bytes()).await.unwrap();
        request
    });
    (url, serving)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut buffer = [0; 4_096];
        let count = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if count == 0 || text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.ends_with('}')) {
            return text;
        }
    }
}

/// A post as a tunnel forwards it, with its own `Host`.
fn post_through_tunnel(body: &str) -> String {
    format!(
        "POST /api/calls?a=b%20c HTTP/1.1\r\nHost: abc.tunnels.example\r\nConnection: close\r\n\
         Authorization: Bearer eyJ.very.secret\r\nX-Forwarded-For: 203.0.113.7\r\n\
         X-Microsoft-Skype-Message-ID: 0efc74f7-41c3-47a4-8775-7259bfef4241\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_recorder_forwards_and_returns_unchanged_and_saves_no_secret() {
    let response = "HTTP/1.1 302 Found\r\nLocation: https://amer.example/api/calls\r\nX-Own: 1\r\n\
                    Content-Length: 5\r\nConnection: close\r\n\r\nhello";
    let (url, serving) = upstream(response).await;
    let folder = tempfile::tempdir().unwrap();
    let recorder = recorder(&url, &folder).await;
    let body = r#"{"value":[{"changeType":"created","resourceData":{"state":"incoming",
        "source":{"displayName":"Anna Kovacs","id":"+36301234567"},"token":"s3cret"}}]}"#;
    let reply = exchange(recorder.address(), &post_through_tunnel(body)).await;
    assert_eq!((reply.status, reply.body.as_str()), (302, "hello"), "{reply:?}");
    let head = reply.head.to_ascii_lowercase();
    assert!(head.contains("location: https://amer.example/api/calls") && head.contains("x-own: 1"), "{head}");

    let forwarded = serving.await.unwrap();
    let (head, forwarded_body) = forwarded.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert_eq!(forwarded_body, body);
    for line in [
        "post /api/calls?a=b%20c http/1.1",
        "authorization: bearer eyj.very.secret",
        "x-forwarded-for: 203.0.113.7",
        "x-microsoft-skype-message-id: 0efc74f7-41c3-47a4-8775-7259bfef4241",
        "content-type: application/json",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("tunnels.example"), "{head}");

    let saved = fs::read_to_string(recorder.file()).unwrap();
    for removed in ["very", "203.0", "0efc74f7", "Anna", "3630123", "s3cret", "amer.example", "Bearer"] {
        assert!(!saved.contains(removed), "{removed} in {saved}");
    }
    let document: Value = serde_json::from_str(&saved).unwrap();
    assert_eq!(document["switchboard_recording"], 1);
    let one = &document["notifications"][0];
    let names = one["removed_headers"].to_string();
    assert!(names.contains("authorization") && names.contains("x-forwarded-for"), "{names}");
    assert_eq!((&one["status"], &one["body"]["value"][0]["changeType"]), (&302.into(), &"created".into()));
}

#[tokio::test]
async fn hostile_requests_are_bounded_and_refused_ones_are_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let count = |recorder: &NotificationRecorder| {
        let text = fs::read_to_string(recorder.file()).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        (document["notifications"].as_array().unwrap().len(), text)
    };
    let (url, _serving) = upstream("HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    let recorder = recorder(&url, &folder).await;
    let address = recorder.address();
    assert_eq!(exchange(address, &post_through_tunnel("{}")).await.status, 401);
    assert_eq!(get(address, "/api/calls").await.status, 405);
    let page = post_through_tunnel("{}").replace("Connection", "Origin: https://evil.example\r\nConnection");
    assert_eq!(exchange(address, &page).await.status, 403);
    let huge = post_through_tunnel("{}").replace("Content-Length: 2", "Content-Length: 999999999");
    assert_eq!(exchange(address, &huge).await.status, 413);
    assert_eq!(count(&recorder).0, 0);

    // The upstream is gone now: 502, and the notification is saved all the same.
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(300), "]".repeat(300));
    for body in [deep.as_str(), "not JSON, but Anna"] {
        let reply = exchange(address, &post_through_tunnel(body)).await;
        assert_eq!(reply.status, 502, "{reply:?}");
        assert!(reply.body.contains("the recorder got no response from http://127.0.0.1"), "{reply:?}");
    }
    let (saved, text) = count(&recorder);
    assert_eq!(saved, 2, "{text}");
    assert!(
        text.contains(r#""removed":"not JSON, or nested too deeply""#) && !text.contains("Anna"),
        "{text}"
    );
}

/// A recorded call: a webhook behind a recorder answers a meeting with a script.
async fn recorded(platform: &Platform, folder: &TempDir) -> (PathBuf, Vec<String>) {
    let callback: Arc<OnceLock<String>> = Arc::default();
    let known = Arc::clone(&callback);
    let webhook = Webhook::start(platform, move |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(known.get().unwrap()),
        _ => Act::status(202),
    })
    .await;
    let recorder = recorder(&format!("http://{}", webhook.address), folder).await;
    let url = format!("http://{}/api/calls", recorder.address());
    callback.set(url.clone()).unwrap();
    let mut call = call_to(&url).with_kind(CallKind::Meeting);
    let script = "[[step]]\ndo = \"tone\"\ntone = 5\nafter = \"20ms\"\n[[step]]\ndo = \"join\"\n";
    call.script = Some(Script::parse(script).unwrap());
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?}");
    let file = recorder.file();
    recorder.finish().await;
    (file, kinds(&webhook))
}

fn kinds(webhook: &Webhook) -> Vec<String> {
    webhook.seen().iter().map(crate::support::Seen::kind).collect()
}

/// Runs `replay` and returns its events.
async fn replay(platform: &Platform, file: &PathBuf, to: &str, more: &[&str]) -> (bool, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_switchboard-emulator"))
        .arg("replay")
        .arg(file)
        .args(["--json", "--platform", platform.origin(), "--to", to])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(output.stderr.is_empty() || !output.status.success(), "{output:?}");
    (output.status.success(), events)
}

#[tokio::test]
async fn a_recorded_call_is_played_again_under_new_ids() {
    let platform = platform().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, recorded_kinds) = recorded(&platform, &folder).await;
    let saved = fs::read_to_string(&file).unwrap();
    assert!(!saved.contains(&APP.to_string()) && !saved.contains(&TENANT.to_string()), "{saved}");

    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}/callbacks", seen.header("host").unwrap())),
        // The bot asks about its call: it exists. The request fails the test if it does not.
        "established" => Act::Ask { method: "GET", action: "", body: String::new() },
        _ => Act::status(202),
    })
    .await;
    let tenant = TENANT.to_string();
    let mut calls = Vec::new();
    for more in [&[][..], &["--fast", "--tenant", &tenant]] {
        let before = webhook.seen().len();
        let (ok, events) = replay(&platform, &file, &webhook.url(), more).await;
        assert!(ok, "{events:?}");
        let id = events[0]["call"].as_str().unwrap().to_owned();
        let seen: Vec<_> = webhook.seen().split_off(before);
        let played: Vec<String> = seen.iter().map(crate::support::Seen::kind).collect();
        assert_eq!(played, recorded_kinds, "in the recorded order");
        for one in seen.iter().filter(|one| one.kind() != "legacy") {
            assert_eq!(one.call_id(), id);
            assert!(one.header("authorization").is_some_and(|token| token.starts_with("Bearer ey")));
        }
        let first = seen.iter().find(|one| one.is_new_call()).unwrap().body.to_string();
        assert!(first.contains(&APP.to_string()), "the app of the command: {first}");
        assert_eq!(first.contains(&tenant), more.len() > 1, "{first}");
        calls.push(id);
    }
    assert_ne!(calls[0], calls[1]);
}

#[tokio::test]
async fn a_call_without_its_first_notification_is_answered_from_the_start() {
    let platform = platform().await;
    let folder = tempfile::tempdir().unwrap();
    let item = |change: &str, state: &str| {
        json!({"value": [{"changeType": change, "resourceUrl": "/communications/calls/call-0001",
                          "resourceData": {"@odata.type": "#microsoft.graph.call", "state": state}}]})
    };
    let one = |at_ms: u64, body: Value| json!({"at_ms": at_ms, "body": body, "status": 202});
    let document = json!({"switchboard_recording": 1, "notifications": [
        one(0, item("updated", "established")), one(5, item("deleted", "terminated"))]});
    let file = folder.path().join("r.json");
    fs::write(&file, document.to_string()).unwrap();
    let body = json!({"clientContext": "c", "status": "recording"}).to_string();
    let webhook = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
        "established" => Act::Ask { method: "POST", action: "/updateRecordingStatus", body: body.clone() },
        _ => Act::status(202),
    })
    .await;
    let (ok, events) = replay(&platform, &file, &webhook.url(), &[]).await;
    assert!(ok, "{events:?}");
    // The operation is not in the recording, so it completes at once: a bot may wait for it.
    assert_eq!(kinds(&webhook), ["established", "operations", "terminated"]);
}

#[tokio::test]
async fn a_recorded_operation_gets_the_context_that_the_bot_gave_now() {
    let platform = platform().await;
    let body = json!({"clientContext": "now", "status": "recording"}).to_string();
    let webhook = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
        "incoming" => Act::answer(&format!("http://{}/callbacks", seen.header("host").unwrap())),
        "established" => Act::Ask { method: "POST", action: "/updateRecordingStatus", body: body.clone() },
        _ => Act::status(202),
    })
    .await;
    let of_call = |below: &str, change: &str, data: Value| ReplayedNotification {
        after: Duration::ZERO,
        body: json!({"value": [{"changeType": change, "resourceData": data,
                                "resourceUrl": format!("/communications/calls/call-0001{below}")}]}),
    };
    let operation = json!({"@odata.type": "#microsoft.graph.updateRecordingStatusOperation", "id": "old",
                           "clientContext": "then", "status": "completed"});
    let mut call = call_to(&webhook.url());
    call.body = Some(json!({"value": [{"changeType": "created",
        "resourceUrl": "/communications/calls/call-0001", "resourceData": {"state": "incoming"}}]}));
    call.protocol = switchboard_emulator::Protocol::Graph;
    call.set.push("source.x=1".parse().unwrap());
    assert!(platform.call(call.clone()).unwrap_err().to_string().contains("has the members state"));
    call.set = vec!["callChainId=chain".parse().unwrap()];
    call.replay = Some(Replay {
        chain: None,
        notifications: vec![
            of_call("", "updated", json!({"state": "established"})),
            of_call("/operations/old", "deleted", operation),
            of_call("", "deleted", json!({"state": "terminated"})),
        ],
    });
    let (words, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok, "{end:?} {words:?}");
    let seen = webhook.seen();
    assert_eq!(seen[0].body.pointer("/value/0/resourceData/callChainId"), Some(&json!("chain")));
    let operation = &seen[2].body["value"][0];
    let id = operation["resourceData"]["id"].as_str().unwrap();
    assert_eq!(operation["resourceData"]["clientContext"], "now");
    assert!(
        id != "old" && operation["resourceUrl"].as_str().unwrap().ends_with(&format!("/operations/{id}"))
    );
}

#[tokio::test]
async fn a_bot_that_hangs_up_gets_the_recorded_end() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "incoming" => Act::answer(&format!("http://{}/callbacks", seen.header("host").unwrap())),
        "established" => Act::Ask { method: "DELETE", action: "", body: String::new() },
        _ => Act::status(202),
    })
    .await;
    let notification = |after, change: &str, data: Value| ReplayedNotification {
        after: Duration::from_secs(after),
        body: json!({"value": [{"changeType": change, "resourceData": data,
                                "resourceUrl": "/communications/calls/call-0001"}]}),
    };
    let mut call = call_to(&webhook.url());
    call.protocol = switchboard_emulator::Protocol::Graph;
    call.body = Some(notification(0, "created", json!({"state": "incoming"})).body);
    call.replay = Some(Replay {
        chain: None,
        notifications: vec![
            notification(0, "updated", json!({"state": "established"})),
            notification(3_600, "updated", json!({"state": "hold"})),
            notification(3_600, "deleted", json!({"state": "terminated", "resultInfo": {"code": 4_711}})),
        ],
    });
    let (_, _, end) = played(platform.call(call).unwrap()).await;
    assert!(end.ok && end.reason.contains("ended by the bot"), "{end:?}");
    let last = webhook.seen().pop().unwrap().body;
    assert_eq!(last.pointer("/value/0/resourceData/resultInfo/code"), Some(&json!(4_711)));
}

#[tokio::test]
async fn a_call_takes_a_body_and_members_from_the_command_line() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().to_ascii_lowercase().as_str() {
        "incoming" => Act::answer(&format!("http://{}/callbacks", seen.header("host").unwrap())),
        _ => Act::status(202),
    })
    .await;
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/notifications/graph-call-incoming-recording.json"
    );
    let app = APP.to_string();
    let to = webhook.url();
    let run = |set: &'static str, file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_switchboard-emulator"));
        command
            .args(["call", "--json", "--duration", "1ms", "--app-id", &app, "--platform", platform.origin()])
            .args(["--to", &to, "--body", file, "--set", set])
            .stdin(Stdio::null());
        command
    };
    let output = run("source.countryCode=HU", file).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let placed: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    // The body is Graph's, so no legacy form goes before it.
    let first = &webhook.seen()[0];
    assert_eq!(first.call_id(), placed["call"].as_str().unwrap());
    let data = &first.body["value"][0]["resourceData"];
    assert_eq!((&data["source"]["countryCode"], &data["id"]), (&"HU".into(), &placed["call"]));
    for (set, file, expected) in [
        ("x.y=1", file, "set: x.y: /value/0/resourceData has the members"),
        ("x", file, "not PATH=VALUE"),
        ("x=1", "/nowhere", "cannot read /nowhere"),
        ("x=1", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "not JSON"),
    ] {
        let output = run(set, file).output().await.unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && complaint.contains(expected), "{complaint}");
    }
}
