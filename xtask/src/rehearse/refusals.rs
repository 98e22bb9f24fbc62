//! What Graph and the token endpoint can say instead of yes: each is one error line of the gateway, which says why.

use std::time::Duration;

use serde_json::Value;

use super::{
    instant, pause,
    process::Binaries,
    scene::{Access, App, Cast, EVERY_APP, Front, Player, Scene, word},
    screen::{Screen, printable},
};
use crate::console::say;

const RIGHT: &str = EVERY_APP;
const WRONG_SECRET: &str = "0efc74f7-41c3-47a4-8775-7259bfef4211";
const NO_GRAPH: &str = "0efc74f7-41c3-47a4-8775-7259bfef4212";
const NO_AUTHORITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4213";

const CAST: Cast = Cast {
    platform: &[],
    apps: &[
        App { id: RIGHT, graph: Access::Right },
        App { id: WRONG_SECRET, graph: Access::WrongSecret },
        App { id: NO_GRAPH, graph: Access::NoGraph },
        App { id: NO_AUTHORITY, graph: Access::NoAuthority },
    ],
    players: &[
        Player { name: "actor-0", app: EVERY_APP, answer: "action" },
        Player { name: "actor-1", app: EVERY_APP, answer: "action" },
    ],
    front: Front::Crossed,
};

/// Something that goes wrong, and what the operator is to be told.
struct Case {
    app: &'static str,
    /// The platform's fault, by name and value.
    fault: Option<(&'static str, &'static str)>,
    /// The label of docs/actions.md.
    reason: &'static str,
    /// What the line must say in words.
    says: &'static str,
}

const fn graph(value: &'static str, reason: &'static str, says: &'static str) -> Case {
    Case { app: RIGHT, fault: Some(("graph", value)), reason, says }
}

const fn login(value: &'static str, reason: &'static str, says: &'static str) -> Case {
    Case { app: RIGHT, fault: Some(("login", value)), reason, says }
}

const fn real(app: &'static str, reason: &'static str, says: &'static str) -> Case {
    Case { app, fault: None, reason, says }
}

const CREDENTIAL: &str = "the app's credential is wrong";
const PERMISSION: &str = "lacks a permission";
const UNKNOWN: &str = "the outcome is unknown";

/// A wrong credential, a missing permission and a dead network come first: they must not look alike.
const CASES: [Case; 39] = [
    real(WRONG_SECRET, "token_invalid_secret", CREDENTIAL),
    real(NO_GRAPH, "unreachable", "nothing was sent"),
    real(NO_AUTHORITY, "token_unreachable", "the token endpoint"),
    graph("7504", "missing_permission", PERMISSION),
    graph("403", "missing_permission", PERMISSION),
    graph("7503", "not_registered", "not registered for calling"),
    graph("7505", "tenant_mismatch", "of another tenant"),
    graph("8522", "call_not_found", "the call is not there"),
    graph("404", "call_not_found", "the call is not there"),
    graph("8529", "monthly_limit", "this month"),
    graph("400", "bad_request", "does not accept the request"),
    graph("401", "unauthorized", "accepts no token of this app"),
    graph("409", "conflict", "already"),
    graph("412", "conflict", "already"),
    graph("429:60", "throttled", "is throttled, for 60 s"),
    graph("500", "server", UNKNOWN),
    graph("502", "server", UNKNOWN),
    graph("9999", "server", UNKNOWN),
    graph("503", "unavailable", "Graph is unavailable"),
    graph("503:60", "unavailable", "Graph is unavailable, for 60 s"),
    graph("html", "unexpected", "check the endpoint"),
    graph("down", "lost", UNKNOWN),
    graph("lost", "lost", UNKNOWN),
    graph("hang", "timeout", UNKNOWN),
    login("7000215", "token_invalid_secret", CREDENTIAL),
    login("7000222", "token_expired_secret", CREDENTIAL),
    login("700016", "token_unknown_app", "not known in the call's tenant"),
    login("7000112", "token_disabled_app", "the app is disabled"),
    login("90002", "token_unknown_tenant", "check the cloud"),
    login("53003", "token_refused", "AADSTS53003"),
    login("90033", "token_unavailable", "the token endpoint is unavailable"),
    login("50196", "token_unavailable", "the token endpoint is unavailable"),
    login("429:60", "token_throttled", "throttles"),
    login("500", "token_unavailable", "it responded 500"),
    login("html", "token_nonsense", "no token endpoint"),
    login("empty", "token_nonsense", "no token endpoint"),
    login("truncated", "token_nonsense", "no token endpoint"),
    login("down", "token_lost", "the token endpoint"),
    login("hang", "deadline_passed", "the deadline passed"),
];

/// What a gateway waits for or asks for again, seconds long.
fn takes_seconds(case: &Case) -> bool {
    matches!(case.fault, Some((_, "hang") | ("login", "90033" | "50196" | "500" | "down")))
}

/// Plays them, or only those that take less than a second each; gives what does not hold.
pub(super) fn play(binaries: &Binaries, screen: &Screen, quick: bool) -> Result<Vec<String>, String> {
    say(&screen.title("What Graph refuses, and what the operator is told"));
    let mut scene = Scene::start(binaries, &CAST)?;
    let mut findings = Vec::new();
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| !(quick && takes_seconds(case))) {
        let about = case.fault.map_or_else(
            || match case.app {
                WRONG_SECRET => "a wrong secret".to_owned(),
                NO_GRAPH => "no Graph".to_owned(),
                _ => "no authority".to_owned(),
            },
            |(name, value)| format!("{name}={value}"),
        );
        let lines = provoke(&mut scene, number, case)?;
        let problems = judge(case, &lines);
        let verdict = if problems.is_empty() { screen.good("ok") } else { screen.bad("NOT ok") };
        let said = lines.first().map_or("", |line| word(line, "error"));
        let reason = lines.first().map_or("-", |line| word(line, "reason"));
        say(&format!("  {about:<16} {reason:<22} {verdict}  {}", printable(&cut(said))));
        findings.extend(problems.into_iter().map(|problem| format!("{about}: {problem}")));
    }
    findings.extend(asks_again(&mut scene, screen)?);
    for gateway in &scene.gateways {
        if scene.processes.log_of(gateway.name)?.contains(&scene.secret) {
            findings.push(format!("the log of {} holds the app's secret", gateway.name));
        }
    }
    Ok(findings)
}

/// Lets it go wrong, places a call, and gives the error lines about it.
fn provoke(scene: &mut Scene, number: usize, case: &Case) -> Result<Vec<Value>, String> {
    scene.set_fault(case.fault)?;
    // A token is kept for each tenant: only a new one is asked for again.
    let tenant = format!("11111111-2222-4333-8444-{number:012}");
    let gateway = scene.gateways.get(number % scene.gateways.len()).ok_or("no gateway")?;
    // A recording, since nobody waits longer than 5 s for it.
    let options = ["--kind", "recording", "--protocol", "graph", "--tenant", &tenant];
    let mut command = scene.calling("call", case.app, gateway.public);
    scene.processes.start_task("call", command.args(options))?;
    let began = instant();
    let lines = loop {
        pause(POLL);
        let call = call_id(&scene.processes.log_of("call")?);
        let lines = call.map(|call| errors_about(scene, &call)).transpose()?.unwrap_or_default();
        if !lines.is_empty() {
            // A second line would come at once.
            pause(POLL * 2);
            break call_id(&scene.processes.log_of("call")?)
                .map(|call| errors_about(scene, &call))
                .transpose()?
                .unwrap_or_default();
        }
        scene.processes.dead()?;
        if began.elapsed() > LINE_TIME_MAX {
            break lines;
        }
    };
    // The call rings on for nobody.
    scene.processes.kill("call")?;
    Ok(lines)
}

fn call_id(timeline: &str) -> Option<String> {
    let (first, _) = timeline.split_once('\n')?;
    let event: Value = serde_json::from_str(first).ok()?;
    event.get("call").and_then(Value::as_str).map(str::to_owned)
}

/// The error lines of both gateways about a call.
fn errors_about(scene: &Scene, call: &str) -> Result<Vec<Value>, String> {
    let mut errors = Vec::new();
    for gateway in &scene.gateways {
        let log = scene.processes.log_of(gateway.name)?;
        let lines = log.lines().filter(|line| line.contains(call));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        errors.extend(events.filter(|event| word(event, "level") == "error"));
    }
    Ok(errors)
}

fn judge(case: &Case, lines: &[Value]) -> Vec<String> {
    let [line] = lines else { return vec![format!("{} error lines instead of one", lines.len())] };
    let mut problems = Vec::new();
    let (reason, said) = (word(line, "reason"), word(line, "error"));
    if reason != case.reason {
        problems.push(format!("{reason} instead of {}", case.reason));
    }
    if !said.contains(case.says) {
        problems.push(format!("does not say {:?}: {said}", case.says));
    }
    // What only one kind of trouble may say.
    for (words, labels) in [
        (CREDENTIAL, &["token_invalid_secret", "token_expired_secret"][..]),
        (PERMISSION, &["missing_permission"][..]),
    ] {
        if said.contains(words) && !labels.contains(&case.reason) {
            problems.push(format!("says {words:?}, which it is not: {said}"));
        }
    }
    problems
}

/// What passes is not told: the gateway asks again after the time that it was given.
fn asks_again(scene: &mut Scene, screen: &Screen) -> Result<Vec<String>, String> {
    let mut findings = Vec::new();
    for (number, (name, value)) in
        [("graph", "429:1*1"), ("graph", "503:1*1"), ("login", "429:1*1")].into_iter().enumerate()
    {
        scene.set_fault(Some((name, value)))?;
        let tenant = format!("11111111-2222-4333-8444-9{number:011}");
        let events = scene.call(RIGHT, number, &["--tenant", &tenant, "--duration", "100ms"])?;
        let end = events.last().unwrap_or(&Value::Null);
        let answered = end.get("answered_ms").and_then(Value::as_f64);
        let call = events.first().map(|event| word(event, "call")).unwrap_or_default();
        let errors = errors_about(scene, call)?.len();
        let is_well = word(end, "outcome") == "completed"
            && answered.is_some_and(|answered| answered >= 1_000.0)
            && errors == 0;
        let verdict = if is_well { screen.good("ok") } else { screen.bad("NOT ok") };
        let answered = answered.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
        say(&format!(
            "  {:<16} {:<22} {verdict}",
            format!("{name}={value}"),
            format!("answered after {answered}")
        ));
        if !is_well {
            let reason = printable(word(end, "reason"));
            findings
                .push(format!("{name}={value}: answered after {answered}, {errors} error lines: {reason}"));
        }
    }
    scene.set_fault(None)?;
    Ok(findings)
}

/// As much of a line as a screen has.
fn cut(text: &str) -> String {
    text.chars().take(110).collect()
}

const POLL: Duration = Duration::from_millis(50);
/// A gateway gives up half a second before the platform does, which is after 5 s.
const LINE_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(lines: &[(&str, &str)], problem: &str) {
        let lines: Vec<Value> =
            lines.iter().map(|(reason, error)| json!({"reason": reason, "error": error})).collect();
        let case = graph("7504", "missing_permission", PERMISSION);
        assert_eq!(judge(&case, &lines).join("; "), problem);
    }

    #[test]
    fn one_line_tells_what_it_is_and_nothing_else() {
        let well = ("missing_permission", "the app lacks a permission in the call's tenant");
        check(&[well], "");
        check(&[], "0 error lines instead of one");
        check(&[well, well], "2 error lines instead of one");
        check(&[("server", "the app lacks a permission")], "server instead of missing_permission");
        let both = ("missing_permission", "lacks a permission, or the app's credential is wrong");
        check(
            &[both],
            "says \"the app's credential is wrong\", which it is not: lacks a permission, or the app's credential is wrong",
        );
    }

    #[test]
    fn the_id_of_a_call_is_in_the_first_whole_line() {
        assert_eq!(call_id("{\"event\":\"call\",\"call\":\"a\"}\n{").as_deref(), Some("a"));
        assert_eq!(call_id("{\"event\":\"call\",\"call\":\"a\"}"), None);
    }
}
