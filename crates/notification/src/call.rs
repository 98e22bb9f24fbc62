//! `Call`: the parts of a call resource that routing, logs and metrics need.

mod raw;

use std::borrow::Cow;

use uuid::Uuid;

pub(crate) use self::raw::RawCall;
use crate::result_info::ResultInfo;

/// The parts of a call resource that routing, logs and metrics need.
///
/// Texts are as posted. An empty text counts as absent. A call whose state is not incoming has its state,
/// chain and result only: the others decide where a new call goes.
#[derive(Debug, Default)]
pub struct Call<'a> {
    /// `state`
    pub state: Option<CallState>,
    /// `callChainId`
    pub chain_id: Option<Cow<'a, str>>,
    /// `tenantId`, else the tenant of the source. It is never compared with the token's.
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
    /// True if a recording policy applies, which leaves 5 s instead of 15 s to answer. The call then has an
    /// observed participant, or its botData names a policy, a policy holder, a recording as the reason for
    /// the invitation, or other recorders.
    pub policy_recording: bool,
    /// The user that the policy observes: `incomingContext.onBehalfOf`, else `source.identity`; only with a
    /// policy. If `onBehalfOf` is a text like `8:orgid:{object id}`, the object id.
    pub observed_user: Option<Cow<'a, str>>,
    /// `resultInfo`
    pub result: Option<ResultInfo>,
}

/// The `state` of a call.
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
    /// Returns a name from a closed set, for logs and metrics: the value as Microsoft spells it, or `other`.
    pub fn label(&self) -> &'static str {
        KNOWN_STATES.iter().find(|(state, _)| state == self).map_or("other", |(_, name)| name)
    }
}

impl From<Cow<'_, str>> for CallState {
    fn from(text: Cow<'_, str>) -> Self {
        let known = KNOWN_STATES.iter().find(|(_, name)| name.eq_ignore_ascii_case(&text));
        known.map_or_else(|| Self::Other(text.into_owned()), |(state, _)| state.clone())
    }
}

/// The known states with their names, the most frequent first.
static KNOWN_STATES: [(CallState, &str); 10] = [
    (CallState::Established, "established"),
    (CallState::Establishing, "establishing"),
    (CallState::Incoming, "incoming"),
    (CallState::Terminated, "terminated"),
    (CallState::Terminating, "terminating"),
    (CallState::Ringing, "ringing"),
    (CallState::Hold, "hold"),
    (CallState::Transferring, "transferring"),
    (CallState::TransferAccepted, "transferAccepted"),
    (CallState::Redirecting, "redirecting"),
];

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
