//! The whole lifecycle of each kind of call: answered by the bot, and answered, rejected or redirected by an
//! action.

use serde_json::Value;

use super::{
    layout::{App, BotSettings, GraphAccess, Ingress, Layout},
    testbed::{Testbed, word},
};
use crate::{
    console::say,
    support::{
        binaries::Binaries,
        http,
        screen::{Screen, printable, time},
    },
};

const BY_ITSELF: &str = "0efc74f7-41c3-47a4-8775-7259bfef4201";
const BY_ACTION: &str = "0efc74f7-41c3-47a4-8775-7259bfef4202";
const REJECTS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4203";
const REDIRECTS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4204";

const LAYOUT: Layout = Layout {
    platform: &[],
    apps: &[
        App { id: BY_ITSELF, graph: GraphAccess::Valid },
        App { id: BY_ACTION, graph: GraphAccess::Valid },
        App { id: REJECTS, graph: GraphAccess::Valid },
        App { id: REDIRECTS, graph: GraphAccess::Valid },
    ],
    bots: &[
        BotSettings { name: "itself-0", app: BY_ITSELF, answer: "graph" },
        BotSettings { name: "itself-1", app: BY_ITSELF, answer: "graph" },
        BotSettings { name: "action-0", app: BY_ACTION, answer: "action" },
        BotSettings { name: "action-1", app: BY_ACTION, answer: "action" },
        BotSettings { name: "rejects-0", app: REJECTS, answer: "action-reject" },
        BotSettings { name: "redirects-0", app: REDIRECTS, answer: "action-redirect" },
    ],
    ingress: Ingress::Crossed,
};

/// A way for a bot to handle a call.
struct Handling {
    about: &'static str,
    app: &'static str,
    /// The value of `--expect`.
    expected: &'static str,
    /// The request that the platform must have received.
    request: &'static str,
    /// The prefix of the instances that may receive the call.
    instances: &'static str,
}

const HANDLINGS: [Handling; 4] = [
    Handling {
        about: "answered by the bot",
        app: BY_ITSELF,
        expected: "completed",
        request: "answer",
        instances: "itself-",
    },
    Handling {
        about: "answered by action",
        app: BY_ACTION,
        expected: "completed",
        request: "answer",
        instances: "action-",
    },
    Handling {
        about: "rejected by action",
        app: REJECTS,
        expected: "rejected",
        request: "reject",
        instances: "rejects-",
    },
    Handling {
        about: "redirected by action",
        app: REDIRECTS,
        expected: "redirected",
        request: "redirect",
        instances: "redirects-",
    },
];

/// Each kind of call, with more options.
const KINDS: [(&str, &[&str]); 5] = [
    ("p2p", &["--protocol", "legacy-first"]),
    ("group", &["--protocol", "graph", "--participants", "3"]),
    ("meeting", &["--protocol", "graph", "--token", "entra-v2", "--participants", "4"]),
    ("recording", &["--protocol", "legacy-first", "--participants", "2"]),
    ("pstn", &["--protocol", "graph", "--token", "entra-v1"]),
];

/// The notifications that every answered call must have, besides the new call itself.
const LIFECYCLE: [&str; 4] = ["establishing", "established", "roster", "terminated"];

/// Runs every kind of call with every handling, and returns the violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen) -> Result<Vec<String>, String> {
    say(&screen.title("The lifecycle of each kind of call, through two gateways of one region"));
    let mut testbed = Testbed::start(binaries, &LAYOUT)?;
    say(&row("", "kind", "answered in", "notifications", "instance", ""));
    let mut violations = Vec::new();
    let mut number = 0;
    for handling in &HANDLINGS {
        for (kind, options) in KINDS {
            number += 1;
            let mut all = vec!["--kind", kind, "--duration", "300ms", "--expect", handling.expected];
            all.extend_from_slice(options);
            let events = testbed.call(handling.app, number, &all)?;
            let ledgers = read_ledgers(&testbed, &events)?;
            let problems = judge(handling, kind, &events, &ledgers);
            let verdict = if problems.is_empty() { screen.good("ok") } else { screen.bad("NOT ok") };
            let answered = events.last().and_then(|end| end.get("answered_ms")).and_then(Value::as_f64);
            say(&row(
                handling.about,
                kind,
                &answered.map(time).unwrap_or_else(|| "-".to_owned()),
                &acknowledged(&events).to_string(),
                &ledgers.owners.join(", "),
                &verdict,
            ));
            violations
                .extend(problems.iter().map(|problem| format!("{kind} call {}: {problem}", handling.about)));
        }
    }
    Ok(violations)
}

/// The entries of all bots about one call.
#[derive(Default)]
struct Ledgers {
    /// The instances that received the call.
    owners: Vec<String>,
    notifications: u64,
    /// Notifications that reached an instance that does not own the call.
    misrouted: u64,
}

fn read_ledgers(testbed: &Testbed, events: &[Value]) -> Result<Ledgers, String> {
    let call = events.first().map(|event| word(event, "call")).unwrap_or_default();
    let mut ledgers = Ledgers::default();
    for bot in &testbed.bots {
        let ledger = http::get_json(bot.address, "/ledger")?;
        let count = |of: &str| ledger.get(of).and_then(|calls| calls.get(call)).and_then(Value::as_u64);
        ledgers.misrouted += count("strays").unwrap_or(0);
        if let Some(count) = count("calls") {
            ledgers.owners.push(bot.name.to_owned());
            ledgers.notifications += count;
        }
    }
    Ok(ledgers)
}

/// The number of acknowledged Graph notifications. A 204 does not count: it asks for the Graph form.
fn acknowledged(events: &[Value]) -> u64 {
    let is_one = |event: &&Value| {
        let status = event.get("status").and_then(Value::as_u64);
        word(event, "event") == "step"
            && event.get("received") != Some(&Value::Bool(true))
            && status.is_some_and(|status| (200..300).contains(&status) && status != 204)
    };
    u64::try_from(events.iter().filter(is_one).count()).unwrap_or(u64::MAX)
}

fn judge(handling: &Handling, kind: &str, events: &[Value], ledgers: &Ledgers) -> Vec<String> {
    let mut problems = Vec::new();
    let end = events.last().unwrap_or(&Value::Null);
    if word(end, "outcome") != handling.expected {
        problems.push(format!("not {}: {}", handling.expected, printable(word(end, "reason"))));
    }
    let has = |what: &str, received: bool| {
        events.iter().any(|event| {
            let status = event.get("status").and_then(Value::as_u64);
            word(event, "what") == what
                && event.get("received") == Some(&Value::Bool(received))
                && status.is_some_and(|status| (200..300).contains(&status))
        })
    };
    if !has(handling.request, true) {
        problems.push(format!("the platform received no request to {}", handling.request));
    }
    if handling.expected == "completed" {
        let missing = LIFECYCLE.iter().filter(|what| !has(what, false));
        problems.extend(missing.map(|what| format!("{what} was not acknowledged")));
        if kind == "recording" && !(has("recording status", true) && has("operation", false)) {
            problems.push("the recording status was not set, or its operation was not notified".to_owned());
        }
    }
    match ledgers.owners.as_slice() {
        [one] if one.starts_with(handling.instances) => {}
        [] => problems.push("no instance received it".to_owned()),
        others => problems.push(format!("received by {}", others.join(", "))),
    }
    let acknowledged = acknowledged(events);
    if ledgers.notifications != acknowledged {
        let notifications = ledgers.notifications;
        problems.push(format!("the instance received {notifications} of {acknowledged} notifications"));
    }
    if ledgers.misrouted > 0 {
        problems.push(format!("{} notifications reached another instance", ledgers.misrouted));
    }
    problems
}

fn row(
    about: &str,
    kind: &str,
    answered: &str,
    notifications: &str,
    instance: &str,
    verdict: &str,
) -> String {
    format!("  {about:<21} {kind:<10} {answered:>11} {notifications:>14}  {instance:<12} {verdict}")
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(what: &str, received: bool, status: u16) -> Value {
        json!({"event": "step", "what": what, "received": received, "status": status})
    }

    fn whole_lifecycle() -> Vec<Value> {
        vec![
            json!({"event": "call", "call": "a"}),
            step("incoming (legacy)", false, 204),
            step("incoming", false, 202),
            step("answer", true, 202),
            step("establishing", false, 202),
            step("established", false, 202),
            step("roster", false, 202),
            step("terminated", false, 202),
            json!({"event": "end", "outcome": "completed", "reason": "for a reason"}),
        ]
    }

    fn ledgers(owners: &[&str], notifications: u64, misrouted: u64) -> Ledgers {
        let owners = owners.iter().map(|name| (*name).to_owned()).collect();
        Ledgers { owners, notifications, misrouted }
    }

    #[track_caller]
    fn check(kind: &str, events: &[Value], ledgers: &Ledgers, expected: &str) {
        let [handling, ..] = &HANDLINGS;
        assert_eq!(judge(handling, kind, events, ledgers).join("; "), expected);
    }

    #[test]
    fn one_instance_must_receive_the_whole_lifecycle() {
        let whole = whole_lifecycle();
        check("p2p", &whole, &ledgers(&["itself-1"], 5, 0), "");
        check("p2p", &whole, &ledgers(&["action-1"], 5, 0), "received by action-1");
        check("p2p", &whole, &ledgers(&["itself-0", "itself-1"], 5, 0), "received by itself-0, itself-1");
        check(
            "p2p",
            &whole,
            &ledgers(&["itself-0"], 4, 1),
            "the instance received 4 of 5 notifications; 1 notifications reached another instance",
        );
        let recording = "the recording status was not set, or its operation was not notified";
        check("recording", &whole, &ledgers(&["itself-1"], 5, 0), recording);
        let mut cut = whole_lifecycle();
        cut.remove(7);
        check("p2p", &cut, &ledgers(&["itself-1"], 4, 0), "terminated was not acknowledged");
    }
}
