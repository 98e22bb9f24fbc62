//! Exports: repeated, given up, bounded, and flushed at the end of the process.

use std::process::{Command, Stdio};

use super::collector::{Collector, Span};
use crate::support::{
    Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies,
    gateway::{BINARY, CONFIG, write_configuration},
    port::Port,
    until,
};

const SECRET: &str = "s3cret-of-the-collector";

struct Fixture {
    // They serve for as long as the gateway runs.
    _issuer: Issuer,
    _instance: Instance,
    gateway: Gateway,
}

impl Fixture {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let issuer = Issuer::start();
        let instance = Instance::start("bot-0");
        let settings = Settings::new(&issuer, &[&instance])
            .line("listen", "drain = { delay = \"0ms\", deadline = \"10m\" }");
        let gateway = Gateway::start_with_variables(&settings, variables).await;
        let fixture = Self { _issuer: issuer, _instance: instance, gateway };
        fixture.call().await;
        fixture
    }

    /// Makes one call, which has two spans.
    async fn call(&self) {
        let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
        assert_eq!(request.send(&self.gateway).await.status(), 202);
    }

    async fn dropped(&self, reason: &str, least: f64) {
        until(&format!("spans dropped: {reason}"), async || {
            let dropped = self.gateway.metric("switchboard_spans_dropped_total", &[("reason", reason)]).await;
            (dropped >= least).then_some(())
        })
        .await;
    }

    /// Stops the gateway, and returns its exit code.
    async fn stop(mut self) -> Option<i32> {
        self.gateway.signal("TERM");
        self.gateway.exit().await
    }
}

#[tokio::test]
async fn a_drain_exports_the_spans_that_wait() {
    let mut collector = Collector::start();
    let fixture = Fixture::start(&collector.variables(&[("OTEL_BSP_SCHEDULE_DELAY", "300000")])).await;
    collector.server.expect_nothing();
    assert_eq!(fixture.stop().await, Some(0));
    let spans = collector.spans_now();
    assert_eq!(spans.iter().filter(|span| span.kind == Span::SERVER).count(), 1, "{spans:?}");
    assert!(spans.iter().any(|span| span.name == "POST" && span.kind == Span::CLIENT), "{spans:?}");
}

#[tokio::test]
async fn an_export_is_repeated_as_the_protocol_says() {
    for refusal in [
        Reply::with(503, &[("Retry-After", "1")], ""),
        Reply::status(429),
        Reply::status(502),
        Reply::status(504),
        Reply::Reset,
    ] {
        let mut collector = Collector::start();
        collector.server.next(refusal);
        let fixture = Fixture::start(&collector.variables(&[])).await;
        let first = collector.server.request().await;
        let again = collector.server.request().await;
        assert_eq!(first.body, again.body);
        collector.receive(&again);
        collector.span("the request", |span| span.kind == Span::SERVER).await;
        assert_eq!(fixture.gateway.metric("switchboard_spans_dropped_total", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn spans_that_cannot_be_exported_are_counted() {
    let huge = "x".repeat(100 * 1024);
    for (reply, error) in [
        (Reply::status(400), "the response has status 400"),
        (Reply::with(302, &[("Location", "/")], ""), "the response has status 302"),
        (Reply::with(200, &[], &huge), "the response has more than 65536 bytes"),
        (Reply::Bytes(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), "invalid HTTP version parsed"),
        (Reply::Never, "no complete response in 1 s"),
    ] {
        let collector = Collector::start();
        collector.server.always(reply);
        let variables = collector.variables(&[("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]);
        let fixture = Fixture::start(&variables).await;
        fixture.dropped("not_exported", 2.0).await;
        let event = fixture.gateway.log.message("spans not exported").await;
        assert_eq!(event["level"], "warn");
        assert!(event["error"].as_str().unwrap().contains(error), "{event}");
        assert!(
            fixture.gateway.metric("switchboard_span_exports_total", &[("result", "failed")]).await >= 1.0
        );
    }
}

/// The collector never responds, and an export has more time than the test.
#[tokio::test]
async fn a_collector_that_hangs_delays_nothing() {
    let collector = Collector::start();
    collector.server.always(Reply::Never);
    let headers = format!("authorization={SECRET}");
    let variables = collector.variables(&[
        ("OTEL_BSP_MAX_QUEUE_SIZE", "1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "300000"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "300000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
    ]);
    let mut fixture = Fixture::start(&variables).await;
    fixture.dropped("queue_full", 1.0).await;
    fixture.gateway.signal("HUP");
    fixture.gateway.log.message("configuration reloaded").await;
    fixture.call().await;
    fixture.gateway.signal("TERM");
    // Long before the deadlines of the drain and of the export.
    assert_eq!(fixture.gateway.exit().await, Some(0));
    fixture.gateway.log.message("drain finished: nothing was cut off").await;
    assert!(!fixture.gateway.log.text().contains(SECRET));
}

#[tokio::test]
async fn a_collector_that_is_down_delays_nothing() {
    let away = Port::reserve();
    let endpoint = format!("http://{}", away.address);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
    ];
    let fixture = Fixture::start(&variables).await;
    let event = fixture.gateway.log.message("spans not exported").await;
    assert!(event["error"].as_str().unwrap().contains("refused"), "{event}");
    fixture.dropped("not_exported", 2.0).await;
    fixture.call().await;
    assert_eq!(fixture.stop().await, Some(0));
}

#[tokio::test]
async fn header_values_reach_the_collector_alone() {
    let mut collector = Collector::start();
    let headers = format!("authorization=Bearer%20{SECRET},x-tenant=a");
    let variables = collector.variables(&[("OTEL_EXPORTER_OTLP_HEADERS", &headers)]);
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("log", "level = \"trace\"");
    collector.server.next(Reply::status(400));
    let gateway = Gateway::start_with_variables(&settings, &variables).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    for _ in 0..2 {
        assert_eq!(request.send(&gateway).await.status(), 202);
        let export = collector.server.request().await;
        assert_eq!(export.field("authorization"), Some(&*format!("Bearer {SECRET}")));
        assert_eq!(export.field("x-tenant"), Some("a"));
    }
    gateway.log.message("spans are exported again").await;
    for path in ["/metrics", "/fleet", "/readyz"] {
        let shown = gateway.admin(path).await;
        assert!(!String::from_utf8_lossy(&shown.body).contains(SECRET), "{path}");
    }
    assert!(!gateway.log.text().contains(SECRET));
}

/// Another gateway is the server: it has TLS, and no path of a collector.
#[tokio::test]
async fn the_certificate_of_the_collector_is_verified() {
    let issuer = Issuer::start();
    let mut settings = Settings::without_fleet(&issuer);
    settings.tls = true;
    let server = Gateway::start_unready(&settings).await;
    let certificate = server.path("tls.crt").to_str().unwrap().to_owned();
    let at = |host: &str| format!("https://{host}:{}", server.public.port());
    for (host, certificate, error) in [
        ("localhost", "", "the certificate of emea.bots.example is self-signed"),
        ("127.0.0.1", &certificate, "is not for 127.0.0.1"),
        ("localhost", &certificate, "the response has status 404"),
    ] {
        let endpoint = at(host);
        let fixture = Fixture::start(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", certificate),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ])
        .await;
        let event = fixture.gateway.log.message("spans not exported").await;
        assert!(event["error"].as_str().unwrap().contains(error), "{event}");
    }
}

#[tokio::test]
async fn rejected_spans_are_counted() {
    let collector = Collector::start();
    // A partial success: one span was rejected.
    let body = "\n\u{2}\u{8}\u{1}";
    collector.server.next(Reply::with(200, &[("Content-Type", "application/x-protobuf")], body));
    let fixture = Fixture::start(&collector.variables(&[])).await;
    fixture.dropped("rejected", 1.0).await;
    assert_eq!(fixture.gateway.log.message("collector rejected spans").await["spans"], 1);
}

#[tokio::test]
async fn a_wrong_variable_stops_the_start() {
    let issuer = Issuer::start();
    let folder = tempfile::tempdir().unwrap();
    write_configuration(folder.path(), &Settings::without_fleet(&issuer));
    for (name, value, expected) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "write http/protobuf"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization: s3cret-of-the-collector",
            "not a list like name=value",
        ),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent.pem", "cannot be read"),
    ] {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--config"]).arg(folder.path().join(CONFIG));
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9").env(name, value);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{log}");
        assert!(log.contains(name) && log.contains(expected) && !log.contains(SECRET), "{log}");
    }
}
