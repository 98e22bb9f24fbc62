//! Bodies that are large, alone or together.

use serde_json::json;

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Request, Settings, Token, bodies, gateway::path_of, until,
};

/// The path of a callback of the instance.
async fn callback_path(gateway: &Gateway, instance: &str) -> String {
    let minted = gateway.admin(&format!("/fleet/{instance}/callback?app={APP}")).await.json();
    path_of(minted["callback_uri"].as_str().unwrap())
}

/// The roster of the largest meeting passes with the default limits, with its bytes unchanged.
#[tokio::test]
async fn the_roster_of_a_thousand_people_passes() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let path = callback_path(&gateway, "bot-0").await;
    let person = json!({ "@odata.type": "#microsoft.graph.participant", "padding": "x".repeat(1800) });
    assert!(person.to_string().len() >= 1820);
    let mut item = bodies::updated_item("call-1", "established");
    item["resource"] = json!("/app/calls/call-1/participants");
    item["resourceUrl"] = json!("/communications/calls/call-1/participants");
    item["resourceData"] = vec![person; 1000].into();
    let roster = bodies::envelope(&[item]);
    let callback = Request::post(&path, &Token::skype().sign(), roster.clone());
    assert_eq!(callback.send(&gateway).await.status(), 202);
    assert!(instance.request().await.body == roster.as_bytes());
}

/// All bodies in memory together are bounded. A body that would exceed the bound is refused before it is
/// read, and the bound is free again when the other bodies have gone.
#[tokio::test]
async fn bodies_beyond_the_memory_are_refused_unread() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance])
        .line("limits", "body = \"1MiB\"")
        .line("limits", "body_memory = \"1MiB\"");
    let gateway = Gateway::start(&settings).await;
    let path = callback_path(&gateway, "bot-0").await;
    let token = Token::skype().sign();
    let held = async |bytes: f64| {
        until("the bytes in memory", async || {
            (gateway.metric("switchboard_request_body_bytes", &[]).await == bytes).then_some(())
        })
        .await;
    };
    let large = Request::post(&path, &token, vec![b' '; 900_000]).bytes();
    let (most, last) = large.split_at(large.len() - 1);
    let mut slow = Client::connect(gateway.public).await;
    slow.send(most).await;
    held(900_000.0).await;

    let mut refused = Client::connect(gateway.public).await;
    let head = Request::post(&path, &token, "").with("Content-Length", "200000").bytes();
    let response = refused.exchange(head).await;
    assert_eq!((response.status(), response.field("retry-after")), (503, Some("1")));
    let event = gateway.log.event("a refusal", |event| event["outcome"] == "over_capacity").await;
    assert_eq!(event["reason"], "too_many_body_bytes", "{event}");
    // The length of a chunked body shows only as it arrives.
    let chunked = Request::post(&path, &token, [b"30d40\r\n".as_slice(), &[b' '; 200_000]].concat());
    let response = chunked.with("Transfer-Encoding", "chunked").send(&gateway).await;
    assert_eq!(response.status(), 503);
    // A body that fits is taken.
    let small = Request::post(&path, &token, bodies::updated("call-1", "established"));
    assert_eq!(small.send(&gateway).await.status(), 202);
    instance.request().await;

    slow.send(last).await;
    assert_eq!(slow.response().await.status(), 202);
    assert_eq!(instance.request().await.body.len(), 900_000);
    held(0.0).await;
    assert_eq!(Request::post(&path, &token, vec![b' '; 200_000]).send(&gateway).await.status(), 202);
}
