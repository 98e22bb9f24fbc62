//! What can be done with a new call: `Action`, from a bot's reply or from code.

mod error;
mod json;
mod read;
mod target;

pub use error::ActionError;
pub use target::{RedirectTarget, RedirectTargetKind};

/// What to do with a new call. A bot's reply says it as [`ACTION_CONTENT_TYPE`]; docs/actions.md shows every member, and
/// docs/action.schema.json is its JSON Schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take it.
    Answer(Answer),
    /// Turn it down.
    Reject(Reject),
    /// Send the caller to somebody else.
    Redirect(Redirect),
}

/// The media type of an action.
pub const ACTION_CONTENT_TYPE: &str = "application/vnd.switchboard.action+json";

impl Action {
    /// The action that `bytes` is. Strict, since a member that is misspelt would otherwise be one that is left out.
    pub fn parse(bytes: &[u8]) -> Result<Self, ActionError> {
        if bytes.len() > ACTION_BYTES_MAX {
            return Err(ActionError::too_large(ACTION_BYTES_MAX));
        }
        read::action(json::parse(bytes)?)
    }

    /// `answer`, `reject` or `redirect`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::Reject(_) => "reject",
            Self::Redirect(_) => "redirect",
        }
    }
}

/// How to take a call (Microsoft Graph REST reference, "call: answer").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(crate) modalities: Vec<GraphModality>,
    pub(crate) media_config: MediaConfig,
    pub(crate) call_options: Option<CallOptions>,
    pub(crate) participant_capacity: Option<u32>,
}

impl Answer {
    /// Takes the call with `modalities`: at least one, each once.
    pub fn new(modalities: Vec<GraphModality>, media_config: MediaConfig) -> Result<Self, ActionError> {
        let repeated =
            modalities.iter().enumerate().any(|(at, it)| modalities.iter().take(at).any(|m| m == it));
        if modalities.is_empty() || repeated {
            return Err(ActionError::wrong("acceptedModalities", MODALITIES_MUST));
        }
        Ok(Self { modalities, media_config, call_options: None, participant_capacity: None })
    }

    /// What the platform shall tell of the call.
    pub fn with_call_options(self, call_options: CallOptions) -> Self {
        Self { call_options: Some(call_options), ..self }
    }

    /// How many participants this bot can serve in the call, 1 to 2147483647; for policy-based recording only. With it
    /// the platform asks before another participant of the same policy joins (participantJoiningNotification).
    pub fn with_participant_capacity(self, capacity: u32) -> Result<Self, ActionError> {
        if capacity == 0 || i32::try_from(capacity).is_err() {
            return Err(ActionError::wrong("participantCapacity", CAPACITY_MUST));
        }
        Ok(Self { participant_capacity: Some(capacity), ..self })
    }
}

/// A kind of media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphModality {
    /// Sound.
    Audio,
    /// A camera.
    Video,
    /// A shared screen.
    VideoBasedScreenSharing,
    /// Data.
    Data,
}

impl GraphModality {
    /// As Graph spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::VideoBasedScreenSharing => "videoBasedScreenSharing",
            Self::Data => "data",
        }
    }

    const ALL: [Self; 4] = [Self::Audio, Self::Video, Self::VideoBasedScreenSharing, Self::Data];
}

/// Who handles the media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaConfig {
    /// The platform: it plays prompts and hears tones for the bot.
    ServiceHosted {
        /// What it fetches ahead of need.
        prefetch: Vec<Prompt>,
    },
    /// The bot, with Microsoft's media library.
    AppHosted {
        /// What that library made for this call.
        blob: String,
        /// Graph's `removeFromDefaultAudioGroup`.
        remove_from_default_audio_group: Option<bool>,
    },
}

/// A prompt to fetch (Microsoft Graph REST reference, "mediaInfo").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Where it is.
    pub uri: String,
    /// What it is known by; a prompt that changes gets a new one.
    pub resource_id: String,
}

/// Graph's `incomingCallOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Whether to tell when content is shared.
    pub content_sharing_notification: Option<bool>,
    /// Whether to tell only what changed in the roster.
    pub delta_roster: Option<bool>,
}

/// How to turn a call down (Microsoft Graph REST reference, "call: reject").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reject {
    /// What the caller is told.
    pub reason: RejectReason,
}

/// What a caller is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RejectReason {
    /// Nothing.
    #[default]
    None,
    /// Busy.
    Busy,
    /// That the call is not allowed.
    Forbidden,
}

impl RejectReason {
    /// As Graph spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Busy => "busy",
            Self::Forbidden => "forbidden",
        }
    }

    const ALL: [Self; 3] = [Self::None, Self::Busy, Self::Forbidden];
}

/// Where to send a caller (Microsoft Graph REST reference, "call: redirect").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub(crate) targets: Vec<RedirectTarget>,
    pub(crate) timeout_seconds: u8,
    pub(crate) mask_callee: Option<bool>,
    pub(crate) mask_caller: Option<bool>,
}

impl Redirect {
    /// Rings `targets`, 1 to 25, all at once; who picks up first has the call. They ring for 55 seconds if there is one,
    /// else for 60: the documented defaults, written out.
    pub fn new(targets: Vec<RedirectTarget>) -> Result<Self, ActionError> {
        let timeout_seconds = match targets.len() {
            0 => return Err(ActionError::wrong("targets", TARGETS_MUST)),
            1 => 55,
            2..=TARGETS_MAX => 60,
            _ => return Err(ActionError::wrong("targets", TARGETS_MUST)),
        };
        Ok(Self { targets, timeout_seconds, mask_callee: None, mask_caller: None })
    }

    /// How long they ring: 15 to 90 seconds.
    pub fn with_timeout(self, seconds: u8) -> Result<Self, ActionError> {
        if !(15..=90).contains(&seconds) {
            return Err(ActionError::wrong("timeout", TIMEOUT_MUST));
        }
        Ok(Self { timeout_seconds: seconds, ..self })
    }

    /// Whether the callee is hidden from the caller.
    pub fn with_mask_callee(self, mask: bool) -> Self {
        Self { mask_callee: Some(mask), ..self }
    }

    /// Whether the caller is hidden from the callee.
    pub fn with_mask_caller(self, mask: bool) -> Self {
        Self { mask_caller: Some(mask), ..self }
    }
}

const MODALITIES_MUST: &str = "must be an array of one or more of \"audio\", \"video\", \"videoBasedScreenSharing\", \"data\", each once";
const CAPACITY_MUST: &str = "must be a whole number from 1 to 2147483647";
const TARGETS_MUST: &str = "must be an array of 1 to 25 targets";
const TIMEOUT_MUST: &str = "must be a whole number of seconds from 15 to 90";

/// "We support up to 25 targets for simulring" (call: redirect).
const TARGETS_MAX: usize = 25;

/// An app-hosted media blob has about 1 KiB, 25 targets about 8.
const ACTION_BYTES_MAX: usize = 64 * 1024;
