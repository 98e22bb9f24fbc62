//! The calls of the demo: the expected end of each, its real end, and the records of the bots.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::regions::{ACTION_APP, APP, Regions};
use crate::{
    console::say,
    support::{
        http, instant, pause,
        screen::{Screen, printable, time},
    },
};

/// A call to place.
struct DemoCall {
    about: &'static str,
    /// The called app.
    app: &'static str,
    /// The region whose gateway receives the new call.
    to: &'static str,
    options: &'static [&'static str],
    expected: Expected,
}

/// The expected end of a call.
#[derive(Clone, Copy)]
enum Expected {
    /// One instance of the region answers the call and acknowledges every notification.
    ServedIn(&'static str),
    /// The gateway refuses the call with this status, and no bot receives a notification.
    Refused(u64),
}

const CALLS: [DemoCall; 6] = [
    DemoCall {
        about: "legacy form first, between two people of emea",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--protocol", "legacy-first", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
    DemoCall {
        about: "from amer, so it is redirected there",
        app: APP,
        to: "emea",
        options: &["--region", "amer", "--duration", "500ms"],
        expected: Expected::ServedIn("amer"),
    },
    DemoCall {
        about: "a policy recording, which must be answered within 5 s",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--kind", "recording", "--country", "HU", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
    DemoCall {
        about: "a meeting, with a token of Entra",
        app: APP,
        to: "amer",
        options: &[
            "--region",
            "amer",
            "--kind",
            "meeting",
            "--token",
            "entra-v2",
            "--protocol",
            "graph",
            "--duration",
            "500ms",
        ],
        expected: Expected::ServedIn("amer"),
    },
    DemoCall {
        about: "a forged token",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--token", "forged", "--protocol", "graph", "--expect", "refused"],
        expected: Expected::Refused(401),
    },
    DemoCall {
        about: "a bot without a Graph client, which asks the gateway to answer",
        app: ACTION_APP,
        to: "emea",
        options: &["--region", "emea", "--kind", "group", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
];

/// The end of a call, by the platform's account.
struct PlayedCall {
    call_id: String,
    outcome: String,
    reason: String,
    status: Option<u64>,
    /// Acknowledged Graph notifications. Each must have reached the bot that answered the call.
    acknowledged: u64,
}

/// The entries of all bots about a call.
struct BotRecord {
    served_by: Vec<String>,
    notifications: u64,
    /// Notifications that reached a bot that does not own the call.
    misrouted: usize,
}

/// Places every call, prints each step, then a summary. True if every call ended as expected.
pub(super) fn place_all(regions: &mut Regions, screen: &Screen) -> Result<bool, String> {
    say(&row("call", "step", "from \u{2192} to", "status", "took"));
    let mut summary = Vec::new();
    let mut passed = true;
    for (number, call) in (1..).zip(&CALLS) {
        say(&format!("\n{number:<5} {}", call.about));
        let played = place(regions, screen, number, call)?;
        let record = ask_bots(regions, call, &played)?;
        let problems = judge(call, &played, &record);
        passed &= problems.is_empty();
        summary.push(summary_line(screen, number, call, &played, &record, &problems));
    }
    say(&screen.title("Summary"));
    say(&summary_row("call", "expected", "happened", "bot", "callbacks", ""));
    for line in summary {
        say(&line);
    }
    say(&if passed {
        format!("\n{}", screen.good("every call ended as expected"))
    } else {
        format!("\n{}", screen.bad("NOT every call ended as expected"))
    });
    Ok(passed)
}

fn place(regions: &mut Regions, screen: &Screen, number: u32, call: &DemoCall) -> Result<PlayedCall, String> {
    let gateway =
        regions.gateways.iter().find(|gateway| gateway.region == call.to).ok_or("there is no such region")?;
    let webhook = format!("http://{}/api/calls", gateway.public);
    let mut command = Command::new(&regions.emulator);
    command.args(["call", "--json", "--platform", &regions.platform, "--app-id", call.app, "--to", &webhook]);
    command.args(call.options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot place a call: {error}"))?;
    let output = child.stdout.take().ok_or("the command has no output pipe")?;

    let mut played = PlayedCall {
        call_id: String::new(),
        outcome: "no end".to_owned(),
        reason: "the platform did not end the call".to_owned(),
        status: None,
        acknowledged: 0,
    };
    // The loop ends: the platform limits every wait of a call, and the pipe closes if the platform dies.
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("cannot read the timeline: {error}"))?;
        let event: Value =
            serde_json::from_str(&line).map_err(|error| format!("the timeline is not JSON: {error}"))?;
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event.get("event").and_then(Value::as_str) {
            Some("call") => played.call_id = text("call"),
            Some("step") => {
                let status = event.get("status").and_then(Value::as_u64);
                let received = event.get("received") == Some(&Value::Bool(true));
                if !received && status.is_some_and(|status| (200..300).contains(&status) && status != 204) {
                    played.acknowledged += 1;
                }
                say(&step(regions, screen, number, &event));
            }
            Some("end") => {
                played.outcome = text("outcome");
                played.reason = text("reason");
                played.status = event.get("status").and_then(Value::as_u64);
            }
            _ => {}
        }
    }
    let _ = child.wait();
    regions.check_running()?;
    Ok(played)
}

fn step(regions: &Regions, screen: &Screen, number: u32, event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let what = match event.get("attempt").and_then(Value::as_u64) {
        Some(attempt) if attempt > 1 => format!("{} (attempt {attempt})", text("what")),
        _ => text("what").to_owned(),
    };
    let url = text("url");
    let received = event.get("received") == Some(&Value::Bool(true));
    let path = if received {
        format!("{} \u{2192} platform", owner(url).unwrap_or_else(|| "bot".to_owned()))
    } else {
        let owner = owner(url).map(|owner| format!(" for {owner}")).unwrap_or_default();
        format!("platform \u{2192} {}{owner}", regions.name_of(url))
    };
    let status = event.get("status").and_then(Value::as_u64);
    let word = format!("{:>6}", status.map_or_else(|| "-".to_owned(), |status| status.to_string()));
    let word = match status {
        Some(200..300) => screen.good(&word),
        Some(300..400) => screen.fair(&word),
        _ => screen.bad(&word),
    };
    let took = if received {
        String::new()
    } else {
        time(event.get("took_ms").and_then(Value::as_f64).unwrap_or(0.0))
    };
    row(&number.to_string(), &printable(&what), &printable(&path), &word, &took)
}

/// The instance in a callback URI: `/api/callbacks/{region}/{instance}/…`.
fn owner(url: &str) -> Option<String> {
    let (_, path) = url.split_once("/api/callbacks/")?;
    let mut segments = path.split('/');
    Some(format!("{}/{}", segments.next()?, segments.next()?))
}

/// Asks every bot about a call. A bot records a notification before it acknowledges it. Other differences may
/// be temporary, so this function asks again for a while.
fn ask_bots(regions: &Regions, call: &DemoCall, played: &PlayedCall) -> Result<BotRecord, String> {
    let started = instant();
    loop {
        let mut record = BotRecord { served_by: Vec::new(), notifications: 0, misrouted: 0 };
        for bot in &regions.bots {
            let calls = http::get_json(bot.address, "/calls")?;
            let about_it = |name: &str| -> Vec<Value> {
                let entries = calls.get(name).and_then(Value::as_array).into_iter().flatten();
                entries
                    .filter(|entry| entry.get("id").is_some_and(|id| *id == *played.call_id))
                    .cloned()
                    .collect()
            };
            record.misrouted += about_it("stray_calls").len();
            if let Some(call) = about_it("calls").first() {
                record.served_by.push(bot.name());
                record.notifications += call.get("count").and_then(Value::as_u64).unwrap_or(0);
            }
        }
        let settled = judge(call, played, &record).is_empty();
        if settled || started.elapsed() > Duration::from_secs(2) {
            return Ok(record);
        }
        pause(Duration::from_millis(100));
    }
}

/// The differences from the expected end.
fn judge(call: &DemoCall, played: &PlayedCall, record: &BotRecord) -> Vec<String> {
    let mut problems = Vec::new();
    match call.expected {
        Expected::ServedIn(region) => {
            if played.outcome != "completed" {
                problems.push(played.reason.clone());
            }
            match record.served_by.as_slice() {
                [one] if one.starts_with(region) => {}
                [] => problems.push("no bot received the call".to_owned()),
                [one] => problems.push(format!("{one} is not in {region}")),
                several => problems.push(format!("several bots received the call: {}", several.join(", "))),
            }
            if record.notifications != played.acknowledged {
                let (seen, sent) = (record.notifications, played.acknowledged);
                problems.push(format!("the bot received {seen} of {sent} acknowledged notifications"));
            }
        }
        Expected::Refused(status) => {
            if played.outcome != "refused" || played.status != Some(status) {
                problems.push(format!("it was not refused with {status}: {}", played.reason));
            }
            if !record.served_by.is_empty() {
                problems.push(format!("it reached {}", record.served_by.join(", ")));
            }
        }
    }
    if record.misrouted > 0 {
        problems
            .push(format!("{} notifications reached a bot that does not own their call", record.misrouted));
    }
    problems
}

fn summary_line(
    screen: &Screen,
    number: u32,
    call: &DemoCall,
    played: &PlayedCall,
    record: &BotRecord,
    problems: &[String],
) -> String {
    let expected = match call.expected {
        Expected::ServedIn(region) => format!("served in {region}"),
        Expected::Refused(status) => format!("refused with {status}"),
    };
    let happened = match played.status {
        Some(status) => format!("{} with {status}", played.outcome),
        None => played.outcome.clone(),
    };
    let bot = if record.served_by.is_empty() { "none".to_owned() } else { record.served_by.join(", ") };
    // The first notification is the new call; all others are callbacks.
    let callbacks = match record.notifications.saturating_sub(1) {
        0 => "none".to_owned(),
        count if problems.is_empty() => format!("all {count} to it"),
        count => format!("{count} received"),
    };
    let verdict = if problems.is_empty() {
        screen.good("ok")
    } else {
        format!("{} {}", screen.bad("NOT ok:"), printable(&problems.join("; ")))
    };
    summary_row(&number.to_string(), &expected, &printable(&happened), &bot, &callbacks, &verdict)
}

fn row(call: &str, step: &str, path: &str, status: &str, took: &str) -> String {
    format!("{call:<5} {step:<20} {path:<42} {status:>6} {took:>9}").trim_end().to_owned()
}

fn summary_row(
    call: &str,
    expected: &str,
    happened: &str,
    bot: &str,
    callbacks: &str,
    verdict: &str,
) -> String {
    format!("{call:<5} {expected:<18} {happened:<18} {bot:<12} {callbacks:<14} {verdict}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(outcome: &str, status: Option<u64>, acknowledged: u64) -> PlayedCall {
        let (call_id, reason) = ("a1".to_owned(), "for a reason".to_owned());
        PlayedCall { call_id, outcome: outcome.to_owned(), reason, status, acknowledged }
    }

    #[track_caller]
    fn check(
        expected: Expected,
        played: &PlayedCall,
        served_by: &[&str],
        notifications: u64,
        misrouted: usize,
        problem: &str,
    ) {
        let call = DemoCall { about: "", app: APP, to: "emea", options: &[], expected };
        let served_by = served_by.iter().map(|name| (*name).to_owned()).collect();
        let problems = judge(&call, played, &BotRecord { served_by, notifications, misrouted }).join("; ");
        assert_eq!(problems, problem);
    }

    #[test]
    fn one_bot_of_the_region_must_receive_the_whole_call() {
        let served = Expected::ServedIn("emea");
        let completed = played("completed", None, 5);
        check(served, &completed, &["emea/bot-0"], 5, 0, "");
        check(served, &completed, &["amer/bot-0"], 5, 0, "amer/bot-0 is not in emea");
        check(
            served,
            &completed,
            &["emea/bot-0"],
            4,
            0,
            "the bot received 4 of 5 acknowledged notifications",
        );
        let twice = "several bots received the call: emea/bot-0, emea/bot-1";
        check(served, &completed, &["emea/bot-0", "emea/bot-1"], 5, 0, twice);
        let misrouted = "1 notifications reached a bot that does not own their call";
        check(served, &completed, &["emea/bot-0"], 5, 1, misrouted);
        check(served, &played("lost", Some(503), 2), &["emea/bot-0"], 2, 0, "for a reason");
    }

    #[test]
    fn a_forged_call_must_be_refused_and_reach_no_bot() {
        let refused = Expected::Refused(401);
        check(refused, &played("refused", Some(401), 0), &[], 0, 0, "");
        check(
            refused,
            &played("refused", Some(400), 0),
            &[],
            0,
            0,
            "it was not refused with 401: for a reason",
        );
        check(refused, &played("refused", Some(401), 0), &["emea/bot-0"], 0, 0, "it reached emea/bot-0");
    }

    #[test]
    fn a_callback_uri_names_its_owner() {
        let uri = "http://127.0.0.1:1/api/callbacks/emea/bot-0/k1.0.mac";
        assert_eq!(owner(uri).as_deref(), Some("emea/bot-0"));
        assert_eq!(owner("http://127.0.0.1:1/api/calls"), None);
    }
}
