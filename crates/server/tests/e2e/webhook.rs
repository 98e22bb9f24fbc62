//! Responses of the webhook itself: refusals before an instance is chosen, and the legacy protocol.

use serde_json::json;

use crate::support::{
    APP, Gateway, Instance, Issuer, OTHER_APP, Request, Settings, Token, WEBHOOK, bodies, until,
};

/// A gateway of two apps with a health path.
async fn gateway(issuer: &Issuer, instance: &Instance) -> Gateway {
    let settings = Settings::new(issuer, &[instance])
        .line("listen", "health_path = \"/api/health\"\nready_path = \"/api/ready\"")
        .table(&format!("[[app]]\nid = \"{OTHER_APP}\"\n"));
    Gateway::start(&settings).await
}

/// A status, and the error code in the body if there is one.
type Expected = (u16, Option<&'static str>);

#[tokio::test]
async fn responses_follow_the_status_table() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let token = Token::skype().sign();
    let post = |body: &str| Request::webhook(&token, body);
    let call = bodies::incoming("call-1");
    let deep = format!("{{\"value\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    let of_app = |app: &str| post(&call).target(&format!("{WEBHOOK}/{app}"));
    let braces = format!("{{{APP}}}");

    let table: Vec<(&str, Request, Expected)> = vec![
        ("no token", post(&call).without("Authorization"), (401, None)),
        ("another scheme", post(&call).replace("Authorization", "Basic dXNlcjpwYXNz"), (401, None)),
        ("an empty body", post(""), (400, Some("empty"))),
        ("invalid JSON", post("{"), (400, Some("not_json"))),
        ("an empty object", post("{}"), (400, Some("neither_legacy_nor_graph"))),
        ("a deep body", post(&deep), (400, Some("too_deep"))),
        ("no item about a call", post(&bodies::envelope(&[bodies::other_item()])), (400, Some("not_a_call"))),
        ("an array", post("[]"), (400, Some("not_an_object"))),
        ("text", post(&call).replace("Content-Type", "text/plain"), (415, None)),
        ("no content type", post(&call).without("Content-Type"), (415, None)),
        ("two content types", post(&call).with("Content-Type", "text/plain"), (415, None)),
        ("a coded body", post(&call).with("Content-Encoding", "gzip"), (415, None)),
        ("two codings", post(&call).with("Content-Encoding", "identity, gzip"), (415, None)),
        ("no coding", post("{").with("Content-Encoding", "identity"), (400, Some("not_json"))),
        ("an empty list of codings", post("{").with("Content-Encoding", ""), (400, Some("not_json"))),
        ("another path", post(&call).target("/api/call"), (404, None)),
        ("the root", post(&call).target("/"), (404, None)),
        ("an unknown app", of_app("33333333-41c3-47a4-8775-7259bfef4241"), (404, None)),
        ("an invalid app id", of_app("contoso"), (404, None)),
        ("an app id in braces", of_app(&braces), (404, None)),
        ("something below the app", of_app(&format!("{APP}/x")), (404, None)),
        ("the app of another token", of_app(OTHER_APP), (403, None)),
        ("reading the webhook", Request::get(WEBHOOK), (405, None)),
        ("changing it", post(&call).method("PUT"), (405, None)),
        ("reading a callback", Request::get("/api/callbacks/emea/bot-0/k1.0.AAAA"), (405, None)),
        ("posting to the health path", post(&call).target("/api/health"), (405, None)),
        ("posting to the ready path", post(&call).target("/api/ready"), (405, None)),
        ("reading an unknown path", Request::get("/"), (404, None)),
        ("the admin's paths", Request::get("/readyz"), (404, None)),
    ];
    for (what, request, (status, code)) in table {
        let response = request.send(&gateway).await;
        assert_eq!(response.status(), status, "{what}: {response:?}");
        match code {
            Some(code) => {
                let error = response.json()["error"].clone();
                assert_eq!(error["code"], code, "{what}: {error}");
                assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {error}");
                assert_eq!(response.field("content-type"), Some("application/json"), "{what}");
            }
            None => assert!(response.body.is_empty(), "{what}: {response:?}"),
        }
        let challenge = (status == 401).then_some("Bearer error=\"invalid_token\"");
        assert_eq!(response.field("www-authenticate"), challenge, "{what}");
        assert_eq!(response.field("allow").is_some(), status == 405, "{what}");
    }
    instance.expect_nothing();
}

#[tokio::test]
async fn a_legacy_body_is_204_for_an_authenticated_sender_only() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    for body in [bodies::legacy(), bodies::legacy_callback()] {
        let response = Request::webhook(&Token::skype().sign(), body.as_str())
            .with("Client-Request-Id", "7a0aa1ad")
            .with("Scenario-Id", "8a0aa1ad")
            .send(&gateway)
            .await;
        assert_eq!((response.status(), response.body.len()), (204, 0));
        assert_eq!(response.field("client-request-id"), Some("7a0aa1ad"));
        assert_eq!(response.field("scenario-id"), Some("8a0aa1ad"));
        // An unauthenticated sender cannot find out how the gateway reads a body.
        let untrusted = Token::skype().signed_by("stranger").sign();
        assert_eq!(Request::webhook(&untrusted, body.as_str()).send(&gateway).await.status(), 401);
    }
    instance.expect_nothing();
}

#[tokio::test]
async fn the_path_of_an_app_accepts_calls_of_that_app() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    for app in [APP, OTHER_APP] {
        let token = Token::skype().claim("aud", app).sign();
        for target in
            [format!("{WEBHOOK}/{app}"), format!("{WEBHOOK}/{}", app.to_uppercase()), WEBHOOK.into()]
        {
            let response = Request::post(&target, &token, bodies::incoming("call-1")).send(&gateway).await;
            assert_eq!(response.status(), 202, "{target}");
            assert_eq!(instance.request().await.field("switchboard-app-id"), Some(app), "{target}");
        }
    }
}

/// The statuses of the health path and of the ready path. GET and HEAD get the same one, and no body.
async fn health_and_ready(gateway: &Gateway) -> (u16, u16) {
    let ask = async |path: &str| {
        let get = Request::get(path).with("Connection", "close");
        let responses = [get.send(gateway).await, get.method("HEAD").send(gateway).await];
        assert!(responses.iter().all(|response| response.body.is_empty()), "{responses:?}");
        let [get, head] = responses.map(|response| response.status());
        assert_eq!(get, head, "{path}");
        get
    };
    (ask("/api/health").await, ask("/api/ready").await)
}

/// A full fleet makes no gateway unready: its calls still need their callbacks.
#[tokio::test]
async fn the_health_path_says_if_the_region_takes_calls_and_the_ready_path_if_the_gateway_serves() {
    let mut issuer = Issuer::down();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .line("listen", "health_path = \"/api/health\"\nready_path = \"/api/ready\"")
        .line("keys", "cooldown = \"100ms\"");
    let gateway = Gateway::start_unready(&settings).await;
    assert_eq!(health_and_ready(&gateway).await, (503, 503), "no trust has keys");
    issuer.come_up();
    let token = Token::skype().sign();
    until("keys", async || {
        let response = Request::webhook(&token, bodies::legacy()).send(&gateway).await;
        (response.status() == 204).then_some(())
    })
    .await;
    gateway.wait_for_ready(200).await;
    assert_eq!(health_and_ready(&gateway).await, (200, 200));
    let change = async |action: &str| {
        let request = Request::get(&format!("/fleet/bot-0/{action}")).method("POST");
        assert_eq!(gateway.admin_request(request).await.status(), 200, "{action}");
    };
    change("drain").await;
    assert_eq!(health_and_ready(&gateway).await, (503, 200), "no instance takes a call");
    change("resume").await;
    assert_eq!(health_and_ready(&gateway).await, (200, 200));
    gateway.signal("TERM");
    gateway.wait_for_ready(503).await;
    assert_eq!(health_and_ready(&gateway).await, (503, 503), "the gateway drains");
}

/// Azure Front Door probes with HEAD.
#[tokio::test]
async fn head_is_answered_as_get() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    for (path, status, allow) in [
        ("/api/health", 200, None),
        ("/api/ready", 200, None),
        ("/", 404, None),
        ("/readyz", 404, None),
        (WEBHOOK, 405, Some("POST")),
    ] {
        for method in ["GET", "HEAD"] {
            let request = Request::get(path).method(method).with("Connection", "close");
            let response = request.send(&gateway).await;
            assert_eq!((response.status(), response.field("allow")), (status, allow), "{method} {path}");
            assert!(response.body.is_empty(), "{method} {path}");
        }
    }
    let post = Request::post("/api/ready", &Token::skype().sign(), "").send(&gateway).await;
    assert_eq!((post.status(), post.field("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn every_notification_fixture_is_of_the_kind_in_its_name() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = gateway(&issuer, &instance).await;
    let token = Token::skype().sign();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/notifications");
    let mut seen = [0, 0, 0];
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (kind, expected) = match name.split('-').next() {
            Some("graph") => (0, 202),
            Some("legacy") => (1, 204),
            Some("garbage") => (2, 400),
            _ => panic!("{name} has no known kind"),
        };
        let response = Request::webhook(&token, std::fs::read(&path).unwrap()).send(&gateway).await;
        assert_eq!(response.status(), expected, "{name}: {}", String::from_utf8_lossy(&response.body));
        if expected == 400 {
            assert!(response.json()["error"]["code"].is_string(), "{name}");
        }
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_before_their_token_is_checked() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("limits", "in_flight = 1");
    let gateway = Gateway::start(&settings).await;
    instance.next(crate::support::Reply::status(202).held());
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let first = async { request.send(&gateway).await.status() };
    let second = async {
        instance.request().await;
        let shed = Request::webhook("no token at all", json!({}).to_string()).send(&gateway).await;
        instance.release();
        shed
    };
    let (first, shed) = tokio::join!(first, second);
    assert_eq!(first, 202);
    assert_eq!(shed.status(), 503);
    assert_eq!(shed.field("retry-after"), Some("1"));
    // The sender is not at fault, and its small body was read.
    assert_eq!(shed.field("connection"), None);
    assert_eq!(request.send(&gateway).await.status(), 202);
}
