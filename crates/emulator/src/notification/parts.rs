//! The parts that several bodies share.

use serde_json::{Map, Value, json};

use super::ids::CallIds;
use crate::{
    call::{CallKind, CallRequest},
    participant::{Identity, IdentityKind},
};

/// The document of one notification. `below` is the path below the call; `change_type` is `created`,
/// `updated` or `deleted`.
pub(super) fn item(change_type: &str, ids: &CallIds, below: &str, resource_data: Value) -> Value {
    let mut item = object(json!({
        "@odata.type": "#microsoft.graph.commsNotification",
        "changeType": change_type,
        "resource": format!("/app/calls/{}{below}", ids.call),
        "resourceUrl": format!("/communications/calls/{}{below}", ids.call),
    }));
    item.insert("resourceData".to_owned(), resource_data);
    json!({"@odata.type": "#microsoft.graph.commsNotifications", "value": [item]})
}

/// The identity of the caller: a telephone number or a user.
pub(crate) fn source_identity(call: &CallRequest, ids: &CallIds) -> Identity {
    match call.kind {
        CallKind::Pstn => Identity { kind: IdentityKind::Phone, id: CALLER_NUMBER.to_owned(), name: None },
        CallKind::P2p | CallKind::Group | CallKind::Meeting | CallKind::Recording => {
            Identity { name: None, ..Identity::user(ids.caller) }
        }
    }
}

/// One identity of a tenant.
pub(super) fn identity(id: &str, tenant: &str) -> Value {
    json!({"@odata.type": "#microsoft.graph.identity", "id": id, "tenantId": tenant})
}

/// The result of a call or of an operation.
pub(super) fn result_info(code: u32, subcode: u32, message: &str) -> Value {
    json!({
        "@odata.type": "#microsoft.graph.resultInfo",
        "code": code,
        "subcode": subcode,
        "message": message,
    })
}

/// The members of a JSON object; none for any other value.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

/// A telephone number that is reserved for fiction (NANP 555-01XX).
pub(super) const CALLER_NUMBER: &str = "+12025550123";
