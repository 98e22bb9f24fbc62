//! What the platform posts: the bodies of a call's life, legacy and Graph.
//!
//! The shapes follow the Graph reference ("commsNotifications", "call") and real traffic: later notifications carry
//! both `resource` and `resourceUrl` and no `id`; the first one carries everything.

use openssl::error::ErrorStack;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    call::{CallKind, CallRequest},
    encoding::random_id,
};

/// The ids of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallIds {
    pub(crate) call: Uuid,
    pub(crate) chain: Uuid,
    pub(crate) scenario: Uuid,
    pub(crate) caller: Uuid,
    pub(crate) caller_participant: Uuid,
    pub(crate) bot_participant: Uuid,
}

impl CallIds {
    /// New ids; those of a call that belongs to another one share its chain.
    pub(crate) fn new(chain: Option<Uuid>) -> Result<Self, ErrorStack> {
        Ok(Self {
            call: random_id()?,
            chain: chain.map_or_else(random_id, Ok)?,
            scenario: random_id()?,
            caller: random_id()?,
            caller_participant: random_id()?,
            bot_participant: random_id()?,
        })
    }
}

/// Somebody who joined after the caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Person {
    pub(crate) participant: Uuid,
    pub(crate) user: Uuid,
}

impl Person {
    pub(crate) fn new() -> Result<Self, ErrorStack> {
        Ok(Self { participant: random_id()?, user: random_id()? })
    }
}

/// Something that a bot asked for and that goes on for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) id: Uuid,
    /// Like `#microsoft.graph.playPromptOperation`.
    pub(crate) odata_type: &'static str,
    pub(crate) client_context: Option<String>,
}

/// How a call ended, as `resultInfo` says it (Graph reference, "call: delete").
#[derive(Clone, Debug)]
pub(crate) enum ResultInfo {
    OtherSideEnded,
    EndedByBot,
    NotAnswered,
    RejectedByBot,
    /// Somebody else has the call now: the published sample says no more than that it is over.
    RedirectedByBot,
    /// As a script says it.
    Scripted {
        code: u32,
        subcode: u32,
        message: String,
    },
}

impl ResultInfo {
    fn to_json(&self) -> Value {
        let (code, subcode, message) = match self {
            Self::OtherSideEnded => (200, 4_521, "The other side ended the call."),
            Self::EndedByBot => (200, 10_550, "The call was ended by the bot."),
            Self::NotAnswered => (408, 8_544, "Callee could not be reached."),
            Self::RejectedByBot => (603, 0, "The call was rejected."),
            Self::RedirectedByBot => (200, 0, "The call was redirected by the bot."),
            Self::Scripted { code, subcode, message } => (*code, *subcode, message.as_str()),
        };
        json!({"@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": subcode, "message": message})
    }
}

/// The legacy body of a new call.
pub(crate) fn legacy_incoming(call: &CallRequest, ids: &CallIds) -> Value {
    let identity = match call.kind {
        CallKind::Pstn => format!("4:{CALLER_NUMBER}"),
        CallKind::P2p | CallKind::Group | CallKind::Meeting | CallKind::Recording => {
            format!("8:orgid:{}", ids.caller)
        }
    };
    let mut body = object(json!({
        "id": ids.call.to_string(),
        "participants": [
            {
                "identity": identity,
                "participantId": ids.caller_participant.to_string(),
                "endpointId": ids.scenario.to_string(),
                "languageId": "en-us",
                "tenantId": call.tenant.to_string(),
                "region": call.region.label(),
                "originator": true,
                "isHidden": false,
                "endPointType": "default",
                "removeFromDefaultAudioRoutingGroup": false,
            },
            {
                "identity": format!("28:{}", call.app),
                "participantId": ids.bot_participant.to_string(),
                "endpointId": Uuid::nil().to_string(),
                "originator": false,
                "isHidden": false,
                "endPointType": "default",
                "removeFromDefaultAudioRoutingGroup": false,
            },
        ],
        "isMultiparty": matches!(call.kind, CallKind::Group | CallKind::Meeting),
        "presentedModalityTypes": ["audio"],
        "callState": "incoming",
        "tenantId": call.tenant.to_string(),
    }));
    if let Some(thread) = thread(call.kind, ids) {
        body.insert("threadId".to_owned(), thread.into());
        body.insert("threadMessageId".to_owned(), "0".into());
    }
    Value::Object(body)
}

/// The Graph body of a new call.
pub(crate) fn incoming(call: &CallRequest, ids: &CallIds) -> Value {
    item("created", ids, "", Some(Value::Object(incoming_call(call, ids))))
}

fn incoming_call(call: &CallRequest, ids: &CallIds) -> Map<String, Value> {
    let tenant = call.tenant.to_string();
    let mut source = object(json!({
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": source_identity(call, ids),
        "endpointType": "default",
        "region": call.region.label(),
        "languageId": "en-us",
        "id": ids.caller_participant.to_string(),
    }));
    if let Some(country) = &call.country {
        source.insert("countryCode".to_owned(), country.as_str().into());
    }
    // A recording policy and a resource account address an application instance, all else the app itself.
    let target = match call.kind {
        CallKind::Recording => json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "applicationInstance": identity(&ids.bot_participant.to_string(), &tenant),
        }),
        CallKind::P2p | CallKind::Group | CallKind::Meeting | CallKind::Pstn => json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "application": identity(&call.app.to_string(), &tenant),
        }),
    };
    let mut resource = object(json!({
        "@odata.type": "#microsoft.graph.call",
        "state": "incoming",
        "direction": "incoming",
        "callbackUri": call.to.as_str(),
        "source": source,
        "targets": [{
            "@odata.type": "#microsoft.graph.invitationParticipantInfo",
            "identity": target,
            "endpointType": "default",
            "id": ids.bot_participant.to_string(),
            "region": null,
            "languageId": null,
        }],
        "tenantId": tenant,
        "myParticipantId": ids.bot_participant.to_string(),
        "incomingContext": {
            "@odata.type": "#microsoft.graph.incomingContext",
            "sourceParticipantId": ids.caller_participant.to_string(),
        },
        "id": ids.call.to_string(),
        "callChainId": ids.chain.to_string(),
    }));
    if let Some(thread) = thread(call.kind, ids) {
        resource.insert(
            "chatInfo".to_owned(),
            json!({"@odata.type": "#microsoft.graph.chatInfo", "threadId": thread, "messageId": "0"}),
        );
        resource.insert(
            "meetingInfo".to_owned(),
            json!({
                "@odata.type": "#microsoft.graph.organizerMeetingInfo",
                "organizer": {
                    "@odata.type": "#microsoft.graph.identitySet",
                    "user": identity(&ids.caller.to_string(), &tenant),
                },
                "allowConversationWithoutHost": true,
            }),
        );
    }
    if call.kind == CallKind::Recording {
        resource.extend(recording_members(call, ids));
    }
    resource
}

/// Another user of the recording policy is about to join; the bot says in its answer whether it takes them too.
///
/// No such notification was ever published: the shape is that of the Graph reference ("participantJoiningNotification").
pub(crate) fn joining(call: &CallRequest, ids: &CallIds, person: Person) -> Value {
    let observed = CallIds { caller: person.user, caller_participant: person.participant, ..*ids };
    let resource = json!({
        "@odata.type": "#microsoft.graph.participantJoiningNotification",
        "id": ids.call.to_string(),
        "call": incoming_call(call, &observed),
    });
    item("created", ids, "", Some(resource))
}

/// A user who was announced by [`joining`] is gone.
pub(crate) fn left(ids: &CallIds, person: Person) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.participantLeftNotification",
        "participantId": person.participant.to_string(),
        "call": {"@odata.type": "#microsoft.graph.call", "id": ids.call.to_string()},
    });
    item("deleted", ids, "", Some(resource))
}

/// A key that somebody pressed (Graph reference, "toneInfo").
pub(crate) fn tone(ids: &CallIds, tone: &str, sequence: u32) -> Value {
    let resource = json!({
        "@odata.type": "#microsoft.graph.call",
        "state": "established",
        "toneInfo": {"@odata.type": "#microsoft.graph.toneInfo", "sequenceId": sequence, "tone": tone},
    });
    item("updated", ids, "", Some(resource))
}

/// A change of the call's state; the smallest shape seen on the wire.
pub(crate) fn state(ids: &CallIds, state: &str) -> Value {
    item("updated", ids, "", Some(json!({"@odata.type": "#microsoft.graph.call", "state": state})))
}

/// What a roster tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Roster<'a> {
    /// Everybody: the caller, the bot, and those who joined later.
    Full(&'a [Person]),
    /// Who joined and who left since the last one (`isDeltaRosterEnabled`).
    Delta { joined: &'a [Person], left: &'a [Person] },
}

/// The roster, with the number of its change.
pub(crate) fn roster(call: &CallRequest, ids: &CallIds, roster: Roster<'_>, sequence: u32) -> Value {
    let tenant = call.tenant.to_string();
    let participant = |id: Uuid, identity: Value| {
        object(json!({
            "@odata.type": "#microsoft.graph.participant",
            "info": {
                "@odata.type": "#microsoft.graph.participantInfo",
                "identity": identity,
                "endpointType": "default",
                "region": call.region.label(),
            },
            "mediaStreams": [{
                "@odata.type": "#microsoft.graph.mediaStream",
                "mediaType": "audio",
                "sourceId": "1",
                "direction": "sendReceive",
                "serverMuted": false,
            }],
            "isMuted": false,
            "isInLobby": false,
            "rosterSequenceNumber": sequence,
            "id": id.to_string(),
        }))
    };
    let person = |person: &Person| {
        let user = json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "user": identity(&person.user.to_string(), &tenant),
        });
        participant(person.participant, user)
    };
    let participants: Vec<Map<String, Value>> = match roster {
        Roster::Full(people) => {
            let bot = json!({
                "@odata.type": "#microsoft.graph.identitySet",
                "application": identity(&call.app.to_string(), &tenant),
            });
            [
                participant(ids.caller_participant, source_identity(call, ids)),
                participant(ids.bot_participant, bot),
            ]
            .into_iter()
            .chain(people.iter().map(person))
            .collect()
        }
        Roster::Delta { joined, left } => {
            let gone = left.iter().map(|who| {
                let mut gone = person(who);
                let removed =
                    json!({"@odata.type": "#microsoft.graph.removedState", "reason": "Left the call."});
                gone.insert("removedState".to_owned(), removed);
                gone
            });
            joined.iter().map(person).chain(gone).collect()
        }
    };
    item("updated", ids, "/participants", Some(participants.into()))
}

/// An operation that is over, hence `deleted`, or still goes on.
pub(crate) fn operation(ids: &CallIds, operation: &Operation, status: &str) -> Value {
    let Operation { id, odata_type, client_context } = operation;
    let (code, change) = match status {
        "failed" => (500, "deleted"),
        "completed" => (200, "deleted"),
        _ => (200, "updated"),
    };
    let resource = json!({
        "@odata.type": odata_type,
        "@odata.id": format!("/communications/calls/{}/operations/{id}", ids.call),
        "id": id.to_string(),
        "clientContext": client_context,
        "status": status,
        "resultInfo": {"@odata.type": "#microsoft.graph.resultInfo", "code": code, "subcode": 0, "message": ""},
    });
    item(change, ids, &format!("/operations/{id}"), Some(resource))
}

/// The end of the call.
pub(crate) fn terminated(ids: &CallIds, result: &ResultInfo) -> Value {
    let mut resource =
        object(json!({"@odata.type": "#microsoft.graph.call", "resultInfo": result.to_json()}));
    match result {
        // After a reject the published sample has no state.
        ResultInfo::RejectedByBot => {}
        ResultInfo::OtherSideEnded
        | ResultInfo::EndedByBot
        | ResultInfo::NotAnswered
        | ResultInfo::RedirectedByBot
        | ResultInfo::Scripted { .. } => {
            resource.insert("state".to_owned(), "terminated".into());
        }
    }
    item("deleted", ids, "", Some(Value::Object(resource)))
}

fn item(change_type: &str, ids: &CallIds, below: &str, resource_data: Option<Value>) -> Value {
    let mut item = object(json!({
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": change_type,
        "resource": format!("/app/calls/{}{below}", ids.call),
        "resourceUrl": format!("/communications/calls/{}{below}", ids.call),
    }));
    if let Some(resource_data) = resource_data {
        item.insert("resourceData".to_owned(), resource_data);
    }
    json!({"@odata.type": "#microsoft.graph.commsNotifications", "value": [item]})
}

fn source_identity(call: &CallRequest, ids: &CallIds) -> Value {
    match call.kind {
        CallKind::Pstn => json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "phone": {"@odata.type": "#microsoft.graph.identity", "id": CALLER_NUMBER},
        }),
        CallKind::P2p | CallKind::Group | CallKind::Meeting | CallKind::Recording => json!({
            "@odata.type": "#microsoft.graph.identitySet",
            "user": identity(&ids.caller.to_string(), &call.tenant.to_string()),
        }),
    }
}

/// What a policy-based recording adds: who is recorded, under which policy, and where the media are.
fn recording_members(call: &CallRequest, ids: &CallIds) -> Map<String, Value> {
    let country = call.country.as_deref();
    object(json!({
        "incomingContext": {
            "@odata.type": "#microsoft.graph.incomingContext",
            "observedParticipantId": ids.caller_participant.to_string(),
            "sourceParticipantId": ids.caller_participant.to_string(),
        },
        "mediaHostedRegion": call.region.media_region(),
        "applicationMetadata": {
            "botData": {
                // The platform calls the chain id `callId` here.
                "callId": ids.chain.to_string(),
                "mediaHostedRegion": call.region.media_region(),
                "user": {
                    "participationMethod": "Callee",
                    "policyHolderId": format!("8:orgid:{}", ids.caller),
                    "policyHolderTenantId": call.tenant.to_string(),
                    "clientLocation": country,
                },
                "inviteReasons": ["ComplianceRecording"],
                "policyIdentifier": "TeamsComplianceRecordingPolicy=Tenant:emulated",
                "otherRecorders": [],
                "pairedRecorders": [],
                "isMultiParty": false,
                "applicationType": null,
            },
        },
    }))
}

fn identity(id: &str, tenant: &str) -> Value {
    json!({"@odata.type": "#microsoft.graph.identity", "id": id, "tenantId": tenant})
}

fn thread(kind: CallKind, ids: &CallIds) -> Option<String> {
    match kind {
        CallKind::Group => Some(format!("19:{}@thread.v2", ids.chain.simple())),
        CallKind::Meeting => Some(format!("19:meeting_{}@thread.v2", ids.chain.simple())),
        CallKind::P2p | CallKind::Recording | CallKind::Pstn => None,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// A number that is reserved for fiction (NANP 555-01XX).
const CALLER_NUMBER: &str = "+12025550123";

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> CallIds {
        let id = Uuid::from_u128;
        CallIds {
            call: id(1),
            chain: id(2),
            scenario: id(3),
            caller: id(4),
            caller_participant: id(5),
            bot_participant: id(6),
        }
    }

    fn call(kind: CallKind) -> CallRequest {
        let to = crate::call::parse_http_url("http://127.0.0.1:1/api/calls").unwrap();
        CallRequest::new(to, Uuid::from_u128(8)).with_kind(kind)
    }

    /// The path of each leaf that differs between a p2p call and `kind`.
    #[track_caller]
    fn check(kind: CallKind, pointer: &str, expected: Option<&str>) {
        let body = incoming(&call(kind), &ids());
        let resource = &body["value"][0]["resourceData"];
        assert_eq!(resource.pointer(pointer).and_then(Value::as_str), expected, "{kind} {pointer}");
    }

    #[test]
    fn each_kind_of_call_has_its_members() {
        let observed = "/incomingContext/observedParticipantId";
        check(CallKind::P2p, observed, None);
        check(CallKind::Recording, observed, Some("00000000-0000-0000-0000-000000000005"));
        check(
            CallKind::Recording,
            "/applicationMetadata/botData/inviteReasons/0",
            Some("ComplianceRecording"),
        );
        check(CallKind::Recording, "/mediaHostedRegion", Some("EUNO"));
        check(
            CallKind::P2p,
            "/targets/0/identity/application/id",
            Some("00000000-0000-0000-0000-000000000008"),
        );
        check(CallKind::Pstn, "/source/identity/phone/id", Some(CALLER_NUMBER));
        check(CallKind::P2p, "/chatInfo/threadId", None);
        let meeting_thread = Some("19:meeting_00000000000000000000000000000002@thread.v2");
        check(CallKind::Meeting, "/chatInfo/threadId", meeting_thread);
        let organizer = "/meetingInfo/organizer/user/tenantId";
        check(CallKind::Group, organizer, Some("11111111-2222-4333-8444-555555555555"));
    }

    #[test]
    fn a_state_change_is_as_short_as_on_the_wire() {
        // 353 bytes: the Content-Length that a user's log shows for this notification.
        assert_eq!(state(&ids(), "establishing").to_string().len(), 353);
    }

    #[test]
    fn a_delta_roster_names_only_who_came_and_went() {
        let call = call(CallKind::Group);
        let people =
            [10, 11].map(|id| Person { participant: Uuid::from_u128(id), user: Uuid::from_u128(id + 10) });
        let [came, went] = people;
        let full = roster(&call, &ids(), Roster::Full(&people), 2);
        assert_eq!(full["value"][0]["resourceData"].as_array().unwrap().len(), 4);
        let delta = roster(&call, &ids(), Roster::Delta { joined: &[came], left: &[went] }, 3);
        let participants = delta["value"][0]["resourceData"].as_array().unwrap();
        assert_eq!(participants.len(), 2);
        assert!(
            participants[0].get("removedState").is_none() && participants[1].get("removedState").is_some()
        );
        assert_eq!(participants[1]["rosterSequenceNumber"], 3);
    }

    #[test]
    fn a_rejected_call_ends_without_a_state() {
        let end = |result| terminated(&ids(), &result).pointer("/value/0/resourceData/state").cloned();
        assert_eq!(end(ResultInfo::RejectedByBot), None);
        assert_eq!(end(ResultInfo::OtherSideEnded), Some("terminated".into()));
    }
}
