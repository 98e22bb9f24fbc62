//! The fields that are kept, removed and added, as tables.

use proptest::prelude::*;

use super::*;
use crate::trace::{RequestTrace, TracedUpstream};

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        })
        .collect()
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut fields: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    fields.sort();
    fields
}

/// The fields of a head that was written.
fn written(head: RequestHead) -> HeaderMap {
    parsed(&head.with_body(Bytes::from_static(b"12345")).head)
}

fn parsed(bytes: &Bytes) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    assert_eq!(request.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    let field = |field: &httparse::Header<'_>| {
        (
            HeaderName::from_bytes(field.name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(field.value).unwrap(),
        )
    };
    request.headers.iter().map(field).collect::<Vec<_>>().into_iter().fold(
        HeaderMap::new(),
        |mut map, field| {
            map.append(field.0, field.1);
            map
        },
    )
}

/// The fields of a received request that are forwarded, without a `traceparent` that was created.
fn forwarded(received: &HeaderMap, authorization: bool) -> HeaderMap {
    let mut head =
        RequestHead::post(&PathAndQuery::from_static("/"), &HeaderValue::from_static("bot.example"));
    head.add_received(received, authorization, None);
    let mut forwarded = written(head);
    assert_eq!(forwarded.remove("host").unwrap(), "bot.example");
    assert_eq!(forwarded.remove("content-length").unwrap(), "5");
    if !received.contains_key("traceparent") {
        forwarded.remove("traceparent").unwrap();
    }
    forwarded
}

/// Checks the names that are forwarded.
#[track_caller]
fn check(received: &[(&str, &str)], left: &[&str]) {
    let forwarded = forwarded(&map(received), true);
    let mut names: Vec<&str> = forwarded.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, left, "{received:?}");
}

#[test]
fn end_to_end_fields_are_kept() {
    check(
        &[
            ("Authorization", "Bearer x"),
            ("Content-Type", "application/json"),
            ("User-Agent", "Microsoft-Skype/3.0,(Calling/1.0)"),
            ("X-Microsoft-Skype-Chain-ID", "c"),
            ("X-Microsoft-Skype-Message-ID", "m"),
            ("MS-Teams-Ring", "general"),
            ("switchboardish", "no separator, so not reserved"),
        ],
        &[
            "authorization",
            "content-type",
            "ms-teams-ring",
            "switchboardish",
            "user-agent",
            "x-microsoft-skype-chain-id",
            "x-microsoft-skype-message-id",
        ],
    );
}

#[test]
fn hop_by_hop_fields_are_removed() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "HTTP2-Settings",
        "Expect",
        "Host",
        "Content-Length",
    ] {
        check(&[(name, "x"), (name, "y"), ("accept", "a")], &["accept"]);
    }
}

#[test]
fn fields_that_connection_names_are_removed() {
    check(
        &[("connection", "close, x-one ,\tX-TWO"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")],
        &["x-three"],
    );
    check(
        &[("connection", "x-one"), ("connection", "x-two"), ("x-one", "1"), ("x-one", "1"), ("x-two", "2")],
        &[],
    );
    check(&[("connection", "keep-alive"), ("keep-alive", "timeout=5"), ("accept", "a")], &["accept"]);
    check(&[("connection", ",, ,not a name,\u{e4}"), ("accept", "a")], &["accept"]);
}

#[test]
fn switchboard_fields_of_a_sender_are_removed() {
    for name in [
        "Switchboard-Callback-Uri",
        "switchboard-call-id",
        "SWITCHBOARD_TENANT_ID",
        "Switchboard_App-Id",
        "Switchboard-App_Id",
        "switchboard-anything",
        "switchboard-",
        "switchboard_",
        "switchboard.instance",
        "switchboard",
    ] {
        check(&[(name, "x"), (name, "y")], &[]);
    }
}

#[test]
fn connection_cannot_remove_fields_that_the_gateway_adds() {
    let sent = with_gateway_headers(
        &map(&[("connection", "switchboard-tenant-id, host, content-length, traceparent")]),
        Some("call"),
    );
    for name in ["switchboard-tenant-id", "host", "content-length", "traceparent"] {
        assert!(sent.contains_key(name), "{name}");
    }
}

#[test]
fn authorization_is_forwarded_unless_switched_off() {
    let headers = forwarded(&map(&[("authorization", "Bearer x"), ("accept", "a")]), false);
    assert_eq!(fields(&headers), [("accept".to_owned(), "a".to_owned())]);
}

fn with_gateway_headers(headers: &HeaderMap, call_id: Option<&str>) -> HeaderMap {
    written(head_with_gateway_headers(headers, call_id))
}

fn head_with_gateway_headers(headers: &HeaderMap, call_id: Option<&str>) -> RequestHead {
    let host = HeaderValue::from_static("bot.example:3978");
    let mut head = RequestHead::post(&PathAndQuery::from_static("/api/calls"), &host);
    head.add_received(headers, true, None);
    let name = |text| Name::parse(text).unwrap();
    let owner = Owner { region: name("emea"), instance: name("bot-3"), incarnation: name("5f2c") };
    let uri = "https://emea.bots.contoso.com/api/callbacks/emea/bot-3/k1.0.A";
    head.add_instance(&InstanceFields::new(&owner, Uuid::from_u128(1), uri));
    head.add_call(call_id, Uuid::from_u128(2));
    head.add_incarnation(owner.incarnation.as_name_ref());
    head
}

#[test]
fn an_instance_receives_the_fields_of_the_gateway() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut head = head_with_gateway_headers(
        &map(&[("traceparent", trace), ("host", "public.example")]),
        Some("491f0b00-6aee"),
    );
    head.add_attempt(2);
    head.add_deadline(1_790_000_000_123);
    Mark::Orphaned.add_to(&mut head);
    let sent = written(head);
    let expected = [
        ("content-length", "5"),
        ("host", "bot.example:3978"),
        ("switchboard-app-id", "00000000-0000-0000-0000-000000000001"),
        ("switchboard-attempt", "2"),
        ("switchboard-call-id", "491f0b00-6aee"),
        ("switchboard-callback-uri", "https://emea.bots.contoso.com/api/callbacks/emea/bot-3/k1.0.A"),
        ("switchboard-deadline", "1790000000123"),
        ("switchboard-incarnation", "5f2c"),
        ("switchboard-instance", "bot-3"),
        ("switchboard-orphaned", "true"),
        ("switchboard-region", "emea"),
        ("switchboard-tenant-id", "00000000-0000-0000-0000-000000000002"),
        ("traceparent", trace),
    ];
    assert_eq!(fields(&sent), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn a_broken_traceparent_is_replaced_and_its_tracestate_dropped() {
    for received in [
        vec![("traceparent", "garbage"), ("tracestate", "a=b")],
        vec![
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "a=b"),
        ],
    ] {
        let sent = with_gateway_headers(&map(&received), None);
        assert_eq!(sent.get_all("traceparent").iter().count(), 1);
        assert_ne!(sent["traceparent"], received[0].1);
        assert!(!sent.contains_key("tracestate"));
    }
}

/// The trace context that an upstream receives, with a recorded span and without one.
#[test]
fn each_attempt_of_a_traced_request_names_its_own_span() {
    let received = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let span = TraceParent { trace_id: 7, span_id: 8, is_sampled: true };
    let sent = |fields: &[(&str, &str)], span: TraceParent| {
        let mut head =
            RequestHead::post(&PathAndQuery::from_static("/"), &HeaderValue::from_static("bot.example"));
        head.add_received(&map(fields), true, Some(span));
        let mut request = head.with_body(Bytes::from_static(b"hello"));
        let trace = Arc::new(RequestTrace::new(span));
        let instance = TracedUpstream::Instance(Name::parse("bot-0").unwrap());
        request.trace = UpstreamTrace::of(Some(&trace), instance);
        let url = UpstreamUrl::parse("http://bot.example/").unwrap();
        let mut first = request.clone();
        let open = [first.start_attempt(&url), request.start_attempt(&url)];
        assert_eq!(open.iter().flatten().count(), if span.is_sampled { 2 } else { 0 });
        assert!(!span.is_sampled || first.head != request.head);
        let headers = parsed(&request.head);
        assert_eq!(headers.get_all("traceparent").iter().count(), 1);
        let state = headers.get("tracestate").map(|value| value.to_str().unwrap().to_owned());
        let last = trace.take_attempts().pop().map(|attempt| attempt.span_id);
        (headers["traceparent"].to_str().unwrap().to_owned(), state, last)
    };
    let fields = [("traceparent", received), ("tracestate", "a=b")];
    let of_attempt = |last: Option<u64>| format!("00-{:032x}-{:016x}-01", 7, last.unwrap());
    let (parent, state, last) = sent(&fields, span);
    assert_eq!((parent, state.as_deref()), (of_attempt(last), Some("a=b")));
    let (parent, state, last) = sent(&fields[1..], span);
    assert_eq!((parent, state), (of_attempt(last), None));
    // Not recorded: the received one goes on, or the decision not to record is passed on.
    let span = TraceParent { is_sampled: false, ..span };
    assert_eq!(sent(&fields, span), (received.to_owned(), Some("a=b".to_owned()), None));
    assert_eq!(sent(&[], span).0, format!("00-{:032x}-{:016x}-00", 7, 8));
}

#[test]
fn a_call_id_that_is_not_a_valid_field_value_is_not_sent() {
    let long = "x".repeat(257);
    for call_id in ["", "a b", "a\r\nX: y", "a\0", "\u{e4}", &long] {
        assert!(
            !with_gateway_headers(&HeaderMap::new(), Some(call_id)).contains_key("switchboard-call-id"),
            "{call_id:?}"
        );
    }
}

#[test]
fn five_fields_of_a_response_and_those_of_microsofts_bots_are_relayed() {
    let response = map(&[
        ("content-type", "application/json"),
        ("content-encoding", "br"),
        ("content-length", "2"),
        ("retry-after", "1"),
        ("client-request-id", "r"),
        ("client-request-id", "again"),
        ("scenario-id", "s"),
        ("server", "Kestrel"),
        ("set-cookie", "a=b"),
        ("location", "http://10.0.0.1/"),
        ("connection", "close"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("www-authenticate", "Bearer"),
        ("switchboard-instance", "bot-9"),
        ("x-microsoft-bot-auth-type", "entra"),
        ("x-microsoft-bot-auth-type", "oid"),
        ("x-microsoft-bot-sdk-version", "1.2"),
        ("x-microsoft-botany", "roses"),
    ]);
    let expected = [
        ("client-request-id", "r"),
        ("content-encoding", "br"),
        ("content-type", "application/json"),
        ("retry-after", "1"),
        ("scenario-id", "s"),
        ("x-microsoft-bot-auth-type", "entra"),
        ("x-microsoft-bot-sdk-version", "1.2"),
    ];
    assert_eq!(fields(&relayed(response)), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[test]
fn retry_after_is_in_seconds_and_at_most_a_minute() {
    for (value, milliseconds) in [
        ("5", Some(5000)),
        ("2.128", Some(2128)),
        (" 1 ", Some(1000)),
        ("60", Some(60_000)),
        ("61", Some(60_000)),
        ("1e300", Some(60_000)),
        ("inf", Some(60_000)),
        ("0", None),
        ("-1", None),
        ("NaN", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
    ] {
        let wait = retry_after(&map(&[("retry-after", value)]));
        assert_eq!(wait, milliseconds.map(Duration::from_millis), "{value}");
    }
    assert_eq!(retry_after(&HeaderMap::new()), None);
    // The clock of the instance may be wrong: only its own dates are compared.
    for (after, expected) in [
        ("Thu, 01 Jan 1998 00:00:20 GMT", Some(20)),
        ("Thu, 01 Jan 1998 01:00:00 GMT", Some(60)),
        ("Thu, 01 Jan 1998 00:00:00 GMT", None),
        ("Wed, 31 Dec 1997 23:59:59 GMT", None),
        ("tomorrow", None),
    ] {
        let headers = map(&[("retry-after", after), ("date", "Thu, 01 Jan 1998 00:00:00 GMT")]);
        assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{after}");
    }
    assert_eq!(retry_after(&map(&[("retry-after", "Thu, 01 Jan 1998 00:00:20 GMT")])), None);
}

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_.-]{1,12}",
        "switchboard[_.-][a-z_-]{0,12}",
        Just("connection".to_owned()),
        Just("te".to_owned()),
        Just("transfer-encoding".to_owned()),
        Just("upgrade".to_owned()),
        Just("traceparent".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// No inbound `Switchboard-*` or hop-by-hop field reaches an instance, whatever the sender sends.
    #[test]
    fn no_switchboard_or_hop_by_hop_field_reaches_an_instance(
        received in proptest::collection::vec((any_name(), "[ -~]{0,20}"), 0..20),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &received {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let headers = forwarded(&headers, true);
        for name in headers.keys() {
            prop_assert!(!name.as_str().replace(['_', '.'], "-").starts_with("switchboard-"), "{}", name);
            prop_assert!(!["connection", "te", "transfer-encoding", "upgrade"].contains(&name.as_str()));
        }
        let named: Vec<String> = received
            .iter()
            .filter(|(name, _)| name == "connection")
            .flat_map(|(_, value)| value.split(',').map(|name| name.trim().to_ascii_lowercase()))
            .filter(|name| HeaderName::from_bytes(name.as_bytes()).is_ok())
            .collect();
        for name in named {
            let is_created = name == "traceparent";
            prop_assert!(!headers.contains_key(&name) || is_created, "{}", name);
        }
    }
}
