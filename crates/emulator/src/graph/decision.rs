//! The inputs of the task that plays a call: the decisions of the bot, and steps from the control API.

use http::HeaderValue;
use url::Url;
use uuid::Uuid;

use crate::{
    participant::{Identity, Participant},
    script::ScriptStep,
    words::words,
};

/// An input of the task that plays a call.
#[derive(Clone, Debug)]
pub(crate) enum CallInput {
    /// The bot asked Graph for it.
    Decision(Decision),
    /// The control API asks for it.
    Step(ScriptStep),
}

/// A request of the bot that changes its call.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    Answer(AnswerRequest),
    Reject {
        callback: Option<Url>,
        reason: RejectReason,
    },
    Redirect {
        callback: Option<Url>,
        targets: usize,
    },
    /// An accepted operation. A notification reports its result.
    Operation(StartedOperation),
    /// The bot removed a participant.
    Removed(Participant),
    HangUp,
}

/// An operation that Graph accepted. The record of the call has its name and its result.
#[derive(Clone, Debug)]
pub(crate) struct StartedOperation {
    pub(crate) id: Uuid,
    pub(crate) effect: OperationEffect,
}

/// The change that an operation makes in the call.
#[derive(Clone, Debug)]
pub(crate) enum OperationEffect {
    /// It changes nothing that the bot can see, and is done at once.
    None,
    /// It changes the participants.
    Participants(ParticipantChange),
}

/// A change of the participants by an operation.
#[derive(Clone, Debug)]
pub(crate) enum ParticipantChange {
    Invite(Vec<Identity>),
    Mute(Uuid),
    /// A participant hears music instead of the call.
    Hold(Uuid),
    /// A participant hears the call again.
    Resume(Uuid),
    AdmitAll,
    LowerAllHands,
}

/// The parts of an `answer` request that change how the call is played.
#[derive(Clone, Debug)]
pub(crate) struct AnswerRequest {
    pub(crate) callback: Option<Url>,
    /// Roster notifications hold changes only.
    pub(crate) delta_roster: bool,
    /// The number of participants that one bot of a policy group records. For more, another bot is invited.
    pub(crate) participant_capacity: Option<u32>,
    /// The `Scenario-Id` of the request, which the notifications of the call carry from then on.
    pub(crate) scenario: Option<HeaderValue>,
}

words! {
    /// The reason of a `reject` request (Graph reference, "call: reject").
    pub(crate) enum RejectReason {
        /// No reason is given.
        None = "none",
        /// The bot is busy.
        Busy = "busy",
        /// The caller may not call the bot.
        Forbidden = "forbidden",
    }
}
