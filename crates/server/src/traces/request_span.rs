//! `RequestSpan`: the span of one request, and those of the attempts made for it.

use std::{
    borrow::Cow,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind, TraceState},
};
use opentelemetry_sdk::trace::SpanData;
use switchboard_delivery::{AttemptResult, RequestTrace, TraceParent, TracedAttempt, TracedUpstream};
use tokio::time::Instant;

use crate::{
    traces::tracer::{Tracer, context, status},
    wall_clock::wall_clock,
};

/// The span of a request, whether it is recorded or not.
#[derive(Debug)]
pub(crate) struct RequestSpan {
    tracer: Arc<Tracer>,
    trace: Arc<RequestTrace>,
    /// The span that the sender names.
    parent: Option<TraceParent>,
    state: TraceState,
    scheme: &'static str,
    arrived: Instant,
    /// The wall-clock time of the arrival.
    now: SystemTime,
    route: Option<String>,
}

impl RequestSpan {
    /// The span of a request with these headers. Its sender may name the parent, and decide by it.
    pub(crate) fn new(
        tracer: &Arc<Tracer>,
        headers: &HeaderMap,
        is_secure: bool,
        (arrived, now): (Instant, SystemTime),
    ) -> Box<Self> {
        let parent = TraceParent::received(headers);
        let state = if parent.is_some() { trace_state(headers) } else { TraceState::default() };
        Box::new(Self {
            trace: Arc::new(RequestTrace::new(tracer.next_span(parent))),
            tracer: Arc::clone(tracer),
            parent,
            state,
            scheme: if is_secure { "https" } else { "http" },
            arrived,
            now,
            route: None,
        })
    }

    /// The trace, for the attempts.
    pub(crate) fn trace(&self) -> Arc<RequestTrace> {
        Arc::clone(&self.trace)
    }

    /// The id of the trace as hexadecimal digits.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace.span().trace_id)
    }

    /// Notes the template of the path. The path itself may hold a seal.
    pub(crate) fn route(&mut self, template: String) {
        self.route = Some(template);
    }

    /// Queues the span and those of the attempts: the request has ended `duration` after its arrival.
    ///
    /// `error` is the reason for which there was no response. Absent attributes are left out.
    pub(crate) fn finish(
        &self,
        duration: Duration,
        method: &'static str,
        status_code: Option<u16>,
        error: Option<&str>,
        attributes: &[(&'static str, Option<&str>)],
    ) {
        let span = self.trace.span();
        if !span.is_sampled {
            return;
        }
        let end = self.now + duration;
        let mut all =
            vec![KeyValue::new("http.request.method", method), KeyValue::new("url.scheme", self.scheme)];
        let name = match &self.route {
            Some(route) => {
                all.push(KeyValue::new("http.route", route.clone()));
                Cow::Owned(format!("{method} {route}"))
            }
            None => Cow::Borrowed(method),
        };
        let code = status_code.map(|code| code.to_string());
        if let Some(code) = status_code {
            all.push(KeyValue::new("http.response.status_code", i64::from(code)));
        }
        // Only a 5xx is an error of the server.
        let error = error.or_else(|| code.as_deref().filter(|code| code.starts_with('5')));
        all.extend(error.map(|error| KeyValue::new("error.type", error.to_owned())));
        let present = attributes.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
        all.extend(present.map(|(name, value)| KeyValue::new(name, value.to_owned())));
        let data = self.tracer.data(span, (SpanKind::Server, name), (self.now, end), all);
        let data = SpanData {
            span_context: context(span, self.state.clone()),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span_id)),
            parent_span_is_remote: self.parent.is_some(),
            status: status(error),
            ..data
        };
        let attempts = AttemptSpans {
            tracer: &self.tracer,
            trace: &self.trace,
            state: &self.state,
            end: (self.arrived + duration, end),
        };
        self.tracer.emit(std::iter::once(data).chain(attempts.data()));
    }
}

impl Tracer {
    /// Queues the spans of the attempts of `trace`, which has no other spans, and has ended now.
    pub(crate) fn attempts(&self, trace: &RequestTrace) {
        let (state, end) = (&TraceState::default(), (Instant::now(), wall_clock()));
        self.emit(AttemptSpans { tracer: self, trace, state, end }.data());
    }
}

/// The spans of the attempts of a request that has ended.
struct AttemptSpans<'a> {
    tracer: &'a Tracer,
    trace: &'a RequestTrace,
    state: &'a TraceState,
    /// The end of the request, on both clocks.
    end: (Instant, SystemTime),
}

impl AttemptSpans<'_> {
    fn data(&self) -> Vec<SpanData> {
        let attempts = self.trace.take_attempts().into_iter().enumerate();
        attempts.map(|(index, attempt)| self.attempt(index, attempt)).collect()
    }

    fn time(&self, at: Instant) -> SystemTime {
        self.end.1.checked_sub(self.end.0.saturating_duration_since(at)).unwrap_or(self.end.1)
    }

    /// The span of an attempt, which ends with the request if it is still open.
    fn attempt(&self, index: usize, attempt: TracedAttempt) -> SpanData {
        let TracedAttempt { span_id, upstream, host, port, is_secure, started, end } = attempt;
        let (ended, result) =
            end.map_or((self.end.1, AttemptResult::GivenUp), |(at, result)| (self.time(at), result));
        let mut attributes = vec![
            KeyValue::new("http.request.method", "POST"),
            KeyValue::new("url.scheme", if is_secure { "https" } else { "http" }),
            KeyValue::new("server.address", host),
            KeyValue::new("server.port", i64::from(port)),
            match upstream {
                TracedUpstream::Instance(name) => {
                    KeyValue::new("switchboard.instance", name.as_str().to_owned())
                }
                TracedUpstream::Peer(name) => KeyValue::new("switchboard.region", name.as_str().to_owned()),
            },
        ];
        if index > 0 {
            let count = i64::try_from(index).unwrap_or(i64::MAX);
            attributes.push(KeyValue::new("http.request.resend_count", count));
        }
        let error = match result {
            AttemptResult::Responded(code) => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(code.as_u16())));
                let is_error = code.is_client_error() || code.is_server_error();
                is_error.then(|| code.as_str().to_owned())
            }
            AttemptResult::Failed(label) => Some(label.to_owned()),
            AttemptResult::GivenUp => Some(GIVEN_UP.to_owned()),
        };
        attributes.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        let span = self.trace.span();
        let own = TraceParent { span_id, ..span };
        let name = (SpanKind::Client, Cow::Borrowed("POST"));
        SpanData {
            span_context: context(own, self.state.clone()),
            parent_span_id: SpanId::from(span.span_id),
            status: status(error.as_deref()),
            ..self.tracer.data(own, name, (self.time(started), ended), attributes)
        }
    }
}

/// The `tracestate` of a request, if it is valid.
fn trace_state(headers: &HeaderMap) -> TraceState {
    let values = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok());
    let text = values.collect::<Vec<_>>().join(",");
    if text.len() > STATE_BYTES_MAX { None } else { TraceState::from_str(&text).ok() }.unwrap_or_default()
}

/// The error of an attempt that the gateway stopped waiting for.
const GIVEN_UP: &str = "given_up";
/// The longest `tracestate` that a span keeps. Vendors should pass on at least 512 characters (W3C Trace
/// Context, section 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
