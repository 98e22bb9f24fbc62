//! The life of an answered call: everything that goes to its callbackUri, as the call and its script have it.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use url::Url;

use super::{
    Ending,
    posting::{Delivered, Phase, Player},
};
use crate::{
    call::{CallKind, CallOutcome, CallRequest, Protocol, parse_http_url},
    encoding::random_id,
    graph::{AnswerRequest, Decision},
    notification::{self, Operation, Person, ResultInfo, Roster},
    script::{Act, Expect, ScriptStep},
    timeline::{CallEvent, Timeline},
};

/// An answered call.
pub(super) struct Life<'a, 'b> {
    player: &'a Player<'b>,
    callback: &'a Url,
    answer: &'a AnswerRequest,
    people: Vec<Person>,
    roster_changes: u32,
    tones: u32,
    /// Bots that were invited to a participant of this call.
    invited: Vec<(Url, Timeline)>,
}

/// Why the life of a call is over.
enum Over {
    /// To be told with this reason, and the status that the script expects.
    Told(ResultInfo, Option<(usize, Expect)>),
    /// Nobody is told.
    Untold,
}

impl<'a, 'b> Life<'a, 'b> {
    pub(super) fn new(player: &'a Player<'b>, callback: &'a Url, answer: &'a AnswerRequest) -> Self {
        let (people, invited) = (Vec::new(), Vec::new());
        Self { player, callback, answer, people, roster_changes: 0, tones: 0, invited }
    }

    /// Lives it; gives one line about its end.
    pub(super) async fn run(mut self, decisions: &mut mpsc::Receiver<Decision>) -> Result<String, Ending> {
        let lived = self.live(decisions).await;
        let platform = self.player.platform;
        // From here on Graph says that there is no such call.
        platform.calls().remove(self.player.ids.call);
        let told = match &lived {
            Ok(Over::Untold) => {
                self.player.say(
                    "gone",
                    self.callback,
                    "the call is over; nobody is told, as the script says",
                );
                Ok("answered, established and gone".to_owned())
            }
            Ok(Over::Told(result, expect)) => {
                let body = notification::terminated(self.player.ids, result);
                let told = self.expecting("terminated", &body, *expect).await;
                told.map(|()| "answered, established and terminated".to_owned())
            }
            Err(_) => {
                // The platform hangs up when its tries are used up, so nothing but the end follows.
                let body = notification::terminated(self.player.ids, &ResultInfo::OtherSideEnded);
                let _ = self.player.deliver("terminated", self.callback, &body, Phase::Later).await;
                Ok(String::new())
            }
        };
        for (to, timeline) in self.invited.drain(..) {
            let note = end_of(timeline).await;
            self.player.say("invited bot", &to, &note);
        }
        lived.and(told)
    }

    async fn live(&mut self, decisions: &mut mpsc::Receiver<Decision>) -> Result<Over, Ending> {
        let ids = self.player.ids;
        self.acknowledged("establishing", &notification::state(ids, "establishing")).await?;
        self.acknowledged("established", &notification::state(ids, "established")).await?;
        let roster = notification::roster(self.player.call, ids, Roster::Full(&[]), self.next_roster());
        self.acknowledged("roster", &roster).await?;

        // Later ones come in a few groups: a full roster each would be a flood in a big meeting.
        let later = self.player.call.participants.saturating_sub(1);
        let group = later.div_ceil(ROSTERS_MAX).max(1);
        let mut left = later;
        while left > 0 {
            let joining = left.min(group);
            self.join(joining, None).await?;
            left = left.saturating_sub(joining);
            if let Some(over) = self.pause(Duration::ZERO, decisions).await? {
                return Ok(over);
            }
        }

        let steps = self.player.call.script.as_ref().map_or(&[][..], |script| &script.steps);
        for step in steps {
            if let Some(over) = self.pause(step.after, decisions).await? {
                return Ok(over);
            }
            if let Some(over) = self.act(step, decisions).await? {
                return Ok(over);
            }
        }
        let over = self.pause(self.player.call.duration, decisions).await?;
        Ok(over.unwrap_or(Over::Told(ResultInfo::OtherSideEnded, None)))
    }

    async fn act(
        &mut self,
        step: &ScriptStep,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<Option<Over>, Ending> {
        let expect = step.expect.map(|expect| (step.number, expect));
        let ids = self.player.ids;
        match &step.act {
            Act::Wait(duration) => return self.pause(*duration, decisions).await,
            Act::Join(count) => self.join(*count, expect).await?,
            Act::Leave(count) => self.leave(*count, expect).await?,
            Act::Tone(tone) => {
                self.tones += 1;
                let body = notification::tone(ids, &tone.wire(), self.tones);
                self.expecting(&format!("tone {tone}"), &body, expect).await?;
            }
            Act::Operation(kind, status) => {
                let id = random_id().map_err(|_| no_randomness())?;
                let operation = Operation { id, odata_type: kind.odata_type(), client_context: None };
                let body = notification::operation(ids, &operation, status.label());
                self.expecting("operation", &body, expect).await?;
            }
            Act::Hold => self.expecting("hold", &notification::state(ids, "hold"), expect).await?,
            Act::Resume => self.expecting("resume", &notification::state(ids, "established"), expect).await?,
            Act::Drop => return Ok(Some(Over::Untold)),
            Act::Terminate { code, subcode, message } => {
                let (code, subcode, message) = (*code, *subcode, message.clone());
                return Ok(Some(Over::Told(ResultInfo::Scripted { code, subcode, message }, expect)));
            }
        }
        Ok(None)
    }

    /// Lets time pass, and does what the bot asks for meanwhile.
    async fn pause(
        &self,
        duration: Duration,
        decisions: &mut mpsc::Receiver<Decision>,
    ) -> Result<Option<Over>, Ending> {
        let until = Instant::now() + duration;
        loop {
            let decision = tokio::select! {
                biased;
                decision = decisions.recv() => decision,
                () = sleep_until(until) => return Ok(None),
            };
            match decision {
                Some(Decision::HangUp) => return Ok(Some(Over::Told(ResultInfo::EndedByBot, None))),
                Some(Decision::Operation(operation)) => {
                    let body = notification::operation(self.player.ids, &operation, "completed");
                    self.acknowledged("operation", &body).await?;
                }
                // Graph takes none of these twice.
                Some(Decision::Answer(_) | Decision::Reject { .. } | Decision::Redirect { .. }) => {}
                None => {
                    sleep_until(until).await;
                    return Ok(None);
                }
            }
        }
    }

    async fn join(&mut self, count: u32, expect: Option<(usize, Expect)>) -> Result<(), Ending> {
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
        self.tell_roster(&joined, &[], expect).await
    }

    async fn leave(&mut self, count: u32, expect: Option<(usize, Expect)>) -> Result<(), Ending> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.people.len());
        let left: Vec<Person> = self.people.drain(..count).collect();
        if left.is_empty() {
            self.player.say(
                "leave",
                self.callback,
                "nobody is left to leave but the caller: end the call instead",
            );
            return Ok(());
        }
        if self.asks_first() {
            for person in &left {
                self.acknowledged("participant left", &notification::left(self.player.ids, *person)).await?;
            }
        }
        self.tell_roster(&[], &left, expect).await
    }

    async fn tell_roster(
        &mut self,
        joined: &[Person],
        left: &[Person],
        expect: Option<(usize, Expect)>,
    ) -> Result<(), Ending> {
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

    /// A bot that gave a capacity is asked about each further user of its policy.
    fn asks_first(&self) -> bool {
        self.answer.participant_capacity.is_some() && self.player.call.kind == CallKind::Recording
    }

    /// Asks whether the bot takes a participant. A useless answer is asked for again, as the platform is reported to do.
    async fn admitted(&mut self, person: Person) -> Result<bool, Ending> {
        let body = notification::joining(self.player.call, self.player.ids, person);
        for _ in 0..JOINING_TRIES {
            let what = "participant joining";
            let answer = self.taken(what, &body, None).await?;
            match Admission::read(&answer.body) {
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
                Admission::Useless(why) => {
                    self.player.say(what, self.callback, &format!("no usable answer: {why}"));
                }
            }
        }
        self.player.say("participant dropped", self.callback, "the bot said neither yes nor no");
        Ok(false)
    }

    /// A call of the same chain to another bot.
    fn invite(&mut self, to: Url) {
        let call = CallRequest {
            to: to.clone(),
            participants: 1,
            script: None,
            protocol: Protocol::Graph,
            expect: CallOutcome::Completed,
            ..self.player.call.clone()
        };
        match self.player.platform.place_in(call, Some(self.player.ids.chain)) {
            Ok(timeline) => self.invited.push((to, timeline)),
            Err(error) => self.player.say("invited bot", &to, &error.to_string()),
        }
    }

    async fn acknowledged(&self, what: &str, body: &Value) -> Result<(), Ending> {
        self.expecting(what, body, None).await
    }

    async fn expecting(
        &self,
        what: &str,
        body: &Value,
        expect: Option<(usize, Expect)>,
    ) -> Result<(), Ending> {
        self.taken(what, body, expect).await.map(drop)
    }

    /// Posts to the callbackUri; anything but what is expected ends the call.
    async fn taken(
        &self,
        what: &str,
        body: &Value,
        expect: Option<(usize, Expect)>,
    ) -> Result<Delivered, Ending> {
        let result = self.player.deliver(what, self.callback, body, Phase::Later).await;
        let status =
            result.as_ref().map_or_else(|undelivered| undelivered.status, |answer| Some(answer.status));
        if let (Some((number, expect)), Some(status)) = (expect, status) {
            if expect.holds(status) {
                let body = result.map(|answer| answer.body).unwrap_or_default();
                return Ok(Delivered { status, body });
            }
            let reason = format!(
                "step {number} of the script expects {expect}, but {what} was answered with {status}"
            );
            return Err(Ending { status: Some(status), ..Ending::new(CallOutcome::Unexpected, reason) });
        }
        let reason = match result {
            Ok(answer) if answer.status.is_success() => return Ok(answer),
            Ok(answer) => format!("{what} was not acknowledged: {}", answer.status),
            Err(undelivered) => format!("{what} was not acknowledged: {}", undelivered.reason),
        };
        Err(Ending { status, ..Ending::new(CallOutcome::Lost, reason) })
    }
}

/// What a bot says about a participant (Graph reference, "participantJoiningNotification").
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Accepted,
    Rejected(String),
    Invite(Url),
    Useless(&'static str),
}

impl Admission {
    fn read(body: &[u8]) -> Self {
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            return Self::Useless("the body is not JSON");
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("@odata.type").rsplit('.').next().unwrap_or_default() {
            "acceptJoinResponse" => Self::Accepted,
            "rejectJoinResponse" => match text("reason") {
                reason @ ("none" | "busy" | "forbidden") => Self::Rejected(reason.to_owned()),
                _ => Self::Useless("reason must be none, busy or forbidden"),
            },
            "inviteNewBotResponse" => match parse_http_url(text("inviteUri")) {
                Ok(to) => Self::Invite(to),
                Err(_) => Self::Useless("inviteUri is not an http or https URL"),
            },
            _ => Self::Useless(
                "@odata.type must be #microsoft.graph.acceptJoinResponse, rejectJoinResponse or inviteNewBotResponse",
            ),
        }
    }
}

async fn end_of(mut timeline: Timeline) -> String {
    let wait = async {
        while let Some(event) = timeline.next().await {
            if let CallEvent::End(end) = event {
                return format!("{}: {}", end.outcome, end.reason);
            }
        }
        "no end".to_owned()
    };
    timeout(INVITED_TIME_MAX, wait).await.unwrap_or_else(|_| "its call still lasts".to_owned())
}

fn no_randomness() -> Ending {
    Ending::new(CallOutcome::Lost, "openssl has no randomness".to_owned())
}

const ROSTERS_MAX: u32 = 10;
const JOINING_TRIES: usize = 3;
const INVITED_TIME_MAX: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: &Admission) {
        assert_eq!(Admission::read(body.as_bytes()), *expected, "{body}");
    }

    #[test]
    fn only_the_three_documented_answers_admit_or_refuse() {
        check(r##"{"@odata.type":"#microsoft.graph.acceptJoinResponse"}"##, &Admission::Accepted);
        let busy = r##"{"@odata.type":"#microsoft.graph.rejectJoinResponse","reason":"busy"}"##;
        check(busy, &Admission::Rejected("busy".to_owned()));
        let invite =
            r##"{"@odata.type":"#microsoft.graph.inviteNewBotResponse","inviteUri":"https://b.example/"}"##;
        check(invite, &Admission::Invite(Url::parse("https://b.example/").unwrap()));
        for body in ["", "{}", "[]", r#"{"@odata.type":7}"#] {
            assert!(matches!(Admission::read(body.as_bytes()), Admission::Useless(_)), "{body}");
        }
        let nowhere = invite.replace("https", "file");
        check(&nowhere, &Admission::Useless("inviteUri is not an http or https URL"));
        let sad = busy.replace("busy", "sad");
        check(&sad, &Admission::Useless("reason must be none, busy or forbidden"));
    }
}
