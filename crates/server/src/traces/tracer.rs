//! `Tracer`: decides which requests have spans, and queues the spans for the exporter.

use std::{
    borrow::Cow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::SystemTime,
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use switchboard_delivery::TraceParent;

use crate::{
    metrics::Metrics,
    traces::{queue::SpanQueue, sampler::Sampler, settings::TraceSettings},
};

/// Makes the spans of this process. It outlives a reload.
#[derive(Debug)]
pub(crate) struct Tracer {
    sampler: Sampler,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    pub(super) queue: SpanQueue<SpanData>,
    pub(super) metrics: Arc<Metrics>,
}

impl Tracer {
    pub(super) fn new(settings: &TraceSettings, metrics: Arc<Metrics>) -> Self {
        let scope = InstrumentationScope::builder("switchboard").with_version(env!("CARGO_PKG_VERSION"));
        Self {
            sampler: settings.sampler,
            ids: RandomIdGenerator::default(),
            scope: scope.build(),
            queue: SpanQueue::new(settings.queue_max, settings.batch_max),
            metrics,
        }
    }

    /// The next span of the trace of `parent`, or the first of a new trace.
    pub(super) fn next_span(&self, parent: Option<TraceParent>) -> TraceParent {
        let trace_id = parent.map_or_else(
            || u128::from_be_bytes(self.ids.new_trace_id().to_bytes()),
            |parent| parent.trace_id,
        );
        TraceParent {
            trace_id,
            span_id: u64::from_be_bytes(self.ids.new_span_id().to_bytes()),
            is_sampled: self.sampler.samples(parent, trace_id),
        }
    }

    /// A span below `parent` in this process, which has the decision of its parent.
    pub(super) fn child_span(&self, parent: TraceParent) -> TraceParent {
        TraceParent { span_id: u64::from_be_bytes(self.ids.new_span_id().to_bytes()), ..parent }
    }

    /// The data of a span that has no parent and no error.
    pub(super) fn data(
        &self,
        span: TraceParent,
        (span_kind, name): (SpanKind, Cow<'static, str>),
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        SpanData {
            span_context: context(span, TraceState::default()),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind,
            name,
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }

    /// Queues spans for the exporter. Those for which there is no room are counted.
    pub(super) fn emit(&self, spans: impl IntoIterator<Item = SpanData>) {
        let dropped = self.queue.push(spans);
        if dropped > 0 {
            self.metrics.spans.queue_full.fetch_add(u64::try_from(dropped).unwrap_or(u64::MAX), Relaxed);
        }
    }
}

/// The context of a span.
pub(super) fn context(span: TraceParent, state: TraceState) -> SpanContext {
    let flags = TraceFlags::default().with_sampled(span.is_sampled);
    SpanContext::new(TraceId::from(span.trace_id), SpanId::from(span.span_id), flags, false, state)
}

/// The status of a span with this value of `error.type`, if it has one.
pub(super) fn status(error: Option<&str>) -> Status {
    error.map_or(Status::Unset, |_| Status::error(""))
}
