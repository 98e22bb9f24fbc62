//! `Operation`: the requests in a call that Graph carries out as an operation (Microsoft Graph REST
//! reference, "commsOperation").

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::{InvalidAction, Invitee, ParticipantId, Prompt, assertion::random_id};

/// A request that starts an operation. Graph responds with a [`GraphOperation`](crate::GraphOperation), and
/// notifies the bot of its end; the notification has the same client context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Operation {
    /// Play prompts (call: playPrompt).
    PlayPrompt(PlayPrompt),
    /// Record a response of the caller (call: recordResponse).
    RecordResponse(RecordResponse),
    /// Be notified of the keys that the caller presses (call: subscribeToTone).
    SubscribeToTone {
        /// The text that the notification repeats.
        client_context: ClientContext,
    },
    /// Stop prompts and recordings (call: cancelMediaProcessing).
    CancelMediaProcessing {
        /// The text that the notification repeats.
        client_context: ClientContext,
    },
    /// Mute the bot (call: mute).
    Mute {
        /// The text that the notification repeats.
        client_context: ClientContext,
    },
    /// Unmute the bot (call: unmute).
    Unmute {
        /// The text that the notification repeats.
        client_context: ClientContext,
    },
    /// Tell the participants whether the bot records (call: updateRecordingStatus). A bot does so before it
    /// records anything.
    UpdateRecordingStatus {
        /// The text that the notification repeats.
        client_context: ClientContext,
        /// The state of the recording.
        status: RecordingStatus,
    },
    /// Press keys (call: sendDtmfTones).
    SendDtmfTones(SendDtmfTones),
    /// Invite people to a group call (participant: invite).
    Invite {
        /// The text that the notification repeats.
        client_context: ClientContext,
        /// The people.
        participants: Vec<Invitee>,
    },
    /// Mute one participant (participant: mute).
    MuteParticipant {
        /// The text that the notification repeats.
        client_context: ClientContext,
        /// The participant.
        #[serde(skip)]
        participant: ParticipantId,
    },
}

impl Operation {
    /// Returns the name of the operation as in its path, like `playPrompt` or `mute`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PlayPrompt(_) => "playPrompt",
            Self::RecordResponse(_) => "recordResponse",
            Self::SubscribeToTone { .. } => "subscribeToTone",
            Self::CancelMediaProcessing { .. } => "cancelMediaProcessing",
            Self::Mute { .. } | Self::MuteParticipant { .. } => "mute",
            Self::Unmute { .. } => "unmute",
            Self::UpdateRecordingStatus { .. } => "updateRecordingStatus",
            Self::SendDtmfTones(_) => "sendDtmfTones",
            Self::Invite { .. } => "invite",
        }
    }

    /// Returns the path below the call. It needs no escaping.
    pub(crate) fn path(&self) -> String {
        match self {
            Self::Invite { .. } => "participants/invite".to_owned(),
            Self::MuteParticipant { participant, .. } => format!("{}/mute", participant.path()),
            Self::PlayPrompt(_)
            | Self::RecordResponse(_)
            | Self::SubscribeToTone { .. }
            | Self::CancelMediaProcessing { .. }
            | Self::Mute { .. }
            | Self::Unmute { .. }
            | Self::UpdateRecordingStatus { .. }
            | Self::SendDtmfTones(_) => self.name().to_owned(),
        }
    }
}

/// The text by which a bot finds the operation of a notification: 1 to 256 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientContext(String);

impl ClientContext {
    /// Parses a client context.
    ///
    /// # Errors
    ///
    /// `text` is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidAction> {
        if !(1..=CONTEXT_CHARS_MAX).contains(&text.chars().count()) {
            return Err(InvalidAction::value("clientContext", "must be a string of 1 to 256 characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns a new GUID; `None` if the system has no random bytes.
    pub fn random() -> Option<Self> {
        random_id().map(|id| Self(id.to_string()))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The prompts to play, one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayPrompt {
    client_context: ClientContext,
    #[serde(serialize_with = "media_prompts")]
    prompts: Vec<Prompt>,
}

impl PlayPrompt {
    /// Plays 1 to 20 prompts.
    ///
    /// # Errors
    ///
    /// There is no prompt, or there are more than 20.
    pub fn new(client_context: ClientContext, prompts: Vec<Prompt>) -> Result<Self, InvalidAction> {
        if !(1..=PROMPTS_MAX).contains(&prompts.len()) {
            return Err(InvalidAction::value("prompts", "must be an array of 1 to 20 prompts"));
        }
        Ok(Self { client_context, prompts })
    }
}

/// The recording of a caller's response. Graph's defaults apply to what is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordResponse {
    /// True to stop the prompts and recordings that are going on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barge_in_allowed: Option<bool>,
    /// The text that the notification repeats.
    pub client_context: ClientContext,
    /// The longest silence before the caller speaks, 1 to 120 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_silence_timeout_in_seconds: Option<u8>,
    /// The longest recording, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_record_duration_in_seconds: Option<u8>,
    /// The longest pause while the caller speaks, 1 to 120 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_silence_timeout_in_seconds: Option<u8>,
    /// True to play a beep before the recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub play_beep: Option<bool>,
    /// The prompt to play before the recording.
    #[serde(
        rename = "prompts",
        serialize_with = "one_media_prompt",
        skip_serializing_if = "Option::is_none"
    )]
    pub prompt: Option<Prompt>,
    /// The keys that end the recording, like `#`; none if it is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_tones: Vec<String>,
}

impl RecordResponse {
    /// Records with Graph's defaults.
    pub fn new(client_context: ClientContext) -> Self {
        Self {
            barge_in_allowed: None,
            client_context,
            initial_silence_timeout_in_seconds: None,
            max_record_duration_in_seconds: None,
            max_silence_timeout_in_seconds: None,
            play_beep: None,
            prompt: None,
            stop_tones: Vec::new(),
        }
    }
}

/// The keys to press.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SendDtmfTones {
    /// The text that the notification repeats.
    pub client_context: ClientContext,
    /// The pause between two keys, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_between_tones_ms: Option<u32>,
    /// The keys.
    pub tones: Vec<Tone>,
}

/// The state of a recording, as the participants see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordingStatus {
    /// The bot does not record, or no longer.
    NotRecording,
    /// The bot records.
    Recording,
    /// The recording failed.
    Failed,
}

/// A key of a telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Tone {
    /// 0.
    Tone0,
    /// 1.
    Tone1,
    /// 2.
    Tone2,
    /// 3.
    Tone3,
    /// 4.
    Tone4,
    /// 5.
    Tone5,
    /// 6.
    Tone6,
    /// 7.
    Tone7,
    /// 8.
    Tone8,
    /// 9.
    Tone9,
    /// `*`.
    Star,
    /// `#`.
    Pound,
    /// A.
    A,
    /// B.
    B,
    /// C.
    C,
    /// D.
    D,
    /// The hook, for a moment.
    Flash,
}

fn media_prompts<S: Serializer>(prompts: &[Prompt], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(prompts.iter().map(media_prompt))
}

/// Graph takes an array of one prompt at most.
fn one_media_prompt<S: Serializer>(prompt: &Option<Prompt>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(prompt.iter().map(media_prompt))
}

fn media_prompt(prompt: &Prompt) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.mediaPrompt",
        "mediaInfo": {
            "@odata.type": "#microsoft.graph.mediaInfo",
            "resourceId": prompt.resource_id,
            "uri": prompt.uri,
        },
    })
}

/// "Can have a maximum of 256 characters" (call: playPrompt).
const CONTEXT_CHARS_MAX: usize = 256;

/// "The maximum supported MediaPrompt collection size is 20" (call: playPrompt).
const PROMPTS_MAX: usize = 20;
