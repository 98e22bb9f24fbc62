//! `NewCall`: a call that the bot places, or a meeting that it joins (Microsoft Graph REST reference, "Create
//! call").

use std::fmt;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    CallbackUri, GraphCall, GraphCallId, GraphModality, GraphResponse, InvalidAction, Invitee, MediaConfig,
    RedirectTarget,
    body::{identity_set, media_config},
};

/// A call to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCall {
    to: CallDestination,
    modalities: Vec<GraphModality>,
    media_config: MediaConfig,
    source: Option<RedirectTarget>,
}

impl NewCall {
    /// Calls `to` with `modalities`, at least one.
    ///
    /// # Errors
    ///
    /// `modalities` is empty, or `to` is an empty list.
    pub fn new(
        to: CallDestination,
        modalities: Vec<GraphModality>,
        media_config: MediaConfig,
    ) -> Result<Self, InvalidAction> {
        if matches!(&to, CallDestination::People(people) if people.is_empty()) {
            return Err(InvalidAction::value("targets", "must be an array of one target or more"));
        }
        if modalities.is_empty() {
            let must = "must be an array of one modality or more";
            return Err(InvalidAction::value("requestedModalities", must));
        }
        Ok(Self { to, modalities, media_config, source: None })
    }

    /// Sets the caller: the application with a display name, or to dial a number, the application instance
    /// that has a number itself.
    pub fn with_source(self, source: RedirectTarget) -> Self {
        Self { source: Some(source), ..self }
    }

    /// Returns the body of the request.
    pub(crate) fn body(&self, callback: &CallbackUri, tenant: Uuid) -> Value {
        let modalities: Vec<_> = self.modalities.iter().map(|modality| modality.as_str()).collect();
        let mut body = json!({
            "@odata.type": "#microsoft.graph.call",
            "callbackUri": callback.as_str(),
            "direction": "outgoing",
            "mediaConfig": media_config(&self.media_config),
            "requestedModalities": modalities,
            "tenantId": tenant.to_string(),
        });
        let mut put = |name: &str, value: Value| {
            if let Some(members) = body.as_object_mut() {
                members.insert(name.to_owned(), value);
            }
        };
        if let Some(source) = &self.source {
            let identity = identity_set(source);
            put("source", json!({"@odata.type": "#microsoft.graph.participantInfo", "identity": identity}));
        }
        match &self.to {
            CallDestination::People(people) => {
                let targets: Vec<_> = people.iter().cloned().map(Invitee::from).collect();
                put("targets", json!(targets));
            }
            CallDestination::Meeting { thread_id, message_id, organizer } => {
                let message_id = message_id.as_deref().unwrap_or("0");
                let kind = "#microsoft.graph.chatInfo";
                put("chatInfo", json!({"@odata.type": kind, "messageId": message_id, "threadId": thread_id}));
                let kind = "#microsoft.graph.organizerMeetingInfo";
                put("meetingInfo", json!({"@odata.type": kind, "organizer": identity_set(organizer)}));
            }
            CallDestination::MeetingToken(token) => {
                let kind = "#microsoft.graph.tokenMeetingInfo";
                put("meetingInfo", json!({"@odata.type": kind, "token": token}));
            }
            CallDestination::MeetingId { join_meeting_id, passcode } => {
                let kind = "#microsoft.graph.joinMeetingIdMeetingInfo";
                let mut info = json!({"@odata.type": kind, "joinMeetingId": join_meeting_id});
                if let (Some(passcode), Some(members)) = (passcode, info.as_object_mut()) {
                    members.insert("passcode".to_owned(), passcode.as_str().into());
                }
                put("meetingInfo", info);
            }
        }
        body
    }
}

/// The destination of a new call.
#[derive(Clone, PartialEq, Eq)]
pub enum CallDestination {
    /// People, numbers or other bots. Several of them get a group call.
    People(Vec<RedirectTarget>),
    /// A scheduled meeting, by its thread and its organizer.
    Meeting {
        /// The thread of the meeting's chat.
        thread_id: String,
        /// The message of the chat, `0` by default.
        message_id: Option<String>,
        /// The organizer: a user, with the tenant.
        organizer: RedirectTarget,
    },
    /// A meeting, by the token of its join link.
    MeetingToken(String),
    /// A meeting, by the id and the passcode of its invitation.
    MeetingId {
        /// The id, without blanks.
        join_meeting_id: String,
        /// The passcode, if the meeting has one.
        passcode: Option<String>,
    },
}

/// Shows the kind only: a token and a passcode admit to a meeting.
impl fmt::Debug for CallDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::People(_) => "People",
            Self::Meeting { .. } => "Meeting",
            Self::MeetingToken(_) => "MeetingToken",
            Self::MeetingId { .. } => "MeetingId",
        })
    }
}

/// A call that Graph has created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedCall {
    /// Its id, of the body or else of `Location`.
    pub id: GraphCallId,
    /// Its state, usually `establishing`. Notifications report the next ones.
    pub call: GraphCall,
}

impl CreatedCall {
    /// Reads a success; `None` if it contains no id.
    pub(crate) fn read(response: &GraphResponse, bytes_max: usize) -> Option<Self> {
        let body = response.whole_body(bytes_max);
        let document: Value = body.and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
        let of_body = document.get("id").and_then(Value::as_str).and_then(|id| GraphCallId::parse(id).ok());
        let id = of_body.or_else(|| response.header("location").and_then(id_of_location))?;
        let call = body.and_then(GraphCall::parse).unwrap_or(GraphCall { state: None, result: None });
        Some(Self { id, call })
    }
}

/// Returns the id in `…/calls/{id}`.
fn id_of_location(location: &str) -> Option<GraphCallId> {
    let path = location.split(['?', '#']).next()?.trim_end_matches('/');
    let (collection, id) = path.rsplit_once('/')?;
    let (_, name) = collection.rsplit_once('/').unwrap_or(("", collection));
    GraphCallId::parse(id).ok().filter(|_| name.eq_ignore_ascii_case("calls"))
}
