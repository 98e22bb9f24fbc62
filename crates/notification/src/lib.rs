//! What the calling platform posts, as types: a legacy body, or Graph items and the call each is about.

use std::{borrow::Cow, fmt};

use uuid::Uuid;

/// One parsed body. Borrows from the bytes it was parsed from.
#[derive(Debug)]
pub enum Envelope<'a> {
    /// The Skype format. The platform sends the call again as Graph when it is answered 204.
    Legacy(Legacy<'a>),
    /// The Graph format, with one item or more.
    Graph(Notifications<'a>),
}

impl<'a> Envelope<'a> {
    /// Tells what `body` is.
    pub fn parse(body: &'a [u8]) -> Result<Self, ParseError> {
        let _ = body;
        Err(ParseError { code: ErrorCode::Empty, message: String::new() })
    }
}

/// A body in the Skype format.
#[derive(Debug)]
pub struct Legacy<'a> {
    /// Which of the legacy messages it is.
    pub kind: LegacyKind,
    /// Its `id`.
    pub id: Cow<'a, str>,
}

/// The messages of the Skype format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyKind {
    /// A new call.
    Incoming,
    /// The result of an operation.
    ConversationResult,
    /// The participants changed.
    RosterUpdate,
    /// The call's state changed.
    CallStateChange,
}

/// The items of a Graph body, at least one of which is about a call.
#[derive(Debug)]
pub struct Notifications<'a> {
    /// The items in the order in which they were posted.
    pub items: Vec<Item<'a>>,
}

impl Notifications<'_> {
    /// The same envelope with `value` cut to the raw bytes of the items at `indices`.
    pub fn subset(&self, indices: &[usize]) -> Vec<u8> {
        let _ = indices;
        Vec::new()
    }
}

/// One item of a Graph body.
#[derive(Debug)]
pub struct Item<'a> {
    /// The item's JSON, byte for byte.
    pub raw: &'a str,
    /// created, updated or deleted.
    pub change_type: ChangeType,
    /// Which resource changed, by its path; `None` when the item is not about a call.
    pub resource: Option<Resource<'a>>,
    /// What `resourceData` holds.
    pub data: Data<'a>,
}

impl<'a> Item<'a> {
    /// The call that the item is about.
    pub fn call_id(&self) -> Option<&CallId<'a>> {
        self.resource.as_ref().map(|resource| &resource.call_id)
    }

    /// The call, if this is a new incoming call: created, a call, its state incoming.
    pub fn new_call(&self) -> Option<&Call<'a>> {
        None
    }

    /// What the item is, for logs and counters.
    pub fn kind(&self) -> ItemKind {
        ItemKind::Other
    }
}

/// What an item is, for logs and counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A new incoming call.
    IncomingCall,
    /// A call's state changed.
    CallState,
    /// The participants of a call changed.
    Roster,
    /// An operation finished or progressed.
    Operation,
    /// Content sharing began, changed or ended.
    ContentSharing,
    /// A participant is about to join; the bot answers in the response body.
    ParticipantJoining,
    /// A participant left.
    ParticipantLeft,
    /// About a call, in a way this version does not know.
    Other,
    /// Not about a call.
    NotACall,
}

impl ItemKind {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        "other"
    }
}

/// `changeType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeType {
    /// created
    Created,
    /// updated
    Updated,
    /// deleted
    Deleted,
}

/// A path below a call: `/communications/calls/{id}/…` or the older `/app/calls/{id}/…`.
#[derive(Debug)]
pub struct Resource<'a> {
    /// The call.
    pub call_id: CallId<'a>,
    /// What of it.
    pub part: Part,
}

/// Which part of a call a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The call itself.
    Call,
    /// `/participants` and one of them.
    Participants,
    /// `/operations` and one of them.
    Operations,
    /// `/contentsharingsessions` and one of them.
    ContentSharingSessions,
    /// Anything else.
    Other,
}

/// A call's id: an opaque path segment, compared ASCII-case-insensitively, safe in headers and logs.
#[derive(Clone, Debug)]
pub struct CallId<'a>(Cow<'a, str>);

impl CallId<'_> {
    /// As it was posted.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `resourceData` holds.
#[derive(Debug)]
pub enum Data<'a> {
    /// No `resourceData`, or null.
    Absent,
    /// `#microsoft.graph.call`
    Call(Box<Call<'a>>),
    /// `#microsoft.graph.participantJoiningNotification`
    ParticipantJoining,
    /// `#microsoft.graph.participantLeftNotification`
    ParticipantLeft,
    /// `#microsoft.graph.commsOperation` or one of its subtypes.
    Operation(Operation<'a>),
    /// An array (participants, content sharing sessions), with its length.
    List(usize),
    /// Another object.
    Other,
}

/// `#microsoft.graph.commsOperation` and its subtypes.
#[derive(Debug)]
pub struct Operation<'a> {
    /// The type's name without `#microsoft.graph.`.
    pub name: Cow<'a, str>,
    /// notStarted, running, completed, failed.
    pub status: Option<Cow<'a, str>>,
    /// How it ended.
    pub result: Option<ResultInfo>,
}

/// The parts of a call resource that routing, logs and counters need.
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
    /// `requestedModalities`
    pub modalities: Vec<Modality>,
    /// Whether a recording policy applies (5 s instead of 15 s to answer).
    pub policy_recording: bool,
    /// The user whom the policy observes: `incomingContext.onBehalfOf`, else `source.identity`; only with a policy.
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

/// `resultInfo`; the codes come as numbers or as strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultInfo {
    /// `code`
    pub code: Option<i64>,
    /// `subcode`
    pub subcode: Option<i64>,
}

/// Why a body is not a notification.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// A stable name.
    pub code: ErrorCode,
    /// What is wrong and where; holds no text of the body but member names, safe to log and to return.
    pub message: String,
}

/// The kinds of `ParseError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// No bytes.
    Empty,
    // the rest is the notification crate's own business
}

impl ErrorCode {
    /// A stable name for logs and metrics.
    pub fn label(self) -> &'static str {
        "empty"
    }
}
