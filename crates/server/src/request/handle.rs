//! One request, start to finish. Reads like docs/protocol.md.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::HeaderValue;
use switchboard_delivery::{Connections, ForwardError, Outbound, PeerGateways, PlaceError, ProxyError};
use switchboard_notification::{Call, CallState, ChangeType, Data, Envelope, Item, Notifications};
use switchboard_routing::{AffinityKey, Name, OwnerRef, Traits, is_marked};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    config::Full,
    gateway::Gateway,
    request::{
        act::{CALL_LIMIT, NewCall, RECORDING_LIMIT, act, is_action, reject_as_busy, without_action},
        outcome::Outcome,
        received::{Admitted, Received, Route, plain},
        record::{Record, Tries},
        reply::{Refusal, Reply},
        retries::Turn,
    },
};

/// Answers one request. Each step takes what only the step before it can make.
pub(crate) async fn handle(
    app: &Arc<Gateway>,
    connections: &Arc<Connections>,
    received: Received,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    received.check_head()?;
    let route = received.route(&app.paths)?;
    record.route(&route);
    received.check_method(&route)?;
    match route {
        Route::Health => Ok(Reply::Health { able: app.can_take_call() }),
        // Boxed, since a request's future is moved about and callbacks, which are most, need a tenth of its size.
        Route::Webhook { app: named } => Box::pin(webhook(app, connections, received, named, record)).await,
        Route::Callback => callback(app, connections, received, record).await,
    }
}

/// `POST {webhook_path}`: a new call, or an item about a call that came without our callback URI.
async fn webhook(
    app: &Arc<Gateway>,
    connections: &Arc<Connections>,
    received: Received,
    named: Option<Uuid>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    if named.is_some_and(|named| !app.serves(named)) {
        return Err(Refusal::new(Outcome::NotFound, "unknown_app"));
    }
    let caller = app.authenticate(&received, record).await?;
    if named.is_some_and(|named| named != caller.app) {
        return Err(Refusal::new(Outcome::WrongApp, "token_of_another_app"));
    }
    received.check_content_type()?;
    let marked = is_marked(received.query());
    let admitted = received.admit(caller, app.limits.body, app.timeouts.body).await?;
    match Envelope::parse(&admitted.body) {
        Ok(Envelope::Legacy(_)) => Ok(Reply::AskForGraph),
        Ok(Envelope::Graph(notifications)) => {
            record.notifications(&notifications.items);
            if let Some(reply) = again(app, &admitted, record).await? {
                return Ok(reply);
            }
            let webhook = Webhook { app, connections, admitted: &admitted, named: named.is_some(), marked };
            webhook.deliver(&notifications, record).await
        }
        Err(error) => Err(Refusal::not_a_notification(error.code.label(), error.to_string())),
    }
}

/// `POST {callback_path}/…`: to the instance that the seal names.
async fn callback(
    app: &Arc<Gateway>,
    connections: &Arc<Connections>,
    received: Received,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    let target = received.target();
    let caller = app.authenticate(&received, record).await?;
    let sealed = app.callbacks.parse(target.path());
    let sealed = sealed.ok_or_else(|| Refusal::new(Outcome::WrongSeal, "callback_path"))?;
    let owner = app
        .callbacks
        .open(&sealed, caller.app)
        .map_err(|error| Refusal::new(Outcome::WrongSeal, error.label()))?;
    let elsewhere = owner.region != app.region;
    if elsewhere {
        can_proxy(app, &received, owner)?;
    }
    let admitted = received.admit(caller, app.limits.body, app.timeouts.body).await?;
    // The content is the instance's business; it is looked at for the log, and may be anything.
    let (call_id, ended) = match Envelope::parse(&admitted.body) {
        Ok(Envelope::Graph(notifications)) => {
            (record.notifications(&notifications.items), ended(&notifications.items))
        }
        Ok(Envelope::Legacy(_)) | Err(_) => (None, Vec::new()),
    };
    if let Some(reply) = again(app, &admitted, record).await? {
        return Ok(reply);
    }
    if elsewhere {
        return Box::pin(proxy(app, connections, admitted, owner, record)).await;
    }
    let outbound = admitted.into_outbound(call_id);
    let forwarded = app.delivery.forward(connections, outbound, owner).await;
    let answer = forwarded.map_err(|error| not_forwarded(&error, record))?;
    record.answered(&answer);
    for call_id in ended {
        app.delivery.call_ended(answer.instance.as_str(), &call_id);
    }
    Ok(without_action(app, answer, Outcome::Forwarded))
}

/// The calls that ended by the word of these items: terminated, or deleted.
fn ended(items: &[Item<'_>]) -> Vec<Box<str>> {
    let is_over = |item: &&Item<'_>| match &item.data {
        Data::Call(call) if call.state == Some(CallState::Terminated) => true,
        Data::Call(_) | Data::Absent => {
            let is_call = item
                .resource
                .as_ref()
                .is_some_and(|resource| resource.part == switchboard_notification::ResourcePart::Call);
            is_call && item.change_type == ChangeType::Deleted
        }
        Data::ParticipantJoining
        | Data::ParticipantLeft
        | Data::Operation(_)
        | Data::List(_)
        | Data::Other => false,
    };
    items.iter().filter(is_over).filter_map(|item| Some(item.call_id()?.as_str().into())).collect()
}

/// A callback of another region can be taken there, unless it was already taken to us.
fn can_proxy(app: &Gateway, received: &Received, owner: OwnerRef<'_>) -> Result<(), Refusal> {
    let wrong = |reason| Err(Refusal::new(Outcome::WrongRegion, reason));
    if PeerGateways::is_forwarded(received.headers()) {
        wrong("forwarded_already")
    } else if !app.regions.has(owner.region.as_str()) {
        wrong("another_region")
    } else {
        Ok(())
    }
}

/// A callback of another region: to the gateway there, which looks at it as if it had come from the platform.
async fn proxy(
    app: &Arc<Gateway>,
    connections: &Arc<Connections>,
    admitted: Admitted,
    owner: OwnerRef<'_>,
    record: &mut Record,
) -> Result<Reply, Refusal> {
    record.proxied(&owner.region.to_name());
    let target = admitted.target();
    let outbound = admitted.into_outbound(None);
    match app.regions.proxy(connections, outbound, owner.region.as_str(), target).await {
        Ok(answer) => {
            record.tried(Tries::of_answer(&answer));
            Ok(Reply::Relay { answer: Box::new(answer), outcome: Outcome::Proxied })
        }
        Err(ProxyError::NotAPeer) => Err(Refusal::new(Outcome::WrongRegion, "another_region")),
        Err(ProxyError::Unreachable { last, attempts, .. }) => {
            record.tried(Tries::in_vain(attempts));
            Err(Refusal::new(Outcome::Unreachable, last))
        }
    }
}

/// The answer of the first request of this message, if this is a retry: shared while that one is under way, repeated for a
/// few minutes once an instance has accepted it. Else this is the first one, and its answer will be shared.
async fn again(app: &Gateway, admitted: &Admitted, record: &mut Record) -> Result<Option<Reply>, Refusal> {
    let Some(message) = admitted.message() else { return Ok(None) };
    let (how, kept) = match app.retries.turn(message, admitted.arrived + app.longest).await {
        Turn::First(lead) => {
            record.leads(lead);
            return Ok(None);
        }
        Turn::Shared(kept) => ("shared", kept),
        Turn::Repeated(kept) => ("repeated", kept),
        // The first one may still be answered, so nothing else may be done with the call: no overflow, no rejection.
        Turn::Late => return Err(Refusal::new(Outcome::Unreachable, "first_still_under_way")),
    };
    record.retried(how, &kept);
    Ok(Some(Reply::Kept(kept)))
}

/// An authenticated Graph notification on the webhook.
#[derive(Clone, Copy)]
struct Webhook<'a> {
    app: &'a Arc<Gateway>,
    connections: &'a Arc<Connections>,
    admitted: &'a Admitted,
    /// The path names the app: a redirect keeps it.
    named: bool,
    /// The request was redirected to us: it is not sent on.
    marked: bool,
}

impl Webhook<'_> {
    async fn deliver(self, notifications: &Notifications<'_>, record: &mut Record) -> Result<Reply, Refusal> {
        let parts = self.parts(&notifications.items);
        if let [part] = parts.as_slice() {
            return match part.new_call(&notifications.items) {
                Some((item, call)) => self.new_call(item, call, record).await,
                None => self.unsealed(part, &notifications.items, record).await,
            };
        }
        self.split(notifications, parts, record).await
    }

    /// The items by owner: each new call with all that is said of it, and all else by the instance that probably
    /// owns its call. Items about no call travel with the first part.
    fn parts(&self, items: &[Item<'_>]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let is_new = |call_id: &str| {
            let same =
                |item: &&Item<'_>| item.call_id().is_some_and(|id| id.as_str().eq_ignore_ascii_case(call_id));
            items.iter().filter(same).any(|item| item.new_call().is_some())
        };
        let mut followers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let Some(call_id) = item.call_id() else {
                followers.push(index);
                continue;
            };
            let call_id = call_id.as_str();
            let owner = if is_new(call_id) {
                Owner::New(call_id.to_ascii_lowercase())
            } else {
                Owner::Instance(self.app.delivery.probable_owner(call_id, self.admitted.caller.app))
            };
            match parts.iter_mut().find(|part| part.owner == owner) {
                Some(part) => part.items.push(index),
                None => parts.push(Part { owner, call_id: call_id.into(), items: vec![index] }),
            }
        }
        if let Some(first) = parts.first_mut() {
            first.items.extend(followers);
            first.items.sort_unstable();
        }
        parts
    }

    /// A new call: the region that it belongs to, then an instance of ours.
    async fn new_call(self, item: &Item<'_>, call: &Call<'_>, record: &mut Record) -> Result<Reply, Refusal> {
        let app = self.app;
        let call_id = item.call_id().map(|id| id.as_str()).unwrap_or_default();
        let caller_region = plain(&self.admitted.headers, "x-microsoft-skype-caller-region");
        let traits = Traits {
            call,
            call_id,
            caller_region: caller_region.as_ref().and_then(|value| value.to_str().ok()),
            tenant: self.admitted.caller.tenant,
        };
        let decision = app.policy.decide(&traits, self.marked, |region| app.peers.is_healthy(region));
        record.decided(&decision);
        if let Some(region) = decision.redirect {
            return self.redirect(region, Outcome::Redirected, record);
        }
        let placing = Placing::of(app, self.admitted, call_id, call);
        let outbound = self.admitted.outbound(Some(call_id.into()), Some(placing.deadline_unix_ms));
        match app.delivery.place(self.connections, outbound, placing.key, placing.budget).await {
            Ok(answer) => {
                record.answered(&answer);
                if !is_action(&answer) {
                    return Ok(Reply::Relay { answer: Box::new(answer), outcome: Outcome::Placed });
                }
                let kept = act(app, answer, placing.call, record.lead()).await?;
                record.acted(&kept);
                Ok(Reply::Kept(kept))
            }
            Err(error) => {
                record.tried(Tries::of_failure(&error));
                self.not_placed(&error, placing.call, record).await
            }
        }
    }

    /// A new call that no instance took. One that an instance may still answer is neither given to anybody else nor rejected.
    async fn not_placed(
        self,
        error: &PlaceError,
        call: NewCall,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let app = self.app;
        let refusal = |reason| Refusal::new(Outcome::NotPlaced, reason);
        match &app.placement.full {
            Full::Refuse => Err(refusal(not_placed_reason(error))),
            // It was sent the call now, or before the platform tried again.
            Full::Overflow(_) | Full::Reject if app.delivery.may_be_answered(&call.call_id) => {
                Err(refusal("outcome_unknown"))
            }
            Full::Overflow(region) if !self.marked && app.peers.is_healthy(region) => {
                self.redirect(region, Outcome::Overflowed, record)
            }
            Full::Overflow(_) => Err(refusal(not_placed_reason(error))),
            Full::Reject => {
                let kept =
                    reject_as_busy(app, call, record.lead(), refusal(not_placed_reason(error))).await?;
                record.acted(&kept);
                Ok(Reply::Kept(kept))
            }
        }
    }

    fn redirect(self, region: &Name, outcome: Outcome, record: &mut Record) -> Result<Reply, Refusal> {
        let named = self.named.then_some(self.admitted.caller.app);
        let location = self.app.policy.location(region, named);
        let location = location.and_then(|text| HeaderValue::try_from(text).ok());
        let location = location.ok_or_else(|| Refusal::new(Outcome::NotPlaced, "no_such_region"))?;
        record.region(region);
        Ok(Reply::Redirect { location, status: self.app.redirect_status, outcome })
    }

    /// Items about a call that came without our callback URI: to the instance that probably owns it.
    async fn unsealed(self, part: &Part, items: &[Item<'_>], record: &mut Record) -> Result<Reply, Refusal> {
        let outbound = self.admitted.outbound(Some(part.call_id.clone()), None);
        let forwarded = self.app.delivery.forward_unsealed(self.connections, outbound).await;
        let answer = forwarded.map_err(|error| not_forwarded(&error, record))?;
        record.answered(&answer);
        for call_id in ended(items) {
            self.app.delivery.call_ended(answer.instance.as_str(), &call_id);
        }
        Ok(without_action(self.app, answer, Outcome::Unsealed))
    }

    /// A batch of several owners: each gets its raw items in the same envelope; nothing is redirected, sent on or rejected.
    /// Accepted only if all accept; a part that was accepted may come again.
    async fn split(
        self,
        notifications: &Notifications<'_>,
        parts: Vec<Part>,
        record: &mut Record,
    ) -> Result<Reply, Refusal> {
        let mut deliveries = JoinSet::new();
        for part in parts {
            let body = Bytes::from(notifications.subset(&part.items));
            let app = Arc::clone(self.app);
            let connections = Arc::clone(self.connections);
            match part.new_call(&notifications.items) {
                Some((_, call)) => {
                    let placing = Placing::of(self.app, self.admitted, &part.call_id, call);
                    let mut outbound =
                        self.admitted.outbound(Some(part.call_id), Some(placing.deadline_unix_ms));
                    outbound.body = body;
                    deliveries.spawn(async move {
                        let placed =
                            app.delivery.place(&connections, outbound, placing.key, placing.budget).await;
                        let tries = placed.as_ref().map_or_else(Tries::of_failure, Tries::of_answer);
                        let accepted = match placed {
                            // The batch is not answered by one of its parts, so none takes its lead.
                            Ok(answer) if is_action(&answer) => act(&app, answer, placing.call, &mut None)
                                .await
                                .is_ok_and(|kept| kept.is_accepted()),
                            Ok(answer) => answer.status.is_success(),
                            Err(_) => false,
                        };
                        (accepted, tries)
                    });
                }
                None => {
                    let mut outbound = self.admitted.outbound(Some(part.call_id), None);
                    outbound.body = body;
                    deliveries.spawn(async move {
                        let forwarded = app.delivery.forward_unsealed(&connections, outbound).await;
                        let tries = forwarded.as_ref().map_or_else(Tries::of_lost, Tries::of_answer);
                        let accepted = forwarded
                            .is_ok_and(|answer| without_action(&app, answer, Outcome::Split).is_accepted());
                        (accepted, tries)
                    });
                }
            }
        }
        // Every part is waited for, so that an early refusal does not cut off another instance's work.
        let mut accepted = true;
        while let Some(part) = deliveries.join_next().await {
            let (part_accepted, tries) = part.unwrap_or_default();
            accepted &= part_accepted;
            record.tried(tries);
        }
        if accepted {
            Ok(Reply::Accepted { outcome: Outcome::Split })
        } else {
            Err(Refusal::new(Outcome::PartFailed, "part_failed"))
        }
    }
}

/// The items of a notification that go to one owner.
struct Part {
    owner: Owner,
    call_id: Box<str>,
    /// Their indices.
    items: Vec<usize>,
}

#[derive(PartialEq, Eq)]
enum Owner {
    /// Whoever takes this new call.
    New(String),
    /// This instance; none if the fleet is empty.
    Instance(Option<Name>),
}

impl Part {
    fn new_call<'i, 'a>(&self, items: &'i [Item<'a>]) -> Option<(&'i Item<'a>, &'i Call<'a>)> {
        self.items
            .iter()
            .filter_map(|index| items.get(*index))
            .find_map(|item| Some((item, item.new_call()?)))
    }
}

/// By what a new call is ranked, and how long it may take.
struct Placing {
    /// For what is done with the call once an instance has answered.
    call: NewCall,
    key: AffinityKey,
    budget: Duration,
    deadline_unix_ms: u64,
}

impl Placing {
    fn of(app: &Gateway, admitted: &Admitted, call_id: &str, call: &Call<'_>) -> Self {
        let key = AffinityKey::of(&app.placement.key.text(call_id, call, admitted.caller.tenant));
        let (budget, limit) = if call.policy_recording {
            (app.placement.recording_budget, RECORDING_LIMIT)
        } else {
            (app.placement.budget, CALL_LIMIT)
        };
        let since_epoch = admitted.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let deadline_unix_ms = u64::try_from((since_epoch + limit).as_millis()).unwrap_or(u64::MAX);
        let call = NewCall {
            app: admitted.caller.app,
            tenant: admitted.caller.tenant,
            call_id: call_id.into(),
            deadline: admitted.arrived + limit,
            now: admitted.now,
        };
        Self { call, key, budget, deadline_unix_ms }
    }
}

impl Admitted {
    /// A callback on its way: nothing is copied.
    fn into_outbound(self, call_id: Option<Box<str>>) -> Outbound {
        Outbound {
            headers: self.headers,
            body: self.body,
            app: self.caller.app,
            tenant: self.caller.tenant,
            call_id,
            deadline_unix_ms: None,
            arrived: self.arrived,
        }
    }

    fn outbound(&self, call_id: Option<Box<str>>, deadline_unix_ms: Option<u64>) -> Outbound {
        Outbound {
            headers: self.headers.clone(),
            body: self.body.clone(),
            app: self.caller.app,
            tenant: self.caller.tenant,
            call_id,
            deadline_unix_ms,
            arrived: self.arrived,
        }
    }
}

fn not_forwarded(error: &ForwardError, record: &mut Record) -> Refusal {
    if let ForwardError::Gone { instance } | ForwardError::Unreachable { instance, .. } = error {
        record.instance(instance);
    }
    record.tried(Tries::of_lost(error));
    match error {
        ForwardError::NoInstance => Refusal::new(Outcome::NotPlaced, "no_instance"),
        ForwardError::FleetUnknown => Refusal::new(Outcome::FleetUnknown, "fleet_unknown"),
        ForwardError::Gone { .. } => Refusal::new(Outcome::Gone, "instance_gone"),
        ForwardError::Unreachable { last, .. } => Refusal::new(Outcome::Unreachable, last),
    }
}

fn not_placed_reason(error: &PlaceError) -> &'static str {
    match error {
        PlaceError::NoCandidate => "no_candidate",
        PlaceError::AllFailed { last, .. } => last,
    }
}
