//! Plays one call the way the calling platform does: from the first notification to what became of it.

mod life;
mod posting;

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use url::Url;

pub(crate) use self::posting::Tokens;
use self::{
    life::Life,
    posting::{Phase, Player, Undelivered},
};
use crate::{
    call::{CallOutcome, CallRequest, Protocol},
    graph::{AnswerRequest, Decision},
    notification::{self, CallIds, ResultInfo},
    platform::Shared,
    timeline::{CallEnd, Recorder, milliseconds},
};

/// Plays the call to its end and records what happens.
pub(crate) async fn play(
    platform: &Arc<Shared>,
    call: &CallRequest,
    ids: &CallIds,
    started: Instant,
    decisions: mpsc::Receiver<Decision>,
    recorder: Recorder,
) {
    let player = Player::new(platform, call, ids, started, &recorder);
    let ending = player.run(decisions).await;
    let end = CallEnd {
        outcome: ending.outcome.label().to_owned(),
        ok: ending.outcome == call.expect,
        reason: ending.reason,
        status: ending.status.map(|status| status.as_u16()),
        answered_ms: ending.answered.map(milliseconds),
        callback_uri: ending.callback.map(String::from),
        took_ms: milliseconds(started.elapsed()),
    };
    recorder.end(end);
}

/// How it went, before it is compared with what was expected.
struct Ending {
    outcome: CallOutcome,
    reason: String,
    status: Option<StatusCode>,
    answered: Option<Duration>,
    callback: Option<Url>,
}

impl Ending {
    fn new(outcome: CallOutcome, reason: String) -> Self {
        Self { outcome, reason, status: None, answered: None, callback: None }
    }
}

impl Player<'_> {
    async fn run(&self, decisions: mpsc::Receiver<Decision>) -> Ending {
        if self.call.protocol == Protocol::LegacyFirst {
            let body = notification::legacy_incoming(self.call, self.ids);
            let phase = Phase::First { until: None };
            match self.deliver("incoming (legacy)", &self.call.to, &body, phase).await {
                Ok(answer) if answer.status == StatusCode::NO_CONTENT => {}
                Ok(answer) if answer.status.is_success() => {
                    let status = answer.status;
                    let reason = format!(
                        "the legacy notification was answered with {status}: only 204 asks for the Graph form"
                    );
                    return Ending { status: Some(status), ..Ending::new(CallOutcome::Refused, reason) };
                }
                other => return self.not_accepted(other.map(|answer| answer.status)),
            }
        }

        let deadline = Instant::now() + self.call.answer_within;
        let body = notification::incoming(self.call, self.ids);
        let phase = Phase::First { until: Some(deadline) };
        let (posted, posting) = oneshot::channel();
        // A bot may answer through Graph before it answers the webhook, so both go on at once.
        let post = async {
            let result = self.deliver("incoming", &self.call.to, &body, phase).await;
            let _ = posted.send(result.map(|answer| answer.status));
        };
        let ((), ending) = tokio::join!(post, self.live(posting, decisions, deadline));
        ending
    }

    /// From the first Graph notification to the end.
    async fn live(
        &self,
        mut posting: oneshot::Receiver<Result<StatusCode, Undelivered>>,
        mut decisions: mpsc::Receiver<Decision>,
        deadline: Instant,
    ) -> Ending {
        let mut accepted = false;
        let decision = loop {
            tokio::select! {
                decision = decisions.recv() => break decision,
                result = &mut posting, if !accepted => match result {
                    Ok(Ok(status)) if status.is_success() => accepted = true,
                    Ok(other) => return self.not_accepted(other),
                    Err(_) => accepted = true,
                },
                () = sleep_until(deadline) => break None,
            }
        };
        let answered = self.started.elapsed();
        match decision {
            Some(Decision::Answer(answer)) => {
                let callback = answer.callback.clone().unwrap_or_else(|| self.call.to.clone());
                let ending = self.lived(&callback, &answer, &mut decisions).await;
                Ending { answered: Some(answered), callback: Some(callback), ..ending }
            }
            Some(Decision::Reject { callback, reason }) => {
                let reason = format!("the bot rejected the call: {reason}");
                let ending = Ending::new(CallOutcome::Rejected, reason);
                self.decided(callback, ending, "rejected", &ResultInfo::RejectedByBot, answered).await
            }
            Some(Decision::Redirect { callback, targets }) => {
                let plural = if targets == 1 { "" } else { "s" };
                let reason = format!("the bot redirected the call to {targets} target{plural}");
                let ending = Ending::new(CallOutcome::Redirected, reason);
                self.decided(callback, ending, "redirected", &ResultInfo::RedirectedByBot, answered).await
            }
            // Graph takes no operation of a call that is not answered.
            Some(Decision::HangUp | Decision::Operation(_)) | None => {
                let body = notification::terminated(self.ids, &ResultInfo::NotAnswered);
                self.platform.calls().remove(self.ids.call);
                let _ = self.deliver("terminated", &self.call.to, &body, Phase::Later).await;
                let within = self.call.answer_within;
                let reason = if accepted {
                    format!("the notification was accepted, but nobody answered the call within {within:?}")
                } else {
                    format!("nobody answered the call within {within:?}")
                };
                Ending::new(CallOutcome::Unanswered, reason)
            }
        }
    }

    /// The bot did not want the call: one last notification says so.
    async fn decided(
        &self,
        callback: Option<Url>,
        ending: Ending,
        what: &str,
        result: &ResultInfo,
        answered: Duration,
    ) -> Ending {
        let to = callback.unwrap_or_else(|| self.call.to.clone());
        let _ = self.deliver(what, &to, &notification::terminated(self.ids, result), Phase::Later).await;
        Ending { answered: Some(answered), callback: Some(to), ..ending }
    }

    async fn lived(
        &self,
        callback: &Url,
        answer: &AnswerRequest,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Ending {
        match Life::new(self, callback, answer).run(decisions).await {
            Ok(reason) => Ending::new(CallOutcome::Completed, reason),
            Err(ending) => ending,
        }
    }

    fn not_accepted(&self, result: Result<StatusCode, Undelivered>) -> Ending {
        match result {
            Ok(status) => {
                let reason = format!("{} refused the notification with {status}", self.call.to);
                Ending { status: Some(status), ..Ending::new(CallOutcome::Refused, reason) }
            }
            Err(undelivered) => {
                let reason =
                    format!("{} did not take the notification: {}", self.call.to, undelivered.reason);
                Ending { status: undelivered.status, ..Ending::new(CallOutcome::Undelivered, reason) }
            }
        }
    }
}
