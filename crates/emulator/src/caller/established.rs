//! An answered call: establishing it, its script, and its end.

use std::time::Duration;

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use url::Url;
use uuid::Uuid;

use super::{
    callbacks::{Callbacks, Expectation},
    callee::behaviour,
    conclusion::Conclusion,
    message::Stage,
    operations::{self, Ended, Operations},
    participants::Participants,
    posting::Player,
    steps::Steps,
};
use crate::{
    call::CallOutcome,
    call_record::{CallRecord, CallStage},
    encoding::random_id,
    faults::Callee,
    graph::{AnswerRequest, BotChange, CallInput, Decision, OperationEffect, StartedOperation},
    notification::{self, ResultInfo},
    operation::{Operation, OperationResult, OperationStatus},
    participant::Participant,
    script::{ScriptAction, ScriptStep},
};

/// An answered call.
pub(super) struct EstablishedCall<'a, 'b> {
    player: &'a Player<'b>,
    callbacks: Callbacks<'a, 'b>,
    participants: Participants<'a>,
    operations: Operations,
    /// The steps of the control API.
    steps: Steps,
    tones: u32,
    /// The bot hands the call to another callee, which goes on.
    transferring: bool,
}

/// The way in which a call becomes an established one.
pub(super) enum Start {
    /// The bot answered.
    Answered,
    /// The bot calls; the callee may behave unlike most.
    Calling(Option<Callee>),
}

/// The end of an established call.
enum Termination {
    /// The callee did not take the call: the result for the bot, the outcome, and its reason.
    NotTaken(ResultInfo, CallOutcome, &'static str),
    /// A last notification says why the call ended.
    Announced(ResultInfo, Option<Expectation>),
    /// The bot gets no notification.
    Silent,
}

impl<'a, 'b> EstablishedCall<'a, 'b> {
    /// `first` are the participants at the moment when the call is established: the other side, the bot, and
    /// further callees.
    pub(super) fn new(
        player: &'a Player<'b>,
        callback: &'a Url,
        answer: &'a AnswerRequest,
        first: Vec<Participant>,
    ) -> Self {
        let callbacks = Callbacks { player, to: callback };
        let operations = Operations::new(player.context.client.clone());
        let participants = Participants::new(answer, first);
        let steps = Steps::default();
        Self { player, callbacks, participants, operations, steps, tones: 0, transferring: false }
    }

    /// Plays the call to its end and returns one line about it.
    pub(super) async fn play(
        mut self,
        start: Start,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<String, Conclusion> {
        let played = self.play_steps(start, inputs).await;
        // From here on Graph responds that there is no such call.
        self.player.context.calls.remove(self.player.ids.call);
        let mut pending = self.operations.end_all(inputs);
        pending.extend(self.participants.end_arrivals());
        // The bot may have refused the roster of an operation, which then is in no queue.
        pending.extend(operations::cancel_all(self.player.record()));
        let announced = match &played {
            Ok(Termination::Silent) => {
                operations::close(self.player.record(), pending);
                self.callbacks.say("gone", "the call is over without a notification, as the script says");
                Ok("answered, established and gone".to_owned())
            }
            Ok(Termination::NotTaken(result, outcome, reason)) => {
                let reported = operations::report(&self.callbacks, pending).await;
                let body = notification::terminated(self.player.ids, result);
                let announced = self.callbacks.notify("terminated", &body).await;
                let conclusion = Conclusion::new(*outcome, (*reason).to_owned());
                reported.and(announced).and(Err(conclusion))
            }
            Ok(Termination::Announced(result, expect)) => {
                let reported = operations::report(&self.callbacks, pending).await;
                let body = notification::terminated(self.player.ids, result);
                let announced = self.callbacks.notify_expecting("terminated", &body, *expect).await;
                reported.and(announced).map(|()| "answered, established and terminated".to_owned())
            }
            Err(_) => {
                operations::report_to_lost_bot(&self.callbacks, pending).await;
                // The platform hangs up after the last attempt, so nothing but the end follows.
                let body = notification::terminated(self.player.ids, &ResultInfo::OtherSideEnded);
                let _ = self.player.deliver("terminated", self.callbacks.to, &body, Stage::Later).await;
                Ok(String::new())
            }
        };
        self.participants.await_invited(&self.callbacks).await;
        played.and(announced)
    }

    async fn play_steps(
        &mut self,
        start: Start,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<Termination, Conclusion> {
        let ids = self.player.ids;
        self.callbacks.notify("establishing", &notification::state(ids, "establishing")).await?;
        if let Start::Calling(callee) = start {
            let (time, refusal) = behaviour(callee);
            if let Some(end) = self.pause(time, inputs).await? {
                return Ok(end);
            }
            if let Some((result, outcome, reason)) = refusal {
                return Ok(Termination::NotTaken(result, outcome, reason));
            }
        }
        self.callbacks.notify("established", &notification::state(ids, "established")).await?;
        self.player.record().enter(CallStage::Established);
        self.participants.post_first_roster(&self.callbacks).await?;

        // People join in a few groups: a full roster for each would be a flood in a big meeting.
        let others = self.player.call.participants.saturating_sub(1);
        let group = others.div_ceil(GROUPS_MAX).max(1);
        let mut left = others;
        while left > 0 {
            let joining = left.min(group);
            self.participants.join(&self.callbacks, joining, false, None).await?;
            left = left.saturating_sub(joining);
            if let Some(end) = self.pause(Duration::ZERO, inputs).await? {
                return Ok(end);
            }
        }

        let steps = self.player.call.script.as_ref().map_or(&[][..], |script| &script.steps);
        for step in steps {
            if let Some(end) = self.pause(step.after, inputs).await? {
                return Ok(end);
            }
            if let Some(end) = self.act(step, inputs).await? {
                return Ok(end);
            }
        }
        let end = self.pause(self.player.call.duration, inputs).await?;
        Ok(end.unwrap_or(Termination::Announced(ResultInfo::OtherSideEnded, None)))
    }

    /// Plays one step of the script. Returns the end of the call if the step ends it.
    async fn act(
        &mut self,
        step: &ScriptStep,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<Option<Termination>, Conclusion> {
        let expect = step.expect.map(|expect| (step.number, expect));
        let ids = self.player.ids;
        let (what, body) = match &step.action {
            ScriptAction::Wait(duration) => return self.pause(*duration, inputs).await,
            ScriptAction::Join(count) => {
                self.participants.join(&self.callbacks, *count, false, expect).await?;
                return Ok(None);
            }
            ScriptAction::Lobby(count) => {
                self.participants.join(&self.callbacks, *count, true, expect).await?;
                return Ok(None);
            }
            ScriptAction::Change(change, number) => {
                self.participants.change_person(&self.callbacks, *change, *number, expect).await?;
                return Ok(None);
            }
            ScriptAction::Leave(count) => {
                self.participants.leave(&self.callbacks, *count, expect).await?;
                return Ok(None);
            }
            ScriptAction::Tone(tone) => {
                self.tones += 1;
                let body = notification::tone(ids, &tone.wire(), self.tones);
                self.callbacks.notify_expecting(&format!("tone {tone}"), &body, expect).await?;
                let ended = self.operations.tone(*tone);
                operations::report(&self.callbacks, ended).await?;
                return Ok(None);
            }
            ScriptAction::Speak(lasting) => {
                self.callbacks.say("speak", &format!("a person speaks for {lasting:?}"));
                self.operations.speak(*lasting);
                return Ok(None);
            }
            ScriptAction::Operation(kind, status) => {
                let id = random_id().map_err(|_| Conclusion::no_randomness())?;
                // The calling SDK refuses an operation without a context, and ignores an unknown one.
                let mut operation = Operation::new(id, *kind, id.to_string());
                match status {
                    OperationStatus::Running => {}
                    OperationStatus::Completed => operation.end(OperationResult::success().into()),
                    OperationStatus::Failed => {
                        operation.end(OperationResult::new(500, 0, "Action failed.").into());
                    }
                }
                ("operation".to_owned(), notification::operation(ids, &operation))
            }
            ScriptAction::Hold => {
                self.player.record().enter(CallStage::Hold);
                ("hold".to_owned(), notification::state(ids, "hold"))
            }
            ScriptAction::Resume => {
                self.player.record().enter(CallStage::Established);
                ("resume".to_owned(), notification::state(ids, "established"))
            }
            ScriptAction::Drop => return Ok(Some(Termination::Silent)),
            ScriptAction::Terminate { code, subcode, message } => {
                let (code, subcode, message) = (*code, *subcode, message.clone());
                let result = ResultInfo::Scripted { code, subcode, message };
                return Ok(Some(Termination::Announced(result, expect)));
            }
        };
        self.callbacks.notify_expecting(&what, &body, expect).await?;
        Ok(None)
    }

    /// Waits, and plays what the bot and the control API ask for meanwhile.
    async fn pause(
        &mut self,
        duration: Duration,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<Option<Termination>, Conclusion> {
        let until = Instant::now() + duration;
        loop {
            if let Some(step) = self.steps.take_due() {
                let end = Box::pin(self.act(&step, inputs)).await?;
                if end.is_some() {
                    return Ok(end);
                }
                continue;
            }
            let due = [self.participants.next_arrival(), self.steps.next_due()];
            let due = due.into_iter().flatten().min().unwrap_or(until);
            let input = tokio::select! {
                biased;
                input = inputs.recv() => input,
                ended = self.operations.next() => {
                    operations::report(&self.callbacks, [ended]).await?;
                    continue;
                }
                () = sleep_until(due), if due < until => {
                    let ended = self.participants.arrive(&self.callbacks).await?;
                    operations::report(&self.callbacks, ended).await?;
                    continue;
                }
                () = sleep_until(until) => return Ok(None),
            };
            let end = match input {
                Some(CallInput::Decision(Decision::Transfer { .. })) if self.transferring => {
                    self.callbacks.say("transfer", "ignored: an earlier transfer goes on");
                    None
                }
                Some(CallInput::Decision(Decision::Transfer { replaces })) => {
                    self.transferring = true;
                    let end = Box::pin(self.transfer(replaces, inputs)).await?;
                    self.transferring = false;
                    end
                }
                Some(CallInput::Decision(decision)) => self.follow(decision).await?,
                Some(CallInput::Step(step)) => {
                    if !self.steps.add(step) {
                        self.callbacks.say("step", "dropped: too many steps wait");
                    }
                    None
                }
                Some(CallInput::End) => {
                    let result = ResultInfo::Scripted { code: 200, subcode: 0, message: String::new() };
                    Some(Termination::Announced(result, None))
                }
                None => {
                    sleep_until(until).await;
                    return Ok(None);
                }
            };
            if end.is_some() {
                return Ok(end);
            }
        }
    }

    /// Follows a decision of the bot. Returns the end of the call if the bot hangs up.
    async fn follow(&mut self, decision: Decision) -> Result<Option<Termination>, Conclusion> {
        match decision {
            Decision::HangUp => Ok(Some(Termination::Announced(ResultInfo::EndedByBot, None))),
            Decision::Operation(StartedOperation { id, effect: OperationEffect::Participants(change) }) => {
                let callee = || self.player.context.faults.callee();
                let result = self.participants.apply(&self.callbacks, id, change, callee).await?;
                let ended = result.map(|result| Ended { id, end: result.into() });
                operations::report(&self.callbacks, ended).await?;
                Ok(None)
            }
            Decision::Operation(started) => {
                if let OperationEffect::Bot(change) = started.effect {
                    self.participants.change_bot(&self.callbacks, change).await?;
                }
                let ended = self.operations.start(started);
                operations::report(&self.callbacks, ended).await?;
                Ok(None)
            }
            Decision::ShareScreen(shares) => {
                self.participants.change_bot(&self.callbacks, BotChange::SharesScreen(shares)).await?;
                Ok(None)
            }
            Decision::Removed(participant) => {
                self.participants.remove(&self.callbacks, participant).await?;
                Ok(None)
            }
            // `pause` plays transfers. Graph accepts none of the others twice.
            Decision::Transfer { .. }
            | Decision::Answer(_)
            | Decision::Reject { .. }
            | Decision::Redirect { .. } => Ok(None),
        }
    }

    /// Hands the call to another callee. Returns the end of the call unless the transfer fails.
    async fn transfer(
        &mut self,
        replaces: Option<Uuid>,
        inputs: &mut mpsc::Receiver<CallInput>,
    ) -> Result<Option<Termination>, Conclusion> {
        let (ids, context) = (self.player.ids, self.player.context);
        self.player.record().enter(CallStage::Transferring);
        self.callbacks.notify("transferring", &notification::state(ids, "transferring")).await?;
        let replaced = replaces.map(|id| context.calls.record(id).filter(|call| self.may_replace(call)));
        let (time, failure) = match &replaced {
            Some(Some(_)) => (Duration::ZERO, None),
            Some(None) => (Duration::ZERO, Some((REPLACED_CALL_UNKNOWN, "the call to replace is not live"))),
            None => {
                let (time, refusal) = behaviour(context.faults.callee());
                (time, refusal.map(|(_, _, reason)| (CALLEE_NOT_REACHED, reason)))
            }
        };
        if let Some(end) = self.pause(time, inputs).await? {
            return Ok(Some(end));
        }
        if let Some((subcode, reason)) = failure {
            self.player.record().enter(CallStage::Established);
            let body = notification::transfer_failed(ids, subcode, reason);
            self.callbacks.notify("transfer failed", &body).await?;
            return Ok(None);
        }
        let accepted = notification::state(ids, "transferAccepted");
        self.callbacks.notify("transfer accepted", &accepted).await?;
        if let Some(call) = replaced.flatten() {
            // The callee now talks to the other side. If that call just ended, nothing is left to end.
            context.calls.end(call.facts.id);
        }
        Ok(Some(Termination::Announced(ResultInfo::Transferred, None)))
    }

    /// Returns true for another answered call of the same app and tenant.
    fn may_replace(&self, call: &CallRecord) -> bool {
        let (own, other) = (&self.player.record().facts, &call.facts);
        let answered = call.state().stage().is_answered();
        answered && own.id != other.id && own.app == other.app && own.tenant == other.tenant
    }
}

const GROUPS_MAX: u32 = 10;
/// The subcodes of a failed transfer in the reference: blind and consultative.
const CALLEE_NOT_REACHED: u32 = 7_000;
const REPLACED_CALL_UNKNOWN: u32 = 7_700;
