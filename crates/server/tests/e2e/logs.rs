//! The log: one event per request with the documented fields, and no line that a sender can forge.

use serde_json::Value;

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies,
    gateway::path_of, soon, token::CALLING_SERVICE, unix_now, until,
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

/// The event of a refusal names what was refused; that of a success names the key that verified the token.
#[tokio::test]
async fn an_event_names_what_was_accepted_or_refused() {
    const SKYPE: &str = "https://api.botframework.com";
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .line("app", &format!("tenants = [\"{TENANT}\"]"))
        .line("keys", "cooldown = \"5m\"");
    let gateway = Gateway::start(&settings).await;
    let other = "33333333-41c3-47a4-8775-7259bfef4241";
    let evil = "https://evil.example/\u{1b}[31m";
    let good = Token::skype();
    let table = [
        (
            good.clone(),
            "trust=skype key.id=skype-1 key.generation=1 caller.id=CALLER tenant.id=TENANT app.id=APP",
        ),
        (
            good.clone().claim("tid", other),
            "reason=tenant_forbidden error=tenant OTHER is not allowed trust=skype key.id=skype-1 \
             key.generation=1 caller.id=CALLER tenant.id=OTHER app.id=APP token.tenant=null",
        ),
        (
            good.clone().claim("appid", other),
            "reason=service_forbidden error=calling app OTHER is not allowed caller.id=OTHER app.id=APP",
        ),
        (
            good.clone().header("kid", "other-key"),
            "reason=key_not_fetched trust=skype token.issuer=SKYPE token.key_id=other-key \
             token.audience=APP token.tenant=TENANT token.calling_app=CALLER key.id=null tenant.id=null",
        ),
        (
            good.clone().claim("iss", evil),
            "reason=issuer error=unknown issuer trust=null token.issuer=26 bytes, host evil.example \
             token.key_id=skype-1",
        ),
        (good.clone().claim("aud", other), "reason=audience trust=skype token.audience=OTHER"),
        (good.clone().claim("aud", "https://graph.microsoft.com"), "reason=audience token.audience=27 bytes"),
        (
            good.clone().claim("tid", "contoso\r\n.com").claim("appid", "x".repeat(300)),
            "reason=claim_invalid error=claim tid is invalid token.tenant=13 bytes \
             token.calling_app=300 bytes",
        ),
        (
            good.clone().header("kid", "k\r\n\u{1b}[31m"),
            "reason=key_id token.key_id=8 bytes token.issuer=SKYPE",
        ),
        (good.clone().signed_by("stranger"), "reason=signature error=invalid signature token.key_id=skype-1"),
    ];
    for (number, (token, expected)) in table.iter().enumerate() {
        let id = format!("m-{number}");
        let request = Request::webhook(&token.sign(), bodies::incoming("call-1"));
        request.with("X-Microsoft-Skype-Message-ID", &id).send(&gateway).await;
        let event = event(&gateway, &id).await;
        let expected = [("OTHER", other), ("TENANT", TENANT), ("APP", APP), ("SKYPE", SKYPE)]
            .into_iter()
            .fold(expected.replace("CALLER", CALLING_SERVICE), |text, (name, value)| {
                text.replace(name, value)
            });
        for field in fields(&expected) {
            let (name, value) = field.split_once('=').unwrap();
            let found = event[name].as_str().map_or_else(|| event[name].to_string(), str::to_owned);
            assert_eq!(found, value, "{name} in {event}");
        }
    }
    let expired = good.claim("nbf", unix_now() - 900).claim("exp", unix_now() - 600).sign();
    Request::webhook(&expired, "{}").with("X-Microsoft-Skype-Message-ID", "expired").send(&gateway).await;
    let event = event(&gateway, "expired").await;
    let error = event["error"].as_str().unwrap();
    assert!(error.starts_with("expired at ") && error.contains(", now "), "{event}");
    let (age, left) = (event["token.age_s"].as_i64().unwrap(), event["token.expires_in_s"].as_i64().unwrap());
    assert_eq!(age + left, 300, "{event}");
    assert!((900..1000).contains(&age), "{event}");
}

/// The issuer does not publish the key of a token: the event has its id.
#[tokio::test]
async fn the_event_of_an_unknown_key_has_its_id() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("keys", "cooldown = \"100ms\"");
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().header("kid", "other-key").sign(), "{}");
    // Until the cool-down allows a fetch, the request gets 503.
    until("401", async || (request.send(&gateway).await.status() == 401).then_some(())).await;
    let event = gateway.log.event("unknown_key", |event| event["reason"] == "unknown_key").await;
    assert_eq!((&event["token.key_id"], &event["trust"]), (&"other-key".into(), &"skype".into()), "{event}");
}

/// Splits `a=b c d=e` before each name.
fn fields(text: &str) -> Vec<String> {
    let mut fields: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match fields.last_mut() {
            Some(last) if !word.contains('=') => *last = format!("{last} {word}"),
            Some(_) | None => fields.push(word.to_owned()),
        }
    }
    fields
}

/// Under a flood, events are suppressed and counted; metrics stay exact.
#[tokio::test]
async fn a_flood_of_refused_requests_does_not_flood_the_log() {
    const FLOOD: u64 = 300;
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let forged = Request::webhook(&Token::skype().claim("aud", "x").sign(), "{}");
    let lost = Request::get("/nowhere");
    let wrong_method = Request::get("/api/calls");
    let started = tokio::time::Instant::now();
    for request in [&forged, &lost, &wrong_method] {
        for _ in 0..FLOOD {
            request.send(&gateway).await;
        }
    }
    let seconds = started.elapsed().as_secs() + 1;
    // A sender that proves who it is is not affected.
    for number in 0..30 {
        let request = Request::webhook(&Token::skype().sign(), "{}");
        request.with("X-Microsoft-Skype-Message-ID", &format!("garbage-{number}")).send(&gateway).await;
        event(&gateway, &format!("garbage-{number}")).await;
    }
    for outcome in ["unauthenticated", "not_found", "method_not_allowed"] {
        let count = gateway.metric("switchboard_requests_total", &[("outcome", outcome)]).await;
        assert_eq!(count, 300.0, "{outcome}");
    }
    assert_eq!(gateway.metric("switchboard_authentications_total", &[("result", "audience")]).await, 300.0);
    gateway.signal("TERM");
    gateway.signal("TERM");
    gateway.exit().await;
    let events = gateway.log.events();
    for reason in ["audience", "no_such_path", "method"] {
        let of_reason = events.iter().filter(|event| event["reason"] == reason);
        let (written, reports): (Vec<_>, Vec<_>) =
            of_reason.partition(|event| event["message"] == "request finished");
        let written = u64::try_from(written.len()).unwrap();
        let suppressed: u64 = reports.iter().filter_map(|report| report["suppressed"].as_u64()).sum();
        assert_eq!(written + suppressed, FLOOD, "{reason}");
        assert!((20..=20 + seconds).contains(&written), "{written} events of {reason} in {seconds} s");
    }
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
