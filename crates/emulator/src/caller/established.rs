//! An answered call: the notifications to its callbackUri, as its request and its script say.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    admission::Admission,
    conclusion::Conclusion,
    message::{Delivered, Stage},
    posting::Player,
};
use crate::{
    call::{CallKind, CallOutcome, CallRequest, Protocol},
    encoding::random_id,
    graph::{AnswerRequest, Decision},
    notification::{self, Operation, Person, ResultInfo, Roster},
    script::{ExpectedStatus, ScriptAction, ScriptStep},
    timeline::{CallEvent, Timeline},
};

/// An answered call.
pub(super) struct EstablishedCall<'a, 'b> {
    player: &'a Player<'b>,
    callback: &'a Url,
    answer: &'a AnswerRequest,
    /// The participants besides the caller and the bot.
    people: Vec<Person>,
    roster_changes: u32,
    tones: u32,
    /// The calls to bots that this bot invited for a participant.
    invited: Vec<(Url, Timeline)>,
}

/// The number of a script's step, and the status that it expects.
type Expectation = (usize, ExpectedStatus);

/// The end of an established call.
enum Termination {
    /// A last notification says why the call ended.
    Announced(ResultInfo, Option<Expectation>),
    /// The bot gets no notification.
    Silent,
}

impl<'a, 'b> EstablishedCall<'a, 'b> {
    pub(super) fn new(player: &'a Player<'b>, callback: &'a Url, answer: &'a AnswerRequest) -> Self {
        let (people, invited) = (Vec::new(), Vec::new());
        Self { player, callback, answer, people, roster_changes: 0, tones: 0, invited }
    }

    /// Plays the call to its end and returns one line about it.
    pub(super) async fn play(
        mut self,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<String, Conclusion> {
        let played = self.play_steps(decisions).await;
        // From here on Graph responds that there is no such call.
        self.player.context.calls.remove(self.player.ids.call);
        let announced = match &played {
            Ok(Termination::Silent) => {
                self.player.say(
                    "gone",
                    self.callback,
                    "the call is over without a notification, as the script says",
                );
                Ok("answered, established and gone".to_owned())
            }
            Ok(Termination::Announced(result, expect)) => {
                let body = notification::terminated(self.player.ids, result);
                let announced = self.expecting("terminated", &body, *expect).await;
                announced.map(|()| "answered, established and terminated".to_owned())
            }
            Err(_) => {
                // The platform hangs up after the last attempt, so nothing but the end follows.
                let body = notification::terminated(self.player.ids, &ResultInfo::OtherSideEnded);
                let _ = self.player.deliver("terminated", self.callback, &body, Stage::Later).await;
                Ok(String::new())
            }
        };
        for (to, timeline) in self.invited.drain(..) {
            let note = end_of(timeline).await;
            self.player.say("invited bot", &to, &note);
        }
        played.and(announced)
    }

    async fn play_steps(
        &mut self,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<Termination, Conclusion> {
        let ids = self.player.ids;
        self.acknowledged("establishing", &notification::state(ids, "establishing")).await?;
        self.acknowledged("established", &notification::state(ids, "established")).await?;
        let roster = notification::roster(self.player.call, ids, Roster::Full(&[]), self.next_roster());
        self.acknowledged("roster", &roster).await?;

        // People join in a few groups: a full roster for each would be a flood in a big meeting.
        let others = self.player.call.participants.saturating_sub(1);
        let group = others.div_ceil(ROSTERS_MAX).max(1);
        let mut left = others;
        while left > 0 {
            let joining = left.min(group);
            self.join(joining, None).await?;
            left = left.saturating_sub(joining);
            if let Some(end) = self.pause(Duration::ZERO, decisions).await? {
                return Ok(end);
            }
        }

        let steps = self.player.call.script.as_ref().map_or(&[][..], |script| &script.steps);
        for step in steps {
            if let Some(end) = self.pause(step.after, decisions).await? {
                return Ok(end);
            }
            if let Some(end) = self.act(step, decisions).await? {
                return Ok(end);
            }
        }
        let end = self.pause(self.player.call.duration, decisions).await?;
        Ok(end.unwrap_or(Termination::Announced(ResultInfo::OtherSideEnded, None)))
    }

    async fn act(
        &mut self,
        step: &ScriptStep,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<Option<Termination>, Conclusion> {
        let expect = step.expect.map(|expect| (step.number, expect));
        let ids = self.player.ids;
        match &step.action {
            ScriptAction::Wait(duration) => return self.pause(*duration, decisions).await,
            ScriptAction::Join(count) => self.join(*count, expect).await?,
            ScriptAction::Leave(count) => self.leave(*count, expect).await?,
            ScriptAction::Tone(tone) => {
                self.tones += 1;
                let body = notification::tone(ids, &tone.wire(), self.tones);
                self.expecting(&format!("tone {tone}"), &body, expect).await?;
            }
            ScriptAction::Operation(kind, status) => {
                let id = random_id().map_err(|_| no_randomness())?;
                let operation = Operation { id, odata_type: kind.odata_type(), client_context: None };
                let body = notification::operation(ids, &operation, status.label());
                self.expecting("operation", &body, expect).await?;
            }
            ScriptAction::Hold => self.expecting("hold", &notification::state(ids, "hold"), expect).await?,
            ScriptAction::Resume => {
                self.expecting("resume", &notification::state(ids, "established"), expect).await?
            }
            ScriptAction::Drop => return Ok(Some(Termination::Silent)),
            ScriptAction::Terminate { code, subcode, message } => {
                let (code, subcode, message) = (*code, *subcode, message.clone());
                return Ok(Some(Termination::Announced(
                    ResultInfo::Scripted { code, subcode, message },
                    expect,
                )));
            }
        }
        Ok(None)
    }

    /// Waits, and performs the operations that the bot requests meanwhile.
    async fn pause(
        &self,
        duration: Duration,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<Option<Termination>, Conclusion> {
        let until = Instant::now() + duration;
        loop {
            let decision = tokio::select! {
                biased;
                decision = decisions.recv() => decision,
                () = sleep_until(until) => return Ok(None),
            };
            match decision {
                Some(Decision::HangUp) => {
                    return Ok(Some(Termination::Announced(ResultInfo::EndedByBot, None)));
                }
                Some(Decision::Operation(operation)) => {
                    let body = notification::operation(self.player.ids, &operation, "completed");
                    self.acknowledged("operation", &body).await?;
                }
                // Graph accepts none of these twice.
                Some(Decision::Answer(_) | Decision::Reject { .. } | Decision::Redirect { .. }) => {}
                None => {
                    sleep_until(until).await;
                    return Ok(None);
                }
            }
        }
    }

    async fn join(&mut self, count: u32, expect: Option<Expectation>) -> Result<(), Conclusion> {
        let mut joined = Vec::new();
        for _ in 0..count {
            let person = Person::new().map_err(|_| no_randomness())?;
            if self.asks_first() && !self.admitted(person).await? {
                continue;
            }
            joined.push(person);
        }
        if joined.is_empty() {
            return Ok(());
        }
        self.people.extend_from_slice(&joined);
        self.post_roster(&joined, &[], expect).await
    }

    async fn leave(&mut self, count: u32, expect: Option<Expectation>) -> Result<(), Conclusion> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.people.len());
        let left: Vec<Person> = self.people.drain(..count).collect();
        if left.is_empty() {
            self.player.say("leave", self.callback, "only the caller is left: end the call instead");
            return Ok(());
        }
        if self.asks_first() {
            for person in &left {
                self.acknowledged("participant left", &notification::left(self.player.ids, *person)).await?;
            }
        }
        self.post_roster(&[], &left, expect).await
    }

    async fn post_roster(
        &mut self,
        joined: &[Person],
        left: &[Person],
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let change = self.next_roster();
        let roster = if self.answer.delta_roster {
            Roster::Delta { joined, left }
        } else {
            Roster::Full(&self.people)
        };
        let body = notification::roster(self.player.call, self.player.ids, roster, change);
        self.expecting("roster", &body, expect).await
    }

    fn next_roster(&mut self) -> u32 {
        self.roster_changes += 1;
        self.roster_changes
    }

    /// Returns true if the bot gave a capacity, so that it decides about each further user of its policy.
    fn asks_first(&self) -> bool {
        self.answer.participant_capacity.is_some() && self.player.call.kind == CallKind::Recording
    }

    /// Asks the bot to admit a participant. After an invalid response it asks again, as users report of the
    /// platform.
    async fn admitted(&mut self, person: Person) -> Result<bool, Conclusion> {
        let body = notification::joining(self.player.call, self.player.ids, person);
        for _ in 0..JOINING_ATTEMPTS {
            let what = "participant joining";
            let response = self.accepted(what, &body, None).await?;
            match Admission::read(&response.body) {
                Admission::Accepted => {
                    self.player.say(what, self.callback, "accepted");
                    return Ok(true);
                }
                Admission::Rejected(reason) => {
                    self.player.say(what, self.callback, &format!("rejected: {reason}"));
                    return Ok(false);
                }
                Admission::Invite(to) => {
                    self.player.say(what, self.callback, &format!("a new bot is invited at {to}"));
                    self.invite(to);
                    return Ok(false);
                }
                Admission::Invalid(why) => {
                    self.player.say(what, self.callback, &format!("invalid response: {why}"));
                }
            }
        }
        self.player.say(
            "participant dropped",
            self.callback,
            "the bot neither accepted nor rejected the participant",
        );
        Ok(false)
    }

    /// Places a call of the same chain to another bot.
    fn invite(&mut self, to: Url) {
        let call = CallRequest {
            to: to.clone(),
            participants: 1,
            script: None,
            protocol: Protocol::Graph,
            expect: CallOutcome::Completed,
            ..self.player.call.clone()
        };
        match self.player.invite(call) {
            Ok(timeline) => self.invited.push((to, timeline)),
            Err(error) => self.player.say("invited bot", &to, &error.to_string()),
        }
    }

    async fn acknowledged(&self, what: &str, body: &Value) -> Result<(), Conclusion> {
        self.expecting(what, body, None).await
    }

    async fn expecting(
        &self,
        what: &str,
        body: &Value,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        self.accepted(what, body, expect).await.map(drop)
    }

    /// Posts to the callbackUri. A status other than the expected one ends the call.
    async fn accepted(
        &self,
        what: &str,
        body: &Value,
        expect: Option<Expectation>,
    ) -> Result<Delivered, Conclusion> {
        let result = self.player.deliver(what, self.callback, body, Stage::Later).await;
        let status = result.as_ref().map_or_else(|error| error.status, |response| Some(response.status));
        if let (Some((number, expect)), Some(status)) = (expect, status) {
            if expect.holds(status) {
                let body = result.map(|response| response.body).unwrap_or_default();
                return Ok(Delivered { status, body });
            }
            let reason = format!(
                "step {number} of the script expects {expect}, but the response to {what} was {status}"
            );
            return Err(Conclusion {
                status: Some(status),
                ..Conclusion::new(CallOutcome::Unexpected, reason)
            });
        }
        let reason = match result {
            Ok(response) if response.status.is_success() => return Ok(response),
            Ok(response) => format!("{what} was not acknowledged: {}", response.status),
            Err(error) => format!("{what} was not acknowledged: {}", error.reason),
        };
        Err(Conclusion { status, ..Conclusion::new(CallOutcome::Lost, reason) })
    }
}

/// Waits for the end of a timeline and returns one line about it.
async fn end_of(mut timeline: Timeline) -> String {
    let wait = async {
        while let Some(event) = timeline.next().await {
            if let CallEvent::End(end) = event {
                return format!("{}: {}", end.outcome, end.reason);
            }
        }
        "no end".to_owned()
    };
    timeout(INVITED_TIME_MAX, wait).await.unwrap_or_else(|_| "its call goes on".to_owned())
}

fn no_randomness() -> Conclusion {
    Conclusion::new(CallOutcome::Lost, "openssl has no randomness".to_owned())
}

const ROSTERS_MAX: u32 = 10;
const JOINING_ATTEMPTS: usize = 3;
const INVITED_TIME_MAX: Duration = Duration::from_secs(20);
