//! `placement.fill = "pack"`.

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
async fn packing_leaves_instances_empty() {
    let issuer = Issuer::start();
    for (fill, empty) in [("fill = \"pack\"\nfill_share = 0.8", 12..=12), ("fill = \"spread\"", 0..=3)] {
        let mut instances: Vec<_> =
            (0..INSTANCES).map(|number| Instance::start(&format!("bot-{number}"))).collect();
        instances.iter().for_each(|instance| instance.probe(report(0)));
        let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>())
            .line("placement", fill)
            .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"");
        let gateway = Gateway::start(&settings).await;
        until("all instances are ready", async || {
            let fleet = gateway.admin("/fleet").await.json();
            fleet.as_array().unwrap().iter().all(|one| one["state"] == "ready").then_some(())
        })
        .await;
        let calls = place(&gateway, &mut instances).await;
        let found = calls.iter().filter(|calls| **calls == 0).count();
        assert!(empty.contains(&found), "{fill}: {calls:?}");
    }
}
