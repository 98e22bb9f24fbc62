//! The calls of the demo: what each should show, what happened, and what the bots say about it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use super::{
    http, instant, pause,
    scene::{ACTION_APP, APP, Scene},
    screen::{Screen, printable, time},
};
use crate::console::say;

/// One call of the demo.
struct Plan {
    about: &'static str,
    /// The app that is called.
    app: &'static str,
    /// The region whose gateway is called.
    to: &'static str,
    options: &'static [&'static str],
    expected: Expected,
}

/// How a call should end.
#[derive(Clone, Copy)]
enum Expected {
    /// Answered by an instance of the region, every notification acknowledged by it.
    ServedIn(&'static str),
    /// Refused with this status; no bot has heard of it.
    Refused(u64),
}

const PLANS: [Plan; 6] = [
    Plan {
        about: "legacy form first, between two people of emea",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--protocol", "legacy-first", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
    Plan {
        about: "from amer, so it is redirected there",
        app: APP,
        to: "emea",
        options: &["--region", "amer", "--duration", "500ms"],
        expected: Expected::ServedIn("amer"),
    },
    Plan {
        about: "a policy recording, to be answered in 5 s",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--kind", "recording", "--country", "HU", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
    Plan {
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
    Plan {
        about: "a forged token",
        app: APP,
        to: "emea",
        options: &["--region", "emea", "--token", "forged", "--protocol", "graph", "--expect", "refused"],
        expected: Expected::Refused(401),
    },
    Plan {
        about: "a bot without a Graph client, which asks the gateway to answer",
        app: ACTION_APP,
        to: "emea",
        options: &["--region", "emea", "--kind", "group", "--duration", "500ms"],
        expected: Expected::ServedIn("emea"),
    },
];

/// What became of a call.
struct Played {
    call_id: String,
    outcome: String,
    reason: String,
    status: Option<u64>,
    /// Graph notifications that were acknowledged: each must have reached the one bot that serves the call.
    acknowledged: u64,
}

/// What the bots say about a call.
struct Witnessed {
    served_by: Vec<String>,
    notifications: u64,
    strays: usize,
}

/// Places every call, shows each step as it happens, then sums up; true if every call ended where it should.
pub(super) fn play_all(scene: &mut Scene, screen: &Screen) -> Result<bool, String> {
    say(&row("call", "step", "from \u{2192} to", "status", "took"));
    let mut summary = Vec::new();
    let mut all_well = true;
    for (number, plan) in (1..).zip(&PLANS) {
        say(&format!("\n{number:<5} {}", plan.about));
        let played = play(scene, screen, number, plan)?;
        let witnessed = witness(scene, plan, &played)?;
        let problems = judge(plan, &played, &witnessed);
        all_well &= problems.is_empty();
        summary.push(summary_line(screen, number, plan, &played, &witnessed, &problems));
    }
    say(&screen.title("Summary"));
    say(&summary_row("call", "expected", "happened", "bot", "callbacks", ""));
    for line in summary {
        say(&line);
    }
    say(&if all_well {
        format!("\n{}", screen.good("every call ended where it should"))
    } else {
        format!("\n{}", screen.bad("NOT every call ended where it should"))
    });
    Ok(all_well)
}

fn play(scene: &mut Scene, screen: &Screen, number: u32, plan: &Plan) -> Result<Played, String> {
    let gateway = scene.gateways.iter().find(|gateway| gateway.region == plan.to).ok_or("no such region")?;
    let webhook = format!("http://{}/api/calls", gateway.public);
    let mut command = Command::new(&scene.emulator);
    command.args(["call", "--json", "--platform", &scene.platform, "--app-id", plan.app, "--to", &webhook]);
    command.args(plan.options).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| format!("cannot place a call: {error}"))?;
    let output = child.stdout.take().ok_or("no pipe")?;

    let mut played = Played {
        call_id: String::new(),
        outcome: "no end".to_owned(),
        reason: "the platform did not play the call to its end".to_owned(),
        status: None,
        acknowledged: 0,
    };
    // The platform bounds every wait of a call, and the pipe closes if it dies, so that this loop ends.
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|error| format!("the timeline broke off: {error}"))?;
        let event: Value = serde_json::from_str(&line).map_err(|error| format!("not a timeline: {error}"))?;
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        match event.get("event").and_then(Value::as_str) {
            Some("call") => played.call_id = text("call"),
            Some("step") => {
                let status = event.get("status").and_then(Value::as_u64);
                let received = event.get("received") == Some(&Value::Bool(true));
                if !received && status.is_some_and(|status| (200..300).contains(&status) && status != 204) {
                    played.acknowledged += 1;
                }
                say(&step(scene, screen, number, &event));
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
    scene.alive()?;
    Ok(played)
}

fn step(scene: &Scene, screen: &Screen, number: u32, event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
    let what = match event.get("attempt").and_then(Value::as_u64) {
        Some(attempt) if attempt > 1 => format!("{} (try {attempt})", text("what")),
        _ => text("what").to_owned(),
    };
    let url = text("url");
    let received = event.get("received") == Some(&Value::Bool(true));
    let way = if received {
        format!("{} \u{2192} platform", owner(url).unwrap_or_else(|| "bot".to_owned()))
    } else {
        let owner = owner(url).map(|owner| format!(" for {owner}")).unwrap_or_default();
        format!("platform \u{2192} {}{owner}", scene.name_of(url))
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
    row(&number.to_string(), &printable(&what), &printable(&way), &word, &took)
}

/// The instance that a callback URI names: `/api/callbacks/{region}/{instance}/…`.
fn owner(url: &str) -> Option<String> {
    let (_, path) = url.split_once("/api/callbacks/")?;
    let mut segments = path.split('/');
    Some(format!("{}/{}", segments.next()?, segments.next()?))
}

/// Asks every bot about a call. What an instance acknowledged it has noted before, so no waiting is needed for that; the
/// short patience is for a bot that is just being asked by somebody else.
fn witness(scene: &Scene, plan: &Plan, played: &Played) -> Result<Witnessed, String> {
    let started = instant();
    loop {
        let mut witnessed = Witnessed { served_by: Vec::new(), notifications: 0, strays: 0 };
        for bot in &scene.bots {
            let calls = http::get_json(bot.address, "/calls")?;
            let about_it = |name: &str| -> Vec<Value> {
                let entries = calls.get(name).and_then(Value::as_array).into_iter().flatten();
                entries
                    .filter(|entry| entry.get("id").is_some_and(|id| *id == *played.call_id))
                    .cloned()
                    .collect()
            };
            witnessed.strays += about_it("stray_calls").len();
            if let Some(call) = about_it("calls").first() {
                witnessed.served_by.push(bot.name());
                witnessed.notifications += call.get("count").and_then(Value::as_u64).unwrap_or(0);
            }
        }
        let settled = judge(plan, played, &witnessed).is_empty();
        if settled || started.elapsed() > Duration::from_secs(2) {
            return Ok(witnessed);
        }
        pause(Duration::from_millis(100));
    }
}

/// What is not as it should be.
fn judge(plan: &Plan, played: &Played, witnessed: &Witnessed) -> Vec<String> {
    let mut problems = Vec::new();
    match plan.expected {
        Expected::ServedIn(region) => {
            if played.outcome != "completed" {
                problems.push(played.reason.clone());
            }
            match witnessed.served_by.as_slice() {
                [one] if one.starts_with(region) => {}
                [] => problems.push("no bot was given the call".to_owned()),
                [one] => problems.push(format!("{one} is not of {region}")),
                several => problems.push(format!("several bots were given the call: {}", several.join(", "))),
            }
            if witnessed.notifications != played.acknowledged {
                let (seen, sent) = (witnessed.notifications, played.acknowledged);
                problems.push(format!("the bot saw {seen} notifications of {sent} acknowledged ones"));
            }
        }
        Expected::Refused(status) => {
            if played.outcome != "refused" || played.status != Some(status) {
                problems.push(format!("not refused with {status}: {}", played.reason));
            }
            if !witnessed.served_by.is_empty() {
                problems.push(format!("it reached {}", witnessed.served_by.join(", ")));
            }
        }
    }
    if witnessed.strays > 0 {
        problems
            .push(format!("{} notifications reached a bot that does not own their call", witnessed.strays));
    }
    problems
}

fn summary_line(
    screen: &Screen,
    number: u32,
    plan: &Plan,
    played: &Played,
    witnessed: &Witnessed,
    problems: &[String],
) -> String {
    let expected = match plan.expected {
        Expected::ServedIn(region) => format!("served in {region}"),
        Expected::Refused(status) => format!("refused with {status}"),
    };
    let happened = match played.status {
        Some(status) => format!("{} with {status}", played.outcome),
        None => played.outcome.clone(),
    };
    let bot = if witnessed.served_by.is_empty() { "none".to_owned() } else { witnessed.served_by.join(", ") };
    // The first one is the new call itself, which is placed; all others are callbacks.
    let callbacks = match witnessed.notifications.saturating_sub(1) {
        0 => "none".to_owned(),
        count if problems.is_empty() => format!("all {count} to it"),
        count => format!("{count} seen"),
    };
    let verdict = if problems.is_empty() {
        screen.good("ok")
    } else {
        format!("{} {}", screen.bad("NOT ok:"), printable(&problems.join("; ")))
    };
    summary_row(&number.to_string(), &expected, &printable(&happened), &bot, &callbacks, &verdict)
}

fn row(call: &str, step: &str, way: &str, status: &str, took: &str) -> String {
    format!("{call:<5} {step:<20} {way:<42} {status:>6} {took:>9}").trim_end().to_owned()
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

    fn played(outcome: &str, status: Option<u64>, acknowledged: u64) -> Played {
        let (call_id, reason) = ("a1".to_owned(), "for a reason".to_owned());
        Played { call_id, outcome: outcome.to_owned(), reason, status, acknowledged }
    }

    #[track_caller]
    fn check(
        expected: Expected,
        played: &Played,
        served_by: &[&str],
        notifications: u64,
        strays: usize,
        problem: &str,
    ) {
        let plan = Plan { about: "", app: APP, to: "emea", options: &[], expected };
        let served_by = served_by.iter().map(|name| (*name).to_owned()).collect();
        let problems = judge(&plan, played, &Witnessed { served_by, notifications, strays }).join("; ");
        assert_eq!(problems, problem);
    }

    #[test]
    fn a_served_call_is_well_only_if_one_bot_of_the_region_saw_all_of_it() {
        let served = Expected::ServedIn("emea");
        let well = played("completed", None, 5);
        check(served, &well, &["emea/bot-0"], 5, 0, "");
        check(served, &well, &["amer/bot-0"], 5, 0, "amer/bot-0 is not of emea");
        check(served, &well, &["emea/bot-0"], 4, 0, "the bot saw 4 notifications of 5 acknowledged ones");
        let twice = "several bots were given the call: emea/bot-0, emea/bot-1";
        check(served, &well, &["emea/bot-0", "emea/bot-1"], 5, 0, twice);
        let stray = "1 notifications reached a bot that does not own their call";
        check(served, &well, &["emea/bot-0"], 5, 1, stray);
        check(served, &played("lost", Some(503), 2), &["emea/bot-0"], 2, 0, "for a reason");
    }

    #[test]
    fn a_forged_call_is_well_only_if_it_is_refused_and_unheard_of() {
        let refused = Expected::Refused(401);
        check(refused, &played("refused", Some(401), 0), &[], 0, 0, "");
        check(refused, &played("refused", Some(400), 0), &[], 0, 0, "not refused with 401: for a reason");
        check(refused, &played("refused", Some(401), 0), &["emea/bot-0"], 0, 0, "it reached emea/bot-0");
    }

    #[test]
    fn a_callback_uri_names_its_owner() {
        let uri = "http://127.0.0.1:1/api/callbacks/emea/bot-0/k1.0.mac";
        assert_eq!(owner(uri).as_deref(), Some("emea/bot-0"));
        assert_eq!(owner("http://127.0.0.1:1/api/calls"), None);
    }
}
