//! The OpenAPI document of the control API: it fits the requests and the responses of a running platform.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use switchboard_emulator::{CallRequest, OperationResponses, Platform};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    operations::{Answered, answered},
    schema::{fits, resolve},
    support::{Act, Reply, Webhook, platform, post, send},
};

const DOCUMENT: &str = include_str!("../../src/routes/control/openapi.json");

/// The webhook in the examples.
const WEBHOOK: &str = "http://127.0.0.1:3978/api/calls";

/// Documented responses that no test provokes: they need a broken OpenSSL, 10,000 calls, a full queue, or 33
/// new keys. Each of them is an error like all others.
const NOT_PROVOKED: [&str; 5] =
    ["makeToken 500", "placeCall 503", "playStep 503", "rotateKey 409", "rotateKey 500"];

fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Returns each operation by its id, with its path and its method.
fn operations(document: &Value) -> BTreeMap<String, (String, String, Value)> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            operations.insert(id, (path.clone(), method.to_uppercase(), operation.clone()));
        }
    }
    operations
}

/// Returns the examples of a body or of a parameter.
fn examples(holder: &Value) -> Vec<Value> {
    let several = holder["examples"].as_object().into_iter().flatten();
    let several = several.filter_map(|(_, example)| example.get("value"));
    holder.get("example").into_iter().chain(several).cloned().collect()
}

/// Sends requests to a platform, and checks each response against the document.
struct Checked<'a> {
    platform: &'a Platform,
    document: Value,
    operations: BTreeMap<String, (String, String, Value)>,
    /// The operations and the statuses so far.
    seen: BTreeSet<String>,
    /// The operations whose examples were sent.
    exemplified: BTreeSet<String>,
}

impl<'a> Checked<'a> {
    fn new(platform: &'a Platform) -> Self {
        let document = document();
        let operations = operations(&document);
        let (seen, exemplified) = (BTreeSet::new(), BTreeSet::new());
        Self { platform, document, operations, seen, exemplified }
    }

    /// Sends a request, checks the response, and returns it. `below` stands for the braces of the path and
    /// has the query.
    async fn ask(
        &mut self,
        id: &str,
        ids: &[&str],
        query: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let (path, method, _) = &self.operations[id];
        let mut ids = ids.iter();
        let segments = path
            .split('/')
            .map(|segment| if segment.starts_with('{') { ids.next().unwrap() } else { segment });
        let path = segments.collect::<Vec<_>>().join("/") + query;
        let reply = send(self.platform.address(), method, &path, headers, body).await;
        self.check(id, &reply);
        reply
    }

    /// As `ask`, with the expected status.
    async fn expect(&mut self, status: u16, id: &str, ids: &[&str], query: &str, body: &str) -> Reply {
        let reply = self.ask(id, ids, query, &[], body).await;
        assert_eq!(reply.status, status, "{id} {query} {body}: {}", reply.body);
        reply
    }

    /// Checks that a response is documented, and that its body fits.
    fn check(&mut self, id: &str, reply: &Reply) {
        let responses = &self.operations[id].2["responses"];
        let status = reply.status.to_string();
        let name = if responses.get(&status).is_some() { status } else { "default".to_owned() };
        assert!(name != "default" || reply.status >= 400, "{id} {} is not documented", reply.status);
        let response = resolve(&self.document, &responses[&name]);
        self.seen.insert(format!("{id} {name}"));
        let head = reply.head.to_ascii_lowercase();
        for header in response["headers"].as_object().into_iter().flatten().map(|(header, _)| header) {
            assert!(head.contains(&format!("\r\n{}: ", header.to_ascii_lowercase())), "{id}: {head}");
        }
        let Some(content) = response["content"].as_object() else {
            assert_eq!(reply.body, "", "{id} {name}");
            return;
        };
        let (content_type, media) = content.iter().next().unwrap();
        assert!(head.contains(&format!("\r\ncontent-type: {content_type}")), "{id} {name}: {head}");
        let bodies: Vec<&str> = match content_type.as_str() {
            "application/json" => vec![&reply.body],
            "application/x-ndjson" => reply.body.lines().collect(),
            "text/event-stream" => {
                reply.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
            }
            "audio/wav" => return assert!(reply.body.starts_with("RIFF"), "{id}"),
            other => panic!("content type {other}"),
        };
        assert!(!bodies.is_empty(), "{id}");
        for body in bodies {
            let body: Value = serde_json::from_str(body).unwrap();
            if let Err(error) = fits(&self.document, &media["schema"], &body) {
                panic!("{id} {name}: {error}");
            }
        }
    }

    /// Returns the examples of an operation's body.
    fn body_examples(&self, id: &str) -> Vec<Value> {
        let body = resolve(&self.document, &self.operations[id].2["requestBody"]);
        examples(&body["content"]["application/json"])
    }

    /// Sends every example of an operation's body, to the webhook in place of that of the example.
    async fn send_examples(&mut self, id: &str, webhook: &str) {
        for example in self.body_examples(id) {
            let body = example.to_string().replace(WEBHOOK, webhook);
            let reply = self.ask(id, &[], "", &[], &body).await;
            assert!((200..300).contains(&reply.status), "{id} {body}: {}", reply.body);
        }
        self.exemplified.insert(id.to_owned());
    }

    /// Reads the first event of a stream that does not end, and checks it.
    async fn first_event(&mut self, id: &str) {
        let address = self.platform.address();
        let (path, ..) = &self.operations[id];
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        while text.split_once("data: ").is_none_or(|(_, data)| !data.contains("\n\n")) {
            let mut bytes = [0; 4_096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the stream ended: {text}");
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("event: call\n"), "{body}");
        let (body, _) = body.rsplit_once("\n\n").unwrap();
        self.check(id, &Reply { status: 200, head: head.to_owned(), body: body.to_owned() });
    }
}

/// Returns the id of a call.
fn id_of(call: &Answered) -> String {
    call.path.rsplit('/').next().unwrap().to_owned()
}

/// Plays every example of a step: the ones that end a call each in a call of its own, the others in one.
async fn check_steps(checked: &mut Checked<'_>, platform: &Platform) -> String {
    let call = answered(platform, |call| CallRequest { participants: 3, ..call }).await;
    let mut ended = id_of(&call);
    for step in checked.body_examples("playStep") {
        let ends = step["do"] == "terminate" || step["do"] == "drop";
        let own = if ends { Some(answered(platform, |call| call).await) } else { None };
        let id = id_of(own.as_ref().unwrap_or(&call));
        checked.expect(202, "playStep", &[&id], "", &step.to_string()).await;
        if let Some(own) = own {
            own.timeline.all().await;
            ended = id;
        }
    }
    checked.exemplified.insert("playStep".to_owned());
    checked.first_event("watchCalls").await;
    call.end(platform).await;
    let ids = [ended.as_str()];
    checked.expect(409, "playStep", &ids, "", r#"{"do":"hold"}"#).await;
    checked.expect(400, "playStep", &ids, "", r#"{"do":"dance"}"#).await;
    ended
}

/// Makes a recording, and downloads it with and without its token.
async fn check_recording(checked: &mut Checked<'_>, platform: &Platform) {
    let operations = Some(OperationResponses::Immediate);
    let call = answered(platform, |call| CallRequest { operations, ..call }).await;
    let recorded = call.start(platform, "recordResponse", &json!({"clientContext": "r"})).await;
    let shown = checked.expect(200, "readCall", &[&id_of(&call)], "", "").await.json();
    assert_eq!(shown["operations"].as_array().unwrap().len(), 1);
    let ids = [id_of(&call), shown["recordings"][0]["id"].as_str().unwrap().to_owned()];
    let ids = [ids[0].as_str(), ids[1].as_str()];
    let bearer = format!("Bearer {}", recorded["recordingAccessToken"].as_str().unwrap());
    let file = checked.ask("downloadRecording", &ids, "", &[("Authorization", &bearer)], "").await;
    assert_eq!(file.status, 200);
    checked.expect(401, "downloadRecording", &ids, "", "").await;
    call.end(platform).await;
}

/// Tokens, keys and faults.
async fn check_the_rest(checked: &mut Checked<'_>, webhook: &str) {
    checked.send_examples("makeToken", webhook).await;
    for body in [r#"{"kind":"bad"}"#, r#"{"kind":"missing"}"#] {
        checked.expect(400, "makeToken", &[], "", body).await;
    }
    let parameters = checked.operations["rotateKey"].2["parameters"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let pairs = parameters.iter().map(|parameter| {
        let example = examples(parameter).remove(0);
        format!("{}={}", parameter["name"].as_str().unwrap(), text(&example))
    });
    let query = format!("?{}", pairs.collect::<Vec<_>>().join("&"));
    checked.expect(200, "rotateKey", &[], &query, "").await;
    checked.expect(400, "rotateKey", &[], "", "").await;
    for change in ["changeFaults", "changeFaultsByPost", "replaceFaults"] {
        checked.send_examples(change, webhook).await;
        checked.expect(400, change, &[], "", r#"{"graph":"x"}"#).await;
    }
    for id in ["readFaults", "endFaults", "readIndex", "readDocument", "readHealth"] {
        checked.expect(200, id, &[], "", "").await;
    }
    let origin = [("Origin", "https://bot.example")];
    assert_eq!(checked.ask("readHealth", &[], "", &origin, "").await.status, 403);
    let wrong = post(checked.platform.address(), "/emulator/health", "").await;
    assert_eq!(wrong.status, 405);
    checked.check("readHealth", &wrong);
}

#[tokio::test]
async fn every_response_of_a_platform_is_as_documented() {
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => Act::answer(&format!("http://{}/callback", seen.header("host").unwrap())),
        _ => Act::status(202),
    })
    .await;
    let url = webhook.url();
    let mut checked = Checked::new(&platform);
    for placing in ["placeCall", "placeLoad"] {
        checked.send_examples(placing, &url).await;
        checked.expect(400, placing, &[], "", "{}").await;
    }
    checked.expect(204, "stopLoads", &[], "", "").await;

    let ended = check_steps(&mut checked, &platform).await;
    check_recording(&mut checked, &platform).await;
    checked.expect(200, "listCalls", &[], "", "").await;
    checked.expect(200, "readCall", &[&ended], "", "").await;
    let whole = checked.expect(200, "watchCall", &[&ended], "", "").await;
    let last_seen = examples(&checked.operations["watchCall"].2["parameters"][0]).remove(0).to_string();
    let rest = checked.ask("watchCall", &[&ended], "", &[("Last-Event-ID", &last_seen)], "").await;
    assert!(whole.body.ends_with(&rest.body) && rest.body.starts_with("id: 4\n"), "{}", rest.body);
    checked.expect(204, "deleteCall", &[&ended], "", "").await;
    for id in ["readCall", "deleteCall", "watchCall", "playStep"] {
        checked.expect(404, id, &[&ended], "", r#"{"do":"hold"}"#).await;
    }
    check_the_rest(&mut checked, &url).await;
    checked.expect(204, "deleteCalls", &[], "", "").await;

    let mut documented = BTreeSet::new();
    for (id, (.., operation)) in &checked.operations {
        let statuses = operation["responses"].as_object().unwrap().keys();
        documented.extend(statuses.filter(|key| *key != "default").map(|key| format!("{id} {key}")));
        let has_body = operation.get("requestBody").is_some();
        assert_eq!(checked.exemplified.contains(id), has_body, "the examples of {id}");
    }
    let missing: Vec<&String> = documented.difference(&checked.seen).collect();
    assert_eq!(missing, NOT_PROVOKED);
}

#[test]
fn every_example_fits_its_schema() {
    fn check(document: &Value, part: &Value) -> usize {
        let mut count = 0;
        if let Some(schema) = part.get("schema") {
            for example in examples(part) {
                fits(document, schema, &example).unwrap_or_else(|error| panic!("{example}: {error}"));
                count += 1;
            }
        }
        let parts: Vec<&Value> = match part {
            Value::Object(members) => members.values().collect(),
            Value::Array(parts) => parts.iter().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        count + parts.into_iter().map(|part| check(document, part)).sum::<usize>()
    }
    let document = document();
    assert!(check(&document, &document) > 30);
}

/// Returns the words of a message like ``unknown field `x`, expected one of `a`, `b` ``.
fn expected_members(message: &str) -> BTreeSet<&str> {
    assert!(message.contains("unknown field `zzz`, expected"), "{message}");
    message.split('`').skip(3).step_by(2).collect()
}

#[tokio::test]
async fn request_bodies_have_the_members_that_the_platform_takes() {
    let platform = platform().await;
    let document = document();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    let members = |schema: &Value| -> BTreeSet<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let message = |path: &'static str, body: Value| {
        let address = platform.address();
        async move {
            let reply = post(address, path, &body.to_string()).await.json();
            reply["error"]["message"].as_str().unwrap_or_default().to_owned()
        }
    };
    let call = schema("CallRequest");
    let replayed = call["properties"]["replay"]["items"].clone();
    for (path, body, schema) in [
        ("/emulator/calls", json!({"zzz": 1}), call),
        ("/emulator/calls", json!({"to": "http://x/", "replay": [{"zzz": 1}]}), replayed),
        ("/emulator/load", json!({"zzz": 1}), schema("LoadRequest")),
        ("/emulator/token", json!({"zzz": 1}), schema("TokenRequest")),
    ] {
        let message = message(path, body).await;
        assert_eq!(expected_members(&message), members(&schema).iter().map(String::as_str).collect());
    }

    // The members of a step depend on `do`.
    let steps = "/emulator/calls/00000000-0000-4000-8000-000000000000/steps";
    let step = schema("Step");
    let variants = step["oneOf"].as_array().unwrap();
    let all: BTreeSet<String> = variants.iter().flat_map(&members).collect();
    let unknown = message(steps, json!({"do": "tone", "zzz": 1})).await;
    assert_eq!(expected_members(&unknown), all.iter().map(String::as_str).collect());
    let unknown = message(steps, json!({"do": "zzz"})).await;
    let (_, names) = unknown.split_once("do must be one of ").unwrap();
    let actions = |variant: &Value| variant["properties"]["do"]["enum"].as_array().unwrap().clone();
    let mut documented: Vec<Value> = variants.iter().flat_map(actions).collect();
    let mut known: Vec<Value> = names.split(", ").map(Value::from).collect();
    documented.sort_by_key(ToString::to_string);
    known.sort_by_key(ToString::to_string);
    assert_eq!(documented, known);

    let values = json!({"after": "1ms", "for": "1ms", "participants": 1, "participant": 0, "tone": 1,
        "operation": "mute", "status": "failed", "code": 1, "subcode": 1, "message": "m", "expect": 202});
    for (variant, action) in
        variants.iter().flat_map(|one| actions(one).into_iter().map(move |action| (one, action)))
    {
        let needs_more = variant["required"].as_array().unwrap().len() > 1;
        let alone = message(steps, json!({"do": action})).await;
        assert_eq!(alone.contains("is needed"), needs_more, "{action}: {alone}");
        let taken = members(variant);
        for (member, value) in values.as_object().unwrap() {
            let message = message(steps, json!({"do": action, member: value})).await;
            assert_eq!(
                !message.contains("is not for this step"),
                taken.contains(member),
                "{action} {member}"
            );
        }
    }
}
