//! Many calls: the report of a good load, and the problems that it shows.

use std::time::Duration;

use serde_json::Value;
use switchboard_emulator::{
    Behaviour, Bot, BotSettings, BotWatcher, CallKind, CallRequest, Client, LoadEvent, LoadReport,
    LoadRequest, LoadResult, Platform, Protocol, parse_http_url, place_load,
};
use tokio::time::Instant;
use url::Url;

use crate::support::{Act, Webhook, call_to, platform, post};

async fn bot(platform: &Platform, name: &str, behaviour: Behaviour) -> (Bot, Url) {
    let settings =
        BotSettings { behaviour, ..BotSettings::new(name, parse_http_url(platform.origin()).unwrap()) };
    let bot = Bot::start(settings, Client::new(None).unwrap()).await.unwrap();
    let url = parse_http_url(&format!("http://{}/api/calls", bot.address())).unwrap();
    (bot, url)
}

fn request(to: &Url, calls: u32, mix: Option<&str>) -> LoadRequest {
    let call = CallRequest { keep_alive: true, ..call_to(to.as_str()) };
    LoadRequest { call, calls, rate: 500, kinds: mix.map(|mix| mix.parse().unwrap()) }
}

async fn check(platform: &Platform, request: &LoadRequest, bots: &[&Url]) -> (LoadReport, Vec<LoadResult>) {
    let client = Client::new(None).unwrap();
    let began = Instant::now();
    let bots = bots.iter().map(|url| (None, (*url).clone())).collect();
    let watching = BotWatcher::start(&client, bots, began).await.unwrap();
    let origin = parse_http_url(platform.origin()).unwrap();
    let mut events = place_load(&client, &origin, request).await.unwrap();
    let (mut results, mut placed, mut done) = (Vec::new(), 0, false);
    while let Some(event) = events.next().await {
        match event {
            LoadEvent::Placed { calls } => placed = calls,
            LoadEvent::Result(result) => results.push(result),
            LoadEvent::Done => done = true,
        }
    }
    assert!(done && placed == request.calls && results.len() == usize::try_from(placed).unwrap());
    (LoadReport::new(&results, &watching.reports().await, 1.0), results)
}

#[tokio::test]
async fn a_load_of_all_kinds_completes() {
    let platform = platform().await;
    let (bot, url) = bot(&platform, "bot-0", Behaviour::default()).await;
    let mix = Some("p2p=2,group=1,meeting=1,recording=1,pstn=1");
    let (report, results) = check(&platform, &request(&url, 60, mix), &[&url]).await;
    assert!(report.ok, "{report:?}");
    assert_eq!((report.calls, report.outcomes["completed"]), (60, 60));
    assert_eq!((report.lost, report.retried, report.refused, report.ended_early), (0, 0, 0, 0));
    assert_eq!((report.misrouted, report.handled_twice, report.came_twice), (Some(0), Some(0), Some(0)));
    assert_eq!(report.sent, report.acknowledged);
    let kinds = results.iter().filter(|result| result.kind == CallKind::P2p.label()).count();
    assert_eq!(kinds, 20);
    assert_eq!((bot.calls().taken, bot.calls().active), (60, 0));
    // All but the first notification of each call, which has a legacy form and a Graph form.
    let callbacks = &report.callbacks["bot-0"];
    assert_eq!((callbacks.sent, callbacks.acknowledged), (report.sent - 120, report.sent - 120));
}

#[tokio::test]
async fn a_callback_that_reaches_another_instance_is_misrouted() {
    let platform = platform().await;
    let (_owner, owner) = bot(&platform, "bot-0", Behaviour::default()).await;
    let (_other, other) = bot(&platform, "bot-1", Behaviour::default()).await;
    let callback = other.as_str().replace("/api/calls", "/api/callbacks/emea/bot-0/seal");
    // The callbackUri names bot-0 as the owner, but its host is bot-1.
    let front = Webhook::start(&platform, move |seen, _| match seen.kind().as_str() {
        "legacy" => Act::status(204),
        _ => Act::answer(&callback),
    })
    .await;
    let url = parse_http_url(&front.url()).unwrap();
    let (report, _) = check(&platform, &request(&url, 3, None), &[&owner, &other]).await;
    assert!(!report.ok, "{report:?}");
    assert_eq!((report.lost, report.misrouted), (0, Some(12)));
    assert!(report.problems[0].what.contains("4 notifications reached bot-1"), "{:?}", report.problems);
}

#[tokio::test]
async fn a_restarted_instance_loses_its_calls() {
    let platform = platform().await;
    let (first, url) = bot(&platform, "bot-0", Behaviour::default()).await;
    let address = first.address();
    let mut load = request(&url, 5, None);
    load.call.duration = Duration::from_millis(800);
    let client = Client::new(None).unwrap();
    let watching = BotWatcher::start(&client, vec![(None, url.clone())], Instant::now()).await.unwrap();
    let mut events = platform.load(load);
    let mut results = Vec::new();
    while first.calls().calls.iter().filter(|call| call.state == "established").count() < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(first);
    let origin = parse_http_url(platform.origin()).unwrap();
    let settings = BotSettings { listen: address, ..BotSettings::new("bot-0", origin) };
    let restarted = loop {
        if let Ok(restarted) = Bot::start(settings.clone(), client.clone()).await {
            break restarted;
        }
        tokio::task::yield_now().await;
    };
    while let Some(event) = events.next().await {
        if let LoadEvent::Result(result) = event {
            results.push(result);
        }
    }
    let report = LoadReport::new(&results, &watching.reports().await, 1.0);
    assert!(report.ok, "{report:?}");
    assert_eq!((report.instance_gone.values().sum::<usize>(), report.misrouted), (5, Some(0)));
    assert_eq!(report.gone, ["bot-0"]);
    assert!(restarted.calls().strays > 0);
}

#[tokio::test]
async fn a_call_that_the_bot_ends_early_is_counted() {
    let platform = platform().await;
    let behaviour = Behaviour { hang_up_after: Some(Duration::from_millis(1)), ..Behaviour::default() };
    let (_bot, url) = bot(&platform, "bot-0", behaviour).await;
    let mut load = request(&url, 3, None);
    load.call.duration = Duration::from_secs(20);
    let (report, _) = check(&platform, &load, &[&url]).await;
    assert_eq!((report.ended_early, report.outcomes["completed"], report.ok), (3, 3, true), "{report:?}");
}

#[tokio::test]
async fn a_bot_that_fails_sometimes_loses_no_notification() {
    let platform = platform().await;
    for how in ["503:0.2", "reset:0.2"] {
        let behaviour = Behaviour { fail: Some(how.parse().unwrap()), ..Behaviour::default() };
        let (_bot, url) = bot(&platform, "bot-0", behaviour).await;
        let mut load = request(&url, 4, None);
        load.call.protocol = Protocol::Graph;
        let (report, _) = check(&platform, &load, &[&url]).await;
        assert!(report.ok && report.retried > 0, "{how}: {report:?}");
    }
}

#[tokio::test]
async fn the_control_api_places_and_stops_a_load() {
    let platform = platform().await;
    let (_bot, url) = bot(&platform, "bot-0", Behaviour::default()).await;
    let body = format!(r#"{{"call":{{"to":"{url}","duration":"1ms"}},"calls":2,"rate":100}}"#);
    let reply = post(platform.address(), "/emulator/load", &body).await;
    let lines: Vec<Value> = reply.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().filter(|line| line["event"] == "result" && line["ok"] == true).count(), 2);
    assert_eq!(lines.last().unwrap()["event"], "done");
    let client = Client::new(None).unwrap();
    let origin = parse_http_url(platform.origin()).unwrap();
    // A low rate: on a slow machine, many calls would be placed before the first result.
    let load = LoadRequest { rate: 50, ..request(&url, 100_000, None) };
    let mut events = place_load(&client, &origin, &load).await.unwrap();
    while !matches!(events.next().await, Some(LoadEvent::Result(_))) {}
    let ended = crate::support::request(platform.address(), "DELETE", "/emulator/load", "").await;
    assert_eq!(ended.status, 204);
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    assert_eq!(last, Some(LoadEvent::Done), "the placed calls go on to their end");

    let refused = post(platform.address(), "/emulator/load", r#"{"calls":2}"#).await;
    assert!(refused.status == 400 && refused.body.contains("missing field"), "{refused:?}");
}
