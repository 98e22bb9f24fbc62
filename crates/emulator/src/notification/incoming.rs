//! The bodies of a new call, legacy and Graph.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    ids::CallIds,
    parts::{CALLER_NUMBER, identity, item, object, source_identity},
};
use crate::call::{CallKind, CallRequest};

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
    item("created", ids, "", Value::Object(incoming_call(call, ids)))
}

/// The call as it is before the bot answers.
fn incoming_call(call: &CallRequest, ids: &CallIds) -> Map<String, Value> {
    let tenant = call.tenant.to_string();
    let mut source = object(json!({
        "@odata.type": "#microsoft.graph.participantInfo",
        "identity": source_identity(call, ids).to_json(&tenant),
        "endpointType": "default",
        "region": call.region.label(),
        "languageId": "en-us",
        "id": ids.caller_participant.to_string(),
    }));
    if let Some(country) = &call.country {
        source.insert("countryCode".to_owned(), country.as_str().into());
    }
    // A recording policy addresses an application instance, as a call to a resource account does. Other calls
    // address the app itself.
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

/// The body that announces another user of the recording policy. The bot's response says whether it records
/// them too.
///
/// Microsoft publishes no example of this notification. The shape is the one of the Graph reference
/// ("participantJoiningNotification"). As `updated` on the call it reaches the handler of the calling SDK; as
/// `created` on the call it does not.
pub(crate) fn joining(call: &CallRequest, ids: &CallIds, user: Uuid, participant: Uuid) -> Value {
    let observed = CallIds { caller: user, caller_participant: participant, ..*ids };
    let resource = json!({
        "@odata.type": "#microsoft.graph.participantJoiningNotification",
        "id": ids.call.to_string(),
        "call": incoming_call(call, &observed),
    });
    item("updated", ids, "", resource)
}

/// The members that a recording policy adds: the recorded user, the policy and the region of the media.
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

fn thread(kind: CallKind, ids: &CallIds) -> Option<String> {
    match kind {
        CallKind::Group => Some(format!("19:{}@thread.v2", ids.chain.simple())),
        CallKind::Meeting => Some(format!("19:meeting_{}@thread.v2", ids.chain.simple())),
        CallKind::P2p | CallKind::Recording | CallKind::Pstn => None,
    }
}
