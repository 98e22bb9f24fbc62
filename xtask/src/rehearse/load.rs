//! Many calls through two gateways to four instances. No notification may be lost or misrouted, and every
//! call must be answered in time.

use std::time::Duration;

use serde_json::Value;

use super::{
    layout::{App, BotSettings, EVERY_APP, GraphAccess, Ingress, Layout},
    load_report::{LoadSummary, problems},
    testbed::Testbed,
};
use crate::{
    console::say,
    support::{
        binaries::Binaries,
        http, instant, pause,
        screen::{Screen, time},
    },
};

/// The parameters of one load.
pub(super) struct Load {
    pub(super) about: &'static str,
    /// The number of calls; half of them go through each gateway.
    pub(super) calls: u32,
    /// Calls per second; half of them go through each gateway.
    pub(super) rate: u32,
    /// The keys of both issuers rotate each second, and one instance is killed and restarted in the middle.
    pub(super) storm: bool,
}

pub(super) const QUICK: [Load; 1] =
    [Load { about: "300 calls at 100 per second", calls: 300, rate: 100, storm: false }];

pub(super) const WHOLE: [Load; 2] = [
    Load { about: "2,000 calls at 200 per second", calls: 2_000, rate: 200, storm: false },
    Load {
        about: "the same, with keys that rotate each second and an instance that is killed and restarted",
        calls: 2_000,
        rate: 200,
        storm: true,
    },
];

const APP: &str = EVERY_APP;
const APPS: &[App] = &[App { id: APP, graph: GraphAccess::Valid }];
/// Two bots answer by themselves, and two let the gateway answer.
const BOTS: &[BotSettings] = &[
    BotSettings { name: "bot-0", app: APP, answer: "graph" },
    BotSettings { name: "bot-1", app: APP, answer: "action" },
    BotSettings { name: "bot-2", app: APP, answer: "graph" },
    BotSettings { name: "bot-3", app: APP, answer: "action" },
];
const CALM: Layout = Layout { platform: &[], apps: APPS, bots: BOTS, ingress: Ingress::Crossed };
const STORM: Layout = Layout {
    platform: &["--rotate-every", "1s", "--publish-before", "2s"],
    apps: APPS,
    bots: BOTS,
    ingress: Ingress::Crossed,
};

/// The instance that is killed in a storm.
const KILLED: &str = "bot-1";

/// Runs one load, and returns its violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen, plan: &Load) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("Load: {}", plan.about)));
    let mut testbed = Testbed::start(binaries, if plan.storm { &STORM } else { &CALM })?;
    if plan.storm {
        say(&format!(
            "  waiting {} s until the platform has made the keys that it will rotate",
            KEYS_MADE.as_secs()
        ));
        pause(KEYS_MADE);
    }
    let before = Cpu::read(&testbed);
    let refreshed_before = refreshed(&testbed)?;
    let reports = place(&mut testbed, plan)?;
    let cpu = Cpu::read(&testbed).since(&before);
    let refreshed = refreshed(&testbed)?.saturating_sub(refreshed_before);

    let sum = LoadSummary::of(&reports);
    for line in table(plan, &sum, &cpu, refreshed) {
        say(&line);
    }
    let mut violations: Vec<String> =
        reports.iter().flat_map(problems).map(|problem| format!("{}: {problem}", plan.about)).collect();
    violations.extend(judge(plan, &sum, refreshed).into_iter().map(|text| format!("{}: {text}", plan.about)));
    if !violations.is_empty() {
        violations.extend(testbed.first_warnings()?);
    }
    Ok(violations)
}

/// Starts the processes of a load without faults.
pub(super) fn calm_testbed(binaries: &Binaries) -> Result<Testbed, String> {
    Testbed::start(binaries, &CALM)
}

/// Places the calls of a load, and returns the summary of its reports.
pub(super) fn place_and_sum(testbed: &mut Testbed, plan: &Load) -> Result<LoadSummary, String> {
    Ok(LoadSummary::of(&place(testbed, plan)?))
}

/// Places half of the calls through each gateway, and returns the reports of both loads.
fn place(testbed: &mut Testbed, plan: &Load) -> Result<Vec<Value>, String> {
    let (calls, rate) = ((plan.calls / 2).to_string(), (plan.rate / 2).to_string());
    let bots: Vec<String> = testbed.bots.iter().map(|bot| format!("--bot=http://{}", bot.address)).collect();
    let names = ["load-0", "load-1"];
    for (name, number) in names.iter().zip(0..) {
        let gateway = testbed.gateways.get(number).ok_or("no gateway")?;
        let mut command = testbed.calling("load", APP, gateway.public);
        command.args(["--calls", &calls, "--rate", &rate, "--duration", CALL_DURATION]);
        command.args(["--kind-mix", "p2p=4,group=2,meeting=2,recording=1,pstn=1", "--participants", "2"]);
        testbed.processes.start_task(name, command.args(&bots))?;
    }
    watch(testbed, plan)?;
    let mut reports = Vec::new();
    for name in names {
        let (_, output) = testbed.processes.wait(name, END_TIME_MAX)?;
        let report = output.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
        reports.push(report.ok_or_else(|| format!("{name} printed no report: {output}"))?);
    }
    Ok(reports)
}

/// Prints the progress while calls are placed. In a storm, kills an instance and restarts it.
fn watch(testbed: &mut Testbed, plan: &Load) -> Result<(), String> {
    let length = Duration::from_secs(u64::from(plan.calls / plan.rate));
    let started = instant();
    let mut events =
        [(length * 2 / 5, true), (length * 3 / 5, false)].into_iter().filter(|_| plan.storm).peekable();
    let mut shown = Duration::ZERO;
    while started.elapsed() < length {
        pause(Duration::from_millis(20));
        let now = started.elapsed();
        if let Some((_, dies)) = events.next_if(|(due, _)| *due <= now) {
            if dies {
                testbed.processes.kill(KILLED)?;
            } else {
                testbed.restart_bot(KILLED)?;
            }
            let what = if dies { "is killed" } else { "is restarted" };
            say(&format!("  {:>4.1} s  {KILLED} {what}", now.as_secs_f64()));
        }
        if now.saturating_sub(shown) >= SHOW_EVERY {
            shown = now;
            let alive: u64 = testbed
                .bots
                .iter()
                .filter_map(|bot| http::get_json(bot.address, "/healthz").ok()?.get("calls")?.as_u64())
                .sum();
            say(&format!("  {:>4.1} s  {alive} calls in progress", now.as_secs_f64()));
        }
        testbed.processes.check_running()?;
    }
    Ok(())
}

/// The violations of a load's rules. `refreshed` counts the key sets that the gateways read.
pub(super) fn judge(plan: &Load, sum: &LoadSummary, refreshed: usize) -> Vec<String> {
    let mut violations = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            violations.push(otherwise);
        }
    };
    must(sum.calls == u64::from(plan.calls), format!("{} calls of {}", sum.calls, plan.calls));
    must(sum.other_outcomes == 0, format!("{} calls were not completed", sum.other_outcomes));
    must(sum.completed + sum.instance_gone == sum.calls, format!("{} calls completed", sum.completed));
    must(sum.refused == 0, format!("{} notifications were refused", sum.refused));
    must(sum.lost == 0, format!("{} notifications were lost", sum.lost));
    must(sum.misrouted == Some(0), format!("misrouted notifications: {}", known(sum.misrouted)));
    must(sum.ok, "a load reports a failure".to_owned());
    if plan.storm {
        must(sum.gone == [KILLED], format!("the instances gone are {:?}, not {KILLED} alone", sum.gone));
        must(sum.instance_gone > 0, format!("{KILLED} had no call when it was killed, so it proved nothing"));
        // The platform publishes keys 2 s ahead, so each of the two gateways may skip two rotations of three.
        let rotations = plan.calls / plan.rate;
        must(
            u32::try_from(refreshed).unwrap_or(u32::MAX) >= rotations / 2,
            format!("keys were read {refreshed} times in {rotations} rotations, which proves nothing"),
        );
    } else {
        must(sum.gone.is_empty(), format!("{:?} gone, although the rehearsal killed no instance", sum.gone));
        must(sum.handled_twice == 0, format!("{} calls were handled by two instances", sum.handled_twice));
    }
    violations
}

fn table(plan: &Load, sum: &LoadSummary, cpu: &Cpu, refreshed: usize) -> Vec<String> {
    let row = |name: &str, value: String| format!("  {name:<34} {value:>10}");
    let mut lines = vec![
        row("calls", sum.calls.to_string()),
        row("completed", sum.completed.to_string()),
        row("of a killed instance", sum.instance_gone.to_string()),
        row("time to answer, median", time(sum.p50_ms)),
        row("time to answer, 99th percentile", time(sum.p99_ms)),
        row("time to answer, maximum", time(sum.max_ms)),
        row("notifications", sum.sent.to_string()),
        row("acknowledged", sum.acknowledged.to_string()),
        row("retried by the platform", sum.retried.to_string()),
        row("repeated at an instance", sum.came_twice.to_string()),
        row("refused", sum.refused.to_string()),
        row("lost", sum.lost.to_string()),
        row("lost with the instance", sum.lost_with_instance.to_string()),
        row("misrouted", known(sum.misrouted)),
        row("calls given to two instances", sum.handled_twice.to_string()),
        row("from the first call to the last end", time(sum.took_ms)),
    ];
    if plan.storm {
        lines.push(row("key sets read by the gateways", refreshed.to_string()));
    }
    let seconds = |time: Option<Duration>| {
        time.map_or_else(|| "unknown".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
    };
    lines.push(row("CPU time of both gateways", seconds(cpu.gateways)));
    if let Some(time) = cpu.gateways {
        let each = time.as_secs_f64() * 1e6 / f64::from(u32::try_from(sum.sent.max(1)).unwrap_or(u32::MAX));
        lines.push(row("  per notification", format!("{each:.0} \u{b5}s")));
    }
    lines.push(row("CPU time of the platform", seconds(cpu.platform)));
    lines.push(row("CPU time of the bots", seconds(cpu.bots)));
    lines
}

/// A count that a report may lack.
fn known(count: Option<u64>) -> String {
    count.map_or_else(|| "unknown".to_owned(), |count| count.to_string())
}

/// The CPU time of each role; `None` on a system without /proc.
struct Cpu {
    gateways: Option<Duration>,
    platform: Option<Duration>,
    /// Of the bots that are never killed.
    bots: Option<Duration>,
}

impl Cpu {
    fn read(testbed: &Testbed) -> Self {
        let sum = |names: &[&str]| names.iter().map(|name| testbed.processes.cpu_time(name)).sum();
        let gateways: Vec<&str> = testbed.gateways.iter().map(|gateway| gateway.name).collect();
        let bots: Vec<&str> =
            testbed.bots.iter().map(|bot| bot.name).filter(|name| *name != KILLED).collect();
        Self { gateways: sum(&gateways), platform: sum(&["platform"]), bots: sum(&bots) }
    }

    fn since(&self, before: &Self) -> Self {
        let less = |now: Option<Duration>, then: Option<Duration>| {
            now.zip(then).map(|(now, then)| now.saturating_sub(then))
        };
        Self {
            gateways: less(self.gateways, before.gateways),
            platform: less(self.platform, before.platform),
            bots: less(self.bots, before.bots),
        }
    }
}

/// The number of key sets that the gateways have read until now.
fn refreshed(testbed: &Testbed) -> Result<usize, String> {
    let mut count = 0;
    for gateway in &testbed.gateways {
        count += testbed.processes.log_of(gateway.name)?.matches("\"keys refreshed\"").count();
    }
    Ok(count)
}

/// The platform makes eleven keys for each issuer before it reuses their numbers. Each key takes 0.2 s of CPU
/// time, which must not count as CPU time of the load.
const KEYS_MADE: Duration = Duration::from_secs(20);

/// At 200 calls per second, 400 calls are in progress.
const CALL_DURATION: &str = "2s";
/// The last calls may take as long as the platform retries.
const END_TIME_MAX: Duration = Duration::from_secs(90);
const SHOW_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({"ok": true, "calls": 150, "took_ms": 5_000.0, "outcomes": {"completed": 150},
            "instance_gone": {}, "answered": {"p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}, "sent": 900,
            "acknowledged": 900, "retried": 0, "refused": 0, "lost": 0, "lost_with_instance": 0,
            "misrouted": 0, "handled_twice": 0, "came_twice": 0, "gone": [], "problems": []})
    }

    #[track_caller]
    fn check(change: &Value, problem: &str) {
        let mut one = report();
        for (name, value) in change.as_object().unwrap() {
            one[name] = value.clone();
        }
        let [plan] = &QUICK;
        assert_eq!(judge(plan, &LoadSummary::of(&[one, report()]), 0).join("; "), problem);
    }

    #[test]
    fn a_load_passes_only_if_both_halves_pass() {
        check(&json!({}), "");
        check(&json!({"lost": 2}), "2 notifications were lost");
        check(&json!({"misrouted": 1}), "misrouted notifications: 1");
        check(&json!({"misrouted": null}), "misrouted notifications: unknown");
        check(&json!({"calls": 149}), "299 calls of 300; 300 calls completed");
        check(
            &json!({"outcomes": {"completed": 149, "unanswered": 1}}),
            "1 calls were not completed; 299 calls completed",
        );
        check(&json!({"gone": ["bot-2"]}), "[\"bot-2\"] gone, although the rehearsal killed no instance");
        check(&json!({"ok": false}), "a load reports a failure");
    }

    #[test]
    fn a_storm_without_a_killed_instance_fails() {
        let [_, plan] = &WHOLE;
        let violations = judge(plan, &LoadSummary::of(&[report(), report()]), 0).join("; ");
        assert!(violations.contains("bot-1 had no call when it was killed"), "{violations}");
        assert!(violations.contains("keys were read 0 times in 10 rotations"), "{violations}");
    }
}
