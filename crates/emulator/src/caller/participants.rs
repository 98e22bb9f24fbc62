//! The participants of an answered call: joining, leaving, rosters, and the bot's decisions about them.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use url::Url;
use uuid::Uuid;

use super::{
    admission::Admission,
    callbacks::{Callbacks, Expectation},
    callee::behaviour,
    conclusion::Conclusion,
    operations::Ended,
};
use crate::{
    call::{CallKind, CallOutcome, CallRequest, Protocol},
    encoding::random_id,
    faults::Callee,
    graph::{AnswerRequest, BotChange, ParticipantChange},
    notification::{self, Roster},
    operation::OperationResult,
    participant::{Identity, Participant},
    script::PersonChange,
    timeline::{CallEvent, Timeline},
};

/// The participants of an answered call. The record of the call lists them: the other side, the bot, and the
/// people who joined later.
pub(super) struct Participants<'a> {
    answer: &'a AnswerRequest,
    /// The participants at the moment when the call is established.
    first: Vec<Participant>,
    /// The people whom the bot invited and who have not answered.
    arriving: Vec<Arrival>,
    roster_changes: u32,
    /// The calls to bots that this bot invited for a participant.
    invited: Vec<(Url, Timeline)>,
}

/// People whom the bot invited by one operation.
struct Arrival {
    operation: Uuid,
    at: Instant,
    people: Vec<Participant>,
    /// The result of the operation if they do not come.
    refusal: Option<OperationResult>,
}

impl<'a> Participants<'a> {
    pub(super) fn new(answer: &'a AnswerRequest, first: Vec<Participant>) -> Self {
        Self { answer, first, arriving: Vec::new(), roster_changes: 0, invited: Vec::new() }
    }

    /// Posts the first roster, of the people who are there when the call is established.
    pub(super) async fn post_first_roster(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
    ) -> Result<(), Conclusion> {
        let first = std::mem::take(&mut self.first);
        callbacks.player.record().state().participants.extend_from_slice(&first);
        self.post_change(callbacks, &first, &[], None).await
    }

    /// Lets people join, or wait in the lobby. A bot that gave a capacity decides about each of them.
    pub(super) async fn join(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        count: u32,
        in_lobby: bool,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let mut joined = Vec::new();
        for _ in 0..count {
            let (Ok(user), Ok(participant)) = (random_id(), random_id()) else {
                return Err(Conclusion::no_randomness());
            };
            if self.asks_first(callbacks) && !self.admitted(callbacks, user, participant).await? {
                continue;
            }
            joined.push(Participant { in_lobby, ..Participant::new(participant, Identity::user(user)) });
        }
        self.add(callbacks, joined, expect).await
    }

    /// Adds participants and posts the change.
    pub(super) async fn add(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        joined: Vec<Participant>,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        if joined.is_empty() {
            return Ok(());
        }
        callbacks.player.record().state().participants.extend_from_slice(&joined);
        self.post_change(callbacks, &joined, &[], expect).await
    }

    /// Lets people leave, the earliest first. The caller stays.
    pub(super) async fn leave(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        count: u32,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let left: Vec<Participant> = {
            let mut state = callbacks.player.record().state();
            let people = state.participants.len().saturating_sub(FIRST_PARTICIPANTS);
            let first = state.participants.len() - people;
            state.participants.drain(first..first + count.min(people)).collect()
        };
        if left.is_empty() {
            callbacks.say("leave", "only the caller is left: end the call instead");
            return Ok(());
        }
        if self.asks_first(callbacks) {
            for person in &left {
                let body = notification::left(callbacks.player.ids, person.id);
                callbacks.notify("participant left", &body).await?;
            }
        }
        self.post_change(callbacks, &[], &left, expect).await
    }

    /// Changes the participants for which `change` returns true, and posts the change. Returns false if there
    /// are none.
    pub(super) async fn change(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        change: impl Fn(&mut Participant) -> bool,
        expect: Option<Expectation>,
    ) -> Result<bool, Conclusion> {
        let changed: Vec<Participant> = {
            let mut state = callbacks.player.record().state();
            let changed =
                state.participants.iter_mut().filter_map(|person| change(person).then(|| person.clone()));
            changed.collect()
        };
        if changed.is_empty() {
            return Ok(false);
        }
        self.post_change(callbacks, &changed, &[], expect).await?;
        Ok(true)
    }

    /// Changes the bot itself, which everyone sees in the roster.
    pub(super) async fn change_bot(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        change: BotChange,
    ) -> Result<(), Conclusion> {
        let bot = callbacks.player.ids.bot_participant;
        let apply = |person: &mut Participant| {
            match change {
                BotChange::Muted(muted) => person.muted = muted,
                BotChange::HandRaised(raised) => person.hand_raised = raised,
                BotChange::SharesScreen(shares) => person.shares_screen = shares,
            }
            true
        };
        let of_bot = |person: &mut Participant| person.id == bot && apply(person);
        self.change(callbacks, of_bot, None).await.map(drop)
    }

    /// Removes a participant whom the bot removes, and posts the change.
    pub(super) async fn remove(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        participant: Participant,
    ) -> Result<(), Conclusion> {
        self.post_change(callbacks, &[], &[participant], None).await
    }

    /// Applies a change that an operation of the bot asks for. Returns its result; `None` for an invitation,
    /// whose people have not answered.
    pub(super) async fn apply(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        operation: Uuid,
        change: ParticipantChange,
        callee: impl FnOnce() -> Option<Callee>,
    ) -> Result<Option<OperationResult>, Conclusion> {
        let one = |id: Uuid, change: fn(&mut Participant)| {
            move |person: &mut Participant| {
                let found = person.id == id;
                if found {
                    change(person);
                }
                found
            }
        };
        let changed = match change {
            ParticipantChange::Invite(people) => {
                let people: Result<Vec<Participant>, _> = people
                    .into_iter()
                    .map(|identity| random_id().map(|id| Participant::new(id, identity)))
                    .collect();
                let people = people.map_err(|_| Conclusion::no_randomness())?;
                let (time, refusal) = behaviour(callee());
                let refusal = refusal.map(|(result, _, _)| result.operation_result());
                self.arriving.push(Arrival { operation, at: Instant::now() + time, people, refusal });
                return Ok(None);
            }
            ParticipantChange::Mute(id) => {
                self.change(callbacks, one(id, |person| person.muted = true), None).await?
            }
            ParticipantChange::Hold(id) => {
                self.change(callbacks, one(id, |person| person.on_hold = true), None).await?
            }
            ParticipantChange::Resume(id) => {
                self.change(callbacks, one(id, |person| person.on_hold = false), None).await?
            }
            ParticipantChange::AdmitAll => {
                let admit = |person: &mut Participant| std::mem::take(&mut person.in_lobby);
                self.change(callbacks, admit, None).await?;
                true
            }
            ParticipantChange::LowerAllHands => {
                let lower = |person: &mut Participant| std::mem::take(&mut person.hand_raised);
                self.change(callbacks, lower, None).await?;
                true
            }
        };
        Ok(Some(if changed {
            OperationResult::success()
        } else {
            OperationResult::new(404, 0, "The participant left the call.")
        }))
    }

    /// Returns the time when the next invited people answer.
    pub(super) fn next_arrival(&self) -> Option<Instant> {
        self.arriving.iter().map(|arrival| arrival.at).min()
    }

    /// Lets the invited people come whose time has come, and returns the ends of the operations.
    pub(super) async fn arrive(&mut self, callbacks: &Callbacks<'_, '_>) -> Result<Vec<Ended>, Conclusion> {
        let now = Instant::now();
        let (due, later) =
            std::mem::take(&mut self.arriving).into_iter().partition(|arrival| arrival.at <= now);
        self.arriving = later;
        let due: Vec<Arrival> = due;
        let mut ended = Vec::new();
        for Arrival { operation, people, refusal, .. } in due {
            if refusal.is_none() {
                self.add(callbacks, people, None).await?;
            }
            let result = refusal.unwrap_or_else(OperationResult::success);
            ended.push(Ended { id: operation, end: result.into() });
        }
        Ok(ended)
    }

    /// Ends the invitations without an answer.
    pub(super) fn end_arrivals(&mut self) -> Vec<Ended> {
        let cancelled =
            |arrival: Arrival| Ended { id: arrival.operation, end: OperationResult::cancelled().into() };
        self.arriving.drain(..).map(cancelled).collect()
    }

    /// Changes the person with a number, for a step of a script: 0 is the other side, then the people in the
    /// order of joining.
    pub(super) async fn change_person(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        change: PersonChange,
        number: usize,
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        let bot = callbacks.player.ids.bot_participant;
        let id = {
            let state = callbacks.player.record().state();
            state.participants.iter().filter(|person| person.id != bot).nth(number).map(|person| person.id)
        };
        let Some(id) = id else {
            callbacks.say(change.label(), &format!("there is no participant {number}"));
            return Ok(());
        };
        let apply = |person: &mut Participant| {
            let found = person.id == id;
            match change {
                _ if !found => {}
                PersonChange::Mute => person.muted = true,
                PersonChange::Unmute => person.muted = false,
                PersonChange::RaiseHand => person.hand_raised = true,
                PersonChange::LowerHand => person.hand_raised = false,
            }
            found
        };
        self.change(callbacks, apply, expect).await.map(drop)
    }

    async fn post_change(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        changed: &[Participant],
        left: &[Participant],
        expect: Option<Expectation>,
    ) -> Result<(), Conclusion> {
        self.roster_changes += 1;
        let player = callbacks.player;
        let all;
        let roster = if self.answer.delta_roster {
            Roster::Delta { changed, left }
        } else {
            all = player.record().state().participants.clone();
            Roster::Full(&all)
        };
        let body = notification::roster(player.call, player.ids, roster, self.roster_changes);
        player.record().announce();
        callbacks.notify_expecting("roster", &body, expect).await
    }

    /// Returns true if the bot decides about each further user of its policy: it gave a capacity.
    fn asks_first(&self, callbacks: &Callbacks<'_, '_>) -> bool {
        self.answer.participant_capacity.is_some() && callbacks.player.call.kind == CallKind::Recording
    }

    /// Asks the bot to admit a participant. After an invalid response it asks again, as users report of the
    /// platform.
    async fn admitted(
        &mut self,
        callbacks: &Callbacks<'_, '_>,
        user: Uuid,
        participant: Uuid,
    ) -> Result<bool, Conclusion> {
        let what = "participant joining";
        let body = notification::joining(callbacks.player.call, callbacks.player.ids, user, participant);
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

/// The caller and the bot.
const FIRST_PARTICIPANTS: usize = 2;
const JOINING_ATTEMPTS: usize = 3;
const INVITED_TIME_MAX: Duration = Duration::from_secs(20);
