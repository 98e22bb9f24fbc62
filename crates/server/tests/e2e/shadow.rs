//! Rules in a dry run: decided, logged and counted, and not followed, until the operator follows them.

use serde_json::Value;

use crate::support::{Gateway, Instance, Issuer, Request, Response, Settings, Token, bodies};

/// A rule for calls from amer, with these further lines.
fn rule(more: &str) -> String {
    format!("[[affinity.rule]]\nsource_region = [\"amer\"]\nserve_in = \"amer\"\n{more}\n")
}

/// Posts a new call from amer. Returns the response and the event.
async fn call(gateway: &Gateway, message_id: &str) -> (Response, Value) {
    let body = bodies::incoming_from(message_id, "amer");
    let request = Request::webhook(&Token::skype().sign(), body);
    let response = request.with("X-Microsoft-Skype-Message-ID", message_id).send(gateway).await;
    let event = gateway.log.event(message_id, |event| event["message.id"] == message_id).await;
    (response, event)
}

async fn counted(gateway: &Gateway, name: &str, rule: &str, region: &str) -> f64 {
    let labels = [("rule", rule), ("region", region)];
    gateway.metric(&format!("switchboard_rules_{name}_total"), &labels).await
}

#[tokio::test]
async fn a_region_is_migrated_from_a_dry_run_by_a_share_to_all_calls() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).peer("amer");
    let gateway = Gateway::start(&settings.clone().table(&rule("dry_run = true"))).await;
    for number in 0..3 {
        let (response, event) = call(&gateway, &format!("dry-{number}")).await;
        assert_eq!((response.status(), &event["outcome"]), (202, &"placed".into()));
        assert_eq!((&event["shadow.rule"], &event["shadow.region"]), (&0.into(), &"amer".into()));
        assert_eq!((event.get("rule"), event.get("region")), (None, None), "{event}");
        instance.request().await;
    }
    assert_eq!(counted(&gateway, "shadowed", "0", "amer").await, 3.0);
    assert_eq!(counted(&gateway, "decided", "none", "emea").await, 3.0);

    // A share is decided by chain, whether it is in a dry run or not. So the shadow tells which calls move.
    let mut moved = Vec::new();
    for (step, dry_run) in [("shadow", true), ("share", false)] {
        gateway.rewrite(&settings.clone().table(&rule(&format!("share = 0.5\ndry_run = {dry_run}"))));
        gateway.signal("HUP");
        let reloads = usize::from(!dry_run);
        gateway.log.nth(reloads, "a reload", |event| event["message"] == "configuration reloaded").await;
        for number in 0..20 {
            // The chain is that of the call id, which both steps share.
            let body = bodies::incoming_from(&format!("call-{number}"), "amer");
            let message_id = format!("{step}-{number}");
            let request = Request::webhook(&Token::skype().sign(), body);
            let response = request.with("X-Microsoft-Skype-Message-ID", &message_id).send(&gateway).await;
            let event = gateway.log.event(&message_id, |event| event["message.id"] == *message_id).await;
            let is_moved = if dry_run { !event["shadow.rule"].is_null() } else { response.status() == 302 };
            moved.push(is_moved);
        }
    }
    let (shadow, share) = moved.split_at(20);
    assert_eq!(shadow, share);
    let count = share.iter().filter(|is_moved| **is_moved).count();
    assert!((1..20).contains(&count), "{share:?}");
    let count = f64::from(u32::try_from(count).unwrap());
    assert_eq!(counted(&gateway, "shadowed", "0", "amer").await, 3.0 + count);
    assert_eq!(counted(&gateway, "decided", "0", "amer").await, count);
    assert_eq!(counted(&gateway, "decided", "none", "emea").await, 3.0 + 20.0 + (20.0 - count));

    gateway.rewrite(&settings.clone().table(&rule("share = 1.0")));
    gateway.signal("HUP");
    gateway.log.nth(2, "the last reload", |event| event["message"] == "configuration reloaded").await;
    let (response, event) = call(&gateway, "last").await;
    assert_eq!((response.status(), &event["rule"], &event["region"]), (302, &0.into(), &"amer".into()));
    assert_eq!(event.get("shadow.rule"), None, "{event}");
}

#[tokio::test]
async fn the_rule_after_a_dry_run_decides() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .peer("amer")
        .peer("apac")
        .table(&rule("dry_run = true"))
        .table("[[affinity.rule]]\nserve_in = \"apac\"\n");
    let gateway = Gateway::start(&settings).await;
    let (response, event) = call(&gateway, "call").await;
    assert_eq!(response.field("location"), Some("https://apac.bots.example/api/calls?switchboard-from=emea"));
    assert_eq!((&event["rule"], &event["region"]), (&1.into(), &"apac".into()));
    assert_eq!((&event["shadow.rule"], &event["shadow.region"]), (&0.into(), &"amer".into()));
    assert_eq!(counted(&gateway, "shadowed", "0", "amer").await, 1.0);
    assert_eq!(counted(&gateway, "decided", "1", "apac").await, 1.0);
}
