//! The log: one event per request with the documented fields, and no line that a sender can forge.

use serde_json::Value;

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies,
    gateway::path_of, soon, until,
};

/// Waits for the event of the request with this message id.
async fn event(gateway: &Gateway, message_id: &str) -> Value {
    gateway.log.event(message_id, |event| event["message.id"] == message_id).await
}

#[tokio::test]
async fn each_request_has_one_event() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    let token = Token::skype().sign();
    let chain = "2dbbd172-f97e-4a11-a3b3-d5bbb5b9a5ac";
    let send = async |message_id: &str, request: Request| {
        let request = request
            .with("X-Microsoft-Skype-Message-ID", message_id)
            .with("X-Microsoft-Skype-Chain-ID", chain);
        let status = request.send(&gateway).await.status();
        (status, event(&gateway, message_id).await)
    };
    let (_, placed) = send("m-1", Request::webhook(&token, bodies::incoming("call-1"))).await;
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    let callback = Request::post(&path, &token, bodies::updated("call-1", "established"));
    let (_, forwarded) = send("m-2", callback).await;
    let (_, redirected) =
        send("m-3", Request::webhook(&token, bodies::incoming_from("call-3", "amer"))).await;
    let (_, refused) = send("m-4", Request::webhook(&Token::skype().claim("aud", "x").sign(), "{}")).await;
    let (_, garbage) = send("m-5", Request::webhook(&token, "{}")).await;
    for (event, expected) in [
        (
            &placed,
            [
                ("outcome", "placed"),
                ("http.route", "webhook"),
                ("instance", "bot-0"),
                ("call.id", "call-1"),
                ("item", "incoming_call"),
                ("tenant.id", TENANT),
                ("app.id", APP),
            ],
        ),
        (
            &forwarded,
            [
                ("outcome", "forwarded"),
                ("http.route", "callback"),
                ("instance", "bot-0"),
                ("call.id", "call-1"),
                ("call.state", "established"),
                ("tenant.id", TENANT),
                ("app.id", APP),
            ],
        ),
        (
            &redirected,
            [
                ("outcome", "redirected"),
                ("http.route", "webhook"),
                ("region", "amer"),
                ("call.id", "call-3"),
                ("call.state", "incoming"),
                ("tenant.id", TENANT),
                ("app.id", APP),
            ],
        ),
    ] {
        for (name, value) in expected {
            assert_eq!(event[name], value, "{name} in {event}");
        }
    }
    assert_eq!(redirected["rule"], 0);
    for (event, status, outcome, reason) in [
        (&placed, 202, "placed", None),
        (&forwarded, 202, "forwarded", None),
        (&redirected, 302, "redirected", None),
        (&refused, 401, "unauthenticated", Some("audience")),
        (&garbage, 400, "not_a_notification", Some("neither_legacy_nor_graph")),
    ] {
        assert_eq!(event["http.response.status_code"], status, "{event}");
        assert_eq!((&event["outcome"], event["reason"].as_str()), (&outcome.into(), reason), "{event}");
        assert_eq!(
            (&event["level"], &event["http.request.method"]),
            (&"info".into(), &"POST".into()),
            "{event}"
        );
        assert!(event["duration_ms"].is_number(), "{event}");
        assert_eq!(event["client.address"], "127.0.0.1", "{event}");
        assert_eq!(event["call.chain_id"], chain, "{event}");
        assert_eq!(event["message"], "request finished");
    }
    assert_eq!(refused["tenant.id"], Value::Null, "an unauthenticated sender has no tenant");
    let finished = gateway.log.events().iter().filter(|event| event["message"] == "request finished").count();
    assert_eq!(finished, 5);
}

#[tokio::test]
async fn a_request_whose_client_disconnects_is_logged() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    instance.next(Reply::Never);
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let mut client = Client::connect(gateway.public).await;
    client.send(request.bytes()).await;
    instance.request().await;
    client.reset();
    let event = gateway.log.event("client_gone", |event| event["outcome"] == "client_gone").await;
    assert_eq!((&event["call.id"], &event["http.response.status_code"]), (&"call-1".into(), &Value::Null));
}

/// `Gateway` checks each line of the log when it is dropped. This test provides hostile input for that check.
#[tokio::test]
async fn hostile_values_cannot_break_a_log_line() {
    let issuer = Issuer::start();
    for format in ["json", "text"] {
        let mut instance = Instance::start("bot-0");
        let settings = Settings::new(&issuer, &[&instance]).line("log", "level = \"trace\"");
        let mut gateway = Gateway::start(&settings).await;
        if format == "text" {
            gateway.log.is_text = true;
            // From here on the lines are text; they are checked below.
            gateway.rewrite(&settings.clone().line("log", "format = \"text\""));
            gateway.signal("HUP");
            log_contains(&gateway, "configuration reloaded").await;
        }
        let token = Token::skype().sign();
        let evil = "\u{1b}[31m\u{7}\" , \"outcome\":\"placed\" \\u0000 \u{202e}";
        let id = "call\u{1b}[2J\u{85}\u{2028}x";
        let requests = [
            Request::webhook(&token, bodies::incoming("call-1")).with("X-Microsoft-Skype-Message-ID", evil),
            Request::webhook(&token, bodies::incoming("call-1"))
                .with("X-Microsoft-Skype-Chain-ID", &"c".repeat(5000)),
            Request::webhook(&token, bodies::incoming("call-1")).with("User-Agent", evil),
            Request::webhook(&token, bodies::incoming(id)),
            Request::webhook(&token, bodies::incoming("a\r\nb")),
            Request::webhook(&token, format!("{{\"{}\":1}}", "\\u001b[2J\\n\\u0000")),
            Request::webhook(&Token::skype().header("kid", "k\r\n\u{1b}[31m").sign(), "{}"),
            Request::webhook(&Token::skype().claim("iss", "https://\u{1b}[31m\n").sign(), "{}"),
            Request::post("/api/callbacks/emea/\u{1b}/k1.0.x", &token, "{}"),
            Request::post("/api/callbacks/emea/%1b%0a/k1.0.x", &token, "{}"),
            Request::post(&format!("/nowhere?token={token}"), &token, "{}"),
            Request::webhook(&token, "{}").method("M\u{1b}"),
            Request::webhook(&token, format!("{{\"token\":\"{token}\"")),
        ];
        instance.next(Reply::with(202, &[("Content-Type", "text/\u{1b}[31m")], "\u{1b}[31m"));
        instance.next(Reply::Bytes(b"\x1b[31m not HTTP\r\n\r\n".to_vec()));
        for request in &requests {
            let mut client = Client::connect(gateway.public).await;
            client.send(request.bytes()).await;
            let _ = soon("a response", read_anything(client)).await;
        }
        while instance.request_now().is_some() {}
        let last = Request::get("/nowhere").with("X-Microsoft-Skype-Message-ID", "the-last-one");
        assert_eq!(last.send(&gateway).await.status(), 404);
        log_contains(&gateway, "the-last-one").await;
        let text = gateway.log.text();
        assert!(!text.chars().any(|sign| sign.is_control() && sign != '\n'), "{text:?}");
        assert!(!text.contains(['\u{202e}', '\u{2028}']), "{text:?}");
    }
}

/// Waits until the log contains `text`.
async fn log_contains(gateway: &Gateway, text: &str) {
    until(text, async || gateway.log.text().contains(text).then_some(())).await;
}

/// Waits for any bytes or the end of the connection. The bytes are not checked: an instance may have set
/// them.
async fn read_anything(client: Client) -> Vec<u8> {
    use tokio::io::AsyncReadExt;
    let mut bytes = vec![0; 4096];
    let read = client.into_inner().read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(read);
    bytes
}
