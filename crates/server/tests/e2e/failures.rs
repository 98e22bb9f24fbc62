//! Failures between gateways, instances and regions. Each reason is provoked, and must appear in the log, in
//! the metrics and in `/fleet`.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Reply, Request, Settings, Token, WEBHOOK, bodies,
    gateway::path_of,
    instance::{ATTEMPT, first_request},
    port::Port,
    until,
};

fn call(call_id: &str) -> Request {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call_id))
}

/// Returns the failures of `bot-0` by reason, from `/fleet`.
async fn failures(gateway: &Gateway) -> BTreeMap<String, u64> {
    let fleet = gateway.admin("/fleet").await.json();
    serde_json::from_value(fleet[0]["failures"].clone()).unwrap()
}

/// Posts calls to a fleet of one instance at `bad` and one that accepts all calls, until the bad one was
/// tried first.
///
/// Each call must be accepted, and the failure must have this reason.
async fn check(issuer: &Issuer, bad: SocketAddr, reason: &str, unknown: bool) {
    let mut good = Instance::start("bot-1");
    let settings = Settings::new(issuer, &[])
        .instance("bot-0", &format!("http://{bad}/api/calls"), "")
        .instance("bot-1", &good.url(), "")
        .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()));
    let gateway = Gateway::start(&settings).await;
    for number in 0.. {
        assert!(number < 64, "{reason}: bot-0 was never tried first");
        let call_id = format!("call-{number}");
        assert_eq!(call(&call_id).send(&gateway).await.status(), 202, "{reason}");
        let request = good.request().await;
        if request.field("switchboard-attempt") == Some("2") {
            break;
        }
    }
    assert_eq!(failures(&gateway).await, BTreeMap::from([(reason.to_owned(), 1)]));
    let state = if ["refused", "connect_timeout"].contains(&reason) { "unreachable" } else { "ejected" };
    let fleet = gateway.admin("/fleet").await.json();
    assert_eq!(fleet[0]["state"], state, "{reason}: {fleet}");
    let changed = gateway.log.event("the change", |event| event["to"] == state).await;
    assert_eq!((&changed["level"], &changed["instance"]), (&"warn".into(), &"bot-0".into()), "{changed}");
    let labels = [("bot", "bot-0"), ("reason", reason)];
    assert_eq!(gateway.metric("switchboard_attempt_failures_total", &labels).await, 1.0, "{reason}");
    let labels = [("bot", "bot-0"), ("state", state)];
    assert_eq!(gateway.metric("switchboard_instance_transitions_total", &labels).await, 1.0, "{reason}");
    assert_eq!(gateway.metric("switchboard_instance_state", &labels).await, 1.0, "{reason}");
    let change = gateway.log.message("instance state changed").await;
    let fields = [&change["instance"], &change["from"], &change["to"], &change["reason"]];
    assert_eq!(fields, [&"bot-0".into(), &"ready".into(), &state.into(), &fleet[0]["reason"]]);
    let event = gateway.log.event("the call", |event| event["attempts"] == 2).await;
    assert_eq!((&event["outcome"], &event["instance"]), (&"placed".into(), &"bot-1".into()), "{event}");
    assert_eq!(event["outcome_unknown"], if unknown { 1.into() } else { serde_json::Value::Null }, "{event}");
    let count = gateway.metric("switchboard_outcomes_unknown_total", &[]).await;
    assert_eq!(count, f64::from(u8::from(unknown)), "{reason}");
}

#[tokio::test]
async fn a_call_goes_to_another_instance_when_a_connection_is_refused() {
    let closed = Port::reserve();
    check(&Issuer::start(), closed.address, "refused", false).await;
}

#[tokio::test]
async fn a_call_goes_to_another_instance_when_connecting_times_out() {
    // A listener that never accepts: once its queue is full, the kernel ignores further connections.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener: TcpListener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(std::time::Duration::from_millis(300), TcpStream::connect(address)).await
    {
        queue.push(connected.unwrap());
        assert!(queue.len() < 64, "the queue never fills up");
    }
    check(&Issuer::start(), address, "connect_timeout", false).await;
}

#[tokio::test]
async fn a_call_goes_to_another_instance_when_the_first_one_fails() {
    let issuer = Issuer::start();
    for (reply, reason, unknown) in [
        (Reply::status(502), "status_502", true),
        (Reply::status(503), "status_503", false),
        (Reply::status(504), "status_504", true),
        (Reply::with(307, &[("Location", "https://evil.example/")], ""), "redirect", false),
        (Reply::Reset, "closed", true),
        (Reply::Cut(Vec::new()), "closed", true),
        (Reply::Cut(b"HTTP/1.1 202 Acc".to_vec()), "closed", true),
        (Reply::Cut(b"HTTP/1.1 202 Accepted\r\nContent-Le".to_vec()), "closed", true),
        (Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()), "bad_head", true),
        (
            Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
            "answer_too_large",
            true,
        ),
        (Reply::Never, "timeout", true),
    ] {
        let bad = Instance::start("bot-0");
        bad.always(reply);
        let address = bad.url().split('/').nth(2).unwrap().parse().unwrap();
        check(&issuer, address, reason, unknown).await;
    }
}

#[tokio::test]
async fn no_call_overflows_to_an_unhealthy_region() {
    let issuer = Issuer::start();
    let instance = Instance::start("amer");
    let settings = Settings::new(&issuer, &[&instance]).line("listen", "health_path = \"/api/health\"");
    let amer = Gateway::start(&settings).await;
    let health = format!("health = \"http://{}/api/health\"\n", amer.public);
    let settings = Settings::without_fleet(&issuer)
        .peer("amer")
        .table(&health)
        .line("placement", "full = \"overflow:amer\"");
    let gateway = Gateway::start(&settings).await;
    let status = async || call("call-1").send(&gateway).await.status();
    assert_eq!(status().await, 302);
    // Its only instance drains, so that the region can accept no call and its health path responds with 503.
    let change = async |what: &str| {
        let path = format!("/fleet/amer/{what}");
        let request = Request::get(&path).method("POST");
        assert_eq!(amer.admin_request(request).await.status(), 200);
    };
    change("drain").await;
    gateway.log.message("peer region became unhealthy: it receives no redirected calls").await;
    let refused = call("call-1").send(&gateway).await;
    assert_eq!((refused.status(), refused.field("location")), (503, None));
    assert_eq!(refused.field("retry-after"), Some("1"));
    assert_eq!(gateway.metric("switchboard_peer_healthy", &[("peer", "amer")]).await, 0.0);
    change("resume").await;
    until("calls overflow again", async || (status().await == 302).then_some(())).await;
    assert_eq!(gateway.metric("switchboard_peer_healthy", &[("peer", "amer")]).await, 1.0);
}

#[tokio::test]
async fn calls_of_an_unhealthy_region_are_placed_here() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let peer = Instance::start("health");
    // A test instance treats any GET as a probe.
    let health = format!("health = \"{}\"\n", peer.url());
    let settings = Settings::new(&issuer, &[&instance]).peer("amer").table(&health).rule("amer");
    let gateway = Gateway::start(&settings).await;
    let request = Request::post(WEBHOOK, &Token::skype().sign(), bodies::incoming_from("call-1", "amer"));
    assert_eq!(request.send(&gateway).await.status(), 302);
    for unhealthy in [Reply::status(503), Reply::status(404), Reply::with(302, &[("Location", "/")], "")] {
        peer.probe(unhealthy);
        until("the call stays here", async || (request.send(&gateway).await.status() == 202).then_some(()))
            .await;
        instance.request().await;
        peer.probe(Reply::status(200));
        until("the call is redirected", async || {
            (request.send(&gateway).await.status() == 302).then_some(())
        })
        .await;
        while instance.request_now().is_some() {}
    }
}

#[tokio::test]
async fn gateways_with_one_view_of_the_fleet_choose_the_same_instance() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2", "bot-3", "bot-4"]);
    let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>());
    let gateways = [Gateway::start(&settings).await, Gateway::start(&settings).await];
    let mut clients = [Client::connect(gateways[0].public).await, Client::connect(gateways[1].public).await];
    let mut chosen = BTreeMap::new();
    for round in 0..2 {
        for number in 0..100 {
            let call_id = format!("call-{number}");
            let mut owners = Vec::new();
            for client in &mut clients {
                assert_eq!(client.exchange(call(&call_id).bytes()).await.status(), 202);
                let (owner, request) = first_request(&mut instances).await;
                assert_eq!(request.field("switchboard-attempt"), Some("1"));
                owners.push(owner);
            }
            assert_eq!(owners[0], owners[1], "{call_id}");
            match chosen.insert(call_id, owners[0]) {
                // Only the calls of the drained instance move.
                Some(before) if before != 2 => assert_eq!(before, owners[0]),
                Some(_) => assert_ne!(owners[0], 2),
                None => assert_eq!(round, 0),
            }
        }
        for gateway in &gateways {
            let request = Request::get("/fleet/bot-2/drain").method("POST");
            assert_eq!(gateway.admin_request(request).await.status(), 200);
        }
    }
}

/// An instance whose URL is the gateway itself. `check` cannot find it if the port is not known before the
/// start, or if a name leads there.
#[tokio::test]
async fn a_request_that_leads_back_to_the_gateway_is_refused_once() {
    let issuer = Issuer::start();
    let good = Instance::start("bot-1");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&good])).await;
    let own = format!("http://{}/api/calls", gateway.public);
    gateway.rewrite(&Settings::new(&issuer, &[]).instance("bot-0", &own, ""));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    let outcomes =
        async |outcome: &str| gateway.metric("switchboard_requests_total", &[("outcome", outcome)]).await;

    let refused = call("call-1").send(&gateway).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!((outcomes("not_placed").await, outcomes("loop").await), (1.0, 1.0));
    let event = gateway.log.event("the call", |event| event["outcome"] == "not_placed").await;
    assert_eq!(event["reason"], "loop", "{event}");
    let event = gateway.log.event("the refusal", |event| event["outcome"] == "loop").await;
    assert_eq!(event["reason"], "sent_by_a_gateway", "{event}");
    // The failure says nothing about an instance.
    assert_eq!(failures(&gateway).await, BTreeMap::from([("loop".to_owned(), 1)]));
    assert_eq!(gateway.admin("/fleet").await.json()[0]["state"], "ready");

    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let path = path_of(minted["callback_uri"].as_str().unwrap());
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    assert_eq!(callback.send(&gateway).await.status(), 503);
    assert_eq!((outcomes("unreachable").await, outcomes("loop").await), (1.0, 2.0));

    // With another instance each call is placed there.
    gateway.rewrite(&Settings::new(&issuer, &[&good]).instance("bot-0", &own, ""));
    gateway.signal("HUP");
    gateway.log.nth(1, "a reload", |event| event["message"] == "configuration reloaded").await;
    for number in 0..10 {
        assert_eq!(call(&format!("call-{number}")).send(&gateway).await.status(), 202);
    }
    assert!(outcomes("loop").await <= 12.0);

    // Only an authenticated sender learns that the gateway looks at the field.
    let marked = call("call-1").with("Switchboard-Instance", "bot-0");
    let refused = marked.send(&gateway).await;
    assert_eq!((refused.status(), refused.field("switchboard-loop")), (503, Some("true")));
    let untrusted = Token::skype().signed_by("stranger").sign();
    let refused = marked.replace("Authorization", &format!("Bearer {untrusted}")).send(&gateway).await;
    assert_eq!((refused.status(), refused.field("switchboard-loop")), (401, None));
}

#[tokio::test]
async fn a_missed_probe_is_logged_once_for_each_cause() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let mut settings = Settings::new(&issuer, &[&instance]);
    settings.tls = true;
    let secure = Gateway::start(&settings).await;
    // The TLS listener of a gateway is an instance with a certificate of an unknown authority.
    let plain = Instance::start("bot-1");
    let settings = Settings::new(&issuer, &[])
        .instance("bot-0", &format!("https://localhost:{}/", secure.public.port()), "")
        .instance("bot-1", &plain.url(), "")
        .line("fleet.probe", "path = \"/healthz\"\ninterval = \"500ms\"");
    let gateway = Gateway::start(&settings).await;
    let changed = gateway.log.event("the change", |event| event["to"] == "unreachable").await;
    let reason = "missed its probes: certificate is of an unknown authority";
    assert_eq!((&changed["instance"], &changed["reason"]), (&"bot-0".into(), &reason.into()), "{changed}");
    let fleet = gateway.admin("/fleet").await.json();
    assert_eq!(fleet[0]["reason"], reason, "{fleet}");
    assert_eq!(fleet[0]["last_miss"], "tls_unknown_authority", "{fleet}");
    assert_eq!(fleet[1]["last_miss"], serde_json::Value::Null, "{fleet}");

    for (reply, reason) in [
        (Reply::status(404), "status_404"),
        (Reply::with(302, &[("Location", "/login")], ""), "redirect"),
        (Reply::with(200, &[], &"x".repeat(5000)), "answer_too_large"),
    ] {
        plain.probe(reply);
        let missed = gateway.log.event(reason, |event| event["reason"] == reason).await;
        assert_eq!((&missed["level"], &missed["instance"]), (&"info".into(), &"bot-1".into()), "{missed}");
    }
    let reason = "missed its probes: response too large";
    until("the last cause", async || {
        (gateway.admin("/fleet").await.json()[1]["reason"] == reason).then_some(())
    })
    .await;
    // The log has no debug events. At most one miss of each cause is logged; a busy machine adds time-outs.
    let events = gateway.log.events();
    let of_message = |message: &str, reason: Option<&str>| {
        let fits = |event: &&serde_json::Value| {
            event["message"] == message && reason.is_none_or(|reason| event["reason"] == reason)
        };
        events.iter().filter(fits).count()
    };
    assert_eq!(of_message("TLS handshake with an upstream failed", None), 1);
    for reason in ["status_404", "redirect"] {
        assert_eq!(of_message("instance missed a probe", Some(reason)), 1, "{reason}");
    }
    assert!(!gateway.log.text().contains("statem"));
}
