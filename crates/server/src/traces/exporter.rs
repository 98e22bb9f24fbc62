//! `Exporter`: the task that takes spans from the queue and posts them to the collector.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use openssl::error::ErrorStack;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    resource::TelemetryResourceDetector,
    trace::{SpanData, SpanExporter},
};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};
use uuid::Uuid;

use crate::{
    clients::{authorities::Authorities, fetch::Fetcher},
    config::{CaCertificates, shown},
    metrics::Metrics,
    traces::{collector::CollectorClient, settings::TraceSettings, tracer::Tracer},
};

/// Exports the spans of a tracer. Its task runs on the control thread.
pub(crate) struct Exporter {
    tracer: Arc<Tracer>,
    exporter: OtlpExporter,
    client: Arc<CollectorClient>,
    delay: Duration,
    timeout: Duration,
    /// The last problem that was logged, until an export succeeds.
    problem: Option<String>,
}

/// The exporter cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ExporterError {
    /// The file of the authorities cannot be used.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE: {path}: {problem}")]
    Certificate {
        /// The path of the file, escaped.
        path: String,
        /// The problem.
        problem: String,
    },
    /// OpenSSL refuses a setting.
    #[error("cannot build the TLS client of traces")]
    Tls(#[from] ErrorStack),
    /// The library of the protocol refuses a setting.
    #[error("cannot build the exporter of traces")]
    Otlp(#[from] ExporterBuildError),
}

impl Exporter {
    /// Builds an exporter and its tracer. It may wait for a file: not for a thread that serves.
    ///
    /// # Errors
    ///
    /// The certificate cannot be read, or a library refuses a setting.
    pub(crate) fn new(
        settings: TraceSettings,
        authorities: &Authorities,
        region: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, ExporterError> {
        let tracer = Arc::new(Tracer::new(&settings, Arc::clone(metrics)));
        let TraceSettings { endpoint, headers, timeout, certificate, resource, delay, .. } = settings;
        let tls = match certificate {
            None => authorities.documents.clone(),
            Some(path) => {
                let ca = CaCertificates::load(&path)
                    .map_err(|problem| ExporterError::Certificate { path: shown(&path), problem })?;
                authorities.with(&ca)?
            }
        };
        let address = endpoint.origin().ascii_serialization();
        let client =
            Arc::new(CollectorClient::new(Fetcher::sharing(tls), endpoint.clone(), headers, timeout));
        let retries = RetryPolicy::recommended()
            .with_max_retries(RETRIES_MAX)
            .with_initial_delay(RETRY_DELAY)
            .with_max_delay(RETRY_DELAY_MAX);
        let mut exporter = OtlpExporter::builder()
            .with_http()
            .with_shared_http_client(client.clone())
            .with_endpoint(endpoint)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(timeout)
            .with_retry_policy(retries)
            .build()?;
        exporter.set_resource(&resource_of(region, resource));
        tracing::info!(collector = address, "exporting traces");
        Ok(Self { tracer, exporter, client, delay, timeout, problem: None })
    }

    /// The tracer whose spans are exported.
    pub(crate) fn tracer(&self) -> Arc<Tracer> {
        Arc::clone(&self.tracer)
    }

    /// Starts the task, on this runtime.
    pub(crate) fn start(self) -> RunningExporter {
        let tracer = self.tracer();
        let (stop, stopped) = oneshot::channel();
        RunningExporter { tracer, stop, task: tokio::spawn(self.run(stopped)) }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let tracer = self.tracer();
        let mut stops = false;
        while !stops {
            tokio::select! {
                _ = &mut stopped => stops = true,
                () = tracer.queue.filled() => {}
                () = sleep(self.delay) => {}
            }
            loop {
                let batch = tracer.queue.take_batch();
                if batch.is_empty() {
                    break;
                }
                self.export(batch).await;
                if !stops && !tracer.queue.has_batch() {
                    break;
                }
            }
        }
    }

    /// Exports a batch. The library repeats it as the protocol says (OTLP specification, "Failures"): after a
    /// 429, 502, 503 or 504, or without a response, with growing pauses or after `Retry-After`.
    async fn export(&mut self, batch: Vec<SpanData>) {
        let mut lost = NotExported { metrics: &self.tracer.metrics, spans: batch.len() };
        let exported = timeout(self.timeout, self.exporter.export(batch)).await;
        let counts = &self.tracer.metrics.spans;
        let exported = exported.unwrap_or(Err(OTelSdkError::Timeout(self.timeout)));
        if let Err(error) = exported {
            counts.exports_failed.fetch_add(1, Relaxed);
            let spans = lost.spans;
            drop(lost);
            let problem = self.client.take_problem().unwrap_or_else(|| error.to_string());
            if self.problem.as_ref() != Some(&problem) {
                tracing::warn!(spans, error = problem, "spans not exported");
                self.problem = Some(problem);
            }
            return;
        }
        let spans = number(std::mem::take(&mut lost.spans));
        let rejected = self.client.take_rejected().min(spans);
        counts.exports_ok.fetch_add(1, Relaxed);
        counts.exported.fetch_add(spans - rejected, Relaxed);
        counts.rejected.fetch_add(rejected, Relaxed);
        if rejected > 0 {
            tracing::warn!(spans = rejected, "collector rejected spans");
        }
        if self.problem.take().is_some() {
            tracing::info!("spans are exported again");
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The exporter of the library shows the values of header fields.
        f.debug_struct("Exporter").field("client", &self.client).finish_non_exhaustive()
    }
}

/// The task of an exporter.
#[derive(Debug)]
pub(crate) struct RunningExporter {
    tracer: Arc<Tracer>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl RunningExporter {
    /// Exports the spans that still wait, until `deadline`, and for five seconds at most: a collector that is
    /// down must not keep the process alive.
    pub(crate) async fn finish(self, deadline: Instant) {
        let Self { tracer, stop, mut task } = self;
        // The task may have ended by a panic.
        let _ = stop.send(());
        let until = deadline.min(Instant::now() + FLUSH_TIME_MAX);
        if timeout_at(until, &mut task).await.is_err() {
            task.abort();
            let _ = task.await;
        }
        loop {
            let spans = tracer.queue.take_batch().len();
            if spans == 0 {
                break;
            }
            drop(NotExported { metrics: &tracer.metrics, spans });
        }
    }
}

/// Spans that count as not exported when it is dropped, as by the end of the process.
struct NotExported<'m> {
    metrics: &'m Metrics,
    spans: usize,
}

impl Drop for NotExported<'_> {
    fn drop(&mut self) {
        self.metrics.spans.not_exported.fetch_add(number(self.spans), Relaxed);
    }
}

/// The resource of this process. The attributes that the operator sets replace those of the gateway.
fn resource_of(region: &str, attributes: Vec<(String, String)>) -> Resource {
    let mut all: BTreeMap<String, String> = [
        ("service.name", "switchboard"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("switchboard.region", region),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut random = [0; 16];
    if openssl::rand::rand_bytes(&mut random).is_ok() {
        let id = uuid::Builder::from_random_bytes(random).into_uuid();
        all.insert("service.instance.id".to_owned(), Uuid::to_string(&id));
    }
    all.extend(attributes);
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes(all.into_iter().map(|(key, value)| KeyValue::new(key, value)))
        .build()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// The repetitions of an export. Its time limit usually ends them first.
const RETRIES_MAX: usize = 5;
/// The pause before the first repetition. It doubles each time.
const RETRY_DELAY: Duration = Duration::from_millis(500);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(5);
/// The longest time for the spans that wait when the gateway stops.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(5);
