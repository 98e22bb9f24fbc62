//! The live view over loopback sockets: streams, calls, the configuration, and who may read them.

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use super::*;
use crate::{
    admin::events::STREAMS_MAX,
    observed::{CallKind, CallSighting},
};

/// A client of `/events`.
#[derive(Debug)]
struct Stream {
    reader: BufReader<TcpStream>,
}

/// An event as a browser would see it.
#[derive(Debug, PartialEq)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Running {
    /// Opens a stream and reads its head.
    async fn open(&self, target: &str, fields: &str) -> Stream {
        let mut reader = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        reader.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Stream { reader };
        assert_eq!(stream.line().await.unwrap(), "HTTP/1.1 200 OK");
        let mut head = String::new();
        loop {
            match stream.line().await.unwrap() {
                line if line.is_empty() => break,
                line => head.push_str(&format!("{}\n", line.to_ascii_lowercase())),
            }
        }
        for field in [
            "content-type: text/event-stream\n",
            "cache-control: no-store\n",
            "x-content-type-options: nosniff\n",
            "transfer-encoding: chunked\n",
        ] {
            assert!(head.contains(field), "{head}");
        }
        stream
    }

    fn observed(&self) -> Arc<Observed> {
        Arc::clone(&self.state.load().observed)
    }

    fn push(&self, call_id: &str, outcome: Outcome, text: &str) {
        self.observed().lines().push(Some(call_id), outcome, text.to_owned());
    }

    /// A call that this gateway has placed.
    fn note(&self, call_id: &str, now_ms: u64) {
        let instance = Name::parse("bot-1").unwrap();
        let seen = CallSighting {
            call_id,
            chain_id: Some("chain-1"),
            message_id: Some("message-1"),
            instance: &instance,
            state: Some("incoming"),
            placed: Some(CallKind::OneToOne),
        };
        self.observed().calls().note(&seen, now_ms);
    }
}

impl Stream {
    /// Returns the next line without its end; `None` at the end of the stream.
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.reader.read_line(&mut line).await.unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Returns the next event or comment: its lines. Skips the framing of the chunks; `None` at the end.
    async fn block(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let is_size = line.len() <= 6 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            if line == "0" {
                return None;
            }
            if is_size && !line.is_empty() {
                continue;
            }
            if !line.is_empty() {
                lines.push(line);
            } else if !lines.is_empty() {
                return Some(lines);
            }
        }
    }

    /// Returns the next event; comments are skipped. `None` at the end of the stream.
    async fn event(&mut self) -> Option<Event> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                block.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::to_owned)
            };
            if let (Some(name), Some(data)) = (field("event"), field("data")) {
                return Some(Event { name, id: field("id"), data: serde_json::from_str(&data).unwrap() });
            }
        }
    }

    #[track_caller]
    fn next(&mut self) -> impl Future<Output = Event> {
        let caller = std::panic::Location::caller();
        async move { self.event().await.unwrap_or_else(|| panic!("the stream ended ({caller})")) }
    }
}

#[tokio::test]
async fn a_stream_has_the_lines_of_requests_from_its_start_on() {
    let running = start(LOCAL).await;
    running.push("call-0", Outcome::Placed, r#"{"n":0}"#);
    let mut stream = running.open("/events", "").await;
    let hello = stream.next().await;
    assert_eq!((hello.name.as_str(), &hello.data["region"]), ("hello", &json!("emea")));
    assert!(hello.data["now"].as_u64() >= hello.data["started"].as_u64(), "{hello:?}");
    assert_eq!(hello.data["version"], env!("CARGO_PKG_VERSION"));
    running.push("call-1", Outcome::Placed, r#"{"n":1}"#);
    let event = stream.next().await;
    assert_eq!((event.name.as_str(), &event.data), ("request", &json!({"n": 1})));
    let last = event.id.unwrap();
    running.push("call-1", Outcome::Forwarded, r#"{"n":2}"#);
    assert_eq!(stream.next().await.data, json!({"n": 2}));

    // A client that comes back goes on after the last event that it has seen.
    drop(stream);
    running.push("call-1", Outcome::Forwarded, r#"{"n":3}"#);
    let mut stream = running.open("/events", &format!("Last-Event-ID: {last}\r\n")).await;
    stream.next().await;
    for number in [2, 3] {
        assert_eq!(stream.next().await.data, json!({"n": number}));
    }
    // The id of another process, and what is none, start with the next request.
    for id in ["7-1", "1", "", "-", &format!("{last}x"), "18446744073709551616-1"] {
        let mut stream = running.open("/events", &format!("Last-Event-ID: {id}\r\n")).await;
        stream.next().await;
        running.push("call-1", Outcome::Forwarded, r#"{"n":4}"#);
        assert_eq!(stream.next().await.data, json!({"n": 4}), "{id}");
    }
}

#[tokio::test]
async fn a_stream_has_the_requests_of_a_call_or_with_an_outcome() {
    let running = start(LOCAL).await;
    for (query, expected) in [
        ("", vec![0, 1, 2, 3]),
        ("?topics=requests", vec![0, 1, 2, 3]),
        ("?call=CALL-a", vec![0, 2]),
        ("?call=call-b&topics=requests", vec![1]),
        ("?outcome=placed", vec![0, 1]),
        ("?outcome=placed&outcome=gone", vec![0, 1, 3]),
        ("?outcome=gone&call=call-a", vec![]),
    ] {
        let mut stream = running.open(&format!("/events{query}"), "").await;
        stream.next().await;
        running.push("call-a", Outcome::Placed, "0");
        running.push("call-b", Outcome::Placed, "1");
        running.push("Call-A", Outcome::Forwarded, "2");
        running.observed().lines().push(None, Outcome::Gone, "3".to_owned());
        for number in expected {
            assert_eq!(stream.next().await.data, json!(number), "{query}");
        }
    }
}

#[tokio::test]
async fn a_wrong_query_is_refused_with_what_is_right() {
    let running = start(LOCAL).await;
    for (query, code, right) in [
        ("outcome=lost", "bad_outcome", "the outcomes are placed, acted"),
        ("outcome=", "bad_outcome", "placed"),
        ("outcome=Placed", "bad_outcome", "placed"),
        ("topics=fleet", "bad_topic", "requests and overview"),
        ("topics=requests,overview", "bad_topic", "requests and overview"),
        ("topics=requests&topics=overview", "bad_parameter", "only outcome"),
        ("call=a&call=b", "bad_parameter", "only outcome"),
        ("topic=overview", "bad_parameter", "topics, call and outcome"),
        ("x", "bad_parameter", "topics, call and outcome"),
        ("topics=overview&call=a", "bad_parameter", "leave them out"),
        ("topics=overview&outcome=placed", "bad_parameter", "leave them out"),
        ("outcome=%ff%00", "bad_outcome", "placed"),
    ] {
        let response = running.send(&format!("GET /events?{query}"), "").await;
        response.expect_error(400, code);
        assert!(response.body.contains(right), "{query}: {}", response.body);
    }
    running.send("POST /events", "").await.expect_error(405, "method_not_allowed");
    assert_eq!(running.send("HEAD /events", "").await.status, 405);
}

/// Pushes more lines than all buffers on the way hold.
#[tokio::test]
async fn a_slow_reader_loses_the_oldest_lines_and_learns_how_many() {
    let running = start(LOCAL).await;
    let mut slow = running.open("/events", "").await;
    slow.next().await;
    let mut fast = running.open("/events", "").await;
    fast.next().await;
    let text = format!("\"{}\"", "x".repeat(10_000));
    let (mut pushed, mut received) = (0, 0);
    while pushed < 1600 {
        for _ in 0..200 {
            running.push("call", Outcome::Placed, &text);
            pushed += 1;
        }
        for _ in 0..200 {
            let event = fast.next().await;
            assert_eq!(event.name, "request");
            received += 1;
        }
    }
    assert_eq!(received, pushed);
    let (mut seen, mut dropped) = (0, 0);
    while seen + dropped < pushed {
        let event = slow.next().await;
        match event.name.as_str() {
            "request" => seen += 1,
            "dropped" => dropped += event.data["dropped"].as_u64().unwrap(),
            name => panic!("{name}"),
        }
    }
    assert!(dropped > 0, "{seen} seen");
    assert_eq!(seen + dropped, pushed);
}

#[tokio::test]
async fn sixteen_streams_are_open_and_leave_room_for_probes() {
    let running = start(LOCAL).await;
    let mut streams = Vec::new();
    for number in 0..STREAMS_MAX {
        let topic = if number % 2 == 0 { "requests" } else { "overview" };
        let mut stream = running.open(&format!("/events?topics={topic}"), "").await;
        stream.next().await;
        streams.push(stream);
    }
    let refused = running.send("GET /events", "").await;
    refused.expect_error(503, "too_many_streams");
    assert!(refused.head.contains("\r\nretry-after: 5\r\n"), "{}", refused.head);

    // As many idle connections as there are slots, and one more of each probe.
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        idle.push(stream);
    }
    for path in ["/healthz", "/readyz", "/metrics", "/fleet"] {
        let expected = if path == "/readyz" { 503 } else { 200 }; // no trust has keys
        assert_eq!(running.send(&format!("GET {path}"), "").await.status, expected, "{path}");
    }
    // The streams were not evicted.
    running.push("call", Outcome::Placed, "1");
    assert_eq!(streams[0].next().await.data, json!(1));

    // A stream that its client has closed makes room for another one.
    drop(streams.pop());
    loop {
        let response = TcpStream::connect(running.address).await.unwrap();
        let mut reader = BufReader::new(response);
        reader.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if line.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(line.starts_with("HTTP/1.1 503"), "{line}");
    }
}

#[tokio::test]
async fn probes_find_a_slot_beside_idle_connections_that_sent_the_token() {
    let running = start(Setup { token: Some(TOKEN), ..LOCAL }).await;
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut events = running.open("/events", &token).await;
    events.next().await;
    let request = format!("GET /fleet HTTP/1.1\r\nHost: localhost\r\n{token}\r\n");
    let ask = async |stream: &mut TcpStream| {
        let _ = stream.write_all(request.as_bytes()).await;
        let mut response = [0; 4096];
        let read = stream.read(&mut response).await.unwrap_or(0);
        response[..read].starts_with(b"HTTP/1.1 200")
    };
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        assert!(ask(&mut stream).await);
        idle.push(stream);
    }
    for _ in 0..5 {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let expected = if path == "/readyz" { 503 } else { 200 }; // no trust has keys
            assert_eq!(running.send(&format!("GET {path}"), "").await.status, expected, "{path}");
        }
    }
    // The connection that was idle for longest made room. The latest one and the stream stay.
    assert!(!ask(&mut idle[0]).await);
    assert!(ask(idle.last_mut().unwrap()).await);
    running.push("call", Outcome::Placed, "1");
    assert_eq!(events.next().await.data, json!(1));
}

#[tokio::test]
async fn streams_end_at_a_drain_and_the_rest_is_served() {
    let running = start(LOCAL).await;
    let mut requests = running.open("/events", "").await;
    let mut overview = running.open("/events?topics=overview", "").await;
    running.draining.store(true, Relaxed);
    while requests.event().await.is_some() {}
    while overview.event().await.is_some() {}
    let refused = running.send("GET /events", "").await;
    refused.expect_error(503, "draining");
    assert!(refused.head.contains("\r\nretry-after: 5\r\n"), "{}", refused.head);
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/metrics", 200), ("/calls", 200)] {
        assert_eq!(running.send(&format!("GET {path}"), "").await.status, status, "{path}");
    }
}

/// The other limits of the listener are shorter.
#[tokio::test(start_paused = true)]
async fn a_stream_stays_open_as_long_as_its_reader_reads() {
    let running = start(LOCAL).await;
    for topic in ["requests", "overview"] {
        let mut stream = running.open(&format!("/events?topics={topic}"), "").await;
        let until = tokio::time::Instant::now() + Duration::from_secs(400);
        let mut comments = 0;
        while tokio::time::Instant::now() < until {
            let block = stream.block().await.expect("the stream is open");
            comments += usize::from(block.iter().any(|line| line == ":"));
        }
        assert!((20..=30).contains(&comments), "{topic}: {comments}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_reads_nothing_is_cut_off() {
    let running = start(LOCAL).await;
    let mut stream = running.open("/events", "").await;
    let mut other = running.open("/events", "").await;
    let text = format!("\"{}\"", "x".repeat(10_000));
    let mut received = 0;
    for _ in 0..200 {
        for _ in 0..5 {
            running.push("call", Outcome::Placed, &text);
        }
        sleep(Duration::from_secs(1)).await;
        while let Ok(Some(_)) = timeout(Duration::from_millis(1), other.block()).await {
            received += 1;
        }
    }
    assert!(received >= 900, "{received}");
    let mut rest = Vec::new();
    // The end, or a reset: not one of the later lines.
    let ended = timeout(Duration::from_secs(1), stream.reader.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the stream has ended");
    assert!(rest.len() < 4_000_000, "{}", rest.len());
}

#[tokio::test]
async fn the_overview_has_the_state_and_then_the_changes() {
    let running = start(LOCAL).await;
    running.note("call-1", 1000);
    let mut stream = running.open("/events?topics=overview", "").await;
    let mut names = Vec::new();
    let calls = loop {
        let event = stream.next().await;
        names.push(event.name.clone());
        if event.name == "calls" {
            break event.data;
        }
    };
    assert_eq!(names, ["hello", "overview", "fleet", "calls"]);
    assert_eq!((&calls["remembered"], &calls["omitted"]), (&json!(1), &json!(0)));
    assert_eq!(
        calls["calls"][0],
        json!({
            "id": "call-1", "chain": "chain-1", "message": "message-1", "kind": "one_to_one",
            "instance": "bot-1", "state": "incoming", "placed_here": true, "first_seen": 1000,
            "last_seen": 1000,
        })
    );
    running.note("call-2", 2000);
    let changed = loop {
        let event = stream.next().await;
        if event.name == "calls" {
            break event.data;
        }
    };
    assert_eq!(changed["calls"].as_array().unwrap().len(), 1);
    assert_eq!((&changed["calls"][0]["id"], &changed["remembered"]), (&json!("call-2"), &json!(2)));
    // A second stream gets the whole state.
    let mut second = running.open("/events?topics=overview", "").await;
    let calls = loop {
        let event = second.next().await;
        if event.name == "calls" {
            break event.data;
        }
    };
    assert_eq!(calls["calls"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn calls_are_found_by_the_start_of_any_of_their_ids() {
    let running = start(LOCAL).await;
    for number in 0..150 {
        running.note(&format!("call-{number}"), u64::MAX / 2 + number);
    }
    for (query, found, matched) in [
        ("", 100, 150),
        ("?limit=500", 150, 150),
        ("?limit=1", 1, 150),
        ("?search=call-14", 11, 11),
        ("?search=CALL-149&limit=7", 1, 1),
        ("?search=chain-1&limit=2", 2, 150),
        ("?search=message-", 100, 150),
        ("?search=%63all-149", 1, 1),
        ("?search=nothing", 0, 0),
        ("?search=%00%ff%22", 0, 0),
    ] {
        let response = running.send(&format!("GET /calls{query}"), "").await;
        assert_eq!(response.status, 200, "{query}");
        let body = response.json();
        let calls = body["calls"].as_array().unwrap();
        assert_eq!(
            (calls.len(), &body["matched"], &body["remembered"]),
            (found, &json!(matched), &json!(150)),
            "{query}"
        );
    }
    assert_eq!(running.send("GET /calls?limit=1", "").await.json()["calls"][0]["id"], "call-149");
    for (query, code) in [
        ("limit=0", "bad_limit"),
        ("limit=501", "bad_limit"),
        ("limit=-1", "bad_limit"),
        ("limit=", "bad_limit"),
        ("limit=99999999999999999999", "bad_limit"),
        ("limit=1&limit=2", "bad_parameter"),
        ("search=a&search=b", "bad_parameter"),
        ("id=call-1", "bad_parameter"),
    ] {
        running.send(&format!("GET /calls?{query}"), "").await.expect_error(400, code);
    }
}

#[tokio::test]
async fn one_call_is_shown_or_its_instance_is_guessed() {
    let running = start(LOCAL).await;
    running.note("call:1@x", u64::MAX / 2);
    for path in ["call:1@x", "CALL%3a1%40X", "call%3A1@x"] {
        let body = running.send(&format!("GET /calls/{path}"), "").await.json();
        assert_eq!((&body["call"]["id"], &body["guess"]), (&json!("call:1@x"), &Value::Null), "{path}");
    }
    let body = running.send("GET /calls/call-2", "").await.json();
    let owner = running.state.load().delivery.probable_owner("call-2", APP).unwrap();
    assert_eq!(body, json!({"call": null, "guess": owner.as_str()}));
    for path in ["", "..", "a/b", "a%2fb", "%00", "a%20b", "%ff", &"x".repeat(129), "a\"b", "%3Cscript%3E"] {
        running.send(&format!("GET /calls/{path}"), "").await.expect_error(400, "bad_call_id");
    }
    assert_eq!(running.send("GET /calls/a%zz", "").await.json()["call"], Value::Null);
}

#[tokio::test]
async fn calls_streams_and_the_configuration_require_the_token() {
    const PATHS: [&str; 5] = ["/events", "/events?topics=overview", "/calls", "/calls/call-1", "/config"];
    for bind in ["127.0.0.1:0", "0.0.0.0:0"] {
        let running = start(Setup { bind, token: Some(TOKEN), ..LOCAL }).await;
        for path in PATHS {
            for fields in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic x\r\n"] {
                running.send(&format!("GET {path}"), fields).await.expect_error(401, "unauthenticated");
            }
            let fields = format!("Authorization: Bearer {TOKEN}\r\n");
            if path.starts_with("/events") {
                assert_eq!(running.open(path, &fields).await.next().await.name, "hello");
            } else {
                assert_eq!(running.send(&format!("GET {path}"), &fields).await.status, 200, "{path}");
            }
        }
    }
    let running = start(Setup { bind: "0.0.0.0:0", ..LOCAL }).await;
    for path in PATHS {
        running.send(&format!("GET {path}"), "").await.expect_error(403, "no_token_configured");
    }
    let running = start(LOCAL).await;
    for path in ["/calls", "/calls/call-1", "/config"] {
        assert_eq!(running.send(&format!("GET {path}"), "").await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn only_pages_of_this_listener_may_send_requests() {
    const WRONG: [&str; 12] = [
        "null",
        "",
        "http://localhost",
        "http://localhost:9091",
        "http://localhost:9090/",
        "https://localhost:9090",
        "http://127.0.0.1:9090",
        "http://evil.test:9090",
        "http://localhost:9090.evil.test",
        "http://x@localhost:9090",
        "localhost:9090",
        "http://localhost:9090, http://localhost:9090",
    ];
    for (bind, token) in [("127.0.0.1:0", None), ("127.0.0.1:0", Some(TOKEN)), ("0.0.0.0:0", Some(TOKEN))] {
        let running = start(Setup { bind, token, ..LOCAL }).await;
        let send = async |line: &str, origin: &str, fields: &str| {
            let fields = format!("Host: localhost:9090\r\n{origin}{fields}");
            running.send(line, &fields).await
        };
        let authorization = format!("Authorization: Bearer {TOKEN}\r\n");
        for line in ["GET /healthz", "GET /fleet", "POST /fleet/bot-0/drain", "GET /calls"] {
            for origin in WRONG {
                let origin = format!("Origin: {origin}\r\n");
                send(line, &origin, &authorization).await.expect_error(403, "browser_refused");
            }
            let twice = "Origin: http://localhost:9090\r\nOrigin: http://localhost:9090\r\n";
            send(line, twice, &authorization).await.expect_error(403, "browser_refused");
            for origin in ["Origin: http://localhost:9090\r\n", "Origin: HTTP://LocalHost:9090\r\n"] {
                assert_eq!(send(line, origin, &authorization).await.status, 200, "{line} {origin}");
                let status = if token.is_some() { 401 } else { 200 };
                assert_eq!(send(line, origin, "").await.status, status, "{line} {origin}");
            }
        }
    }
    // Without a token, a page of any name that leads here could use a listener that is not on loopback.
    let running = start(Setup { bind: "0.0.0.0:0", ..LOCAL }).await;
    let rebound = "Host: evil.test:9090\r\nOrigin: http://evil.test:9090\r\n";
    running.send("GET /fleet", rebound).await.expect_error(403, "no_token_configured");
    let running = start(LOCAL).await;
    running.send("GET /fleet", rebound).await.expect_error(403, "foreign_host");
}

#[tokio::test]
async fn requests_that_a_page_of_another_site_causes_are_refused() {
    let running = start(LOCAL).await;
    let link = "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    for (line, site, more, is_refused) in [
        ("GET /fleet", "same-origin", "", false),
        ("GET /fleet", "none", link, false),
        ("GET /fleet", "cross-site", "", true),
        ("GET /fleet", "same-site", "", true),
        ("GET /fleet", "cross-site", link, true),
        ("GET /events", "cross-site", "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", true),
        ("POST /fleet/bot-0/drain", "cross-site", link, true),
        ("GET /", "cross-site", link, false),
        ("GET /", "cross-site", "Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", true),
        ("GET /", "cross-site", "", true),
    ] {
        let response = running.send(line, &format!("Sec-Fetch-Site: {site}\r\n{more}")).await;
        assert_eq!(response.status == 403, is_refused, "{line} {site} {more}: {response:?}");
    }
    assert_eq!(running.state_of("bot-0"), "ready");
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_a_reload_changes_the_token() {
    let running = start(Setup { token: Some("before"), ..LOCAL }).await;
    let mut stream = running.open("/events", "Authorization: Bearer before\r\n").await;
    running.push("call", Outcome::Placed, "1");
    assert_eq!(stream.next().await.name, "hello");
    assert_eq!(stream.next().await.data, json!(1));
    // A reload that changes something else keeps it open.
    running.state.store(Arc::new(admin_state(Setup { token: Some("before"), ..LOCAL })));
    sleep(Duration::from_secs(1)).await;
    running.state.store(Arc::new(admin_state(Setup { token: Some("after"), ..LOCAL })));
    let rest = async { while stream.block().await.is_some() {} };
    assert!(timeout(Duration::from_secs(1), rest).await.is_ok(), "the stream has ended");
}
