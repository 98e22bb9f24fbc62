//! Probes over real sockets: the report of an instance decides its state.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use crate::{setup::*, upstream::*};
use switchboard_delivery::{
    Connections, Delivery, ExaminedState, Histogram, InstanceState, PlaceError, ProbeSettings,
};

/// An instance whose response to probes a test can change, and that accepts all other requests.
struct ProbedBot {
    upstream: ScriptedInstance,
    probe: Arc<Mutex<Act>>,
}

impl ProbedBot {
    fn new(probe: Act) -> Self {
        let probe = Arc::new(Mutex::new(probe));
        let script = Arc::clone(&probe);
        let upstream = ScriptedInstance::scripted(move |seen| {
            if seen.line().starts_with("GET ") { script.lock().unwrap().clone() } else { Act::status(202) }
        });
        Self { upstream, probe }
    }

    fn reports(&self, probe: Act) {
        *self.probe.lock().unwrap() = probe;
    }

    fn posts(&self) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.line().starts_with("POST ")).count()
    }
}

fn fleet(bots: &[&ProbedBot]) -> Arc<Delivery> {
    Arc::new(delivery(probed(settings(bots.iter().map(|bot| bot.upstream.address)))))
}

/// Probes until an instance is in a state, and then stops, so that the instance is still in that state in the
/// next line, however busy the machine is.
async fn probe_until(delivery: &Arc<Delivery>, instance: &str, expected: InstanceState) {
    let running = tokio::spawn(Arc::clone(delivery).run());
    until(expected.label(), || state(delivery, instance) == expected).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn an_instance_takes_calls_after_its_first_report() {
    let bot = ProbedBot::new(Act::body(200, "", r#"{"state":"ready","calls":3,"capacity":10}"#));
    let delivery = fleet(&[&bot]);
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Starting);
    assert!(!delivery.can_take_call());
    let connections = Connections::default();
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap_err(), PlaceError::NoneReachable);
    assert_eq!(forward(&delivery, &connections, "bot-0").await.unwrap().status, 202);

    probe_until(&delivery, "bot-0", InstanceState::Ready).await;
    let known = status(&delivery, "bot-0");
    assert_eq!((known.calls, known.capacity), (Some(3), Some(10)));
    assert!(known.last_probe.is_some());
    assert!(delivery.can_take_call());
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);

    let probe = bot.upstream.seen().into_iter().find(|seen| seen.line().starts_with("GET ")).unwrap();
    assert_eq!(probe.line(), "GET /healthz HTTP/1.1");
    assert_eq!(probe.field("host"), Some(&*bot.upstream.address.to_string()));
}

#[tokio::test]
async fn a_full_or_draining_instance_gets_no_new_calls_and_all_its_callbacks() {
    let bot = ProbedBot::new(Act::status(200));
    let delivery = fleet(&[&bot]);
    let connections = Connections::default();
    for (response, expected) in [
        (Act::body(200, "", r#"{"state":"full"}"#), InstanceState::Full),
        (Act::body(200, "", r#"{"calls":10,"capacity":10}"#), InstanceState::Full),
        (Act::body(200, "", r#"{"state":"draining","calls":1}"#), InstanceState::Draining),
        (Act::body(503, "", ""), InstanceState::Draining),
    ] {
        bot.reports(Act::status(200));
        probe_until(&delivery, "bot-0", InstanceState::Ready).await;
        let before = bot.posts();
        bot.reports(response);
        probe_until(&delivery, "bot-0", expected).await;
        assert_eq!(place(&delivery, &connections, LONG).await.unwrap_err(), PlaceError::Full);
        assert_eq!(bot.posts(), before);
        assert_eq!(forward(&delivery, &connections, "bot-0").await.unwrap().status, 202);
        assert_eq!(bot.posts(), before + 1);
    }
}

/// Checks that three such responses make an instance unreachable for new calls, and only for new calls.
async fn check_missed(cause: &str, reason: &str, miss: Act) {
    let shown = format!("{miss:.100?}");
    let bot = ProbedBot::new(Act::status(200));
    let delivery = fleet(&[&bot]);
    let connections = Connections::default();
    probe_until(&delivery, "bot-0", InstanceState::Ready).await;
    bot.reports(miss);
    // On a busy machine a probe may be missed for its time, before one is missed for the response.
    let running = tokio::spawn(Arc::clone(&delivery).run());
    let reason = format!("missed its probes: {reason}");
    until(&reason, || status(&delivery, "bot-0").reason == reason).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    let known = status(&delivery, "bot-0");
    assert_eq!((known.state, known.last_miss), (InstanceState::Unreachable, Some(cause)), "{shown}");
    assert!(known.counts.missed_probes >= 3, "{shown}");
    let count = |histogram: &Histogram| histogram.read().buckets.last().unwrap().1;
    assert_eq!(count(&delivery.durations().probes_missed), known.counts.missed_probes, "{shown}");
    assert!(count(&delivery.durations().probes_ok) >= 1, "{shown}");
    assert_eq!(known.counts.failures, [], "{shown}");
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap_err(), PlaceError::NoneReachable, "{shown}");
    assert_eq!(forward(&delivery, &connections, "bot-0").await.unwrap().status, 202, "{shown}");
    bot.reports(Act::status(200));
    probe_until(&delivery, "bot-0", InstanceState::Ready).await;
}

#[tokio::test]
async fn an_instance_that_misses_its_probes_is_unreachable_until_it_reports_again() {
    let (invalid, closed) = ("response is not a valid report", "connection closed without a response");
    tokio::join!(
        check_missed("status_404", "response was 404", Act::status(404)),
        check_missed("status_400", "response was 400", Act::status(400)),
        check_missed("status_500", "response was 500", Act::status(500)),
        check_missed("status_404", "response was 404", Act::body(404, "", &"x".repeat(5000))),
        check_missed(
            "bad_status",
            "response has a status other than 2xx, 400, 404, 500 and 503",
            Act::status(501)
        ),
        check_missed("status_401", "response was 401", Act::status(401)),
        check_missed("redirect", "response was a redirect", Act::status(302)),
        check_missed("bad_report", invalid, Act::body(200, "", r#"{"state":"tired"}"#)),
        check_missed("answer_too_large", "response too large", Act::body(200, "", &"x".repeat(5000))),
        check_missed("timeout", "no response in time", Act::stall()),
        check_missed("closed", closed, Act::SendAndReset(Vec::new())),
        check_missed(
            "closed",
            closed,
            Act::SendAndClose(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal".to_vec())
        ),
        check_missed(
            "answer_too_large",
            "response too large",
            Act::Flood(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
                b"1\r\nx\r\n".to_vec()
            ),
        ),
    );
}

#[tokio::test]
async fn no_probe_ends_the_ejection_of_an_instance_that_fails_calls() {
    let fails = Arc::new(AtomicBool::new(true));
    let script = Arc::clone(&fails);
    let upstream = ScriptedInstance::scripted(move |seen| {
        let fails = !seen.line().starts_with("GET ") && script.load(Ordering::Relaxed);
        Act::status(if fails { 502 } else { 200 })
    });
    let delivery = Arc::new(delivery(probed(settings([upstream.address]))));
    probe_until(&delivery, "bot-0", InstanceState::Ready).await;
    let connections = Connections::default();
    place(&delivery, &connections, LONG).await.unwrap_err();
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ejected);
    let running = tokio::spawn(Arc::clone(&delivery).run());
    let probes = || upstream.seen().iter().filter(|seen| seen.line().starts_with("GET ")).count();
    let before = probes();
    until("two more probes", || probes() >= before + 2).await;
    running.abort();
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Ejected);
    // A call does. There is no other instance, so it is asked as a last resort.
    fails.store(false, Ordering::Relaxed);
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 200);
    let known = status(&delivery, "bot-0");
    assert_eq!((known.state, known.reason), (InstanceState::Ready, "responded to a new call"));
    assert_eq!(known.counts.entered, [(InstanceState::Ready, 2), (InstanceState::Ejected, 1)]);
}

#[tokio::test]
async fn the_probe_of_one_instance_does_not_wait_for_another() {
    let (silent, lively) = (ProbedBot::new(Act::stall()), ProbedBot::new(Act::status(200)));
    let delivery = fleet(&[&silent, &lively]);
    probe_until(&delivery, "bot-1", InstanceState::Ready).await;
    let response = place(&delivery, &Connections::default(), LONG).await.unwrap();
    assert_eq!(response.instance.as_str(), "bot-1");
    probe_until(&delivery, "bot-0", InstanceState::Unreachable).await;
}

#[tokio::test]
async fn a_reload_can_switch_probes_on_and_off() {
    let bot = ProbedBot::new(Act::body(200, "", r#"{"state":"full"}"#));
    let probing = fleet(&[&bot]);
    probe_until(&probing, "bot-0", InstanceState::Full).await;
    let silent = probing.successor(settings([bot.upstream.address]), uris(), tls());
    assert_eq!(state(&silent, "bot-0"), InstanceState::Ready);
    let again = Arc::new(silent.successor(probed(settings([bot.upstream.address])), uris(), tls()));
    probe_until(&again, "bot-0", InstanceState::Full).await;
}

#[tokio::test]
async fn between_two_reports_an_instance_gets_no_more_calls_than_it_has_room_for() {
    let bot = ProbedBot::new(Act::body(200, "", r#"{"calls":4,"capacity":5}"#));
    let delivery = fleet(&[&bot]);
    let connections = Connections::default();
    probe_until(&delivery, "bot-0", InstanceState::Ready).await;
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);
    let known = status(&delivery, "bot-0");
    assert_eq!((known.state, known.reason), (InstanceState::Full, "calls reached its capacity"));
    assert_eq!((known.calls, known.calls_expected, known.calls_counted), (Some(4), Some(5), 1));
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap_err(), PlaceError::Full);

    // A call that was not placed here does not count, and a call that ends twice frees one place.
    delivery.calls_ended("bot-0", ["some-other-call"]);
    assert_eq!(state(&delivery, "bot-0"), InstanceState::Full);
    delivery.calls_ended("bot-0", [CALL.to_uppercase()]);
    delivery.calls_ended("bot-0", [CALL]);
    let known = status(&delivery, "bot-0");
    assert_eq!((known.state, known.calls_expected, known.calls_counted), (InstanceState::Ready, Some(4), 0));
    assert_eq!(place(&delivery, &connections, LONG).await.unwrap().status, 202);
    assert_eq!(status(&delivery, "bot-0").counts.entered.last(), Some(&(InstanceState::Full, 2)));
}

/// For `switchboard doctor`: one probe each, beside the health of the instances.
#[tokio::test]
async fn an_examination_probes_each_instance_once_and_changes_no_health() {
    let [ready, full, draining, wrong] = [
        Act::body(200, "", r#"{"state":"ready"}"#),
        Act::body(200, "", r#"{"state":"full"}"#),
        Act::status(503),
        Act::status(404),
    ]
    .map(ProbedBot::new);
    let bots = [&ready, &full, &draining, &wrong];
    let delivery = fleet(&bots);
    let examined = delivery.examine(LONG).await.unwrap();
    let states: Vec<_> = examined.iter().map(|one| one.outcome.as_ref().ok().copied()).collect();
    assert_eq!(
        states,
        [Some(ExaminedState::Ready), Some(ExaminedState::Full), Some(ExaminedState::Draining), None]
    );
    for (bot, examined) in bots.iter().zip(&examined) {
        assert_eq!(examined.origin, format!("http://{}", bot.upstream.address));
        let probes = bot.upstream.seen().iter().filter(|seen| seen.line().starts_with("GET ")).count();
        assert_eq!((probes, bot.posts()), (1, 0));
        assert_eq!(state(&delivery, examined.name.as_str()), InstanceState::Starting);
    }
}

#[tokio::test]
async fn a_bot_that_redirects_to_https_can_be_probed_by_http() {
    for (is_forwarded, expected) in [(true, InstanceState::Ready), (false, InstanceState::Unreachable)] {
        let upstream = ScriptedInstance::scripted(|seen| match seen.field("x-forwarded-proto") {
            Some("https") => Act::status(200),
            _ => Act::body(307, "Location: https://bots.contoso.com/healthz\r\n", ""),
        });
        let mut settings = probed(settings([upstream.address]));
        settings.probe = settings.probe.map(|probe| ProbeSettings { is_forwarded, ..probe });
        probe_until(&Arc::new(delivery(settings)), "bot-0", expected).await;
    }
}
