//! The notice of a failed action to the instance that replied with it. docs/actions.md has its shape.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use switchboard_delivery::{Outbound, RequestTrace, TraceParent, UpstreamResponse};
use switchboard_graph::GraphError;
use switchboard_routing::Owner;
use tokio::time::Instant;
use uuid::Uuid;

use crate::gateway::Gateway;

/// A failed action.
pub(super) struct ActionFailure {
    pub(super) app: Uuid,
    pub(super) tenant: Uuid,
    pub(super) call_id: Option<Box<str>>,
    pub(super) action: &'static str,
    /// The place of the action in its list, for an action in an established call.
    pub(super) index: Option<usize>,
    /// The `clientContext` that the bot gave.
    pub(super) client_context: Option<Box<str>>,
    pub(super) error: FailedAction,
    /// The span of the request with whose response the instance asked for the action.
    pub(super) span: Option<TraceParent>,
}

/// The error of an action, for the bot.
pub(super) struct FailedAction {
    /// A label of docs/actions.md.
    pub(super) code: &'static str,
    pub(super) message: String,
    /// True if Graph may have acted all the same.
    pub(super) outcome_unknown: bool,
}

impl From<&GraphError> for FailedAction {
    fn from(error: &GraphError) -> Self {
        Self { code: error.label(), message: error.to_string(), outcome_unknown: error.is_outcome_unknown() }
    }
}

/// Posts the failure to the instance, as a callback. Returns the response of the instance.
pub(super) async fn notify_failure(
    gateway: &Gateway,
    owner: &Owner,
    failure: ActionFailure,
) -> Option<UpstreamResponse> {
    let ActionFailure { app, tenant, call_id, action, index, client_context, error, span } = failure;
    let FailedAction { code, message, outcome_unknown } = error;
    let mut body = serde_json::json!({
        "action": action,
        "callId": call_id,
        "index": index,
        "clientContext": client_context,
        "error": { "code": code, "message": message, "outcomeUnknown": outcome_unknown },
    });
    if let Some(members) = body.as_object_mut() {
        members.retain(|_, value| !value.is_null());
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(FAILURE_CONTENT_TYPE));
    let outbound = Outbound {
        headers,
        body: Bytes::from(body.to_string()),
        app,
        tenant,
        call_id,
        deadline_unix_ms: None,
        arrived: Instant::now(),
        trace: span.map(|span| Arc::new(RequestTrace::new(span))),
    };
    let notified = gateway.delivery.forward(&gateway.connections, &outbound, owner.as_ref()).await;
    if let (Some(tracer), Some(trace)) = (&gateway.tracer, &outbound.trace) {
        tracer.attempts(trace);
    }
    notified
        .inspect_err(|error| {
            tracing::warn!(
                instance = owner.instance.as_str(),
                incarnation = owner.incarnation.as_str(),
                error = %error,
                "cannot notify an instance that its action failed"
            );
        })
        .ok()
}

const FAILURE_CONTENT_TYPE: &str = "application/vnd.switchboard.action-failed+json";
