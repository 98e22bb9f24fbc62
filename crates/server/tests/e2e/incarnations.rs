//! An instance that restarts under its name: the callbacks of its former calls do not reach it.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{
    APP, Gateway, Instance, Issuer, Reply, Request, Response, Settings, Token, bodies, gateway::path_of,
    until,
};

fn report(incarnation: &str) -> Reply {
    Reply::with(200, &[], &format!(r#"{{"state":"ready","incarnation":"{incarnation}"}}"#))
}

fn probed(issuer: &Issuer, instance: &Instance) -> Settings {
    Settings::new(issuer, &[instance]).line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
}

/// Waits until `/fleet` shows a ready instance of this incarnation.
async fn until_incarnation(gateway: &Gateway, incarnation: &str) {
    until(incarnation, async || {
        let fleet = gateway.admin("/fleet").await.json();
        (fleet[0]["incarnation"] == incarnation && fleet[0]["state"] == "ready").then_some(())
    })
    .await;
}

async fn place(gateway: &Gateway, call_id: &str) -> Response {
    Request::webhook(&Token::skype().sign(), bodies::incoming(call_id)).send(gateway).await
}

async fn call_back(gateway: &Gateway, uri: &str, call_id: &str) -> Response {
    let body = bodies::updated(call_id, "established");
    Request::post(&path_of(uri), &Token::skype().sign(), body).send(gateway).await
}

#[tokio::test]
async fn the_sums_of_counters_keep_those_of_instances_that_restart_or_leave() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = |instances: &[&Instance]| {
        Settings::new(&issuer, instances)
            .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
            .line("admin", "instance_metrics = false")
    };
    instances.iter().for_each(|instance| instance.probe(report("a1")));
    let gateway = Gateway::start(&settings(&instances.iter().collect::<Vec<_>>())).await;
    until_incarnation(&gateway, "a1").await;
    for call in 0..8 {
        assert_eq!(place(&gateway, &format!("call-{call}")).await.status(), 202);
    }
    let sums = async || {
        let mut sums = Vec::new();
        for name in ["placements", "attempts", "instance_transitions", "probes_missed"] {
            sums.push(gateway.metric(&format!("switchboard_{name}_total"), &[]).await);
        }
        sums
    };
    let mut last = sums().await;
    assert_eq!(last[..2], [8.0, 8.0]);
    let mut check = async || {
        let next = sums().await;
        assert!(next.iter().zip(&last).all(|(next, last)| next >= last), "{next:?} after {last:?}");
        last = next;
    };
    instances[0].stop().await;
    check().await;
    instances[0].probe(report("b2"));
    instances[0].restart();
    until_incarnation(&gateway, "b2").await;
    check().await;
    // bot-1 leaves.
    gateway.rewrite(&settings(&[&instances[0]]));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    check().await;
    instances[1].probe(Reply::with(200, &[], r#"{"state":"ready","incarnation":"a1","calls":0}"#));
    until("its end", async || {
        check().await;
        let fleet = gateway.admin("/fleet").await.json();
        let is_gone = |instance: &Value| instance["name"] == "bot-1" && instance["state"] == "gone";
        fleet.as_array().unwrap().iter().any(is_gone).then_some(())
    })
    .await;
    assert_eq!(place(&gateway, "call-9").await.status(), 202);
    check().await;
    assert_eq!(gateway.metric("switchboard_placements_total", &[]).await, 9.0);
}

#[tokio::test]
async fn a_killed_instance_that_restarts_gets_none_of_the_callbacks_of_its_former_calls() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.probe(report("a1"));
    let gateway = Gateway::start(&probed(&issuer, &instance)).await;
    until_incarnation(&gateway, "a1").await;
    assert_eq!(place(&gateway, "call-1").await.status(), 202);
    let request = instance.request().await;
    assert_eq!(request.field("switchboard-incarnation"), Some("a1"));
    let uri = request.field("switchboard-callback-uri").unwrap().to_owned();
    assert!(uri.contains("/emea/bot-0/k1.a1."), "{uri}");
    assert_eq!(call_back(&gateway, &uri, "call-1").await.status(), 202);
    assert_eq!(instance.request().await.field("switchboard-incarnation"), Some("a1"));

    instance.stop().await;
    let refused = call_back(&gateway, &uri, "call-1").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    instance.probe(report("b2"));
    instance.restart();
    let mut statuses = BTreeSet::new();
    until("410", async || {
        let response = call_back(&gateway, &uri, "call-1").await;
        statuses.insert(response.status());
        (response.status() == 410).then_some(())
    })
    .await;
    statuses.insert(503);
    assert_eq!(statuses, BTreeSet::from([410, 503]));
    instance.expect_nothing();
    let event = gateway.log.event("the last callback", |event| event["outcome"] == "gone").await;
    assert_eq!((&event["instance"], &event["reason"]), (&"bot-0".into(), &"instance_gone".into()), "{event}");
    let event = gateway.log.message("instance restarted").await;
    assert_eq!((&event["from"], &event["to"]), (&"a1".into(), &"b2".into()), "{event}");

    // The next process takes calls, and its callbacks reach it.
    until_incarnation(&gateway, "b2").await;
    assert_eq!(place(&gateway, "call-2").await.status(), 202);
    let request = instance.request().await;
    let uri = request.field("switchboard-callback-uri").unwrap().to_owned();
    let shown = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    assert_eq!(shown["callback_uri"], uri.as_str());
    assert_eq!(call_back(&gateway, &uri, "call-2").await.status(), 202);
    assert_eq!(instance.request().await.field("switchboard-incarnation"), Some("b2"));
}

#[tokio::test]
async fn an_unknown_incarnation_is_503_until_the_next_report() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.probe(report("a1"));
    // No probe but one that is due at once.
    let settings =
        Settings::new(&issuer, &[&instance]).line("fleet.probe", "path = \"/healthz\"\ninterval = \"1h\"");
    let gateway = Gateway::start(&settings).await;
    until_incarnation(&gateway, "a1").await;
    let shown = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    let before = shown["callback_uri"].as_str().unwrap().to_owned();

    // Another gateway finds the next process first.
    instance.probe(report("b2"));
    let config = gateway.path(crate::support::gateway::CONFIG);
    let config = config.to_str().unwrap();
    let minted = std::process::Command::new(crate::support::gateway::BINARY)
        .args(["mint", "--config", config, "--instance", "bot-0", "--app", APP, "--incarnation", "b2"])
        .output()
        .unwrap();
    let uri = String::from_utf8(minted.stdout).unwrap();
    let unknown = call_back(&gateway, uri.trim(), "call-1").await;
    assert_eq!((unknown.status(), unknown.field("retry-after")), (503, Some("1")));
    let event = gateway.log.event("it", |event| event["outcome"] == "incarnation_unknown").await;
    let expected = (&"bot-0".into(), &"incarnation_unknown".into());
    assert_eq!((&event["instance"], &event["reason"]), expected, "{event}");
    instance.expect_nothing();
    until("202", async || (call_back(&gateway, uri.trim(), "call-1").await.status() == 202).then_some(()))
        .await;
    assert_eq!(instance.request().await.field("switchboard-incarnation"), Some("b2"));
    until("410", async || (call_back(&gateway, &before, "call-0").await.status() == 410).then_some(())).await;
}

#[tokio::test]
async fn what_cannot_be_used_as_an_incarnation_is_warned_of_once() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    instance.probe(Reply::with(200, &[], r#"{"incarnation":1790000000123}"#));
    let gateway = Gateway::start(&probed(&issuer, &instance)).await;
    let prefix = "reported incarnation is not used";
    let warned = |event: &Value| event["message"].as_str().is_some_and(|it| it.starts_with(prefix));
    let event = gateway.log.event("the warning", warned).await;
    assert_eq!((&event["level"], &event["instance"]), (&"warn".into(), &"bot-0".into()), "{event}");
    until_incarnation(&gateway, "0").await;
    let probe_ms = || async { gateway.admin("/fleet").await.json()[0]["last_probe_ms"].as_u64().unwrap() };
    // Two further probes.
    for _ in 0..2 {
        let mut last = probe_ms().await;
        until("a probe", async || {
            let now = probe_ms().await;
            let is_later = now < last;
            last = now;
            is_later.then_some(())
        })
        .await;
    }
    assert_eq!(gateway.log.events().iter().filter(|event| warned(event)).count(), 1);
}
