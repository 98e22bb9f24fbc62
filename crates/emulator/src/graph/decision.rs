//! The inputs of the task that plays a call: the decisions of the bot, and steps from the control API.

use std::time::Duration;

use http::HeaderValue;
use url::Url;
use uuid::Uuid;

use crate::{
    operation::{OperationEnd, OperationResult, Recording},
    participant::{Identity, Participant},
    script::{ScriptStep, Tone},
    words::words,
};

/// An input of the task that plays a call.
#[derive(Clone, Debug)]
pub(crate) enum CallInput {
    /// The bot asked Graph for it.
    Decision(Decision),
    /// The control API asks for it.
    Step(ScriptStep),
    /// The other side hangs up at once.
    End,
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
    /// The call is handed to another callee. A consultative transfer replaces a call of the bot with that
    /// callee.
    Transfer {
        replaces: Option<Uuid>,
    },
    /// The bot shares its screen, or ends that.
    ShareScreen(bool),
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
    /// It changes the bot itself.
    Bot(BotChange),
    /// It changes the participants.
    Participants(ParticipantChange),
    /// Prompts are played, and an answer may be recorded.
    Media(Box<MediaRequest>),
    /// All media operations are cancelled.
    CancelMedia,
    /// It is done after this time.
    Timed(Duration),
}

impl OperationEffect {
    /// Returns the end and the effect of an operation that is done at once.
    pub(super) fn at_once(self) -> (OperationEnd, Self) {
        let end = OperationEnd::from(OperationResult::success());
        match self {
            Self::Media(media) => {
                let recording = media.record.map(|record| record.recording);
                (OperationEnd { recording, ..end }, Self::None)
            }
            Self::Timed(_) => (end, Self::None),
            Self::None | Self::Bot(_) | Self::Participants(_) | Self::CancelMedia => (end, self),
        }
    }
}

/// A request to play prompts, or to record an answer to them.
#[derive(Clone, Debug)]
pub(crate) struct MediaRequest {
    pub(crate) prompts: Vec<Url>,
    pub(crate) record: Option<RecordRequest>,
}

/// The parts of a `recordResponse` request.
#[derive(Clone, Debug)]
pub(crate) struct RecordRequest {
    /// The request ends earlier media operations, and a key or speech ends its prompts.
    pub(crate) barge_in: bool,
    pub(crate) initial_silence: Duration,
    pub(crate) max_silence: Duration,
    pub(crate) max_length: Duration,
    pub(crate) beep: bool,
    pub(crate) stop_tones: Vec<Tone>,
    /// The recording as it is if it is made at once.
    pub(crate) recording: Recording,
}

/// A change of the bot that everyone sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BotChange {
    Muted(bool),
    HandRaised(bool),
    SharesScreen(bool),
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
