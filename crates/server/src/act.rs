//! Actions: what an instance replies that it wants done with a new call, done through Graph.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod},
};
use switchboard_delivery::{Answer, Connections, Outbound};
use switchboard_graph::{
    Action, CallId, CallbackUri, Calls, Error, Reject, RejectReason, Settings, Transport,
};
use switchboard_routing::Owner;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::{
    app::App,
    graph::GraphTransport,
    outcome::Outcome,
    reply::{Refusal, Reply},
};

/// The calls API of the apps that let the gateway act.
#[derive(Debug)]
pub(crate) struct Actor {
    calls: HashMap<Uuid, Calls>,
}

/// A new call, for what is done with it once an instance has answered.
#[derive(Clone, Debug)]
pub(crate) struct NewCall {
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) call_id: Box<str>,
    /// When the platform gives the call up.
    pub(crate) deadline: Instant,
    pub(crate) now: SystemTime,
}

impl Actor {
    pub(crate) fn new(settings: Vec<(Uuid, Settings)>) -> Result<Self, ErrorStack> {
        let transport: Arc<dyn Transport> =
            Arc::new(GraphTransport::new(SslConnector::builder(SslMethod::tls_client())?)?);
        let calls = |(app, settings)| (app, Calls::new(settings, Arc::clone(&transport)));
        Ok(Self { calls: settings.into_iter().map(calls).collect() })
    }

    /// Tells the caller that the line is busy; true if Graph has done so. No instance is told what becomes of the call.
    pub(crate) async fn reject_as_busy(&self, app: &App, call: &NewCall) -> bool {
        let Some(calls) = self.calls.get(&call.app) else { return false };
        let Ok(call_id) = CallId::parse(&call.call_id) else { return false };
        let reject = Reject { reason: RejectReason::Busy };
        let rejected = calls.reject(call.tenant, &call_id, reject, None, call.until(), call.now).await;
        app.metrics.action("reject_as_busy", rejected.as_ref().map_or_else(Error::label, |()| "ok"));
        if let Err(error) = &rejected {
            tracing::error!(call.id = &*call.call_id, error = %error, "a call that found no instance cannot be rejected");
        }
        rejected.is_ok()
    }
}

impl NewCall {
    /// Graph must have answered a moment before the platform gives up.
    fn until(&self) -> Instant {
        self.deadline.checked_sub(MARGIN).unwrap_or(self.deadline)
    }
}

/// Whether an answer is an action.
pub(crate) fn is_action(answer: &Answer) -> bool {
    let essence = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(switchboard_graph::CONTENT_TYPE.as_bytes())
    };
    answer.status.is_success() && answer.headers.get(CONTENT_TYPE).is_some_and(essence)
}

/// An instance's answer to anything but a new call. An action there changes nothing for the platform: the notification
/// was accepted.
pub(crate) fn without_action(app: &App, answer: Answer, outcome: Outcome) -> Reply {
    if is_action(&answer) {
        app.metrics.action("misplaced", "ignored");
        tracing::error!(
            instance = answer.instance.as_str(),
            "an action was the reply to something else than a new call; nothing was done"
        );
        return Reply::Accepted { outcome };
    }
    Reply::Relay { answer: Box::new(answer), outcome }
}

/// An instance's answer to a new call: relayed as it is, or the action done that it asks for.
pub(crate) async fn settle(
    app: &Arc<App>,
    connections: &Arc<Connections>,
    answer: Answer,
    call: NewCall,
) -> Result<Reply, Refusal> {
    if !is_action(&answer) {
        return Ok(Reply::Relay { answer: Box::new(answer), outcome: Outcome::Placed });
    }
    let instance = answer.instance.clone();
    let cannot = |reason: &'static str, problem: &dyn fmt::Display| {
        app.metrics.action("unknown", reason);
        tracing::error!(
            instance = instance.as_str(),
            call.id = &*call.call_id,
            reason,
            problem = %problem,
            "an instance replied with an action that cannot be done"
        );
        Refusal::new(Outcome::BadAction, reason)
    };
    let Some(calls) = app.actor.calls.get(&call.app) else {
        return Err(cannot("graph_not_configured", &"the app has no [app.graph]"));
    };
    let read = timeout_at(call.until(), Limited::new(answer.body, ACTION_BYTES_MAX).collect()).await;
    let Ok(Ok(body)) = read else {
        return Err(cannot("action_broken_off", &"it is too large, too slow or breaks off"));
    };
    let action = Action::parse(&body.to_bytes()).map_err(|error| cannot(error.label(), &error))?;
    let owner = app.delivery.owner(instance.as_str());
    let target = owner.as_ref().and_then(|owner| {
        let callback = CallbackUri::parse(&app.callbacks.mint(owner, call.app)).ok()?;
        Some((CallId::parse(&call.call_id).ok()?, callback))
    });
    let (Some(owner), Some((call_id, callback))) = (owner, target) else {
        return Err(cannot("instance_gone", &"the instance has left the fleet meanwhile"));
    };
    let acted = calls.act(call.tenant, &call_id, &action, &callback, call.until(), call.now).await;
    app.metrics.action(action.name(), acted.as_ref().map_or_else(Error::label, |()| "ok"));
    if acted.is_ok() && matches!(action, Action::Reject(_) | Action::Redirect(_)) {
        // Nobody else tells that the place is free again.
        app.delivery.call_ended(instance.as_str(), &call.call_id);
    }
    if let Err(error) = acted {
        tracing::error!(
            instance = instance.as_str(),
            call.id = &*call.call_id,
            tenant.id = %call.tenant,
            action = action.name(),
            reason = error.label(),
            error = %error,
            "Graph did not do what an instance asked for"
        );
        // The platform has its answer without waiting for this one.
        tokio::spawn(tell(Arc::clone(app), Arc::clone(connections), owner, call, action.name(), error));
    }
    Ok(Reply::Accepted { outcome: Outcome::Acted })
}

/// Posts to the instance, as a callback, that its action failed.
async fn tell(
    app: Arc<App>,
    connections: Arc<Connections>,
    owner: Owner,
    call: NewCall,
    action: &'static str,
    error: Error,
) {
    let body = serde_json::json!({
        "action": action,
        "callId": &*call.call_id,
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
        app: call.app,
        tenant: call.tenant,
        call_id: Some(call.call_id),
        deadline_unix_ms: None,
        arrived: Instant::now(),
    };
    let told = app.delivery.forward(&connections, outbound, owner.as_ref()).await;
    if let Err(error) = told {
        tracing::warn!(instance = owner.instance.as_str(), error = %error, "an instance cannot be told that its action failed");
    }
}

/// What an instance is told in; docs/actions.md has its shape.
const FAILURE_CONTENT_TYPE: &str = "application/vnd.switchboard.action-failed+json";
/// An action with a media blob has some kilobytes.
const ACTION_BYTES_MAX: usize = 64 * 1024;
/// For our own answer to reach the platform before it gives the call up.
const MARGIN: Duration = Duration::from_millis(500);
