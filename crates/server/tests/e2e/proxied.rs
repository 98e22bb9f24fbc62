//! Callbacks that arrive in the wrong region: two gateways with one seal key.

use tokio::time::Instant;

use crate::support::{
    APP, Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, bodies, flipped,
    gateway::path_of, port::Port,
};

fn amer(issuer: &Issuer, instance: &Instance) -> Settings {
    let mut settings = Settings::new(issuer, &[instance]);
    settings.region = "amer";
    settings
}

/// Returns the path of a callback URI of the gateway's first instance.
async fn minted(gateway: &Gateway) -> String {
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    path_of(minted["callback_uri"].as_str().unwrap())
}

async fn post(gateway: &Gateway, path: &str) -> Response {
    callback(path).send(gateway).await
}

fn callback(path: &str) -> Request {
    Request::post(path, &Token::skype().sign(), bodies::updated("call-1", "established"))
}

#[tokio::test]
async fn a_callback_of_another_region_is_proxied_to_its_gateway() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-0"]);
    let peer_gateway = Gateway::start(&amer(&issuer, &instances[1])).await;
    let settings =
        Settings::new(&issuer, &[&instances[0]]).peer_at("amer", &format!("http://{}", peer_gateway.public));
    let gateway = Gateway::start(&settings).await;
    let path = minted(&peer_gateway).await;

    instances[1].next(Reply::with(200, &[("Content-Type", "text/plain"), ("Retry-After", "3")], "hello"));
    let request = callback(&format!("{path}?a=b"))
        .with("X-Microsoft-Skype-Message-ID", "m-1")
        .with("Client-Request-Id", "7a0aa1ad");
    let response = request.send(&gateway).await;
    assert_eq!((response.status(), response.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(response.field("content-type"), Some("text/plain"));
    assert_eq!(response.field("retry-after"), Some("3"));
    assert_eq!(response.field("client-request-id"), Some("7a0aa1ad"));
    let received = instances[1].request().await;
    assert_eq!(received.body, request.body);
    assert!(received.field("authorization").unwrap().starts_with("Bearer "));
    assert_eq!(received.field("switchboard-region"), Some("amer"));
    assert_eq!(received.field("switchboard-call-id"), Some("call-1"));
    assert_eq!(received.field("switchboard-forwarded-from"), None);
    instances[0].expect_nothing();

    let event = gateway.log.event("a proxied callback", |event| event["outcome"] == "proxied").await;
    assert_eq!((&event["region"], &event["call.id"]), (&"amer".into(), &"call-1".into()));
    assert_eq!(event["instance"], serde_json::Value::Null);
    let event =
        peer_gateway.log.event("the forwarded callback", |event| event["outcome"] == "forwarded").await;
    assert_eq!(event["instance"], "bot-0");
    assert_eq!(gateway.metric("switchboard_callbacks_total", &[("outcome", "proxied")]).await, 1.0);

    // This gateway responds to a retry itself.
    assert_eq!(request.send(&gateway).await.body, b"hello");
    instances[1].expect_nothing();
    assert_eq!(peer_gateway.metric("switchboard_requests_total", &[("outcome", "forwarded")]).await, 1.0);

    // Responses of the peer gateway are relayed by the same rules as those of an instance.
    for (status, relayed) in [(204, 202), (302, 502), (404, 404), (500, 500)] {
        instances[1].next(Reply::with(status, &[("Location", "https://evil.example/")], ""));
        let response = post(&gateway, &path).await;
        assert_eq!((response.status(), response.field("location")), (relayed, None));
        instances[1].request().await;
    }
}

#[tokio::test]
async fn only_sealed_callbacks_are_proxied_and_they_keep_their_token() {
    let issuer = Issuer::start();
    let peer = Instance::start("amer");
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .peer_at("amer", peer.url().strip_suffix("/api/calls").unwrap())
        .line("forward", "authorization = false");
    let gateway = Gateway::start(&settings).await;
    let peer_gateway = Gateway::start(&amer(&issuer, &instance)).await;
    let path = minted(&peer_gateway).await;
    let mut peer = peer;

    let (front, mac) = path.rsplit_once('.').unwrap();
    let forged = format!("{front}.{}", flipped(mac));
    assert_eq!(post(&gateway, &forged).await.status(), 404);
    let untrusted = Token::skype().signed_by("stranger").sign();
    assert_eq!(Request::post(&path, &untrusted, "{}").send(&gateway).await.status(), 401);
    // A region that is not a peer.
    let apac = Gateway::start(&{
        let mut settings = amer(&issuer, &instance);
        settings.region = "apac";
        settings
    })
    .await;
    assert_eq!(post(&gateway, &minted(&apac).await).await.status(), 410);
    peer.expect_nothing();

    let request = callback(&path)
        .with("Switchboard-Call-Id", "forged")
        .with("Connection", "x-private")
        .with("X-Private", "1");
    assert_eq!(request.send(&gateway).await.status(), 202);
    let received = peer.request().await;
    assert_eq!(received.target(), path);
    assert_eq!(received.field("switchboard-forwarded-from"), Some("emea"));
    assert_eq!(received.field("host"), peer.url().split('/').nth(2));
    assert_eq!((received.field("switchboard-call-id"), received.field("x-private")), (None, None));
    // The peer gateway needs the token, although the instances of this region must not see it.
    assert!(received.field("authorization").is_some());
}

#[tokio::test]
async fn a_proxied_callback_is_not_proxied_again() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut apac = amer(&issuer, &instance);
    apac.region = "apac";
    let path = minted(&Gateway::start(&apac).await).await;

    // Each of the two gateways treats the other as apac.
    let peer_gateway = Gateway::start(&amer(&issuer, &instance)).await;
    let settings = Settings::new(&issuer, &[&instance]);
    let gateway =
        Gateway::start(&settings.clone().peer_at("apac", &format!("http://{}", peer_gateway.public))).await;
    peer_gateway.rewrite(&amer(&issuer, &instance).peer_at("apac", &format!("http://{}", gateway.public)));
    peer_gateway.signal("HUP");
    peer_gateway.log.message("configuration reloaded").await;
    assert_eq!(post(&gateway, &path).await.status(), 410);
    assert_eq!(post(&peer_gateway, &path).await.status(), 410);
    for gateway in [&gateway, &peer_gateway] {
        assert_eq!(gateway.metric("switchboard_callbacks_total", &[("outcome", "proxied")]).await, 1.0);
        assert_eq!(gateway.metric("switchboard_callbacks_total", &[("outcome", "wrong_region")]).await, 1.0);
    }
    // The mark needs no proof: all that it can do is prevent the proxying.
    let marked = callback(&path).with("Switchboard-Forwarded-From", "nowhere");
    assert_eq!(marked.send(&gateway).await.status(), 410);

    // A gateway that is configured as its own peer does not wait for itself.
    gateway.rewrite(&settings.peer_at("apac", &format!("http://{}", gateway.public)));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    let started = Instant::now();
    let request = callback(&path).with("X-Microsoft-Skype-Message-ID", "m-1");
    assert_eq!(request.send(&gateway).await.status(), 410);
    assert!(started.elapsed().as_secs() < 8, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_callback_waits_for_an_unreachable_region_until_the_end_of_patience() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let peer_gateway = Gateway::start(&amer(&issuer, &instance)).await;
    let path = minted(&peer_gateway).await;
    let away = Port::reserve();
    let settings = Settings::new(&issuer, &[&Instance::start("bot-1")])
        .peer_at("amer", &format!("http://{}", away.address));
    let gateway = Gateway::start(&settings.clone().line("callback", "patience = \"900ms\"")).await;
    let started = Instant::now();
    let response = post(&gateway, &path).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    assert!(started.elapsed().as_millis() >= 900);
    let event = gateway.log.event("an unreachable peer", |event| event["outcome"] == "unreachable").await;
    assert_eq!((&event["region"], &event["reason"]), (&"amer".into(), &"refused".into()));
    assert!(event["attempts"].as_u64() > Some(1), "{event}");

    let gateway = Gateway::start(&settings.line("callback", "patience = \"20s\"")).await;
    let comes_back = async {
        crate::support::until("a request in flight", async || {
            (gateway.metric("switchboard_requests_in_flight", &[]).await == 1.0).then_some(())
        })
        .await;
        away.listen()
    };
    let forwarding = async {
        let listener = comes_back.await;
        crate::redirects::forward(listener, peer_gateway.public).await
    };
    let response = tokio::select! {
        response = post(&gateway, &path) => response,
        () = forwarding => unreachable!("forwarding never ends"),
    };
    assert_eq!(response.status(), 202);
    instance.request().await;
}

#[tokio::test]
async fn the_certificate_of_the_peer_gateway_is_verified() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let mut settings = amer(&issuer, &instance);
    settings.tls = true;
    let peer_gateway = Gateway::start(&settings).await;
    let path = minted(&peer_gateway).await;
    let at = |host: &str| {
        Settings::new(&issuer, &[&Instance::start("bot-1")])
            .peer_at("amer", &format!("https://{host}:{}", peer_gateway.public.port()))
            .line("callback", "patience = \"5s\"")
    };
    let trusting = Gateway::start_trusting(&at("localhost"), &peer_gateway.path("tls.crt")).await;
    for _ in 0..3 {
        assert_eq!(post(&trusting, &path).await.status(), 202);
        instance.request().await;
    }
    // A certificate of an untrusted authority, and a host name that is not in the certificate.
    let untrusting = Gateway::start(&at("localhost").line("callback", "# no authority")).await;
    let misnamed = Gateway::start_trusting(&at("127.0.0.1"), &peer_gateway.path("tls.crt")).await;
    for (gateway, reason, error) in [
        (untrusting, "tls_unknown_authority", "the certificate of emea.bots.example is self-signed"),
        (misnamed, "tls_wrong_name", "is not for 127.0.0.1 but for emea.bots.example, localhost"),
    ] {
        assert_eq!(post(&gateway, &path).await.status(), 503);
        let event =
            gateway.log.event("the failed handshake", |event| event["outcome"] == "unreachable").await;
        assert_eq!(event["reason"], reason);
        let event = gateway.log.message("TLS handshake with an upstream failed").await;
        assert_eq!(event["level"], "info", "{event}");
        assert!(event["error"].as_str().unwrap().contains(error), "{event}");
    }
    instance.expect_nothing();
}
