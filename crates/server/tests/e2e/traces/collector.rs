//! A collector: it decodes each export, and responds as the test specifies.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message as _;

use crate::support::{Instance, Reply, http::Message};

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) server: Instance,
    spans: Vec<Span>,
    bytes: Vec<u8>,
    url: String,
}

/// A span that was exported. Ids are hexadecimal; the parent of a root is empty.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) kind: i32,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) state: String,
    pub(super) is_error: bool,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
}

impl Span {
    pub(super) const SERVER: i32 = 2;
    pub(super) const CLIENT: i32 = 3;

    #[track_caller]
    pub(super) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"))
    }

    pub(super) fn resource(&self, name: &str) -> &str {
        self.resource.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    pub(super) fn start() -> Self {
        let server = Instance::start("collector");
        server.always(Reply::with(200, &[("Content-Type", "application/x-protobuf")], ""));
        let url = server.url();
        Self { server, spans: Vec::new(), bytes: Vec::new(), url }
    }

    /// The variables of a gateway that exports here soon, with `more`.
    pub(super) fn variables<'a>(&'a self, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let own = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*self.url), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
        [&own, more].concat()
    }

    /// Waits for a span that fits. It may have arrived before.
    pub(super) async fn span(&mut self, what: &str, fits: impl Fn(&Span) -> bool) -> Span {
        loop {
            if let Some(span) = self.spans.iter().find(|span| fits(span)) {
                return span.clone();
            }
            let export = self.server.request();
            let export = tokio::time::timeout(crate::support::WAIT_MAX, export).await;
            let export = export.unwrap_or_else(|_| panic!("{what}: not in {:?}", self.spans));
            self.receive(&export);
        }
    }

    /// Returns all spans that have arrived.
    pub(super) fn spans_now(&mut self) -> &[Span] {
        while let Some(export) = self.server.request_now() {
            self.receive(&export);
        }
        &self.spans
    }

    pub(super) fn forget(&mut self) {
        self.spans.clear();
    }

    /// Returns true if an export had these bytes.
    pub(super) fn contains(&self, part: &[u8]) -> bool {
        self.bytes.windows(part.len()).any(|window| window == part)
    }

    /// Notes the spans of an export.
    pub(super) fn receive(&mut self, export: &Message) {
        assert_eq!((export.method(), export.field("content-type")), ("POST", Some("application/x-protobuf")));
        self.bytes.extend(&export.body);
        let request = ExportTraceServiceRequest::decode(&*export.body).unwrap();
        for of_resource in request.resource_spans {
            let resource = texts(&of_resource.resource.unwrap().attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(Span {
                    name: span.name,
                    kind: span.kind,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    state: span.trace_state,
                    is_error: span.status.is_some_and(|status| status.code == 2),
                    start: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                    attributes: texts(&span.attributes),
                    resource: resource.clone(),
                });
            }
        }
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| {
        let value = attribute.value.as_ref()?.value.as_ref()?;
        if let Value::IntValue(number) = value {
            return Some(number.to_string());
        }
        let Value::StringValue(text) = value else { panic!("{value:?}") };
        Some(text.clone())
    };
    attributes.iter().filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
