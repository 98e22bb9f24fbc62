//! One request, start to finish. Reads like docs/protocol.md.

mod batch;
mod new_call;
mod proxy;
mod unsealed;
mod webhook;

use std::sync::Arc;

use switchboard_notification::Envelope;
use switchboard_routing::is_marked;
use uuid::Uuid;

use self::webhook::WebhookRequest;
use crate::{
    gateway::Gateway,
    request::{
        act::{Notified, relay_or_act},
        outcome::Outcome,
        plan::{Destination, ended_calls},
        reason::Reason,
        received::{Admitted, Received},
        record::Record,
        refusal::Refusal,
        reply::Reply,
        retries::{Role, SharedResponse},
        route::Route,
    },
};

/// Handles one request. Each step takes a value that only the step before it can make.
pub(crate) async fn handle(
    gateway: &Arc<Gateway>,
    mut received: Received<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    received.check_head()?;
    let route = received.route(&gateway.paths)?;
    record.route(&route, &gateway.paths);
    received.check_method(&route)?;
    if gateway.x_forwarded {
        received.set_forwarded();
    }
    match route {
        Route::Health => Ok(Reply::Health { able: gateway.can_take_call() }),
        Route::Ready => Ok(Reply::Health { able: gateway.is_ready() }),
        // Boxed: the future of a request is moved from place to place. Callbacks, which are most requests,
        // need a tenth of its size.
        Route::Webhook { app } => Box::pin(webhook(gateway, received, app, record)).await,
        Route::Callback => callback(gateway, received, record).await,
    }
}

/// Handles `POST {webhook_path}`: a new call, or an item about a call without the gateway's callback URI.
async fn webhook(
    gateway: &Arc<Gateway>,
    received: Received<'_>,
    app_in_path: Option<Uuid>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    if app_in_path.is_some_and(|app| !gateway.serves(app)) {
        return Err(Refusal::new(Reason::UnknownApp));
    }
    let caller = gateway.authenticate(&received, record).await?;
    received.check_no_loop()?;
    if app_in_path.is_some_and(|app| app != caller.app) {
        return Err(Refusal::new(Reason::TokenOfAnotherApp));
    }
    received.check_content_type()?;
    let is_redirected = is_marked(received.query());
    let admitted = received.admit(caller, gateway.body_limits()).await?;
    let notifications = match Envelope::parse(&admitted.body)? {
        Envelope::Legacy(_) => return Ok(Reply::AskForGraph),
        Envelope::Graph(notifications) => notifications,
    };
    record.notifications(&notifications.items);
    if let Some(reply) = shared_response(gateway, &admitted, record).await? {
        return Ok(reply);
    }
    let request = WebhookRequest { gateway, admitted: &admitted, app_in_path, is_redirected };
    let plan = request.plan(&notifications);
    match plan.parts.as_slice() {
        [part] => match &part.destination {
            Destination::NewCall(call) => request.new_call(part, call, record).await,
            Destination::ProbableOwner(_) => request.unsealed(part, &notifications.items, record).await,
        },
        parts => request.batch(&notifications, parts, record).await,
    }
}

/// Handles `POST {callback_path}/…`: delivers to the instance that the seal names.
async fn callback(
    gateway: &Arc<Gateway>,
    received: Received<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let target = received.target();
    let caller = gateway.authenticate(&received, record).await?;
    received.check_no_loop()?;
    let sealed = gateway.callbacks.parse(target.path());
    let sealed = sealed.ok_or_else(|| Refusal::new(Reason::CallbackPath))?;
    let owner = gateway.callbacks.open(&sealed, caller.app)?;
    let is_of_peer = owner.region != gateway.region;
    let in_flight = if is_of_peer {
        proxy::check(gateway, &received, owner)?;
        None
    } else {
        // Before the body is read, and while a retry waits for the first request.
        let started = gateway.delivery.callback_started(owner);
        Some(started.map_err(|error| record.not_forwarded(&error))?)
    };
    let admitted = received.admit(caller, gateway.body_limits()).await?;
    // The content is the business of the instance. The gateway reads it for the log, and it may be anything.
    let (call_id, ended, notified) = match Envelope::parse(&admitted.body) {
        Ok(Envelope::Graph(notifications)) => {
            let items = &notifications.items;
            (record.notifications(items), ended_calls(items), Notified::of(&admitted, items))
        }
        Ok(Envelope::Legacy(_)) | Err(_) => (None, Vec::new(), Notified::of(&admitted, &[])),
    };
    if let Some(reply) = shared_response(gateway, &admitted, record).await? {
        return Ok(reply);
    }
    if is_of_peer {
        return Box::pin(proxy::proxy(gateway, admitted, owner, record)).await;
    }
    let outbound = admitted.into_outbound(call_id);
    drop(in_flight);
    let forwarded = gateway.delivery.forward(&gateway.connections, &outbound, owner).await;
    let response = forwarded.map_err(|error| record.not_forwarded(&error))?;
    record.responded(&response);
    gateway.delivery.calls_ended(response.instance.as_str(), ended);
    relay_or_act(gateway, response, notified, Outcome::Forwarded, record).await
}

/// The response of the first request with this message, if this request is a retry of it.
///
/// A retry waits while the first request is in flight. Once an instance has accepted the message, its
/// response is repeated for a few minutes. `None`: this is the first request, or a retry of a new call whose
/// instance is lost, and its response will be shared.
async fn shared_response(
    gateway: &Gateway,
    admitted: &Admitted,
    record: &mut Record,
) -> Result<Option<Reply>, Refusal> {
    let Some(message) = admitted.message() else { return Ok(None) };
    let until = admitted.arrived + gateway.request_time_max;
    // A new call whose instance is lost is placed again. A callback is not: it belongs to that instance.
    let still_holds = |response: &SharedResponse| match &response.instance {
        Some((instance, incarnation)) if response.outcome == Outcome::Placed => {
            gateway.delivery.may_still_hold_calls(instance, incarnation)
        }
        Some(_) | None => true,
    };
    let (how, response) = match gateway.retries.role(message, until, still_holds).await {
        Role::Leader(leader) => {
            record.leads(leader);
            return Ok(None);
        }
        Role::Successor(leader) => {
            record.places_again(leader);
            return Ok(None);
        }
        Role::Shared(response) => ("shared", response),
        Role::Repeated(response) => ("repeated", response),
        // An instance may still respond to the first request: neither redirect nor reject the call.
        Role::TooLate => return Err(Refusal::new(Reason::FirstStillUnderWay)),
    };
    record.retried(how, &response);
    Ok(Some(Reply::Shared(response)))
}
