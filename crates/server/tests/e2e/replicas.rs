//! Several gateways of one region: they share no state and make the same decisions.

use crate::support::{
    Gateway, Instance, Issuer, Request, Settings, Token, bodies, gateway::path_of, instance::first_request,
};

#[tokio::test]
async fn two_gateways_of_one_region_choose_the_same_instance() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>());
    let gateways = [Gateway::start(&settings).await, Gateway::start(&settings).await];
    let token = Token::skype().sign();
    for number in 0..20 {
        let call_id = format!("call-{number}");
        let mut seen = Vec::new();
        for gateway in &gateways {
            let response = Request::webhook(&token, bodies::incoming(&call_id)).send(gateway).await;
            assert_eq!(response.status(), 202);
            let (at, request) = first_request(&mut instances).await;
            seen.push((at, request.field("switchboard-callback-uri").unwrap().to_owned()));
        }
        assert_eq!(seen[0], seen[1], "{call_id}");

        // Both gateways accept the callback URI.
        let (owner, uri) = &seen[0];
        for gateway in &gateways {
            let body = bodies::updated(&call_id, "established");
            assert_eq!(Request::post(&path_of(uri), &token, body).send(gateway).await.status(), 202);
            instances[*owner].request().await;
        }
        // Without a callback URI they choose the same owner, although neither has placed this call.
        let unsealed = format!("other-{number}");
        let mut owners = Vec::new();
        for gateway in &gateways {
            let response =
                Request::webhook(&token, bodies::updated(&unsealed, "established")).send(gateway).await;
            assert_eq!(response.status(), 202);
            owners.push(first_request(&mut instances).await.0);
        }
        assert_eq!(owners[0], owners[1], "{unsealed}");
    }
}

#[tokio::test]
async fn calls_of_a_chain_a_thread_or_a_tenant_stay_together() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2", "bot-3"]);
    let token = Token::skype().sign();
    for (key, together) in [("call", false), ("chain", true), ("tenant", true)] {
        let settings = Settings::new(&issuer, &instances.iter().collect::<Vec<_>>())
            .line("placement", &format!("key = \"{key}\""));
        let gateway = Gateway::start(&settings).await;
        let mut owners = std::collections::HashSet::new();
        for number in 0..16 {
            let mut item = bodies::incoming_item(&format!("call-{number}"), "emea");
            item["resourceData"]["callChainId"] = "one-chain".into();
            let response = Request::webhook(&token, bodies::envelope(&[item])).send(&gateway).await;
            assert_eq!(response.status(), 202);
            owners.insert(first_request(&mut instances).await.0);
        }
        assert_eq!(owners.len() == 1, together, "{key}: {owners:?}");
    }
}
