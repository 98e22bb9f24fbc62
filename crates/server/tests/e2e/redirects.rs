//! Calls that belong to another region: they are redirected to it, and never twice.

use crate::support::{
    APP, Gateway, Instance, Issuer, Request, Response, Settings, Token, WEBHOOK, bodies, port::Port, until,
};

const AMER: &str = "https://amer.bots.example/api/calls?switchboard-from=emea";

/// Posts a new call of a caller from `region` and returns the response.
async fn call(gateway: &Gateway, region: &str, target: &str) -> Response {
    let body = bodies::incoming_from("call-1", region);
    let request = Request::post(target, &Token::skype().sign(), body).with("Client-Request-Id", "7a0aa1ad");
    let response = request.send(gateway).await;
    assert_eq!(response.field("client-request-id"), Some("7a0aa1ad"));
    response
}

#[tokio::test]
async fn a_call_of_another_region_is_redirected() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    for status in [302, 307, 308] {
        let settings = Settings::new(&issuer, &[&instance])
            .line("affinity", &format!("status = {status}"))
            .peer("amer")
            .rule("amer");
        let gateway = Gateway::start(&settings).await;
        let response = call(&gateway, "AMER", WEBHOOK).await;
        assert_eq!((response.status(), response.field("location")), (status, Some(AMER)));
        assert!(response.body.is_empty());
        instance.expect_nothing();

        let response = call(&gateway, "emea", WEBHOOK).await;
        assert_eq!((response.status(), response.field("location")), (202, None));
        instance.request().await;
    }
}

#[tokio::test]
async fn the_location_is_built_from_configuration_alone() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    let named = format!("{WEBHOOK}/{APP}");
    let kept = format!("https://amer.bots.example/api/calls/{APP}?switchboard-from=emea");
    let shouted = format!("{WEBHOOK}/{}", APP.to_uppercase());
    for (target, location) in [
        (named.as_str(), kept.as_str()),
        (&shouted, &kept),
        ("/api/calls?next=https://evil.example", AMER),
        ("/api/calls?switchboard-fro=amer", AMER),
        ("https://emea.bots.example/api/calls", AMER),
    ] {
        let response = call(&gateway, "amer", target).await;
        assert_eq!((response.status(), response.field("location")), (302, Some(location)), "{target}");
    }
    // The gateway does not use what a client claims about the host.
    let body = bodies::incoming_from("call-1", "amer");
    let request = Request::webhook(&Token::skype().sign(), body)
        .replace("Host", "evil.example")
        .with("X-Forwarded-Host", "evil.example")
        .with("X-Forwarded-Proto", "http")
        .with("Forwarded", "host=evil.example;proto=http")
        .with("X-Original-URL", "//evil.example")
        .with("X-Forwarded-Prefix", "//evil.example");
    let response = request.send(&gateway).await;
    assert_eq!((response.status(), response.field("location")), (302, Some(AMER)));
    instance.expect_nothing();
}

#[tokio::test]
async fn a_redirected_call_is_not_redirected_again() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    for query in ["switchboard-from=amer", "switchboard-from=apac", "a=b&switchboard-from=amer"] {
        let response = call(&gateway, "amer", &format!("{WEBHOOK}?{query}")).await;
        assert_eq!(response.status(), 202, "{query}");
        instance.request().await;
    }
}

#[tokio::test]
async fn a_call_overflows_at_most_once() {
    let issuer = Issuer::start();
    let settings =
        Settings::without_fleet(&issuer).peer("amer").line("placement", "full = \"overflow:amer\"");
    let gateway = Gateway::start(&settings).await;
    let response = call(&gateway, "emea", WEBHOOK).await;
    assert_eq!((response.status(), response.field("location")), (302, Some(AMER)));
    let response = call(&gateway, "emea", &format!("{WEBHOOK}?switchboard-from=amer")).await;
    assert_eq!((response.status(), response.field("location")), (503, None));
    assert_eq!(response.field("retry-after"), Some("1"));
}

#[tokio::test]
async fn no_call_is_redirected_to_an_unhealthy_region() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let unused = Port::reserve();
    let peer = format!(
        "[[peer]]\nname = \"amer\"\nwebhook = \"https://amer.bots.example/api/calls\"\n\
         health = \"http://{}/api/health\"\n",
        unused.address
    );
    let settings = Settings::new(&issuer, &[&instance]).table(&peer).rule("amer");
    let gateway = Gateway::start(&settings).await;
    gateway.log.message("peer region became unhealthy: it receives no redirected calls").await;
    assert_eq!(call(&gateway, "amer", WEBHOOK).await.status(), 202);
    instance.request().await;

    // The gateway of the other region starts, and its health path becomes reachable.
    let amer_instance = Instance::start("amer");
    let settings = Settings::new(&issuer, &[&amer_instance]).line("listen", "health_path = \"/api/health\"");
    let amer = Gateway::start(&settings).await;
    let listener = unused.listen();
    let forwarding = tokio::spawn(forward(listener, amer.public));
    until("calls for amer are redirected again", async || {
        (call(&gateway, "amer", WEBHOOK).await.status() == 302).then_some(())
    })
    .await;
    forwarding.abort();
}

/// Forwards every connection to another address.
pub(crate) async fn forward(listener: tokio::net::TcpListener, to: std::net::SocketAddr) {
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(to).await.unwrap();
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
    }
}
