//! Callbacks: to their owner only, until the end of patience, and never twice.

use std::{net::SocketAddr, sync::Arc};

use switchboard_delivery::{
    Connections, DeliverySettings, ForwardError, InstanceState, Orphaned, PlaceError, UpstreamUrl,
};
use switchboard_routing::Owner;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{setup::*, upstream::*};

#[tokio::test]
async fn any_response_of_the_owner_is_relayed() {
    for code in [200, 202, 204, 302, 307, 400, 404, 429, 500, 502, 503, 504] {
        let upstream = ScriptedInstance::always(Act::status(code));
        let delivery = delivery(settings([upstream.address]));
        let response = forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
        assert_eq!(response.status.as_u16(), code);
        assert_eq!((response.attempts, response.instance.as_str()), (1, "bot-0"));
        let seen = upstream.only();
        for name in
            ["switchboard-attempt", "switchboard-deadline", "switchboard-unsealed", "switchboard-orphaned"]
        {
            assert_eq!(seen.field(name), None, "{name}");
        }
        assert!(seen.field("switchboard-callback-uri").is_some());
        let status = status(&delivery, "bot-0");
        assert_eq!((status.counts.callbacks, status.counts.attempts, status.counts.placed), (1, 1, 0));
    }
}

#[tokio::test]
async fn callbacks_have_their_own_url() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let mut settings = settings([Stopped::new().address]);
    settings.instances[0].callback_url =
        Some(UpstreamUrl::parse(&format!("http://{}/callbacks/{{app}}", upstream.address)).unwrap());
    let delivery = delivery(settings);
    forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
    assert_eq!(upstream.only().line(), format!("POST /callbacks/{APP} HTTP/1.1"));
}

#[tokio::test]
async fn an_empty_callback_has_a_length() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    let mut notification = outbound();
    notification.body = bytes::Bytes::new();
    delivery.forward(&Connections::default(), &notification, owner("bot-0").as_ref()).await.unwrap();
    assert_eq!(upstream.only().field("content-length"), Some("0"));
}

#[tokio::test]
async fn a_stopped_instance_is_unreachable_after_the_patience() {
    let stopped = Stopped::new();
    let mut settings = settings([stopped.address]);
    settings.patience = SHORT;
    let delivery = delivery(settings);
    let started = Instant::now();
    let failed = forward(&delivery, &Connections::default(), "bot-0").await.unwrap_err();
    let ForwardError::Unreachable { instance, last, attempts } = failed else { panic!("{failed}") };
    assert_eq!((instance, last), (name("bot-0"), "refused"));
    assert!(started.elapsed() >= SHORT);
    assert!(attempts > 1);
    assert_eq!(status(&delivery, "bot-0").counts.attempts, u64::from(attempts));
    // New calls go elsewhere.
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Unreachable);
}

#[tokio::test]
async fn a_callback_is_delivered_once_its_owner_is_back_in_time() {
    let stopped = Stopped::new();
    let delivery = Arc::new(delivery(settings([stopped.address])));
    let waiting = tokio::spawn({
        let delivery = Arc::clone(&delivery);
        async move { forward(&delivery, &Connections::default(), "bot-0").await }
    });
    until("the callback was refused twice", || status(&delivery, "bot-0").counts.attempts >= 2).await;
    let upstream = ScriptedInstance::on(stopped, |_| Act::status(202));
    let response = waiting.await.unwrap().unwrap();
    assert_eq!(response.status, 202);
    assert!(response.attempts >= 2);
    assert_eq!(upstream.seen().len(), 1);
}

/// Checks that a callback is not sent again once it was written, whatever the instance does.
#[track_caller]
fn check_once(act: Act, label: &'static str) -> impl Future<Output = ()> {
    let place_of_caller = std::panic::Location::caller();
    async move {
        let upstream = ScriptedInstance::always(act);
        let mut settings = settings([upstream.address]);
        if label == "timeout" {
            settings.patience = SHORT;
        }
        let delivery = delivery(settings);
        let failed = forward(&delivery, &Connections::default(), "bot-0").await.unwrap_err();
        let expected = ForwardError::Unreachable { instance: name("bot-0"), last: label, attempts: 1 };
        assert_eq!(failed, expected, "{place_of_caller}");
        assert_eq!(upstream.seen().len(), 1, "{place_of_caller}");
    }
}

#[tokio::test]
async fn a_callback_that_was_written_is_never_sent_again() {
    check_once(Act::SendAndClose(Vec::new()), "closed").await;
    check_once(Act::SendAndReset(Vec::new()), "closed").await;
    check_once(Act::raw("nonsense\r\n\r\n"), "bad_head").await;
    check_once(Act::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"), "bad_head").await;
    check_once(Act::raw("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n"), "answer_too_large").await;
    tokio::join!(
        check_once(Act::stall(), "timeout"),
        check_once(Act::Flood(Vec::new(), b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()), "timeout"),
    );
}

#[tokio::test]
async fn a_response_to_a_callback_does_not_end_an_ejection() {
    let upstream = ScriptedInstance::in_turn(vec![
        Act::status(503),
        Act::status(500),
        Act::status(202),
        Act::status(202),
    ]);
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    place(&delivery, &connections, LONG).await.unwrap_err();
    assert!(!delivery.can_take_call());
    for _ in 0..2 {
        forward(&delivery, &connections, "bot-0").await.unwrap();
        assert_eq!(state(&delivery, "bot-0"), InstanceState::Ejected);
    }
    place(&delivery, &connections, LONG).await.unwrap();
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ready);
}

/// Checks the state of an instance after it did `act` with a callback.
async fn check_state_after(act: Act, expected: InstanceState) {
    let shown = format!("{act:.100?}");
    let upstream = ScriptedInstance::always(act);
    let mut settings = settings([upstream.address]);
    settings.patience = SHORT;
    let delivery = delivery(settings);
    let _ = forward(&delivery, &Connections::default(), "bot-0").await;
    assert_eq!(state(&delivery, "bot-0"), expected, "{shown}");
}

#[tokio::test]
async fn a_failed_callback_ejects_its_owner() {
    for code in [502, 504] {
        check_state_after(Act::status(code), InstanceState::Ejected).await;
    }
    check_state_after(Act::SendAndClose(Vec::new()), InstanceState::Ejected).await;
    check_state_after(Act::raw("nonsense\r\n\r\n"), InstanceState::Ejected).await;
    check_state_after(Act::stall(), InstanceState::Ejected).await;
    for code in [200, 302, 400, 401, 403, 404, 409, 429, 500, 503] {
        check_state_after(Act::status(code), InstanceState::Ready).await;
    }
}

#[tokio::test]
async fn a_callback_of_another_instance_or_region_has_no_owner() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    for owner in [
        Owner { instance: name("bot-1"), ..owner("bot-0") },
        Owner { region: name("amer"), ..owner("bot-0") },
    ] {
        let failed =
            delivery.forward(&Connections::default(), &outbound(), owner.as_ref()).await.unwrap_err();
        assert_eq!(failed, ForwardError::Gone { instance: owner.instance });
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn an_orphaned_callback_goes_to_the_first_in_the_ranking_if_configured() {
    let upstreams: Vec<ScriptedInstance> =
        (0..3).map(|_| ScriptedInstance::always(Act::status(202))).collect();
    let mut settings = settings(upstreams.iter().map(|up| up.address));
    settings.orphaned = Orphaned::Reassign;
    let delivery = delivery(settings);
    // The health does not matter: the next callback of the call must reach the same instance.
    for at in 0..3 {
        delivery.drain(&format!("bot-{at}"));
    }
    for _ in 0..2 {
        let response = forward(&delivery, &Connections::default(), "bot-9").await.unwrap();
        assert_eq!(response.instance.as_str(), ranking(3)[0]);
    }
    let seen: Vec<SeenRequest> = upstreams.iter().flat_map(ScriptedInstance::seen).collect();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.field("switchboard-orphaned") == Some("true")));

    let mut without_call_id = outbound();
    without_call_id.call_id = None;
    delivery.forward(&Connections::default(), &without_call_id, owner("bot-9").as_ref()).await.unwrap();
}

#[tokio::test]
async fn an_orphaned_callback_without_a_successor_is_gone() {
    let mut settings = settings([]);
    settings.orphaned = Orphaned::Reassign;
    let failed = forward(&delivery(settings), &Connections::default(), "bot-9").await.unwrap_err();
    assert_eq!(failed, ForwardError::Gone { instance: name("bot-9") });
}

#[tokio::test]
async fn an_unsealed_item_goes_to_the_instance_at_which_the_call_was_placed() {
    let order = ranking(2);
    let failing = ScriptedInstance::in_turn(vec![Act::status(503), Act::status(202)]);
    let accepting = ScriptedInstance::always(Act::status(202));
    let addresses = |name: &str| if name == order[0] { failing.address } else { accepting.address };
    let mut settings = settings([]);
    settings.instances = order.iter().map(|name| instance(name, addresses(name))).collect();
    let delivery = delivery(settings);
    let connections = Connections::default();
    // Before it is placed, and for calls that another gateway placed, the ranking is the best guess.
    assert_eq!(delivery.probable_owner(CALL, APP), Some(name(&order[0])));
    let response = place(&delivery, &connections, LONG).await.unwrap();
    assert_eq!(response.instance.as_str(), order[1]);
    assert_eq!(delivery.probable_owner(&CALL.to_uppercase(), APP), Some(name(&order[1])));
    let response = delivery.forward_unsealed(&connections, &outbound()).await.unwrap();
    assert_eq!(response.instance.as_str(), order[1]);
    let seen = accepting.seen();
    assert_eq!(seen[1].field("switchboard-unsealed"), Some("true"));
    assert_eq!(seen[1].field("switchboard-attempt"), None);
}

#[tokio::test]
async fn a_refused_call_is_not_remembered() {
    let order = ranking(2);
    let upstream = ScriptedInstance::always(Act::status(403));
    let mut settings = settings([upstream.address]);
    settings.instances[0].name = name(&order[1]);
    let before = delivery(settings.clone());
    place(&before, &Connections::default(), LONG).await.unwrap();
    settings.instances.push(instance(&order[0], upstream.address));
    let after = before.successor(settings, uris(), tls());
    assert_eq!(after.probable_owner(CALL, APP), Some(name(&order[0])));
}

#[tokio::test]
async fn an_unsealed_item_is_refused_without_an_instance_for_the_app() {
    let address: SocketAddr = Stopped::new().address;
    let mut settings = settings([address]);
    settings.instances[0].apps = Some(vec![Uuid::from_u128(1)]);
    let delivery = delivery(settings);
    assert_eq!(delivery.probable_owner(CALL, APP), None);
    let failed = delivery.forward_unsealed(&Connections::default(), &outbound()).await.unwrap_err();
    assert_eq!(failed, ForwardError::NoInstance);
}

#[tokio::test]
async fn an_instance_that_leaves_the_list_keeps_its_callbacks_until_it_has_no_calls() {
    let bot = ScriptedInstance::scripted(|seen| match seen.line().starts_with("GET ") {
        true => Act::body(200, "", r#"{"calls":0}"#),
        false => Act::status(202),
    });
    let keeping =
        |addresses: Vec<_>| DeliverySettings { keep_leaving: LONG * 100, ..probed(settings(addresses)) };
    let before = delivery(keeping(vec![bot.address]));
    let after = Arc::new(before.successor(keeping(Vec::new()), uris(), tls()));
    let connections = Connections::default();
    assert_eq!(state(&after, "bot-0"), InstanceState::Draining);
    assert_eq!(forward(&after, &connections, "bot-0").await.unwrap().status, 202);
    assert!(place(&after, &connections, SHORT).await.is_err());

    let running = tokio::spawn(Arc::clone(&after).run());
    until("the instance is removed", || state(&after, "bot-0") == InstanceState::Gone).await;
    running.abort();
    let gone = forward(&after, &connections, "bot-0").await.unwrap_err();
    assert_eq!(gone, ForwardError::Gone { instance: name("bot-0") });
}

#[tokio::test]
async fn an_instance_with_too_many_requests_in_flight_gets_no_other_callback() {
    let hanging = ScriptedInstance::always(Act::SendAndStall(Vec::new()));
    let healthy = ScriptedInstance::always(Act::status(202));
    let mut settings = settings([hanging.address, healthy.address]);
    settings.in_flight_per_instance = 2;
    let delivery = Arc::new(delivery(settings));
    let connections = Connections::default();
    // A callback whose body still arrives counts.
    let started = delivery.callback_started(owner("bot-0").as_ref()).unwrap();
    let waiting = {
        let delivery = Arc::clone(&delivery);
        tokio::spawn(async move { forward(&delivery, &Connections::default(), "bot-0").await.map(|_| ()) })
    };
    until("the callback is in flight", || status(&delivery, "bot-0").in_flight == 2).await;
    let before = status(&delivery, "bot-0");
    let expected = ForwardError::OverCapacity { instance: name("bot-0") };
    assert_eq!(forward(&delivery, &connections, "bot-0").await.unwrap_err(), expected);
    assert_eq!(delivery.callback_started(owner("bot-0").as_ref()).unwrap_err(), expected);
    // The refusals say nothing about the instance, and leave nothing behind.
    let after = status(&delivery, "bot-0");
    assert_eq!(
        (after.state, after.in_flight, after.counts.attempts),
        (before.state, 2, before.counts.attempts)
    );
    forward(&delivery, &connections, "bot-1").await.unwrap();
    // An item without a callback URI goes to the instance that its call id ranks first.
    let first = ranking(2).swap_remove(0);
    let unsealed = delivery.forward_unsealed(&connections, &outbound()).await;
    match first.as_str() {
        "bot-0" => assert_eq!(unsealed.unwrap_err(), expected),
        _ => assert_eq!(unsealed.unwrap().instance.as_str(), first),
    }
    drop(started);
    waiting.abort();
    until("nothing is in flight", || status(&delivery, "bot-0").in_flight == 0).await;
    delivery.callback_started(owner("bot-0").as_ref()).unwrap();
    // An owner that is not in the fleet has no bound. Its callback is refused by `forward`.
    delivery.callback_started(owner("bot-9").as_ref()).unwrap();
}

#[tokio::test]
async fn a_response_of_a_gateway_is_not_relayed() {
    let gateway = ScriptedInstance::always(Act::body(503, "Switchboard-Loop: true\r\n", ""));
    let delivery = delivery(settings([gateway.address]));
    let failed = forward(&delivery, &Connections::default(), "bot-0").await.unwrap_err();
    let expected = ForwardError::Unreachable { instance: name("bot-0"), last: "loop", attempts: 1 };
    assert_eq!(failed, expected);
    let failed = place(&delivery, &Connections::default(), LONG).await.unwrap_err();
    assert_eq!(failed, PlaceError::AllFailed { attempts: 1, outcome_unknown: 0, last: "loop" });
    // It says nothing about the instance.
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ready);
}
