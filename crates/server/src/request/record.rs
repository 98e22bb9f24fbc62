//! What is known of one request when it ends: its one log event, and its metrics.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response};
use switchboard_auth::Caller;
use switchboard_delivery::{ForwardError, PlaceError, UpstreamResponse};
use switchboard_notification::{CallState, Data, Item};
use switchboard_routing::{Decision, Name};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    metrics::{Metrics, RequestKind},
    request::{
        outcome::Outcome,
        received::{Received, Route, plain},
        reply::ReplyBody,
        retries::{ActionResult, Kept, Lead},
    },
    telemetry::milliseconds,
};

/// Gathers the fields of a request's log event. Dropped unfinished (the client went away and the request with it), it says so.
#[derive(Debug)]
pub(crate) struct Record {
    metrics: Arc<Metrics>,
    arrived: Instant,
    method: &'static str,
    kind: RequestKind,
    message_id: Option<HeaderValue>,
    chain_id: Option<HeaderValue>,
    client_request_id: Option<HeaderValue>,
    scenario_id: Option<HeaderValue>,
    app: Option<Uuid>,
    tenant: Option<Uuid>,
    call_id: Option<Box<str>>,
    item: Option<&'static str>,
    state: Option<&'static str>,
    items: usize,
    rule: Option<usize>,
    region: Option<Name>,
    instance: Option<Name>,
    incarnation: Option<Name>,
    tries: Tries,
    action: Option<ActionResult>,
    retry: Option<&'static str>,
    /// If this is the first request of its message. Here, since it ends with the request, however that ends.
    lead: Option<Lead>,
    finished: bool,
}

impl Record {
    pub(crate) fn new(metrics: Arc<Metrics>, received: &Received) -> Self {
        let headers = received.headers();
        Self {
            metrics,
            arrived: received.arrived,
            method: method_name(received.method()),
            kind: RequestKind::Other,
            message_id: plain(headers, "x-microsoft-skype-message-id"),
            chain_id: plain(headers, "x-microsoft-skype-chain-id"),
            client_request_id: plain(headers, "client-request-id"),
            scenario_id: plain(headers, "scenario-id"),
            app: None,
            tenant: None,
            call_id: None,
            item: None,
            state: None,
            items: 0,
            rule: None,
            region: None,
            instance: None,
            incarnation: None,
            tries: Tries::default(),
            action: None,
            retry: None,
            lead: None,
            finished: false,
        }
    }

    pub(crate) fn route(&mut self, route: &Route) {
        self.kind = match route {
            Route::Health => RequestKind::Health,
            Route::Webhook { .. } => RequestKind::Webhook,
            Route::Callback => RequestKind::Callback,
        };
    }

    pub(crate) fn caller(&mut self, caller: &Caller) {
        self.app = Some(caller.app);
        self.tenant = Some(caller.tenant);
    }

    /// Counts the items and remembers the first that is about a call; returns that call's id.
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

    pub(crate) fn region(&mut self, region: &Name) {
        self.metrics.redirect(region.as_str());
        self.region = Some(region.clone());
    }

    /// A callback goes to the gateway of another region.
    pub(crate) fn proxied(&mut self, region: &Name) {
        self.region = Some(region.clone());
    }

    /// The first request of its message: its answer is that of its retries, too.
    pub(crate) fn leads(&mut self, lead: Lead) {
        self.lead = Some(lead);
    }

    /// A retry, and how it came by its answer: `shared` or `repeated`.
    pub(crate) fn retried(&mut self, how: &'static str, kept: &Kept) {
        self.metrics.retry(how);
        self.retry = Some(how);
        self.instance = kept.instance.clone();
        self.action = kept.action;
    }

    /// What ends the retries' wait, for what goes on without this request.
    pub(crate) fn lead(&mut self) -> &mut Option<Lead> {
        &mut self.lead
    }

    /// Graph was asked for an action.
    pub(crate) fn acted(&mut self, kept: &Kept) {
        self.action = kept.action;
    }

    /// Whoever waits for the answer gets it.
    pub(crate) fn share(
        &mut self,
        response: &mut Response<ReplyBody>,
        outcome: Outcome,
        reason: Option<&'static str>,
    ) {
        if let Some(lead) = self.lead.take() {
            let kept = Kept::new(response, outcome, reason, self.instance.clone());
            response.body_mut().share(lead, kept);
        }
    }

    pub(crate) fn instance(&mut self, instance: &Name) {
        self.instance = Some(instance.clone());
    }

    pub(crate) fn answered(&mut self, answer: &UpstreamResponse) {
        self.instance = Some(answer.instance.clone());
        self.incarnation = Some(answer.incarnation.clone());
        self.tried(Tries::of_answer(answer));
    }

    /// Instances were tried, for all of the request or a part of it.
    pub(crate) fn tried(&mut self, tries: Tries) {
        self.tries.made = self.tries.made.saturating_add(tries.made);
        self.tries.outcome_unknown = self.tries.outcome_unknown.saturating_add(tries.outcome_unknown);
    }

    /// Copies the platform's correlation ids into an answer, where the instance did not.
    pub(crate) fn echo(&self, response: &mut HeaderMap) {
        for (name, value) in
            [("client-request-id", &self.client_request_id), ("scenario-id", &self.scenario_id)]
        {
            if let Some(value) = value
                && !response.contains_key(name)
            {
                response.insert(HeaderName::from_static(name), value.clone());
            }
        }
    }

    /// The request was answered with `status`.
    pub(crate) fn finish(
        mut self,
        status: u16,
        outcome: Outcome,
        refusal: Option<(&'static str, Option<&str>)>,
    ) {
        self.finished = true;
        self.write(Some(status), outcome, refusal);
    }

    fn write(&self, status: Option<u16>, outcome: Outcome, refusal: Option<(&'static str, Option<&str>)>) {
        let duration = self.arrived.elapsed();
        self.metrics.request(outcome, self.kind, duration);
        let Tries { made: attempts, outcome_unknown } = self.tries;
        if outcome_unknown > 0 {
            self.metrics.outcome_unknown(u64::from(outcome_unknown));
        }
        // As text: a value that is displayed goes through `fmt`, at three times the cost.
        let (mut tenant_text, mut app_text) = (Uuid::encode_buffer(), Uuid::encode_buffer());
        tracing::event!(
            target: "switchboard::request",
            tracing::Level::INFO,
            http.request.method = self.method,
            http.route = route_name(self.kind),
            http.response.status_code = status,
            duration_ms = milliseconds(duration),
            outcome = outcome.label(),
            reason = refusal.map(|(reason, _)| reason),
            error = refusal.and_then(|(_, message)| message),
            call.id = self.call_id.as_deref(),
            call.chain_id = as_text(&self.chain_id),
            call.state = self.state,
            item = self.item,
            items = (self.items > 1).then_some(self.items),
            message.id = as_text(&self.message_id),
            tenant.id = self.tenant.as_ref().map(|tenant| &*tenant.hyphenated().encode_lower(&mut tenant_text)),
            app.id = self.app.as_ref().map(|app| &*app.hyphenated().encode_lower(&mut app_text)),
            rule = self.rule,
            region = self.region.as_ref().map(Name::as_str),
            instance = self.instance.as_ref().map(Name::as_str),
            incarnation = self.incarnation.as_ref().map(Name::as_str).filter(|life| *life != NO_INCARNATION),
            attempts = (attempts > 1).then_some(attempts),
            outcome_unknown = (outcome_unknown > 0).then_some(outcome_unknown),
            action = self.action.map(|acted| acted.action),
            action_result = self.action.map(|acted| acted.result),
            retry = self.retry,
            "request answered"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.finished {
            self.write(None, Outcome::ClientGone, None);
        }
    }
}

/// How often instances were asked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    made: u32,
    /// Of these, those of a new call that were given up after the request had been written: that instance may have acted.
    outcome_unknown: u32,
}

impl Tries {
    pub(crate) fn of_answer(answer: &UpstreamResponse) -> Self {
        Self { made: answer.attempts, outcome_unknown: answer.outcome_unknown }
    }

    pub(crate) fn of_failure(error: &PlaceError) -> Self {
        match error {
            PlaceError::NoCandidate => Self::default(),
            PlaceError::AllFailed { attempts, outcome_unknown, .. } => {
                Self { made: *attempts, outcome_unknown: *outcome_unknown }
            }
        }
    }

    pub(crate) fn of_lost(error: &ForwardError) -> Self {
        match error {
            ForwardError::Unreachable { attempts, .. } => Self::in_vain(*attempts),
            ForwardError::FleetUnknown | ForwardError::Gone { .. } | ForwardError::NoInstance => {
                Self::default()
            }
        }
    }

    /// Of a callback that nobody answered.
    pub(crate) fn in_vain(attempts: u32) -> Self {
        Self { made: attempts, outcome_unknown: 0 }
    }
}

/// Any token can be a method; those that HTTP does not define are one to us (OpenTelemetry's word for them).
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

/// The path's pattern: paths themselves hold seals and whatever a stranger sends.
fn route_name(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Webhook => "webhook",
        RequestKind::Callback => "callback",
        RequestKind::Health => "health",
        RequestKind::Other => "other",
    }
}

fn as_text(value: &Option<HeaderValue>) -> Option<&str> {
    value.as_ref().and_then(|value| value.to_str().ok())
}

/// What a source says that tells no lives apart.
const NO_INCARNATION: &str = "0";
