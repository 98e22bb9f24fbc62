//! The spans of requests to Graph, to token endpoints and to issuers.

use std::{borrow::Cow, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use bytes::Bytes;
use opentelemetry::{
    KeyValue,
    trace::{SpanId, SpanKind},
};
use opentelemetry_sdk::trace::SpanData;
use switchboard_auth::{Fetch, FetchError};
use switchboard_delivery::TraceParent;
use switchboard_graph::{GraphRequest, GraphResponse, Transport, TransportError};
use tokio::time::Instant;
use url::Url;

use crate::{
    traces::tracer::{Tracer, status},
    wall_clock::wall_clock,
};

tokio::task_local! {
    /// The span for which a task makes requests.
    static PARENT: Option<TraceParent>;
}

/// Runs `work` for a request with this span: what the work asks Graph for is below it.
pub(crate) fn in_span<W: Future>(
    span: Option<TraceParent>,
    work: W,
) -> impl Future<Output = W::Output> + use<W> {
    PARENT.scope(span, work)
}

/// The same transport, whose requests have spans if there is a tracer.
///
/// A request for a token has a trace of its own: other calls use the token, too.
pub(crate) fn traced_transport(
    transport: impl Transport,
    tracer: Option<&Arc<Tracer>>,
) -> Arc<dyn Transport> {
    match tracer {
        Some(tracer) => Arc::new(TracedTransport { transport, tracer: Arc::clone(tracer) }),
        None => Arc::new(transport),
    }
}

/// The same client of a trust's documents, whose requests have spans if there is a tracer. Each has a trace
/// of its own: all requests share the keys.
pub(crate) fn traced_fetch(fetch: impl Fetch, trust: &str, tracer: Option<&Arc<Tracer>>) -> Arc<dyn Fetch> {
    match tracer {
        Some(tracer) => Arc::new(TracedFetch { fetch, trust: trust.to_owned(), tracer: Arc::clone(tracer) }),
        None => Arc::new(fetch),
    }
}

struct TracedTransport<T> {
    transport: T,
    tracer: Arc<Tracer>,
}

impl<T: Transport> Transport for TracedTransport<T> {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        let parent = PARENT.try_with(|parent| *parent).ok().flatten();
        let span = OutgoingSpan::start(&self.tracer, parent, request.method.as_str(), &request.url);
        Box::pin(async move {
            let sent = self.transport.send(request).await;
            if let Some(span) = span {
                let status = sent.as_ref().map(|response| response.status);
                span.end(status.map_err(|error| error.kind.label()), None);
            }
            sent
        })
    }
}

struct TracedFetch<F> {
    fetch: F,
    trust: String,
    tracer: Arc<Tracer>,
}

impl<F: Fetch> Fetch for TracedFetch<F> {
    fn get(
        &self,
        url: &Url,
        bytes_max: usize,
    ) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send + '_>> {
        let span = OutgoingSpan::start(&self.tracer, None, "GET", url);
        let fetching = self.fetch.get(url, bytes_max);
        Box::pin(async move {
            let fetched = fetching.await;
            if let Some(span) = span {
                let trust = KeyValue::new("switchboard.trust", self.trust.clone());
                span.end(fetched.as_ref().map(|_| OK).map_err(|error| error.kind), Some(trust));
            }
            fetched
        })
    }
}

/// A request that is under way, whose span is recorded.
struct OutgoingSpan {
    tracer: Arc<Tracer>,
    own: TraceParent,
    parent: Option<TraceParent>,
    method: &'static str,
    template: String,
    attributes: Vec<KeyValue>,
    started: Instant,
    now: SystemTime,
}

impl OutgoingSpan {
    fn start(
        tracer: &Arc<Tracer>,
        parent: Option<TraceParent>,
        method: &'static str,
        url: &Url,
    ) -> Option<Self> {
        let own = parent.map_or_else(|| tracer.next_span(None), |parent| tracer.child_span(parent));
        if !own.is_sampled {
            return None;
        }
        let template = template(url.path());
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("url.scheme", url.scheme().to_owned()),
            KeyValue::new("url.template", template.clone()),
            KeyValue::new("server.address", url.host_str().unwrap_or_default().to_owned()),
        ];
        attributes
            .extend(url.port_or_known_default().map(|port| KeyValue::new("server.port", i64::from(port))));
        let (started, now) = (Instant::now(), wall_clock());
        Some(Self { tracer: Arc::clone(tracer), own, parent, method, template, attributes, started, now })
    }

    /// Queues the span. `result` is the status, or the label of the failure.
    fn end(self, result: Result<u16, &'static str>, more: Option<KeyValue>) {
        let Self { tracer, own, parent, method, template, mut attributes, started, now } = self;
        let error = match result {
            Ok(code) => {
                attributes.push(KeyValue::new("http.response.status_code", i64::from(code)));
                (code >= 400).then(|| code.to_string())
            }
            Err(label) => Some(label.to_owned()),
        };
        attributes.extend(error.clone().map(|error| KeyValue::new("error.type", error)));
        attributes.extend(more);
        let name = (SpanKind::Client, Cow::Owned(format!("{method} {template}")));
        tracer.emit([SpanData {
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.span_id)),
            status: status(error.as_deref()),
            ..tracer.data(own, name, (now, now + started.elapsed()), attributes)
        }]);
    }
}

/// The path with `{id}` in place of each part that is not a plain word: ids of tenants, calls and
/// participants.
fn template(path: &str) -> String {
    let is_word = |part: &&str| {
        part.len() <= WORD_BYTES_MAX && part.bytes().all(|byte| byte.is_ascii_alphabetic())
            || WORDS.contains(part)
    };
    let part = |part| if is_word(&part) { part } else { "{id}" };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Parts of paths with other characters than letters.
const WORDS: [&str; 5] = [".well-known", "oauth2", "v1", "v1.0", "v2.0"];
/// The longest word of Graph's paths has 27 letters.
const WORD_BYTES_MAX: usize = 32;
/// The status of a document that was fetched.
const OK: u16 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_has_no_id() {
        for (path, expected) in [
            (
                "/v1.0/communications/calls/491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7/playPrompt",
                "/v1.0/communications/calls/{id}/playPrompt",
            ),
            ("/72f988bf-86f1-41af-91ab-2d7cd011db47/oauth2/v2.0/token", "/{id}/oauth2/v2.0/token"),
            ("/contoso.onmicrosoft.com/oauth2/v2.0/token", "/{id}/oauth2/v2.0/token"),
            ("/v1/.well-known/openidconfiguration", "/v1/.well-known/openidconfiguration"),
            ("/calls/%41dele", "/calls/{id}"),
            ("/calls/+15550100", "/calls/{id}"),
            ("/", "/"),
        ] {
            assert_eq!(template(path), expected);
        }
    }
}
