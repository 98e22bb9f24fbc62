//! The rules that a scenario of restarts must keep, and the table of its figures.

use std::time::Duration;

use super::scenario::{FleetEvent, KILLED, LAYOUT};
use crate::{
    rehearse::{journal::JournalSummary, load_report::LoadSummary},
    support::screen::time,
};

/// The violations of the rules. `requests` are the requests that each gateway has handled.
pub(super) fn judge(
    event: FleetEvent,
    load: &LoadSummary,
    journals: &JournalSummary,
    requests: &[usize],
) -> Vec<String> {
    let mut violations = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            violations.push(otherwise);
        }
    };
    must(load.calls > 0, "no call was placed".to_owned());
    must(load.other_outcomes == 0, format!("{} calls were not completed", load.other_outcomes));
    must(load.refused == 0, format!("{} notifications were refused", load.refused));
    must(load.lost == 0, format!("{} notifications were lost", load.lost));
    must(load.misrouted == Some(0), format!("misrouted notifications: {}", known(load.misrouted)));
    must(load.ended_early == Some(0), format!("calls that ended early: {}", known(load.ended_early)));
    must(load.ok, "the load reports a failure".to_owned());
    let calls = journals.calls;
    must(calls == load.calls, format!("instances received {calls} calls of {}", load.calls));
    must(journals.misrouted == 0, format!("{} callbacks reached another incarnation", journals.misrouted));
    must(journals.incomplete == 0, format!("{} calls have gaps in the journals", journals.incomplete));
    must(requests.iter().all(|count| *count > 0), format!("the gateways handled {requests:?} requests"));
    let gone = load.gone.join(", ");
    match event {
        FleetEvent::RollingRestart => {
            let incarnations = journals.incarnations;
            must(
                incarnations == 2 * LAYOUT.bots.len(),
                format!("{incarnations} incarnations were notified, so the restart proved nothing"),
            );
            must(load.gone.len() == LAYOUT.bots.len(), format!("only {gone} restarted"));
            // The gateways acknowledge the legacy form of each new call themselves.
            let (handled, acknowledged) = (journals.notifications + load.calls, load.acknowledged);
            must(handled == acknowledged, format!("{handled} of {acknowledged} notifications were handled"));
            must(load.instance_gone == 0, format!("{} calls lost their instance", load.instance_gone));
            let lost = load.lost_with_instance;
            must(lost == 0, format!("{lost} notifications were lost with their instance"));
        }
        FleetEvent::Failures => {
            must(load.gone == [KILLED], format!("the instances gone are {gone}, not {KILLED} alone"));
            let proved = load.instance_gone > 0;
            must(proved, format!("{KILLED} had no call when it was killed, so it proved nothing"));
        }
    }
    violations
}

/// The figures, a line each.
pub(super) fn table(
    load: &LoadSummary,
    journals: &JournalSummary,
    requests: &[usize],
    placing: Duration,
) -> Vec<String> {
    let row = |name: &str, value: String| format!("  {name:<42} {value:>10}");
    let mut lines = vec![
        row("time of placing calls", format!("{:.1} s", placing.as_secs_f64())),
        row("calls", load.calls.to_string()),
        row("completed", load.completed.to_string()),
        row("of a killed instance", load.instance_gone.to_string()),
        row("ended early", known(load.ended_early)),
        row("time to answer, median", time(load.p50_ms)),
        row("time to answer, 99th percentile", time(load.p99_ms)),
        row("time to answer, maximum", time(load.max_ms)),
        row("notifications", load.sent.to_string()),
        row("acknowledged", load.acknowledged.to_string()),
        row("retried by the platform", load.retried.to_string()),
        row("refused", load.refused.to_string()),
        row("lost", load.lost.to_string()),
        row("lost with the instance", load.lost_with_instance.to_string()),
        row("misrouted", known(load.misrouted)),
        row("journals: incarnations", journals.incarnations.to_string()),
        row("journals: notifications handled", journals.notifications.to_string()),
        row("journals: handled twice", journals.twice.to_string()),
        row("journals: sent to another incarnation", journals.misrouted.to_string()),
        row("journals: calls with gaps", journals.incomplete.to_string()),
        row("calls given to two instances", load.handled_twice.to_string()),
    ];
    for (count, number) in requests.iter().zip(0..) {
        lines.push(row(&format!("requests through gateway-{number}"), count.to_string()));
    }
    lines
}

/// A count that a report may lack.
fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

#[cfg(test)]
mod tests {
    use super::{super::scenario::SUSPENDED, *};

    fn load() -> LoadSummary {
        LoadSummary {
            calls: 9,
            completed: 9,
            acknowledged: 54,
            ended_early: Some(0),
            misrouted: Some(0),
            ok: true,
            gone: LAYOUT.bots.iter().map(|bot| bot.name.to_owned()).collect(),
            ..LoadSummary::default()
        }
    }

    fn journals() -> JournalSummary {
        JournalSummary { calls: 9, incarnations: 12, notifications: 45, ..JournalSummary::default() }
    }

    #[track_caller]
    fn check(event: FleetEvent, load: &LoadSummary, journals: &JournalSummary, expected: &str) {
        assert_eq!(judge(event, load, journals, &[1, 1, 1]).join("; "), expected);
    }

    #[test]
    fn a_rolling_restart_may_cost_no_call() {
        let event = FleetEvent::RollingRestart;
        check(event, &load(), &journals(), "");
        check(event, &LoadSummary { lost: 1, ..load() }, &journals(), "1 notifications were lost");
        let lost = JournalSummary { notifications: 44, ..journals() };
        check(event, &load(), &lost, "53 of 54 notifications were handled");
        check(
            event,
            &LoadSummary { ended_early: Some(1), ..load() },
            &journals(),
            "calls that ended early: 1",
        );
        let unknown = LoadSummary { ended_early: None, ..load() };
        check(event, &unknown, &journals(), "calls that ended early: unknown");
        let unknown = LoadSummary { misrouted: None, ..load() };
        check(event, &unknown, &journals(), "misrouted notifications: unknown");
        let without = LoadSummary { instance_gone: 1, ..load() };
        check(event, &without, &journals(), "1 calls lost their instance");
        let gone = vec!["bot-0".to_owned()];
        check(event, &LoadSummary { gone, ..load() }, &journals(), "only bot-0 restarted");
        let gaps = JournalSummary { incomplete: 1, ..journals() };
        check(event, &load(), &gaps, "1 calls have gaps in the journals");
        let misrouted = JournalSummary { misrouted: 1, ..journals() };
        check(event, &load(), &misrouted, "1 callbacks reached another incarnation");
        let few = JournalSummary { calls: 8, incarnations: 11, ..journals() };
        let expected = "instances received 8 calls of 9; \
                        11 incarnations were notified, so the restart proved nothing";
        check(event, &load(), &few, expected);
        check(event, &load(), &JournalSummary { twice: 3, ..journals() }, "");
        let requests = judge(event, &load(), &journals(), &[1, 0, 1]);
        assert_eq!(requests, ["the gateways handled [1, 0, 1] requests"]);
    }

    #[test]
    fn only_the_killed_instance_may_lose_calls() {
        let event = FleetEvent::Failures;
        let killed = LoadSummary { instance_gone: 2, completed: 7, gone: vec![KILLED.to_owned()], ..load() };
        check(event, &killed, &journals(), "");
        let unharmed = LoadSummary { gone: vec![KILLED.to_owned()], ..load() };
        let nothing = format!("{KILLED} had no call when it was killed, so it proved nothing");
        check(event, &unharmed, &journals(), &nothing);
        let gone = vec![KILLED.to_owned(), SUSPENDED.to_owned()];
        let both = LoadSummary { gone, instance_gone: 2, ..load() };
        check(event, &both, &journals(), "the instances gone are bot-3, bot-4, not bot-3 alone");
    }
}
