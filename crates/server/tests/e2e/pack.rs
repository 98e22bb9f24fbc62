//! `placement.fill = "pack"`, and the size of the fleet that autoscalers read.

use serde_json::json;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, instance::first_request, until,
};

const INSTANCES: usize = 20;
const CALLS: usize = 60;

fn report(calls: usize) -> Reply {
    Reply::with(200, &[], &format!("{{\"state\":\"ready\",\"calls\":{calls},\"capacity\":10}}"))
}

/// Places calls, each of which its instance reports from then on. Returns the calls of each instance.
async fn place(gateway: &Gateway, instances: &mut [Instance]) -> Vec<usize> {
    let token = Token::skype().sign();
    let mut calls = vec![0; instances.len()];
    for number in 0..CALLS {
        let body = bodies::incoming(&format!("call-{number}"));
        assert_eq!(Request::webhook(&token, body).send(gateway).await.status(), 202);
        let (at, _) = first_request(instances).await;
        calls[at] += 1;
        instances[at].probe(report(calls[at]));
    }
    calls
}

#[tokio::test]
async fn packing_leaves_instances_empty_and_the_summary_says_how_many_are_wanted() {
    let issuer = Issuer::start();
    for (fill, empty) in [("fill = \"pack\"\nfill_share = 0.8", 12..=12), ("fill = \"spread\"", 0..=3)] {
        let mut instances: Vec<_> =
            (0..INSTANCES).map(|number| Instance::start(&format!("bot-{number}"))).collect();
        instances.iter().for_each(|instance| instance.probe(report(0)));
        let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>())
            .line("placement", fill)
            .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"");
        let gateway = Gateway::start(&settings).await;
        let summary = async || gateway.admin("/fleet/summary").await.json();
        until("all instances are ready", async || {
            (summary().await["instances"]["by_state"]["ready"] == INSTANCES).then_some(())
        })
        .await;
        let calls = place(&gateway, &mut instances).await;
        let found = calls.iter().filter(|calls| **calls == 0).count();
        assert!(empty.contains(&found), "{fill}: {calls:?}");
        // 60 calls and a fifth of them, 10 on each instance: 7.2.
        let states = json!({
            "starting": 0, "ready": INSTANCES, "full": 0, "draining": 0, "ejected": 0, "unreachable": 0,
        });
        let expected = json!({
            "instances": { "total": INSTANCES, "by_state": states },
            "calls": CALLS, "capacity": 200, "free": 140, "wanted": 8,
        });
        // A report that was on its way while the last call was placed may count that call twice.
        until("the summary", async || (summary().await == expected).then_some(())).await;
        for (name, labels, expected) in [
            ("calls", vec![], 60.0),
            ("capacity", vec![], 200.0),
            ("free", vec![], 140.0),
            ("wanted_instances", vec![], 8.0),
            ("instances", vec![("state", "ready")], 20.0),
            ("instances", vec![], 20.0),
        ] {
            let found = gateway.metric(&format!("switchboard_fleet_{name}"), &labels).await;
            assert_eq!(found, expected, "{name} {labels:?}");
        }
    }
}

#[tokio::test]
async fn the_summary_knows_no_wanted_size_without_a_capacity() {
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let summary = gateway.admin("/fleet/summary").await.json();
    assert_eq!((&summary["capacity"], &summary["wanted"]), (&0.into(), &serde_json::Value::Null));
    let metrics = String::from_utf8(gateway.admin("/metrics").await.body).unwrap();
    assert!(!metrics.contains("switchboard_fleet_wanted_instances"), "{metrics}");
    assert_eq!(gateway.admin_request(Request::get("/fleet/summary").method("POST")).await.status(), 405);
}
