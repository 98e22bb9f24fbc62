//! Callbacks reach the instance in their sealed URI, whatever their content. A forged seal is not found.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    APP, Gateway, Instance, Issuer, OTHER_APP, Reply, Request, Response, Settings, Token, bodies, every,
    flipped, gateway::path_of,
};

/// Places a call. Returns the index of its instance and the path of the callback URI that it received.
async fn place(gateway: &Gateway, instances: &mut [Instance], call_id: &str) -> (usize, String) {
    let response = Request::webhook(&Token::skype().sign(), bodies::incoming(call_id)).send(gateway).await;
    assert_eq!(response.status(), 202);
    let (at, request) = crate::support::instance::first_request(instances).await;
    (at, path_of(request.field("switchboard-callback-uri").unwrap()))
}

async fn post(gateway: &Gateway, path: &str, body: &str) -> Response {
    Request::post(path, &Token::skype().sign(), body).send(gateway).await
}

#[tokio::test]
async fn a_callback_reaches_the_instance_that_has_the_call() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>());
    let gateway = Gateway::start(&settings).await;
    let mut owners = std::collections::HashSet::new();
    for number in 0..24 {
        let call_id = format!("call-{number}");
        let (owner, path) = place(&gateway, &mut instances, &call_id).await;
        owners.insert(owner);
        let body = bodies::updated(&call_id, "established");
        assert_eq!(post(&gateway, &path, &body).await.status(), 202);
        let request = instances[owner].request().await;
        assert_eq!(request.body, body.as_bytes());
        assert_eq!(request.field("switchboard-call-id"), Some(call_id.as_str()));
        assert_eq!(request.field("switchboard-unsealed"), None);
        assert_eq!(request.field("switchboard-attempt"), None);
        assert_eq!(path_of(request.field("switchboard-callback-uri").unwrap()), path);
        instances.iter_mut().for_each(Instance::expect_nothing);
    }
    assert_eq!(owners.len(), 3, "24 calls, but an instance has none");
}

#[tokio::test]
async fn a_callback_is_never_refused_for_its_content() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0]])).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;
    let token = Token::skype().sign();
    for (content_type, body) in [
        (None, Vec::new()),
        (Some("application/json"), Vec::new()),
        (Some("application/json"), bodies::legacy_callback().into_bytes()),
        (Some("application/json"), b"{not json".to_vec()),
        (Some("multipart/form-data; boundary=x"), b"--x\r\n\r\n\xff\x00\r\n--x--".to_vec()),
        (Some("text/plain"), b"hello".to_vec()),
    ] {
        let request = Request::post(&path, &token, body.clone()).without("Content-Type");
        let request = match content_type {
            Some(content_type) => request.with("Content-Type", content_type),
            None => request,
        };
        assert_eq!(request.send(&gateway).await.status(), 202, "{content_type:?} {body:?}");
        let received = instances[0].request().await;
        assert_eq!(
            (received.field("content-type"), received.body.as_slice()),
            (content_type, body.as_slice())
        );
    }
}

#[tokio::test]
async fn a_forged_or_changed_callback_is_not_found() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let settings = Settings::new(&issuer, &[&instances[0]])
        .instance("bot-1", "http://127.0.0.1:9/", "")
        .table(&format!("[[app]]\nid = \"{OTHER_APP}\"\n"))
        .line("placement", "attempt = \"200ms\"");
    let gateway = Gateway::start(&settings).await;
    let path = {
        let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
        path_of(minted["callback_uri"].as_str().unwrap())
    };
    let (front, mac) = path.rsplit_once('.').unwrap();
    let last = mac.chars().last().unwrap();
    let replaced = |from: &str, to: &str| path.replacen(from, to, 1);
    let table = [
        ("another instance", replaced("bot-0", "bot-1")),
        ("another region", replaced("emea", "amer")),
        ("an unknown key", replaced("/k1.", "/k2.")),
        ("another incarnation", replaced("k1.0.", "k1.1.")),
        ("another MAC", format!("{front}.{}", flipped(mac))),
        ("a MAC cut short", path.strip_suffix(last).unwrap().to_owned()),
        ("no MAC", format!("{front}.")),
        ("no seal", path.rsplit_once('/').unwrap().0.to_owned()),
        ("a longer MAC", format!("{path}A")),
        ("padding", format!("{path}==")),
        ("another segment", format!("{path}/x")),
        ("a slash at the end", format!("{path}/")),
        ("an additional slash", replaced("callbacks/", "callbacks//")),
        ("a dot segment", replaced("callbacks/", "callbacks/./")),
        ("a parent segment", replaced("callbacks/", "callbacks/x/../")),
        ("an escaped parent", replaced("callbacks/", "callbacks/x/%2e%2e/")),
        ("an escaped letter", replaced("bot-0", "%62ot-0")),
        ("an escaped slash", replaced("/bot-0", "%2fbot-0")),
        ("twice escaped", replaced("/bot-0", "%252fbot-0")),
        ("a line break", replaced("bot-0", "bot-0%0d%0aX:1")),
        ("a NUL", replaced("bot-0", "bot-0%00")),
        ("a matrix parameter", replaced("bot-0", "bot-0;a=b")),
        ("upper case", replaced("callbacks", "Callbacks")),
        ("a backslash", replaced("/bot-0", "\\bot-0")),
        ("names that are dots", replaced("bot-0", "..")),
        ("an endless name", replaced("bot-0", &"b".repeat(300))),
    ];
    for (what, forged) in table {
        let status = post(&gateway, &forged, "{}").await.status();
        // A URI with a backslash is not valid.
        assert!(status == 404 || (what == "a backslash" && status == 400), "{what}: {status} for {forged}");
    }
    // The seal is for one app.
    let other = Token::skype().claim("aud", OTHER_APP).sign();
    assert_eq!(Request::post(&path, &other, "{}").send(&gateway).await.status(), 404);
    // An unauthenticated sender cannot find out whether a seal is valid.
    let untrusted = Token::skype().signed_by("stranger").sign();
    for target in [&path, &replaced("bot-0", "bot-1")] {
        assert_eq!(Request::post(target, &untrusted, "{}").send(&gateway).await.status(), 401);
    }
    instances[0].expect_nothing();
    // A query is ignored.
    assert_eq!(post(&gateway, &format!("{path}?a=b"), "{}").await.status(), 202);
    assert_eq!(instances[0].request().await.target(), "/api/calls");
}

#[tokio::test]
async fn every_seal_key_is_accepted_and_the_first_one_signs() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let old = Gateway::start(&Settings::new(&issuer, &[&instances[0]])).await;
    let (_, path) = place(&old, &mut instances, "call-1").await;
    let rendered = Settings::new(&issuer, &[&instances[0]]);
    let key = |id: &str| format!("{{ id = \"{id}\", secret = {{ file = \"seal-{id}\" }} }}");
    let both = format!("seal = [{}, {}]", key("k2"), key("k1"));
    let new = Gateway::start(&rendered.seal(&both)).await;
    assert!(path.contains("/k1."), "{path}");
    assert_eq!(post(&new, &path, "{}").await.status(), 202);
    let uri = instances[0].request().await;
    assert!(uri.field("switchboard-callback-uri").unwrap().contains("/k2."));
    assert_eq!(
        post(&old, &path_of(uri.field("switchboard-callback-uri").unwrap()), "{}").await.status(),
        404
    );
}

#[tokio::test]
async fn a_callback_of_another_region_or_a_removed_instance_is_410() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let settings = Settings::new(&issuer, &[&instances[0]]);
    let gateway = Gateway::start(&settings).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;

    // Another region has the same seal key, but its gateway is not configured to proxy callbacks.
    let mut elsewhere = settings.clone();
    elsewhere.region = "amer";
    let amer = Gateway::start(&elsewhere).await;
    assert_eq!(post(&amer, &path, "{}").await.status(), 410);

    let other = Instance::start("bot-7");
    let without = Gateway::start(&Settings::new(&issuer, &[&other])).await;
    assert_eq!(post(&without, &path, "{}").await.status(), 410);
    instances[0].expect_nothing();
}

#[tokio::test]
async fn a_callback_of_a_removed_instance_can_be_reassigned() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0]])).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;
    let mut successors = Instance::start_all(["bot-5", "bot-6"]);
    let settings =
        Settings::new(&issuer, &[&successors[0], &successors[1]]).line("callback", "orphaned = \"reassign\"");
    let gateway = Gateway::start(&settings).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        assert_eq!(post(&gateway, &path, &bodies::updated("call-1", "terminated")).await.status(), 202);
        let (at, request) = crate::support::instance::first_request(&mut successors).await;
        assert_eq!(request.field("switchboard-orphaned"), Some("true"));
        assert_eq!(request.field("switchboard-call-id"), Some("call-1"));
        seen.push(at);
    }
    assert!(seen.iter().all(|at| *at == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn a_callback_waits_for_an_instance_that_restarts() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let settings = Settings::new(&issuer, &[&instances[0]]).line("callback", "patience = \"20s\"");
    let gateway = Gateway::start(&settings).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;
    instances[0].stop().await;
    let callback = post(&gateway, &path, "{}");
    let returns = async {
        // At least one connection was refused.
        let mut ticks = every(25);
        while gateway.metric("switchboard_attempt_failures_total", &[("bot", "bot-0")]).await < 1.0 {
            ticks.tick().await;
        }
        instances[0].restart();
    };
    let (response, ()) = tokio::join!(callback, returns);
    assert_eq!(response.status(), 202);
    assert_eq!(instances[0].request().await.body, b"{}");
}

#[tokio::test]
async fn an_undelivered_callback_is_503_with_retry_after() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let settings = Settings::new(&issuer, &[&instances[0]]).line("callback", "patience = \"900ms\"");
    let gateway = Gateway::start(&settings).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;

    // The request was sent, and the instance did not respond or closed the connection: it is not sent again.
    for (reply, waits) in [(Reply::Never, true), (Reply::Reset, false), (Reply::Cut(Vec::new()), false)] {
        instances[0].next(reply.clone());
        let started = Instant::now();
        let response = post(&gateway, &path, "{}").await;
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")), "{reply:?}");
        assert!(!waits || started.elapsed() >= Duration::from_millis(900), "{reply:?}");
        instances[0].request().await;
        instances[0].expect_nothing();
    }
    // The request could not be sent: the gateway attempts it again.
    let unreachable = |event: &serde_json::Value| event["outcome"] == "unreachable";
    let once = gateway.log.nth(2, "the third failure", unreachable).await;
    assert!(once["attempts"].is_null(), "{once}");
    instances[0].stop().await;
    let started = Instant::now();
    let response = post(&gateway, &path, "{}").await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    assert!(started.elapsed() >= Duration::from_millis(900));
    let repeated = gateway.log.nth(3, "the fourth failure", unreachable).await;
    assert!(repeated["attempts"].as_u64() > Some(1), "{repeated}");
}

/// A bot on Microsoft's SDK refuses the first token of a new key, and fetches the key meanwhile.
#[tokio::test]
async fn a_callback_that_a_bot_with_old_keys_refuses_is_sent_once_more() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0]])).await;
    let (_, path) = place(&gateway, &mut instances, "call-1").await;
    let sealed = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    for (request, outcome) in
        [(sealed.clone(), "forwarded"), (sealed.clone().target("/api/calls"), "unsealed")]
    {
        instances[0].next(Reply::with(401, &[("WWW-Authenticate", "Bearer")], "no"));
        assert_eq!(request.send(&gateway).await.status(), 202, "{outcome}");
        let [one, two] = [instances[0].request().await, instances[0].request().await];
        assert_eq!((&one.fields, &one.body), (&two.fields, &two.body));
        let event = gateway.log.event(outcome, |event| event["outcome"] == outcome).await;
        assert_eq!(event["attempts"], 2);

        for _ in 0..2 {
            instances[0].next(Reply::status(401));
        }
        let response = request.send(&gateway).await;
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")), "{outcome}");
        for _ in 0..2 {
            instances[0].request().await;
        }
        instances[0].expect_nothing();
    }
    let declined = gateway.log.nth(1, "both refusals", |event| event["outcome"] == "declined").await;
    assert_eq!((&declined["reason"], &declined["instance"]), (&"status_401".into(), &"bot-0".into()));
    let labels = [("bot", "bot-0"), ("reason", "status_401")];
    assert_eq!(gateway.metric("switchboard_attempt_failures_total", &labels).await, 6.0);
    assert_eq!(gateway.admin("/fleet").await.json()[0]["state"], "ready");
}
