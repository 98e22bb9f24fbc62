//! Bodies that the platform posts.

use serde_json::{Value, json};

/// A new call.
pub(crate) fn incoming(call_id: &str) -> String {
    incoming_from(call_id, "emea")
}

/// A new call of a caller in `region`.
pub(crate) fn incoming_from(call_id: &str, region: &str) -> String {
    envelope(&[incoming_item(call_id, region)])
}

/// A new call for a recording policy: the bot must answer it within 5 s.
pub(crate) fn recording(call_id: &str) -> String {
    let mut item = incoming_item(call_id, "emea");
    item["resourceData"]["incomingContext"] = json!({
        "@odata.type": "#microsoft.graph.incomingContext",
        "observedParticipantId": "5810cede-f3cc-42eb-b2c1-e9bd5d53ec96",
        "sourceParticipantId": "5810cede-f3cc-42eb-b2c1-e9bd5d53ec96",
    });
    envelope(&[item])
}

pub(crate) fn incoming_item(call_id: &str, region: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": "created",
        "resource": format!("/app/calls/{call_id}"),
        "resourceUrl": format!("/communications/calls/{call_id}"),
        "resourceData": {
            "@odata.type": "#microsoft.graph.call",
            "state": "incoming",
            "direction": "incoming",
            "callChainId": format!("chain-{call_id}"),
            "source": {
                "@odata.type": "#microsoft.graph.participantInfo",
                "region": region,
                "identity": { "user": { "id": "112f7296-5fa4-42ca-bae8-6a692b15d4b8" } },
            },
            "tenantId": super::TENANT,
        },
    })
}

/// A later change of a call's state.
pub(crate) fn updated(call_id: &str, state: &str) -> String {
    envelope(&[updated_item(call_id, state)])
}

pub(crate) fn updated_item(call_id: &str, state: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": "updated",
        "resource": format!("/app/calls/{call_id}"),
        "resourceUrl": format!("/communications/calls/{call_id}"),
        "resourceData": { "@odata.type": "#microsoft.graph.call", "state": state },
    })
}

/// An item that is not about a call.
pub(crate) fn other_item() -> Value {
    json!({ "changeType": "updated", "resource": "/communications/presences/1", "resourceData": {} })
}

pub(crate) fn envelope(items: &[Value]) -> String {
    json!({ "@odata.type": "#microsoft.graph.commsNotifications", "value": items }).to_string()
}

/// An incoming call of the legacy protocol.
pub(crate) fn legacy() -> String {
    json!({
        "id": "24701998-1a73-4d42-8085-bf46ed0ae039",
        "participants": [{ "identity": "8:orgid:112f7296-5fa4-42ca-bae8-6a692b15d4b8", "originator": true }],
        "isMultiparty": false,
        "presentedModalityTypes": ["audio"],
        "callState": "incoming",
        "tenantId": super::TENANT,
    })
    .to_string()
}

/// A callback of the legacy protocol.
pub(crate) fn legacy_callback() -> String {
    json!({ "id": "24701998-1a73-4d42-8085-bf46ed0ae039", "type": "rosterUpdate", "participants": [] })
        .to_string()
}
