//! Failover of new calls: if an instance does not accept a call, the next one is tried within the budget.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, bodies,
    instance::{ATTEMPT, first_request},
    until,
};

async fn call(gateway: &Gateway, body: &str) -> Response {
    Request::webhook(&Token::skype().sign(), body).send(gateway).await
}

fn settings(issuer: &Issuer, instances: &[Instance]) -> Settings {
    Settings::new(issuer, &instances.iter().collect::<Vec<_>>())
        .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()))
}

#[tokio::test]
async fn the_next_instance_is_tried_when_one_does_not_accept_the_call() {
    let issuer = Issuer::start();
    for reply in [
        Reply::status(502),
        Reply::status(503),
        Reply::status(504),
        Reply::with(302, &[("Location", "https://evil.example/")], ""),
        Reply::Reset,
        Reply::Cut(Vec::new()),
        Reply::Cut(b"HTTP/1.1 202 Acc".to_vec()),
        Reply::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        Reply::Bytes(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
        Reply::Never,
    ] {
        let mut instances = Instance::start_all(["bot-0", "bot-1"]);
        let gateway = Gateway::start(&settings(&issuer, &instances)).await;
        instances.iter().for_each(|instance| instance.next(reply.clone()));
        let body = bodies::incoming("call-1");
        let response = call(&gateway, &body).await;
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")), "{reply:?}");
        let mut requests = [instances[0].request().await, instances[1].request().await];
        let first = usize::from(requests[0].field("switchboard-attempt") == Some("2"));
        requests.swap(0, first);
        let [one, two] = &requests;
        assert_eq!(one.field("switchboard-attempt"), Some("1"), "{reply:?}");
        assert_eq!(two.field("switchboard-attempt"), Some("2"), "{reply:?}");
        assert_eq!(one.body, two.body);
        assert_eq!(one.field("switchboard-deadline"), two.field("switchboard-deadline"));

        // The same again, but one of them accepts the call.
        instances[first].next(reply.clone());
        instances[1 - first].next(Reply::status(202));
        assert_eq!(call(&gateway, &body).await.status(), 202, "{reply:?}");
        instances[1 - first].request().await;
    }
}

#[tokio::test]
async fn a_call_moves_to_another_instance_when_its_first_one_is_killed() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = Settings::new(&issuer, &[&instances[0], &instances[1]])
        .line("placement", "budget = \"14s\"\nattempt = \"14s\"");
    let gateway = Gateway::start(&settings).await;
    instances.iter().for_each(|instance| instance.next(Reply::Never));
    let body = bodies::incoming("call-1");
    let started = Instant::now();
    let killed = async {
        let (first, _) = first_request(&mut instances).await;
        // The other instance responds; the first one is stopped.
        instances[1 - first].clear_next();
        instances[first].stop().await;
        instances[1 - first].request().await
    };
    let (response, second) = tokio::join!(call(&gateway, &body), killed);
    assert_eq!(response.status(), 202);
    assert_eq!(second.field("switchboard-attempt"), Some("2"));
    assert!(started.elapsed() < Duration::from_secs(14));
    let unknown =
        gateway.log.message("outcome unknown: instance received a new call and did not respond").await;
    assert_eq!(unknown["level"], "warn");
    assert_eq!(gateway.metric("switchboard_outcomes_unknown_total", &[]).await, 1.0);
}

#[tokio::test]
async fn a_call_is_503_when_no_instance_is_reachable() {
    let issuer = Issuer::start();
    let gateway = Gateway::start(&Settings::without_fleet(&issuer)).await;
    for _ in 0..2 {
        let response = call(&gateway, &bodies::incoming("call-1")).await;
        assert_eq!(
            (response.status(), response.field("retry-after"), response.body.len()),
            (503, Some("1"), 0)
        );
    }
}

#[tokio::test]
async fn a_recorded_call_has_a_shorter_budget() {
    let issuer = Issuer::start();
    let instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>())
        .line("placement", "attempt = \"10s\"\nrecording_budget = \"1200ms\"");
    let gateway = Gateway::start(&settings).await;
    instances.iter().for_each(|instance| instance.always(Reply::Never));
    let started = Instant::now();
    let response = call(&gateway, &bodies::recording("call-1")).await;
    assert_eq!(response.status(), 503);
    // Each of the three attempts gets an equal share of the remaining budget. The platform waits for 5 s.
    assert!(started.elapsed() >= Duration::from_millis(800), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn the_deadline_header_is_the_deadline_of_the_platform() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    for (body, seconds) in [(bodies::incoming("call-1"), 15), (bodies::recording("call-2"), 5)] {
        let before = crate::support::unix_now();
        assert_eq!(call(&gateway, &body).await.status(), 202);
        let request = instances[0].request().await;
        let deadline: u64 = request.field("switchboard-deadline").unwrap().parse().unwrap();
        let after = crate::support::unix_now();
        assert!(((before + seconds) * 1000..=(after + 1 + seconds) * 1000).contains(&deadline), "{deadline}");
    }
}

#[tokio::test]
async fn unavailable_instances_get_their_callbacks_but_no_new_calls() {
    let issuer = Issuer::start();
    for (unavailable, state) in [
        (Reply::with(200, &[], r#"{"state":"full"}"#), "full"),
        (Reply::with(200, &[], r#"{"state":"draining"}"#), "draining"),
        (Reply::with(200, &[], r#"{"calls":7,"capacity":7}"#), "full"),
        (Reply::status(503), "draining"),
        (Reply::status(404), "unreachable"),
    ] {
        let mut instances = Instance::start_all(["bot-0", "bot-1"]);
        let settings =
            settings(&issuer, &instances).line("fleet.probe", "path = \"/healthz\"\ninterval = \"300ms\"");
        let gateway = Gateway::start(&settings).await;
        let wait_for_states = async |states: [&str; 2]| {
            until("the state of the fleet", async || {
                let fleet = gateway.admin("/fleet").await.json();
                (fleet[0]["state"] == states[0] && fleet[1]["state"] == states[1]).then_some(())
            })
            .await;
        };
        wait_for_states(["ready", "ready"]).await;
        let uri = {
            let path = format!("/fleet/bot-0/callback?app={}", crate::support::APP);
            gateway.admin(&path).await.json()["callback_uri"].as_str().unwrap().to_owned()
        };
        instances[0].probe(unavailable.clone());
        wait_for_states([state, "ready"]).await;
        for number in 0..8 {
            assert_eq!(call(&gateway, &bodies::incoming(&format!("call-{number}"))).await.status(), 202);
            instances[1].request().await;
        }
        instances[0].expect_nothing();
        let path = crate::support::gateway::path_of(&uri);
        let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
        assert_eq!(callback.send(&gateway).await.status(), 202, "{unavailable:?}");
        instances[0].request().await;
    }
}

/// The keys of one bot are old, its clock is behind, or it limits requests.
#[tokio::test]
async fn a_call_that_one_bot_declines_goes_to_the_next_bot() {
    let issuer = Issuer::start();
    for status in [401, 403, 429] {
        let mut instances = Instance::start_all(["bot-0", "bot-1"]);
        let gateway = Gateway::start(&settings(&issuer, &instances)).await;
        instances[0].always(Reply::status(status));
        let mut calls = 0;
        while instances[0].request_now().is_none() {
            calls += 1;
            assert!(calls < 64, "one of two instances received all calls");
            let response = call(&gateway, &bodies::incoming(&format!("call-{calls}"))).await;
            assert_eq!(response.status(), 202, "{status}");
            instances[1].request().await;
        }
        let reason = format!("status_{status}");
        let labels = [("bot", "bot-0"), ("reason", reason.as_str())];
        assert_eq!(gateway.metric("switchboard_attempt_failures_total", &labels).await, 1.0, "{status}");
        assert_eq!(gateway.admin("/fleet").await.json()[0]["state"], "ready", "{status}");

        // Both decline.
        instances[1].always(Reply::status(status));
        let response = call(&gateway, &bodies::incoming("declined")).await;
        let declined = |event: &serde_json::Value| event["call.id"] == "declined";
        let event = gateway.log.event("the declined call", declined).await;
        if status == 403 {
            assert_eq!((response.status(), &event["outcome"]), (403, &"placed".into()));
            continue;
        }
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")), "{status}");
        assert_eq!((&event["outcome"], &event["reason"]), (&"declined".into(), &reason.as_str().into()));
        assert_eq!(event["attempts"], 2);
        let labels = [("outcome", "declined")];
        assert_eq!(gateway.metric("switchboard_requests_total", &labels).await, 1.0);
    }
}

#[tokio::test]
async fn a_bot_that_limits_requests_gets_no_new_call_for_the_time_that_it_asks_for() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    instances[0].next(Reply::with(429, &[("Retry-After", "3600")], ""));
    for (outcome, reason) in [("declined", "status_429"), ("not_placed", "full")] {
        let response = call(&gateway, &bodies::incoming("call-1")).await;
        assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
        gateway.log.event(outcome, |event| event["outcome"] == outcome && event["reason"] == reason).await;
    }
    instances[0].request().await;
    instances[0].expect_nothing();
    let fleet = gateway.admin("/fleet").await.json();
    assert_eq!(
        (&fleet[0]["state"], &fleet[0]["reason"]),
        (&"full".into(), &"responded with 429 and Retry-After".into())
    );
}
