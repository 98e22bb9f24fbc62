//! The page of the admin listener: its headers, and its use in a real browser against a real gateway.

mod cells;
mod frames;
mod widths;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use xtask_browser::{Browser, ColorScheme, Page};

use crate::support::{
    Document, Gateway, Instance, Issuer, Reply, Request, Settings, Token, bodies, gateway::path_of,
    settings::SEALS, unix_now,
};

/// Opens the page at an address in a wide window, and waits until it has data.
async fn open_at(browser: &Browser, address: SocketAddr) -> Page {
    let page = browser.open(&format!("http://{address}/")).await.unwrap();
    page.resize(1500, 1000).await.unwrap();
    page.wait_for("document.body.dataset.feed === 'live' && overview").await.unwrap();
    page
}

async fn open(browser: &Browser, gateway: &Gateway) -> Page {
    open_at(browser, gateway.admin).await
}

/// Ends a test: nothing went wrong in the page.
async fn close(browser: Browser, page: &Page) {
    assert_eq!(page.problems(), Vec::<String>::new());
    browser.close().await.unwrap();
}

/// Waits until an element has a text.
async fn shows(page: &Page, selector: &str, text: &str) {
    let (selector, text) = (json!(selector), json!(text));
    page.wait_for(&format!("document.querySelector({selector})?.textContent.includes({text})"))
        .await
        .unwrap();
}

/// The cells of the rows of a table, by class.
async fn cells(page: &Page, table: &str, class: &str) -> Vec<String> {
    let script =
        format!("[...document.querySelectorAll('#{table} .row > .{class}')].map(cell => cell.textContent)");
    serde_json::from_value(page.evaluate(&script).await.unwrap()).unwrap()
}

/// A condition: the row of `key` in a table has this text in a cell.
fn row_has(table: &str, key: &str, class: &str, text: &str) -> String {
    let (key, text) = (json!(key), json!(text));
    format!(
        "[...document.querySelectorAll('#{table} .row')].some(row => row.firstChild.textContent === {key}
             && row.querySelector('.{class}').textContent.includes({text}))"
    )
}

/// Places a call, and returns the path of its callbacks.
async fn place(gateway: &Gateway, instances: &mut [Instance], call_id: &str) -> String {
    let request = Request::webhook(&Token::skype().sign(), bodies::incoming(call_id))
        .with("X-Microsoft-Skype-Chain-ID", &format!("chain-{call_id}"));
    assert_eq!(request.send(gateway).await.status(), 202);
    let (_, received) = crate::support::instance::first_request(instances).await;
    path_of(received.field("switchboard-callback-uri").unwrap())
}

/// A gateway whose instances report their load to a probe.
fn probed(issuer: &Issuer, instances: &[&Instance]) -> Settings {
    for instance in instances {
        instance.probe(Reply::with(200, &[], r#"{"state":"ready","calls":2,"capacity":10}"#));
    }
    Settings::new(issuer, instances)
        .line("fleet.probe", "path = \"/healthz\"")
        .line("fleet.probe", "interval = \"1s\"")
}

#[tokio::test]
async fn the_page_runs_only_its_own_files_and_is_not_sent_twice() {
    let issuer = Issuer::start();
    let settings = Settings::without_fleet(&issuer).line("admin", "token = { file = \"seal-k2\" }");
    let gateway = Gateway::start(&settings).await;
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.svg", "image/svg+xml"),
    ] {
        // The files are not secret, and a browser cannot send the token for them.
        let response = gateway.admin(path).await;
        assert_eq!((response.status(), response.field("content-type")), (200, Some(content_type)), "{path}");
        let policy = response.field("content-security-policy").unwrap();
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"]
        {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(response.field("cache-control"), Some("no-cache"));
        let tag = response.field("etag").unwrap();
        let again = gateway.admin_request(Request::get(path).with("If-None-Match", tag)).await;
        assert_eq!((again.status(), again.body.len()), (304, 0), "{path}");
        let posted = gateway.admin_request(Request::get(path).method("POST")).await;
        assert_eq!((posted.status(), posted.field("allow")), (405, Some("GET, HEAD")), "{path}");
        let foreign = Request::get(path).with("Origin", "https://evil.example");
        assert_eq!(gateway.admin_request(foreign).await.status(), 403, "{path}");
    }
    assert_eq!(gateway.admin("/page.html").await.status(), 404);
}

/// A rule in a dry run that matches every call.
const SHADOW: &str = "[[affinity.rule]]\nserve_in = \"amer\"\ndry_run = true\n";

/// The rows of the rules.
async fn rules(page: &Page) -> Vec<String> {
    let rows = page.evaluate(
        "[...document.querySelectorAll('#rules .row')].map(row =>
            [...row.children].map(cell => cell.textContent).join(' '))",
    );
    serde_json::from_value(rows.await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_call_appears_with_its_decision_and_its_state() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = probed(&issuer, &[&instances[0], &instances[1]]).peer("amer").rule("amer").table(SHADOW);
    let gateway = Gateway::start(&settings).await;
    let page = open(&browser, &gateway).await;
    shows(&page, "#headline", "emea takes calls: 2 of 2 instances, 4 of 20 calls").await;
    assert_eq!(
        rules(&page).await,
        [
            "affinity.rule[0] amer 100% followed 0",
            "affinity.rule[1] amer 100% dry run 0",
            "no rule matched emea   0",
        ]
    );
    shows(&page, "#notification", "never: is the webhook registered?").await;
    assert_eq!(cells(&page, "instances", "load").await, ["2 / 10", "2 / 10"]);
    assert_eq!(page.evaluate("document.querySelectorAll('#calls .row').length").await.unwrap(), 0);

    let path = place(&gateway, &mut instances, "call-1").await;
    page.wait_for(&row_has("calls", "call-1", "progress", "incoming")).await.unwrap();
    shows(&page, "#notification", " ago").await;
    shows(&page, "#decisions .row .decision", "here: bot-").await;
    shows(&page, "#outcomes", "placed").await;
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-1", "established"));
    assert_eq!(callback.send(&gateway).await.status(), 202);
    page.wait_for(&row_has("calls", "call-1", "progress", "established")).await.unwrap();
    assert_eq!(cells(&page, "calls", "chain").await, ["chain-call-1"]);

    // A call that another gateway placed is known by its callbacks.
    let callback = Request::post(&path, &Token::skype().sign(), bodies::updated("call-2", "established"));
    assert_eq!(callback.send(&gateway).await.status(), 202);
    page.wait_for(&row_has("calls", "call-2", "where", "placed elsewhere")).await.unwrap();
    let here = format!("!{}", row_has("calls", "call-1", "where", "placed elsewhere"));
    page.wait_for(&here).await.unwrap();

    // A redirect, and a sender without a token that proves anything.
    let redirected = Request::webhook(&Token::skype().sign(), bodies::incoming_from("call-3", "amer"));
    assert_eq!(redirected.send(&gateway).await.status(), 302);
    page.wait_for(&row_has("regions", "amer", "redirects", "1")).await.unwrap();
    shows(&page, "#decisions .row .decision", "redirect to amer").await;
    shows(&page, "#decisions .row .rule", "affinity.rule[0]").await;
    // The rule in a dry run matched call-1, and no rule decided it.
    page.wait_for(&row_has("rules", "affinity.rule[0]", "calls", "1")).await.unwrap();
    assert_eq!(
        rules(&page).await,
        [
            "affinity.rule[0] amer 100% followed 1",
            "affinity.rule[1] amer 100% dry run 1",
            "no rule matched emea   1",
        ]
    );
    let stranger = Request::webhook(&Token::skype().signed_by("stranger").sign(), bodies::incoming("call-4"));
    assert_eq!(stranger.send(&gateway).await.status(), 401);
    page.wait_for(&row_has("reasons", "skype", "reason", "signature")).await.unwrap();
    shows(&page, "#refusals .row .client", "127.0.0.1").await;

    // The search finds a call by its chain, and says if there is none.
    page.fill("#search", "CHAIN-CALL-1").await.unwrap();
    shows(&page, "#calls-count", "1 call of 2 remembered").await;
    assert_eq!(cells(&page, "calls", "call").await, ["call-1"]);
    page.fill("#search", "24701998-1a73-4d42-8085-bf46ed0ae039").await.unwrap();
    shows(&page, "#no-calls", "most likely bot-").await;
    page.fill("#search", "").await.unwrap();
    page.wait_for("document.querySelectorAll('#calls .row').length >= 2").await.unwrap();
    close(browser, &page).await;
}

#[tokio::test]
async fn an_instance_is_drained_and_resumed_in_the_page() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let instances = Instance::start_all(["bot-0", "bot-1"]);
    let settings = probed(&issuer, &[&instances[0], &instances[1]]);
    let gateway = Gateway::start(&settings).await;
    let page = open(&browser, &gateway).await;
    page.wait_for("document.querySelectorAll('#instances .row').length === 2").await.unwrap();

    // Cancelled, and then confirmed.
    page.click("button[aria-label='Drain bot-1']").await.unwrap();
    shows(&page, "#confirm-text", "Its 2 calls go on").await;
    page.click("#confirm-cancel").await.unwrap();
    page.wait_for("!document.getElementById('confirm').open").await.unwrap();
    assert_eq!(cells(&page, "instances", "state").await, ["ready", "ready"]);
    page.click("button[aria-label='Drain bot-1']").await.unwrap();
    page.click("#confirm-do").await.unwrap();
    page.wait_for(&row_has("instances", "bot-1", "state", "draining")).await.unwrap();
    assert_eq!(cells(&page, "instances", "name").await, ["bot-1", "bot-0"]);
    shows(&page, "#instances .row .reason", "2 calls left: drained by the operator").await;
    shows(&page, "#headline", "1 of 2 instances").await;
    instances[1].probe(Reply::with(200, &[], r#"{"state":"ready","calls":0,"capacity":10}"#));
    shows(&page, "#instances .row .reason", "no call left: drained by the operator").await;
    page.click("button[aria-label='Resume bot-1']").await.unwrap();
    page.click("#confirm-do").await.unwrap();
    page.wait_for(&row_has("instances", "bot-1", "state", "ready")).await.unwrap();
    assert_eq!(page.problems(), Vec::<String>::new());

    // The gateway refuses to drain an instance that is not in the fleet.
    page.evaluate("askForChange({ ...instances.get('bot-1'), name: 'bot-9' })").await.unwrap();
    page.click("#confirm-do").await.unwrap();
    shows(&page, "#confirm-error", "no instance has that name").await;
    page.press("Escape").await.unwrap();
    page.wait_for("!document.getElementById('confirm').open").await.unwrap();
    // A reload of the configuration, too, is shown.
    gateway.signal("HUP");
    shows(&page, "#facts", "1 applied, 0 refused").await;
    // The browser lists the refusal itself; nothing else went wrong.
    assert!(page.problems().iter().all(|problem| problem.contains("404")), "{:?}", page.problems());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn an_instance_that_dies_becomes_the_first_row() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let mut instances = Instance::start_all(["bot-0", "bot-1", "bot-2"]);
    let gateway = Gateway::start(&probed(&issuer, &instances.iter().collect::<Vec<_>>())).await;
    let page = open(&browser, &gateway).await;
    shows(&page, "#headline", "emea takes calls: 3 of 3 instances").await;
    assert_eq!(page.evaluate("document.getElementById('state').dataset.level").await.unwrap(), "ok");
    instances[2].stop().await;
    page.wait_for("document.querySelector('#instances .row .name').textContent === 'bot-2'").await.unwrap();
    shows(&page, "#instances .row .state", "unreachable").await;
    shows(&page, "#headline", "2 of 3 instances").await;
    page.wait_for("document.getElementById('state').dataset.level === 'warn'").await.unwrap();
    shows(&page, "#since", "since ").await;
    for instance in &mut instances[..2] {
        instance.stop().await;
    }
    shows(&page, "#headline", "emea takes no new calls: none of 3 instances is ready, 3 unreachable").await;
    page.wait_for("document.title.startsWith('emea takes no new calls')").await.unwrap();
    instances[0].restart();
    shows(&page, "#headline", "emea takes calls: 1 of 3 instances").await;
    page.wait_for("[...document.querySelectorAll('#instances .row .name')].at(-1).textContent === 'bot-0'")
        .await
        .unwrap();
    close(browser, &page).await;
}

#[tokio::test]
async fn the_token_is_asked_for_kept_in_the_tab_and_forgotten() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("admin", "token = { file = \"seal-k2\" }");
    let gateway = Gateway::start(&settings).await;
    let secret = SEALS[1].1;
    let page = browser.open(&format!("http://{}/", gateway.admin)).await.unwrap();
    page.wait_for("document.getElementById('token').open").await.unwrap();
    shows(&page, "#headline", "No data").await;
    page.fill("#token-value", "wrong").await.unwrap();
    page.press("Enter").await.unwrap();
    shows(&page, "#token-error", "refuses this token").await;
    page.fill("#token-value", secret).await.unwrap();
    page.press("Enter").await.unwrap();
    page.wait_for("document.body.dataset.feed === 'live'").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "ready")).await.unwrap();
    assert_eq!(page.evaluate("document.getElementById('token').open").await.unwrap(), false);

    // The token works for changes, survives a reload of the tab, and is in no address and no other storage.
    page.click("button[aria-label='Drain bot-0']").await.unwrap();
    page.click("#confirm-do").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "draining")).await.unwrap();
    page.navigate(&format!("http://{}/", gateway.admin)).await.unwrap();
    page.wait_for("document.body.dataset.feed === 'live'").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "draining")).await.unwrap();
    let places = "[location.href, document.cookie, JSON.stringify(localStorage), document.body.innerHTML,
        ...performance.getEntriesByType('resource').map(entry => entry.name)].join(' ')";
    let found = page.evaluate(places).await.unwrap();
    let found = found.as_str().unwrap();
    assert!(found.contains("/page.js") && !found.contains(secret), "{found}");

    // A page without the token shows nothing.
    page.click("#forget-token").await.unwrap();
    page.wait_for("document.getElementById('token').open").await.unwrap();
    assert_eq!(page.evaluate("sessionStorage.length").await.unwrap(), 0);
    assert_eq!(page.evaluate("document.querySelectorAll('.row').length").await.unwrap(), 0);
    assert_eq!(page.text("#facts").await.unwrap(), "");
    page.press("Escape").await.unwrap();
    page.click("#enter-token").await.unwrap();
    page.fill("#token-value", secret).await.unwrap();
    page.press("Enter").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "draining")).await.unwrap();
    // The browser lists the two refusals itself; nothing else went wrong.
    assert!(page.problems().iter().all(|problem| problem.contains("401")), "{:?}", page.problems());
    assert!(!gateway.log.text().contains(secret));
    browser.close().await.unwrap();
}

#[tokio::test]
async fn a_key_rotation_shows_a_new_generation_and_an_outage_its_error() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let mut instance = Instance::start("bot-0");
    let settings = Settings::new(&issuer, &[&instance]).line("keys", "cooldown = \"100ms\"");
    let gateway = Gateway::start(&settings).await;
    let page = open(&browser, &gateway).await;
    page.wait_for(&row_has("trusts", "skype", "generation", "1")).await.unwrap();
    page.wait_for(&row_has("trusts", "skype", "next", "in ")).await.unwrap();
    issuer.skype(Document::Keys(vec!["skype-1", "skype-2"]));
    crate::support::until("the new key", async || {
        let token = Token::skype().key("skype-2").sign();
        let status = Request::webhook(&token, bodies::incoming("call-1")).send(&gateway).await.status();
        (status == 202).then_some(())
    })
    .await;
    instance.request().await;
    page.wait_for(&row_has("trusts", "skype", "generation", "2")).await.unwrap();
    page.wait_for(&row_has("trusts", "skype", "keys", "2")).await.unwrap();

    issuer.skype(Document::Text(500, "<b>no</b>".to_owned()));
    crate::support::until("a failed fetch", async || {
        let token = Token::skype().key("stranger").sign();
        let status = Request::webhook(&token, bodies::incoming("call-2")).send(&gateway).await.status();
        (status == 503).then_some(())
    })
    .await;
    page.wait_for(&row_has("trusts", "skype", "problem", "500")).await.unwrap();
    let errors = cells(&page, "trusts", "problem").await;
    assert_eq!(errors.iter().filter(|error| error.is_empty()).count(), 1, "{errors:?}");
    close(browser, &page).await;
}

#[tokio::test]
async fn old_data_is_never_shown_as_if_it_were_live() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let instance = Instance::start("bot-0");
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instance])).await;
    let proxy = Proxy::start(gateway.admin).await;
    let page = open_at(&browser, proxy.address).await;
    shows(&page, "#headline", "emea takes calls").await;

    proxy.connected.send_replace(false);
    shows(&page, "#headline", "No data since ").await;
    page.wait_for("document.body.dataset.feed === 'lost'").await.unwrap();
    let fleet = "Number(getComputedStyle(document.getElementById('fleet')).opacity)";
    assert!(page.evaluate(fleet).await.unwrap().as_f64().unwrap() < 0.6);
    assert!(page.evaluate("document.title").await.unwrap().as_str().unwrap().starts_with("No data since"));
    // The clock of the page stands still.
    assert_eq!(page.evaluate("now() === now() && now() === clock.stopped").await.unwrap(), true);
    // A change that the page missed is there after the next connection.
    let drained = gateway.admin_request(Request::get("/fleet/bot-0/drain").method("POST")).await;
    assert_eq!(drained.status(), 200);
    assert_eq!(cells(&page, "instances", "state").await, ["ready"]);

    proxy.connected.send_replace(true);
    page.wait_for("document.body.dataset.feed === 'live'").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "draining")).await.unwrap();
    assert_eq!(page.evaluate(fleet).await.unwrap(), 1);
    shows(&page, "#headline", "its only instance is draining").await;

    // A stream that is open and silent is lost, too.
    page.evaluate("feed.heard -= 40_000").await.unwrap();
    shows(&page, "#feed", "The gateway is silent.").await;
    page.wait_for("document.body.dataset.feed === 'live'").await.unwrap();
    drop(gateway);
    shows(&page, "#headline", "No data since ").await;
    browser.close().await.unwrap();
}

/// A proxy whose connections can be cut.
struct Proxy {
    address: SocketAddr,
    connected: watch::Sender<bool>,
}

impl Proxy {
    async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, receiver) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut receiver = receiver.clone();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = receiver.wait_for(|connected| !connected) => {}
                    }
                });
            }
        });
        Self { address, connected }
    }
}

#[tokio::test]
async fn two_thousand_instances_scroll_filter_and_change_in_place() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let settings = (0..2000).fold(Settings::new(&issuer, &[]), |settings, number| {
        settings.instance(&format!("bot-{number}"), "http://127.0.0.1:9/api/calls", "")
    });
    let gateway = Gateway::start(&settings).await;
    let page = open(&browser, &gateway).await;
    shows(&page, "#headline", "emea takes calls: 2000 of 2000 instances").await;
    shows(&page, "#fleet-count", "2,000 ready").await;
    let rows = "document.querySelectorAll('#instances .row').length";
    let shown = page.evaluate(rows).await.unwrap().as_u64().unwrap();
    assert!((20..100).contains(&shown), "{shown}");
    assert_eq!(page.evaluate("instances.size").await.unwrap(), 2000);
    page.evaluate("document.querySelectorAll('#instances .row').forEach(row => { row.wasThere = true; })")
        .await
        .unwrap();

    // In the order of their numbers, and all of them can be scrolled to.
    assert_eq!(cells(&page, "instances", "name").await[..3], ["bot-0", "bot-1", "bot-2"]);
    page.evaluate("fleet.body.scrollTop = fleet.body.scrollHeight").await.unwrap();
    let is_visible = "(name => {
        const row = [...document.querySelectorAll('#instances .row')]
            .find(row => row.querySelector('.name').textContent === name);
        if (!row) return false;
        const [inner, outer] = [row.getBoundingClientRect(), fleet.body.getBoundingClientRect()];
        return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    })";
    page.wait_for(&format!("{is_visible}('bot-1999')")).await.unwrap();
    page.evaluate("fleet.body.scrollTop = 0").await.unwrap();
    page.wait_for(&format!("{is_visible}('bot-0')")).await.unwrap();

    // One of them changes. It becomes the first row, and the rows are the same elements as before.
    let drained = gateway.admin_request(Request::get("/fleet/bot-1234/drain").method("POST")).await;
    assert_eq!(drained.status(), 200);
    page.wait_for("document.querySelector('#instances .row .name').textContent === 'bot-1234'")
        .await
        .unwrap();
    let new = "[...document.querySelectorAll('#instances .row')].filter(row => !row.wasThere).length";
    assert!(page.evaluate(new).await.unwrap().as_u64().unwrap() <= 20);

    page.fill("#filter", "bot-19").await.unwrap();
    shows(&page, "#fleet-count", "111 of 2,000 instances").await;
    page.fill("#filter", "draining").await.unwrap();
    page.wait_for("document.querySelectorAll('#instances .row').length === 1").await.unwrap();
    page.fill("#filter", "nothing has this").await.unwrap();
    shows(&page, "#no-instances", "No instance matches the filter.").await;
    close(browser, &page).await;
}

/// Opens the page, and ends its stream so that a test can play events.
async fn open_for_events(browser: &Browser, gateway: &Gateway) -> Page {
    let page = open(browser, gateway).await;
    page.evaluate("feed.close('live', 'Live')").await.unwrap();
    page
}

async fn play(page: &Page, name: &str, data: &Value) {
    page.evaluate(&format!("receive({}, {data})", json!(name))).await.unwrap();
}

async fn play_busy(page: &Page) {
    for (name, data) in frames::busy(unix_now() * 1000) {
        play(page, &name, &data).await;
    }
}

async fn small_gateway() -> (Issuer, Gateway) {
    let issuer = Issuer::start();
    let gateway = Gateway::start(&Settings::without_fleet(&issuer)).await;
    (issuer, gateway)
}

#[tokio::test]
async fn the_page_fits_any_width_and_follows_the_preferred_colours() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    play_busy(&page).await;
    for width in [400, 620, 760, 900, 1100, 1280, 1600, 2200] {
        page.resize(width, 900).await.unwrap();
        page.wait_for(&format!("innerWidth === {width}")).await.unwrap();
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(page.evaluate(overflow).await.unwrap(), 0, "{width}");
        // The cells of a column have the same edges.
        let ragged = "[...document.querySelectorAll('.table')].flatMap(table => {
            const rows = [...table.querySelectorAll('.head, .row')].filter(row => row.offsetHeight > 1)
                .map(row => [...row.children].map(cell => Math.round(cell.getBoundingClientRect().x)).join());
            return [...new Set(rows)].length > 1 ? [table.id] : [];
        })";
        assert_eq!(page.evaluate(ragged).await.unwrap(), json!([]), "{width}");
        let names = cells(&page, "instances", "name").await;
        assert_eq!(names, ["bot-3", "bot-2", "bot-5", "bot-0", "bot-1", "bot-4"], "worst first");
        for id in ["headline", "filter", "search"] {
            let is_shown = format!("document.getElementById('{id}').getBoundingClientRect().width > 100");
            assert_eq!(page.evaluate(&is_shown).await.unwrap(), true, "{id} at {width}");
        }
    }
    let contrast = "(() => {
        const parts = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(part => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        const light = colour => {
            const [red, green, blue] = parts(colour);
            return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        };
        const ground = light(getComputedStyle(document.body).backgroundColor);
        return Math.min(...['body', '.faint', '.number', '.bad', '#instances [data-state=full]',
            '#instances [data-state=draining]', '#instances [data-state=unreachable]', '.head', '.mark',
        ].map(selector => {
            const text = light(getComputedStyle(document.querySelector(selector)).color);
            return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
        }));
    })()";
    let ground = "getComputedStyle(document.body).backgroundColor";
    for (scheme, expected) in
        [(ColorScheme::Light, "rgb(255, 255, 255)"), (ColorScheme::Dark, "rgb(17, 20, 24)")]
    {
        page.prefer(scheme).await.unwrap();
        assert_eq!(page.evaluate(ground).await.unwrap(), expected);
        // WCAG 2.2, success criterion 1.4.3.
        assert!(page.evaluate(contrast).await.unwrap().as_f64().unwrap() >= 4.5, "{scheme:?}");
    }
    close(browser, &page).await;
}

#[tokio::test]
async fn the_page_is_used_with_the_keyboard_only() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let issuer = Issuer::start();
    let instances = Instance::start_all(["bot-0", "bot-1"]);
    let gateway = Gateway::start(&Settings::new(&issuer, &[&instances[0], &instances[1]])).await;
    let page = open(&browser, &gateway).await;
    page.wait_for("document.querySelectorAll('#instances .row').length === 2").await.unwrap();
    let focused = "document.activeElement.getAttribute('aria-label') ?? document.activeElement.id";
    let tab_to = async |label: &str| {
        for _ in 0..30 {
            page.press("Tab").await.unwrap();
            if page.evaluate(focused).await.unwrap() == label {
                return;
            }
        }
        panic!("the key Tab does not reach {label}");
    };
    tab_to("filter").await;
    tab_to("Drain bot-0").await;
    page.press("Enter").await.unwrap();
    page.wait_for("document.getElementById('confirm').open").await.unwrap();
    assert_eq!(page.evaluate(focused).await.unwrap(), "confirm-do");
    page.press("Enter").await.unwrap();
    page.wait_for(&row_has("instances", "bot-0", "state", "draining")).await.unwrap();
    // The row has moved to the top, and the focus with it.
    page.wait_for(&format!("({focused}) === 'Resume bot-0'")).await.unwrap();
    page.press("/").await.unwrap();
    assert_eq!(page.evaluate(focused).await.unwrap(), "filter");
    page.type_text("bot-1/").await.unwrap();
    assert_eq!(page.evaluate("document.getElementById('filter').value").await.unwrap(), "bot-1/");
    tab_to("search").await;

    // Every control and every region has a name for screen readers.
    let nameless = "[...document.querySelectorAll('button, input, section, dialog, [role=table], .scroll')]
        .filter(part => !(part.getAttribute('aria-label') || part.getAttribute('aria-labelledby')
            || part.labels?.length || part.textContent.trim())).map(part => part.outerHTML)";
    assert_eq!(page.evaluate(nameless).await.unwrap(), json!([]));
    let unlabelled = "[...document.querySelectorAll('[aria-labelledby]')]
        .filter(part => !document.getElementById(part.getAttribute('aria-labelledby'))).map(part => part.id)";
    assert_eq!(page.evaluate(unlabelled).await.unwrap(), json!([]));
    close(browser, &page).await;
}

const MARKUP: &str = "<img src=/none onerror=document.title='hacked'>";

#[tokio::test]
async fn text_of_senders_and_issuers_stays_text() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    for (name, mut data) in frames::busy(unix_now() * 1000) {
        replace_text(&mut data);
        play(&page, &name, &data).await;
    }
    page.wait_for("document.querySelectorAll('#calls .row').length > 0").await.unwrap();
    let text = page.text("main").await.unwrap();
    assert!(text.matches(MARKUP).count() > 10, "{text}");
    assert_eq!(page.evaluate("document.images.length + document.links.length - 1").await.unwrap(), 0);
    assert!(page.evaluate("document.title").await.unwrap().as_str().unwrap().starts_with(MARKUP));
    close(browser, &page).await;
}

/// Replaces every text, except for words that the gateway chooses.
fn replace_text(value: &mut Value) {
    match value {
        Value::String(text) => *text = MARKUP.to_owned(),
        Value::Array(list) => list.iter_mut().for_each(replace_text),
        Value::Object(members) => members.values_mut().for_each(replace_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[tokio::test]
async fn memory_stays_bounded_over_many_events() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    let now = unix_now() * 1000;
    play_busy(&page).await;
    play(&page, "fleet", &frames::fleet(now, 500)).await;
    // New calls, new decisions and refusals, and instances that come, change and go.
    let frames = "(async (from, to) => {
        const base = structuredClone(overview);
        const states = ['ready', 'full', 'unreachable', 'draining'];
        for (let at = from; at < to; at += 1) {
            const time = base.last_notification + 1000 * at;
            receive('calls', { omitted: 0, remembered: 5000, calls: Array.from({ length: 20 }, (_, nth) => ({
                id: `call-${at}-${nth}`, chain: `chain-${at}`, message: null, kind: 'group',
                instance: 'bot-1', state: 'established', placed_here: true, first_seen: time,
                last_seen: time + nth })) });
            const state = states[at % 4];
            const some = [...instances.values()].slice(0, 50);
            const changed = some.map(row => ({ ...row, state, attempts: at }));
            const added = { ...changed[0], name: `new-${at}` };
            receive('fleet', { full: false, removed: [`new-${at - 3}`], instances: [...changed, added] });
            const decisions = base.decisions
                .map((decision, nth) => ({ ...decision, time: time + nth, call: `call-${at}-${nth}` }));
            const latest = base.refusals.latest.map(refusal => ({ ...refusal, time }));
            const refusals = { ...base.refusals, latest };
            receive('overview', { ...base, last_notification: time, decisions, refusals });
            if (at % 50 === 0) await new Promise(done => setTimeout(done));
        }
        return document.querySelectorAll('*').length;
    })";
    let mut numbers = Vec::new();
    // The events of two minutes in each round: one evaluation has half a minute, on any machine.
    for round in 0..5 {
        let script = format!("{frames}({}, {})", 120 * round, 120 * (round + 1));
        let nodes = page.evaluate(&script).await.unwrap().as_u64().unwrap();
        numbers.push((nodes, page.heap_bytes().await.unwrap()));
    }
    let ((nodes, before), (nodes_after, after)) = (numbers[0], numbers[4]);
    assert!(nodes_after.abs_diff(nodes) < 400, "{nodes} elements became {nodes_after}");
    // The growth that is allowed from two minutes to ten, as in `cargo xtask rehearse --only page`.
    assert!(5 * after <= 6 * before, "{before} bytes became {after}");
    assert_eq!(page.evaluate("calls.size <= CALLS_MAX && instances.size < 520").await.unwrap(), true);
    close(browser, &page).await;
}

/// The pictures in `docs/page.md`. `SWITCHBOARD_PICTURES=docs cargo test -p switchboard --test e2e pictures`
/// writes them; without the variable, they are taken and looked at by nothing.
#[tokio::test]
async fn the_pictures_of_the_documents_can_be_taken() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let (_issuer, gateway) = small_gateway().await;
    let page = open_for_events(&browser, &gateway).await;
    for (scheme, width, height, file) in [
        (ColorScheme::Light, 1440, 1560, "page-light.png"),
        (ColorScheme::Dark, 1440, 1560, "page-dark.png"),
        (ColorScheme::Light, 400, 900, "page-narrow.png"),
    ] {
        page.prefer(scheme).await.unwrap();
        page.resize(width, height).await.unwrap();
        page.wait_for(&format!("innerWidth === {width}")).await.unwrap();
        play_busy(&page).await;
        let picture = page.screenshot().await.unwrap();
        assert!(picture.len() < 400_000, "{file} has {} bytes", picture.len());
        if let Some(folder) = std::env::var_os("SWITCHBOARD_PICTURES") {
            // Tests run in the folder of the crate.
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
            std::fs::write(folder.join(file), picture).unwrap();
        }
    }
    close(browser, &page).await;
}
