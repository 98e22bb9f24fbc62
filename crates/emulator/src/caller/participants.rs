//! The participants of an answered call: joining, leaving, rosters, and the bot's decisions about them.

use std::time::Duration;

use tokio::time::timeout;
use url::Url;

use super::{
    admission::Admission,
    callbacks::{Callbacks, Expectation},
    conclusion::Conclusion,
};
use crate::{
    call::{CallKind, CallOutcome, CallRequest, Protocol},
    graph::AnswerRequest,
    notification::{self, BotMedia, Person, Roster},
    timeline::{CallEvent, Timeline},
};

/// The participants of an answered call.
pub(super) struct Participants<'a> {
    answer: &'a AnswerRequest,
    /// The participants besides the caller and the bot.
    people: Vec<Person>,
    bot: BotMedia,
    roster_changes: u32,
    /// The calls to bots that this bot invited for a participant.
    invited: Vec<(Url, Timeline)>,
}

impl<'a> Participants<'a> {
    pub(super) fn new(answer: &'a AnswerRequest) -> Self {
        Self { answer, people: Vec::new(), bot: BotMedia::default(), roster_changes: 0, invited: Vec::new() }
    }

    /// Posts the first roster: the caller and the bot.
    pub(super) async fn post_first_roster(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
    ) -> Result<(), Conclusion> {
        self.roster_changes += 1;
        let roster = if self.answer.delta_roster { Roster::FirstDelta } else { Roster::Full(&[]) };
        post_roster(callbacks, roster, self.bot, self.roster_changes, None).await
    }

    /// Changes the media of the bot, which everyone sees in the roster.
    pub(super) async fn change_bot(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        change: impl FnOnce(&mut BotMedia),
    ) -> Result<(), Conclusion> {
        change(&mut self.bot);
        self.roster_changes += 1;
        let roster = if self.answer.delta_roster { Roster::Bot } else { Roster::Full(&self.people) };
        post_roster(callbacks, roster, self.bot, self.roster_changes, None).await
    }

    /// Lets people join. A bot that gave a capacity decides about each of them.
    pub(super) async fn join(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        count: u32,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let mut joined = Vec::new();
        for _ in 0..count {
            let person = Person::new().map_err(|_| Conclusion::no_randomness())?;
            if self.asks_first(callbacks) && !self.admitted(callbacks, person).await? {
                continue;
            }
            joined.push(person);
        }
        if joined.is_empty() {
            return Ok(());
        }
        self.people.extend_from_slice(&joined);
        self.post_change(callbacks, &joined, &[], expect).await
    }

    /// Lets people leave, the earliest first. The caller stays.
    pub(super) async fn leave(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        count: u32,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.people.len());
        let left: Vec<Person> = self.people.drain(..count).collect();
        if left.is_empty() {
            callbacks.say("leave", "only the caller is left: end the call instead");
            return Ok(());
        }
        if self.asks_first(callbacks) {
            for person in &left {
                let body = notification::left(callbacks.player.ids, *person);
                callbacks.notify("participant left", &body).await?;
            }
        }
        self.post_change(callbacks, &[], &left, expect).await
    }

    async fn post_change(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        joined: &[Person],
        left: &[Person],
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        self.roster_changes += 1;
        let roster = if self.answer.delta_roster {
            Roster::Delta { joined, left }
        } else {
            Roster::Full(&self.people)
        };
        post_roster(callbacks, roster, self.bot, self.roster_changes, expect).await
    }

    /// Returns true if the bot decides about each further user of its policy: it gave a capacity.
    fn asks_first(&self, callbacks: &Callbacks<'_, '_>) -> bool {
        self.answer.participant_capacity.is_some() && callbacks.player.call.kind == CallKind::Recording
    }

    /// Asks the bot to admit a participant. After an invalid response it asks again, as users report of the
    /// platform.
    async fn admitted(&mut self, callbacks: &Callbacks<'_, '_>, person: Person) -> Result<bool, Conclusion> {
        let what = "participant joining";
        let body = notification::joining(callbacks.player.call, callbacks.player.ids, person);
        for _ in 0..JOINING_ATTEMPTS {
            let response = callbacks.post(what, &body, None).await?;
            match Admission::read(&response.body) {
                Admission::Accepted => {
                    callbacks.say(what, "accepted");
                    return Ok(true);
                }
                Admission::Rejected(reason) => {
                    callbacks.say(what, &format!("rejected: {reason}"));
                    return Ok(false);
                }
                Admission::Invite(to) => {
                    callbacks.say(what, &format!("a new bot is invited at {to}"));
                    self.invite(callbacks, to);
                    return Ok(false);
                }
                Admission::Invalid(why) => callbacks.say(what, &format!("invalid response: {why}")),
            }
        }
        callbacks.say("participant dropped", "the bot neither accepted nor rejected the participant");
        Ok(false)
    }

    /// Places a call of the same chain to another bot.
    fn invite(&mut self, callbacks: &Callbacks<'_, '_>, to: Url) {
        let player = callbacks.player;
        let call = CallRequest {
            to: to.clone(),
            participants: 1,
            script: None,
            protocol: Protocol::Graph,
            expect: CallOutcome::Completed,
            ..player.call.clone()
        };
        match player.invite(call) {
            Ok(timeline) => self.invited.push((to, timeline)),
            Err(error) => player.say("invited bot", &to, &error.to_string()),
        }
    }

    /// Waits for the calls to the invited bots, and adds a line about each to the timeline.
    pub(super) async fn await_invited(self, callbacks: &Callbacks<'_, '_>) {
        for (to, timeline) in self.invited {
            let note = end_of(timeline).await;
            callbacks.player.say("invited bot", &to, &note);
        }
    }
}

/// Posts a roster with the number of its change.
async fn post_roster(
    callbacks: &Callbacks<'_, '_>,
    roster: Roster<'_>,
    bot: BotMedia,
    change: u32,
    expect: Option<Expectation>,
) -> Result<(), Conclusion> {
    let player = callbacks.player;
    let body = notification::roster(player.call, player.ids, roster, bot, change);
    callbacks.notify_expecting("roster", &body, expect).await
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

const JOINING_ATTEMPTS: usize = 3;
const INVITED_TIME_MAX: Duration = Duration::from_secs(20);
