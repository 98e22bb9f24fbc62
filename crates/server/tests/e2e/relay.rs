//! What an instance answers, and what the platform then gets.

use crate::support::{
    Client, Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, bodies, gateway::path_of,
};

/// What the platform gets if the instance answers `reply`, to a new call and to a callback of it.
async fn relayed(gateway: &Gateway, instance: &mut Instance, reply: &Reply) -> [Response; 2] {
    let token = Token::skype().sign();
    instance.next(reply.clone());
    let call = Request::webhook(&token, bodies::incoming("call-1")).send(gateway).await;
    let uri = instance.request().await.field("switchboard-callback-uri").unwrap().to_owned();
    instance.next(reply.clone());
    let callback =
        Request::post(&path_of(&uri), &token, bodies::updated("call-1", "established")).send(gateway).await;
    instance.request().await;
    [call, callback]
}

#[tokio::test]
async fn an_answer_is_relayed_with_its_body() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let joining = r##"{"@odata.type":"#microsoft.graph.acceptJoinResponse"}"##;
    for (status, fields, body) in [
        (200, vec![("Content-Type", "application/json; odata=x")], joining),
        (201, vec![("Content-Type", "text/plain")], "done"),
        (202, vec![], ""),
        (400, vec![("Content-Type", "application/json")], r#"{"error":{}}"#),
        (404, vec![], ""),
        (409, vec![], "taken"),
        (429, vec![("Retry-After", "2.5")], ""),
        (500, vec![("Content-Type", "text/html")], "<h1>oops</h1>"),
        (501, vec![], ""),
        (599, vec![("Retry-After", "7"), ("Client-Request-Id", "a"), ("Scenario-Id", "b")], "?"),
    ] {
        for answer in relayed(&gateway, &mut instance, &Reply::with(status, &fields, body)).await {
            assert_eq!(answer.status(), status);
            assert_eq!(answer.body, body.as_bytes(), "{status}");
            for name in ["content-type", "retry-after", "client-request-id", "scenario-id"] {
                let sent = fields
                    .iter()
                    .find(|(field, _)| field.eq_ignore_ascii_case(name))
                    .map(|(_, value)| *value);
                assert_eq!(answer.field(name), sent, "{status} {name}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_relayed_whole() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX-T: 1\r\n\r\n";
    let to_the_end = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirstsecond";
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirstsecond";
    for reply in [Reply::Bytes(chunked.into()), Reply::Cut(to_the_end.into()), Reply::Bytes(early.into())] {
        for answer in relayed(&gateway, &mut instance, &reply).await {
            assert_eq!(
                (answer.status(), answer.body.as_slice()),
                (200, b"firstsecond".as_slice()),
                "{reply:?}"
            );
            assert_eq!((answer.field("link"), answer.field("x-t")), (None, None));
        }
    }
}

#[tokio::test]
async fn what_would_mislead_the_platform_is_changed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    // 204 would ask for the legacy protocol's successor.
    for answer in relayed(&gateway, &mut instance, &Reply::status(204)).await {
        assert_eq!((answer.status(), answer.body.len()), (202, 0));
    }
    for status in [301, 302, 303, 304, 307, 308, 399] {
        let reply = Reply::with(status, &[("Location", "https://evil.example/")], "");
        let [call, callback] = relayed(&gateway, &mut instance, &reply).await;
        // A new call has no other candidate; a callback has no other instance.
        assert_eq!((call.status(), callback.status()), (503, 502), "{status}");
        assert_eq!((call.field("location"), callback.field("location")), (None, None), "{status}");
    }
}

#[tokio::test]
async fn what_an_instance_says_besides_is_not_relayed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let fields = [
        ("Set-Cookie", "a=b"),
        ("Server", "Kestrel"),
        ("X-Powered-By", "ASP.NET"),
        ("Location", "https://evil.example/"),
        ("WWW-Authenticate", "Bearer"),
        ("Switchboard-Instance", "bot-9"),
        ("Connection", "x-internal"),
        ("X-Internal", "10.0.0.1"),
        ("Alt-Svc", "h3=\":443\""),
    ];
    for answer in relayed(&gateway, &mut instance, &Reply::with(200, &fields, "")).await {
        for (name, value) in fields {
            assert!(!answer.all(name).contains(&value), "{name}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn correlation_ids_are_echoed_where_the_instance_does_not_name_them() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let token = Token::skype().sign();
    let request = Request::webhook(&token, bodies::incoming("call-1"))
        .with("Client-Request-Id", "asked")
        .with("Scenario-Id", "asked, too");
    instance.next(Reply::with(202, &[("Client-Request-Id", "answered")], ""));
    let answer = request.send(&gateway).await;
    assert_eq!(answer.field("client-request-id"), Some("answered"));
    // Blanks are not in any real id, and what is not plain is not repeated.
    assert_eq!(answer.field("scenario-id"), None);

    for refused in [request.clone().target("/nowhere"), request.clone().without("Authorization")] {
        let answer = refused.replace("Scenario-Id", "8a0aa1ad").send(&gateway).await;
        assert!(answer.status() >= 400);
        assert_eq!(answer.field("client-request-id"), Some("asked"));
        assert_eq!(answer.field("scenario-id"), Some("8a0aa1ad"));
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    instance.next(Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()));
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let mut client = Client::connect(gateway.public).await;
    client.send(request.bytes()).await;
    assert!(client.answer_or_end().await.is_none(), "the platform must see that the answer is not complete");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_not_relayed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let announced = Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec());
    instance.next(announced);
    assert_eq!(request.send(&gateway).await.status(), 503);
    instance.request().await;
    // The head is gone before it shows; what is left is to break off.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    instance.next(Reply::Bytes(
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(2))
            .into_bytes(),
    ));
    let mut client = Client::connect(gateway.public).await;
    client.send(request.bytes()).await;
    assert!(client.answer_or_end().await.is_none());
}

#[tokio::test]
async fn many_calls_at_once_are_each_answered_once() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>());
    let gateway = Gateway::start(&settings).await;
    let token = Token::skype().sign();
    let address = gateway.public;
    let mut senders = tokio::task::JoinSet::new();
    for sender in 0..30 {
        let token = token.clone();
        senders.spawn(async move {
            let mut client = Client::connect(address).await;
            for number in 0..10 {
                let call_id = format!("call-{sender}-{number}");
                let request =
                    Request::webhook(&token, bodies::incoming(&call_id)).with("Client-Request-Id", &call_id);
                let answer = client.exchange(request.bytes()).await;
                assert_eq!(
                    (answer.status(), answer.field("client-request-id")),
                    (202, Some(call_id.as_str()))
                );
            }
        });
    }
    senders.join_all().await;
    let mut seen = std::collections::HashSet::new();
    for instance in &mut instances {
        while let Some(request) = instance.request_now() {
            assert!(seen.insert(request.field("switchboard-call-id").unwrap().to_owned()), "{request:?}");
        }
    }
    assert_eq!(seen.len(), 300);
    assert_eq!(gateway.metric("switchboard_requests_total", &[("outcome", "placed")]).await, 300.0);
}
