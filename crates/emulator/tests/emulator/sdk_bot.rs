//! The bot that behaves as one on Microsoft's calling SDK for .NET, over real sockets.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use switchboard_emulator::{
    Behaviour, Bot, BotSettings, CallKind, Client, ClientCredentials, JoinResponse, Protocol, SdkBehaviour,
    TokenRequest, parse_http_url,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{APP, Reply, TENANT, call_to, guarded, played, post, send};

async fn sdk_bot(origin: &str, change: impl FnOnce(Behaviour) -> Behaviour) -> Bot {
    let credentials = Some(ClientCredentials { app: APP.to_string(), secret: "s".to_owned() });
    let behaviour = Behaviour { credentials, sdk: Some(SdkBehaviour::default()), ..Behaviour::default() };
    let settings = BotSettings::new("bot-0", parse_http_url(origin).unwrap());
    Bot::start(BotSettings { behaviour: change(behaviour), ..settings }, Client::new(None).unwrap())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_bot_like_the_sdk_answers_records_and_admits_people() {
    let platform = guarded().await;
    for (joining, expected) in [(JoinResponse::Accept, "accepted"), (JoinResponse::Reject, "rejected: busy")]
    {
        let change = |behaviour| Behaviour {
            joining: joining.clone(),
            participant_capacity: Some(5),
            delta_roster: true,
            ..behaviour
        };
        let bot = sdk_bot(platform.origin(), change).await;
        let mut call = call_to(&format!("http://{}/api/calls", bot.address())).with_kind(CallKind::Recording);
        call.participants = 2;
        call.duration = Duration::from_millis(300);
        let (words, steps, end) = played(platform.call(call).unwrap()).await;
        assert!(end.ok, "{end:?} {words:?}");
        let notes: Vec<_> = steps.iter().filter_map(|step| step.note.as_deref()).collect();
        assert!(
            words.iter().any(|word| word == "participant joining 200") && notes.contains(&expected),
            "{notes:?}"
        );
        assert!(words.iter().any(|word| word == "incoming (legacy) 204"), "{words:?}");
        let calls = bot.calls();
        let done: Vec<_> =
            calls.calls[0].operations.iter().map(|one| (one.name.as_str(), one.outcome.as_str())).collect();
        assert_eq!((done.as_slice(), calls.active), (&[("updateRecordingStatus", "completed")][..], 0));
    }
}

fn header(reply: &Reply, name: &str) -> Option<String> {
    let mut lines = reply.head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
}

#[tokio::test]
async fn the_webhook_responds_as_the_sdk_does() {
    let platform = guarded().await;
    let bot = sdk_bot(platform.origin(), |behaviour| behaviour).await;
    let bearer = |choice: &str| {
        let request = TokenRequest { choice: choice.parse().unwrap(), ..TokenRequest::new(APP, TENANT) };
        format!("Bearer {}", platform.token(&request).unwrap().compact)
    };
    let (skype, entra, forged, bound) =
        (bearer("skype"), bearer("entra-v2"), bearer("forged"), bearer("skype+wrong-audience"));
    let chain = "5b6d1f8a-0000-4000-8000-00000000000c";
    let call = json!({"@odata.type": "#microsoft.graph.call", "state": "established"});
    let item =
        json!({"changeType": "updated", "resourceUrl": "/communications/calls/none", "resourceData": call});
    let good = json!({"value": [item]}).to_string();
    let null = json!({"value": [item, null]}).to_string();
    for (what, token, body, status, text) in [
        ("an unknown call", Some(&skype), good.as_str(), 202, ""),
        ("a token of Entra", Some(&entra), &good, 202, ""),
        ("no token", None, &good, 401, ""),
        ("a forged token", Some(&forged), &good, 401, ""),
        ("a token of another app", Some(&bound), &good, 401, ""),
        ("a legacy body without a token", None, r#"{"callState":"incoming"}"#, 204, ""),
        ("a malformed body without a token", None, "{", 400, "Unable to deserialize the notification."),
        ("a null among the items", Some(&skype), &null, 500, "NullReferenceException"),
    ] {
        let mut headers = vec![("X-Microsoft-Skype-Chain-ID", chain), ("Client-Request-Id", "no GUID")];
        headers.extend(token.map(|token| ("Authorization", token.as_str())));
        let reply = send(bot.address(), "POST", "/api/calls", &headers, body).await;
        assert_eq!((reply.status, reply.body.as_str()), (status, text), "{what}");
        assert_eq!(header(&reply, "scenario-id").as_deref(), Some(chain), "{what}");
        assert_eq!(header(&reply, "client-request-id"), None, "{what}");
        let refused = status == 401;
        let challenge = refused.then(|| "Bearer error=\"invalid_token\"".to_owned());
        assert_eq!(header(&reply, "www-authenticate"), challenge, "{what}");
        let version = (!refused).then(|| "1.2.0.18742".to_owned());
        assert_eq!(header(&reply, "x-microsoft-bot-sdk-version"), version, "{what}");
        let family = match (status, what) {
            (202, "a token of Entra") => Some("entra"),
            (202, _) => Some("oid"),
            _ => None,
        };
        assert_eq!(header(&reply, "x-microsoft-bot-auth-type").as_deref(), family, "{what}");
    }
}

/// A Graph that keeps the heads and bodies of requests, and a token endpoint. `respond` has the rest.
async fn graph(respond: fn(&str) -> String) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            while !is_whole(&request) {
                let mut chunk = [0; 4_096];
                let read = stream.read(&mut chunk).await.unwrap();
                assert!(read > 0, "{request}");
                request.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
            }
            let response = if request.contains("/oauth2/") {
                ok(&json!({"access_token": "token", "expires_in": 3_600}))
            } else {
                kept.lock().unwrap().push(request.clone());
                respond(&request)
            };
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).map(|text| text.parse().unwrap());
    body.len() >= length.unwrap_or(0_usize)
}

fn ok(document: &Value) -> String {
    let body = document.to_string();
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn lines(request: &str) -> Vec<&str> {
    request.split("\r\n\r\n").next().unwrap().lines().collect()
}

#[tokio::test]
async fn requests_have_the_headers_of_the_sdk_and_no_status_is_repeated() {
    let (address, seen) = graph(|request| {
        if request.starts_with("POST /v1.0/communications/calls HTTP") {
            return ok(&json!({"id": "5b6d1f8a-0000-4000-8000-000000000001"}));
        }
        match request.split(' ').nth(1).unwrap_or_default().rsplit('/').next() {
            Some("playPrompt") => ok(&json!({"status": "Completed"})),
            Some("mute") => ok(&json!({"status": "failed", "id": "o", "resultInfo": {"message": "m"}})),
            Some("unmute") => "HTTP/1.1 202 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some("keepAlive") => {
                "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
            }
            _ => "HTTP/1.1 429 X\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
        }
    })
    .await;
    let bot = sdk_bot(&format!("http://{address}"), |behaviour| behaviour).await;
    let unexpected = "Unexpected exception returned from the service.";
    for (name, arguments, outcome, message) in [
        (
            "create",
            json!({"user": "u", "tenant": TENANT.to_string()}),
            "5b6d1f8a-0000-4000-8000-000000000001",
            None,
        ),
        ("playPrompt", json!({"prompt": "http://p.example/a.wav"}), "completed", None),
        ("mute", json!({}), "failed", Some("Unexpected 'Failed' status for operation o. m".to_owned())),
        ("unmute", json!({}), "failed", Some(unexpected.to_owned())),
        ("keepAlive", json!({}), "accepted", None),
        (
            "subscribeToTone",
            json!({}),
            "failed",
            Some(format!("{unexpected} Status Code: 429 Too Many Requests")),
        ),
        (
            "logTeleconferenceDeviceQuality",
            json!({}),
            "failed",
            Some(format!("{unexpected} Status Code: 429 Too Many Requests")),
        ),
    ] {
        let reply = post(bot.address(), &format!("/sdk/{name}"), &arguments.to_string()).await.json();
        assert_eq!(
            (&reply["outcome"], reply["message"].as_str().map(str::to_owned)),
            (&json!(outcome), message),
            "{name}"
        );
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 7, "no status is repeated: {seen:?}");
    let mut request_ids = Vec::new();
    let mut scenarios = Vec::new();
    for request in &seen {
        let head = lines(request);
        let value = |name: &str| {
            head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
        };
        assert_eq!(value("user-agent").as_deref(), Some("GraphCommunicationsClient-bot-0/1.2.0.18742"));
        assert_eq!(value("authorization").as_deref(), Some("Bearer token"));
        let bare = head[0].contains("keepAlive");
        let kind = (!bare).then_some("application/json; charset=utf-8");
        assert_eq!(value("content-type").as_deref(), kind, "{head:?}");
        assert_eq!(value("content-length").as_deref() == Some("0"), bare, "{head:?}");
        request_ids.push(value("client-request-id").unwrap());
        scenarios.extend(value("scenario-id"));
    }
    assert_eq!(scenarios.len(), 6, "only the quality of a device names no scenario");
    scenarios.dedup();
    assert_eq!(scenarios.len(), 1, "the requests of a call share its scenario");
    request_ids.sort();
    request_ids.dedup();
    assert_eq!(request_ids.len(), 7);
    let play = &seen[1];
    assert!(play.contains(
        r#""resourceId":"0a0a0a0a-1111-4aaa-8bbb-000000000002","uri":"http://p.example/a.wav"}}]}"#
    ));
}

#[tokio::test]
async fn an_unknown_request_and_a_missing_call_are_named() {
    let platform = guarded().await;
    let bot = sdk_bot(platform.origin(), |behaviour| behaviour).await;
    let unknown = post(bot.address(), "/sdk/levitate", "").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("must be one of answer, reject"), "{}", unknown.body);
    assert!(unknown.body.contains(", rehydrate"), "{}", unknown.body);
    assert_eq!(post(bot.address(), "/sdk/mute", "").await.json()["message"], "the bot has no call");
    assert_eq!(post(bot.address(), "/sdk/mute", "7").await.status, 400);
    let mut call = call_to(&format!("http://{}/", bot.address()));
    call.protocol = Protocol::Graph;
    call.duration = Duration::from_secs(60);
    let timeline = platform.call(call).unwrap();
    while bot.calls().calls.iter().all(|call| call.state != "established") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = post(bot.address(), "/sdk/delete", "").await.json();
    assert_eq!(ended["outcome"], "accepted", "{ended}");
    let (_, _, end) = played(timeline).await;
    assert!(end.ok, "{end:?}");
    let kept = crate::support::get(bot.address(), "/sdk/calls").await.json();
    assert_eq!(kept, json!({"calls": []}));
}

#[tokio::test]
async fn a_call_is_taken_over_once() {
    let (address, seen) = graph(|request| match request.split(' ').nth(1).unwrap_or_default() {
        path if path.ends_with("/participants") => ok(&json!({"value": [{"id": "p"}, {"id": "q"}]})),
        path if path.ends_with("s") => {
            "HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned()
        }
        _ => ok(&json!({"id": "c"})),
    })
    .await;
    let bot = sdk_bot(&format!("http://{address}"), |behaviour| behaviour).await;
    let path = "/sdk/rehydrate?call=5b6d1f8a-0000-4000-8000-000000000002";
    assert_eq!(post(bot.address(), path, "").await.json()["outcome"], "completed");
    let again = post(bot.address(), path, "").await.json();
    assert_eq!(again["message"], "the SDK knows the call already");
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().all(|request| !request.contains("client-request-id")), "{seen:?}");
    let kept = crate::support::get(bot.address(), "/sdk/calls").await.json();
    assert_eq!(kept["calls"][0]["people"], 2);
}
