//! Every request of the calling SDK, byte for byte, as one table.

use std::time::Duration;

use super::request::{ExpectedResponse, SdkRequest};

/// A prompt to play.
macro_rules! prompt {
    () => {
        "{'@odata.type':'#microsoft.graph.mediaPrompt','mediaInfo':{'@odata.type':\
         '#microsoft.graph.mediaInfo','resourceId':'$resource','uri':'$prompt'}}"
    };
}

/// A person to invite, to transfer to or to redirect to.
macro_rules! invited {
    () => {
        "{'@odata.type':'#microsoft.graph.invitationParticipantInfo','identity':{'@odata.type':\
         '#microsoft.graph.identitySet','user':{'@odata.type':'#microsoft.graph.identity','id':'$user'}}\
         `replaces:,'replacesCallId':'$replaces'`}"
    };
}

/// The media of a call that the platform hosts.
macro_rules! service_media {
    () => {
        "{'@odata.type':'#microsoft.graph.serviceHostedMediaConfig','preFetchMedia':[]}"
    };
}

/// The bot as the source of a call.
macro_rules! bot {
    () => {
        "{'@odata.type':'#microsoft.graph.participantInfo','identity':{'@odata.type':\
         '#microsoft.graph.identitySet','application':{'@odata.type':'#microsoft.graph.identity',\
         'displayName':'$name','id':'$app'}}}"
    };
}

/// The request of this name.
pub(super) fn request_named(name: &str) -> Option<&'static SdkRequest> {
    REQUESTS.iter().find(|request| request.name == name)
}

/// The names of all requests.
pub(super) fn request_names() -> impl Iterator<Item = &'static str> {
    REQUESTS.iter().map(|request| request.name)
}

/// Every request of the SDK. `changeScreenSharingRole` is not among them: the SDK sends nothing without
/// application-hosted media.
const REQUESTS: &[SdkRequest] = &[
    post("answer", "/$call/answer", Some(ANSWER), SUCCESS),
    post("reject", "/$call/reject", Some("{'callbackUri':'$callback'`reason:,'reason':'$reason'`}"), SUCCESS),
    post("redirect", "/$call/redirect", Some(REDIRECT), SUCCESS),
    bare("keepAlive", "POST", "/$call/keepAlive", SUCCESS),
    bare("delete", "DELETE", "/$call", SUCCESS),
    post(
        "updateRecordingStatus",
        "/$call/updateRecordingStatus",
        Some("{'clientContext':'$context','status':'$status'}"),
        ends_by(SHORT, &["updateRecordingStatusOperation", PLAIN]),
    ),
    post("mute", "/$call/mute", CONTEXT, ends_by(SHORT, &["muteParticipantOperation", PLAIN])),
    post("unmute", "/$call/unmute", CONTEXT, ends_by(SHORT, &["unmuteParticipantOperation", PLAIN])),
    post("playPrompt", "/$call/playPrompt", Some(PLAY), ends_by(DAY, &["playPromptOperation"])),
    post("recordResponse", "/$call/recordResponse", Some(RECORD), ends_by(DAY, &[])),
    post(
        "subscribeToTone",
        "/$call/subscribeToTone",
        CONTEXT,
        ends_by(SHORT, &["subscribeToToneOperation", PLAIN]),
    ),
    post(
        "sendDtmfTones",
        "/$call/sendDtmfTones",
        Some("{'clientContext':'$context','delayBetweenTonesMs':300,'tones':[$tones]}"),
        ends_by(DAY, &["sendDtmfTonesOperation", PLAIN]),
    ),
    post(
        "cancelMediaProcessing",
        "/$call/cancelMediaProcessing",
        CONTEXT,
        ends_by(SHORT, &["cancelMediaProcessingOperation", PLAIN]),
    ),
    post("transfer", "/$call/transfer", Some(concat!("{'transferTarget':", invited!(), "}")), SUCCESS),
    post(
        "invite",
        "/$call/participants/invite",
        Some(concat!("{'clientContext':'$context','participants':[", invited!(), "]}")),
        ends_by(SHORT, &["inviteParticipantsOperation"]),
    ),
    post(
        "muteParticipant",
        "/$call/participants/$participant/mute",
        CONTEXT,
        ends_by(SHORT, &["muteParticipantOperation", PLAIN]),
    ),
    post(
        "startHoldMusic",
        "/$call/participants/$participant/startHoldMusic",
        Some(concat!("{'clientContext':'$context','customPrompt':", prompt!(), "}")),
        ends_by(SHORT, &[]),
    ),
    post("stopHoldMusic", "/$call/participants/$participant/stopHoldMusic", CONTEXT, ends_by(SHORT, &[])),
    bare("deleteParticipant", "DELETE", "/$call/participants/$participant", SUCCESS),
    bare("getParticipant", "GET", "/$call/participants/$participant", ExpectedResponse::Document),
    post(
        "admitAllFromLobby",
        "/$call/participants/admitAllFromLobby",
        CONTEXT,
        ends_by(MINUTE, &["admitAllFromLobbyOperation", PLAIN]),
    ),
    post(
        "lowerAllHands",
        "/$call/participants/lowerAllHands",
        CONTEXT,
        ends_by(MINUTE, &["lowerAllHandsOperation", PLAIN]),
    ),
    post("raiseHand", "/$call/raiseHand", CONTEXT, ends_by(SHORT, &["raiseHandOperation", PLAIN])),
    post("lowerHand", "/$call/lowerHand", CONTEXT, ends_by(SHORT, &["lowerHandOperation", PLAIN])),
    post(
        "addLargeGalleryView",
        "/$call/addLargeGalleryView",
        CONTEXT,
        ends_by(SHORT, &["addLargeGalleryViewOperation", PLAIN]),
    ),
    post("audioRoutingGroups", "/$call/audioRoutingGroups", Some(ROUTING), ExpectedResponse::Document),
    post("create", "", Some(CREATE), ExpectedResponse::NewCall),
    post("join", "", Some(JOIN), ExpectedResponse::NewCall),
    post(
        "logTeleconferenceDeviceQuality",
        "/logTeleconferenceDeviceQuality",
        Some("{'quality':{'@odata.type':'#microsoft.graph.teleconferenceDeviceQuality'}}"),
        SUCCESS,
    ),
];

const fn post(
    name: &'static str,
    path: &'static str,
    body: Option<&'static str>,
    response: ExpectedResponse,
) -> SdkRequest {
    SdkRequest { name, method: "POST", path, body, response }
}

const fn bare(
    name: &'static str,
    method: &'static str,
    path: &'static str,
    response: ExpectedResponse,
) -> SdkRequest {
    SdkRequest { name, method, path, body: None, response }
}

const fn ends_by(wait: Duration, types: &'static [&'static str]) -> ExpectedResponse {
    ExpectedResponse::Operation { types, wait }
}

const ANSWER: &str = concat!(
    "{'acceptedModalities':['Audio'],'callbackUri':'$callback'`delta:,'callOptions':{'@odata.type':\
     '#microsoft.graph.incomingCallOptions','isContentSharingNotificationEnabled':true,\
     'isDeltaRosterEnabled':true}`,'mediaConfig':`service:",
    service_media!(),
    "``blob:{'@odata.type':'#microsoft.graph.appHostedMediaConfig','blob':'$blob'}`,\
     'participantCapacity':$capacity}"
);
const REDIRECT: &str = concat!("{'callbackUri':'$callback','targets':[", invited!(), "],'timeout':30}");
const PLAY: &str = concat!("{'clientContext':'$context','prompts':[", prompt!(), "]}");
const RECORD: &str = concat!(
    "{'bargeInAllowed':true,'clientContext':'$context','initialSilenceTimeoutInSeconds':5,\
     'maxRecordDurationInSeconds':10,'maxSilenceTimeoutInSeconds':2,'playBeep':true,'prompts':[",
    prompt!(),
    "],'stopTones':['#']}"
);
const ROUTING: &str = "{'@odata.type':'#microsoft.graph.audioRoutingGroup','receivers':[$receivers],\
                       'routingMode':'OneToOne','sources':[$sources]}";
const CREATE: &str = concat!(
    "{'@odata.type':'#microsoft.graph.call','callbackUri':'$callback','direction':'Outgoing','mediaConfig':",
    service_media!(),
    ",'requestedModalities':['Audio'],'source':",
    bot!(),
    ",'targets':[",
    invited!(),
    "],'tenantId':'$tenant'}"
);
const JOIN: &str = concat!(
    "{'@odata.type':'#microsoft.graph.call','callbackUri':'$callback','chatInfo':{'@odata.type':\
     '#microsoft.graph.chatInfo','messageId':'0','threadId':'$thread'},'direction':'Outgoing','mediaConfig':",
    service_media!(),
    ",'meetingInfo':{'@odata.type':'#microsoft.graph.organizerMeetingInfo','organizer':{'@odata.type':\
     '#microsoft.graph.identitySet','user':{'@odata.type':'#microsoft.graph.identity','id':'$user'}}},\
     'requestedModalities':['Audio'],'source':",
    bot!(),
    ",'tenantId':'$tenant'}"
);
const CONTEXT: Option<&str> = Some("{'clientContext':'$context'}");
const SUCCESS: ExpectedResponse = ExpectedResponse::Success;

/// A type of operation that ends most waits.
const PLAIN: &str = "commsOperation";
const SHORT: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the name of a request of the SDK.
///
/// # Errors
/// The SDK has no such request.
pub fn parse_sdk_request(text: &str) -> Result<String, InvalidSdkRequest> {
    request_named(text).map(|request| request.name.to_owned()).ok_or(InvalidSdkRequest)
}

/// The text is not the name of a request of the calling SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSdkRequest;

impl std::fmt::Display for InvalidSdkRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "must be one of {}", request_names().collect::<Vec<_>>().join(", "))
    }
}

impl std::error::Error for InvalidSdkRequest {}
