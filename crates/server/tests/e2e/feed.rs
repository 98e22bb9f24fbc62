//! The live view of the running gateway: streams, calls, the configuration, and its drain.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::Instant,
};
use xtask_browser::Browser;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, gateway::path_of, soon, until,
};

/// A client of `/events`.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// Opens a stream and reads its head and the event `hello`.
    async fn open(gateway: &Gateway, query: &str) -> Self {
        let mut reader = BufReader::new(TcpStream::connect(gateway.admin).await.unwrap());
        let request = format!("GET /events{query} HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin);
        reader.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Self(reader);
        assert_eq!(stream.line().await.as_deref(), Some("HTTP/1.1 200 OK"));
        let hello = stream.event().await.unwrap();
        assert_eq!((hello.0.as_str(), &hello.1["region"]), ("hello", &"emea".into()));
        stream
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = soon("a line of the stream", self.0.read_line(&mut line)).await.unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Returns the name and the data of the next event; `None` at the end of the stream. A chunk has whole
    /// events, so its framing stands between them.
    async fn event(&mut self) -> Option<(String, Value)> {
        let mut name = None;
        loop {
            let line = self.line().await?;
            // The last chunk.
            if line == "0" {
                return None;
            }
            if let Some(event) = line.strip_prefix("event: ") {
                name = Some(event.to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name.unwrap(), serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// Returns the data of the next event with this name.
    async fn next(&mut self, wanted: &str) -> Value {
        loop {
            let (name, data) = self.event().await.expect("the stream is open");
            if name == wanted {
                return data;
            }
        }
    }
}

async fn call(gateway: &Gateway, call_id: &str) -> u16 {
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming(call_id))
        .with("X-Microsoft-Skype-Chain-ID", "chain-1")
        .with("X-Microsoft-Skype-Message-ID", &format!("message-of-{call_id}"));
    request.send(gateway).await.status()
}

#[tokio::test]
async fn a_stream_has_the_same_lines_as_the_log() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let mut all = Stream::open(&gateway, "").await;
    let mut refused = Stream::open(&gateway, "?outcome=unauthenticated&outcome=not_found").await;
    let mut of_call = Stream::open(&gateway, "?call=CALL-1").await;
    assert_eq!(call(&gateway, "call-1").await, 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    let token = Token::skype().sign();
    for (request, status) in [
        (Request::post(&path, &token, bodies::updated("call-1", "established")), 202),
        (Request::webhook(&Token::skype().signed_by("stranger").sign(), "{}"), 401),
        (Request::get("/nowhere"), 404),
    ] {
        assert_eq!(request.send(&gateway).await.status(), status);
    }
    for outcome in ["placed", "forwarded", "unauthenticated", "not_found"] {
        let line = all.next("request").await;
        assert_eq!(line["outcome"], outcome);
        let logged = gateway.log.event(outcome, |event| event["outcome"] == outcome).await;
        assert_eq!(line, logged);
    }
    for outcome in ["unauthenticated", "not_found"] {
        assert_eq!(refused.next("request").await["outcome"], outcome);
    }
    for outcome in ["placed", "forwarded"] {
        assert_eq!(of_call.next("request").await["outcome"], outcome);
    }
}

#[tokio::test]
async fn a_stream_has_lines_that_the_log_leaves_out() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let gateway = Gateway::start(&settings).await;
    gateway.rewrite(&settings.line("log", "level = \"warn\""));
    gateway.signal("HUP");
    until("the new level", async || {
        (gateway.admin("/config").await.json()["log"]["level"] == "warn").then_some(())
    })
    .await;
    let mut stream = Stream::open(&gateway, "").await;
    assert_eq!(call(&gateway, "call-1").await, 202);
    let line = stream.next("request").await;
    assert_eq!((&line["call.id"], &line["instance"]), (&"call-1".into(), &"bot-0".into()));
    assert!(gateway.log.events().iter().all(|event| event["call.id"].is_null()));
}

#[tokio::test]
async fn a_call_is_found_by_its_ids_and_followed_to_its_end() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let mut stream = Stream::open(&gateway, "?topics=overview").await;
    assert_eq!(call(&gateway, "call-1").await, 202);
    assert_eq!(call(&gateway, "call-2").await, 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    for search in ["call-1", "CALL-1", "message-of-call-1"] {
        let found = gateway.admin(&format!("/calls?search={search}")).await.json();
        assert_eq!((&found["matched"], &found["remembered"]), (&1.into(), &2.into()), "{search}");
        let call = &found["calls"][0];
        for (name, expected) in [
            ("id", Value::from("call-1")),
            ("chain", "chain-1".into()),
            ("message", "message-of-call-1".into()),
            ("kind", "one_to_one".into()),
            ("instance", "bot-0".into()),
            ("state", "incoming".into()),
            ("placed_here", true.into()),
        ] {
            assert_eq!(call[name], expected, "{name} of {call}");
        }
    }
    let found = gateway.admin("/calls?search=chain-1").await.json();
    assert_eq!(found["calls"][0]["id"], "call-2", "the newest first");

    let token = Token::skype().sign();
    let state =
        async |call_id: &str| gateway.admin(&format!("/calls/{call_id}")).await.json()["call"].clone();
    for (body, expected) in [
        (bodies::updated("call-1", "established"), "established"),
        (bodies::updated("call-1", "terminated"), "terminated"),
        (bodies::updated("call-1", "established"), "terminated"),
    ] {
        assert_eq!(Request::post(&path, &token, body).send(&gateway).await.status(), 202);
        assert_eq!(state("Call-1").await["state"], expected);
    }
    // A call of another gateway is first seen by a callback.
    let body = bodies::updated("call-9", "established");
    assert_eq!(Request::post(&path, &token, body).send(&gateway).await.status(), 202);
    let call = state("call-9").await;
    assert_eq!((&call["placed_here"], &call["kind"]), (&false.into(), &Value::Null));
    // The stream has it, too.
    loop {
        let calls = stream.next("calls").await;
        if calls["calls"].as_array().unwrap().iter().any(|call| call["id"] == "call-9") {
            break;
        }
    }
    // A call that is not known would go to the only instance.
    assert_eq!(gateway.admin("/calls/call-5").await.json()["guess"], "bot-0");
    // A sender without a valid token leaves no trace.
    let stranger = Token::skype().signed_by("stranger").sign();
    let body = bodies::updated("call-7", "established");
    assert_eq!(Request::post(&path, &stranger, body).send(&gateway).await.status(), 401);
    assert_eq!(state("call-7").await, Value::Null);
}

/// An instance that refuses a call does not have it.
#[tokio::test]
async fn a_call_that_no_instance_accepted_is_not_remembered() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    instance.always(Reply::status(400));
    assert_eq!(call(&gateway, "call-1").await, 400);
    instance.request().await;
    assert_eq!(gateway.admin("/calls").await.json()["remembered"], 0);
}

/// The drain has nothing in flight on the public listener, so it does not wait for its deadline.
#[tokio::test]
async fn a_drain_does_not_wait_for_streams() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings =
        Settings::new(&issuer, &[&instance]).line("listen", "drain = { delay = \"2s\", deadline = \"60s\" }");
    let mut gateway = Gateway::start(&settings).await;
    let mut requests = Stream::open(&gateway, "").await;
    let mut overview = Stream::open(&gateway, "?topics=overview").await;
    let started = Instant::now();
    gateway.signal("TERM");
    while requests.event().await.is_some() {}
    while overview.event().await.is_some() {}
    // They end at the start of the drain, and the admin listener goes on.
    assert_eq!(gateway.admin("/healthz").await.status(), 200);
    assert_eq!(gateway.admin("/readyz").await.status(), 503);
    assert_eq!(gateway.admin("/events").await.status(), 503);
    assert_eq!(gateway.exit().await, Some(0));
    assert!(started.elapsed() < Duration::from_secs(50), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_configuration_is_shown_as_it_applies_after_a_reload() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let gateway = Gateway::start(&settings).await;
    let shown = gateway.admin("/config").await.json();
    assert_eq!(shown["callback"]["seal"][0]["secret"], serde_json::json!({"file": "seal-k1"}));
    assert_eq!(shown["callback"]["patience"], "8s");
    gateway.rewrite(&settings.line("callback", "patience = \"5s\""));
    gateway.signal("HUP");
    until("the new setting", async || {
        (gateway.admin("/config").await.json()["callback"]["patience"] == "5s").then_some(())
    })
    .await;
    let text = gateway.admin("/config").await;
    let text = String::from_utf8(text.body).unwrap();
    for (_, secret) in crate::support::settings::SEALS {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn the_overview_has_the_latest_decisions_refusals_and_reload() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    let mut stream = Stream::open(&gateway, "?topics=overview").await;
    assert_eq!(stream.next("overview").await["last_notification"], Value::Null);
    let token = Token::skype().sign();
    assert_eq!(call(&gateway, "call-1").await, 202);
    instance.request().await;
    instance.always(Reply::status(503));
    for (request, status) in [
        (Request::webhook(&token, bodies::incoming_from("call-2", "amer")), 302),
        (Request::webhook(&token, bodies::incoming("call-3")), 503),
        (Request::webhook(&token, "{}"), 400),
        (Request::webhook(&Token::skype().claim("exp", 1_600_000_000).sign(), "{}"), 401),
        (Request::webhook(&Token::skype().signed_by("stranger").sign(), "{}"), 401),
    ] {
        assert_eq!(request.send(&gateway).await.status(), status, "{request:?}");
    }
    gateway.rewrite_text("region = 7");
    gateway.signal("HUP");
    let overview = loop {
        let overview = stream.next("overview").await;
        if !overview["configuration"]["last_reload"].is_null() {
            break overview;
        }
    };
    let decisions = overview["decisions"].as_array().unwrap();
    let shown: Vec<_> = decisions
        .iter()
        .map(|one| {
            ["call", "decision", "rule", "region", "instance", "outcome"].map(|name| one[name].as_str())
        })
        .collect();
    assert_eq!(
        shown,
        [
            [Some("call-3"), Some("refuse"), None, None, None, Some("not_placed")],
            [
                Some("call-2"),
                Some("redirect"),
                Some("affinity.rule[0]"),
                Some("amer"),
                None,
                Some("redirected")
            ],
            [Some("call-1"), Some("here"), None, None, Some("bot-0"), Some("placed")],
        ]
    );
    assert_eq!(decisions[2]["chain"], "chain-1");
    let refusals = overview["refusals"]["latest"].as_array().unwrap();
    let shown: Vec<_> = refusals
        .iter()
        .map(|one| ["outcome", "reason", "trust", "client"].map(|name| one[name].as_str()))
        .collect();
    assert_eq!(
        shown,
        [
            [Some("unauthenticated"), Some("signature"), Some("skype"), Some("127.0.0.1")],
            [Some("unauthenticated"), Some("lifetime"), Some("skype"), Some("127.0.0.1")],
            [Some("not_a_notification"), Some("neither_legacy_nor_graph"), Some("skype"), Some("127.0.0.1")],
        ]
    );
    assert!(refusals.iter().all(|one| one["problem"].as_str().is_some_and(|problem| !problem.is_empty())));
    let reload = &overview["configuration"]["last_reload"];
    assert_eq!(reload["ok"], false);
    assert!(reload["problem"].as_str().unwrap().contains("region"), "{reload}");
    assert_eq!(overview["configuration"]["hash"].as_str().unwrap().len(), 12);
    assert!(overview["last_notification"].is_u64());
}

/// A name, a number and a subject, as notifications have them.
const PERSONAL: [&str; 4] = ["Ada Lovelace", "+15550123456", "15550123456", "Merger of two secret companies"];

/// A new call with the names and numbers of its participants, and with a subject.
fn personal(call_id: &str) -> String {
    let [name, number, _, subject] = PERSONAL;
    let user = json!({
        "identity": {
            "user": {"id": "112f7296-5fa4-42ca-bae8-6a692b15d4b8", "displayName": name},
            "phone": {"id": number, "displayName": name},
        },
        "region": "emea",
    });
    let mut item = bodies::incoming_item(call_id, "emea");
    item["resourceData"]["source"] = user.clone();
    item["resourceData"]["targets"] = json!([user]);
    item["resourceData"]["subject"] = json!(subject);
    item["resourceData"]["incomingContext"] = json!({"onBehalfOf": {"phone": {"id": number}}});
    bodies::envelope(&[item])
}

#[tokio::test]
async fn names_and_numbers_of_people_are_shown_nowhere() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let browser = Browser::start().await.unwrap();
    let page = match &browser {
        Some(browser) => Some(browser.open(&format!("http://{}/", gateway.admin)).await.unwrap()),
        None => None,
    };
    let mut requests = Stream::open(&gateway, "").await;
    let mut overview = Stream::open(&gateway, "?topics=overview").await;
    let token = Token::skype().sign();
    assert_eq!(Request::webhook(&token, personal("call-1")).send(&gateway).await.status(), 202);
    let received = instance.request().await;
    assert!(String::from_utf8_lossy(&received.body).contains(PERSONAL[0]), "the instance has the name");
    let path = path_of(received.field("switchboard-callback-uri").unwrap());
    let [name, number, _, subject] = PERSONAL;
    // A roster, which has names in another place, and bodies that the gateway refuses.
    let participants = json!([{"info": {"identity": {"phone": {"id": number, "displayName": name}}}}]);
    let mut roster = bodies::updated_item("call-1", "established");
    roster["resourceData"]["participants"] = participants.clone();
    let stranger = Token::skype().signed_by("stranger").sign();
    for (request, status) in [
        (Request::post(&path, &token, bodies::envelope(&[roster])), 202),
        (Request::webhook(&token, json!({"displayName": name, "subject": subject}).to_string()), 400),
        (Request::webhook(&token, format!("{{\"displayName\": \"{name}\", \"phone\": {number}")), 400),
        (Request::webhook(&stranger, personal("call-2")), 401),
    ] {
        assert_eq!(request.send(&gateway).await.status(), status, "{request:?}");
    }
    let check = |place: &str, text: &str| {
        for secret in PERSONAL {
            assert!(!text.contains(secret), "{place} has {secret}: {text}");
        }
    };
    for _ in 0..5 {
        check("the stream of requests", &requests.next("request").await.to_string());
    }
    loop {
        let (event, data) = overview.event().await.unwrap();
        check(&event, &data.to_string());
        // The last request is in it.
        if data.pointer("/refusals/latest").and_then(Value::as_array).is_some_and(|all| all.len() == 3) {
            break;
        }
    }
    for path in ["/calls", "/calls?search=call-1", "/calls/call-1", "/fleet", "/config", "/metrics"] {
        let response = gateway.admin(path).await;
        assert_eq!(response.status(), 200, "{path}");
        check(path, &String::from_utf8(response.body).unwrap());
    }
    assert_eq!(gateway.admin("/calls?search=%2B1555").await.json()["matched"], 0);
    if let (Some(page), Some(browser)) = (page, browser) {
        page.wait_for("document.querySelectorAll('#refusals .row').length === 3 && calls.size === 1")
            .await
            .unwrap();
        let shown = "document.documentElement.outerHTML
            + JSON.stringify([overview, [...calls.values()], [...instances.values()]])";
        check("the page", page.evaluate(shown).await.unwrap().as_str().unwrap());
        browser.close().await.unwrap();
    }
    let log: Vec<String> = gateway.log.events().iter().map(Value::to_string).collect();
    assert!(log.iter().any(|line| line.contains("call-1")));
    check("the log", &log.join("\n"));
}
