//! The whole life of each kind of call: answered by the bot, answered by action, rejected and redirected by action.

use serde_json::Value;

use super::{
    http,
    process::Binaries,
    scene::{Access, App, Cast, Front, Player, Scene, word},
    screen::{Screen, printable, time},
};
use crate::console::say;

const BY_ITSELF: &str = "0efc74f7-41c3-47a4-8775-7259bfef4201";
const BY_ACTION: &str = "0efc74f7-41c3-47a4-8775-7259bfef4202";
const REJECTS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4203";
const REDIRECTS: &str = "0efc74f7-41c3-47a4-8775-7259bfef4204";

const CAST: Cast = Cast {
    platform: &[],
    apps: &[
        App { id: BY_ITSELF, graph: Access::Right },
        App { id: BY_ACTION, graph: Access::Right },
        App { id: REJECTS, graph: Access::Right },
        App { id: REDIRECTS, graph: Access::Right },
    ],
    players: &[
        Player { name: "itself-0", app: BY_ITSELF, answer: "graph" },
        Player { name: "itself-1", app: BY_ITSELF, answer: "graph" },
        Player { name: "action-0", app: BY_ACTION, answer: "action" },
        Player { name: "action-1", app: BY_ACTION, answer: "action" },
        Player { name: "rejects-0", app: REJECTS, answer: "action-reject" },
        Player { name: "redirects-0", app: REDIRECTS, answer: "action-redirect" },
    ],
    front: Front::Crossed,
};

/// How a bot is meant to deal with a call.
struct Manner {
    about: &'static str,
    app: &'static str,
    /// `--expect`.
    expected: &'static str,
    /// What the platform must have been asked for.
    asked: &'static str,
    /// Instances that may have been given it.
    instances: &'static str,
}

const MANNERS: [Manner; 4] = [
    Manner {
        about: "answered by the bot",
        app: BY_ITSELF,
        expected: "completed",
        asked: "answer",
        instances: "itself-",
    },
    Manner {
        about: "answered by action",
        app: BY_ACTION,
        expected: "completed",
        asked: "answer",
        instances: "action-",
    },
    Manner {
        about: "rejected by action",
        app: REJECTS,
        expected: "rejected",
        asked: "reject",
        instances: "rejects-",
    },
    Manner {
        about: "redirected by action",
        app: REDIRECTS,
        expected: "redirected",
        asked: "redirect",
        instances: "redirects-",
    },
];

/// Each kind, with what varies besides.
const KINDS: [(&str, &[&str]); 5] = [
    ("p2p", &["--protocol", "legacy-first"]),
    ("group", &["--protocol", "graph", "--participants", "3"]),
    ("meeting", &["--protocol", "graph", "--token", "entra-v2", "--participants", "4"]),
    ("recording", &["--protocol", "legacy-first", "--participants", "2"]),
    ("pstn", &["--protocol", "graph", "--token", "entra-v1"]),
];

/// What must be posted in the life of a call that is answered, whatever its kind.
const LIFE: [&str; 4] = ["establishing", "established", "roster", "terminated"];

/// Plays them; gives what does not hold.
pub(super) fn play(binaries: &Binaries, screen: &Screen) -> Result<Vec<String>, String> {
    say(&screen.title("The life of each kind of call, through two gateways of one region"));
    let mut scene = Scene::start(binaries, &CAST)?;
    say(&row("", "kind", "answered in", "notifications", "instance", ""));
    let mut findings = Vec::new();
    let mut number = 0;
    for manner in &MANNERS {
        for (kind, options) in KINDS {
            number += 1;
            let mut all = vec!["--kind", kind, "--duration", "300ms", "--expect", manner.expected];
            all.extend_from_slice(options);
            let events = scene.call(manner.app, number, &all)?;
            let seen = witness(&scene, &events)?;
            let problems = judge(manner, kind, &events, &seen);
            let verdict = if problems.is_empty() { screen.good("ok") } else { screen.bad("NOT ok") };
            let answered = events.last().and_then(|end| end.get("answered_ms")).and_then(Value::as_f64);
            say(&row(
                manner.about,
                kind,
                &answered.map(time).unwrap_or_else(|| "-".to_owned()),
                &acknowledged(&events).to_string(),
                &seen.given_to.join(", "),
                &verdict,
            ));
            findings
                .extend(problems.iter().map(|problem| format!("{kind} call {}: {problem}", manner.about)));
        }
    }
    Ok(findings)
}

/// What the bots say about a call.
#[derive(Default)]
struct Seen {
    given_to: Vec<String>,
    notifications: u64,
    strays: u64,
}

fn witness(scene: &Scene, events: &[Value]) -> Result<Seen, String> {
    let call = events.first().map(|event| word(event, "call")).unwrap_or_default();
    let mut seen = Seen::default();
    for bot in &scene.bots {
        let ledger = http::get_json(bot.address, "/ledger")?;
        let count = |of: &str| ledger.get(of).and_then(|calls| calls.get(call)).and_then(Value::as_u64);
        seen.strays += count("strays").unwrap_or(0);
        if let Some(count) = count("calls") {
            seen.given_to.push(bot.name.to_owned());
            seen.notifications += count;
        }
    }
    Ok(seen)
}

/// Notifications in Graph's form that were acknowledged: an empty 204 asks for that form.
fn acknowledged(events: &[Value]) -> u64 {
    let is_one = |event: &&Value| {
        let status = event.get("status").and_then(Value::as_u64);
        word(event, "event") == "step"
            && event.get("received") != Some(&Value::Bool(true))
            && status.is_some_and(|status| (200..300).contains(&status) && status != 204)
    };
    u64::try_from(events.iter().filter(is_one).count()).unwrap_or(u64::MAX)
}

fn judge(manner: &Manner, kind: &str, events: &[Value], seen: &Seen) -> Vec<String> {
    let mut problems = Vec::new();
    let end = events.last().unwrap_or(&Value::Null);
    if word(end, "outcome") != manner.expected {
        problems.push(format!("not {}: {}", manner.expected, printable(word(end, "reason"))));
    }
    let has = |what: &str, received: bool| {
        events.iter().any(|event| {
            let status = event.get("status").and_then(Value::as_u64);
            word(event, "what") == what
                && event.get("received") == Some(&Value::Bool(received))
                && status.is_some_and(|status| (200..300).contains(&status))
        })
    };
    if !has(manner.asked, true) {
        problems.push(format!("the platform was never asked for {}", manner.asked));
    }
    if manner.expected == "completed" {
        let missing = LIFE.iter().filter(|what| !has(what, false));
        problems.extend(missing.map(|what| format!("{what} was not acknowledged")));
        if kind == "recording" && !(has("recording status", true) && has("operation", false)) {
            problems.push("the recording status was not set, or its operation not told".to_owned());
        }
    }
    match seen.given_to.as_slice() {
        [one] if one.starts_with(manner.instances) => {}
        [] => problems.push("no instance was given it".to_owned()),
        others => problems.push(format!("given to {}", others.join(", "))),
    }
    let acknowledged = acknowledged(events);
    if seen.notifications != acknowledged {
        let notifications = seen.notifications;
        problems.push(format!("the instance saw {notifications} notifications of {acknowledged}"));
    }
    if seen.strays > 0 {
        problems.push(format!("{} notifications reached another instance", seen.strays));
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

    fn whole_life() -> Vec<Value> {
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

    fn seen(given_to: &[&str], notifications: u64, strays: u64) -> Seen {
        let given_to = given_to.iter().map(|name| (*name).to_owned()).collect();
        Seen { given_to, notifications, strays }
    }

    #[track_caller]
    fn check(kind: &str, events: &[Value], seen: &Seen, problem: &str) {
        let [manner, ..] = &MANNERS;
        assert_eq!(judge(manner, kind, events, seen).join("; "), problem);
    }

    #[test]
    fn a_life_is_whole_only_if_one_instance_saw_all_of_it() {
        let life = whole_life();
        check("p2p", &life, &seen(&["itself-1"], 5, 0), "");
        check("p2p", &life, &seen(&["action-1"], 5, 0), "given to action-1");
        check("p2p", &life, &seen(&["itself-0", "itself-1"], 5, 0), "given to itself-0, itself-1");
        check(
            "p2p",
            &life,
            &seen(&["itself-0"], 4, 1),
            "the instance saw 4 notifications of 5; 1 notifications reached another instance",
        );
        let recording = "the recording status was not set, or its operation not told";
        check("recording", &life, &seen(&["itself-1"], 5, 0), recording);
        let mut cut = whole_life();
        cut.remove(7);
        check("p2p", &cut, &seen(&["itself-1"], 4, 0), "terminated was not acknowledged");
    }
}
