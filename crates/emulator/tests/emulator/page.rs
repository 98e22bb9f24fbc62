//! The page at `/`: its headers, and its use in a real browser.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use switchboard_emulator::{Bot, BotSettings, Client, Platform, PlatformSettings};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};
use xtask_browser::{Browser, ColorScheme, Page};

use crate::support::{Act, Webhook, call_to, get, platform, platform_with, played, post, request, send};

/// Starts the emulator's own bot.
async fn bot(platform: &Platform) -> Bot {
    let settings = BotSettings::new("bot-0", platform.origin().parse().unwrap());
    Bot::start(settings, Client::new(None).unwrap()).await.unwrap()
}

/// Opens the page of the platform in a wide window.
async fn open(browser: &Browser, platform: &Platform) -> Page {
    let page = browser.open(&format!("{}/", platform.origin())).await.unwrap();
    page.resize(1400, 1000).await.unwrap();
    page.wait_for("document.getElementById('connection').dataset.state === 'live'").await.unwrap();
    page
}

/// Fills the form with the webhook and places a call.
async fn place(page: &Page, to: &str) {
    page.fill("#to", to).await.unwrap();
    page.click("#place-call").await.unwrap();
}

/// The rows of the diagram, as `what status`.
const ROWS: &str = "[...document.querySelectorAll('.step')].map(row =>
    row.querySelector('.what').textContent + ' ' + row.querySelector('.status').textContent)";

async fn wait_for_row(page: &Page, row: &str) {
    page.wait_for(&format!("{ROWS}.includes({})", json!(row))).await.unwrap();
}

async fn rows(page: &Page) -> Vec<String> {
    serde_json::from_value(page.evaluate(ROWS).await.unwrap()).unwrap()
}

/// Waits for the file that the page saves, and returns its name and its bytes.
async fn downloaded(browser: &Browser, prefix: &str) -> (String, Vec<u8>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        // Chromium writes to a file with another name, and renames it at the end.
        for entry in std::fs::read_dir(browser.downloads()).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.starts_with(prefix) && !name.ends_with(".crdownload") {
                return (name.clone(), std::fs::read(browser.downloads().join(name)).unwrap());
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("no file {prefix}… was saved");
}

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn the_page_runs_only_its_own_files_and_json_clients_get_the_index() {
    let platform = platform().await;
    for (path, content_type) in
        [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")]
    {
        let reply = get(platform.address(), path).await;
        let head = reply.head.to_ascii_lowercase();
        assert_eq!(reply.status, 200, "{path}");
        assert!(head.contains(&format!("content-type: {content_type}; charset=utf-8")), "{head}");
        assert!(
            head.contains(
                "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; \
                 connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                 frame-ancestors 'none'\r\n"
            ),
            "{head}"
        );
        for header in ["x-content-type-options: nosniff", "referrer-policy: same-origin"] {
            assert!(head.contains(header), "{head}");
        }
        assert!(head.contains("cache-control: no-store"), "{head}");
        assert_eq!(post(platform.address(), path, "").await.status, 405);
    }
    let of = |accept: &'static str| {
        let address = platform.address();
        async move { send(address, "GET", "/", &[("Accept", accept)], "").await }
    };
    assert!(of("text/html,application/json").await.body.starts_with("<!doctype html>"));
    let index = of("application/json").await.json();
    assert_eq!(index, get(platform.address(), "/emulator").await.json());
    assert_eq!(index["app"], crate::support::APP.to_string());
}

/// A bot that mutes itself when a person presses 5.
async fn bot_that_hears_tones(platform: &Platform) -> Webhook {
    Webhook::start(platform, |seen, _| {
        let tone = seen.body.pointer("/value/0/resourceData/toneInfo/tone");
        match seen.kind().as_str() {
            "legacy" => Act::status(204),
            "incoming" => Act::answer(&format!("http://{}/callback", seen.header("host").unwrap())),
            _ if tone.is_some_and(|tone| tone == "tone5") => {
                let body = json!({"clientContext": "tone-5"}).to_string();
                Act::Ask { method: "POST", action: "/mute", body }
            }
            _ => Act::status(202),
        }
    })
    .await
}

#[tokio::test]
async fn a_call_is_placed_watched_and_ended_in_the_page() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot_that_hears_tones(&platform).await;
    let page = open(&browser, &platform).await;
    page.click("#kinds label:nth-of-type(2)").await.unwrap();
    assert_eq!(
        page.evaluate("document.getElementById('place').elements.participants.value").await.unwrap(),
        "3"
    );
    place(&page, &bot.url()).await;

    // The diagram grows while the call is established and the people join.
    page.wait_for("document.getElementById('state').textContent === 'established'").await.unwrap();
    for row in ["incoming (legacy) 204", "incoming 202", "answer 202", "establishing 202", "established 202"]
    {
        wait_for_row(&page, row).await;
    }
    page.wait_for("document.querySelectorAll('#people li').length === 4").await.unwrap();
    let before = rows(&page).await.len();
    assert!(!rows(&page).await.contains(&"mute 200".to_owned()));

    // The bot mutes itself: an arrow from the bot, its operation, and its state.
    page.click("#tone-5").await.unwrap();
    wait_for_row(&page, "tone 5 202").await;
    wait_for_row(&page, "mute 200").await;
    wait_for_row(&page, "operation 202").await;
    page.wait_for("document.querySelector('#people li:nth-child(2)').innerText.includes('muted')")
        .await
        .unwrap();
    let received = "[...document.querySelectorAll('.step.received .what')].map(what => what.textContent)";
    page.wait_for(&format!("{received}.includes('mute')")).await.unwrap();
    page.wait_for("document.getElementById('more').textContent.includes('mute: completed tone-5')")
        .await
        .unwrap();
    assert!(rows(&page).await.len() >= before + 2);
    page.wait_for("document.getElementById('last-step').textContent === 'tone 5: accepted'").await.unwrap();
    page.click("#copy-step").await.unwrap();
    page.wait_for("document.getElementById('notice').textContent === 'Copied: the step'").await.unwrap();
    let copied = page.evaluate("navigator.clipboard.readText()").await.unwrap();
    let copied = copied.as_str().unwrap();
    assert!(
        copied.starts_with("curl -sS --data-raw '{\"do\":\"tone\",\"tone\":5}' http://127.0.0.1"),
        "{copied}"
    );

    // A row opens to its request, its response and the claims of its token.
    page.click(".step > button[aria-label*='tone 5']").await.unwrap();
    let detail = page.text(".detail").await.unwrap();
    for text in ["POST http://", "Response 202", "toneInfo", "Token: claims", "https://api.botframework.com"]
    {
        assert!(detail.contains(text), "{text} in {detail}");
    }
    assert!(detail.contains("UTC, in "), "the expiry is a date: {detail}");
    page.click(".detail > button").await.unwrap();
    page.wait_for("document.getElementById('notice').textContent === 'Copied: the request'").await.unwrap();
    let copied = page.evaluate("navigator.clipboard.readText()").await.unwrap();
    assert!(copied.as_str().unwrap().contains("-H 'authorization: Bearer ey"), "{copied}");
    page.press("Escape").await.unwrap();
    page.wait_for("!document.querySelector('.detail')").await.unwrap();

    page.click("[data-step=hold]").await.unwrap();
    page.wait_for("document.querySelector('[data-step=resume]')?.disabled === false").await.unwrap();
    page.click("[data-step=terminate]").await.unwrap();
    wait_for_row(&page, "terminated 202").await;
    page.wait_for("document.getElementById('outcome').textContent.startsWith('completed')").await.unwrap();
    assert_eq!(page.evaluate("document.getElementById('tone-5').disabled").await.unwrap(), true);
    assert!(page.text("#calls [aria-selected=true]").await.unwrap().contains("completed"));

    // The download is the whole call, with each request and response.
    let id = get(platform.address(), "/emulator/calls").await.json()["calls"][0]["call"].clone();
    page.click("#download").await.unwrap();
    let (name, file) = downloaded(&browser, "call-").await;
    assert_eq!(name, format!("call-{}.json", id.as_str().unwrap()));
    let fetched: Value = serde_json::from_slice(&file).unwrap();
    assert_eq!(fetched["call"]["call"], id);
    let events = fetched["events"].as_array().unwrap();
    let tone = events.iter().find(|event| event["event"] == "step" && event["what"] == "tone 5").unwrap();
    assert!(tone["request"]["body"].as_str().unwrap().contains("toneInfo"), "{tone}");
    assert_eq!(tone["response"]["status"], 202);

    page.click("#forget").await.unwrap();
    page.wait_for("document.querySelectorAll('#calls li').length === 0").await.unwrap();
    assert_eq!(get(platform.address(), "/emulator/calls").await.json(), json!({"calls": []}));
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

/// A webhook that answers with markup in its callbackUri and in a member of its body.
async fn hostile(platform: &Platform) -> Webhook {
    Webhook::start(platform, |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        "incoming" => {
            let callback = format!("http://{}/callback?{}", seen.header("host").unwrap(), MARKUP);
            let body = json!({
                "callbackUri": callback,
                "acceptedModalities": ["audio"],
                "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
                MARKUP: MARKUP,
            });
            Act::Ask { method: "POST", action: "/answer", body: body.to_string() }
        }
        _ => Act::Status(500, Some("/<img src=/page.svg onerror=hacked()>".to_owned())),
    })
    .await
}

const MARKUP: &str = "<img src=/none onerror=document.title='hacked'>";

#[tokio::test]
async fn text_of_bots_stays_text() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let webhook = hostile(&platform).await;
    let page = open(&browser, &platform).await;
    place(&page, &webhook.url()).await;
    page.wait_for("document.getElementById('outcome').textContent !== ''").await.unwrap();
    // The retries have rows of their own.
    page.wait_for("document.querySelector('#steps').textContent.includes('attempt 4')").await.unwrap();
    page.evaluate("document.querySelectorAll('.step > button').forEach(button => button.click())")
        .await
        .unwrap();
    let steps = page.text("#steps").await.unwrap();
    assert!(steps.contains(&format!("\"{MARKUP}\": \"{MARKUP}\"")), "{steps}");

    let person = json!({"id": MARKUP, "name": MARKUP, "kind": MARKUP, "muted": true, "in_lobby": true});
    let operation = json!({"id": "1", "name": MARKUP, "status": MARKUP, "client_context": MARKUP});
    let recording = json!({"id": MARKUP, "url": "javascript:alert(1)", "bytes": MARKUP});
    let details = json!({"participants": [person], "operations": [operation], "recordings": [recording]});
    // The page may read the details again at any time, so one script shows them and looks at the result.
    let script = format!(
        "(() => {{
            showDetails({details});
            return [document.images.length, document.querySelectorAll('#more a').length,
                document.getElementById('people').innerText, document.getElementById('more').innerText];
        }})()"
    );
    let shown = page.evaluate(&script).await.unwrap();
    assert_eq!(json!([shown[0], shown[1]]), json!([0, 0]));
    let (people, more) = (shown[2].as_str().unwrap(), shown[3].as_str().unwrap());
    for text in [MARKUP, "muted", "in lobby", "Unmute"] {
        assert!(people.contains(text), "{people}");
    }
    assert!(more.contains(&format!("{MARKUP}: {MARKUP}")), "{more}");
    assert!(more.contains(&format!("{MARKUP} bytes")), "{more}");

    assert_eq!(page.evaluate("document.images.length").await.unwrap(), 0);
    assert_eq!(page.evaluate("document.title").await.unwrap(), "Switchboard emulator");
    assert_eq!(page.problems(), none());

    // A word with control characters is quoted so that no terminal obeys it.
    for (word, expected) in
        [("a b", "'a b'"), ("it's", r"'it'\''s'"), ("x\u{1b}[201~\n'", r"$'x\u001b[201~\u000a\''")]
    {
        assert_eq!(page.evaluate(&format!("quoted({})", json!(word))).await.unwrap(), expected);
    }
    browser.close().await.unwrap();
}

#[tokio::test]
async fn names_of_people_whom_a_bot_calls_stay_text() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let webhook = Webhook::start(&platform, |_, _| Act::status(202)).await;
    let page = open(&browser, &platform).await;
    let user = json!({"id": "11111111-0000-4000-8000-000000000007", "displayName": MARKUP});
    let body = json!({
        "callbackUri": webhook.url(),
        "mediaConfig": {"@odata.type": "#microsoft.graph.serviceHostedMediaConfig"},
        "requestedModalities": ["audio"],
        "source": {"identity": {"application": {"id": crate::support::APP.to_string()}}},
        "targets": [{"identity": {"user": user}}],
        "tenantId": crate::support::TENANT.to_string(),
    });
    let reply = post(platform.address(), "/v1.0/communications/calls", &body.to_string()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    // The page shows a call that a bot places as it shows others.
    page.click("#calls li").await.unwrap();
    wait_for_row(&page, "established 202").await;
    page.wait_for(&format!("document.getElementById('people').textContent.includes({})", json!(MARKUP)))
        .await
        .unwrap();
    assert_eq!(page.text("#call-title").await.unwrap(), "p2p call of the bot");
    page.evaluate("document.querySelectorAll('.step > button').forEach(button => button.click())")
        .await
        .unwrap();
    assert!(page.text("#steps").await.unwrap().contains(MARKUP));
    assert_eq!(page.evaluate("document.images.length").await.unwrap(), 0);
    assert_eq!(page.evaluate("document.title").await.unwrap(), "Switchboard emulator");
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn the_page_is_usable_when_narrow_dark_and_by_keyboard() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot(&platform).await;
    let to = format!("http://{}/api/calls", bot.address());
    for _ in 0..2 {
        assert!(played(platform.call(call_to(&to)).unwrap()).await.2.ok);
    }
    let page = open(&browser, &platform).await;

    // The arrow keys select in the list, and move from row to row in the diagram.
    page.wait_for("document.querySelectorAll('#calls li').length === 2").await.unwrap();
    page.evaluate("document.querySelector('#calls li').focus()").await.unwrap();
    page.press("ArrowDown").await.unwrap();
    page.wait_for("document.querySelector('#calls li:last-child').ariaSelected === 'true'").await.unwrap();
    wait_for_row(&page, "terminated 202").await;
    page.evaluate("document.querySelector('.step > button').focus()").await.unwrap();
    page.press("ArrowDown").await.unwrap();
    page.press("Enter").await.unwrap();
    page.wait_for("document.querySelectorAll('.step')[1].querySelector('.detail')").await.unwrap();
    let outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle").await.unwrap();
    assert_eq!(outline, "solid");

    // A page in the background leaves its connections to others, and continues without a row twice.
    let see = async |hidden: bool, state: &str| {
        let script = format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        );
        page.evaluate(&script).await.unwrap();
        let condition = format!("document.getElementById('connection').dataset.state === '{state}'");
        page.wait_for(&condition).await.unwrap();
    };
    let before = rows(&page).await;
    see(true, "waiting").await;
    see(false, "live").await;
    assert_eq!(rows(&page).await, before);

    page.resize(400, 800).await.unwrap();
    page.evaluate("document.getElementById('tab-place').focus()").await.unwrap();
    for tab in ["place", "faults", "keys"] {
        let wide = page.evaluate("document.documentElement.scrollWidth > innerWidth").await.unwrap();
        assert_eq!(wide, false, "{tab}");
        assert_eq!(page.evaluate(&format!("document.getElementById('{tab}').hidden")).await.unwrap(), false);
        page.press("ArrowRight").await.unwrap();
    }

    let ground = "getComputedStyle(document.body).backgroundColor";
    let mut grounds = Vec::new();
    for scheme in [ColorScheme::Light, ColorScheme::Dark] {
        page.prefer(scheme).await.unwrap();
        grounds.push(page.evaluate(ground).await.unwrap());
    }
    assert_ne!(grounds[0], grounds[1]);
    // The switch overrides the preference: light, then dark, and it is kept.
    page.click("#theme").await.unwrap();
    assert_eq!(page.evaluate(ground).await.unwrap(), grounds[0]);
    page.navigate(&format!("{}/", platform.origin())).await.unwrap();
    page.wait_for("document.getElementById('theme').textContent === 'Theme: light'").await.unwrap();
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn faults_keys_and_tokens_are_changed_in_the_page() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let page = open(&browser, &platform).await;
    let faults = async || get(platform.address(), "/emulator/faults").await.json();

    page.click("#tab-faults").await.unwrap();
    page.fill("[data-name=graph] [type=text]", "429:3*2").await.unwrap();
    page.click("[data-name=graph] [type=checkbox]").await.unwrap();
    page.wait_for("document.getElementById('fault-count').textContent === '1 on'").await.unwrap();
    assert_eq!(faults().await["graph"], "429:3*2");
    page.click("[data-name=graph] [type=checkbox]").await.unwrap();
    page.wait_for("document.getElementById('fault-count').hidden").await.unwrap();
    assert_eq!(faults().await["graph"], Value::Null);

    page.click("#tab-keys").await.unwrap();
    let keys = async || get(platform.address(), "/v1/keys").await.json()["keys"].as_array().unwrap().len();
    let before = keys().await;
    page.click("#rotation [value=later]").await.unwrap();
    page.wait_for("document.getElementById('rotations').textContent.includes('signs in 30s')").await.unwrap();
    assert_eq!(keys().await, before + 1);
    // The next one signs at once, and the others are withdrawn.
    page.click("#rotation [name=overlap]").await.unwrap();
    page.click("#rotation [value=now]").await.unwrap();
    page.wait_for("document.querySelector('#rotations li').textContent.endsWith('of skype signs')")
        .await
        .unwrap();
    let published = get(platform.address(), "/v1/keys").await.json();
    let kid = published["keys"][0]["kid"].as_str().unwrap();
    assert!(page.text("#rotations li:first-child").await.unwrap().contains(kid), "{published}");
    page.choose("#mint [name=token_kind]", "entra-v2").await.unwrap();
    page.choose("#mint [name=flaw]", "expired").await.unwrap();
    page.click("#mint .buttons button:first-child").await.unwrap();
    page.wait_for("document.getElementById('decoded').textContent.includes('UTC')").await.unwrap();
    let decoded = page.text("#decoded").await.unwrap();
    assert!(decoded.contains("https://login.microsoftonline.com/") && decoded.contains(" ago"), "{decoded}");

    // The command that the form copies is one that the program takes.
    page.click("#tab-place").await.unwrap();
    page.fill("#to", "http://127.0.0.1:1/it's?a=1").await.unwrap();
    page.click("#copy-command").await.unwrap();
    page.wait_for("document.getElementById('notice').textContent === 'Copied: the command'").await.unwrap();
    let copied = page.evaluate("navigator.clipboard.readText()").await.unwrap();
    let expected = format!(
        "switchboard-emulator call --platform {} --app-id {} --to 'http://127.0.0.1:1/it'\\''s?a=1' \
         --kind p2p --duration 5m --participants 1 --protocol legacy-first --token skype",
        platform.origin(),
        crate::support::APP,
    );
    assert_eq!(copied, expected);
    let command =
        copied.as_str().unwrap().replace("switchboard-emulator", env!("CARGO_BIN_EXE_switchboard-emulator"));
    let command = command.replace("--duration 5m", "--duration 5m --expect undelivered");
    let output = tokio::process::Command::new("sh").args(["-c", &command]).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn a_long_call_moves_nothing_and_stays_whole() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot(&platform).await;
    let page = open(&browser, &platform).await;
    page.evaluate(
        "new PerformanceObserver(list => {
            for (const { hadRecentInput, value } of list.getEntries()) {
                if (!hadRecentInput) window.shift = (window.shift ?? 0) + value;
            }
        }).observe({ type: 'layout-shift' })",
    )
    .await
    .unwrap();
    let script: Vec<Value> = (0..490).map(|_| json!({"do": "tone", "tone": 5})).collect();
    let to = format!("http://{}/api/calls", bot.address());
    let body = json!({"to": to, "script": script, "duration": "10ms"}).to_string();
    let placing = post(platform.address(), "/emulator/calls", &body);
    let watching = async {
        page.wait_for("document.querySelector('#calls li')").await.unwrap();
        page.click("#calls li").await.unwrap();
        page.wait_for("document.getElementById('outcome').textContent !== ''").await.unwrap();
    };
    let (reply, ()) = tokio::join!(placing, watching);
    assert_eq!(reply.status, 200);
    let tones =
        "[...document.querySelectorAll('.step .what')].filter(what => what.textContent === 'tone 5').length";
    page.wait_for(&format!("{tones} === 490")).await.unwrap();
    page.wait_for("!document.querySelector('.pending')").await.unwrap();
    // The end of the diagram is in view, as the reader did not scroll away.
    let at_end =
        "(({ scrollTop, clientHeight, scrollHeight }) => scrollTop + clientHeight >= scrollHeight - 60)";
    page.wait_for(&format!("{at_end}(document.getElementById('steps'))")).await.unwrap();
    let shift = page.evaluate("window.shift ?? 0").await.unwrap();
    assert!(shift.as_f64().unwrap() < 0.01, "{shift}");
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn the_page_waits_for_an_emulator_that_is_gone_and_forgets_its_calls() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let first = platform().await;
    let address = first.address();
    let bot = bot(&first).await;
    let (_, _, end) = played(first.call(call_to(&format!("http://{}/", bot.address()))).unwrap()).await;
    assert!(end.ok);
    let page = open(&browser, &first).await;
    page.click("#calls li").await.unwrap();
    drop(first);
    page.wait_for("document.getElementById('connection').dataset.state === 'lost'").await.unwrap();
    let _second = platform_with(|settings| PlatformSettings { listen: address, ..settings }).await;
    page.wait_for("document.getElementById('connection').dataset.state === 'live'").await.unwrap();
    page.wait_for("document.querySelectorAll('#calls li').length === 0").await.unwrap();
    assert_eq!(page.text("#call-title").await.unwrap(), "No call selected");
    browser.close().await.unwrap();
}

#[tokio::test]
async fn people_join_wait_leave_and_change_by_buttons() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot(&platform).await;
    let page = open(&browser, &platform).await;
    place(&page, &format!("http://{}/api/calls", bot.address())).await;
    page.wait_for("document.getElementById('state').textContent === 'established'").await.unwrap();
    let people = |count: usize| format!("document.querySelectorAll('#people li').length === {count}");
    page.wait_for(&people(2)).await.unwrap();
    page.click("[data-step=join]").await.unwrap();
    page.wait_for(&people(3)).await.unwrap();
    page.click("[data-step=lobby]").await.unwrap();
    page.wait_for("document.getElementById('people').innerText.includes('in lobby')").await.unwrap();
    page.click("[data-step=leave]").await.unwrap();
    page.wait_for(&people(3)).await.unwrap();

    // The buttons of a person change that person, and then offer the way back.
    for (action, mark, back) in [("Mute", "muted", "Unmute"), ("Raise hand", "hand raised", "Lower hand")] {
        let of_person = |action: &str| format!("#people li:first-child button[aria-label^='{action}:']");
        page.click(&of_person(action)).await.unwrap();
        let marked = format!(
            "[...document.querySelectorAll('#people li:first-child .mark')]
                 .some(mark => mark.textContent === '{mark}')"
        );
        page.wait_for(&marked).await.unwrap();
        page.click(&of_person(back)).await.unwrap();
        page.wait_for(&format!("!{marked}")).await.unwrap();
    }

    // Any step of a script can be played; the emulator says what is wrong with another.
    page.fill("#other-step input", r#"{"do":"fly"}"#).await.unwrap();
    page.press("Enter").await.unwrap();
    page.wait_for("document.getElementById('call-error').textContent.includes('must be one of')")
        .await
        .unwrap();
    assert_eq!(page.text("#last-step").await.unwrap(), "fly: refused");
    page.fill("#other-step input", r#"{"do":"operation","operation":"playPrompt"}"#).await.unwrap();
    page.press("Enter").await.unwrap();
    page.wait_for(&format!("{ROWS}.some(row => row === 'operation 202')")).await.unwrap();
    page.wait_for("document.getElementById('steps').innerText.includes('playPrompt: completed')")
        .await
        .unwrap();
    assert_eq!(page.evaluate("document.getElementById('call-error').hidden").await.unwrap(), true);

    // A refused step is a problem of the console; nothing else went wrong.
    assert!(page.problems().iter().all(|problem| problem.contains("400")), "{:?}", page.problems());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn a_recording_hears_the_speech_of_a_person_and_can_be_saved() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = Webhook::start(&platform, |seen, _| {
        let tone = seen.body.pointer("/value/0/resourceData/toneInfo").is_some();
        match seen.kind().as_str() {
            "legacy" => Act::status(204),
            "incoming" => Act::answer(&format!("http://{}/callback", seen.header("host").unwrap())),
            _ if tone => {
                let body =
                    json!({"clientContext": "record", "maxSilenceTimeoutInSeconds": 1, "playBeep": false});
                Act::Ask { method: "POST", action: "/recordResponse", body: body.to_string() }
            }
            _ => Act::status(202),
        }
    })
    .await;
    let page = open(&browser, &platform).await;
    place(&page, &bot.url()).await;
    wait_for_row(&page, "established 202").await;
    page.click("[data-step=speak]").await.unwrap();
    page.wait_for("document.getElementById('last-step').textContent === 'speak 2s: accepted'").await.unwrap();
    page.click("#tone-1").await.unwrap();
    page.wait_for("document.getElementById('more').innerText.includes('recordResponse: completed')")
        .await
        .unwrap();
    page.click("#more button").await.unwrap();
    let (name, file) = downloaded(&browser, "recording-").await;
    assert!(name.ends_with(".wav"), "{name}");
    assert!(file.starts_with(b"RIFF"));
    // 16,000 samples of two bytes a second: the speech is in it.
    assert!(file.len() > 64_000, "{}", file.len());
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn a_call_is_placed_and_played_with_the_keyboard_only() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot_that_hears_tones(&platform).await;
    let page = open(&browser, &platform).await;
    let tab_to = async |id: &str| {
        for _ in 0..60 {
            page.press("Tab").await.unwrap();
            if page.evaluate("document.activeElement.id").await.unwrap() == id {
                return;
            }
        }
        panic!("the key Tab does not reach {id}");
    };
    tab_to("to").await;
    // The key Tab selects the text of an input.
    page.type_text(&bot.url()).await.unwrap();
    page.press("Enter").await.unwrap();
    // The focus follows to the call.
    page.wait_for("document.activeElement.id === 'call-title'").await.unwrap();
    page.wait_for("document.getElementById('tone-1').disabled === false").await.unwrap();
    tab_to("tone-1").await;
    page.press("5").await.unwrap();
    wait_for_row(&page, "mute 200").await;
    let hang_up = "document.activeElement.dataset.step === 'terminate'";
    for _ in 0..60 {
        page.press("Tab").await.unwrap();
        if page.evaluate(hang_up).await.unwrap() == true {
            break;
        }
    }
    page.press("Enter").await.unwrap();
    wait_for_row(&page, "terminated 202").await;
    assert_eq!(page.problems(), none());
    browser.close().await.unwrap();
}

#[tokio::test]
async fn events_of_a_dropped_connection_are_recovered() {
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let platform = platform().await;
    let bot = bot_that_hears_tones(&platform).await;
    let proxy = Proxy::start(platform.address()).await;
    let page = browser.open(&format!("http://{}/", proxy.address)).await.unwrap();
    page.wait_for("document.getElementById('connection').dataset.state === 'live'").await.unwrap();
    place(&page, &bot.url()).await;
    wait_for_row(&page, "established 202").await;
    let id = get(platform.address(), "/emulator/calls").await.json()["calls"][0]["call"].clone();
    let id = id.as_str().unwrap();

    proxy.connected.send_replace(false);
    page.wait_for("document.getElementById('connection').dataset.state === 'lost'").await.unwrap();
    let steps = format!("/emulator/calls/{id}/steps");
    assert_eq!(post(platform.address(), &steps, r#"{"do":"tone","tone":5}"#).await.status, 202);
    let muted = async || {
        let call = get(platform.address(), &format!("/emulator/calls/{id}")).await.json();
        call["events"].as_array().unwrap().iter().any(|event| event["what"] == "mute")
    };
    while !muted().await {
        tokio::task::yield_now().await;
    }
    assert!(!rows(&page).await.iter().any(|row| row.starts_with("tone 5")));

    proxy.connected.send_replace(true);
    page.wait_for("document.getElementById('connection').dataset.state === 'live'").await.unwrap();
    wait_for_row(&page, "mute 200").await;
    wait_for_row(&page, "tone 5 202").await;
    let rows = rows(&page).await;
    for row in ["incoming 202", "answer 202", "tone 5 202", "mute 200"] {
        assert_eq!(rows.iter().filter(|shown| *shown == row).count(), 1, "{row} in {rows:?}");
    }
    // What another client forgets leaves the page too.
    assert_eq!(request(platform.address(), "DELETE", "/emulator/calls", "").await.status, 204);
    page.wait_for("document.querySelectorAll('#calls li').length === 0").await.unwrap();
    page.wait_for("document.getElementById('call-title').textContent === 'No call selected'").await.unwrap();
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
                    let mut far = TcpStream::connect(to).await.unwrap();
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
async fn pages_of_other_origins_are_refused() {
    let platform = platform().await;
    let address = platform.address();
    let own = platform.origin();
    let foreign = ["https://evil.example", "null", "http://127.0.0.1:1"];
    let requests = [
        ("GET", "/emulator/calls", ""),
        ("GET", "/emulator/events", ""),
        ("POST", "/emulator/calls", r#"{"to":"http://127.0.0.1:1/"}"#),
        ("POST", "/emulator/token", "{}"),
        ("POST", "/emulator/rotate", ""),
        ("PATCH", "/emulator/faults", r#"{"graph":"500"}"#),
        ("DELETE", "/emulator/calls", ""),
    ];
    for (method, path, body) in requests {
        for origin in foreign {
            let reply = send(address, method, path, &[("Origin", origin)], body).await;
            assert_eq!(reply.status, 403, "{method} {path} from {origin}");
        }
    }
    assert_eq!(send(address, "GET", "/emulator/calls", &[("Origin", own)], "").await.status, 200);

    // The same in a browser: the page of another server sends what a form could.
    let Some(browser) = Browser::start().await.unwrap() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let text =
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<title>Other</title>";
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    let page = browser.open(&format!("http://{other}/")).await.unwrap();
    let place = format!(
        "fetch('{own}/emulator/calls', {{ method: 'POST', mode: 'no-cors', body: '{{\"to\":\"{own}/\"}}' }})
            .then(response => response.type)"
    );
    assert_eq!(page.evaluate(&place).await.unwrap(), "opaque");
    assert_eq!(get(address, "/emulator/calls").await.json(), json!({"calls": []}));
    browser.close().await.unwrap();
}
