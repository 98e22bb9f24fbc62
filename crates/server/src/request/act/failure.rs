//! The notice of a failed action to the instance that replied with it. docs/actions.md has its shape.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use switchboard_delivery::Outbound;
use switchboard_graph::GraphError;
use switchboard_routing::Owner;
use tokio::time::Instant;
use uuid::Uuid;

use crate::gateway::Gateway;

/// A failed action.
pub(super) struct ActionFailure {
    pub(super) app: Uuid,
    pub(super) tenant: Uuid,
    pub(super) call_id: Box<str>,
    pub(super) action: &'static str,
    pub(super) error: GraphError,
}

/// Posts the failure to the instance, as a callback.
pub(super) async fn notify_failure(gateway: Arc<Gateway>, owner: Owner, failure: ActionFailure) {
    let ActionFailure { app, tenant, call_id, action, error } = failure;
    let body = serde_json::json!({
        "action": action,
        "callId": &*call_id,
        "error": {
            "code": error.label(),
            "message": error.to_string(),
            "outcomeUnknown": error.is_outcome_unknown(),
        },
    });
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FAILURE_CONTENT_TYPE));
    let outbound = Outbound {
        headers,
        body: Bytes::from(body.to_string()),
        app,
        tenant,
        call_id: Some(call_id),
        deadline_unix_ms: None,
        arrived: Instant::now(),
    };
    let notified = gateway.delivery.forward(&gateway.connections, outbound, owner.as_ref()).await;
    if let Err(error) = notified {
        tracing::warn!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            error = %error,
            "cannot notify an instance that its action failed"
        );
    }
}

const FAILURE_CONTENT_TYPE: &str = "application/vnd.switchboard.action-failed+json";
