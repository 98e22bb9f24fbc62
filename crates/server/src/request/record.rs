//! `Record`: the one log event of a request, and its metrics.

mod attempts;
mod end;
mod fields;
mod observe;
mod sender;
mod span;

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Response};
use switchboard_auth::{Caller, RefusedSender};
use switchboard_delivery::{CLIENT_REQUEST_ID, ForwardError, ProxyError, SCENARIO_ID, UpstreamResponse};
use switchboard_notification::{CallState, Data, Item};
use switchboard_routing::{Decision, Name, Policy};
use tokio::time::Instant;

pub(crate) use self::attempts::Attempts;
use self::{
    end::{RequestEnd, as_text},
    sender::RecordedSender,
};
use crate::{
    metrics::{Metrics, RequestKind},
    observed::{CallKind, Observed},
    platform::{CHAIN_ID, MESSAGE_ID},
    request::{
        outcome::Outcome,
        plain::plain_values,
        plan::{NewCallPlan, ends_call},
        received::Received,
        refusal::Refusal,
        reply::ReplyBody,
        retries::{ActionResult, Leader, SharedResponse},
        route::{Paths, Route},
    },
    telemetry::{Line, json_line, log_line},
    traces::{RequestSpan, Tracer},
};

/// Collects the fields of the log event of a request.
///
/// Dropped before it is finished, it writes the event with the outcome `client_gone`: the request was dropped
/// because its client went away.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    observed: Arc<Observed>,
    client: IpAddr,
    arrived: Instant,
    /// The wall-clock time of the arrival.
    now: SystemTime,
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
    /// The kind of the call that the item announces as new.
    announced: Option<CallKind>,
    /// The item ends its call.
    ends_call: bool,
    items: usize,
    /// The gateway has decided where a new call goes.
    is_decided: bool,
    new_calls: u64,
    /// True if a new call is for policy-based recording.
    is_recorded: bool,
    rule: Option<usize>,
    /// The first rule in a dry run that matched, and the region that it would have chosen.
    shadow: Option<(usize, Name)>,
    region: Option<Name>,
    instance: Option<Name>,
    incarnation: Option<Name>,
    attempts: Attempts,
    action: Option<ActionResult>,
    retry: Option<&'static str>,
    /// Set for the first request of a message. It ends with the record, so with the request in any case.
    leader: Option<Leader>,
    /// Boxed: most gateways make no spans.
    span: Option<Box<RequestSpan>>,
    is_finished: bool,
}

impl Record {
    /// `client` is the address of the sender.
    pub(crate) fn new(
        metrics: Arc<Metrics>,
        observed: Arc<Observed>,
        received: &Received<'_>,
        client: IpAddr,
    ) -> Self {
        let names = [&MESSAGE_ID, &CHAIN_ID, &CLIENT_REQUEST_ID, &SCENARIO_ID];
        let ids = plain_values(received.headers(), names).map(Option::<&HeaderValue>::cloned);
        let [message_id, chain_id, client_request_id, scenario_id] = ids;
        Self {
            metrics,
            observed,
            client,
            arrived: received.arrived,
            now: received.now,
            method: method_name(received.method()),
            kind: RequestKind::Other,
            message_id,
            chain_id,
            client_request_id,
            scenario_id,
            sender: RecordedSender::default(),
            call_id: None,
            item: None,
            state: None,
            announced: None,
            ends_call: false,
            items: 0,
            is_decided: false,
            new_calls: 0,
            is_recorded: false,
            rule: None,
            shadow: None,
            region: None,
            instance: None,
            incarnation: None,
            attempts: Attempts::default(),
            action: None,
            retry: None,
            leader: None,
            span: None,
            is_finished: false,
        }
    }

    /// Starts the span of the request.
    pub(crate) fn trace(&mut self, tracer: &Arc<Tracer>, received: &mut Received<'_>) {
        let arrival = (self.arrived, self.now);
        let span = RequestSpan::new(tracer, received.headers(), received.is_secure(), arrival);
        received.trace = Some(span.trace());
        self.span = Some(span);
    }

    pub(crate) fn route(&mut self, route: &Route, paths: &Paths) {
        if let Some(span) = &mut self.span {
            span.route(paths.template(route));
        }
        self.kind = match route {
            Route::Health => RequestKind::Health,
            Route::Ready => RequestKind::Ready,
            Route::Webhook { .. } => RequestKind::Webhook,
            Route::Callback => RequestKind::Callback,
        };
    }

    pub(crate) fn caller(&mut self, caller: &Arc<Caller>) {
        self.sender = RecordedSender::Accepted(Arc::clone(caller));
    }

    /// The sender is not authenticated, or not allowed.
    pub(crate) fn refused_sender(&mut self, refused: Box<RefusedSender>) {
        self.sender = RecordedSender::Refused(refused);
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
        self.announced = item.new_call().map(CallKind::of);
        self.ends_call = ends_call(item);
        self.call_id = item.call_id().map(|id| id.as_str().into());
        self.call_id.clone()
    }

    /// The request has a new call.
    pub(crate) fn new_call(&mut self, is_recorded: bool) {
        self.new_calls = self.new_calls.saturating_add(1);
        self.is_recorded |= is_recorded;
    }

    /// The policy has decided the region of a new call.
    pub(crate) fn decided(&mut self, plan: &NewCallPlan<'_>, policy: &Policy) {
        self.is_decided = true;
        self.rule = plan.decision.rule;
        if policy.has_rules() {
            self.metrics.rules.decided(&plan.decision, policy.here());
        }
        for shadow in &plan.shadows {
            self.metrics.rules.shadowed(shadow, policy.here());
        }
        if let Some(Decision { rule: Some(rule), redirect, .. }) = plan.shadows.first() {
            self.shadow = Some((*rule, redirect.unwrap_or(policy.here()).clone()));
        }
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
        let ids = [(&CLIENT_REQUEST_ID, &self.client_request_id), (&SCENARIO_ID, &self.scenario_id)];
        for (name, value) in ids {
            if let Some(value) = value
                && !response.contains_key(name)
            {
                response.insert(name, value.clone());
            }
        }
    }

    /// Writes the log event: the request gets a response with `status`. The record ends after it, and is not
    /// moved here: that would copy all of it.
    pub(crate) fn finish(
        &mut self,
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
        if self.new_calls > 0
            && let Some(sender) = self.sender.proven()
        {
            let (count, is_recorded) = (self.new_calls, self.is_recorded);
            self.metrics.new_calls.record(sender.app, outcome, count, is_recorded, duration);
        }
        if self.attempts.outcome_unknown > 0 {
            self.metrics.outcome_unknown(u64::from(self.attempts.outcome_unknown));
        }
        let (reason, message) = refusal.unzip();
        let time = self.now + duration;
        let (chain_id, message_id) = (as_text(&self.chain_id), as_text(&self.message_id));
        let end = RequestEnd { status, outcome, reason, duration, time, chain_id, message_id };
        self.observe(&end);
        if reason.is_some_and(|reason| self.is_suppressed(outcome, reason)) {
            return;
        }
        if let Some(span) = &self.span {
            self.finish_span(span, &end);
        }
        let problem = self.sender.refused().map(RefusedSender::problem);
        let problem = message.flatten().or(problem.as_deref());
        if let Some(reason) = reason {
            self.observe_refusal(&end, reason, problem);
        }
        let fields = |line: &mut Line<'_>| self.write_fields(line, &end, problem);
        log_line(TARGET, MESSAGE, end.time, fields);
        if self.observed.lines().is_recording() {
            let line = json_line(TARGET, MESSAGE, end.time, fields);
            self.observed.lines().push(self.call_id.as_deref(), outcome, line);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.is_finished {
            self.write(None, Outcome::ClientGone, None);
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

/// The target and the message of the event.
const TARGET: &str = "switchboard::request";
const MESSAGE: &str = "request finished";
/// The value of `retry` for a retry of a new call whose instance is lost.
const PLACED_AGAIN: &str = "placed_again";
