//! An operation: the resource at Graph, and the notification about it.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ids::CallIds,
    parts::{item, object, result_info},
};
use crate::operation::{Operation, OperationKind, OperationStatus};

/// The resource of an operation (Graph reference, "commsOperation").
pub(crate) fn operation_resource(call: Uuid, operation: &Operation) -> Value {
    let Operation { id, kind, client_context, status, result, recording } = operation;
    let mut resource = object(json!({
        "@odata.type": kind.odata_type(),
        "@odata.id": format!("/communications/calls/{call}/operations/{id}"),
        "id": id.to_string(),
        "clientContext": client_context,
        "status": status.label(),
        "resultInfo": result.as_ref().map(|result| result_info(result.code, result.subcode, &result.message)),
    }));
    if let Some(reason) = result.as_ref().and_then(|result| result.reason) {
        resource.insert("completionReason".to_owned(), reason.into());
    }
    if *kind == OperationKind::RecordResponse {
        let (location, token) = match (recording, status) {
            (Some(recording), _) => {
                (recording.location.as_str().into(), recording.access_token.as_str().into())
            }
            (None, OperationStatus::Running) => (Value::Null, Value::Null),
            (None, OperationStatus::Completed | OperationStatus::Failed) => ("".into(), "".into()),
        };
        resource.insert("recordingLocation".to_owned(), location);
        resource.insert("recordingAccessToken".to_owned(), token);
    }
    Value::Object(resource)
}

/// The body that reports an operation: `deleted` if it has ended, `updated` if it goes on.
pub(crate) fn operation(ids: &CallIds, operation: &Operation) -> Value {
    let change = match operation.status {
        OperationStatus::Running => "updated",
        OperationStatus::Completed | OperationStatus::Failed => "deleted",
    };
    let below = format!("/operations/{}", operation.id);
    item(change, ids, &below, operation_resource(ids.call, operation))
}
