//! Incarnations that probes report: a process never receives the callbacks of the one before it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use switchboard_delivery::{
    Connections, Delivery, DeliverySettings, ForwardError, InstanceState, Orphaned, ProbeSettings,
    UpstreamResponse,
};
use switchboard_routing::Owner;
use tokio::task::JoinHandle;

use crate::{setup::*, upstream::*};

/// An instance that reports an incarnation, and refuses new calls for another one.
struct Bot {
    upstream: ScriptedInstance,
    probe: Arc<Mutex<Act>>,
}

impl Bot {
    fn new(incarnation: &str) -> Self {
        Self::on(Stopped::new(), report(incarnation))
    }

    fn on(stopped: Stopped, probe: Act) -> Self {
        let probe = Arc::new(Mutex::new(probe));
        let script = Arc::clone(&probe);
        let upstream = ScriptedInstance::on(stopped, move |seen| {
            let probe = script.lock().unwrap().clone();
            if seen.line().starts_with("GET ") {
                return probe;
            }
            let is_new_call = seen.field("switchboard-attempt").is_some();
            let Act::Send(bytes) = probe else { return Act::status(202) };
            let own = format!("\"incarnation\":\"{}\"", seen.field("switchboard-incarnation").unwrap());
            let is_own = String::from_utf8(bytes).unwrap().contains(&own);
            Act::status(if is_new_call && !is_own { 503 } else { 202 })
        });
        Self { upstream, probe }
    }

    /// Becomes another process: it no longer knows its calls.
    fn reports(&self, probe: Act) {
        *self.probe.lock().unwrap() = probe;
    }

    /// The callbacks and calls so far, each by its incarnation.
    fn posts(&self) -> Vec<String> {
        let seen = self.upstream.seen();
        let posts = seen.iter().filter(|seen| seen.line().starts_with("POST "));
        posts.map(|seen| seen.field("switchboard-incarnation").unwrap().to_owned()).collect()
    }
}

fn report(incarnation: &str) -> Act {
    Act::body(200, "", &format!(r#"{{"state":"ready","incarnation":"{incarnation}"}}"#))
}

fn owner_of(incarnation: &str) -> Owner {
    Owner { incarnation: name(incarnation), ..owner("bot-0") }
}

/// A delivery whose probes run until it is dropped.
struct Running {
    delivery: Arc<Delivery>,
    connections: Connections,
    task: JoinHandle<()>,
}

impl Running {
    fn start(delivery: Delivery) -> Self {
        let delivery = Arc::new(delivery);
        let task = tokio::spawn(Arc::clone(&delivery).run());
        Self { delivery, connections: Connections::default(), task }
    }

    fn of(bot: &Bot) -> Self {
        Self::start(delivery(probed(settings([bot.upstream.address]))))
    }

    fn incarnation(&self) -> String {
        self.delivery.owner("bot-0").unwrap().incarnation.to_string()
    }

    async fn until_incarnation(&self, expected: &str) {
        until(expected, || self.incarnation() == expected).await;
        until("ready", || state(&self.delivery, "bot-0") == InstanceState::Ready).await;
    }

    async fn forward(&self, incarnation: &str) -> Result<UpstreamResponse, ForwardError> {
        self.delivery.forward(&self.connections, &outbound(), owner_of(incarnation).as_ref()).await
    }

    /// Waits until callbacks for an incarnation have this result.
    async fn until_forward(&self, incarnation: &str, expected: Result<u16, ForwardError>) {
        let deadline = tokio::time::Instant::now() + LONG;
        loop {
            let seen = self.forward(incarnation).await.map(|response| response.status.as_u16());
            if seen == expected {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{incarnation}: {seen:?} is not {expected:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn gone() -> ForwardError {
    ForwardError::Gone { instance: name("bot-0") }
}

fn unknown() -> ForwardError {
    ForwardError::IncarnationUnknown { instance: name("bot-0") }
}

/// Probes so rarely that only a probe that is due at once can be the next one.
fn rarely_probed(bot: &Bot) -> DeliverySettings {
    let interval = LONG * 100;
    let probe = Some(ProbeSettings { path: "/healthz".into(), interval, is_forwarded: false });
    DeliverySettings { probe, ..settings([bot.upstream.address]) }
}

#[tokio::test]
async fn a_restarted_instance_does_not_receive_the_callbacks_of_its_former_calls() {
    let bot = Bot::new("a1");
    let running = Running::of(&bot);
    running.until_incarnation("a1").await;
    assert_eq!(status(&running.delivery, "bot-0").incarnation, name("a1"));

    let placed = place(&running.delivery, &running.connections, LONG).await.unwrap();
    assert_eq!((placed.status.as_u16(), placed.incarnation), (202, name("a1")));
    assert_eq!(running.forward("a1").await.unwrap().status, 202);
    let seen = bot.upstream.seen();
    let call = seen.iter().find(|seen| seen.field("switchboard-attempt").is_some()).unwrap();
    assert!(call.field("switchboard-callback-uri").unwrap().contains("/emea/bot-0/k1.a1."));
    assert_eq!(bot.posts(), ["a1", "a1"]);

    bot.reports(report("b2"));
    running.until_incarnation("b2").await;
    running.until_forward("a1", Err(gone())).await;
    assert_eq!(bot.posts(), ["a1", "a1"]);
    assert_eq!(running.forward("b2").await.unwrap().status, 202);
    assert_eq!(bot.posts(), ["a1", "a1", "b2"]);
    // Calls and failures of the process before are not its own.
    let status = status(&running.delivery, "bot-0");
    assert_eq!((status.counts.placed, status.calls_counted, status.counts.callbacks), (0, 0, 1));

    // A URI without an incarnation was minted before any was known.
    assert_eq!(running.forward("0").await.unwrap().status, 202);
    assert_eq!(bot.posts().last().unwrap(), "0");
}

#[tokio::test]
async fn an_unknown_incarnation_is_probed_at_once() {
    let bot = Bot::new("a1");
    let running = Running::start(delivery(rarely_probed(&bot)));
    // Before the first report nothing is known.
    running.until_incarnation("a1").await;
    assert_eq!(running.forward("b2").await.unwrap_err(), unknown());
    running.until_forward("b2", Err(gone())).await;
    assert_eq!(running.forward("a1").await.unwrap().status, 202);

    // Another gateway found the next process first.
    bot.reports(report("c3"));
    assert_eq!(running.forward("c3").await.unwrap_err(), unknown());
    running.until_forward("c3", Ok(202)).await;
    running.until_incarnation("c3").await;
    running.until_forward("a1", Err(gone())).await;
    assert!(!bot.posts().contains(&"b2".to_owned()));
}

#[tokio::test]
async fn a_503_to_a_call_for_another_incarnation_is_probed_at_once_and_ejects_nothing() {
    let bot = Bot::new("a1");
    let running = Running::start(delivery(rarely_probed(&bot)));
    running.until_incarnation("a1").await;
    bot.reports(report("b2"));
    // The call may find the next incarnation while it waits for a candidate.
    let _ = place(&running.delivery, &running.connections, SHORT).await;
    assert_eq!(bot.posts()[0], "a1");
    running.until_incarnation("b2").await;
    let entered = status(&running.delivery, "bot-0").counts.entered;
    assert!(!entered.iter().any(|(state, _)| *state == InstanceState::Unreachable), "{entered:?}");
    assert_eq!(place(&running.delivery, &running.connections, LONG).await.unwrap().status, 202);
    assert_eq!(bot.posts().last().unwrap(), "b2");
}

#[tokio::test]
async fn an_instance_that_refused_a_connection_gets_no_callback_before_its_next_report() {
    let [first, second] = Stopped::pair();
    let bot = Bot::on(first, report("a1"));
    let running = Running::start(delivery(rarely_probed(&bot)));
    running.until_incarnation("a1").await;
    drop(bot);
    let failed = loop {
        // The listener is closed by a task of its own.
        match running.forward("a1").await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, ForwardError::Unreachable { .. }), "{failed}");
    running.until_forward("a1", Err(unknown())).await;

    // The next process listens, and does not report yet.
    let bot = Bot::on(second, Act::stall());
    assert_eq!(running.forward("a1").await.unwrap_err(), unknown());
    bot.reports(report("b2"));
    let running = {
        // The stalled probe ends with its delivery: a probe has half of the long interval.
        let after = running.delivery.successor(probed(settings([bot.upstream.address])), uris(), tls());
        Running::start(after)
    };
    running.until_incarnation("b2").await;
    running.until_forward("a1", Err(gone())).await;
    assert_eq!(bot.posts(), Vec::<String>::new());
}

#[tokio::test]
async fn an_orphaned_callback_names_the_incarnation_of_its_call() {
    let bot = Bot::new("a1");
    let orphaned = Orphaned::Reassign;
    let settings = DeliverySettings { orphaned, ..probed(settings([bot.upstream.address])) };
    let running = Running::start(delivery(settings));
    running.until_incarnation("a1").await;
    bot.reports(report("b2"));
    running.until_incarnation("b2").await;
    running.until_forward("a1", Ok(202)).await;
    let seen = bot.upstream.seen();
    let seen = seen.iter().rfind(|seen| seen.line().starts_with("POST ")).unwrap();
    assert_eq!(seen.field("switchboard-orphaned"), Some("true"));
    assert_eq!(seen.field("switchboard-incarnation"), Some("a1"));
    assert_eq!(seen.field("switchboard-instance"), Some("bot-0"));
}

#[tokio::test]
async fn incarnations_that_alternate_are_not_used() {
    let turn = Mutex::new(false);
    let probes = move || {
        let mut turn = turn.lock().unwrap();
        *turn = !*turn;
        report(if *turn { "a1" } else { "b2" })
    };
    let upstream =
        ScriptedInstance::scripted(
            move |seen| {
                if seen.line().starts_with("GET ") { probes() } else { Act::status(202) }
            },
        );
    let running = Running::start(delivery(probed(settings([upstream.address]))));
    until("the first report", || running.incarnation() != "0").await;
    running.until_incarnation("0").await;
    for incarnation in ["a1", "b2", "c3", "0"] {
        assert_eq!(running.forward(incarnation).await.unwrap().status, 202, "{incarnation}");
    }
    assert_eq!(place(&running.delivery, &running.connections, LONG).await.unwrap().status, 202);
}

#[tokio::test]
async fn an_instance_that_reports_no_incarnation_gets_every_callback() {
    let bot = ScriptedInstance::always(Act::status(200));
    let running = Running::start(delivery(probed(settings([bot.address]))));
    running.until_incarnation("0").await;
    assert_eq!(running.forward("a1").await.unwrap().status, 200);
    let unprobed = Running::start(delivery(settings([bot.address])));
    assert_eq!(unprobed.forward("a1").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reload_keeps_the_incarnations_and_a_restart_keeps_the_drain() {
    let bot = Bot::new("a1");
    let address = bot.upstream.address;
    let before = Running::of(&bot);
    before.until_incarnation("a1").await;
    assert!(before.delivery.drain("bot-0"));
    bot.reports(report("b2"));
    until("the restart", || before.incarnation() == "b2").await;
    assert_eq!(state(&before.delivery, "bot-0"), InstanceState::Draining);
    before.until_forward("a1", Err(gone())).await;

    let after = before.delivery.successor(probed(settings([address])), uris(), tls());
    let forwarded = |owner: Owner| {
        let (after, connections) = (&after, &before.connections);
        async move {
            let response = after.forward(connections, &outbound(), owner.as_ref()).await;
            response.map(|response| response.status.as_u16())
        }
    };
    assert_eq!(forwarded(owner_of("a1")).await, Err(gone()));
    assert_eq!(forwarded(owner_of("b2")).await, Ok(202));
    // Without a probe nothing would tell the next process apart.
    let silent = after.successor(settings([address]), uris(), tls());
    assert_eq!(silent.owner("bot-0").unwrap().incarnation, name("0"));
}

#[tokio::test]
async fn an_unlisted_instance_that_restarts_is_gone() {
    let bot = Bot::new("a1");
    let keeping =
        |addresses: Vec<_>| DeliverySettings { keep_leaving: LONG * 100, ..probed(settings(addresses)) };
    let before = Running::start(delivery(keeping(vec![bot.upstream.address])));
    before.until_incarnation("a1").await;
    let after = Running::start(before.delivery.successor(keeping(Vec::new()), uris(), tls()));
    drop(before);
    assert_eq!(after.forward("a1").await.unwrap().status, 202);
    bot.reports(report("b2"));
    until("the instance is removed", || state(&after.delivery, "bot-0") == InstanceState::Gone).await;
    assert_eq!(after.forward("a1").await.unwrap_err(), gone());
}
