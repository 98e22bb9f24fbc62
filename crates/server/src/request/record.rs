//! `Record`: the one log event of a request, and its metrics.

mod sender;

use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Response};
use switchboard_auth::{Caller, RefusedSender};
use switchboard_delivery::{
    CLIENT_REQUEST_ID, ForwardError, PlaceError, ProxyError, SCENARIO_ID, UpstreamResponse,
};
use switchboard_notification::{CallState, Data, Item};
use switchboard_routing::{Decision, Name};
use tokio::time::Instant;
use uuid::Uuid;

use self::sender::{RecordedSender, id_text};
use crate::{
    metrics::{Metrics, RequestKind},
    platform::{CHAIN_ID, MESSAGE_ID},
    request::{
        outcome::Outcome,
        received::{Received, Route, plain},
        refusal::Refusal,
        reply::ReplyBody,
        retries::{ActionResult, Leader, SharedResponse},
    },
    telemetry::milliseconds,
};

/// Collects the fields of the log event of a request.
///
/// Dropped before it is finished, it writes the event with the outcome `client_gone`: the request was dropped
/// because its client went away.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    client: IpAddr,
    arrived: Instant,
    method: &'static str,
    kind: RequestKind,
    message_id: Option<HeaderValue>,
    chain_id: Option<HeaderValue>,
    client_request_id: Option<HeaderValue>,
    scenario_id: Option<HeaderValue>,
    sender: RecordedSender,
    pub(crate) call_id: Option<Box<str>>,
    item: Option<&'static str>,
    state: Option<&'static str>,
    items: usize,
    rule: Option<usize>,
    region: Option<Name>,
    instance: Option<Name>,
    incarnation: Option<Name>,
    attempts: Attempts,
    action: Option<ActionResult>,
    retry: Option<&'static str>,
    /// Set if this is the first request of its message. The record holds it, so that it ends with the request
    /// in any case.
    leader: Option<Leader>,
    is_finished: bool,
}

impl Record {
    /// `client` is the address of the sender.
    pub(crate) fn new(metrics: Arc<Metrics>, received: &Received<'_>, client: IpAddr) -> Self {
        let headers = received.headers();
        Self {
            metrics,
            client,
            arrived: received.arrived,
            method: method_name(received.method()),
            kind: RequestKind::Other,
            message_id: plain(headers, MESSAGE_ID).cloned(),
            chain_id: plain(headers, CHAIN_ID).cloned(),
            client_request_id: plain(headers, CLIENT_REQUEST_ID.as_str()).cloned(),
            scenario_id: plain(headers, SCENARIO_ID.as_str()).cloned(),
            sender: RecordedSender::default(),
            call_id: None,
            item: None,
            state: None,
            items: 0,
            rule: None,
            region: None,
            instance: None,
            incarnation: None,
            attempts: Attempts::default(),
            action: None,
            retry: None,
            leader: None,
            is_finished: false,
        }
    }

    pub(crate) fn route(&mut self, route: &Route) {
        self.kind = match route {
            Route::Health => RequestKind::Health,
            Route::Ready => RequestKind::Ready,
            Route::Webhook { .. } => RequestKind::Webhook,
            Route::Callback => RequestKind::Callback,
        };
    }

    pub(crate) fn caller(&mut self, caller: &Caller) {
        self.sender.accept(caller);
    }

    /// The sender is not authenticated, or not allowed.
    pub(crate) fn refused_sender(&mut self, refused: Box<RefusedSender>) {
        self.sender.refuse(refused);
    }

    /// Returns true if the sender is proven and allowed.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.sender.is_accepted()
    }

    /// Counts the items, and keeps the first one that is about a call. Returns the id of that call.
    pub(crate) fn notifications(&mut self, items: &[Item<'_>]) -> Option<Box<str>> {
        self.items = items.len();
        for item in items {
            self.metrics.notification(item.kind());
        }
        let item = items.iter().find(|item| item.resource.is_some())?;
        self.item = Some(item.kind().label());
        self.state =
            if let Data::Call(call) = &item.data { call.state.as_ref().map(CallState::label) } else { None };
        self.call_id = item.call_id().map(|id| id.as_str().into());
        self.call_id.clone()
    }

    pub(crate) fn decided(&mut self, decision: &Decision<'_>) {
        self.rule = decision.rule;
    }

    /// The platform is redirected to another region.
    pub(crate) fn redirected(&mut self, region: &Name) {
        self.metrics.redirect(region.as_str());
        self.region = Some(region.clone());
    }

    /// A callback goes to the gateway of another region.
    pub(crate) fn proxied(&mut self, region: &Name) {
        self.region = Some(region.clone());
    }

    /// The peer gateway responded.
    pub(crate) fn proxy_responded(&mut self, response: &UpstreamResponse) {
        self.attempted(Attempts::of_response(response));
    }

    /// The peer gateway did not respond.
    pub(crate) fn not_proxied(&mut self, error: &ProxyError) -> Refusal {
        self.attempted(Attempts::of_proxy_error(error));
        Refusal::from(error)
    }

    /// The request is the first one of its message: its retries get its response, too.
    pub(crate) fn leads(&mut self, leader: Leader) {
        self.leader = Some(leader);
    }

    /// The request is a retry of a new call whose instance is lost.
    pub(crate) fn places_again(&mut self, leader: Leader) {
        self.metrics.retry(PLACED_AGAIN);
        self.retry = Some(PLACED_AGAIN);
        self.leader = Some(leader);
    }

    /// The request is a retry. `how` says how it got its response: `shared` or `repeated`.
    pub(crate) fn retried(&mut self, how: &'static str, response: &SharedResponse) {
        self.metrics.retry(how);
        self.retry = Some(how);
        self.instance = response.instance_name().cloned();
        self.action = response.action();
    }

    /// Wakes the retries that wait for this request. A detached action takes it along.
    pub(crate) fn leader(&mut self) -> &mut Option<Leader> {
        &mut self.leader
    }

    /// The gateway asked Graph for an action.
    pub(crate) fn acted(&mut self, response: &SharedResponse) {
        self.action = response.action();
    }

    /// Shares the response with the retries of the request.
    pub(crate) fn share(
        &mut self,
        response: &mut Response<ReplyBody>,
        outcome: Outcome,
        reason: Option<&'static str>,
    ) {
        if let Some(leader) = self.leader.take() {
            let owner = self.instance.clone().zip(self.incarnation.clone());
            let shared = SharedResponse::new(response, outcome, reason, owner);
            response.body_mut().share(leader, shared);
        }
    }

    /// An instance responded.
    pub(crate) fn responded(&mut self, response: &UpstreamResponse) {
        self.instance = Some(response.instance.clone());
        self.incarnation = Some(response.incarnation.clone());
        self.attempted(Attempts::of_response(response));
    }

    /// The owner of a callback did not respond.
    pub(crate) fn not_forwarded(&mut self, error: &ForwardError) -> Refusal {
        if let ForwardError::Gone { instance }
        | ForwardError::IncarnationUnknown { instance }
        | ForwardError::OverCapacity { instance }
        | ForwardError::Declined { instance, .. }
        | ForwardError::Unreachable { instance, .. } = error
        {
            self.instance = Some(instance.clone());
        }
        self.attempted(Attempts::of_forward_error(error));
        Refusal::from(error)
    }

    /// Adds the attempts for the request, or for a part of it.
    pub(crate) fn attempted(&mut self, attempts: Attempts) {
        self.attempts.made = self.attempts.made.saturating_add(attempts.made);
        self.attempts.outcome_unknown =
            self.attempts.outcome_unknown.saturating_add(attempts.outcome_unknown);
    }

    /// Copies the correlation ids of the request into the response, unless the instance has set them.
    pub(crate) fn echo(&self, response: &mut HeaderMap) {
        for (name, value) in
            [(&CLIENT_REQUEST_ID, &self.client_request_id), (&SCENARIO_ID, &self.scenario_id)]
        {
            if let Some(value) = value
                && !response.contains_key(name)
            {
                response.insert(name, value.clone());
            }
        }
    }

    /// Writes the log event: the request gets a response with `status`.
    pub(crate) fn finish(
        mut self,
        status: u16,
        outcome: Outcome,
        refusal: Option<(&'static str, Option<&str>)>,
    ) {
        self.is_finished = true;
        self.write(Some(status), outcome, refusal);
    }

    /// Returns true if the log must not show the event: senders that are not authenticated cause too many
    /// with this reason. The metrics count the request in any case.
    fn is_suppressed(&self, outcome: Outcome, reason: &'static str) -> bool {
        outcome.may_flood()
            && self.sender.proven().is_none()
            && !self.metrics.refusal_events.allows(reason, Instant::now())
    }

    fn write(&self, status: Option<u16>, outcome: Outcome, refusal: Option<(&'static str, Option<&str>)>) {
        let duration = self.arrived.elapsed();
        self.metrics.request(outcome, self.kind, duration);
        let Attempts { made: attempts, outcome_unknown } = self.attempts;
        if outcome_unknown > 0 {
            self.metrics.outcome_unknown(u64::from(outcome_unknown));
        }
        if refusal.is_some_and(|(reason, _)| self.is_suppressed(outcome, reason)) {
            return;
        }
        let sender = self.sender.proven();
        let [mut tenant, mut app, mut caller] = [Uuid::encode_buffer(); 3];
        let (problem, token) = (self.sender.problem(), self.sender.token());
        let incarnation = self.incarnation.as_ref().map(Name::as_str).filter(|name| *name != NO_INCARNATION);
        tracing::event!(
            target: "switchboard::request",
            tracing::Level::INFO,
            http.request.method = self.method,
            // Never the path itself: it may hold a seal, or any text of an unauthenticated sender.
            http.route = self.kind.label(),
            http.response.status_code = status,
            client.address = %self.client,
            duration_ms = milliseconds(duration),
            outcome = outcome.label(),
            reason = refusal.map(|(reason, _)| reason),
            error = refusal.and_then(|(_, message)| message).or(problem.as_deref()),
            call.id = self.call_id.as_deref(),
            call.chain_id = as_text(&self.chain_id),
            call.state = self.state,
            item = self.item,
            items = (self.items > 1).then_some(self.items),
            message.id = as_text(&self.message_id),
            tenant.id = id_text(sender.map(|it| it.tenant), &mut tenant),
            app.id = id_text(sender.map(|it| it.app), &mut app),
            caller.id = id_text(sender.and_then(|it| it.service), &mut caller),
            trust = self.sender.trust(),
            key.id = sender.map(|it| &*it.key_id),
            key.generation = sender.map(|it| it.generation),
            token.issuer = token.issuer.as_deref(),
            token.key_id = token.key_id.as_deref(),
            token.audience = token.audience.as_deref(),
            token.tenant = token.tenant.as_deref(),
            token.calling_app = token.calling_app.as_deref(),
            token.age_s = token.age_s,
            token.expires_in_s = token.expires_in_s,
            rule = self.rule,
            region = self.region.as_ref().map(Name::as_str),
            instance = self.instance.as_ref().map(Name::as_str),
            incarnation = incarnation,
            attempts = (attempts > 1).then_some(attempts),
            outcome_unknown = (outcome_unknown > 0).then_some(outcome_unknown),
            action = self.action.map(|acted| acted.action),
            action_result = self.action.map(|acted| acted.result),
            retry = self.retry,
            "request finished"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_finished {
            self.write(None, Outcome::ClientGone, None);
        }
    }
}

/// The attempts to deliver a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attempts {
    made: u32,
    /// The attempts of a new call that ended after the request had been written: the instance may have acted.
    outcome_unknown: u32,
}

impl Attempts {
    pub(crate) fn of_response(response: &UpstreamResponse) -> Self {
        Self { made: response.attempts, outcome_unknown: response.outcome_unknown }
    }

    pub(crate) fn of_place_error(error: &PlaceError) -> Self {
        match error {
            PlaceError::FleetUnknown
            | PlaceError::NoInstance
            | PlaceError::Full
            | PlaceError::NoneReachable => Self::default(),
            PlaceError::AllDeclined { attempts, .. } => Self { made: *attempts, outcome_unknown: 0 },
            PlaceError::AllFailed { attempts, outcome_unknown, .. } => {
                Self { made: *attempts, outcome_unknown: *outcome_unknown }
            }
        }
    }

    pub(crate) fn of_forward_error(error: &ForwardError) -> Self {
        match error {
            ForwardError::Declined { attempts, .. } | ForwardError::Unreachable { attempts, .. } => {
                Self { made: *attempts, outcome_unknown: 0 }
            }
            ForwardError::FleetUnknown
            | ForwardError::Gone { .. }
            | ForwardError::IncarnationUnknown { .. }
            | ForwardError::NoInstance
            | ForwardError::OverCapacity { .. } => Self::default(),
        }
    }

    fn of_proxy_error(error: &ProxyError) -> Self {
        match error {
            ProxyError::Unreachable { attempts, .. } => Self { made: *attempts, outcome_unknown: 0 },
            ProxyError::UnknownPeer => Self::default(),
        }
    }
}

/// The method for the log. A sender may invent methods, so all that HTTP does not define have one name,
/// OpenTelemetry's.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

fn as_text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| value.to_str().ok())
}

/// The value of `retry` for a retry of a new call whose instance is lost.
const PLACED_AGAIN: &str = "placed_again";
/// The incarnation of instances whose source does not know any.
const NO_INCARNATION: &str = "0";
