//! Playing a call of the bot: the callee, and the call from the callee's answer on.

use std::time::Duration;

use tokio::{sync::mpsc, time::sleep};

use super::{
    conclusion::Conclusion,
    established::{EstablishedCall, Start},
    posting::Player,
};
use crate::{
    call::CallOutcome,
    graph::{AnswerRequest, CallInput},
    participant::Participant,
};

/// Plays the call to its end.
pub(super) async fn play(
    player: &Player<'_>,
    answer: &AnswerRequest,
    others: Vec<Participant>,
    mut inputs: mpsc::Receiver<CallInput>,
) -> Conclusion {
    if let Some(scenario) = answer.scenario.clone() {
        player.follow_scenario(scenario);
    }
    // The bot has the response to its request before the first notification, if it is not slow.
    sleep(RESPONSE_TIME).await;
    let callback = &player.call.to;
    let established = EstablishedCall::new(player, callback, answer, others);
    let start = Start::Calling(player.context.faults.callee());
    let conclusion = match established.play(start, &mut inputs).await {
        Ok(reason) => Conclusion::new(CallOutcome::Completed, reason),
        Err(conclusion) => conclusion,
    };
    Conclusion { callback: Some(callback.clone()), ..conclusion }
}

const RESPONSE_TIME: Duration = Duration::from_millis(50);
