//! Traces by OTLP over HTTP: a span for each request, and for each request that the gateway makes for it.
//!
//! Spans are made after the fact, from times that exist: a request without them pays for one branch. Without
//! the feature `otlp` nothing here can be created; `absent` has the same names.
//!
//! Reading order: `settings` (the variables), `tracer` with `sampler` (which requests have spans),
//! `request_span`, `outgoing` (the spans), `queue`, `exporter` with `collector` (their way out).

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod collector;
#[cfg(feature = "otlp")]
mod exporter;
#[cfg(feature = "otlp")]
mod outgoing;
#[cfg(feature = "otlp")]
mod queue;
#[cfg(feature = "otlp")]
mod request_span;
#[cfg(feature = "otlp")]
mod sampler;
#[cfg(feature = "otlp")]
mod settings;
#[cfg(feature = "otlp")]
mod tracer;

#[cfg(not(feature = "otlp"))]
pub(crate) use self::absent::{Exporter, RequestSpan, Tracer, in_span, traced_fetch, traced_transport};
#[cfg(not(feature = "otlp"))]
pub use self::absent::{ExporterError, InvalidTraceSettings, TraceSettings};
#[cfg(feature = "otlp")]
pub(crate) use self::{
    exporter::Exporter,
    outgoing::{in_span, traced_fetch, traced_transport},
    request_span::RequestSpan,
    tracer::Tracer,
};
#[cfg(feature = "otlp")]
pub use self::{
    exporter::ExporterError,
    settings::{InvalidTraceSettings, TraceSettings},
};
