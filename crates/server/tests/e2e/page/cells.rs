//! Cells of the page that no other test reads, and calls that leave the page.

use super::*;

/// The value of a line of the process, and its level.
async fn fact(page: &Page, name: &str) -> (String, String) {
    let script = format!(
        "(() => {{
            const lines = [...document.querySelectorAll('#facts dt')];
            const value = lines.find(line => line.textContent === {}).nextElementSibling;
            return [value.textContent, value.className];
        }})()",
        json!(name)
    );
    serde_json::from_value(page.evaluate(&script).await.unwrap()).unwrap()
}

#[tokio::test]
async fn failed_attempts_are_shown_by_their_reason() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    instance.always(Reply::status(503));
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let page = open(&browser, &gateway).await;
    page.wait_for(&row_has("instances", "bot-0", "state", "ready")).await.unwrap();
    assert_eq!(cells(&page, "instances", "failures").await, [""]);
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-1"));
    assert_eq!(request.send(&gateway).await.status(), 503);
    instance.request().await;
    instance.stop().await;
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming("call-2"));
    assert_eq!(request.send(&gateway).await.status(), 503);
    let fleet = gateway.admin("/fleet").await.json();
    let failures = fleet[0]["failures"].as_object().unwrap();
    // The other reason depends on whether the kept connection was seen to close: `closed` or `refused`.
    assert!(failures.contains_key("status_503") && failures.len() >= 2, "{failures:?}");
    for (reason, count) in failures {
        let shown = row_has("instances", "bot-0", "failures", &format!("{reason} {count}"));
        page.wait_for(&shown).await.unwrap();
    }
    close(browser, &page).await;
}

#[tokio::test]
async fn the_certificate_and_the_health_of_peers_are_those_of_the_gateway() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let peer = "[[peer]]\nname = \"apac\"\nwebhook = \"https://apac.bots.example/api/calls\"\n\
        health = \"http://127.0.0.1:1/api/health\"\n";
    let mut settings = Settings::without_fleet(&issuer).peer("amer").table(peer);
    settings.tls = true;
    let gateway = Gateway::start(&settings).await;
    let page = open(&browser, &gateway).await;
    page.wait_for(&row_has("regions", "amer", "health", "healthy")).await.unwrap();
    page.wait_for(&row_has("regions", "apac", "health", "unhealthy")).await.unwrap();
    let marked = "[...document.querySelectorAll('#regions .health.bad')].map(cell => cell.textContent)";
    assert_eq!(page.evaluate(marked).await.unwrap(), json!(["unhealthy"]));
    // A certificate of a year.
    let (text, level) = fact(&page, "Certificate").await;
    assert!(text.starts_with("expires in 364 d, ") && level.is_empty(), "{text} {level}");
    assert_eq!(fact(&page, "Log lines dropped").await, ("0".to_owned(), String::new()));
    close(browser, &page).await;
}

#[tokio::test]
async fn the_lines_of_the_process_say_what_needs_attention() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    let now = unix_now() * 1000;
    play_busy(&page).await;
    let (_, busy) = frames::busy(now).swap_remove(1);
    let day = 86_400_000;
    for (member, value, name, text, level) in [
        (
            "certificate",
            json!({"not_after": now + 13 * day + day / 2}),
            "Certificate",
            "expires in 13 d, ",
            "warn",
        ),
        (
            "certificate",
            json!({"not_after": now - 3 * day - day / 2}),
            "Certificate",
            "expired 3 d ago, ",
            "bad",
        ),
        ("certificate", Value::Null, "Certificate", "none: the gateway does not terminate TLS", ""),
        ("log", json!({"dropped": 0, "panics": 0}), "Log lines dropped", "0", ""),
        ("log", json!({"dropped": 1234, "panics": 0}), "Log lines dropped", "1,234", "warn"),
        ("log", json!({"dropped": 0, "panics": 2}), "Panics", "2", "bad"),
    ] {
        let mut overview = busy.clone();
        overview[member] = value;
        play(&page, "overview", &overview).await;
        let (shown, shown_level) = fact(&page, name).await;
        assert!(shown.starts_with(text), "{shown}");
        assert_eq!(shown_level, level, "{shown}");
    }
    close(browser, &page).await;
}

/// The gateway forgets a call ten minutes after its end, without an event.
#[tokio::test]
async fn ended_calls_leave_the_page() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    play_busy(&page).await;
    let now = unix_now() * 1000;
    let call = |id: &str, state: &str, ago_ms: u64| {
        json!({
            "id": id, "chain": null, "message": null, "kind": null, "instance": "bot-0", "state": state,
            "placed_here": true, "first_seen": now - 3_600_000, "last_seen": now - ago_ms,
        })
    };
    page.evaluate("calls.clear()").await.unwrap();
    let calls = [
        call("ended", "terminated", 605_000),
        call("ends", "terminated", 590_000),
        call("lives", "established", 3_000_000),
    ];
    play(&page, "calls", &json!({"calls": calls, "omitted": 0, "remembered": 3})).await;
    assert_eq!(cells(&page, "calls", "call").await, ["ends", "lives"]);
    shows(&page, "#calls-count", "the latest 2 of 2 remembered").await;
    // As time goes by. The clock of the page is that of the gateway.
    page.evaluate("clock.stopped = null; clock.offset += 11_000; feed.state = 'live'; tick()").await.unwrap();
    assert_eq!(cells(&page, "calls", "call").await, ["lives"]);
    shows(&page, "#calls-count", "the latest 1 of 1 remembered").await;
    close(browser, &page).await;
}
