//! The trace context of a request, and the attempts made for it. A caller makes spans of them afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use switchboard_routing::Name;
use tokio::time::Instant;

use crate::{
    headers::trace_context::{TraceParent, new_span_id},
    upstream_url::UpstreamUrl,
};

/// The trace of one request: its own span, and the attempts made for the request if that span is recorded.
#[derive(Debug)]
pub struct RequestTrace {
    span: TraceParent,
    attempts: Mutex<Vec<TracedAttempt>>,
}

/// One attempt at an instance or at a peer gateway.
#[derive(Clone, Debug)]
pub struct TracedAttempt {
    /// The id of its span, which the upstream received in `traceparent`.
    pub span_id: u64,
    /// The upstream.
    pub upstream: TracedUpstream,
    /// The host of the upstream.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// True with TLS.
    pub is_secure: bool,
    /// The start, before a connection is made.
    pub started: Instant,
    /// The end, with the head of the response; `None` while the attempt is open.
    pub end: Option<(Instant, AttemptResult)>,
}

/// The upstream of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracedUpstream {
    /// An instance, by its name.
    Instance(Name),
    /// The gateway of another region.
    Peer(Name),
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The upstream responded.
    Responded(StatusCode),
    /// The attempt failed; the label of the failure.
    Failed(&'static str),
    /// The gateway stopped waiting: its time was over, another instance accepted, or the sender hung up.
    GivenUp,
}

impl RequestTrace {
    /// The trace of a request whose own span is `span`.
    pub fn new(span: TraceParent) -> Self {
        Self { span, attempts: Mutex::default() }
    }

    /// The span of the request.
    pub fn span(&self) -> TraceParent {
        self.span
    }

    /// Takes the attempts so far, in the order of their start. The end of one that is still open is not
    /// noted.
    pub fn take_attempts(&self) -> Vec<TracedAttempt> {
        std::mem::take(&mut *self.attempts())
    }

    fn attempts(&self) -> MutexGuard<'_, Vec<TracedAttempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trace of a request on its way to an upstream.
#[derive(Debug)]
pub(crate) struct UpstreamTrace {
    trace: Arc<RequestTrace>,
    upstream: TracedUpstream,
}

impl UpstreamTrace {
    /// The trace of a request to `upstream`; `None` if its spans are not recorded.
    pub(crate) fn of(trace: Option<&Arc<RequestTrace>>, upstream: TracedUpstream) -> Option<Arc<Self>> {
        let trace = Arc::clone(trace.filter(|trace| trace.span.is_sampled)?);
        Some(Arc::new(Self { trace, upstream }))
    }

    /// Notes the start of an attempt. Its span is the parent of what the upstream does.
    pub(crate) fn start(&self, url: &UpstreamUrl) -> (OpenAttempt, TraceParent) {
        let span_id = new_span_id();
        let origin = url.origin();
        let mut attempts = self.trace.attempts();
        if attempts.len() < ATTEMPTS_MAX {
            attempts.push(TracedAttempt {
                span_id,
                upstream: self.upstream.clone(),
                host: origin.host.to_string(),
                port: origin.port,
                is_secure: origin.secure,
                started: Instant::now(),
                end: None,
            });
        }
        let open = OpenAttempt { trace: Arc::clone(&self.trace), span_id };
        (open, TraceParent { span_id, ..self.trace.span })
    }
}

/// An attempt that has started. Dropped before its end, it was given up.
pub(crate) struct OpenAttempt {
    trace: Arc<RequestTrace>,
    span_id: u64,
}

impl OpenAttempt {
    /// Notes the end of the attempt: the status, or the label of the failure.
    pub(crate) fn ended(self, result: Result<StatusCode, &'static str>) {
        self.note(result.map_or_else(AttemptResult::Failed, AttemptResult::Responded));
    }

    fn note(&self, result: AttemptResult) {
        let mut attempts = self.trace.attempts();
        if let Some(attempt) = attempts.iter_mut().find(|attempt| attempt.span_id == self.span_id) {
            attempt.end.get_or_insert_with(|| (Instant::now(), result));
        }
    }
}

impl Drop for OpenAttempt {
    fn drop(&mut self) {
        self.note(AttemptResult::GivenUp);
    }
}

/// The most attempts of one request that are noted. A callback is sent again each half second until the end
/// of patience, and a batch has the attempts of all its parts.
const ATTEMPTS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Arc<RequestTrace> {
        Arc::new(RequestTrace::new(TraceParent { trace_id: 1, span_id: 2, is_sampled: true }))
    }

    fn upstream() -> TracedUpstream {
        TracedUpstream::Instance(Name::parse("bot-0").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_attempt_has_one_end() {
        let trace = trace();
        let url = UpstreamUrl::parse("https://bot.example:8443/api/calls").unwrap();
        let to = UpstreamTrace::of(Some(&trace), upstream()).unwrap();
        let starts = [0; 4].map(|_| to.start(&url));
        assert!(starts.iter().all(|(_, span)| (span.trace_id, span.is_sampled) == (1, true)));
        let spans = starts.iter().map(|(_, span)| span.span_id).collect::<Vec<_>>();
        let [(responded, _), (failed, _), (given_up, _), (open, _)] = starts;
        responded.ended(Ok(StatusCode::ACCEPTED));
        failed.ended(Err("refused"));
        drop(given_up);
        let attempts = trace.take_attempts();
        assert_eq!(attempts.iter().map(|attempt| attempt.span_id).collect::<Vec<_>>(), spans);
        let results: Vec<_> = attempts.iter().map(|attempt| attempt.end.map(|(_, result)| result)).collect();
        assert_eq!(
            results,
            [
                Some(AttemptResult::Responded(StatusCode::ACCEPTED)),
                Some(AttemptResult::Failed("refused")),
                Some(AttemptResult::GivenUp),
                None
            ]
        );
        let first = &attempts[0];
        assert_eq!((&*first.host, first.port, first.is_secure), ("bot.example", 8443, true));
        // The attempts have been taken.
        drop(open);
        assert!(trace.take_attempts().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_noted_attempts_are_limited_and_only_those_of_recorded_spans() {
        let url = UpstreamUrl::parse("http://bot.example/").unwrap();
        let trace = trace();
        let to = UpstreamTrace::of(Some(&trace), upstream()).unwrap();
        for _ in 0..2 * ATTEMPTS_MAX {
            to.start(&url).0.ended(Ok(StatusCode::OK));
        }
        assert_eq!(trace.take_attempts().len(), ATTEMPTS_MAX);
        let span = TraceParent { is_sampled: false, ..trace.span() };
        assert!(UpstreamTrace::of(Some(&Arc::new(RequestTrace::new(span))), upstream()).is_none());
        assert!(UpstreamTrace::of(None, upstream()).is_none());
    }
}
