//! `Call`: the parts of a call resource that routing, logs and counters need.

mod raw;

use std::borrow::Cow;

use uuid::Uuid;

pub(crate) use self::raw::RawCall;
use crate::result_info::ResultInfo;

/// The parts of a call resource that routing, logs and counters need.
///
/// Texts are as they were posted; an empty one counts as absent.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// `state`
    pub state: Option<CallState>,
    /// `callChainId`
    pub chain_id: Option<Cow<'a, str>>,
    /// `tenantId`, else the source's tenant. Never compared with the token's.
    pub tenant_id: Option<Uuid>,
    /// `source.region`
    pub source_region: Option<Cow<'a, str>>,
    /// `source.countryCode`
    pub country: Option<Cow<'a, str>>,
    /// `mediaHostedRegion`, of the call or of its botData
    pub media_region: Option<Cow<'a, str>>,
    /// `meetingInfo.organizer.user.id`
    pub organizer: Option<Cow<'a, str>>,
    /// `meetingInfo.organizer.user.tenantId`
    pub organizer_tenant: Option<Uuid>,
    /// `chatInfo.threadId`
    pub thread_id: Option<Cow<'a, str>>,
    /// `requestedModalities`, the first 16
    pub modalities: Vec<Modality>,
    /// Whether a recording policy applies (5 s instead of 15 s to answer): the call has an observed participant, or its
    /// botData names a policy, a policy holder, an invitation for the sake of recording, or other recorders.
    pub policy_recording: bool,
    /// The user whom the policy observes: `incomingContext.onBehalfOf`, else `source.identity`; only with a policy. Where
    /// `onBehalfOf` is a text like `8:orgid:{object id}`, the object id.
    pub observed_user: Option<Cow<'a, str>>,
    /// `resultInfo`
    pub result: Option<ResultInfo>,
}

/// `state` of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallState {
    /// incoming
    Incoming,
    /// establishing
    Establishing,
    /// ringing
    Ringing,
    /// established
    Established,
    /// hold
    Hold,
    /// transferring
    Transferring,
    /// transferAccepted
    TransferAccepted,
    /// redirecting
    Redirecting,
    /// terminating
    Terminating,
    /// terminated
    Terminated,
    /// A state that this version does not know.
    Other(String),
}

impl CallState {
    /// A name from a closed set, for logs and metrics: the value as Microsoft spells it, `other` for unknown ones.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Incoming => "incoming",
            Self::Establishing => "establishing",
            Self::Ringing => "ringing",
            Self::Established => "established",
            Self::Hold => "hold",
            Self::Transferring => "transferring",
            Self::TransferAccepted => "transferAccepted",
            Self::Redirecting => "redirecting",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Other(_) => "other",
        }
    }
}

impl From<Cow<'_, str>> for CallState {
    fn from(text: Cow<'_, str>) -> Self {
        const KNOWN: [CallState; 10] = [
            CallState::Established,
            CallState::Establishing,
            CallState::Incoming,
            CallState::Terminated,
            CallState::Terminating,
            CallState::Ringing,
            CallState::Hold,
            CallState::Transferring,
            CallState::TransferAccepted,
            CallState::Redirecting,
        ];
        let known = KNOWN.into_iter().find(|state| state.label().eq_ignore_ascii_case(&text));
        known.unwrap_or_else(|| Self::Other(text.into_owned()))
    }
}

/// `requestedModalities`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modality {
    /// audio
    Audio,
    /// video
    Video,
    /// videoBasedScreenSharing
    VideoBasedScreenSharing,
    /// data
    Data,
    /// A modality that this version does not know.
    Other(String),
}

impl From<Cow<'_, str>> for Modality {
    fn from(text: Cow<'_, str>) -> Self {
        match &*text {
            text if text.eq_ignore_ascii_case("audio") => Self::Audio,
            text if text.eq_ignore_ascii_case("video") => Self::Video,
            text if text.eq_ignore_ascii_case("videoBasedScreenSharing") => Self::VideoBasedScreenSharing,
            text if text.eq_ignore_ascii_case("data") => Self::Data,
            _ => Self::Other(text.into_owned()),
        }
    }
}
