//! The header fields of forwarded requests: copied, removed, and set by the gateway.

use crate::support::{
    APP, Client, Gateway, Instance, Issuer, Request, Settings, TENANT, Token, bodies,
    gateway::path_of,
    http::Message,
    https_instance::https_instance,
    settings::BASE,
    soon,
    tls::{self, HTTP1, Identity},
};

/// Posts a new call, and the same request as a callback. Returns the two requests that the instance receives.
async fn received(gateway: &Gateway, instance: &mut Instance, request: Request) -> [Message; 2] {
    assert_eq!(request.send(gateway).await.status(), 202);
    let call = instance.request().await;
    let path = path_of(call.field("switchboard-callback-uri").unwrap());
    assert_eq!(request.target(&path).send(gateway).await.status(), 202);
    [call, instance.request().await]
}

#[tokio::test]
async fn forwarded_requests_have_the_fields_of_the_sender_and_of_the_gateway() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let token = Token::entra_v2().claim("tid", TENANT.to_uppercase());
    let token = token.claim("iss", format!("https://login.microsoftonline.com/{TENANT}/v2.0")).sign();
    let call_id = "491f0b00-6aee-11ef-a87f-0d9e4ba7d6c7";
    let body = bodies::incoming(call_id);
    let sent = Request::webhook(&token, body.as_str())
        .with("X-Microsoft-Skype-Chain-ID", "2dbbd172-f97e-4a11-a3b3-d5bbb5b9a5ac")
        .with("X-Microsoft-Skype-Message-ID", "29c4a1d4-b7e7-4ab2-9a5c-4d0b0f3a1d11")
        .with("X-Custom", "a value, with = and \"quotes\"");
    let [call, callback] = received(&gateway, &mut instance, sent.clone()).await;
    for request in [&call, &callback] {
        assert_eq!(request.start, "POST /api/calls HTTP/1.1");
        assert_eq!(request.body, body.as_bytes());
        assert_eq!(
            request.field("host"),
            Some(instance.url().trim_start_matches("http://").trim_end_matches("/api/calls"))
        );
        assert_eq!(request.field("content-length"), Some(body.len().to_string().as_str()));
        for name in [
            "Authorization",
            "Content-Type",
            "User-Agent",
            "Accept",
            "X-Custom",
            "X-Microsoft-Skype-Chain-ID",
        ] {
            let original =
                sent.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str());
            assert_eq!(request.field(name), original, "{name}");
        }
        assert_eq!(request.field("switchboard-call-id"), Some(call_id));
        assert_eq!(request.field("switchboard-tenant-id"), Some(TENANT));
        assert_eq!(request.field("switchboard-app-id"), Some(APP));
        assert_eq!(request.field("switchboard-region"), Some("emea"));
        assert_eq!(request.field("switchboard-instance"), Some("bot-0"));
        assert_eq!(request.field("switchboard-incarnation"), Some("0"));
        let uri = request.field("switchboard-callback-uri").unwrap();
        assert!(
            uri.len() <= 250 && uri.starts_with(&format!("{BASE}/api/callbacks/emea/bot-0/k1.0.")),
            "{uri}"
        );
        let parent = request.field("traceparent").unwrap();
        let parts: Vec<_> = parent.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{parent}");
    }
    assert_eq!(call.field("switchboard-attempt"), Some("1"));
    assert!(call.field("switchboard-deadline").is_some());
    assert_eq!((callback.field("switchboard-attempt"), callback.field("switchboard-deadline")), (None, None));
}

#[tokio::test]
async fn switchboard_fields_of_a_sender_are_removed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let mut request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    for name in [
        "Switchboard-Call-Id",
        "switchboard-tenant-id",
        "SWITCHBOARD-APP-ID",
        "Switchboard_Tenant_Id",
        "switchboard_call-id",
        "Switchboard.Region",
        "Switchboard-Orphaned",
        "Switchboard-Unsealed",
        "Switchboard-Forwarded-From",
        "Switchboard-Attempt",
        "Switchboard-Deadline",
        "Switchboard-Anything",
        "Switchboard",
    ] {
        request = request.with(name, "forged");
    }
    let call_only = ["switchboard-attempt", "switchboard-deadline"];
    let always = [
        "switchboard-callback-uri",
        "switchboard-call-id",
        "switchboard-tenant-id",
        "switchboard-app-id",
        "switchboard-region",
        "switchboard-instance",
        "switchboard-incarnation",
    ];
    for (at, received) in received(&gateway, &mut instance, request).await.iter().enumerate() {
        let mut found: Vec<_> = received
            .fields
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .filter(|name| name.starts_with("switchboard"))
            .collect();
        found.sort();
        let mut expected: Vec<_> = always
            .iter()
            .chain(call_only.iter().filter(|_| at == 0))
            .map(|name| (*name).to_owned())
            .collect();
        expected.sort();
        assert_eq!(found, expected);
        assert!(received.fields.iter().all(|(_, value)| value != "forged"), "{received:?}");
    }
}

#[tokio::test]
async fn hop_by_hop_fields_are_removed() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"))
        .with("Connection", "keep-alive, X-Named , switchboard-call-id")
        .with("Keep-Alive", "timeout=5")
        .with("Proxy-Connection", "keep-alive")
        .with("TE", "trailers")
        .with("Trailer", "X-Trailer")
        .with("Upgrade", "h2c")
        .with("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA")
        .with("Proxy-Authorization", "Basic dXNlcjpwYXNz")
        .with("Expect", "100-continue")
        .with("X-Named", "secret");
    for received in received(&gateway, &mut instance, request).await {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
            "http2-settings",
            "proxy-authorization",
            "expect",
            "x-named",
            "transfer-encoding",
        ] {
            assert_eq!(received.all(name), Vec::<&str>::new(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_valid_trace_continues_and_an_invalid_one_is_replaced() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let token = Token::skype().sign();
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (sent, continues) in [
        (good, true),
        ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
        ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
        ("garbage", false),
    ] {
        let request = Request::webhook(&token, bodies::incoming("call-1")).with("traceparent", sent);
        for received in received(&gateway, &mut instance, request).await {
            let parent = received.field("traceparent").unwrap();
            let trace = |text: &str| text.split('-').nth(1).map(str::to_owned);
            assert_eq!(trace(parent) == trace(sent), continues, "{sent} became {parent}");
        }
    }
}

#[tokio::test]
async fn the_token_can_be_withheld_from_the_instances() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("forward", "authorization = false");
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    for received in received(&gateway, &mut instance, request).await {
        assert_eq!(received.field("authorization"), None);
    }
}

#[tokio::test]
async fn the_url_of_an_instance_can_contain_the_app_id() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let callbacks = Instance::start("bot-0 (callbacks)");
    let url = instance.url().replace("/api/calls", "/{app}/new?x=1");
    let more = format!("callback_url = \"{}/of/{{app}}\"", callbacks.url());
    let settings = Settings::new(&issuer, &[]).instance("bot-0", &url, &more);
    let gateway = Gateway::start(&settings).await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.send(&gateway).await.status(), 202);
    let call = instance.request().await;
    assert_eq!(call.target(), format!("/{APP}/new?x=1"));
    let mut callbacks = callbacks;
    let path = path_of(call.field("switchboard-callback-uri").unwrap());
    assert_eq!(request.target(&path).send(&gateway).await.status(), 202);
    assert_eq!(callbacks.request().await.target(), format!("/api/calls/of/{APP}"));
}

/// The fields that say how the platform reached the gateway.
const FORWARDED: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// A bot that redirects to https does not redirect a request that came by https, whatever its sender wrote.
#[tokio::test]
async fn a_bot_is_told_how_the_platform_reached_the_gateway() {
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let sent = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"))
        .with("X-Forwarded-For", "203.0.113.9")
        .with("X-Forwarded-Host", "evil.example")
        .with("X-Forwarded-Proto", "gopher")
        .with("X_Forwarded_Proto", "gopher")
        .with("Forwarded", "for=203.0.113.9");
    let host = sent.fields.iter().find(|(name, _)| name == "Host").map(|(_, value)| value.clone()).unwrap();

    let mut settings = Settings::new(&issuer, &[&instance]).line("forward", "x_forwarded = true");
    let gateway = Gateway::start(&settings).await;
    for request in received(&gateway, &mut instance, sent.clone()).await {
        let values = FORWARDED.map(|name| request.all(name).join("; "));
        assert_eq!(values, ["127.0.0.1".to_owned(), host.clone(), "http".to_owned()]);
        assert_eq!((request.field("x_forwarded_proto"), request.field("forwarded")), (None, None));
    }

    settings.tls = true;
    let gateway = Gateway::start(&settings).await;
    let stream = tls::connect(gateway.public, tls::session(&tls::connector(HTTP1).build())).await;
    assert_eq!(Client::over(stream).exchange(sent.bytes()).await.status(), 202);
    let request = instance.request().await;
    assert_eq!(request.all("x-forwarded-proto"), ["https"]);

    // Without the setting they travel on.
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    for request in received(&gateway, &mut instance, sent).await {
        let values = FORWARDED.map(|name| request.all(name).join("; "));
        assert_eq!(values, ["203.0.113.9", "evil.example", "gopher"]);
    }
}

/// A Windows machine: reached by its address, known to itself and to its certificate by a name.
#[tokio::test]
async fn an_instance_at_an_address_can_have_a_host_a_certificate_name_and_an_authority() {
    let issuer = Issuer::start();
    let identity = Identity::new(7);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("bots-ca.pem");
    std::fs::write(&ca, identity.pem()).unwrap();
    let (port, mut requests, _server) = https_instance(&identity);
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    let ca = format!("ca = \"{}\"", ca.display());
    let (host, name) = ("host = \"bots.contoso.com\"", "tls_name = \"localhost\"");
    let cases = [(true, true, true), (true, true, false), (false, true, true), (true, false, true)];
    for (with_ca, with_name, with_host) in cases {
        let url = format!("https://127.0.0.1:{port}/api/calls");
        let lines = [(with_host, host), (with_name, name)];
        let lines: Vec<_> = lines.iter().filter(|(with, _)| *with).map(|(_, line)| *line).collect();
        let mut settings = Settings::new(&issuer, &[])
            .line("placement", "budget = \"2s\"\nattempt = \"2s\"")
            .instance("bot-0", &url, &lines.join("\n"));
        if with_ca {
            settings = settings.line("fleet", &ca);
        }
        let gateway = Gateway::start(&settings).await;
        let status = request.send(&gateway).await.status();
        let case = format!("ca {with_ca}, name {with_name}, host {with_host}");
        if !(with_ca && with_name) {
            assert_eq!(status, 503, "{case}");
            let event = gateway.log.event("a refusal", |event| event["outcome"] == "not_placed").await;
            let expected = if with_ca { "tls_wrong_name" } else { "tls_unknown_authority" };
            assert_eq!(event["reason"], expected, "{case}");
            continue;
        }
        assert_eq!(status, 202, "{case}");
        let (server_name, call) = soon("a request", requests.recv()).await.unwrap();
        let expected = if with_host { "bots.contoso.com".to_owned() } else { format!("127.0.0.1:{port}") };
        assert_eq!(
            (server_name.as_deref(), call.field("host")),
            (Some("localhost"), Some(&*expected)),
            "{case}"
        );
        let path = path_of(call.field("switchboard-callback-uri").unwrap());
        assert_eq!(request.clone().target(&path).send(&gateway).await.status(), 202, "{case}");
        let (_, callback) = soon("a callback", requests.recv()).await.unwrap();
        assert_eq!(callback.field("host"), Some(&*expected), "{case}");
    }
}
