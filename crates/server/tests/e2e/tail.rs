//! `switchboard tail` against running gateways, and against a server that is no gateway.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
};

use crate::support::{
    Gateway, Instance, Issuer, Request, Settings, Token, bodies, every,
    gateway::{BINARY, interrupt},
    port::Port,
    soon,
};

/// A running `switchboard tail`.
struct Tail {
    child: Child,
    stdout: Lines<BufReader<ChildStdout>>,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Tail {
    fn start(gateways: &[&str], arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .arg("tail")
            .args(arguments)
            .env("SWITCHBOARD_ADMIN", gateways.join(" "))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, stdout, stderr }
    }

    async fn line(&mut self) -> String {
        soon("a line", self.stdout.next_line()).await.unwrap().unwrap()
    }

    async fn note(&mut self) -> String {
        soon("a line on stderr", self.stderr.next_line()).await.unwrap().unwrap()
    }

    /// Waits for the end. Returns the exit code.
    async fn end(&mut self) -> Option<i32> {
        soon("the end", self.child.wait()).await.unwrap().code()
    }
}

/// Sends requests to a gateway until `tail` shows one of them: its stream is open then.
async fn until_shown(tail: &mut Tail, gateway: &Gateway, is_shown: impl Fn(&str) -> bool) {
    loop {
        assert_eq!(Request::get("/nowhere").send(gateway).await.status(), 404);
        let shown =
            tokio::time::timeout(std::time::Duration::from_millis(300), tail.stdout.next_line()).await;
        if let Ok(line) = shown
            && is_shown(&line.unwrap().unwrap())
        {
            return;
        }
    }
}

fn admin(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin)
}

#[tokio::test]
async fn the_requests_of_two_gateways_are_shown_in_aligned_lines() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let gateways = [Gateway::start(&settings).await, Gateway::start(&settings).await];
    let mut tail = Tail::start(&[&admin(&gateways[0]), &admin(&gateways[1])], &[]);
    let head = tail.line().await;
    let names = head.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(names, "time (UTC) gateway outcome status duration call instance reason");
    for gateway in &gateways {
        let name = gateway.admin.to_string();
        until_shown(&mut tail, gateway, |line| line.contains(&name)).await;
    }
    let token = Token::skype().sign();
    for gateway in &gateways {
        let response = Request::webhook(&token, bodies::incoming("call-1")).send(gateway).await;
        assert_eq!(response.status(), 202);
        let line = loop {
            let line = tail.line().await;
            if line.contains("placed") {
                break line;
            }
        };
        let cells: Vec<_> = line.split_whitespace().collect();
        let [time, name, "placed", "202", ms, "ms", "call-1", "bot-0"] = cells[..] else { panic!("{line}") };
        assert_eq!((time.len(), name), (12, gateway.admin.to_string().as_str()), "{line}");
        assert!(ms.parse::<f64>().is_ok(), "{line}");
        assert_eq!(line.find("placed"), head.find("outcome"), "{head}\n{line}");
        assert_eq!(line.find("call-1"), head.find("call "), "{head}\n{line}");
        assert_eq!(line.find("bot-0"), head.find("instance"), "{head}\n{line}");
    }
    interrupt(&tail.child);
    assert_eq!(tail.end().await, Some(0));
}

#[tokio::test]
async fn requests_are_filtered_by_call_and_outcome_and_shown_as_the_log_has_them() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let admin = admin(&gateway);
    let mut open = Tail::start(&[&admin], &["--json", "--outcome", "not_found", "--outcome", "placed"]);
    let mut of_call = Tail::start(&[&admin], &["--call", "CALL-2"]);
    let _head = of_call.line().await;
    until_shown(&mut open, &gateway, |line| line.contains("not_found")).await;
    let token = Token::skype().sign();
    for call in ["call-1", "call-2"] {
        assert_eq!(Request::webhook(&token, bodies::incoming(call)).send(&gateway).await.status(), 202);
        let line = loop {
            let line: Value = serde_json::from_str(&open.line().await).unwrap();
            if line["outcome"] == "placed" {
                break line;
            }
        };
        assert_eq!(line["call.id"], call);
        assert_eq!(line, gateway.log.event(call, |event| event["call.id"] == call).await);
    }
    let line = of_call.line().await;
    assert!(line.contains("  call-2  ") && line.ends_with("  bot-0"), "{line}");
}

/// Accepts a connection and responds with the head and the start of a stream. Returns the connection and the
/// head of the request.
async fn stream(port: &Port, start: &str) -> (TcpStream, String) {
    let listener = port.listen();
    let (connection, _) = soon("a connection", listener.accept()).await.unwrap();
    let mut connection = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        soon("a head", connection.read_line(&mut head)).await.unwrap();
    }
    let response = format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{start}");
    connection.write_all(response.as_bytes()).await.unwrap();
    (connection.into_inner(), head)
}

#[tokio::test]
async fn a_stream_that_ends_is_continued_and_hostile_text_does_no_harm() {
    let port = Port::reserve();
    let url = format!("http://{}", port.address);
    let start =
        "event: hello\ndata: {\"started\":1}\n\nid: 1-7\nevent: request\ndata: {\"outcome\":\"placed\"}\n\n";
    let accepted = async { stream(&port, start).await };
    let mut tail = Tail::start(&[&url], &["--call", "call-1"]);
    let (connection, head) = accepted.await;
    assert!(head.starts_with("GET /events?call=call-1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("accept: text/event-stream\r\n") && !head.contains("last-event-id"), "{head}");
    tail.line().await;
    assert!(tail.line().await.contains("placed"));
    drop(connection);
    let note = tail.note().await;
    let expected = "the gateway ended the stream; trying again";
    assert!(note.starts_with(&port.address.to_string()) && note.ends_with(expected), "{note}");

    let long = "x".repeat(300_000);
    let start = format!(
        "event: hello\r\ndata: {{\"started\":2}}\r\n\r\nevent: dropped\ndata: {{\"dropped\":3}}\n\n\
         data: {long}\n\nevent: request\ndata: \u{1b}[2J\u{202e}{{\n\n\
         id: 2-1\nevent: request\ndata: {{\"outcome\":\"a\\u001b[31mb\"}}\n\n"
    );
    let (_connection, head) = stream(&port, &start).await;
    assert!(head.contains("last-event-id: 1-7\r\n"), "{head}");
    for expected in ["connected", "was restarted", "3 requests, of any call", "more than 256 KiB is left out"]
    {
        let note = tail.note().await;
        assert!(note.contains(expected), "{note}, not {expected}");
    }
    assert_eq!(tail.line().await, "?[2J?{");
    assert!(tail.line().await.contains("a?[31mb"));
    interrupt(&tail.child);
    assert_eq!(tail.end().await, Some(0));
}

/// The server sends a space now and then, so no single read takes long.
#[tokio::test]
async fn a_refusal_whose_body_does_not_end_is_shown_as_far_as_it_has_arrived() {
    let port = Port::reserve();
    let listener = port.listen();
    let server = async {
        let (connection, _) = soon("a connection", listener.accept()).await.unwrap();
        let mut connection = BufReader::new(connection);
        let mut line = String::new();
        while soon("the head", connection.read_line(&mut line)).await.unwrap() > "\r\n".len() {}
        let refusal = "{\"error\":{\"code\":\"busy\",\"message\":\"ten streams are open\"}}";
        let head = "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 9999\r\n\r\n";
        connection.write_all(format!("{head}{refusal}").as_bytes()).await.unwrap();
        let mut ticks = every(100);
        loop {
            ticks.tick().await;
            if connection.write_all(b" ").await.is_err() {
                // The command has given up.
                break std::future::pending::<()>().await;
            }
        }
    };
    let mut tail = Tail::start(&[&format!("http://{}", port.address)], &[]);
    let ended = async { (tail.note().await, tail.note().await, tail.end().await) };
    let (refusal, last, code) = tokio::select! {
        ended = ended => ended,
        () = server => unreachable!("the server never ends"),
    };
    assert!(refusal.contains("ten streams are open"), "{refusal}");
    assert!(last.contains("no gateway can be followed"), "{last}");
    assert_eq!(code, Some(1));
}

#[tokio::test]
async fn a_gateway_that_cannot_be_followed_is_an_error_that_names_the_remedy() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("admin", "token = { file = \"seal-k2\" }");
    let gateway = Gateway::start(&settings).await;
    let unused = Port::reserve();
    let gone = format!("http://{}", unused.address);
    for (gateways, expected) in [
        (vec![gone.as_str()], vec!["cannot reach http://"]),
        (vec![&admin(&gateway)], vec!["requires its admin.token; pass it with --token-env"]),
        (vec![&format!("http://{}", gateway.public)], vec!["is not the admin listener of a gateway"]),
    ] {
        let mut tail = Tail::start(&gateways, &[]);
        for part in expected.into_iter().chain(["no gateway can be followed"]) {
            let note = tail.note().await;
            assert!(note.contains(part), "{note}");
        }
        assert_eq!(tail.end().await, Some(1));
    }
    // One that is there is enough. The other one is tried again.
    let token = gateway.path("seal-k2");
    let mut tail = Tail::start(&[&gone, &admin(&gateway)], &["--token-file", token.to_str().unwrap()]);
    let note = tail.note().await;
    assert!(note.contains("cannot reach"), "{note}");
    tail.line().await;
    let (_connection, head) = stream(&unused, "").await;
    assert!(head.contains("authorization: Bearer "), "{head}");
    assert!(tail.note().await.ends_with(": connected"));
}
