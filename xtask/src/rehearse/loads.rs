//! Many calls through two gateways to four instances: nothing lost, nothing misrouted, all answered in time.

use std::time::Duration;

use serde_json::Value;

use super::{
    http, instant, pause,
    process::Binaries,
    report::{Sum, problems},
    scene::{Access, App, Cast, Front, Player, Scene},
    screen::{Screen, time},
};
use crate::console::say;

/// A load.
pub(super) struct Plan {
    about: &'static str,
    /// Half of them through each gateway.
    calls: u32,
    /// Calls a second, likewise.
    rate: u32,
    /// Keys of both issuers rotate each second, and one instance is killed and restarted in the middle.
    storm: bool,
}

pub(super) const QUICK: [Plan; 1] =
    [Plan { about: "300 calls at 100 a second", calls: 300, rate: 100, storm: false }];

pub(super) const WHOLE: [Plan; 2] = [
    Plan { about: "2,000 calls at 200 a second", calls: 2_000, rate: 200, storm: false },
    Plan {
        about: "the same, with keys that rotate each second, and an instance that is killed and restarted",
        calls: 2_000,
        rate: 200,
        storm: true,
    },
];

const APP: &str = super::scene::EVERY_APP;
const APPS: &[App] = &[App { id: APP, graph: Access::Right }];
/// Two answer by themselves, two let the gateway answer.
const PLAYERS: &[Player] = &[
    Player { name: "bot-0", app: APP, answer: "graph" },
    Player { name: "bot-1", app: APP, answer: "action" },
    Player { name: "bot-2", app: APP, answer: "graph" },
    Player { name: "bot-3", app: APP, answer: "action" },
];
const CALM: Cast = Cast { platform: &[], apps: APPS, players: PLAYERS, front: Front::Crossed };
const STORM: Cast = Cast {
    platform: &["--rotate-every", "1s", "--publish-before", "2s"],
    apps: APPS,
    players: PLAYERS,
    front: Front::Crossed,
};

/// Who is killed in a storm.
const VICTIM: &str = "bot-1";

/// Plays it; gives what does not hold.
pub(super) fn play(binaries: &Binaries, screen: &Screen, plan: &Plan) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("Load: {}", plan.about)));
    let mut scene = Scene::start(binaries, if plan.storm { &STORM } else { &CALM })?;
    if plan.storm {
        say(&format!(
            "  {} s for the platform to make the keys that it will use in turn",
            KEYS_MADE.as_secs()
        ));
        pause(KEYS_MADE);
    }
    let before = Cpu::read(&scene);
    let refreshed_before = refreshed(&scene)?;
    let reports = place(&mut scene, plan)?;
    let cpu = Cpu::read(&scene).since(&before);
    let refreshed = refreshed(&scene)?.saturating_sub(refreshed_before);

    let sum = Sum::of(&reports);
    for line in table(plan, &sum, &cpu, refreshed) {
        say(&line);
    }
    let mut findings: Vec<String> =
        reports.iter().flat_map(problems).map(|problem| format!("{}: {problem}", plan.about)).collect();
    findings.extend(judge(plan, &sum, refreshed).into_iter().map(|text| format!("{}: {text}", plan.about)));
    if !findings.is_empty() {
        for gateway in &scene.gateways {
            let errors: Vec<String> = scene
                .processes
                .log_of(gateway.name)?
                .lines()
                .filter(|line| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\""))
                .take(5)
                .map(|line| format!("{} said: {line}", gateway.name))
                .collect();
            findings.extend(errors);
        }
    }
    Ok(findings)
}

/// Places half of the calls through each gateway, and gives what both loads report.
fn place(scene: &mut Scene, plan: &Plan) -> Result<Vec<Value>, String> {
    let (calls, rate) = ((plan.calls / 2).to_string(), (plan.rate / 2).to_string());
    let bots: Vec<String> = scene.bots.iter().map(|bot| format!("--bot=http://{}", bot.address)).collect();
    let names = ["load-0", "load-1"];
    for (name, number) in names.iter().zip(0..) {
        let gateway = scene.gateways.get(number).ok_or("no gateway")?;
        let mut command = scene.calling("load", APP, gateway.public);
        command.args(["--calls", &calls, "--rate", &rate, "--duration", CALL_DURATION]);
        command.args(["--kind-mix", "p2p=4,group=2,meeting=2,recording=1,pstn=1", "--participants", "2"]);
        scene.processes.start_task(name, command.args(&bots))?;
    }
    watch(scene, plan)?;
    let mut reports = Vec::new();
    for name in names {
        let (_, said) = scene.processes.wait(name, END_TIME_MAX)?;
        let report = said.lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
        reports.push(report.ok_or_else(|| format!("{name} reported nothing: {said}"))?);
    }
    Ok(reports)
}

/// Tells how it goes while calls are placed, and lets an instance die and come back if it is to.
fn watch(scene: &mut Scene, plan: &Plan) -> Result<(), String> {
    let length = Duration::from_secs(u64::from(plan.calls / plan.rate));
    let began = instant();
    let mut acts =
        [(length * 2 / 5, true), (length * 3 / 5, false)].into_iter().filter(|_| plan.storm).peekable();
    let mut told = Duration::ZERO;
    while began.elapsed() < length {
        pause(Duration::from_millis(20));
        let now = began.elapsed();
        if let Some((_, dies)) = acts.next_if(|(due, _)| *due <= now) {
            if dies {
                scene.processes.kill(VICTIM)?;
            } else {
                scene.restart_bot(VICTIM)?;
            }
            let what = if dies { "is killed" } else { "is started again" };
            say(&format!("  {:>4.1} s  {VICTIM} {what}", now.as_secs_f64()));
        }
        if now.saturating_sub(told) >= TOLD_EVERY {
            told = now;
            let alive: u64 = scene
                .bots
                .iter()
                .filter_map(|bot| http::get_json(bot.address, "/healthz").ok()?.get("calls")?.as_u64())
                .sum();
            say(&format!("  {:>4.1} s  {alive} calls are alive", now.as_secs_f64()));
        }
        scene.processes.dead()?;
    }
    Ok(())
}

fn judge(plan: &Plan, sum: &Sum, refreshed: usize) -> Vec<String> {
    let mut findings = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            findings.push(otherwise);
        }
    };
    must(sum.calls == u64::from(plan.calls), format!("{} calls of {}", sum.calls, plan.calls));
    must(sum.other_outcomes == 0, format!("{} calls were not completed", sum.other_outcomes));
    must(sum.completed + sum.instance_gone == sum.calls, format!("{} calls completed", sum.completed));
    must(sum.refused == 0, format!("{} notifications refused", sum.refused));
    must(sum.lost == 0, format!("{} notifications lost", sum.lost));
    must(sum.misrouted == Some(0), format!("{:?} notifications misrouted", sum.misrouted));
    must(sum.well, "a load reports that not all is well".to_owned());
    if plan.storm {
        must(sum.gone == [VICTIM], format!("gone were {:?}, not {VICTIM} alone", sum.gone));
        must(sum.instance_gone > 0, format!("{VICTIM} was killed without a call: nothing was proved"));
        // What is published 2 s ahead lets each of the two gateways skip two rotations of three.
        let rotations = plan.calls / plan.rate;
        must(
            u32::try_from(refreshed).unwrap_or(u32::MAX) >= rotations / 2,
            format!("keys were read {refreshed} times in {rotations} rotations: nothing was proved"),
        );
    } else {
        must(sum.gone.is_empty(), format!("{:?} gone, which nobody killed", sum.gone));
        must(sum.handled_twice == 0, format!("{} calls handled by two instances", sum.handled_twice));
    }
    findings
}

fn table(plan: &Plan, sum: &Sum, cpu: &Cpu, refreshed: usize) -> Vec<String> {
    let row = |name: &str, value: String| format!("  {name:<34} {value:>10}");
    let mut lines = vec![
        row("calls", sum.calls.to_string()),
        row("completed", sum.completed.to_string()),
        row("of an instance that was gone", sum.instance_gone.to_string()),
        row("answered: half of them in", time(sum.p50_ms)),
        row("answered: 99 of 100 in", time(sum.p99_ms)),
        row("answered: all in", time(sum.max_ms)),
        row("notifications", sum.sent.to_string()),
        row("acknowledged", sum.acknowledged.to_string()),
        row("tried again", sum.retried.to_string()),
        row("came twice to an instance", sum.came_twice.to_string()),
        row("refused", sum.refused.to_string()),
        row("lost", sum.lost.to_string()),
        row("lost with the instance", sum.lost_with_instance.to_string()),
        row("misrouted", sum.misrouted.map_or_else(|| "unknown".to_owned(), |count| count.to_string())),
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
        lines.push(row("  for each notification", format!("{each:.0} \u{b5}s")));
    }
    lines.push(row("CPU time of the platform", seconds(cpu.platform)));
    lines.push(row("CPU time of the bots", seconds(cpu.bots)));
    lines
}

/// CPU time by role; unknown where there is no /proc.
struct Cpu {
    gateways: Option<Duration>,
    platform: Option<Duration>,
    /// Of those that live.
    bots: Option<Duration>,
}

impl Cpu {
    fn read(scene: &Scene) -> Self {
        let sum = |names: &[&str]| names.iter().map(|name| scene.processes.cpu_time(name)).sum();
        let gateways: Vec<&str> = scene.gateways.iter().map(|gateway| gateway.name).collect();
        let bots: Vec<&str> = scene.bots.iter().map(|bot| bot.name).filter(|name| *name != VICTIM).collect();
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

/// How often the gateways have read a key set until now.
fn refreshed(scene: &Scene) -> Result<usize, String> {
    let mut count = 0;
    for gateway in &scene.gateways {
        count += scene.processes.log_of(gateway.name)?.matches("\"keys refreshed\"").count();
    }
    Ok(count)
}

/// The platform makes eleven keys for each issuer before it uses their numbers again; each costs a fifth of a second
/// of CPU, which is not to be that of the load.
const KEYS_MADE: Duration = Duration::from_secs(20);

/// At 200 calls a second, 400 are alive.
const CALL_DURATION: &str = "2s";
/// The last ones last for as long as the platform tries again after a failure.
const END_TIME_MAX: Duration = Duration::from_secs(90);
const TOLD_EVERY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        json!({"ok": true, "calls": 150, "took_ms": 5_000.0, "outcomes": {"completed": 150}, "instance_gone": {},
            "answered": {"p50_ms": 1.0, "p99_ms": 2.0, "max_ms": 3.0}, "sent": 900, "acknowledged": 900, "retried": 0,
            "refused": 0, "lost": 0, "lost_with_instance": 0, "misrouted": 0, "handled_twice": 0, "came_twice": 0,
            "gone": [], "problems": []})
    }

    #[track_caller]
    fn check(change: &Value, problem: &str) {
        let mut one = report();
        for (name, value) in change.as_object().unwrap() {
            one[name] = value.clone();
        }
        let [plan] = &QUICK;
        assert_eq!(judge(plan, &Sum::of(&[one, report()]), 0).join("; "), problem);
    }

    #[test]
    fn a_load_holds_only_if_both_halves_do() {
        check(&json!({}), "");
        check(&json!({"lost": 2}), "2 notifications lost");
        check(&json!({"misrouted": 1}), "Some(1) notifications misrouted");
        check(&json!({"misrouted": null}), "None notifications misrouted");
        check(&json!({"calls": 149}), "299 calls of 300; 300 calls completed");
        check(
            &json!({"outcomes": {"completed": 149, "unanswered": 1}}),
            "1 calls were not completed; 299 calls completed",
        );
        check(&json!({"gone": ["bot-2"]}), "[\"bot-2\"] gone, which nobody killed");
        check(&json!({"ok": false}), "a load reports that not all is well");
    }

    #[test]
    fn a_storm_without_a_victim_proves_nothing() {
        let [_, plan] = &WHOLE;
        let findings = judge(plan, &Sum::of(&[report(), report()]), 0).join("; ");
        assert!(findings.contains("bot-1 was killed without a call"), "{findings}");
        assert!(findings.contains("keys were read 0 times in 10 rotations"), "{findings}");
    }
}
