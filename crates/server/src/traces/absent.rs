//! Traces in a build without the feature `otlp`: none of these types has a value, and no error occurs.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::HeaderMap;
use switchboard_auth::Fetch;
use switchboard_delivery::{RequestTrace, TraceParent};
use switchboard_graph::Transport;
use tokio::time::Instant;

use crate::{clients::authorities::Authorities, metrics::Metrics};

/// The settings of traces.
#[derive(Debug)]
pub enum TraceSettings {}

/// Variables that have no valid value.
#[derive(Debug, thiserror::Error)]
#[error("invalid variables")]
pub struct InvalidTraceSettings(());

impl TraceSettings {
    /// Returns `None`. `variable` looks up an environment variable: an endpoint that is set without effect is
    /// logged.
    ///
    /// # Errors
    ///
    /// None.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, InvalidTraceSettings> {
        let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        if let Some(name) = endpoints.into_iter().find(|name| variable(name).is_some()) {
            tracing::warn!(
                variable = name,
                "this build cannot export traces; build it with `cargo build --release --features otlp`"
            );
        }
        Ok(None)
    }
}

/// The exporter cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("no exporter")]
pub struct ExporterError(());

#[derive(Debug)]
pub(crate) enum Exporter {}

impl Exporter {
    #[expect(clippy::needless_pass_by_value, reason = "as in a build with the feature")]
    pub(crate) fn new(
        settings: TraceSettings,
        _authorities: &Authorities,
        _region: &str,
        _metrics: &Arc<Metrics>,
    ) -> Result<Self, ExporterError> {
        match settings {}
    }

    pub(crate) fn tracer(&self) -> Arc<Tracer> {
        match *self {}
    }

    pub(crate) fn start(self) -> Self {
        self
    }

    pub(crate) async fn finish(self, _deadline: Instant) {}
}

#[derive(Debug)]
pub(crate) enum Tracer {}

impl Tracer {
    pub(crate) fn attempts(&self, _trace: &RequestTrace) {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum RequestSpan {}

impl RequestSpan {
    pub(crate) fn new(
        tracer: &Arc<Tracer>,
        _headers: &HeaderMap,
        _is_secure: bool,
        _arrival: (Instant, SystemTime),
    ) -> Box<Self> {
        match **tracer {}
    }

    pub(crate) fn trace(&self) -> Arc<RequestTrace> {
        match *self {}
    }

    pub(crate) fn trace_id(&self) -> String {
        match *self {}
    }

    pub(crate) fn route(&mut self, _template: String) {
        match *self {}
    }

    pub(crate) fn finish(
        &self,
        _duration: Duration,
        _method: &'static str,
        _status_code: Option<u16>,
        _error: Option<&str>,
        _attributes: &[(&'static str, Option<&str>)],
    ) {
        match *self {}
    }
}

pub(crate) fn in_span<W: Future>(_span: Option<TraceParent>, work: W) -> W {
    work
}

pub(crate) fn traced_transport(
    transport: impl Transport,
    _tracer: Option<&Arc<Tracer>>,
) -> Arc<dyn Transport> {
    Arc::new(transport)
}

pub(crate) fn traced_fetch(fetch: impl Fetch, _trust: &str, _tracer: Option<&Arc<Tracer>>) -> Arc<dyn Fetch> {
    Arc::new(fetch)
}
