//! What has begun to act on a call goes on: when the platform hangs up, when a worker ends, and while the gateway drains.

use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    actions::{ACTION, ANSWER, Stage},
    support::{Client, Reply, Request, Settings, bodies, soon, until},
};

impl Stage {
    fn call(&self, call_id: &str) -> Request {
        Request::webhook(&self.token, bodies::incoming(call_id)).with("X-Microsoft-Skype-Message-ID", call_id)
    }

    /// A call to which the bot replies with an action, until Graph has been asked.
    async fn acting(&mut self, replies: &[Reply]) -> Client {
        self.graph_says(replies);
        self.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
        let mut client = Client::connect(self.gateway.public).await;
        client.send(self.call("call-1").bytes()).await;
        self.bot.request().await;
        self.graph.request().await;
        let order = self.graph.request().await;
        assert_eq!(order.target(), "/v1.0/communications/calls/call-1/answer");
        client
    }

    /// The platform hangs up, and the gateway has noticed.
    async fn hang_up(&self, client: Client) {
        drop(client);
        let gone = self.gateway.log.event("a client that is gone", |event| event["outcome"] == "client_gone");
        assert_eq!(gone.await["call.id"], "call-1");
        assert_eq!(self.in_flight().await, (0.0, 1.0));
    }

    /// Requests and actions.
    async fn in_flight(&self) -> (f64, f64) {
        let metric = async |name| self.gateway.metric(name, &[]).await;
        (metric("switchboard_requests_in_flight").await, metric("switchboard_actions_in_flight").await)
    }

    /// The line about an action that nobody waited for.
    async fn unheard(&self) -> serde_json::Value {
        self.gateway.log.message("the platform hung up before the action was done").await
    }
}

fn drained(settings: Settings, deadline: &str) -> Settings {
    settings.line("listen", &format!("drain = {{ delay = \"0s\", deadline = \"{deadline}\" }}"))
}

/// Until the public listener is closed.
async fn closed(stage: &Stage) {
    until("the listener is closed", async || {
        TcpStream::connect(stage.gateway.public).await.err().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn an_action_outlives_its_connection_and_its_retries_share_it() {
    let mut stage = Stage::set(|settings| settings).await;
    let first = stage.acting(&[Reply::status(202).held()]).await;
    stage.hang_up(first).await;

    let mut retry = Client::connect(stage.gateway.public).await;
    retry.send(stage.call("call-1").bytes()).await;
    until("the retry waits", async || (stage.in_flight().await == (1.0, 1.0)).then_some(())).await;
    stage.graph.release();
    assert_eq!(retry.answer().await.status(), 202);
    assert_eq!(stage.call("call-1").send(&stage.gateway).await.status(), 202);
    stage.bot.expect_nothing();
    stage.graph.expect_nothing();

    let line = stage.unheard().await;
    assert_eq!(
        (&line["call.id"], &line["action"], &line["action_result"]),
        (&json!("call-1"), &json!("answer"), &json!("ok"))
    );
    for how in ["shared", "repeated"] {
        let line = stage.gateway.log.event(how, |event| event["retry"] == how).await;
        assert_eq!((&line["outcome"], &line["instance"]), (&json!("acted"), &json!("bot-0")));
        assert_eq!((&line["action"], &line["action_result"]), (&json!("answer"), &json!("ok")));
        assert_eq!(stage.gateway.metric("switchboard_retries_total", &[("result", how)]).await, 1.0);
    }
    let labels = [("action", "answer"), ("result", "ok")];
    assert_eq!(stage.gateway.metric("switchboard_actions_total", &labels).await, 1.0);
    until("nothing is under way", async || (stage.in_flight().await == (0.0, 0.0)).then_some(())).await;
}

#[tokio::test]
async fn an_instance_is_told_of_a_failure_after_the_platform_has_hung_up() {
    let mut stage = Stage::set(|settings| settings).await;
    let first = stage.acting(&[Reply::status(403).held()]).await;
    stage.hang_up(first).await;
    stage.graph.release();
    let told = stage.bot.request().await;
    assert_eq!(told.field("content-type"), Some("application/vnd.switchboard.action-failed+json"));
    assert_eq!(told.json()["error"]["code"], "missing_permission");
    assert_eq!(stage.call("call-1").send(&stage.gateway).await.status(), 202);
    stage.bot.expect_nothing();
    stage.graph.expect_nothing();
}

#[tokio::test]
async fn a_rejection_outlives_its_connection() {
    let mut stage = Stage::set(|settings| settings.line("placement", "full = \"reject\"")).await;
    stage.bot.stop().await;
    stage.graph_says(&[Reply::status(202).held()]);
    let mut first = Client::connect(stage.gateway.public).await;
    first.send(stage.call("call-1").bytes()).await;
    stage.graph.request().await;
    stage.graph.request().await;
    stage.hang_up(first).await;
    stage.graph.release();
    assert_eq!(stage.unheard().await["action_result"], "ok");
    // There is an instance again, and no call any more.
    stage.bot.come_back();
    assert_eq!(stage.call("call-1").send(&stage.gateway).await.status(), 202);
    stage.bot.expect_nothing();
    stage.graph.expect_nothing();
}

/// It holds the call, so that it may be full: then the retry finds nobody.
#[tokio::test]
async fn a_call_whose_platform_hung_up_on_its_instance_is_neither_rejected_nor_sent_on() {
    for full in ["reject", "overflow:amer"] {
        let mut stage =
            Stage::set(|settings| settings.peer("amer").line("placement", &format!("full = \"{full}\"")))
                .await;
        stage.bot.next(Reply::Never);
        let mut first = Client::connect(stage.gateway.public).await;
        first.send(stage.call("call-1").bytes()).await;
        stage.bot.request().await;
        drop(first);
        stage.gateway.log.event("a client that is gone", |event| event["outcome"] == "client_gone").await;
        stage.bot.stop().await;
        assert_eq!(stage.call("call-1").send(&stage.gateway).await.status(), 503, "{full}");
        let line = stage.gateway.log.event("a refusal", |event| event["outcome"] == "not_placed").await;
        assert_eq!(line["reason"], "outcome_unknown", "{full}");
        stage.graph.expect_nothing();
    }
}

#[tokio::test]
async fn a_drain_waits_for_an_action_whose_platform_has_hung_up() {
    for status in [202, 403] {
        let mut stage = Stage::set(|settings| drained(settings, "60s")).await;
        let first = stage.acting(&[Reply::status(status).held()]).await;
        stage.hang_up(first).await;
        stage.gateway.signal("TERM");
        closed(&stage).await;
        assert_eq!(stage.in_flight().await, (0.0, 1.0));
        stage.graph.release();
        if status == 403 {
            assert_eq!(stage.bot.request().await.json()["error"]["code"], "missing_permission");
        }
        assert_eq!(stage.gateway.exit().await, Some(0));
        stage.unheard().await;
        stage.gateway.log.message("drain finished: nothing was cut off").await;
        stage.graph.expect_nothing();
    }
}

#[tokio::test]
async fn a_drain_that_cuts_an_action_says_so() {
    let mut stage = Stage::set(|settings| drained(settings, "1s")).await;
    let first = stage.acting(&[Reply::Never]).await;
    stage.hang_up(first).await;
    stage.gateway.signal("TERM");
    assert_eq!(stage.gateway.exit().await, Some(1));
    let cut = stage.gateway.log.message("drain deadline passed: requests were cut off").await;
    assert_eq!((&cut["requests"], &cut["actions"]), (&json!(0), &json!(1)));
}

/// A connection of the gateway goes to the worker that has the fewest, and one to Graph is used for one call after another.
#[tokio::test]
async fn the_end_of_a_worker_cuts_no_action_of_another() {
    let mut stage = Stage::set(|settings| drained(settings, "60s")).await;
    let mut idle = stage.acting(&[Reply::status(202), Reply::status(202).held()]).await;
    assert_eq!(idle.answer().await.status(), 202);

    stage.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let mut busy = Client::connect(stage.gateway.public).await;
    busy.send(stage.call("call-2").bytes()).await;
    stage.bot.request().await;
    stage.graph.request().await;
    stage.gateway.signal("TERM");
    soon("the end of the idle connection", idle.closed()).await;
    closed(&stage).await;
    assert_eq!(stage.in_flight().await, (1.0, 1.0));
    stage.graph.release();
    assert_eq!(busy.answer().await.status(), 202);
    assert_eq!(stage.gateway.exit().await, Some(0));
    let line = stage
        .gateway
        .log
        .event("the second call", |event| event["call.id"] == "call-2" && event["outcome"] == "acted");
    assert_eq!(line.await["action_result"], "ok");
    stage.graph.expect_nothing();
}

#[tokio::test]
async fn an_action_goes_on_over_a_reload() {
    let mut stage = Stage::set(|settings| settings).await;
    let first = stage.acting(&[Reply::status(202).held()]).await;
    stage.hang_up(first).await;
    stage.gateway.signal("HUP");
    stage.gateway.log.message("configuration reloaded").await;
    assert_eq!(stage.in_flight().await, (0.0, 1.0));
    stage.graph.release();
    assert_eq!(stage.unheard().await["action_result"], "ok");
    assert_eq!(stage.call("call-1").send(&stage.gateway).await.status(), 202);
    stage.bot.expect_nothing();
    stage.graph.expect_nothing();
}
