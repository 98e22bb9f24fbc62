//! `GraphCalls`: the calls API of each app for which the gateway acts on calls.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use switchboard_delivery::TlsClient;
use switchboard_graph::{Calls, GraphRequest, GraphResponse, GraphSettings, Transport, TransportError};
use tokio::time::Instant;
use uuid::Uuid;

use super::graph::GraphTransport;
use crate::{
    metrics::Metrics,
    platform::CALL_LIMIT,
    traces::{Tracer, traced_transport},
};

/// The calls API of each app with `[app.graph]`.
#[derive(Debug)]
pub(crate) struct GraphCalls {
    calls: HashMap<Uuid, Arc<Calls>>,
}

impl GraphCalls {
    pub(crate) fn new(
        settings: Vec<(Uuid, GraphSettings)>,
        tls: &TlsClient,
        metrics: &Arc<Metrics>,
        tracer: Option<&Arc<Tracer>>,
    ) -> Self {
        let (transport, metrics) = (GraphTransport::new(tls), Arc::clone(metrics));
        let transport = traced_transport(TimedTransport { transport, metrics }, tracer);
        let calls = |(app, settings)| (app, Arc::new(Calls::new(settings, Arc::clone(&transport))));
        Self { calls: settings.into_iter().map(calls).collect() }
    }

    /// The calls API of an app; `None` if the gateway does not act for the app.
    pub(crate) fn of(&self, app: Uuid) -> Option<&Arc<Calls>> {
        self.calls.get(&app)
    }

    /// The longest time that an action may take; zero if the gateway acts for no app.
    pub(crate) fn longest(&self) -> Duration {
        if self.calls.is_empty() { Duration::ZERO } else { CALL_LIMIT.saturating_sub(RESPONSE_MARGIN) }
    }
}

/// A transport that records how long its requests take.
struct TimedTransport {
    transport: GraphTransport,
    metrics: Arc<Metrics>,
}

impl Transport for TimedTransport {
    fn send(
        &self,
        request: GraphRequest,
    ) -> Pin<Box<dyn Future<Output = Result<GraphResponse, TransportError>> + Send + '_>> {
        Box::pin(async {
            let started = Instant::now();
            let result = self.transport.send(request).await;
            self.metrics.graph_request(&result, started.elapsed());
            result
        })
    }
}

/// The time that the gateway's own response needs to reach the platform before the platform gives the call
/// up.
pub(crate) const RESPONSE_MARGIN: Duration = Duration::from_millis(500);
