//! Batches of requests to Graph, the names in its paths, and the headers of its responses.

use serde_json::{Value, json};
use switchboard_emulator::{CallEvent, FaultSetting, Faults, Platform, Protocol, Timeline};

use crate::support::{Act, Reply, Webhook, call_to, get, platform, post, send};

/// A live call: its id, and the timeline and webhook that keep it alive.
async fn live(platform: &Platform) -> (String, Timeline, Webhook) {
    let webhook = Webhook::start(platform, |_, _| Act::status(202)).await;
    let mut call = call_to(&webhook.url());
    call.protocol = Protocol::Graph;
    call.duration = std::time::Duration::from_secs(600);
    let mut timeline = platform.call(call).unwrap();
    let Some(CallEvent::Call(placed)) = timeline.next().await else {
        panic!("the first event names the call")
    };
    (placed.call.to_string(), timeline, webhook)
}

fn set_fault(platform: &Platform, fault: &str) {
    let mut faults = Faults::default();
    fault.parse::<FaultSetting>().unwrap().apply(&mut faults);
    platform.set_faults(faults);
}

fn answer() -> Value {
    json!({
        "callbackUri": "https://bot.example/callbacks/1",
        "acceptedModalities": ["audio"],
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
    })
}

async fn batch(platform: &Platform, requests: &Value) -> Reply {
    let body = json!({ "requests": requests }).to_string();
    send(platform.address(), "POST", "/v1.0/$batch", &[("Content-Type", "application/json")], &body).await
}

/// The ids and statuses of the responses in a batch.
fn statuses(reply: &Reply) -> Vec<(String, u64)> {
    let responses = reply.json()["responses"].as_array().unwrap().clone();
    let pair = |one: &Value| (one["id"].as_str().unwrap().to_owned(), one["status"].as_u64().unwrap());
    responses.iter().map(pair).collect()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(id, status)| ((*id).to_owned(), *status)).collect()
}

#[tokio::test]
async fn a_batch_acts_like_its_requests_one_by_one() {
    let platform = platform().await;
    let (id, mut timeline, _webhook) = live(&platform).await;
    let call = format!("/communications/calls/{id}");
    let unknown = "/communications/calls/00000000-0000-4000-8000-000000000000";
    let json_type = json!({"Content-Type": "application/json", "client-request-id": "mine"});
    let reply = batch(
        &platform,
        &json!([
            {"id": "answer", "method": "POST", "url": format!("{call}/answer"),
             "headers": json_type, "body": answer()},
            {"id": "show", "method": "GET", "url": call, "dependsOn": ["ANSWER"]},
            {"id": "unknown", "method": "GET", "url": unknown},
            {"id": "after", "method": "DELETE", "url": call, "dependsOn": ["show", "Unknown"]},
            {"id": "after that", "method": "DELETE", "url": call, "dependsOn": ["after"]},
            {"id": "nested", "method": "POST", "url": "/$batch",
             "headers": json_type, "body": {"requests": []}},
        ]),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let expected = [
        ("answer", 202),
        ("show", 200),
        ("unknown", 404),
        ("after", 424),
        ("after that", 424),
        ("nested", 400),
    ];
    assert_eq!(statuses(&reply), pairs(&expected));
    let responses = reply.json()["responses"].clone();
    assert_eq!(responses[0]["headers"]["client-request-id"], "mine");
    assert!(responses[0].get("body").is_none());
    assert_eq!(responses[1]["headers"]["Content-Type"], "application/json; charset=utf-8");
    assert_eq!(responses[1]["body"]["id"], id);
    assert_ne!(responses[1]["body"]["state"], "incoming");
    assert_eq!(responses[2]["body"]["error"]["code"], "8522");
    assert!(responses[3]["body"]["error"]["innerError"]["request-id"].is_string());

    let mut received = Vec::new();
    while received.len() < 2 {
        if let CallEvent::Step(step) = timeline.next().await.unwrap()
            && step.received
        {
            received.push(step.what);
        }
    }
    assert_eq!(received, ["answer", "get"]);
}

#[tokio::test]
async fn a_fault_strikes_each_request_of_a_batch() {
    let platform = platform().await;
    let (id, _timeline, _webhook) = live(&platform).await;
    let show =
        |name: &str| json!({"id": name, "method": "GET", "url": format!("/communications/calls/{id}")});
    set_fault(&platform, "graph=429:3*2");
    let reply = batch(&platform, &json!([show("1"), show("2"), show("3")])).await;
    assert_eq!(statuses(&reply), pairs(&[("1", 429), ("2", 429), ("3", 200)]));
    assert_eq!(reply.json()["responses"][0]["headers"]["Retry-After"], "3");
    for fault in ["graph=down*1", "graph=lost*1", "graph=huge*1"] {
        set_fault(&platform, fault);
        assert_eq!(batch(&platform, &json!([show("1")])).await.status, 0, "{fault}");
    }
}

#[tokio::test]
async fn an_invalid_batch_is_an_error_of_graph() {
    let platform = platform().await;
    for (body, message) in [
        ("", "Invalid batch payload format."),
        ("[]", "Invalid batch payload format."),
        (r#"{"requests":[]}"#, "Invalid batch payload format."),
    ] {
        let reply = post(platform.address(), "/beta/$batch", body).await;
        let error = reply.json()["error"].clone();
        assert_eq!(
            (reply.status, &error["code"], &error["message"]),
            (400, &json!("BadRequest"), &json!(message))
        );
        assert!(error["innerError"]["request-id"].is_string());
    }
    for path in ["/v1.0/$batch", "/v1.0/communications/calls/00000000-0000-4000-8000-000000000000/answer"] {
        let reply = get(platform.address(), path).await;
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (405, &json!("Request_BadRequest")));
        assert!(reply.head.contains("allow: POST"), "{path}");
    }
}

#[tokio::test]
async fn names_in_paths_are_found_in_any_case() {
    let platform = platform().await;
    for path in [
        "/v1.0/communications/calls/",
        "/beta/app/calls/",
        "/V1.0/Communications/Calls/",
        "/BETA/APP/CALLS/",
        "/v1.0/app/Calls/",
    ] {
        let (id, _timeline, _webhook) = live(&platform).await;
        let call = format!("{path}{id}");
        assert_eq!(get(platform.address(), &call).await.json()["state"], "incoming", "{path}");
        let action = if path.contains("Calls") { "Microsoft.Graph.Answer" } else { "ANSWER" };
        let reply = post(platform.address(), &format!("{call}/{action}"), &answer().to_string()).await;
        assert_eq!(reply.status, 202, "{path}: {}", reply.body);
        let shown = get(platform.address(), &format!("{}/", call.replace(&id, &id.to_uppercase()))).await;
        assert!(["establishing", "established"].map(Value::from).contains(&shown.json()["state"]), "{path}");
    }
}

#[tokio::test]
async fn every_response_of_graph_has_its_headers() {
    let platform = platform().await;
    let (id, _timeline, _webhook) = live(&platform).await;
    let call = format!("/v1.0/communications/calls/{id}");
    let mine = [("client-request-id", "mine-1"), ("scenario-id", "mine-2")];
    let answer = answer().to_string();
    let no_body = "{\"requests\":[]}";
    for (fault, method, path, body, status) in [
        ("", "GET", call.clone(), "", 200),
        ("", "POST", format!("{call}/answer"), answer.as_str(), 202),
        ("", "POST", format!("{call}/answer"), answer.as_str(), 409),
        ("", "POST", format!("{call}/keepAlive"), "{}", 200),
        ("", "PUT", call.clone(), "", 405),
        ("", "POST", format!("{call}/levitate"), "", 400),
        ("", "GET", "/v1.0/me".to_owned(), "", 400),
        ("", "POST", "/v1.0/$batch".to_owned(), no_body, 400),
        ("graph=429:1*1", "GET", call.clone(), "", 429),
        ("graph=8529*1", "GET", call.clone(), "", 429),
        ("graph=empty*1", "GET", call.clone(), "", 200),
        ("", "DELETE", call.clone(), "", 204),
        ("graph=html*1", "GET", call.clone(), "", 200),
    ] {
        if !fault.is_empty() {
            set_fault(&platform, fault);
        }
        let reply = send(platform.address(), method, &path, &mine, body).await;
        let what = format!("{fault} {method} {path}");
        assert_eq!(reply.status, status, "{what}: {}", reply.body);
        let header = |name: &str| {
            let found = reply.head.lines().filter_map(|line| line.split_once(": "));
            let values: Vec<String> = found
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .collect();
            assert!(values.len() <= 1, "{what}: {name} is repeated");
            values.into_iter().next()
        };
        assert!(header("date").is_some(), "{what}");
        if fault == "graph=html*1" {
            assert_eq!(header("request-id"), None, "a proxy does not have it");
            continue;
        }
        let request_id = header("request-id").unwrap_or_else(|| panic!("{what}: no request-id"));
        if let Some(inner) =
            serde_json::from_str::<Value>(&reply.body).unwrap_or_default().pointer("/error/innerError")
        {
            assert_eq!(inner["request-id"], request_id, "{what}");
        }
        assert_eq!(header("client-request-id").as_deref(), Some("mine-1"), "{what}");
        assert_eq!(header("scenario-id").as_deref(), Some("mine-2"), "{what}");
        assert!(header("x-ms-ags-diagnostic").unwrap().starts_with("{\"ServerInfo\":{"), "{what}");
        let is_json = header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
        assert_eq!(header("odata-version").is_some(), is_json, "{what}");
    }
    let unnamed = get(platform.address(), &call).await;
    let id_of = |name: &str| unnamed.head.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
    assert!(id_of("request-id: ").is_some());
    assert_eq!(id_of("request-id: "), id_of("client-request-id: "), "Graph makes one up");
}
