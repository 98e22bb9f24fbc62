//! New calls: the candidates, their order, and the failures that move a call to the next one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use switchboard_delivery::{
    Connections, InstanceState, PlaceError, PlacementCounters, PlacementLimits, UpstreamUrl,
};
use switchboard_routing::AffinityKey;
use tokio::{io::AsyncWriteExt, net::TcpListener};
use uuid::Uuid;

use crate::{setup::*, upstream::*};

/// Checks a call to two instances: the first in the ranking does `act`, and the second takes the call.
#[track_caller]
fn check(act: Option<Act>, label: &'static str, outcome_unknown: u32) -> impl Future<Output = ()> {
    let place_of_caller = std::panic::Location::caller();
    async move {
        let first = match act {
            Some(act) => Ok(ScriptedInstance::always(act)),
            None => Err(Stopped::new()),
        };
        let first_address = first.as_ref().map_or_else(|stopped| stopped.address, |up| up.address);
        let url = format!("http://{first_address}/api/calls");
        check_url(&url, label, outcome_unknown, place_of_caller).await;
    }
}

/// The same, with the first instance at `url`.
fn check_url(
    url: &str,
    label: &'static str,
    outcome_unknown: u32,
    place_of_caller: &'static std::panic::Location<'static>,
) -> impl Future<Output = ()> {
    let url = UpstreamUrl::parse(url).unwrap();
    async move {
        let second = ScriptedInstance::always(Act::status(202));
        let order = ranking(2);
        let mut settings = settings([second.address, second.address]);
        settings.instances[0].url = url;
        settings.instances[0].name = name(&order[0]);
        settings.instances[1].name = name(&order[1]);
        if label == "timeout" {
            settings.attempt = SHORT;
        }
        let delivery = Arc::new(delivery(settings));
        tokio::spawn(Arc::clone(&delivery).run());
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!(response.status, 202, "{place_of_caller}");
        assert_eq!(response.instance.as_str(), order[1], "{place_of_caller}");
        assert_eq!((response.attempts, response.outcome_unknown), (2, outcome_unknown), "{place_of_caller}");
        assert_eq!(second.only().field("switchboard-attempt"), Some("2"), "{place_of_caller}");
        let failed = status(&delivery, &order[0]);
        assert_eq!(failed.counts.failures, [(label, 1)], "{place_of_caller}");
        let is_connected = outcome_unknown > 0 || ["status_503", "redirect"].contains(&label);
        let state = if is_connected { InstanceState::Ejected } else { InstanceState::Unreachable };
        assert_eq!((failed.state, failed.counts.placed), (state, 0), "{place_of_caller}");
        assert_eq!(status(&delivery, &order[1]).counts.placed, 1, "{place_of_caller}");
    }
}

#[tokio::test]
async fn a_call_moves_on_when_the_connection_is_refused() {
    check(None, "refused", 0).await;
}

#[tokio::test]
async fn a_call_moves_on_when_an_instance_cannot_be_reached() {
    let here = std::panic::Location::caller();
    // No label of a name is that long, so the resolver sends no query.
    check_url(&format!("http://{}.invalid/", "x".repeat(64)), "lookup", 0, here).await;
    // The broadcast address accepts no connections.
    check_url("http://255.255.255.255:9/", "connect", 0, here).await;
    // One server never sends a TLS handshake, the other one sends another protocol first.
    let silent = ScriptedInstance::always(Act::stall());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain = listener.local_addr().unwrap();
    let talking = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.contoso.com ESMTP\r\n").await.unwrap();
        stream
    });
    check_url(&format!("https://{plain}/"), "not_tls", 0, here).await;
    talking.await.unwrap();
    check_url(&format!("https://{}/", silent.address), "tls_timeout", 0, here).await;
    assert_eq!(silent.seen().len(), 0);
}

#[tokio::test]
async fn a_call_moves_on_after_a_refusal() {
    check(Some(Act::status(503)), "status_503", 0).await;
    check(Some(Act::status(302)), "redirect", 0).await;
    check(Some(Act::status(307)), "redirect", 0).await;
}

#[tokio::test]
async fn a_call_moves_on_when_the_outcome_is_unknown() {
    check(Some(Act::status(502)), "status_502", 1).await;
    check(Some(Act::status(504)), "status_504", 1).await;
    check(Some(Act::SendAndClose(Vec::new())), "closed", 1).await;
    check(Some(Act::SendAndReset(Vec::new())), "closed", 1).await;
    check(Some(Act::SendAndClose(b"HTTP/1.1 202 Acc".to_vec())), "closed", 1).await;
}

#[tokio::test]
async fn a_call_moves_on_when_no_response_arrives_in_time() {
    tokio::join!(
        check(Some(Act::stall()), "timeout", 1),
        check(Some(Act::SendAndStall(b"HTTP/1.1 202 Acc".to_vec())), "timeout", 1),
        check(Some(Act::Flood(Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec())), "timeout", 1),
    );
}

#[tokio::test]
async fn a_call_moves_on_when_the_response_is_not_valid_http() {
    check(Some(Act::raw("SSH-2.0-OpenSSH_9.2\r\n\r\n")), "bad_head", 1).await;
    check(Some(Act::raw("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")), "bad_head", 1).await;
    let endless_head = format!("HTTP/1.1 202 Accepted\r\nX: {}\r\n", "x".repeat(20_000));
    check(Some(Act::raw(&endless_head)), "bad_head", 1).await;
    let many_fields = format!("HTTP/1.1 202 Accepted\r\n{}\r\n", "X: y\r\n".repeat(200));
    check(Some(Act::raw(&many_fields)), "bad_head", 1).await;
    let too_large = "HTTP/1.1 202 Accepted\r\nContent-Length: 99999999\r\n\r\n";
    check(Some(Act::raw(too_large)), "answer_too_large", 1).await;
}

#[tokio::test]
async fn every_other_response_is_returned() {
    for code in [200, 202, 204, 400, 404, 410, 500, 501] {
        let first = ScriptedInstance::always(Act::status(code));
        let delivery = delivery(settings([first.address]));
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!(response.status, StatusCode::from_u16(code).unwrap());
        assert_eq!((response.attempts, response.outcome_unknown), (1, 0));
        assert_eq!(status(&delivery, "bot-0").counts.placed, u64::from(code < 300));
        assert_eq!(state(&delivery, "bot-0"), InstanceState::Ready);
    }
}

#[tokio::test]
async fn a_call_moves_on_when_an_instance_refuses_the_sender_and_does_not_eject_it() {
    for code in [401, 403, 429] {
        let refusing = ScriptedInstance::always(Act::status(code));
        let accepting = ScriptedInstance::always(Act::status(202));
        let order = ranking(2);
        let mut settings = settings([refusing.address, accepting.address]);
        settings.instances[0].name = name(&order[0]);
        settings.instances[1].name = name(&order[1]);
        let delivery = delivery(settings);
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!((response.status.as_u16(), response.attempts, response.outcome_unknown), (202, 2, 0));
        let refused = status(&delivery, &order[0]);
        assert_eq!((refused.state, refused.counts.placed), (InstanceState::Ready, 0), "{code}");
        assert_eq!(refused.counts.failures, [(&*format!("status_{code}"), 1)]);
    }
}

#[tokio::test]
async fn a_403_is_returned_if_every_instance_responds_with_it() {
    for (codes, expected) in [
        (vec![403], Ok(403)),
        (vec![403, 403, 403], Ok(403)),
        (vec![401], Err("status_401")),
        (vec![429, 429], Err("status_429")),
        (vec![403, 503], Err("status_503")),
    ] {
        let upstreams: Vec<_> =
            codes.iter().map(|code| ScriptedInstance::always(Act::status(*code))).collect();
        let order = ranking(codes.len());
        let mut settings = settings(upstreams.iter().map(|up| up.address));
        settings.instances.iter_mut().zip(&order).for_each(|(one, name)| one.name = self::name(name));
        let placed = place(&delivery(settings), &Connections::default(), LONG).await;
        let attempts = u32::try_from(codes.len()).unwrap();
        match expected {
            Ok(code) => {
                let response = placed.unwrap();
                assert_eq!((response.status.as_u16(), response.attempts), (code, attempts), "{codes:?}");
            }
            Err(last) => {
                let error = match last {
                    "status_503" => PlaceError::AllFailed { attempts, outcome_unknown: 0, last },
                    last => PlaceError::AllDeclined { attempts, last },
                };
                assert_eq!(placed.unwrap_err(), error, "{codes:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_instance_that_dies_while_it_handles_a_call_costs_one_attempt() {
    let dying = ScriptedInstance::always(Act::SendAndReset(Vec::new()));
    let living = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([dying.address, living.address]));
    for _ in 0..4 {
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!(response.status, 202);
    }
    assert!(dying.seen().len() <= 1);
    assert_eq!(living.seen().len(), 4);
}

#[tokio::test]
async fn instances_are_asked_in_the_order_of_their_rank() {
    let upstreams: Vec<ScriptedInstance> =
        (0..4).map(|_| ScriptedInstance::always(Act::status(503))).collect();
    let delivery = delivery(settings(upstreams.iter().map(|up| up.address)));
    let failed = place(&delivery, &Connections::default(), LONG).await.unwrap_err();
    assert_eq!(failed, PlaceError::AllFailed { attempts: 4, outcome_unknown: 0, last: "status_503" });
    for (nth, name) in ranking(4).iter().enumerate() {
        let at: usize = name.trim_start_matches("bot-").parse().unwrap();
        let attempt = (nth + 1).to_string();
        assert_eq!(upstreams[at].only().field("switchboard-attempt"), Some(&*attempt));
    }
}

#[tokio::test]
async fn the_budget_is_shared_by_the_candidates_and_then_spent() {
    let upstreams: Vec<ScriptedInstance> = (0..3).map(|_| ScriptedInstance::always(Act::stall())).collect();
    let delivery = delivery(settings(upstreams.iter().map(|up| up.address)));
    let failed = place(&delivery, &Connections::default(), SHORT * 2).await.unwrap_err();
    assert_eq!(failed, PlaceError::AllFailed { attempts: 3, outcome_unknown: 3, last: "timeout" });
    assert!(upstreams.iter().all(|up| up.seen().len() == 1));
}

#[tokio::test]
async fn a_call_without_a_response_is_not_sent_to_the_whole_fleet() {
    let upstreams: Vec<ScriptedInstance> = (0..20).map(|_| ScriptedInstance::always(Act::stall())).collect();
    let delivery = delivery(settings(upstreams.iter().map(|up| up.address)));
    place(&delivery, &Connections::default(), SHORT).await.unwrap_err();
    let asked: usize = upstreams.iter().map(|up| up.seen().len()).sum();
    assert!((1..=3).contains(&asked), "{asked}");
    // The budget ended before `attempt`, so the instances were not slow.
    assert!(delivery.instances().iter().all(|known| known.state == InstanceState::Ready));
}

#[tokio::test]
async fn no_instance_is_asked_when_the_budget_is_spent_on_arrival() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    let failed = place(&delivery, &Connections::default(), Duration::ZERO).await.unwrap_err();
    assert_eq!(failed, PlaceError::AllFailed { attempts: 0, outcome_unknown: 0, last: "no_time" });
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn without_a_probe_an_instance_that_failed_is_asked_when_no_other_is_left() {
    let upstream = ScriptedInstance::in_turn(vec![Act::status(503), Act::status(202)]);
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    place(&delivery, &connections, LONG).await.unwrap_err();
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ejected);
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ready);
    assert!(delivery.can_take_call());
}

/// In a fleet of three an attempt had a third of the budget, so the call was cut off at each of them.
#[tokio::test]
async fn a_bot_that_needs_1300_ms_takes_a_recorded_call_in_a_fleet_of_three() {
    let response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n".to_vec();
    let slow = || ScriptedInstance::always(Act::SendAfter(Duration::from_millis(1300), response.clone()));
    let upstreams = [slow(), slow(), slow()];
    let mut settings = settings(upstreams.iter().map(|up| up.address));
    settings.attempt = Duration::from_secs(3);
    let delivery = delivery(settings);
    let limits = PlacementLimits { budget: Duration::from_millis(3500), outcome_unknown_max: 2 };
    let placed = delivery.place(&Connections::default(), &outbound(), AffinityKey::of(CALL), limits).await;
    assert_eq!(placed.unwrap().status, 202);
    assert!(delivery.instances().iter().all(|known| known.state == InstanceState::Ready));
    assert!(upstreams.iter().map(|up| up.seen().len()).sum::<usize>() <= 2);
}

/// They were 800 before attempts had a bound.
#[tokio::test]
async fn twenty_calls_on_forty_instances_that_refuse_them_make_at_most_a_hundred_attempts() {
    let upstreams: Vec<_> = (0..40).map(|_| ScriptedInstance::always(Act::status(503))).collect();
    let delivery = delivery(settings(upstreams.iter().map(|up| up.address)));
    let connections = Connections::default();
    for call in 0..20 {
        let key = AffinityKey::of(&call.to_string());
        let failed = delivery.place(&connections, &outbound(), key, limits(LONG)).await.unwrap_err();
        assert!(matches!(failed, PlaceError::AllFailed { attempts: 1..=5, outcome_unknown: 0, .. }));
    }
    let attempts: usize = upstreams.iter().map(|up| up.seen().len()).sum();
    assert!((20..=100).contains(&attempts), "{attempts}");
    let counters = delivery.placement_counters();
    // The floor of the retry budget for ten seconds, a fifth of the calls, and the floor once more if the
    // machine needed longer than that.
    assert!(counters.further_attempts <= 30 + 4 + 30, "{counters:?}");
    assert_eq!(u64::try_from(attempts).unwrap(), 20 + counters.further_attempts);
}

/// All eleven were refused after 1 ms, as the only instance was ejected until its next report.
#[tokio::test]
async fn calls_after_one_503_of_the_only_instance_are_accepted() {
    let posts = AtomicUsize::new(0);
    let upstream = ScriptedInstance::scripted(move |seen| {
        let is_first_call = seen.line().starts_with("POST ") && posts.fetch_add(1, Ordering::Relaxed) == 0;
        Act::status(if is_first_call { 503 } else { 202 })
    });
    let delivery = Arc::new(delivery(probed(settings([upstream.address]))));
    let running = tokio::spawn(Arc::clone(&delivery).run());
    until("the first report", || state(&delivery, "bot-0") == InstanceState::Ready).await;
    let connections = Connections::default();
    let failed = place(&delivery, &connections, LONG).await.unwrap_err();
    assert_eq!(failed, PlaceError::AllFailed { attempts: 1, outcome_unknown: 0, last: "status_503" });
    for _ in 0..11 {
        assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);
    }
    running.abort();
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_its_share_ends_and_ejects_no_instance() {
    // A TLS handshake may take a second, and the share is a third of 1.2 s.
    let silent = ScriptedInstance::always(Act::stall());
    let accepting = ScriptedInstance::always(Act::status(202));
    let order = ranking(3);
    let mut settings = settings([silent.address, accepting.address, accepting.address]);
    settings.instances[0].url = UpstreamUrl::parse(&format!("https://{}/", silent.address)).unwrap();
    settings.instances.iter_mut().zip(&order).for_each(|(one, name)| one.name = self::name(name));
    let delivery = delivery(settings);
    let response = place(&delivery, &Connections::default(), Duration::from_millis(1200)).await.unwrap();
    assert_eq!((response.attempts, response.outcome_unknown), (2, 0));
    let cut_short = status(&delivery, &order[0]);
    assert_eq!(
        (cut_short.counts.failures, cut_short.state),
        (vec![("connect_timeout", 1)], InstanceState::Ready)
    );
    until("the end of the connection", || silent.closed() == 1).await;
    assert_eq!(delivery.placement_counters(), PlacementCounters::default());
}

#[tokio::test]
async fn the_connection_of_an_attempt_that_lost_the_race_is_closed() {
    let (hanging, accepting) =
        (ScriptedInstance::always(Act::stall()), ScriptedInstance::always(Act::status(202)));
    let order = ranking(2);
    let mut settings = settings([hanging.address, accepting.address]);
    settings.instances.iter_mut().zip(&order).for_each(|(one, name)| one.name = self::name(name));
    let delivery = delivery(settings);
    let response = place(&delivery, &Connections::default(), Duration::from_millis(2000)).await.unwrap();
    assert_eq!((response.status.as_u16(), response.attempts, response.outcome_unknown), (202, 2, 1));
    until("the end of the connection", || hanging.closed() == 1).await;
    assert_eq!(delivery.placement_counters().hedges, 1);
}

#[tokio::test]
async fn a_reload_keeps_the_retry_budget_and_the_counters() {
    let upstreams: Vec<_> = (0..2).map(|_| ScriptedInstance::always(Act::status(503))).collect();
    let addresses = || upstreams.iter().map(|up| up.address);
    let before = delivery(settings(addresses()));
    place(&before, &Connections::default(), LONG).await.unwrap_err();
    let after = before.successor(settings(addresses()), uris(), tls());
    place(&after, &Connections::default(), LONG).await.unwrap_err();
    assert_eq!(after.placement_counters().further_attempts, 2);
    assert_eq!(before.placement_counters(), after.placement_counters());
}

#[tokio::test]
async fn a_retried_call_goes_to_the_same_instance() {
    let upstreams: Vec<ScriptedInstance> =
        (0..3).map(|_| ScriptedInstance::always(Act::status(202))).collect();
    let delivery = delivery(settings(upstreams.iter().map(|up| up.address)));
    for _ in 0..3 {
        let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
        assert_eq!(response.instance.as_str(), ranking(3)[0]);
    }
}

#[tokio::test]
async fn an_instance_is_asked_for_its_apps_only() {
    let (one, two) = (ScriptedInstance::always(Act::status(202)), ScriptedInstance::always(Act::status(202)));
    let mut settings = settings([one.address, two.address]);
    settings.instances[0].apps = Some(vec![Uuid::from_u128(1)]);
    settings.instances[1].apps = Some(vec![Uuid::from_u128(1), APP]);
    let delivery = delivery(settings);
    let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
    assert_eq!(response.instance.as_str(), "bot-1");
    let mut other = outbound();
    other.app = Uuid::from_u128(2);
    let failed = delivery
        .place(&Connections::default(), &other, AffinityKey::of(CALL), limits(LONG))
        .await
        .unwrap_err();
    assert_eq!(failed, PlaceError::NoInstance);
}

#[tokio::test]
async fn a_drained_instance_gets_no_new_calls_and_all_its_callbacks() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let delivery = delivery(settings([upstream.address]));
    let connections = Connections::default();
    assert!(delivery.drain("bot-0"));
    assert!(!delivery.drain("bot-9") && !delivery.resume("bot-9"));
    assert_eq!(status(&delivery, "bot-0").reason, "drained by the operator");
    assert!(status(&delivery, "bot-0").is_drained);
    assert!(!delivery.can_take_call());
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap_err(), PlaceError::Full);
    assert_eq!(forward(&delivery, &connections, "bot-0").await.unwrap().status, 202);
    assert!(delivery.resume("bot-0"));
    assert!(!status(&delivery, "bot-0").is_drained);
    assert!(delivery.can_take_call());
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);
}

#[tokio::test]
async fn the_request_arrives_as_received_except_for_the_fields_of_the_gateway() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let mut settings = settings([upstream.address]);
    settings.instances[0].url =
        UpstreamUrl::parse(&format!("http://{}/{{app}}/calls?v=1", upstream.address)).unwrap();
    let delivery = delivery(settings);
    let mut notification = outbound();
    notification.deadline_unix_ms = Some(1_790_000_000_123);
    notification.headers.extend(headers(&[
        ("host", "emea.bots.contoso.com"),
        ("content-length", "999"),
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("switchboard_tenant_id", "forged"),
        ("switchboard-attempt", "forged"),
        ("switchboard-orphaned", "forged"),
        ("x-microsoft-skype-chain-id", "chain"),
    ]));
    delivery
        .place(&Connections::default(), &notification, AffinityKey::of(CALL), limits(LONG))
        .await
        .unwrap();
    let seen = upstream.only();
    assert_eq!(seen.line(), format!("POST /{APP}/calls?v=1 HTTP/1.1"));
    assert_eq!(seen.body, outbound().body);
    let callback_uri = seen.field("switchboard-callback-uri").unwrap();
    let path = callback_uri.strip_prefix("https://emea.bots.contoso.com").unwrap();
    let uris = uris();
    let opened = uris.open(&uris.parse(path).unwrap(), APP).unwrap();
    assert_eq!(owner("bot-0"), opened);
    assert_eq!(delivery.owner("bot-0"), Some(owner("bot-0")));
    for (name, value) in [
        ("host", Some(upstream.address.to_string())),
        ("content-length", Some("12".into())),
        ("content-type", Some("application/json".into())),
        ("authorization", Some("Bearer x.y.z".into())),
        ("connection", None),
        ("x-hop", None),
        ("transfer-encoding", None),
        ("x-microsoft-skype-chain-id", Some("chain".into())),
        ("switchboard-call-id", Some(CALL.into())),
        ("switchboard-tenant-id", Some(TENANT.to_string())),
        ("switchboard_tenant_id", None),
        ("switchboard-app-id", Some(APP.to_string())),
        ("switchboard-region", Some("emea".into())),
        ("switchboard-instance", Some("bot-0".into())),
        ("switchboard-incarnation", Some("0".into())),
        ("switchboard-attempt", Some("1".into())),
        ("switchboard-deadline", Some("1790000000123".into())),
        ("switchboard-orphaned", None),
        ("switchboard-unsealed", None),
    ] {
        assert_eq!(seen.field(name), value.as_deref(), "{name}");
    }
    assert_eq!(seen.field("traceparent").unwrap().len(), 55);
}

#[tokio::test]
async fn authorization_is_not_forwarded_when_switched_off() {
    let upstream = ScriptedInstance::always(Act::status(202));
    let mut settings = settings([upstream.address]);
    settings.authorization = false;
    let delivery = delivery(settings);
    place(&delivery, &Connections::default(), LONG).await.unwrap();
    forward(&delivery, &Connections::default(), "bot-0").await.unwrap();
    assert!(upstream.seen().iter().all(|seen| seen.field("authorization").is_none()));
}

/// Any thread of a server may poll a future, so it must be `Send`.
#[test]
fn futures_can_be_sent() {
    fn check<T: Send>(_: &T) {}
    fn shared<T: Send + Sync>(_: &T) {}
    let delivery = Arc::new(delivery(settings([])));
    let connections = Connections::default();
    shared(&*delivery);
    shared(&connections);
    check(&place(&delivery, &connections, LONG));
    check(&delivery.forward(&connections, &outbound(), owner("x").as_ref()));
    check(&delivery.forward_unsealed(&connections, &outbound()));
    check(&Arc::clone(&delivery).run());
}
