//! Actions in an established call: an instance replies to a notification with a list of them, and the gateway
//! asks Graph for one after the other.

use std::{fmt, sync::Arc, time::SystemTime};

use switchboard_delivery::{TraceParent, UpstreamResponse};
use switchboard_graph::{Calls, GraphCallId, GraphError, InCallAction};
use switchboard_notification::Item;
use switchboard_routing::Owner;
use tokio::time::{Duration, Instant};
use uuid::Uuid;

use super::{
    action_body,
    call_order::Turn,
    failure::{ActionFailure, FailedAction, notify_failure},
    is_action,
};
use crate::{
    gateway::Gateway,
    request::{
        outcome::Outcome,
        reason::Reason,
        received::Admitted,
        record::Record,
        refusal::Refusal,
        reply::Reply,
        retries::{ActionResult, SharedResponse},
    },
    telemetry::milliseconds,
    traces::in_span,
};

/// A notification of calls that an instance has accepted, for the actions in its response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notified {
    app: Uuid,
    tenant: Uuid,
    calls: NotifiedCalls,
    arrived: Instant,
    now: SystemTime,
    /// The span of the request.
    span: Option<TraceParent>,
}

/// The calls of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NotifiedCalls {
    None,
    One,
    Several,
}

impl Notified {
    /// The notification `admitted`, which has these items.
    pub(crate) fn of(admitted: &Admitted, items: &[Item<'_>]) -> Self {
        let mut ids = items.iter().filter_map(Item::call_id);
        let calls = match ids.next() {
            None => NotifiedCalls::None,
            Some(first) if ids.all(|id| id == first) => NotifiedCalls::One,
            Some(_) => NotifiedCalls::Several,
        };
        Self {
            app: admitted.caller.app,
            tenant: admitted.caller.tenant,
            calls,
            arrived: admitted.arrived,
            now: admitted.now,
            span: admitted.span(),
        }
    }

    /// A part of the notification `admitted`, which has several owners.
    pub(crate) fn of_batch(admitted: &Admitted) -> Self {
        Self { calls: NotifiedCalls::Several, ..Self::of(admitted, &[]) }
    }

    /// The current time.
    fn now(&self) -> SystemTime {
        self.now + self.arrived.elapsed()
    }
}

/// Returns the reply for the response of an instance to a notification that is not a new call, and starts the
/// actions in it.
///
/// The platform gets 202 for actions, whatever becomes of them: the instance has accepted the notification.
pub(crate) async fn relay_or_act(
    gateway: &Arc<Gateway>,
    response: UpstreamResponse,
    notified: Notified,
    outcome: Outcome,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    if !is_action(&response) {
        return Ok(Reply::Relay { response: Box::new(response), outcome });
    }
    let instance = (response.instance.clone(), response.incarnation.clone());
    // From the start of the actions on, retries of the message must not act again. So the response is shared
    // here, without an await between: the client may hang up at each.
    // Boxed: nearly all callbacks have no actions, and would be moved about with the size of this.
    let result = Box::pin(start(gateway, response, notified, record.call_id.as_deref())).await?;
    let accepted = Reply::Accepted { outcome }.into_response();
    let shared = SharedResponse::new(&accepted, outcome, None, Some(instance)).with_action(result);
    if let Some(leader) = record.leader().take() {
        leader.responded(shared.clone());
    }
    record.acted(&shared);
    Ok(Reply::Shared(Arc::new(shared)))
}

/// Starts the actions in the response of an instance, or the notice to the instance that they cannot be done.
///
/// # Errors
///
/// The gateway has too much to do. Nothing was started.
pub(crate) async fn start(
    gateway: &Arc<Gateway>,
    response: UpstreamResponse,
    notified: Notified,
    call_id: Option<&str>,
) -> Result<ActionResult, Refusal> {
    // Each response starts one task, and the limit on requests in flight does not bound tasks that outlive
    // their requests.
    if gateway.tasks.in_flight() >= gateway.limits.in_flight {
        return Err(Refusal::new(Reason::TooManyInFlight));
    }
    let owner = Owner {
        region: gateway.region.clone(),
        instance: response.instance.clone(),
        incarnation: response.incarnation.clone(),
    };
    let read = ActionList::read(gateway, response, notified, call_id).await;
    let result = match &read {
        Ok(list) => ActionResult { action: list.name(), result: QUEUED },
        Err(invalid) => ActionResult { action: UNKNOWN, result: invalid.reason },
    };
    let call_id = call_id.map(Box::from);
    let work = run(Arc::clone(gateway), read, notified, call_id, owner);
    gateway.tasks.spawn(in_span(notified.span, work));
    Ok(result)
}

/// Carries out the actions of a response. If that fails, notifies the instance, and carries out the actions
/// with which it responds to the notice.
///
/// If one of these fails, too, there is no second notice: a bot that responds to each with the same action
/// would ask Graph for ever.
async fn run(
    gateway: Arc<Gateway>,
    read: Result<ActionList, InvalidList>,
    notified: Notified,
    call_id: Option<Box<str>>,
    owner: Owner,
) {
    let Some(failure) = carry_out(&gateway, read, notified, call_id.as_deref(), &owner).await else { return };
    let response = notify_failure(&gateway, &owner, failure).await;
    if let Some(response) = response.filter(is_action) {
        let read = ActionList::read(&gateway, response, notified, call_id.as_deref()).await;
        let _ = carry_out(&gateway, read, notified, call_id.as_deref(), &owner).await;
    }
}

/// Carries out the actions of a response, if they are valid. Returns the failure.
async fn carry_out(
    gateway: &Gateway,
    read: Result<ActionList, InvalidList>,
    notified: Notified,
    call_id: Option<&str>,
    owner: &Owner,
) -> Option<ActionFailure> {
    match read {
        Ok(list) => list.carry_out(gateway, owner).await,
        Err(invalid) => Some(invalid.failure(gateway, owner, notified, call_id)),
    }
}

/// Valid actions in one call, with their place behind the earlier lists.
struct ActionList {
    calls: Arc<Calls>,
    notified: Notified,
    call_id: GraphCallId,
    actions: Vec<InCallAction>,
    turn: Turn,
}

impl ActionList {
    async fn read(
        gateway: &Gateway,
        response: UpstreamResponse,
        notified: Notified,
        call_id: Option<&str>,
    ) -> Result<Self, InvalidList> {
        let call_id = match (notified.calls, call_id) {
            (NotifiedCalls::One, Some(call_id)) => call_id,
            (NotifiedCalls::Several, _) => {
                return Err(InvalidList::new("several_calls", &"the notification is about several calls"));
            }
            (NotifiedCalls::None | NotifiedCalls::One, _) => {
                return Err(InvalidList::new("no_call", &"the notification is about no call"));
            }
        };
        let calls = gateway.graph_calls.of(notified.app);
        let calls =
            calls.ok_or_else(|| InvalidList::new("graph_not_configured", &"the app has no [app.graph]"))?;
        let body = action_body::read(response.body, Instant::now() + BODY_TIME_MAX).await;
        let body = body.map_err(|error| InvalidList::new(error.label(), &error))?;
        let actions =
            InCallAction::parse_list(&body).map_err(|error| InvalidList::new(error.label(), &error))?;
        let graph_call_id =
            GraphCallId::parse(call_id).map_err(|error| InvalidList::new("call_id", &error))?;
        let turn = gateway.call_order.take(notified.app, call_id);
        let turn = turn.ok_or_else(|| {
            InvalidList::new("too_many_actions", &"too many lists of the call are in progress or waiting")
        })?;
        Ok(Self { calls: Arc::clone(calls), notified, call_id: graph_call_id, actions, turn })
    }

    /// The name for the log of the request.
    fn name(&self) -> &'static str {
        match self.actions.as_slice() {
            [action] => action.kind().as_str(),
            _ => "list",
        }
    }

    /// Carries out the actions in their order. Stops at the first that Graph does not accept, and returns its
    /// failure. The next list of the call may then start.
    async fn carry_out(mut self, gateway: &Gateway, owner: &Owner) -> Option<ActionFailure> {
        // If it never comes, the deadline has passed, with which the first action fails.
        let _ = self.turn.comes().await;
        let mut failure = None;
        for (index, action) in self.actions.iter().enumerate() {
            let name = action.kind().as_str();
            if failure.is_some() {
                gateway.metrics.action(name, "skipped");
                continue;
            }
            let Notified { tenant, .. } = self.notified;
            let (deadline, now) = (self.turn.deadline, self.notified.now());
            let done = self.calls.act_in_call(tenant, &self.call_id, action, deadline, now).await;
            gateway.metrics.action(name, ActionResult::of(name, &done).result);
            if let Err(error) = done {
                self.log_failure(owner, index, action, &error);
                failure = Some(self.failure(index, action, &error));
            }
        }
        if failure.is_none() {
            self.log_success(owner);
        }
        failure
    }

    fn log_failure(&self, owner: &Owner, index: usize, action: &InCallAction, error: &GraphError) {
        tracing::error!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            call.id = self.call_id.as_str(),
            tenant.id = %self.notified.tenant,
            action = action.kind().as_str(),
            index,
            reason = error.label(),
            error = %error,
            "Graph did not do the action of an instance"
        );
    }

    fn log_success(&self, owner: &Owner) {
        let names: Vec<_> = self.actions.iter().map(|action| action.kind().as_str()).collect();
        tracing::info!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            call.id = self.call_id.as_str(),
            tenant.id = %self.notified.tenant,
            actions = names.join(","),
            duration_ms = milliseconds(self.notified.arrived.elapsed()),
            "Graph accepted the actions of an instance"
        );
    }

    fn failure(&self, index: usize, action: &InCallAction, error: &GraphError) -> ActionFailure {
        let Notified { app, tenant, span, .. } = self.notified;
        ActionFailure {
            app,
            tenant,
            call_id: Some(self.call_id.as_str().into()),
            action: action.kind().as_str(),
            index: Some(index),
            client_context: action.client_context().map(Into::into),
            error: error.into(),
            span,
        }
    }
}

/// Actions that the gateway cannot do.
struct InvalidList {
    reason: &'static str,
    problem: String,
}

impl InvalidList {
    fn new(reason: &'static str, problem: &dyn fmt::Display) -> Self {
        Self { reason, problem: problem.to_string() }
    }

    /// Logs and counts the problem, and returns it for the instance.
    fn failure(
        self,
        gateway: &Gateway,
        owner: &Owner,
        notified: Notified,
        call_id: Option<&str>,
    ) -> ActionFailure {
        let call_id = call_id.filter(|_| notified.calls == NotifiedCalls::One);
        gateway.metrics.action(UNKNOWN, self.reason);
        tracing::error!(
            instance = owner.instance.as_str(),
            incarnation = owner.incarnation.as_str(),
            call.id = call_id,
            reason = self.reason,
            problem = self.problem,
            "cannot do the action that an instance replied with"
        );
        ActionFailure {
            app: notified.app,
            tenant: notified.tenant,
            call_id: call_id.map(Into::into),
            action: UNKNOWN,
            index: None,
            client_context: None,
            error: FailedAction { code: self.reason, message: self.problem, outcome_unknown: false },
            span: notified.span,
        }
    }
}

/// The result of actions in the log of their request: Graph is asked after the response.
const QUEUED: &str = "queued";
/// The name of an action that cannot be read.
const UNKNOWN: &str = "unknown";
/// The time for the body of a response with actions. The platform waits meanwhile.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
