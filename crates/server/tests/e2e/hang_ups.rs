//! An action that has started continues when the platform hangs up, a worker stops, or the gateway drains.

use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    actions::{ACTION, ANSWER, GraphFixture},
    support::{Client, Reply, Request, Settings, bodies, soon, until},
};

impl GraphFixture {
    fn call(&self, call_id: &str) -> Request {
        Request::webhook(&self.token, bodies::incoming(call_id)).with("X-Microsoft-Skype-Message-ID", call_id)
    }

    /// Posts a call to which the bot responds with an action, and waits for the request to Graph.
    async fn acting(&mut self, replies: &[Reply]) -> Client {
        self.graph_responds(replies);
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
        let mut client = Client::connect(self.gateway.public).await;
        client.send(self.call("call-1").bytes()).await;
        self.bot.request().await;
        self.graph.request().await;
        let request = self.graph.request().await;
        assert_eq!(request.target(), "/v1.0/communications/calls/call-1/answer");
        client
    }

    /// Resets the platform's connection and waits until the gateway has noticed.
    async fn hang_up(&self, client: Client) {
        client.reset();
        let finished =
            self.gateway.log.event("the end of the request", |event| event["outcome"] == "client_gone");
        assert_eq!(finished.await["call.id"], "call-1");
        assert_eq!(self.in_flight().await, (0.0, 1.0));
    }

    /// Returns the numbers of requests and of actions in flight.
    async fn in_flight(&self) -> (f64, f64) {
        let metric = async |name| self.gateway.metric(name, &[]).await;
        (metric("switchboard_requests_in_flight").await, metric("switchboard_actions_in_flight").await)
    }

    /// Waits for the log event of an action that finished after the platform had hung up.
    async fn finished_after_hang_up(&self) -> serde_json::Value {
        self.gateway.log.message("the platform hung up before the action was done").await
    }
}

fn drained(settings: Settings, deadline: &str) -> Settings {
    settings.line("listen", &format!("drain = {{ delay = \"0s\", deadline = \"{deadline}\" }}"))
}

/// Waits until the public listener is closed.
async fn listener_closed(fixture: &GraphFixture) {
    until("the listener is closed", async || {
        TcpStream::connect(fixture.gateway.public).await.err().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn an_action_continues_without_its_connection_and_retries_share_its_result() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    let first = fixture.acting(&[Reply::status(202).held()]).await;
    fixture.hang_up(first).await;

    let mut retry = Client::connect(fixture.gateway.public).await;
    retry.send(fixture.call("call-1").bytes()).await;
    until("the retry waits", async || (fixture.in_flight().await == (1.0, 1.0)).then_some(())).await;
    fixture.graph.release();
    assert_eq!(retry.response().await.status(), 202);
    assert_eq!(fixture.call("call-1").send(&fixture.gateway).await.status(), 202);
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();

    let line = fixture.finished_after_hang_up().await;
    assert_eq!(
        (&line["call.id"], &line["action"], &line["action_result"]),
        (&json!("call-1"), &json!("answer"), &json!("ok"))
    );
    for how in ["shared", "repeated"] {
        let line = fixture.gateway.log.event(how, |event| event["retry"] == how).await;
        assert_eq!((&line["outcome"], &line["instance"]), (&json!("acted"), &json!("bot-0")));
        assert_eq!((&line["action"], &line["action_result"]), (&json!("answer"), &json!("ok")));
        assert_eq!(fixture.gateway.metric("switchboard_retries_total", &[("result", how)]).await, 1.0);
    }
    let labels = [("action", "answer"), ("result", "ok")];
    assert_eq!(fixture.gateway.metric("switchboard_actions_total", &labels).await, 1.0);
    until("nothing is in flight", async || (fixture.in_flight().await == (0.0, 0.0)).then_some(())).await;
}

/// The platform closes its sending side, which is no hang-up, and resets the connection then.
#[tokio::test]
async fn a_reset_after_a_half_close_is_a_hang_up() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    let mut first = fixture.acting(&[Reply::status(202).held()]).await;
    first.half_close().await;
    let mut other = Client::connect(fixture.gateway.public).await;
    other.send(fixture.call("call-1").without("Authorization").bytes()).await;
    assert_eq!(other.response().await.status(), 401);
    assert_eq!(fixture.in_flight().await, (1.0, 1.0), "a half-close is no hang-up");
    fixture.hang_up(first).await;
    fixture.graph.release();
    assert_eq!(fixture.finished_after_hang_up().await["action_result"], "ok");
}

#[tokio::test]
async fn the_instance_is_notified_of_a_failure_after_the_platform_has_hung_up() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    let first = fixture.acting(&[Reply::status(403).held()]).await;
    fixture.hang_up(first).await;
    fixture.graph.release();
    let notice = fixture.bot.request().await;
    assert_eq!(notice.field("content-type"), Some("application/vnd.switchboard.action-failed+json"));
    assert_eq!(notice.json()["error"]["code"], "missing_permission");
    assert_eq!(fixture.call("call-1").send(&fixture.gateway).await.status(), 202);
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn a_rejection_continues_without_its_connection() {
    let mut fixture = GraphFixture::start_full().await;
    fixture.graph_responds(&[Reply::status(202).held()]);
    let mut first = Client::connect(fixture.gateway.public).await;
    first.send(fixture.call("call-1").bytes()).await;
    fixture.graph.request().await;
    fixture.graph.request().await;
    fixture.hang_up(first).await;
    fixture.graph.release();
    assert_eq!(fixture.finished_after_hang_up().await["action_result"], "ok");
    // An instance is available again, but the call has been rejected.
    fixture.becomes("ready").await;
    assert_eq!(fixture.call("call-1").send(&fixture.gateway).await.status(), 202);
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}

/// The instance may have accepted the call and be full because of it, so that the retry finds no instance.
#[tokio::test]
async fn a_call_that_an_instance_received_before_a_hang_up_is_neither_rejected_nor_redirected() {
    for full in ["reject", "overflow:amer"] {
        let mut fixture = GraphFixture::start(|settings| {
            settings
                .peer("amer")
                .line("placement", &format!("full = \"{full}\""))
                .line("fleet.probe", "path = \"/healthz\"\ninterval = \"200ms\"")
        })
        .await;
        fixture.becomes("ready").await;
        fixture.bot.next(Reply::Never);
        let mut first = Client::connect(fixture.gateway.public).await;
        first.send(fixture.call("call-1").bytes()).await;
        fixture.bot.request().await;
        first.reset();
        fixture.gateway.log.event("the end of the request", |event| event["outcome"] == "client_gone").await;
        fixture.becomes("full").await;
        assert_eq!(fixture.call("call-1").send(&fixture.gateway).await.status(), 503, "{full}");
        let line = fixture.gateway.log.event("a refusal", |event| event["outcome"] == "not_placed").await;
        assert_eq!(line["reason"], "outcome_unknown", "{full}");
        fixture.graph.expect_nothing();
    }
}

#[tokio::test]
async fn a_drain_waits_for_an_action_after_the_platform_has_hung_up() {
    for status in [202, 403] {
        let mut fixture = GraphFixture::start(|settings| drained(settings, "60s")).await;
        let first = fixture.acting(&[Reply::status(status).held()]).await;
        fixture.hang_up(first).await;
        fixture.gateway.signal("TERM");
        listener_closed(&fixture).await;
        assert_eq!(fixture.in_flight().await, (0.0, 1.0));
        fixture.graph.release();
        if status == 403 {
            assert_eq!(fixture.bot.request().await.json()["error"]["code"], "missing_permission");
        }
        assert_eq!(fixture.gateway.exit().await, Some(0));
        fixture.finished_after_hang_up().await;
        fixture.gateway.log.message("drain finished: nothing was cut off").await;
        fixture.graph.expect_nothing();
    }
}

#[tokio::test]
async fn a_drain_that_cuts_off_an_action_exits_with_1() {
    let mut fixture = GraphFixture::start(|settings| drained(settings, "1s")).await;
    let first = fixture.acting(&[Reply::Never]).await;
    fixture.hang_up(first).await;
    fixture.gateway.signal("TERM");
    assert_eq!(fixture.gateway.exit().await, Some(1));
    let cut = fixture.gateway.log.message("drain deadline passed: requests were cut off").await;
    assert_eq!((&cut["requests"], &cut["actions"]), (&json!(0), &json!(1)));
}

/// A new connection goes to the worker with the fewest. Later calls reuse a connection to Graph.
#[tokio::test]
async fn the_end_of_a_worker_cuts_off_no_action_of_another_worker() {
    let mut fixture = GraphFixture::start(|settings| drained(settings, "60s")).await;
    let mut idle = fixture.acting(&[Reply::status(202), Reply::status(202).held()]).await;
    assert_eq!(idle.response().await.status(), 202);

    fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let mut busy = Client::connect(fixture.gateway.public).await;
    busy.send(fixture.call("call-2").bytes()).await;
    fixture.bot.request().await;
    fixture.graph.request().await;
    fixture.gateway.signal("TERM");
    soon("the end of the idle connection", idle.closed()).await;
    listener_closed(&fixture).await;
    assert_eq!(fixture.in_flight().await, (1.0, 1.0));
    fixture.graph.release();
    assert_eq!(busy.response().await.status(), 202);
    assert_eq!(fixture.gateway.exit().await, Some(0));
    let line = fixture
        .gateway
        .log
        .event("the second call", |event| event["call.id"] == "call-2" && event["outcome"] == "acted");
    assert_eq!(line.await["action_result"], "ok");
    fixture.graph.expect_nothing();
}

#[tokio::test]
async fn an_action_continues_during_a_reload() {
    let mut fixture = GraphFixture::start(|settings| settings).await;
    let first = fixture.acting(&[Reply::status(202).held()]).await;
    fixture.hang_up(first).await;
    fixture.gateway.signal("HUP");
    fixture.gateway.log.message("configuration reloaded").await;
    assert_eq!(fixture.in_flight().await, (0.0, 1.0));
    fixture.graph.release();
    assert_eq!(fixture.finished_after_hang_up().await["action_result"], "ok");
    assert_eq!(fixture.call("call-1").send(&fixture.gateway).await.status(), 202);
    fixture.bot.expect_nothing();
    fixture.graph.expect_nothing();
}
