//! Retries: the platform posts the same message id again. The retry gets the response to the first request,
//! and the instance receives the notification once.

use crate::support::{
    Client, Gateway, Instance, Issuer, OTHER_APP, Reply, Request, Settings, Token, bodies, gateway::path_of,
    instance::first_request, until,
};

const MESSAGE_ID: &str = "X-Microsoft-Skype-Message-ID";

async fn gateway(issuer: &Issuer, instance: &Instance) -> Gateway {
    let settings = Settings::new(issuer, &[instance]).table(&format!("[[app]]\nid = \"{OTHER_APP}\"\n"));
    Gateway::start(&settings).await
}

fn call(message_id: &str) -> Request {
    Request::webhook(&Token::skype().sign(), bodies::incoming("call-1")).with(MESSAGE_ID, message_id)
}

/// Places a call and returns a callback of it.
async fn callback(gateway: &Gateway, instance: &mut Instance, message_id: &str) -> Request {
    let token = Token::skype().sign();
    assert_eq!(Request::webhook(&token, bodies::incoming("call-1")).send(gateway).await.status(), 202);
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    Request::post(&path, &token, bodies::updated("call-1", "established")).with(MESSAGE_ID, message_id)
}

async fn retries(gateway: &Gateway, result: &str) -> f64 {
    gateway.metric("switchboard_retries_total", &[("result", result)]).await
}

/// Waits until `count` requests are in flight.
async fn wait_for_in_flight(gateway: &Gateway, count: f64) {
    until(&format!("{count} requests in flight"), async || {
        (gateway.metric("switchboard_requests_in_flight", &[]).await == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_retry_shares_the_response_to_the_request_in_flight() {
    let issuer = Issuer::start();
    for reply in [
        Reply::with(200, &[("Content-Type", "text/plain"), ("Scenario-Id", "s")], "hello"),
        Reply::with(500, &[("Content-Type", "text/plain"), ("Scenario-Id", "s")], "hello"),
    ] {
        let mut instance = Instance::start("bot-0");
        let gateway = gateway(&issuer, &instance).await;
        let request = callback(&gateway, &mut instance, "m-1").await;
        instance.next(reply.held());
        let mut clients = Vec::new();
        // More connections than workers, so that some of them share a response across threads.
        for number in 0..6 {
            let mut client = Client::connect(gateway.public).await;
            client.send(request.clone().with("Client-Request-Id", &format!("r-{number}")).bytes()).await;
            if number == 0 {
                instance.request().await;
            }
            clients.push(client);
        }
        wait_for_in_flight(&gateway, 6.0).await;
        instance.release();
        let first = clients[0].response().await;
        for (number, client) in clients.iter_mut().enumerate().skip(1) {
            let response = client.response().await;
            assert_eq!((response.status(), &response.body), (first.status(), &first.body));
            assert_eq!(
                (response.field("content-type"), response.field("scenario-id")),
                (Some("text/plain"), Some("s"))
            );
            assert_eq!(response.field("client-request-id"), Some(format!("r-{number}").as_str()));
        }
        instance.expect_nothing();
        assert_eq!(retries(&gateway, "shared").await, 5.0);
    }
}

#[tokio::test]
async fn an_accepted_notification_is_not_delivered_again() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let requests = [call("m-1"), callback(&gateway, &mut instance, "m-2").await];
    for (request, outcome) in requests.iter().zip(["placed", "forwarded"]) {
        instance.next(Reply::with(200, &[("Content-Type", "application/json")], r#"{"a":1}"#));
        let first = request.send(&gateway).await;
        instance.request().await;
        for _ in 0..4 {
            let again = request.send(&gateway).await;
            assert_eq!((again.status(), &again.body), (200, &first.body));
            assert_eq!(again.field("content-type"), Some("application/json"));
        }
        instance.expect_nothing();
        let event = gateway
            .log
            .event("a repeated response", |event| event["retry"] == "repeated" && event["outcome"] == outcome)
            .await;
        assert_eq!((&event["instance"], &event["call.id"]), (&"bot-0".into(), &"call-1".into()), "{event}");
    }
    assert_eq!(retries(&gateway, "repeated").await, 8.0);

    // The gateway keeps the response over a reload.
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(requests[0].send(&gateway).await.body, br#"{"a":1}"#);
    instance.expect_nothing();
}

#[tokio::test]
async fn other_responses_are_not_kept() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let callback = callback(&gateway, &mut instance, "m-2").await;
    for (status, relayed) in [(302, 502), (400, 400), (404, 404), (429, 429), (500, 500), (503, 503)] {
        for _ in 0..2 {
            instance.next(Reply::status(status));
            assert_eq!(callback.send(&gateway).await.status(), relayed);
            instance.request().await;
        }
    }
    // The legacy 204 makes the platform send the call again, with another body or with the same one.
    let legacy = Request::webhook(&Token::skype().sign(), bodies::legacy()).with(MESSAGE_ID, "m-1");
    for _ in 0..2 {
        assert_eq!(legacy.send(&gateway).await.status(), 204);
    }
    assert_eq!(call("m-1").send(&gateway).await.status(), 202);
    instance.request().await;
    assert_eq!(retries(&gateway, "repeated").await + retries(&gateway, "shared").await, 0.0);
}

#[tokio::test]
async fn a_request_that_differs_in_any_part_is_not_a_retry() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let first = call("m-1");
    let named = |app: &str, token: Token| {
        let target = format!("/api/calls/{app}");
        Request::post(&target, &token.sign(), bodies::incoming("call-1")).with(MESSAGE_ID, "m-1")
    };
    let bearer = |token: Token| first.clone().replace("Authorization", &format!("Bearer {}", token.sign()));
    let tenant = "11111111-86f1-41af-91ab-2d7cd011db47";
    for (what, request) in [
        ("the first", first.clone()),
        ("another message", call("m-2")),
        ("another body", Request { body: bodies::incoming("call-2").into_bytes(), ..first.clone() }),
        ("another app", bearer(Token::skype().claim("aud", OTHER_APP))),
        ("another tenant", bearer(Token::skype().claim("tid", tenant))),
        ("another path", named(OTHER_APP, Token::skype().claim("aud", OTHER_APP))),
        ("another query", first.clone().target("/api/calls?a=b")),
        ("no message id", first.clone().without(MESSAGE_ID)),
        ("no message id, again", first.clone().without(MESSAGE_ID)),
        ("an endless message id", call(&"m".repeat(500))),
        ("an endless message id, again", call(&"m".repeat(500))),
    ] {
        assert_eq!(request.send(&gateway).await.status(), 202, "{what}");
        instance.request().await;
    }
    assert_eq!(first.send(&gateway).await.status(), 202);
    instance.expect_nothing();
    // An unauthenticated sender never receives a kept response.
    let untrusted = bearer(Token::skype().signed_by("stranger"));
    assert_eq!(untrusted.send(&gateway).await.status(), 401);
}

#[tokio::test]
async fn a_retry_takes_over_when_the_first_client_disconnects() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let request = callback(&gateway, &mut instance, "m-1").await;
    instance.next(Reply::Never);
    let mut first = Client::connect(gateway.public).await;
    first.send(request.bytes()).await;
    instance.request().await;
    let mut second = Client::connect(gateway.public).await;
    second.send(request.bytes()).await;
    wait_for_in_flight(&gateway, 2.0).await;
    first.reset();
    assert_eq!(second.response().await.status(), 202);
    instance.request().await;
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.expect_nothing();
}

#[tokio::test]
async fn a_retry_of_a_request_without_response_is_refused_in_time() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .line("callback", "patience = \"1500ms\"")
        .line("placement", "budget = \"1s\"");
    let gateway = Gateway::start(&settings).await;
    let request = callback(&gateway, &mut instance, "m-1").await;
    instance.always(Reply::Never);
    let mut first = Client::connect(gateway.public).await;
    first.send(request.bytes()).await;
    instance.request().await;
    let response = request.send(&gateway).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    assert_eq!(first.response().await.status(), 503);
    instance.expect_nothing();
}

#[tokio::test]
async fn a_response_is_kept_if_its_body_is_small_and_complete() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let chunked = |bytes: usize| {
        let body = "x".repeat(bytes);
        Reply::Bytes(
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n")
                .into(),
        )
    };
    for (message_id, reply, bytes, kept) in [
        ("m-1", chunked(1000), 1000, true),
        ("m-2", chunked(16 * 1024), 16 * 1024, true),
        ("m-3", chunked(16 * 1024 + 1), 16 * 1024 + 1, false),
        ("m-4", Reply::with(200, &[], &"x".repeat(16 * 1024)), 16 * 1024, true),
        ("m-5", Reply::with(200, &[], &"x".repeat(100_000)), 100_000, false),
    ] {
        for again in [false, true] {
            if !again || !kept {
                instance.next(reply.clone());
            }
            let response = call(message_id).send(&gateway).await;
            assert_eq!((response.status(), response.body.len()), (200, bytes), "{message_id}");
            if !again || !kept {
                instance.request().await;
            }
            instance.expect_nothing();
        }
    }
    // A truncated response is not kept.
    instance.next(Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()));
    let mut client = Client::connect(gateway.public).await;
    client.send(call("m-6").bytes()).await;
    assert!(client.response_or_end().await.is_none());
    instance.request().await;
    assert_eq!(call("m-6").send(&gateway).await.status(), 202);
    instance.request().await;
}

#[tokio::test]
async fn a_request_with_two_message_ids_is_not_a_retry() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    for second in ["m-2", "m-3"] {
        let request = call("m-1").with(MESSAGE_ID, second);
        assert_eq!(request.send(&gateway).await.status(), 202);
        instance.request().await;
    }
}

#[tokio::test]
async fn a_retry_that_waits_too_long_delivers_nothing() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("callback", "patience = \"300ms\"");
    let gateway = Gateway::start(&settings).await;
    let request = callback(&gateway, &mut instance, "m-1").await;
    instance.next(Reply::Never);
    let mut first = Client::connect(gateway.public).await;
    first.send(request.bytes()).await;
    instance.request().await;
    // Either timeout may expire first: neither the first request nor its retry is delivered again.
    assert_eq!(request.send(&gateway).await.status(), 503);
    assert_eq!(first.response().await.status(), 503);
    instance.expect_nothing();
}

/// A gateway with a probe, so that it learns that an instance refuses connections.
async fn probing(settings: Settings) -> Gateway {
    let probe = "path = \"/healthz\"\ninterval = \"200ms\"";
    let gateway = Gateway::start(&settings.line("fleet.probe", probe)).await;
    gateway.log.event("a ready instance", |event| event["to"] == "ready").await;
    gateway
}

async fn wait_for_state(gateway: &Gateway, name: &str, state: &str) {
    let entered = |event: &serde_json::Value| event["instance"] == name && event["to"] == state;
    gateway.log.event(&format!("{name} is {state}"), entered).await;
}

#[tokio::test]
async fn a_retry_of_a_call_is_placed_again_when_its_instance_is_dead() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = probing(Settings::new(&issuer, &[&instances[0], &instances[1]])).await;
    let request = call("m-1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    let (owner, placed) = first_request(&mut instances).await;
    let callback = {
        let path = path_of(placed.field("switchboard-callback-uri").unwrap());
        let body = bodies::updated("call-1", "established");
        Request::post(&path, &Token::skype().sign(), body).with(MESSAGE_ID, "m-2")
    };
    assert_eq!(callback.send(&gateway).await.status(), 202);
    instances[owner].request().await;

    instances[owner].stop().await;
    wait_for_state(&gateway, &instances[owner].name, "unreachable").await;
    assert_eq!(request.send(&gateway).await.status(), 202);
    let other = 1 - owner;
    instances[other].request().await;
    let event = gateway.log.event("the retry", |event| event["retry"] == "placed_again").await;
    assert_eq!(event["instance"], instances[other].name.as_str(), "{event}");
    assert_eq!(retries(&gateway, "placed_again").await, 1.0);
    // The response of the other instance is repeated, and so is the response to a callback: no other instance
    // has its call.
    for request in [&request, &callback] {
        assert_eq!(request.send(&gateway).await.status(), 202);
    }
    assert_eq!(retries(&gateway, "repeated").await, 2.0);
    instances[other].expect_nothing();
}

#[tokio::test]
async fn a_retry_of_a_call_is_placed_again_when_its_instance_has_left_the_fleet() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0]])).await;
    let request = call("m-1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    instances[0].request().await;
    let settings = Settings::new(&issuer, &[&instances[1]]);
    gateway.rewrite(&settings.table("[fleet]\nkeep_leaving = \"0s\"\n"));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    assert_eq!(request.send(&gateway).await.status(), 202);
    instances[1].request().await;
    instances[0].expect_nothing();
}

#[tokio::test]
async fn a_retry_of_a_call_whose_instance_is_dead_can_overflow() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer");
    let gateway = probing(settings.line("placement", "full = \"overflow:amer\"")).await;
    let request = call("m-1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.request().await;
    instance.stop().await;
    wait_for_state(&gateway, "bot-0", "unreachable").await;
    assert_eq!(request.send(&gateway).await.status(), 302);
}

#[tokio::test]
async fn a_retry_of_a_call_is_placed_again_when_its_instance_has_another_incarnation() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let reports = |incarnation: &str| {
        Reply::with(200, &[], &format!(r#"{{"state":"ready","incarnation":"{incarnation}"}}"#))
    };
    instance.probe(reports("first"));
    let gateway = probing(Settings::new(&issuer, &[&instance])).await;
    let incarnation = async |expected: &str| {
        until("the incarnation", async || {
            let fleet = gateway.admin("/fleet").await.json();
            (fleet[0]["incarnation"] == expected).then_some(())
        })
        .await;
    };
    incarnation("first").await;
    let request = call("m-1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.request().await;
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.expect_nothing();
    instance.probe(reports("second"));
    incarnation("second").await;
    // The report after the first one of the second incarnation says that the first is gone.
    until("the retry is placed again", async || {
        assert_eq!(request.send(&gateway).await.status(), 202);
        (retries(&gateway, "placed_again").await == 1.0).then_some(())
    })
    .await;
    let again = instance.request().await;
    assert_eq!(again.field("switchboard-incarnation"), Some("second"));
    instance.expect_nothing();
}

/// A slow or ejected instance may still hold its calls.
#[tokio::test]
async fn a_retry_of_a_call_is_not_placed_again_while_its_instance_is_only_ejected() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let request = call("m-1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.request().await;
    instance.next(Reply::Reset);
    let failing = Request { body: bodies::incoming("call-2").into_bytes(), ..call("m-2") };
    assert_eq!(failing.send(&gateway).await.status(), 503);
    instance.request().await;
    wait_for_state(&gateway, "bot-0", "ejected").await;
    assert_eq!(request.send(&gateway).await.status(), 202);
    instance.expect_nothing();
    assert_eq!(retries(&gateway, "repeated").await, 1.0);
}
