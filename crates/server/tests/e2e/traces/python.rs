//! The messages of OpenTelemetry for Python, which are not those of the gateway's library, read an export.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::support::{Gateway, Instance, Issuer, Request, Settings, Token, bodies};

#[tokio::test]
async fn the_python_messages_read_an_export() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("../../target/otlp-collector/bin/python");
    if !python.exists() {
        let is_ci = std::env::var_os("CI").is_some_and(|ci| ci == "true");
        assert!(!is_ci, "{} is missing; run ./install-packages", python.display());
        return;
    }
    let mut collector = Command::new(python)
        .arg(root.join("tests/e2e/traces/collector.py"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(collector.stdout.take().unwrap()).lines();
    let endpoint = lines.next().unwrap().unwrap();

    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SERVICE_NAME", "gateway")];
    let mut gateway = Gateway::start_with_variables(&settings, &variables).await;
    let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.with("traceparent", sent).send(&gateway).await.status(), 202);
    let received = instance.request().await;
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await, Some(0));
    collector.kill().unwrap();
    collector.wait().unwrap();

    let spans: Vec<Value> =
        lines.map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap()).collect();
    let of_trace: Vec<_> =
        spans.iter().filter(|span| span["trace"] == "4bf92f3577b34da6a3ce929d0e0e4736").collect();
    let [server, client] = of_trace.as_slice() else { panic!("{spans:?}") };
    assert_eq!((&server["name"], &server["kind"]), (&"POST /api/calls".into(), &"SPAN_KIND_SERVER".into()));
    assert_eq!((&server["parent"], &server["service"]), (&"00f067aa0ba902b7".into(), &"gateway".into()));
    assert_eq!(server["attributes"]["http.response.status_code"], 202);
    assert_eq!((&client["parent"], &client["kind"]), (&server["id"], &"SPAN_KIND_CLIENT".into()));
    assert_eq!(client["attributes"]["switchboard.instance"], "bot-0");
    let parent = received.field("traceparent").unwrap().split('-').nth(2).unwrap().to_owned();
    assert_eq!(client["id"], parent);
}
