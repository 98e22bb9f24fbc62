//! `Answer`: how a bot answers a call (Microsoft Graph REST reference, "call: answer").

use super::error::InvalidAction;
use crate::spelled::spelled;

/// The answer to a call (Microsoft Graph REST reference, "call: answer").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub(crate) modalities: Vec<GraphModality>,
    pub(crate) media_config: MediaConfig,
    pub(crate) call_options: Option<CallOptions>,
    pub(crate) participant_capacity: Option<u32>,
}

impl Answer {
    /// Answers with `modalities`: at least one, and each at most once.
    ///
    /// # Errors
    ///
    /// `modalities` is empty, or a modality occurs twice.
    pub fn new(modalities: Vec<GraphModality>, media_config: MediaConfig) -> Result<Self, InvalidAction> {
        let repeated =
            modalities.iter().enumerate().any(|(at, it)| modalities.iter().take(at).any(|m| m == it));
        if modalities.is_empty() || repeated {
            return Err(InvalidAction::value("acceptedModalities", MODALITIES_MUST));
        }
        Ok(Self { modalities, media_config, call_options: None, participant_capacity: None })
    }

    /// Sets the notifications that the platform sends during the call.
    pub fn with_call_options(self, call_options: CallOptions) -> Self {
        Self { call_options: Some(call_options), ..self }
    }

    /// Sets the number of participants that this bot can serve in the call, 1 to 2147483647. For policy-based
    /// recording only: the platform then asks before another participant of the same policy joins
    /// (participantJoiningNotification).
    ///
    /// # Errors
    ///
    /// `capacity` is out of range.
    pub fn with_participant_capacity(self, capacity: u32) -> Result<Self, InvalidAction> {
        if capacity == 0 || i32::try_from(capacity).is_err() {
            return Err(InvalidAction::value("participantCapacity", CAPACITY_MUST));
        }
        Ok(Self { participant_capacity: Some(capacity), ..self })
    }
}

spelled! {
    /// A kind of media.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum GraphModality {
        /// Sound.
        Audio = "audio",
        /// A camera.
        Video = "video",
        /// A shared screen.
        VideoBasedScreenSharing = "videoBasedScreenSharing",
        /// Data.
        Data = "data",
    }
}

/// The host of the media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaConfig {
    /// The platform: it plays prompts and detects tones for the bot.
    ServiceHosted {
        /// The prompts that the platform fetches in advance.
        prefetch: Vec<Prompt>,
    },
    /// The bot, with Microsoft's media library.
    AppHosted {
        /// The blob that the library created for this call.
        blob: String,
        /// Graph's `removeFromDefaultAudioGroup`.
        remove_from_default_audio_group: Option<bool>,
    },
}

/// A prompt to fetch (Microsoft Graph REST reference, "mediaInfo").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its address.
    pub uri: String,
    /// Its id. A prompt that changes gets a new id.
    pub resource_id: String,
}

/// Graph's `incomingCallOptions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// True to be notified when content is shared.
    pub content_sharing_notification: Option<bool>,
    /// True to be notified of changes of the roster only, not of the whole roster.
    pub delta_roster: Option<bool>,
}

pub(super) const MODALITIES_MUST: &str = "must be an array of one or more of \"audio\", \"video\", \
                                          \"videoBasedScreenSharing\", \"data\", each once";
pub(super) const CAPACITY_MUST: &str = "must be a whole number from 1 to 2147483647";
