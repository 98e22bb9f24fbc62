//! Playing a call from the first notification to the bot's decision, and to the end.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use url::Url;

use super::{
    conclusion::Conclusion,
    established::{EstablishedCall, Start},
    message::Stage,
    posting::{DeliveryError, Player},
    replay,
};
use crate::{
    call::CallOutcome,
    graph::{CallInput, Decision},
    notification::{self, Opening, ResultInfo},
    participant::{Identity, Participant},
};

/// Plays the call to its end.
pub(super) async fn play(
    player: &Player<'_>,
    opening: &Opening,
    inputs: mpsc::Receiver<CallInput>,
) -> Conclusion {
    if let Some(legacy) = &opening.legacy
        && let Err(conclusion) = offer_legacy(player, legacy).await
    {
        return conclusion;
    }
    let deadline = Instant::now() + player.call.answer_within;
    let stage = Stage::First { until: Some(deadline) };
    let (posted, posting) = oneshot::channel();
    // A bot may answer through Graph before it responds on the webhook, so both are awaited at once.
    let post = async {
        let result = player.deliver("incoming", &player.call.to, &opening.graph, stage).await;
        let _ = posted.send(result.map(|response| response.status));
    };
    let ((), conclusion) = tokio::join!(post, await_decision(player, posting, inputs, deadline));
    conclusion
}

/// Posts the legacy notification. Only 204 asks for the Graph form.
async fn offer_legacy(player: &Player<'_>, body: &Value) -> Result<(), Conclusion> {
    let stage = Stage::First { until: None };
    let result = player.deliver("incoming (legacy)", &player.call.to, body, stage).await;
    match result.map(|response| response.status) {
        Ok(StatusCode::NO_CONTENT) => Ok(()),
        Ok(status) if status.is_success() => {
            let reason = format!(
                "the response to the legacy notification was {status}: only 204 asks for the Graph form"
            );
            Err(Conclusion { status: Some(status), ..Conclusion::new(CallOutcome::Refused, reason) })
        }
        other => Err(not_accepted(player, other)),
    }
}

/// Waits for the bot's decision, and plays on from it.
async fn await_decision(
    player: &Player<'_>,
    mut posting: oneshot::Receiver<Result<StatusCode, DeliveryError>>,
    mut inputs: mpsc::Receiver<CallInput>,
    deadline: Instant,
) -> Conclusion {
    let mut accepted = false;
    let input = loop {
        tokio::select! {
            input = inputs.recv() => break input,
            result = &mut posting, if !accepted => match result {
                Ok(Ok(status)) if status.is_success() => accepted = true,
                Ok(other) => return not_accepted(player, other),
                Err(_) => accepted = true,
            },
            () = sleep_until(deadline) => break None,
        }
    };
    let answered = player.started.elapsed();
    let decision = match input {
        Some(CallInput::Decision(decision)) => decision,
        // An unanswered call takes no other step than its end.
        Some(CallInput::Step(_) | CallInput::End) => return cancel(player).await,
        None => return give_up(player, accepted).await,
    };
    match decision {
        Decision::Answer(answer) => {
            if let Some(scenario) = answer.scenario.clone() {
                player.follow_scenario(scenario);
            }
            let callback = answer.callback.clone().unwrap_or_else(|| player.call.to.clone());
            let caller = Participant::new(
                player.ids.caller_participant,
                notification::source_identity(player.call, player.ids),
            );
            let bot = Participant::new(player.ids.bot_participant, Identity::application(player.call.app));
            let played = match &player.call.replay {
                Some(recorded) => replay::play(player, &callback, recorded, &mut inputs).await,
                None => {
                    let established = EstablishedCall::new(player, &callback, &answer, vec![caller, bot]);
                    established.play(Start::Answered, &mut inputs).await
                }
            };
            let conclusion = match played {
                Ok(reason) => Conclusion::new(CallOutcome::Completed, reason),
                Err(conclusion) => conclusion,
            };
            Conclusion { answered: Some(answered), callback: Some(callback), ..conclusion }
        }
        Decision::Reject { callback, reason } => {
            let reason = format!("the bot rejected the call: {reason}");
            let conclusion = Conclusion::new(CallOutcome::Rejected, reason);
            decline(player, callback, conclusion, "rejected", &ResultInfo::RejectedByBot, answered).await
        }
        Decision::Redirect { callback, targets } => {
            let plural = if targets == 1 { "" } else { "s" };
            let reason = format!("the bot redirected the call to {targets} target{plural}");
            let conclusion = Conclusion::new(CallOutcome::Redirected, reason);
            decline(player, callback, conclusion, "redirected", &ResultInfo::RedirectedByBot, answered).await
        }
        // Graph accepts none of these before the answer.
        Decision::Operation(_)
        | Decision::Transfer { .. }
        | Decision::ShareScreen(_)
        | Decision::Removed(_) => give_up(player, accepted).await,
        Decision::HangUp => {
            player.context.calls.remove(player.ids.call);
            let reason = "the bot ended the call instead of answering it".to_owned();
            let conclusion = Conclusion::new(CallOutcome::Ended, reason);
            decline(player, None, conclusion, "terminated", &ResultInfo::EndedByBot, answered).await
        }
    }
}

/// Posts the last notification of a call that the bot rejected or redirected.
async fn decline(
    player: &Player<'_>,
    callback: Option<Url>,
    conclusion: Conclusion,
    what: &str,
    result: &ResultInfo,
    answered: Duration,
) -> Conclusion {
    let to = callback.unwrap_or_else(|| player.call.to.clone());
    let _ = player.deliver(what, &to, &notification::terminated(player.ids, result), Stage::Later).await;
    Conclusion { answered: Some(answered), callback: Some(to), ..conclusion }
}

/// Ends a call that the caller gave up before the bot decided.
async fn cancel(player: &Player<'_>) -> Conclusion {
    let body = notification::terminated(player.ids, &ResultInfo::OtherSideEnded);
    player.context.calls.remove(player.ids.call);
    let _ = player.deliver("terminated", &player.call.to, &body, Stage::Later).await;
    Conclusion::new(CallOutcome::Unanswered, "the caller hung up before the bot answered".to_owned())
}

/// Ends a call that the bot did not answer in time.
async fn give_up(player: &Player<'_>, accepted: bool) -> Conclusion {
    let body = notification::terminated(player.ids, &ResultInfo::NotAnswered);
    player.context.calls.remove(player.ids.call);
    let _ = player.deliver("terminated", &player.call.to, &body, Stage::Later).await;
    let within = player.call.answer_within;
    let reason = if accepted {
        format!(
            "the webhook accepted the notification, but the bot did not answer the call within {within:?}"
        )
    } else {
        format!("the bot did not answer the call within {within:?}")
    };
    Conclusion::new(CallOutcome::Unanswered, reason)
}

fn not_accepted(player: &Player<'_>, result: Result<StatusCode, DeliveryError>) -> Conclusion {
    let to = &player.call.to;
    match result {
        Ok(status) => {
            let reason = format!("{to} refused the notification with {status}");
            Conclusion { status: Some(status), ..Conclusion::new(CallOutcome::Refused, reason) }
        }
        Err(error) => {
            let reason = format!("{to} did not accept the notification: {}", error.reason);
            Conclusion { status: error.status, ..Conclusion::new(CallOutcome::Undelivered, reason) }
        }
    }
}
