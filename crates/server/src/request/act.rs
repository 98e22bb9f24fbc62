//! Actions: an instance replies to a notification with what it wants done, and the gateway asks Graph for it.
//!
//! This file has the action on a new call, `in_call` those in an established one.

mod action_body;
mod call_order;
mod failure;
mod in_call;

use std::{fmt, future::Future, sync::Arc, time::SystemTime};

use http::{HeaderValue, header::CONTENT_TYPE};
use switchboard_delivery::{TraceParent, UpstreamResponse};
use switchboard_graph::{
    ACTION_CONTENT_TYPE, Action, CallbackUri, Calls, GraphCallId, GraphError, Reject, RejectReason,
};
use switchboard_routing::{Name, Owner};
use tokio::{sync::oneshot, time::Instant};
use uuid::Uuid;

use self::failure::{ActionFailure, notify_failure};
pub(crate) use self::{
    call_order::CallOrder,
    in_call::{Notified, relay_or_act, start},
};
use crate::{
    clients::graph_calls::RESPONSE_MARGIN,
    gateway::Gateway,
    request::{
        outcome::Outcome,
        reason::Reason,
        refusal::Refusal,
        reply::Reply,
        retries::{ActionResult, Leader, SharedResponse},
    },
    traces::in_span,
};

/// A new call, for what is done with it after an instance has responded.
#[derive(Clone, Debug)]
pub(crate) struct NewCall {
    pub(crate) app: Uuid,
    pub(crate) tenant: Uuid,
    pub(crate) call_id: Box<str>,
    /// The time at which the platform gives the call up.
    pub(crate) deadline: Instant,
    pub(crate) now: SystemTime,
    /// The span of the request.
    pub(crate) span: Option<TraceParent>,
}

impl NewCall {
    /// The time by which Graph must have responded.
    fn until(&self) -> Instant {
        self.deadline.checked_sub(RESPONSE_MARGIN).unwrap_or(self.deadline)
    }
}

/// True if the response of an instance is an action.
pub(crate) fn is_action(response: &UpstreamResponse) -> bool {
    let is_action_type = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(ACTION_CONTENT_TYPE.as_bytes())
    };
    response.status.is_success() && response.headers.get(CONTENT_TYPE).is_some_and(is_action_type)
}

/// Carries out the action with which an instance replied to a new call. Takes `leader` once the action
/// starts.
pub(crate) async fn act(
    gateway: &Arc<Gateway>,
    response: UpstreamResponse,
    call: NewCall,
    leader: &mut Option<Leader>,
) -> Result<Arc<SharedResponse>, Refusal> {
    // The instance that responded. Another incarnation may have its name by now.
    let owner = Owner {
        region: gateway.region.clone(),
        instance: response.instance,
        incarnation: response.incarnation,
    };
    let invalid = |reason: &'static str, problem: &dyn fmt::Display| {
        gateway.metrics.action("unknown", reason);
        tracing::error!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            call.id = &*call.call_id,
            reason,
            problem = %problem,
            "cannot do the action that an instance replied with"
        );
        Refusal::labelled(Outcome::BadAction, reason)
    };
    let Some(calls) = gateway.graph_calls.of(call.app) else {
        return Err(invalid("graph_not_configured", &"the app has no [app.graph]"));
    };
    let body = action_body::read(response.body, call.until()).await;
    let body = body.map_err(|error| invalid(error.label(), &error))?;
    let action = Action::parse(&body).map_err(|error| invalid(error.label(), &error))?;
    if gateway.delivery.owner(owner.instance.as_str()).as_ref() != Some(&owner) {
        return Err(invalid("instance_gone", &"the instance has left the fleet in the meantime"));
    }
    let call_id = GraphCallId::parse(&call.call_id).map_err(|error| invalid("call_id", &error))?;
    let callback = CallbackUri::parse(&gateway.callbacks.mint(&owner, call.app))
        .map_err(|error| invalid("callback_uri", &error))?;
    let task = ActionTask {
        gateway: Arc::clone(gateway),
        calls: Arc::clone(calls),
        call,
        call_id,
        action,
        callback,
        owner,
    };
    let call = task.call.clone();
    run_detached(gateway, leader, call, task.run()).await
}

/// Rejects a call that no instance took as busy. `refusal` is the response if Graph cannot be asked.
pub(crate) async fn reject_as_busy(
    gateway: &Arc<Gateway>,
    call: NewCall,
    leader: &mut Option<Leader>,
    refusal: Refusal,
) -> Result<Arc<SharedResponse>, Refusal> {
    let calls = gateway.graph_calls.of(call.app).map(Arc::clone);
    let (Some(calls), Ok(call_id)) = (calls, GraphCallId::parse(&call.call_id)) else { return Err(refusal) };
    let detached = call.clone();
    let metrics = Arc::clone(&gateway.metrics);
    let work = async move {
        let reject = Reject { reason: RejectReason::Busy };
        let rejected = calls.reject(call.tenant, &call_id, reject, None, call.until(), call.now).await;
        let result = ActionResult::of("reject_as_busy", &rejected);
        metrics.action(result.action, result.result);
        let reply = match rejected {
            Ok(()) => Ok(Reply::Accepted { outcome: Outcome::RejectedAsBusy }),
            Err(error) => {
                tracing::error!(
                    call.id = &*call.call_id,
                    tenant.id = %call.tenant,
                    reason = error.label(),
                    error = %error,
                    "cannot reject a call that no instance took"
                );
                Err(refusal)
            }
        };
        shared_response(reply, None, result)
    };
    run_detached(gateway, leader, detached, work).await
}

/// Runs `work` in a task of its own. A client that hangs up does not cancel it, and the retries get its
/// response.
async fn run_detached(
    gateway: &Gateway,
    leader: &mut Option<Leader>,
    call: NewCall,
    work: impl Future<Output = SharedResponse> + Send + 'static,
) -> Result<Arc<SharedResponse>, Refusal> {
    // The limit on requests in flight does not bound tasks that outlive their requests.
    if gateway.tasks.in_flight() >= gateway.limits.in_flight {
        return Err(Refusal::new(Reason::TooManyInFlight));
    }
    let leader = leader.take();
    let (sender, response) = oneshot::channel();
    gateway.tasks.spawn(async move {
        let response = Arc::new(in_span(call.span, work).await);
        if let Some(leader) = leader {
            leader.responded(SharedResponse::clone(&response));
        }
        if let Err(response) = sender.send(response) {
            tracing::info!(
                call.id = &*call.call_id,
                instance = response.instance_name().map(Name::as_str),
                action = response.action().map(|result| result.action),
                action_result = response.action().map(|result| result.result),
                "the platform hung up before the action was done"
            );
        }
    });
    response.await.map_err(|_| Refusal::new(Reason::Panic))
}

/// A valid action, with everything that carrying it out takes.
struct ActionTask {
    gateway: Arc<Gateway>,
    calls: Arc<Calls>,
    call: NewCall,
    call_id: GraphCallId,
    action: Action,
    callback: CallbackUri,
    owner: Owner,
}

impl ActionTask {
    async fn run(self) -> SharedResponse {
        let Self { gateway, calls, call, call_id, action, callback, owner } = self;
        let done = calls.act(call.tenant, &call_id, &action, &callback, call.until(), call.now).await;
        let result = ActionResult::of(action.name(), &done);
        gateway.metrics.action(result.action, result.result);
        let (instance, incarnation) = (owner.instance.clone(), owner.incarnation.clone());
        match done {
            // No callback will report the end of this call.
            Ok(()) if matches!(action, Action::Reject(_) | Action::Redirect(_)) => {
                gateway.delivery.calls_ended(instance.as_str(), [&call.call_id]);
            }
            Ok(()) => {}
            Err(error) => {
                tracing::error!(
                    instance = instance.as_str(),
                    incarnation = owner.incarnation.as_str(),
                    call.id = &*call.call_id,
                    tenant.id = %call.tenant,
                    action = action.name(),
                    reason = error.label(),
                    error = %error,
                    "Graph did not do the action of an instance"
                );
                let failure = ActionFailure {
                    app: call.app,
                    tenant: call.tenant,
                    call_id: Some(call.call_id),
                    action: action.name(),
                    index: None,
                    client_context: None,
                    error: (&error).into(),
                    span: call.span,
                };
                // In a task of its own: the response to the platform does not wait for it.
                let tasks = Arc::clone(&gateway.tasks);
                tasks.spawn(async move {
                    // An action in the response of the instance has no call to act on: it is not answered.
                    notify_failure(&gateway, &owner, failure).await;
                });
            }
        }
        shared_response(
            Ok(Reply::Accepted { outcome: Outcome::Acted }),
            Some((instance, incarnation)),
            result,
        )
    }
}

/// The response to all requests of a message.
fn shared_response(
    reply: Result<Reply, Refusal>,
    instance: Option<(Name, Name)>,
    result: ActionResult,
) -> SharedResponse {
    let (outcome, reason) = match &reply {
        Ok(reply) => (reply.outcome(), None),
        Err(refusal) => (refusal.outcome, Some(refusal.reason)),
    };
    let response = reply.map_or_else(Refusal::into_response, Reply::into_response);
    SharedResponse::new(&response, outcome, reason, instance).with_action(result)
}

impl ActionResult {
    fn of(action: &'static str, done: &Result<(), GraphError>) -> Self {
        Self { action, result: done.as_ref().map_or_else(GraphError::label, |()| "ok") }
    }
}
