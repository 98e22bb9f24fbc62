//! What the platform posts: the bodies of a call's life, legacy and Graph.
//!
//! The shapes follow the Graph reference ("commsNotifications", "call") and real traffic: later notifications carry
//! both `resource` and `resourceUrl` and no `id`; the first one carries everything.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::call::{CallKind, CallRequest};

/// The ids of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallIds {
    pub(crate) call: Uuid,
    pub(crate) chain: Uuid,
    pub(crate) scenario: Uuid,
    pub(crate) caller: Uuid,
    pub(crate) caller_participant: Uuid,
    pub(crate) bot_participant: Uuid,
    pub(crate) operation: Uuid,
}

/// How a call ended, as `resultInfo` says it (Graph reference, "call: delete").
#[derive(Clone, Copy, Debug)]
pub(crate) enum ResultInfo {
    OtherSideEnded,
    EndedByBot,
    NotAnswered,
    RejectedByBot,
}

impl ResultInfo {
    fn to_json(self) -> Value {
        let (code, subcode, message) = match self {
            Self::OtherSideEnded => (200, 4_521, "The other side ended the call."),
            Self::EndedByBot => (200, 10_550, "The call was ended by the bot."),
            Self::NotAnswered => (408, 8_544, "Callee could not be reached."),
            Self::RejectedByBot => (603, 0, "The call was rejected."),
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
    item("created", ids, "", Some(Value::Object(resource)))
}

/// A change of the call's state; the smallest shape seen on the wire.
pub(crate) fn state(ids: &CallIds, state: &str) -> Value {
    item("updated", ids, "", Some(json!({"@odata.type": "#microsoft.graph.call", "state": state})))
}

/// The roster: the caller and the bot.
pub(crate) fn roster(call: &CallRequest, ids: &CallIds) -> Value {
    let participant = |id: Uuid, identity: Value| {
        json!({
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
            "id": id.to_string(),
        })
    };
    let bot = json!({
        "@odata.type": "#microsoft.graph.identitySet",
        "application": identity(&call.app.to_string(), &call.tenant.to_string()),
    });
    let participants = json!([
        participant(ids.caller_participant, source_identity(call, ids)),
        participant(ids.bot_participant, bot),
    ]);
    item("updated", ids, "/participants", Some(participants))
}

/// The operation of a recording bot that announced its recording: finished, hence `deleted`.
pub(crate) fn recording_status_operation(ids: &CallIds) -> Value {
    let operation = ids.operation;
    let resource = json!({
        "@odata.type": "#microsoft.graph.updateRecordingStatusOperation",
        "@odata.id": format!("/communications/calls/{}/operations/{operation}", ids.call),
        "id": operation.to_string(),
        "clientContext": ids.scenario.to_string(),
        "status": "completed",
        "resultInfo": {"@odata.type": "#microsoft.graph.resultInfo", "code": 200, "subcode": 0, "message": ""},
    });
    item("deleted", ids, &format!("/operations/{operation}"), Some(resource))
}

/// The end of the call.
pub(crate) fn terminated(ids: &CallIds, result: ResultInfo) -> Value {
    let mut resource =
        object(json!({"@odata.type": "#microsoft.graph.call", "resultInfo": result.to_json()}));
    match result {
        // After a reject the published sample has no state.
        ResultInfo::RejectedByBot => {}
        ResultInfo::OtherSideEnded | ResultInfo::EndedByBot | ResultInfo::NotAnswered => {
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
            operation: id(7),
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
    fn a_rejected_call_ends_without_a_state() {
        let end = |result| terminated(&ids(), result).pointer("/value/0/resourceData/state").cloned();
        assert_eq!(end(ResultInfo::RejectedByBot), None);
        assert_eq!(end(ResultInfo::OtherSideEnded), Some("terminated".into()));
    }
}
