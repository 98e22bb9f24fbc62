//! Responses of instances, and the responses that the platform receives.

use crate::support::{
    Client, Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, bodies, gateway::path_of,
};

/// Posts a new call and a callback to an instance that responds with `reply`. Returns the relayed responses.
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
async fn a_response_is_relayed_with_its_body() {
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
        (410, vec![("Retry-After", "2.5")], ""),
        (500, vec![("Content-Type", "text/html")], "<h1>oops</h1>"),
        (501, vec![], ""),
        (599, vec![("Retry-After", "7"), ("Client-Request-Id", "a"), ("Scenario-Id", "b")], "?"),
    ] {
        for response in relayed(&gateway, &mut instance, &Reply::with(status, &fields, body)).await {
            assert_eq!(response.status(), status);
            assert_eq!(response.body, body.as_bytes(), "{status}");
            for name in ["content-type", "retry-after", "client-request-id", "scenario-id"] {
                let sent = fields
                    .iter()
                    .find(|(field, _)| field.eq_ignore_ascii_case(name))
                    .map(|(_, value)| *value);
                assert_eq!(response.field(name), sent, "{status} {name}");
            }
        }
    }
}

#[tokio::test]
async fn a_response_of_unknown_length_is_relayed_whole() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nfirst\r\n6\r\nsecond\r\n0\r\nX-T: 1\r\n\r\n";
    let to_the_end = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfirstsecond";
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nfirstsecond";
    for reply in [Reply::Bytes(chunked.into()), Reply::Cut(to_the_end.into()), Reply::Bytes(early.into())] {
        for response in relayed(&gateway, &mut instance, &reply).await {
            assert_eq!(
                (response.status(), response.body.as_slice()),
                (200, b"firstsecond".as_slice()),
                "{reply:?}"
            );
            assert_eq!((response.field("link"), response.field("x-t")), (None, None));
        }
    }
}

#[tokio::test]
async fn statuses_that_mislead_the_platform_are_replaced() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    // 204 would make the platform send the call again in the Graph protocol.
    for response in relayed(&gateway, &mut instance, &Reply::status(204)).await {
        assert_eq!((response.status(), response.body.len()), (202, 0));
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
async fn other_fields_of_an_instance_are_not_relayed() {
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
    for response in relayed(&gateway, &mut instance, &Reply::with(200, &fields, "")).await {
        for (name, value) in fields {
            assert!(!response.all(name).contains(&value), "{name}: {response:?}");
        }
    }
}

/// Microsoft's calling SDK says there which tokens it takes, and which version it has.
#[tokio::test]
async fn the_fields_by_which_a_bot_tells_microsoft_its_sdk_are_relayed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let fields = [("X-Microsoft-Bot-Auth-Type", "entra"), ("x-microsoft-bot-sdk-version", "1.2.0.15690")];
    for status in [202, 204, 400, 500] {
        for response in relayed(&gateway, &mut instance, &Reply::with(status, &fields, "")).await {
            for (name, value) in fields {
                assert_eq!(response.field(name), Some(value), "{status} {name}");
            }
        }
    }
}

#[tokio::test]
async fn correlation_ids_are_echoed_unless_the_instance_sets_them() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let token = Token::skype().sign();
    let request = Request::webhook(&token, bodies::incoming("call-1"))
        .with("Client-Request-Id", "sent")
        .with("Scenario-Id", "sent, too");
    instance.next(Reply::with(202, &[("Client-Request-Id", "responded")], ""));
    let response = request.send(&gateway).await;
    assert_eq!(response.field("client-request-id"), Some("responded"));
    // The gateway echoes an id only if it is plain; real ids have no blanks.
    assert_eq!(response.field("scenario-id"), None);

    for refused in [request.clone().target("/nowhere"), request.clone().without("Authorization")] {
        let response = refused.replace("Scenario-Id", "8a0aa1ad").send(&gateway).await;
        assert!(response.status() >= 400);
        assert_eq!(response.field("client-request-id"), Some("sent"));
        assert_eq!(response.field("scenario-id"), Some("8a0aa1ad"));
    }
}

#[tokio::test]
async fn a_truncated_response_ends_the_connection() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    instance.next(Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()));
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let mut client = Client::connect(gateway.public).await;
    client.send(request.bytes()).await;
    assert!(
        client.response_or_end().await.is_none(),
        "the platform must see that the response is incomplete"
    );
}

#[tokio::test]
async fn a_response_that_is_too_large_is_not_relayed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let announced = Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec());
    instance.next(announced);
    assert_eq!(request.send(&gateway).await.status(), 503);
    instance.request().await;
    // The head is sent before the size is known; the gateway can only close the connection.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    instance.next(Reply::Bytes(
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunk.repeat(2))
            .into_bytes(),
    ));
    let mut client = Client::connect(gateway.public).await;
    client.send(request.bytes()).await;
    assert!(client.response_or_end().await.is_none());
}

#[tokio::test]
async fn each_of_many_concurrent_calls_gets_one_response() {
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
                let response = client.exchange(request.bytes()).await;
                assert_eq!(
                    (response.status(), response.field("client-request-id")),
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
