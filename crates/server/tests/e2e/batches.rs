//! Notifications with several items, and items that arrive at the webhook instead of a callback URI.

use serde_json::Value;

use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::path_of,
    instance::{ATTEMPT, first_request},
    until,
};

async fn post(gateway: &Gateway, body: &str) -> u16 {
    Request::webhook(&Token::skype().sign(), body).send(gateway).await.status()
}

fn settings(issuer: &Issuer, instances: &[Instance]) -> Settings {
    Settings::new(issuer, &instances.iter().collect::<Vec<_>>())
        .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()))
}

/// Places calls until each of two instances has one. Returns the ids of the two calls.
async fn two_calls(gateway: &Gateway, instances: &mut [Instance; 2]) -> [String; 2] {
    let mut calls = [const { None }; 2];
    for number in 0..64 {
        let call_id = format!("placed-{number}");
        assert_eq!(post(gateway, &bodies::incoming(&call_id)).await, 202);
        let (at, _) = first_request(instances).await;
        calls[at] = Some(call_id);
        if let [Some(first), Some(second)] = &calls {
            return [first.clone(), second.clone()];
        }
    }
    panic!("one of two instances received all 64 calls")
}

#[tokio::test]
async fn a_batch_of_one_owner_is_forwarded_byte_for_byte() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let [call, _] = two_calls(&gateway, &mut instances).await;
    let items = format!(
        "{{ \"value\" : [ {{\"changeType\":\"Updated\",\"resource\":\"/app/calls/{call}\",\
         \"resourceData\":{{\"state\":\"x\",\"n\":1e2}}}} ,\r\n\t\
         {{\"changeType\":\"updated\",\"resourceUrl\":\"communications/calls/{}/participants\",\
         \"resourceData\":[]}},\
         {} ], \"extra\": \"\\u00fc\" }}",
        call.to_uppercase(),
        bodies::other_item(),
    );
    assert_eq!(post(&gateway, &items).await, 202);
    let request = instances[0].request().await;
    assert_eq!(request.body, items.as_bytes());
    assert_eq!(request.field("switchboard-unsealed"), Some("true"));
    instances[1].expect_nothing();
}

#[tokio::test]
async fn each_owner_receives_its_items_unchanged() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let [first, second] = two_calls(&gateway, &mut instances).await;
    let raw = |call: &str, state: &str| {
        format!(
            "{{ \"changeType\":\"updated\", \"resource\":\"/app/calls/{call}\",\
             \"resourceData\":{{\"state\":\"{state}\",\"big\":12345678901234567890.10}} }}"
        )
    };
    let other = bodies::other_item().to_string();
    let items =
        [raw(&first, "establishing"), raw(&second, "hold"), other.clone(), raw(&first, "established")];
    let body = format!("{{\"@odata.type\":\"#x\",\"value\":[{}],\"more\":{{\"a\":[1]}}}}", items.join(","));
    assert_eq!(post(&gateway, &body).await, 202);
    let [one, two] = [instances[0].request().await, instances[1].request().await];
    let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
    for (request, mine, theirs) in [
        (&one, vec![&items[0], &items[3], &other], vec![&items[1]]),
        (&two, vec![&items[1]], vec![&items[0], &items[3]]),
    ] {
        let body = text(&request.body);
        assert!(mine.iter().all(|item| body.contains(item.as_str())), "{body}");
        assert!(theirs.iter().all(|item| !body.contains(item.as_str())), "{body}");
        let envelope: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&envelope["@odata.type"], &envelope["more"]["a"][0]),
            (&Value::from("#x"), &Value::from(1))
        );
        assert_eq!(envelope["value"].as_array().unwrap().len(), mine.len());
        assert_eq!(request.field("content-length"), Some(request.body.len().to_string().as_str()));
    }
    assert_eq!(one.field("switchboard-call-id"), Some(first.as_str()));
    assert_eq!(two.field("switchboard-call-id"), Some(second.as_str()));
}

#[tokio::test]
async fn a_batch_is_accepted_only_if_all_owners_accept() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway =
        Gateway::start(&settings(&issuer, &instances).line("callback", "patience = \"1500ms\"")).await;
    let [first, second] = two_calls(&gateway, &mut instances).await;
    let body =
        bodies::envelope(&[bodies::updated_item(&first, "hold"), bodies::updated_item(&second, "hold")]);
    for (reply, expected) in [
        (Reply::status(200), 202),
        (Reply::status(204), 202),
        (Reply::status(400), 503),
        (Reply::status(500), 503),
        (Reply::with(302, &[("Location", "https://evil.example")], ""), 503),
        (Reply::Reset, 503),
        (Reply::Never, 503),
    ] {
        instances[1].next(reply.clone());
        let response = Request::webhook(&Token::skype().sign(), body.as_str()).send(&gateway).await;
        assert_eq!((response.status(), response.body.len()), (expected, 0), "{reply:?}");
        assert_eq!(response.field("retry-after"), (expected == 503).then_some("1"), "{reply:?}");
        for instance in &mut instances {
            instance.request().await;
        }
    }
    let silent = gateway.log.nth(4, "the last batch", |event| event["outcome"] == "part_failed").await;
    assert_eq!(silent["attempts"], 2, "one attempt per part: {silent}");
}

#[tokio::test]
async fn no_item_of_a_mixed_batch_is_redirected() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0"]);
    let gateway = Gateway::start(&settings(&issuer, &instances).peer("amer").rule("amer")).await;
    let amer_item = bodies::incoming_item("call-1", "amer");
    // On its own, the call is redirected to its region.
    assert_eq!(post(&gateway, &bodies::envelope(std::slice::from_ref(&amer_item))).await, 302);
    instances[0].expect_nothing();
    let mixed = bodies::envelope(&[amer_item, bodies::updated_item("call-2", "established")]);
    assert_eq!(post(&gateway, &mixed).await, 202);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let request = instances[0].request().await;
        seen.push((
            request.field("switchboard-call-id").unwrap().to_owned(),
            request.field("switchboard-attempt").is_some(),
        ));
    }
    seen.sort();
    assert_eq!(seen, [("call-1".to_owned(), true), ("call-2".to_owned(), false)]);
}

/// A part that its owner declines is treated as a request of its own.
#[tokio::test]
async fn a_part_that_an_instance_declines_is_sent_again_or_to_the_next_instance() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let [first, second] = two_calls(&gateway, &mut instances).await;
    let items = [bodies::updated_item(&first, "hold"), bodies::updated_item(&second, "hold")];
    let item = bodies::envelope(&items);
    // Items without a seal, then new calls.
    instances[1].next(Reply::status(401));
    assert_eq!(post(&gateway, &item).await, 202);
    instances[0].request().await;
    for _ in 0..2 {
        instances[1].request().await;
    }
    instances[0].always(Reply::status(401));
    let calls: Vec<_> = (0..8).map(|at| bodies::incoming_item(&format!("new-{at}"), "emea")).collect();
    assert_eq!(post(&gateway, &bodies::envelope(&calls)).await, 202);
    // A part that is refused for good, and a batch whose parts all are.
    instances[0].always(Reply::status(403));
    assert_eq!(post(&gateway, &item).await, 503);
    instances[1].always(Reply::status(403));
    assert_eq!(post(&gateway, &item).await, 403);
    assert_eq!(post(&gateway, &bodies::envelope(&calls)).await, 403);
    let last = gateway.log.nth(2, "the last batch", |event| event["outcome"] == "part_failed").await;
    assert_eq!(last["http.response.status_code"], 403);
}

#[tokio::test]
async fn an_item_without_callback_uri_reaches_the_instance_of_its_call() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let calls = two_calls(&gateway, &mut instances).await;
    // The instance keeps its call even if another one ranks first by now: this one is drained.
    for (at, call) in calls.iter().enumerate() {
        let drain = Request::get(&format!("/fleet/bot-{at}/drain")).method("POST");
        assert_eq!(gateway.admin_request(drain).await.status(), 200);
        assert_eq!(post(&gateway, &bodies::updated(call, "established")).await, 202);
        let request = instances[at].request().await;
        assert_eq!(request.field("switchboard-unsealed"), Some("true"));
        assert_eq!(request.field("switchboard-attempt"), None);
        let uri = path_of(request.field("switchboard-callback-uri").unwrap());
        assert!(uri.contains(&format!("/bot-{at}/")), "{uri}");
    }
    // Items of a call that was never placed always go to the same instance.
    let mut owners = Vec::new();
    for _ in 0..3 {
        assert_eq!(post(&gateway, &bodies::updated("never-seen", "established")).await, 202);
        owners.push(first_request(&mut instances).await.0);
    }
    assert!(owners.iter().all(|owner| *owner == owners[0]), "{owners:?}");
}

#[tokio::test]
async fn the_calls_that_a_split_batch_ends_no_longer_count() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&settings(&issuer, &instances)).await;
    let calls = two_calls(&gateway, &mut instances).await;
    let counted = async || {
        let mut counted = Vec::new();
        for instance in ["bot-0", "bot-1"] {
            let labels = [("bot", instance)];
            counted.push(gateway.metric("switchboard_instance_calls_counted", &labels).await);
        }
        counted
    };
    let before = counted().await;
    let ended = calls.map(|call| bodies::updated_item(&call, "terminated"));
    // The platform repeats the batch: each call ends once.
    for _ in 0..2 {
        assert_eq!(post(&gateway, &bodies::envelope(&ended)).await, 202);
        assert_eq!(counted().await, before.iter().map(|count| count - 1.0).collect::<Vec<_>>());
    }
}

/// The parts of a batch are copies of its items, and count in `limits.body_memory` besides the batch.
#[tokio::test]
async fn a_batch_whose_parts_exceed_the_memory_of_bodies_is_refused_whole() {
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = settings(&issuer, &instances)
        .line("limits", "body = \"1MiB\"")
        .line("limits", "body_memory = \"1MiB\"");
    let gateway = Gateway::start(&settings).await;
    let calls = two_calls(&gateway, &mut instances).await;
    let batch = |padding: usize| {
        bodies::envelope(&calls.each_ref().map(|call| {
            let mut item = bodies::updated_item(call, "hold");
            item["resourceData"]["padding"] = "x".repeat(padding).into();
            item
        }))
    };
    // 600 KB and its parts are more than 1 MiB.
    assert_eq!(post(&gateway, &batch(300_000)).await, 503);
    let event = gateway.log.event("the refusal", |event| event["outcome"] == "over_capacity").await;
    assert_eq!(event["reason"], "too_many_body_bytes", "{event}");
    instances.iter_mut().for_each(Instance::expect_nothing);

    // 400 KB and its parts are not. They are in memory until the instances have responded.
    instances.iter().for_each(|instance| instance.next(Reply::status(200).held()));
    let fits = batch(200_000);
    let held = async {
        for instance in &mut instances {
            instance.request().await;
        }
        let bytes = gateway.metric("switchboard_request_body_bytes", &[]).await;
        instances.iter().for_each(Instance::release);
        bytes
    };
    let (status, held) = tokio::join!(post(&gateway, &fits), held);
    assert_eq!(status, 202);
    assert!(held > 800_000.0, "{held}");
    until("no bytes", async || {
        (gateway.metric("switchboard_request_body_bytes", &[]).await == 0.0).then_some(())
    })
    .await;
}
