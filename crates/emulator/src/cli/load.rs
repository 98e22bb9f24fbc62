//! `load`: places many calls, with a progress bar and a report at the end.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use switchboard_emulator::{
    BotWatcher, CALLS_MAX, KindMix, LoadEvent, LoadReport, LoadRequest, LoadResult, OwnerCallbacks, RATE_MAX,
    parse_http_url, place_load, printable,
};
use tokio::time::Instant;
use url::Url;

use super::{
    call_options::CallOptions,
    platform_options::{PlatformOptions, client, not_placed},
    values::whole,
};
use crate::screen::{Progress, complain, say, time};

#[derive(Debug, Args)]
pub(crate) struct LoadArguments {
    #[command(flatten)]
    call: CallOptions,
    #[command(flatten)]
    platform: PlatformOptions,
    /// The number of calls.
    #[arg(long, value_name = "N", value_parser = whole(1, CALLS_MAX))]
    calls: u32,
    /// The number of calls placed per second.
    #[arg(long, value_name = "R", default_value = "10", value_parser = whole(1, RATE_MAX))]
    rate: u32,
    /// The kinds of the calls with their shares, like p2p=6,meeting=3,recording=1. Replaces --kind.
    #[arg(long, value_name = "MIX", conflicts_with = "kind")]
    kind_mix: Option<KindMix>,
    /// A `switchboard-emulator bot` behind the gateway. Its ledger shows which notifications were misrouted.
    /// Give NAME if callback URIs name the bot differently than it names itself. May be repeated.
    #[arg(long = "bot", value_name = "[NAME=]URL", value_parser = bot)]
    bots: Vec<(Option<String>, Url)>,
    /// Print one JSON object at the end instead of a table.
    #[arg(long)]
    json: bool,
}

/// Places the calls. Succeeds if no call failed and no notification was lost or misrouted.
pub(super) async fn run(arguments: LoadArguments) -> Result<ExitCode, String> {
    let LoadArguments { call, platform, calls, rate, kind_mix, bots, json } = arguments;
    let client = client(platform.ca.as_deref())?;
    let (platform, own) = platform.start(call.app()).await?;
    let mut call = call.into_call();
    call.keep_alive = true;
    let request = LoadRequest { call, calls, rate, kinds: kind_mix };

    let began = Instant::now();
    let has_bots = !bots.is_empty();
    let watching = BotWatcher::start(&client, bots, began).await.map_err(|error| error.to_string())?;
    let mut events =
        place_load(&client, &platform, &request).await.map_err(|error| not_placed(&platform, &error))?;
    let mut results: Vec<LoadResult> = Vec::new();
    let (mut placed, mut failed, mut done) = (0, 0, false);
    let mut progress = Progress::new();
    while let Some(event) = events.next().await {
        match event {
            LoadEvent::Placed { calls } => placed = calls,
            LoadEvent::Result(result) => {
                failed += u32::from(!result.ok);
                results.push(result);
            }
            LoadEvent::Done => done = true,
        }
        progress.show(calls, placed, results.len(), failed, began.elapsed());
    }
    let took = began.elapsed();
    progress.clear();
    drop(own);
    if !done {
        return Err(format!("the platform at {platform} stopped before the end of the calls"));
    }
    let reports = watching.reports().await;
    let report = LoadReport::new(&results, &reports, took.as_secs_f64() * 1_000.0);
    if json {
        say(&serde_json::to_string(&report).map_err(|error| error.to_string())?);
    } else {
        for line in table(&report, has_bots, took) {
            say(&line);
        }
    }
    if report.ok {
        return Ok(ExitCode::SUCCESS);
    }
    complain(&summary(&report));
    Ok(ExitCode::FAILURE)
}

fn table(report: &LoadReport, has_bots: bool, took: Duration) -> Vec<String> {
    let row = |name: &str, value: &str| format!("  {name:<28} {value:>9}");
    let count = |name: &str, value: u64| row(name, &value.to_string());
    let known = |name: &str, value: Option<u64>| {
        row(name, &value.map_or_else(|| "unknown".to_owned(), |value| value.to_string()))
    };
    let mut lines = vec![format!("{} calls in {:.1} s", report.calls, took.as_secs_f64()), String::new()];
    lines.push("calls by outcome".to_owned());
    for (outcome, calls) in &report.outcomes {
        lines.push(row(&printable(outcome), &calls.to_string()));
    }
    if !report.gone.is_empty() {
        lines.push(format!("calls whose instance was gone ({})", printable(&report.gone.join(", "))));
        for (outcome, calls) in &report.instance_gone {
            lines.push(row(&printable(outcome), &calls.to_string()));
        }
        lines.push(count("their notifications lost", report.lost_with_instance));
    }
    lines.push(count("ended early", report.ended_early));
    if let Some(answered) = report.answered {
        lines.push("time to answer".to_owned());
        for (name, ms) in [("p50", answered.p50_ms), ("p99", answered.p99_ms), ("max", answered.max_ms)] {
            lines.push(row(name, &time(ms)));
        }
    }
    lines.push("notifications".to_owned());
    lines.push(count("sent", report.sent));
    lines.push(count("acknowledged", report.acknowledged));
    lines.push(count("retried", report.retried));
    lines.push(count("refused", report.refused));
    lines.push(count("lost", report.lost));
    lines.push(known("misrouted", report.misrouted));
    lines.push(known("received twice", report.came_twice));
    lines.push(known("calls handled twice", report.handled_twice));
    if !has_bots {
        lines.push("  give --bot URL for each bot to learn which were misrouted".to_owned());
    }
    if !report.callbacks.is_empty() {
        lines.push("callbacks by owner                  sent   retried       p50       p99".to_owned());
        lines.extend(report.callbacks.iter().map(|(name, callbacks)| callbacks_row(name, callbacks)));
    }
    if !report.problems.is_empty() {
        lines.push("first problems".to_owned());
        lines.extend(
            report.problems.iter().map(|problem| format!("  {}  {}", problem.call, printable(&problem.what))),
        );
    }
    lines
}

fn callbacks_row(name: &str, callbacks: &OwnerCallbacks) -> String {
    let OwnerCallbacks { sent, retried, took, .. } = callbacks;
    let [p50, p99] = took
        .map_or_else(|| ["-".to_owned(), "-".to_owned()], |times| [time(times.p50_ms), time(times.p99_ms)]);
    format!("  {:<28} {sent:>9} {retried:>9} {p50:>9} {p99:>9}", printable(name))
}

fn summary(report: &LoadReport) -> String {
    let problems = report.problems.len();
    let misrouted = report.misrouted.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    match report.problems.first() {
        Some(first) => {
            let lost = report.lost;
            format!(
                "{lost} notifications lost, {misrouted} misrouted; {problems} problems listed, first {}: {}",
                first.call, first.what
            )
        }
        None => format!("{} notifications lost, {misrouted} misrouted", report.lost),
    }
}

fn bot(text: &str) -> Result<(Option<String>, Url), String> {
    let (name, url) = match text.split_once('=') {
        Some((name, url)) if !name.contains(':') => (Some(name.to_owned()), url),
        _ => (None, text),
    };
    if name.as_ref().is_some_and(String::is_empty) {
        return Err(
            "the name before the = is empty; write for example bot-0=http://127.0.0.1:3978".to_owned()
        );
    }
    parse_http_url(url).map(|url| (name, url)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bot_is_given_as_a_url_with_or_without_a_name() {
        let (name, url) = bot("emea/bot-0=http://127.0.0.1:1").unwrap();
        assert_eq!((name.as_deref(), url.as_str()), (Some("emea/bot-0"), "http://127.0.0.1:1/"));
        assert_eq!(bot("http://127.0.0.1:1/?a=b").unwrap().0, None);
        for text in ["", "bot-0", "bot-0=", "=http://x/", "bot-0=ftp://x/"] {
            assert!(bot(text).is_err(), "{text}");
        }
    }
}
