//! Actions: what an instance replies that it wants done with a new call, done through Graph.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use openssl::{
    error::ErrorStack,
    ssl::{SslConnector, SslMethod},
};
use switchboard_delivery::{Outbound, UpstreamBody, UpstreamBodyError, UpstreamResponse};
use switchboard_graph::{
    Action, CallbackUri, Calls, GraphCallId, GraphError, GraphSettings, Reject, RejectReason, Transport,
};
use switchboard_routing::{Name, Owner};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use crate::{
    clients::graph::GraphTransport,
    gateway::Gateway,
    request::{
        outcome::Outcome,
        reply::{Refusal, Reply},
        retries::{ActionResult, Kept, Lead},
    },
};

/// The calls API of the apps that let the gateway act.
#[derive(Debug)]
pub(crate) struct Actor {
    calls: HashMap<Uuid, Arc<Calls>>,
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
    pub(crate) fn new(settings: Vec<(Uuid, GraphSettings)>) -> Result<Self, ErrorStack> {
        let transport: Arc<dyn Transport> =
            Arc::new(GraphTransport::new(SslConnector::builder(SslMethod::tls_client())?)?);
        let calls = |(app, settings)| (app, Arc::new(Calls::new(settings, Arc::clone(&transport))));
        Ok(Self { calls: settings.into_iter().map(calls).collect() })
    }

    /// The longest that a request may take to be acted on; none if nothing ever is.
    pub(crate) fn longest(&self) -> Duration {
        if self.calls.is_empty() { Duration::ZERO } else { CALL_LIMIT.saturating_sub(MARGIN) }
    }
}

impl NewCall {
    /// Graph must have answered a moment before the platform gives up.
    fn until(&self) -> Instant {
        self.deadline.checked_sub(MARGIN).unwrap_or(self.deadline)
    }
}

/// Whether an answer is an action.
pub(crate) fn is_action(answer: &UpstreamResponse) -> bool {
    let essence = |value: &HeaderValue| {
        let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        essence.eq_ignore_ascii_case(switchboard_graph::ACTION_CONTENT_TYPE.as_bytes())
    };
    answer.status.is_success() && answer.headers.get(CONTENT_TYPE).is_some_and(essence)
}

/// An instance's answer to anything but a new call. An action there changes nothing for the platform: the notification
/// was accepted.
pub(crate) fn without_action(app: &Gateway, answer: UpstreamResponse, outcome: Outcome) -> Reply {
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

/// Does what an instance replied to a new call. `lead` is taken once there is no way back.
pub(crate) async fn act(
    app: &Arc<Gateway>,
    answer: UpstreamResponse,
    call: NewCall,
    lead: &mut Option<Lead>,
) -> Result<Arc<Kept>, Refusal> {
    // Who answered, and not who has its name by now.
    let owner =
        Owner { region: app.region.clone(), instance: answer.instance, incarnation: answer.incarnation };
    let cannot = |reason: &'static str, problem: &dyn fmt::Display| {
        app.metrics.action("unknown", reason);
        tracing::error!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
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
    let body = read(answer.body, call.until()).await.map_err(|error| cannot(error.label(), &error))?;
    let action = Action::parse(&body).map_err(|error| cannot(error.label(), &error))?;
    if app.delivery.owner(owner.instance.as_str()).as_ref() != Some(&owner) {
        return Err(cannot("instance_gone", &"the instance has left the fleet meanwhile"));
    }
    let call_id = GraphCallId::parse(&call.call_id).map_err(|error| cannot("call_id", &error))?;
    let callback = CallbackUri::parse(&app.callbacks.mint(&owner, call.app))
        .map_err(|error| cannot("callback_uri", &error))?;
    let order =
        Order { app: Arc::clone(app), calls: Arc::clone(calls), call, call_id, action, callback, owner };
    apart(app, lead, order.call.call_id.clone(), order.carry_out()).await
}

/// Tells the caller of a call that found no instance that the line is busy. No instance is told what becomes of the call.
/// `refusal` is the answer where that cannot be done.
pub(crate) async fn reject_as_busy(
    app: &Arc<Gateway>,
    call: NewCall,
    lead: &mut Option<Lead>,
    refusal: Refusal,
) -> Result<Arc<Kept>, Refusal> {
    let calls = app.actor.calls.get(&call.app).map(Arc::clone);
    let (Some(calls), Ok(call_id)) = (calls, GraphCallId::parse(&call.call_id)) else { return Err(refusal) };
    let call_id_text = call.call_id.clone();
    let metrics = Arc::clone(&app.metrics);
    let work = async move {
        let reject = Reject { reason: RejectReason::Busy };
        let rejected = calls.reject(call.tenant, &call_id, reject, None, call.until(), call.now).await;
        let acted = ActionResult::of("reject_as_busy", &rejected);
        metrics.action(acted.action, acted.result);
        let answer = match rejected {
            Ok(()) => Ok(Reply::Accepted { outcome: Outcome::RejectedAsBusy }),
            Err(error) => {
                tracing::error!(
                    call.id = &*call.call_id,
                    tenant.id = %call.tenant,
                    reason = error.label(),
                    error = %error,
                    "a call that found no instance cannot be rejected"
                );
                Err(refusal)
            }
        };
        kept(answer, None, acted)
    };
    apart(app, lead, call_id_text, work).await
}

/// Runs `work` apart from the request: whoever hangs up cancels nothing, and the retries get its answer.
async fn apart(
    app: &Gateway,
    lead: &mut Option<Lead>,
    call_id: Box<str>,
    work: impl Future<Output = Kept> + Send + 'static,
) -> Result<Arc<Kept>, Refusal> {
    // The limit on requests does not bound what outlives them.
    if app.tasks.under_way() >= app.limits.in_flight {
        return Err(Refusal::new(Outcome::OverCapacity, "too_many_in_flight"));
    }
    let lead = lead.take();
    let (sender, answer) = oneshot::channel();
    app.tasks.spawn(async move {
        let kept = Arc::new(work.await);
        if let Some(lead) = lead {
            lead.answered(Arc::clone(&kept));
        }
        if let Err(kept) = sender.send(kept) {
            tracing::info!(
                call.id = &*call_id,
                instance = kept.instance.as_ref().map(Name::as_str),
                action = kept.action.map(|acted| acted.action),
                action_result = kept.action.map(|acted| acted.result),
                "the platform hung up before its call was acted on"
            );
        }
    });
    answer.await.map_err(|_| Refusal::new(Outcome::Panicked, "panic"))
}

/// An action that can be done, and all that it takes.
struct Order {
    app: Arc<Gateway>,
    calls: Arc<Calls>,
    call: NewCall,
    call_id: GraphCallId,
    action: Action,
    callback: CallbackUri,
    owner: Owner,
}

impl Order {
    async fn carry_out(self) -> Kept {
        let Self { app, calls, call, call_id, action, callback, owner } = self;
        let done = calls.act(call.tenant, &call_id, &action, &callback, call.until(), call.now).await;
        let acted = ActionResult::of(action.name(), &done);
        app.metrics.action(acted.action, acted.result);
        let instance = owner.instance.clone();
        match done {
            // Nobody else tells that the place is free again.
            Ok(()) if matches!(action, Action::Reject(_) | Action::Redirect(_)) => {
                app.delivery.call_ended(instance.as_str(), &call.call_id);
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
                    "Graph did not do what an instance asked for"
                );
                // The platform has its answer without waiting for this one.
                let tasks = Arc::clone(&app.tasks);
                tasks.spawn(tell(app, owner, call, action.name(), error));
            }
        }
        kept(Ok(Reply::Accepted { outcome: Outcome::Acted }), Some(instance), acted)
    }
}

/// The answer to all requests of a message.
fn kept(answer: Result<Reply, Refusal>, instance: Option<Name>, acted: ActionResult) -> Kept {
    let (outcome, reason) = match &answer {
        Ok(reply) => (reply.outcome(), None),
        Err(refusal) => (refusal.outcome, Some(refusal.reason)),
    };
    let response = answer.map_or_else(Refusal::into_response, Reply::into_response);
    Kept::new(&response, outcome, reason, instance).with_action(acted)
}

/// The whole of an action.
async fn read(body: UpstreamBody, until: Instant) -> Result<Bytes, Unread> {
    let collected = timeout_at(until, Limited::new(body, ACTION_BYTES_MAX).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(error)) => match error.downcast_ref() {
            Some(UpstreamBodyError::TooSlow) => Err(Unread::TooSlow),
            Some(UpstreamBodyError::TooLarge { .. }) => Err(Unread::TooLarge),
            Some(UpstreamBodyError::CutOff) | None => Err(Unread::BrokenOff),
        },
        Err(_) => Err(Unread::TooSlow),
    }
}

/// Why an action could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unread {
    #[error("it has more than {ACTION_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it was not complete in time")]
    TooSlow,
    #[error("it broke off")]
    BrokenOff,
}

impl Unread {
    fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "action_too_large",
            Self::TooSlow => "action_too_slow",
            Self::BrokenOff => "action_broken_off",
        }
    }
}

impl ActionResult {
    fn of(action: &'static str, done: &Result<(), GraphError>) -> Self {
        Self { action, result: done.as_ref().map_or_else(GraphError::label, |()| "ok") }
    }
}

/// Posts to the instance, as a callback, that its action failed.
async fn tell(app: Arc<Gateway>, owner: Owner, call: NewCall, action: &'static str, error: GraphError) {
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
    let told = app.delivery.forward(&app.tasks.connections, outbound, owner.as_ref()).await;
    if let Err(error) = told {
        tracing::warn!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            error = %error,
            "an instance cannot be told that its action failed"
        );
    }
}

/// What an instance is told in; docs/actions.md has its shape.
const FAILURE_CONTENT_TYPE: &str = "application/vnd.switchboard.action-failed+json";
/// An action with a media blob has some kilobytes.
const ACTION_BYTES_MAX: usize = 64 * 1024;
/// For our own answer to reach the platform before it gives the call up.
const MARGIN: Duration = Duration::from_millis(500);
/// A call must be answered within 15 s (Microsoft Graph, call: answer).
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(15);
/// A policy-recorded call within 5 s (the same document).
pub(crate) const RECORDING_LIMIT: Duration = Duration::from_secs(5);
