//! Refusals by Graph and by the token endpoint. Each must cause one error line of the gateway that gives the
//! reason.

use std::time::Duration;

use serde_json::Value;

use super::{
    layout::{App, BotSettings, EVERY_APP, GraphAccess, Ingress, Layout},
    testbed::{Testbed, word},
};
use crate::{
    console::say,
    support::{
        binaries::Binaries,
        instant, pause,
        screen::{Screen, printable},
    },
};

const RIGHT: &str = EVERY_APP;
const WRONG_SECRET: &str = "0efc74f7-41c3-47a4-8775-7259bfef4211";
const NO_GRAPH: &str = "0efc74f7-41c3-47a4-8775-7259bfef4212";
const NO_AUTHORITY: &str = "0efc74f7-41c3-47a4-8775-7259bfef4213";

const LAYOUT: Layout = Layout {
    platform: &[],
    apps: &[
        App { id: RIGHT, graph: GraphAccess::Valid },
        App { id: WRONG_SECRET, graph: GraphAccess::WrongSecret },
        App { id: NO_GRAPH, graph: GraphAccess::NoGraph },
        App { id: NO_AUTHORITY, graph: GraphAccess::NoAuthority },
    ],
    bots: &[
        BotSettings { name: "actor-0", app: EVERY_APP, answer: "action" },
        BotSettings { name: "actor-1", app: EVERY_APP, answer: "action" },
    ],
    ingress: Ingress::Crossed,
};

/// One failure, and the line that the gateway must log.
struct RefusalCase {
    app: &'static str,
    /// The fault to set at the platform, by name and value.
    fault: Option<(&'static str, &'static str)>,
    /// The label in docs/actions.md.
    reason: &'static str,
    /// Words that the line must contain.
    says: &'static str,
}

const fn graph(value: &'static str, reason: &'static str, says: &'static str) -> RefusalCase {
    RefusalCase { app: RIGHT, fault: Some(("graph", value)), reason, says }
}

const fn login(value: &'static str, reason: &'static str, says: &'static str) -> RefusalCase {
    RefusalCase { app: RIGHT, fault: Some(("login", value)), reason, says }
}

const fn real(app: &'static str, reason: &'static str, says: &'static str) -> RefusalCase {
    RefusalCase { app, fault: None, reason, says }
}

const CREDENTIAL: &str = "the app's credential is wrong";
const PERMISSION: &str = "lacks a permission";
const UNKNOWN: &str = "the outcome is unknown";

/// A wrong credential, a missing permission and a broken network come first: their lines must differ.
const CASES: [RefusalCase; 39] = [
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
    login("html", "token_nonsense", "not a token endpoint"),
    login("empty", "token_nonsense", "not a token endpoint"),
    login("truncated", "token_nonsense", "not a token endpoint"),
    login("down", "token_lost", "the token endpoint"),
    login("hang", "deadline_passed", "the deadline passed"),
];

/// True if the gateway waits or retries for seconds.
fn takes_seconds(case: &RefusalCase) -> bool {
    matches!(case.fault, Some((_, "hang") | ("login", "90033" | "50196" | "500" | "down")))
}

/// Runs the cases, and returns the violations. `quick` leaves out the cases that take seconds.
pub(super) fn run(binaries: &Binaries, screen: &Screen, quick: bool) -> Result<Vec<String>, String> {
    say(&screen.title("Refusals by Graph, and the lines that the gateway logs"));
    let mut testbed = Testbed::start(binaries, &LAYOUT)?;
    let mut violations = Vec::new();
    for (number, case) in CASES.iter().enumerate().filter(|(_, case)| !(quick && takes_seconds(case))) {
        let about = case.fault.map_or_else(
            || match case.app {
                WRONG_SECRET => "a wrong secret".to_owned(),
                NO_GRAPH => "no Graph".to_owned(),
                _ => "no authority".to_owned(),
            },
            |(name, value)| format!("{name}={value}"),
        );
        let lines = provoke(&mut testbed, number, case)?;
        let problems = judge(case, &lines);
        let verdict = if problems.is_empty() { screen.good("ok") } else { screen.bad("NOT ok") };
        let error = lines.first().map_or("", |line| word(line, "error"));
        let reason = lines.first().map_or("-", |line| word(line, "reason"));
        say(&format!("  {about:<16} {reason:<22} {verdict}  {}", printable(&cut(error))));
        violations.extend(problems.into_iter().map(|problem| format!("{about}: {problem}")));
    }
    violations.extend(check_retries(&mut testbed, screen)?);
    for gateway in &testbed.gateways {
        if testbed.processes.log_of(gateway.name)?.contains(&testbed.secret) {
            violations.push(format!("the log of {} contains the app's secret", gateway.name));
        }
    }
    Ok(violations)
}

/// Sets the fault, places a call, and returns the error lines about the call.
fn provoke(testbed: &mut Testbed, number: usize, case: &RefusalCase) -> Result<Vec<Value>, String> {
    testbed.set_fault(case.fault)?;
    // The gateway caches a token per tenant, so each case uses a new tenant.
    let tenant = format!("11111111-2222-4333-8444-{number:012}");
    let gateway = testbed.gateways.get(number % testbed.gateways.len()).ok_or("no gateway")?;
    // A recording: the gateway gives up after 5 s.
    let options = ["--kind", "recording", "--protocol", "graph", "--tenant", &tenant];
    let mut command = testbed.calling("call", case.app, gateway.public);
    testbed.processes.start_task("call", command.args(options))?;
    let started = instant();
    let lines = loop {
        pause(POLL);
        let call = call_id(&testbed.processes.log_of("call")?);
        let lines = call.map(|call| errors_about(testbed, &call)).transpose()?.unwrap_or_default();
        if !lines.is_empty() {
            // A second line would follow at once.
            pause(POLL * 2);
            break call_id(&testbed.processes.log_of("call")?)
                .map(|call| errors_about(testbed, &call))
                .transpose()?
                .unwrap_or_default();
        }
        testbed.processes.check_running()?;
        if started.elapsed() > LINE_TIME_MAX {
            break lines;
        }
    };
    // The call would ring until its time is over.
    testbed.processes.kill("call")?;
    Ok(lines)
}

/// The call id in the first line of a timeline, once that line is complete.
fn call_id(timeline: &str) -> Option<String> {
    let (first, _) = timeline.split_once('\n')?;
    let event: Value = serde_json::from_str(first).ok()?;
    event.get("call").and_then(Value::as_str).map(str::to_owned)
}

/// The error lines of both gateways about a call.
fn errors_about(testbed: &Testbed, call: &str) -> Result<Vec<Value>, String> {
    let mut errors = Vec::new();
    for gateway in &testbed.gateways {
        let log = testbed.processes.log_of(gateway.name)?;
        let lines = log.lines().filter(|line| line.contains(call));
        let events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        errors.extend(events.filter(|event| word(event, "level") == "error"));
    }
    Ok(errors)
}

fn judge(case: &RefusalCase, lines: &[Value]) -> Vec<String> {
    let [line] = lines else { return vec![format!("{} error lines instead of one", lines.len())] };
    let mut problems = Vec::new();
    let (reason, error) = (word(line, "reason"), word(line, "error"));
    if reason != case.reason {
        problems.push(format!("{reason} instead of {}", case.reason));
    }
    if !error.contains(case.says) {
        problems.push(format!("the error lacks {:?}: {error}", case.says));
    }
    // Words that belong to one kind of failure only.
    for (words, labels) in [
        (CREDENTIAL, &["token_invalid_secret", "token_expired_secret"][..]),
        (PERMISSION, &["missing_permission"][..]),
    ] {
        if error.contains(words) && !labels.contains(&case.reason) {
            problems.push(format!("the error wrongly contains {words:?}: {error}"));
        }
    }
    problems
}

/// Checks that the gateway retries a temporary failure after the time that the response names, and logs no
/// error.
fn check_retries(testbed: &mut Testbed, screen: &Screen) -> Result<Vec<String>, String> {
    let mut violations = Vec::new();
    for (number, (name, value)) in
        [("graph", "429:1*1"), ("graph", "503:1*1"), ("login", "429:1*1")].into_iter().enumerate()
    {
        testbed.set_fault(Some((name, value)))?;
        let tenant = format!("11111111-2222-4333-8444-9{number:011}");
        let events = testbed.call(RIGHT, number, &["--tenant", &tenant, "--duration", "100ms"])?;
        let end = events.last().unwrap_or(&Value::Null);
        let answered = end.get("answered_ms").and_then(Value::as_f64);
        let call = events.first().map(|event| word(event, "call")).unwrap_or_default();
        let errors = errors_about(testbed, call)?.len();
        let passed = word(end, "outcome") == "completed"
            && answered.is_some_and(|answered| answered >= 1_000.0)
            && errors == 0;
        let verdict = if passed { screen.good("ok") } else { screen.bad("NOT ok") };
        let answered = answered.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
        say(&format!(
            "  {:<16} {:<22} {verdict}",
            format!("{name}={value}"),
            format!("answered after {answered}")
        ));
        if !passed {
            let reason = printable(word(end, "reason"));
            violations
                .push(format!("{name}={value}: answered after {answered}, {errors} error lines: {reason}"));
        }
    }
    testbed.set_fault(None)?;
    Ok(violations)
}

/// The start of a line, as much as fits on a screen.
fn cut(text: &str) -> String {
    text.chars().take(110).collect()
}

const POLL: Duration = Duration::from_millis(50);
/// A gateway gives up 0.5 s before the platform, which gives up after 5 s.
const LINE_TIME_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(lines: &[(&str, &str)], expected: &str) {
        let lines: Vec<Value> =
            lines.iter().map(|(reason, error)| json!({"reason": reason, "error": error})).collect();
        let case = graph("7504", "missing_permission", PERMISSION);
        assert_eq!(judge(&case, &lines).join("; "), expected);
    }

    #[test]
    fn one_line_names_its_failure_and_no_other() {
        let line = ("missing_permission", "the app lacks a permission in the call's tenant");
        check(&[line], "");
        check(&[], "0 error lines instead of one");
        check(&[line, line], "2 error lines instead of one");
        check(&[("server", "the app lacks a permission")], "server instead of missing_permission");
        let both = ("missing_permission", "lacks a permission, or the app's credential is wrong");
        check(
            &[both],
            "the error wrongly contains \"the app's credential is wrong\": lacks a permission, or the app's \
             credential is wrong",
        );
    }

    #[test]
    fn the_first_complete_line_has_the_call_id() {
        assert_eq!(call_id("{\"event\":\"call\",\"call\":\"a\"}\n{").as_deref(), Some("a"));
        assert_eq!(call_id("{\"event\":\"call\",\"call\":\"a\"}"), None);
    }
}
