//! Traces: a collector that decodes what the gateways export, with the messages of the OpenTelemetry project.

mod collector;
mod exports;
mod python;

use serde_json::Value;

use self::collector::{Collector, Span};
use crate::{
    actions::{ACTION, ANSWER, GraphFixture},
    support::{
        APP, Gateway, Instance, Issuer, Reply, Request, Settings, TENANT, Token, bodies, gateway::path_of,
        instance::ATTEMPT, until,
    },
};

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const SENT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENT_SPAN: &str = "00f067aa0ba902b7";
const CALLBACK: &str = "POST /api/callbacks/{region}/{instance}/{seal}";

fn callback(path: &str) -> Request {
    Request::post(path, &Token::skype().sign(), bodies::updated("call-1", "established"))
}

/// Returns the path of a callback URI of the gateway's first instance.
async fn minted(gateway: &Gateway) -> String {
    let minted = gateway.admin(&format!("/fleet/bot-0/callback?app={APP}")).await.json();
    path_of(minted["callback_uri"].as_str().unwrap())
}

/// The id of the span that a received request names as its parent, and whether it is sampled.
fn parent(request: &crate::support::http::Message) -> (String, String, bool) {
    let field = request.field("traceparent").unwrap();
    let parts: Vec<_> = field.split('-').collect();
    let [_, trace, span, flags] = parts.as_slice() else { panic!("{field}") };
    ((*trace).to_owned(), (*span).to_owned(), *flags == "01")
}

#[tokio::test]
async fn a_callback_through_two_gateways_is_one_trace() {
    let issuer = Issuer::start();
    let mut collector = Collector::start();
    let mut instances = Instance::start_all(["bot-0", "bot-0"]);
    let mut amer = Settings::new(&issuer, &[&instances[1]]);
    amer.region = "amer";
    let peer_gateway = Gateway::start_with_variables(&amer, &collector.variables(&[])).await;
    let emea =
        Settings::new(&issuer, &[&instances[0]]).peer_at("amer", &format!("http://{}", peer_gateway.public));
    let gateway = Gateway::start_with_variables(&emea, &collector.variables(&[])).await;
    let path = minted(&peer_gateway).await;

    let request =
        callback(&format!("{path}?secret=s3cret")).with("traceparent", SENT).with("tracestate", "a=b");
    assert_eq!(request.send(&gateway).await.status(), 202);
    let received = instances[1].request().await;
    let in_trace = |name: &'static str, region: &'static str, kind| {
        move |span: &Span| {
            (&*span.name, span.resource("switchboard.region"), span.kind) == (name, region, kind)
        }
    };
    let here = collector.span("the request here", in_trace(CALLBACK, "emea", Span::SERVER)).await;
    let proxied = collector.span("the proxied request", in_trace("POST", "emea", Span::CLIENT)).await;
    let there = collector.span("the request there", in_trace(CALLBACK, "amer", Span::SERVER)).await;
    let delivered = collector.span("the request to the bot", in_trace("POST", "amer", Span::CLIENT)).await;
    let chain = [SENT_SPAN, &here.id, &proxied.id, &there.id];
    for (span, parent) in [&here, &proxied, &there, &delivered].into_iter().zip(chain) {
        assert_eq!((&*span.trace, &*span.parent), (SENT_TRACE, parent), "{span:?}");
        assert_eq!((&*span.state, span.is_error), ("a=b", false), "{span:?}");
        assert!(span.start <= span.end, "{span:?}");
    }
    assert!(here.start <= proxied.start && proxied.end <= here.end);
    assert_eq!(parent(&received), (SENT_TRACE.to_owned(), delivered.id.clone(), true));
    assert_eq!(received.field("tracestate"), Some("a=b"));
    assert_eq!(here.resource("service.name"), "switchboard");

    assert_eq!(here.attribute("switchboard.outcome"), "proxied");
    assert_eq!(here.attribute("switchboard.call.id"), "call-1");
    assert_eq!(here.attribute("switchboard.tenant.id"), TENANT);
    assert_eq!(here.attribute("http.route"), "/api/callbacks/{region}/{instance}/{seal}");
    assert_eq!(here.attribute("http.response.status_code"), "202");
    assert_eq!(here.attribute("client.address"), "127.0.0.1");
    assert_eq!(proxied.attribute("switchboard.region"), "amer");
    assert_eq!(proxied.attribute("server.port"), peer_gateway.public.port().to_string());
    assert_eq!(delivered.attribute("switchboard.instance"), "bot-0");
    assert_eq!(delivered.attribute("url.scheme"), "http");

    for gateway in [&gateway, &peer_gateway] {
        let event = gateway.log.event("the callback", |event| event["http.route"] == "callback").await;
        assert_eq!(event["trace_id"], SENT_TRACE);
    }
    // Nothing of the path but its template, no query, no token.
    let seal = path.rsplit('.').next().unwrap();
    let token = request.fields.iter().find(|(name, _)| name == "Authorization").unwrap().1.clone();
    for secret in [seal, "s3cret", token.rsplit('.').next().unwrap()] {
        assert!(!collector.contains(secret.as_bytes()), "{secret}");
    }
}

#[tokio::test]
async fn each_attempt_of_a_new_call_has_a_span() {
    let issuer = Issuer::start();
    let mut collector = Collector::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = Settings::new(&issuer, &instances.each_ref());
    let gateway = Gateway::start_with_variables(&settings, &collector.variables(&[])).await;
    for instance in &instances {
        instance.next(Reply::status(503));
    }
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    // The first instance declines, the second one too. The call fails, and each attempt is in the trace.
    assert_eq!(request.send(&gateway).await.status(), 503);
    let server = collector.span("the request", |span| span.name == "POST /api/calls").await;
    assert!(server.parent.is_empty() && server.is_error, "{server:?}");
    assert_eq!(server.attribute("error.type"), "503");
    assert_eq!(server.attribute("switchboard.outcome"), "not_placed");
    for count in ["", "1"] {
        let fits = |span: &Span| {
            span.parent == server.id
                && span.attributes.get("http.request.resend_count").map_or("", |it| it) == count
        };
        let attempt = collector.span("an attempt", fits).await;
        assert_eq!((&*attempt.trace, attempt.kind), (&*server.trace, Span::CLIENT));
        assert_eq!((attempt.attribute("error.type"), attempt.is_error), ("503", true));
        let name = attempt.attribute("switchboard.instance");
        let instance = instances.iter_mut().find(|instance| instance.name == name).unwrap();
        assert_eq!(parent(&instance.request().await), (attempt.trace.clone(), attempt.id.clone(), true));
    }
    // An instance that cannot be reached.
    for instance in &mut instances {
        instance.stop().await;
    }
    assert_eq!(request.send(&gateway).await.status(), 503);
    let refused = |span: &Span| span.attributes.get("error.type").is_some_and(|error| error == "refused");
    assert_eq!(collector.span("a refused attempt", refused).await.kind, Span::CLIENT);
}

#[tokio::test]
async fn an_attempt_that_lost_the_race_has_a_span() {
    let issuer = Issuer::start();
    let mut collector = Collector::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    instances[0].always(Reply::Never);
    let settings = Settings::new(&issuer, &instances.each_ref())
        .line("placement", &format!("attempt = \"{}ms\"", ATTEMPT.as_millis()));
    let gateway = Gateway::start_with_variables(&settings, &collector.variables(&[])).await;
    // Until the rank of a call has the silent instance first.
    let mut calls = 0;
    let lost = loop {
        calls += 1;
        let request = Request::webhook(&Token::skype().sign(), bodies::incoming(&format!("call-{calls}")));
        assert_eq!(request.send(&gateway).await.status(), 202);
        if let Some(request) = instances[0].request_now() {
            break parent(&request).1;
        }
        assert!(calls < 50, "no call was sent to the silent instance");
    };
    let lost = collector.span("the attempt that lost", |span| span.id == lost).await;
    assert_eq!((lost.attribute("error.type"), lost.is_error), ("given_up", true));
    assert!(!lost.attributes.contains_key("http.response.status_code"));
    let is_hedge = |span: &Span| span.parent == lost.parent && span.id != lost.id;
    let won = collector.span("the attempt that won", is_hedge).await;
    assert_eq!((won.attribute("switchboard.instance"), won.is_error), ("bot-1", false));
    assert_eq!(won.attribute("http.response.status_code"), "202");
    assert!(won.start > lost.start && won.start < lost.end, "side by side: {lost:?} {won:?}");
}

#[tokio::test]
async fn the_sender_or_the_sampler_decides() {
    let issuer = Issuer::start();
    let mut collector = Collector::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("listen", "health_path = \"/api/health\"");
    let not_sampled = SENT.replace("-01", "-00");
    for (sampler, sent, sampled, continued) in [
        ("parentbased_always_on", Some(SENT), true, true),
        ("parentbased_always_on", Some(&*not_sampled), false, true),
        ("parentbased_always_on", None, true, false),
        ("parentbased_always_off", None, false, false),
        ("always_off", Some(SENT), false, true),
        ("always_on", Some(&*not_sampled), true, true),
    ] {
        let variables = collector.variables(&[("OTEL_TRACES_SAMPLER", sampler)]);
        let mut gateway = Gateway::start_with_variables(&settings, &variables).await;
        let mut request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
        if let Some(sent) = sent {
            request = request.with("traceparent", sent);
        }
        assert_eq!(Request::get("/api/health").send(&gateway).await.status(), 200);
        assert_eq!(request.send(&gateway).await.status(), 202);
        let (trace, span, flag) = parent(&instance.request().await);
        let event = gateway.log.event("the call", |event| event["outcome"] == "placed").await;
        assert_eq!(event["trace_id"], Value::from(trace.clone()), "{sampler} {sent:?}");
        assert_eq!(trace == SENT_TRACE, continued, "{sampler} {sent:?}");
        // A parent that is not sampled here goes on unchanged.
        assert_eq!(flag, sampled || sent == Some(SENT), "{sampler} {sent:?}");
        assert_eq!(span == SENT_SPAN, sent.is_some() && !sampled, "{sampler} {sent:?}");
        gateway.signal("TERM");
        assert_eq!(gateway.exit().await, Some(0));
        let found = collector.spans_now().iter().filter(|one| one.trace == trace).count();
        assert_eq!(found, if sampled { 2 } else { 0 }, "{sampler} {sent:?}");
        collector.forget();
    }
    assert!(!collector.contains(b"/api/health"));
}

#[tokio::test]
async fn requests_to_graph_and_for_keys_have_spans() {
    let mut collector = Collector::start();
    let variables = collector.variables(&[]);
    let fixture = GraphFixture::start_with_variables(|settings, _| settings, &variables).await;
    fixture.graph_responds(&[Reply::status(202)]);
    fixture.bot.next(Reply::with(200, &[("Content-Type", ACTION)], ANSWER));
    let request = Request::webhook(&fixture.token, bodies::incoming("call-1")).with("traceparent", SENT);
    assert_eq!(request.send(&fixture.gateway).await.status(), 202);
    let server = collector.span("the request", |span| span.kind == Span::SERVER).await;
    assert_eq!(server.attribute("switchboard.action"), "answer");
    let answer = "POST /v1.0/communications/calls/{id}/answer";
    let answer = collector.span("the action", |span| span.name == answer).await;
    assert_eq!((&*answer.trace, &*answer.parent), (SENT_TRACE, &*server.id));
    assert_eq!(answer.attribute("http.response.status_code"), "202");
    // Shared by many requests: each has a trace of its own.
    let token = collector.span("the token", |span| span.name == "POST /{id}/oauth2/v2.0/token").await;
    let keys = |trust: &'static str| {
        move |span: &Span| span.attributes.get("switchboard.trust").is_some_and(|name| name == trust)
    };
    let skype = collector.span("keys of skype", keys("skype")).await;
    let entra = collector.span("keys of entra", keys("entra")).await;
    for span in [&token, &skype, &entra] {
        assert!(span.parent.is_empty() && span.kind == Span::CLIENT && span.trace != SENT_TRACE, "{span:?}");
    }
    assert_ne!(skype.trace, entra.trace);
    for secret in [&b"made.up.token"[..], TENANT.as_bytes()] {
        let in_span = |span: &Span| format!("{span:?}").contains(std::str::from_utf8(secret).unwrap());
        assert!(!in_span(&token) && !in_span(&answer));
    }
}

/// The gateway behaves as without traces, whatever the variables say besides.
#[tokio::test]
async fn without_an_endpoint_nothing_is_exported() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let variables = [("OTEL_SERVICE_NAME", "gateway"), ("OTEL_TRACES_SAMPLER", "nonsense")];
    let gateway = Gateway::start_with_variables(&settings, &variables).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.send(&gateway).await.status(), 202);
    let (_, _, is_sampled) = parent(&instance.request().await);
    assert!(!is_sampled, "its span is recorded nowhere");
    let event = gateway.log.event("the call", |event| event["outcome"] == "placed").await;
    assert_eq!(event["trace_id"], Value::Null);
    assert_eq!(gateway.metric("switchboard_span_exports_total", &[]).await, 0.0);
}

/// A reload keeps the tracer, also in the new clients of Graph and of keys.
#[tokio::test]
async fn a_reload_keeps_the_traces() {
    let issuer = Issuer::start();
    let mut collector = Collector::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]);
    let gateway = Gateway::start_with_variables(&settings, &collector.variables(&[])).await;
    gateway.rewrite(&settings.line("log", "level = \"debug\""));
    gateway.signal("HUP");
    gateway.log.message("configuration reloaded").await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.with("traceparent", SENT).send(&gateway).await.status(), 202);
    instance.request().await;
    collector.span("the request", |span| span.trace == SENT_TRACE && span.kind == Span::SERVER).await;
    until("the export is counted", async || {
        (gateway.metric("switchboard_spans_exported_total", &[]).await >= 2.0).then_some(())
    })
    .await;
}
