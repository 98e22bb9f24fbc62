//! The admin listener of the running gateway: metrics, fleet, drain and resume, and access control.

use crate::support::{
    APP, Gateway, Instance, Issuer, OTHER_APP, Request, Response, Settings, Token, bodies, gateway::path_of,
};

async fn call(gateway: &Gateway, call_id: &str) -> u16 {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call_id)).send(gateway).await.status()
}

#[tokio::test]
async fn metrics_count_requests_by_outcome() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").rule("amer");
    let gateway = Gateway::start(&settings).await;
    let token = Token::skype().sign();
    for number in 0..3 {
        assert_eq!(call(&gateway, &format!("call-{number}")).await, 202);
    }
    let path = path_of(instance.request().await.field("switchboard-callback-uri").unwrap());
    for (request, status) in [
        (Request::post(&path, &token, bodies::updated("call-0", "established")), 202),
        (Request::post(&path, &token, ""), 202),
        (Request::post(&format!("{path}x"), &token, ""), 404),
        (Request::webhook(&token, bodies::incoming_from("call-9", "amer")), 302),
        (Request::webhook(&token, bodies::legacy()), 204),
        (Request::webhook(&token, "{}"), 400),
        (Request::webhook(&Token::skype().signed_by("stranger").sign(), "{}"), 401),
        (Request::webhook(&Token::entra_v2().claim("azp", OTHER_APP).sign(), "{}"), 403),
        (Request::get("/nowhere"), 404),
    ] {
        assert_eq!(request.send(&gateway).await.status(), status, "{request:?}");
    }
    let response = gateway.admin("/metrics").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(response.body).unwrap();
    assert!(!text.contains("# EOF"));
    for (name, labels, expected) in [
        ("requests_total", vec![("outcome", "placed")], 3.0),
        ("requests_total", vec![("outcome", "forwarded")], 2.0),
        ("requests_total", vec![("outcome", "redirected")], 1.0),
        ("requests_total", vec![("outcome", "asked_for_graph")], 1.0),
        ("requests_total", vec![("outcome", "not_a_notification")], 1.0),
        ("requests_total", vec![("outcome", "unauthenticated")], 1.0),
        ("requests_total", vec![("outcome", "forbidden")], 1.0),
        ("requests_total", vec![("outcome", "wrong_seal")], 1.0),
        ("requests_total", vec![("outcome", "not_found")], 1.0),
        ("requests_total", vec![], 12.0),
        ("callbacks_total", vec![("outcome", "forwarded")], 2.0),
        ("callbacks_total", vec![("outcome", "wrong_seal")], 1.0),
        ("redirects_total", vec![("peer", "amer")], 1.0),
        ("authentications_total", vec![("trust", "skype"), ("result", "signature")], 1.0),
        ("authentications_total", vec![("trust", "entra"), ("result", "service_forbidden")], 1.0),
        ("placements_total", vec![("bot", "bot-0")], 3.0),
        ("instance_callbacks_total", vec![("bot", "bot-0")], 2.0),
        ("attempts_total", vec![("bot", "bot-0")], 5.0),
        ("instance_state", vec![("bot", "bot-0"), ("state", "ready")], 1.0),
        ("key_fetches_total", vec![("trust", "skype"), ("result", "ok")], 1.0),
        ("keys", vec![("trust", "entra")], 1.0),
        ("requests_in_flight", vec![], 0.0),
        ("request_duration_seconds_count", vec![("kind", "callback")], 3.0),
        ("panics_total", vec![], 0.0),
    ] {
        let found = gateway.metric(&format!("switchboard_{name}"), &labels).await;
        assert_eq!(found, expected, "{name} {labels:?} in\n{text}");
    }
}

#[tokio::test]
async fn an_operator_drains_and_resumes_an_instance() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0], &instances[1]])).await;
    let change = async |path: &str| {
        let response = gateway.admin_request(Request::get(path).method("POST")).await;
        (response.status(), response.json())
    };
    let (status, drained) = change("/fleet/bot-0/drain").await;
    assert_eq!((status, &drained["state"]), (200, &"draining".into()));
    assert_eq!(gateway.admin("/fleet").await.json()[0]["state"], "draining");
    for number in 0..8 {
        assert_eq!(call(&gateway, &format!("call-{number}")).await, 202);
        instances[1].request().await;
    }
    instances[0].expect_nothing();

    // The drained instance keeps its callbacks. The admin listener mints a URI for a call that has none.
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await;
    let uri = minted.json()["callback_uri"].as_str().unwrap().to_owned();
    let callback =
        Request::post(&path_of(&uri), &Token::skype().sign(), bodies::updated("call-x", "established"));
    assert_eq!(callback.send(&gateway).await.status(), 202);
    assert_eq!(instances[0].request().await.field("switchboard-callback-uri"), Some(uri.as_str()));

    let (status, resumed) = change("/fleet/bot-0/resume").await;
    assert_eq!((status, &resumed["state"]), (200, &"ready".into()));
    for number in 0..40 {
        assert_eq!(call(&gateway, &format!("again-{number}")).await, 202);
    }
    instances[0].request().await;
    for (path, expected) in [("/fleet/bot-9/drain", 404), ("/fleet/bot-9/resume", 404)] {
        let (status, body) = change(path).await;
        assert_eq!((status, &body["error"]["code"]), (expected, &"unknown_instance".into()), "{path}");
    }
    for (path, expected) in [
        (format!("/fleet/bot-9/callback?app={APP}"), 404),
        (format!("/fleet/bot-0/callback?app={OTHER_APP}"), 404),
        ("/fleet/bot-0/callback".into(), 400),
        ("/fleet/bot-0/callback?app=x".into(), 400),
        ("/fleet/bot-0".into(), 404),
        ("/page".into(), 404),
        ("/api/calls".into(), 404),
        ("/fleet/bot-0/drain".into(), 405),
    ] {
        assert_eq!(gateway.admin(&path).await.status(), expected, "{path}");
    }
}

#[tokio::test]
async fn requests_of_web_pages_and_for_other_hosts_are_refused() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let plain = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let port = plain.admin.port();
    let ask = async |request: Request| plain.admin_request(request).await.status();
    for path in ["/healthz", "/readyz", "/metrics", "/fleet"] {
        assert_eq!(ask(Request::get(path)).await, 200, "{path}");
        assert_eq!(ask(Request::get(path).with("Origin", "https://evil.example")).await, 403, "{path}");
        assert_eq!(ask(Request::get(path).with("Origin", "null")).await, 403, "{path}");
        // A host name that an attacker has pointed at this address (DNS rebinding).
        assert_eq!(
            ask(Request::get(path).replace("Host", &format!("evil.example:{port}"))).await,
            403,
            "{path}"
        );
        assert_eq!(
            ask(Request::get(path).replace("Host", &format!("localhost:{port}"))).await,
            200,
            "{path}"
        );
        assert_eq!(ask(Request::get(path).method("DELETE")).await, 405, "{path}");
        let without: Response = {
            let mut client = crate::support::Client::connect(plain.admin).await;
            client.exchange(format!("GET {path} HTTP/1.1\r\n\r\n")).await
        };
        assert_eq!(without.status(), 400, "{path}");
    }
    let change = |path: &str| Request::get(path).method("POST");
    assert_eq!(ask(change("/fleet/bot-0/drain").with("Origin", "http://localhost")).await, 403);
}

#[tokio::test]
async fn drain_resume_and_mint_need_the_admin_token() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("admin", "token = { file = \"seal-k2\" }");
    let gateway = Gateway::start(&settings).await;
    let secret = crate::support::settings::SEALS[1].1;
    let minted = format!("/fleet/bot-0/callback?app={APP}");
    for request in [
        Request::get("/fleet/bot-0/drain").method("POST"),
        Request::get("/fleet/bot-0/resume").method("POST"),
        Request::get(&minted),
    ] {
        let with = |value: &str| request.clone().with("Authorization", value);
        let right = format!("Bearer {secret}");
        for (what, request, expected) in [
            ("no token", request.clone(), 401),
            ("another token", with("Bearer x"), 401),
            ("a part of the token", with(right.get(..right.len() - 1).unwrap()), 401),
            ("another scheme", with(&format!("Basic {secret}")), 401),
            ("two tokens", with(&right).with("Authorization", &right), 401),
            ("the token", with(&right), 200),
        ] {
            let response = gateway.admin_request(request).await;
            assert_eq!(response.status(), expected, "{what}");
            assert_eq!(response.field("www-authenticate"), (expected == 401).then_some("Bearer"), "{what}");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics", "/fleet"] {
        assert_eq!(gateway.admin(path).await.status(), 200, "{path}");
    }
    assert!(!gateway.log.text().contains(secret));
}
