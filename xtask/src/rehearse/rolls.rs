//! A fleet that rolls and fails under load: three gateways behind a balancer, six instances, each restarted in turn; then
//! one instance that is killed, and one that stands still.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    POLL, http, instant,
    journal::{self, Witness},
    pause,
    process::{Binaries, START_TIME_MAX},
    report::{Sum, problems},
    scene::{Access, App, Cast, EVERY_APP, Front, Player, Scene},
    screen::{Screen, time},
};
use crate::console::say;

/// What happens to the fleet, and how many calls it has meanwhile.
pub(super) struct Plan {
    about: &'static str,
    /// Calls a second.
    rate: u32,
    /// How long each lasts.
    duration: &'static str,
    acts: Acts,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Acts {
    /// Every gateway and every instance is restarted in turn.
    Roll,
    /// One instance is killed, another one stands still for a while.
    Fail,
}

pub(super) const QUICK: [Plan; 2] = [
    Plan { about: "a rolling restart, 20 calls a second of 1 s", rate: 20, duration: "1s", acts: Acts::Roll },
    Plan {
        about: "an instance is killed, another one stands still; 20 calls a second of 1 s",
        rate: 20,
        duration: "1s",
        acts: Acts::Fail,
    },
];

pub(super) const WHOLE: [Plan; 2] = [
    Plan { about: "a rolling restart, 50 calls a second of 5 s", rate: 50, duration: "5s", acts: Acts::Roll },
    Plan {
        about: "an instance is killed, another one stands still; 50 calls a second of 5 s",
        rate: 50,
        duration: "5s",
        acts: Acts::Fail,
    },
];

/// Half answer by themselves, half let the gateway answer. The platform waits longer than the gateways' patience.
const CAST: Cast = Cast {
    platform: &["--post-timeout", "20s"],
    apps: &[App { id: EVERY_APP, graph: Access::Right }],
    players: &[
        Player { name: "bot-0", app: EVERY_APP, answer: "graph" },
        Player { name: "bot-1", app: EVERY_APP, answer: "action" },
        Player { name: "bot-2", app: EVERY_APP, answer: "graph" },
        Player { name: "bot-3", app: EVERY_APP, answer: "action" },
        Player { name: "bot-4", app: EVERY_APP, answer: "graph" },
        Player { name: "bot-5", app: EVERY_APP, answer: "action" },
    ],
    front: Front::Balanced,
};

/// An operator drains it at each gateway; the others say themselves that they drain when they are told to end.
const DRAINED_BY_HAND: &str = "bot-1";
const KILLED: &str = "bot-3";
const STILL: &str = "bot-4";

/// Plays it; gives what does not hold.
pub(super) fn play(binaries: &Binaries, screen: &Screen, plan: &Plan) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("Three gateways behind a balancer, six instances: {}", plan.about)));
    let scene = Scene::start(binaries, &CAST)?;
    let mut stage = Stage { scene, began: instant(), logs: Vec::new(), cut: Vec::new() };
    stage.place(plan)?;
    stage.pass(QUIET)?;
    match plan.acts {
        Acts::Roll => stage.roll()?,
        Acts::Fail => stage.fail()?,
    }
    stage.pass(QUIET)?;
    let acted = stage.began.elapsed();
    let report = stage.end_load()?;

    let killed = (plan.acts == Acts::Fail).then_some(KILLED);
    let witness = journal::read(&stage.scene, killed)?;
    let sum = Sum::of(std::slice::from_ref(&report));
    let served = stage.served()?;
    for line in table(&sum, &witness, &served, acted) {
        say(&line);
    }
    let mut findings = judge(plan.acts, &sum, &witness, &served);
    findings.extend(stage.cut.iter().map(|what| (*what).clone()));
    findings.extend(problems(&report));
    findings.extend(witness.examples);
    if !findings.is_empty() {
        findings.extend(stage.complaints()?);
    }
    Ok(findings.into_iter().map(|text| format!("{}: {text}", plan.about)).collect())
}

/// The scene while calls are placed.
struct Stage {
    scene: Scene,
    began: Instant,
    /// What gateways had logged that have ended, by name.
    logs: Vec<(&'static str, String)>,
    /// Processes that did not end as they should.
    cut: Vec<String>,
}

impl Stage {
    /// Starts to place calls, until it is told that there are enough.
    fn place(&mut self, plan: &Plan) -> Result<(), String> {
        let balancer = self.scene.balancer.ok_or("there is no balancer")?;
        let mut command = self.scene.calling("load", EVERY_APP, balancer);
        command.args(["--calls", CALLS_MAX, "--rate", &plan.rate.to_string(), "--duration", plan.duration]);
        let mix = match plan.acts {
            Acts::Roll => "p2p=4,group=2,meeting=2,recording=1,pstn=1",
            // A recorded call is to be answered within 5 s. An instance that has accepted one and then stands still cannot.
            Acts::Fail => "p2p=4,group=3,meeting=2,pstn=1",
        };
        command.args(["--kind-mix", mix, "--participants", "2"]);
        command.args(self.scene.bots.iter().map(|bot| format!("--bot=http://{}", bot.address)));
        self.scene.processes.start_task(LOAD, &mut command)?;
        self.began = instant();
        Ok(())
    }

    fn end_load(&mut self) -> Result<Value, String> {
        self.scene.end_loads()?;
        let (_, said) = self.scene.processes.wait(LOAD, END_TIME_MAX)?;
        let report = said.lines().find_map(|line| serde_json::from_str(line).ok());
        report.ok_or_else(|| format!("the load reported nothing: {said}"))
    }

    fn tell(&self, what: &str) {
        say(&format!("  {:>5.1} s  {what}", self.began.elapsed().as_secs_f64()));
    }

    /// Lets the load go on for a while.
    fn pass(&mut self, time: Duration) -> Result<(), String> {
        let began = instant();
        while began.elapsed() < time {
            self.scene.processes.dead()?;
            pause(POLL);
        }
        Ok(())
    }

    /// Waits until every gateway is ready and knows every instance to be.
    fn settle(&mut self) -> Result<(), String> {
        let began = instant();
        while let Some(name) = self.scene.unready() {
            self.scene.processes.dead()?;
            if began.elapsed() > START_TIME_MAX {
                return Err(format!(
                    "{name} is not ready; its last lines:\n{}",
                    self.scene.processes.last_lines(name)
                ));
            }
            pause(POLL);
        }
        Ok(())
    }

    /// Waits until a bot has so many living calls: where there are none, nothing is proved.
    fn wait_for_calls(&mut self, name: &str, least: u64) -> Result<(), String> {
        let bot = self.scene.bots.iter().find(|bot| bot.name == name);
        let address = bot.ok_or_else(|| format!("there is no {name}"))?.address;
        let began = instant();
        while http::get_json(address, "/healthz")?.get("calls").and_then(Value::as_u64) < Some(least) {
            self.scene.processes.dead()?;
            if began.elapsed() > START_TIME_MAX {
                return Err(format!("{name} is given no calls"));
            }
            pause(POLL);
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), String> {
        let gateways: Vec<_> = self.scene.gateways.iter().map(|gateway| gateway.name).collect();
        for name in gateways {
            let told = instant();
            let (well, log) = self.end(name)?;
            let ended = told.elapsed();
            if !well || !log.contains("drain finished: nothing was cut off") {
                self.cut.push(format!("{name} did not end with 0, or cut something"));
            }
            self.logs.push((name, log));
            self.scene.start_gateway(name)?;
            self.settle()?;
            self.tell(&restarted(name, ended, told.elapsed()));
            // The balancer has to see it before it loses the next one.
            self.pass(BALANCER_TIME)?;
        }
        let bots: Vec<_> = self.scene.bots.iter().map(|bot| bot.name).collect();
        for name in bots {
            let told = instant();
            if name == DRAINED_BY_HAND {
                self.ask_gateways("drain", name, &["--wait"])?;
                self.tell(&format!("{name} is drained at each gateway: its last call has ended"));
            }
            let (well, _) = self.end(name)?;
            let ended = told.elapsed();
            if !well {
                self.cut.push(format!("{name} did not end with 0"));
            }
            self.scene.restart_bot(name)?;
            if name == DRAINED_BY_HAND {
                self.ask_gateways("resume", name, &[])?;
            }
            self.settle()?;
            self.tell(&restarted(name, ended, told.elapsed()));
        }
        let bots: Vec<_> = self.scene.bots.iter().map(|bot| bot.name).collect();
        bots.into_iter().try_for_each(|name| self.wait_for_calls(name, 1))
    }

    fn fail(&mut self) -> Result<(), String> {
        self.wait_for_calls(KILLED, ALIVE)?;
        self.scene.processes.kill(KILLED)?;
        self.tell(&format!("{KILLED} is killed"));
        self.pass(KILLED_TIME)?;
        self.scene.restart_bot(KILLED)?;
        self.settle()?;
        self.tell(&format!("{KILLED} is started again, and ready"));
        self.pass(QUIET)?;

        self.wait_for_calls(STILL, ALIVE)?;
        self.scene.processes.signal(STILL, "STOP")?;
        self.tell(&format!("{STILL} stands still"));
        self.pass(STILL_TIME)?;
        self.scene.processes.signal(STILL, "CONT")?;
        self.tell(&format!("{STILL} goes on"));
        self.settle()
    }

    /// Asks a process to end and waits for it; whether it ended with 0, and what it had logged.
    fn end(&mut self, name: &str) -> Result<(bool, String), String> {
        self.scene.processes.terminate(name)?;
        self.scene.processes.wait(name, END_TIME_MAX)
    }

    /// Says the same to every gateway, which share nothing, and waits until each has done it.
    fn ask_gateways(&mut self, verb: &str, name: &str, options: &[&str]) -> Result<(), String> {
        let mut tasks = Vec::new();
        for gateway in &self.scene.gateways {
            let task = format!("{verb} at {}", gateway.name);
            let mut command = self.scene.fleet(gateway, verb, name);
            self.scene.processes.start_task(&task, command.args(options))?;
            tasks.push(task);
        }
        for task in tasks {
            let (well, said) = self.scene.processes.wait(&task, END_TIME_MAX)?;
            if !well {
                return Err(format!("{task} failed: {said}"));
            }
        }
        Ok(())
    }

    /// The whole log of each gateway, through all its lives.
    fn logs(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut logs = Vec::new();
        for gateway in &self.scene.gateways {
            let before =
                self.logs.iter().filter(|(name, _)| *name == gateway.name).map(|(_, log)| log.as_str());
            let mut log: String = before.collect();
            log.push_str(&self.scene.processes.log_of(gateway.name)?);
            logs.push((gateway.name, log));
        }
        Ok(logs)
    }

    /// How many requests each gateway answered.
    fn served(&self) -> Result<Vec<usize>, String> {
        let count = |log: &String| log.matches("\"request finished\"").count();
        Ok(self.logs()?.iter().map(|(_, log)| count(log)).collect())
    }

    /// The first lines of each gateway that say that something is wrong.
    fn complaints(&self) -> Result<Vec<String>, String> {
        let is_complaint =
            |line: &&str| line.contains("\"level\":\"error\"") || line.contains("\"level\":\"warn\"");
        let logs = self.logs()?;
        let lines = logs.iter().flat_map(|(name, log)| {
            log.lines().filter(is_complaint).take(5).map(move |line| format!("{name} said: {line}"))
        });
        Ok(lines.collect())
    }
}

fn restarted(name: &str, ended: Duration, ready: Duration) -> String {
    let (ended, ready) = (ended.as_secs_f64(), ready.as_secs_f64());
    format!("{name} ended {ended:.1} s after it was told to, and its next life is ready after {ready:.1} s")
}

fn judge(acts: Acts, sum: &Sum, witness: &Witness, served: &[usize]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut must = |holds: bool, otherwise: String| {
        if !holds {
            findings.push(otherwise);
        }
    };
    must(sum.calls > 0, "no call was placed".to_owned());
    must(sum.other_outcomes == 0, format!("{} calls were not completed", sum.other_outcomes));
    must(sum.refused == 0, format!("{} notifications refused", sum.refused));
    must(sum.lost == 0, format!("{} notifications lost", sum.lost));
    must(sum.misrouted == Some(0), format!("{:?} notifications misrouted", sum.misrouted));
    must(sum.ended_early == Some(0), format!("{:?} calls ended early", sum.ended_early));
    must(sum.well, "the load reports that not all is well".to_owned());
    let calls = witness.calls;
    must(calls == sum.calls, format!("instances were given {calls} calls of {}", sum.calls));
    must(witness.misrouted == 0, format!("{} callbacks reached another life", witness.misrouted));
    must(witness.incomplete == 0, format!("{} calls have gaps in the journals", witness.incomplete));
    must(served.iter().all(|count| *count > 0), format!("the gateways served {served:?} requests"));
    let gone = sum.gone.join(", ");
    match acts {
        Acts::Roll => {
            let lives = witness.lives;
            must(
                lives == 2 * CAST.players.len(),
                format!("{lives} processes were notified: nothing was proved"),
            );
            must(sum.gone.len() == CAST.players.len(), format!("restarted were {gone} only"));
            // The gateways themselves acknowledge the legacy form, in which every call comes first.
            let (handled, acknowledged) = (witness.notifications + sum.calls, sum.acknowledged);
            must(handled == acknowledged, format!("{handled} notifications were handled of {acknowledged}"));
            must(sum.instance_gone == 0, format!("{} calls lost their instance", sum.instance_gone));
            must(sum.lost_with_instance == 0, format!("{} notifications lost", sum.lost_with_instance));
        }
        Acts::Fail => {
            must(sum.gone == [KILLED], format!("gone were {gone}, not {KILLED} alone"));
            must(sum.instance_gone > 0, format!("{KILLED} was killed without a call: nothing was proved"));
        }
    }
    findings
}

fn table(sum: &Sum, witness: &Witness, served: &[usize], acted: Duration) -> Vec<String> {
    let row = |name: &str, value: String| format!("  {name:<42} {value:>10}");
    let known = |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
    let mut lines = vec![
        row("calls were placed for", format!("{:.1} s", acted.as_secs_f64())),
        row("calls", sum.calls.to_string()),
        row("completed", sum.completed.to_string()),
        row("of an instance that was gone", sum.instance_gone.to_string()),
        row("ended early", known(sum.ended_early)),
        row("answered: half of them in", time(sum.p50_ms)),
        row("answered: 99 of 100 in", time(sum.p99_ms)),
        row("answered: all in", time(sum.max_ms)),
        row("notifications", sum.sent.to_string()),
        row("acknowledged", sum.acknowledged.to_string()),
        row("tried again by the platform", sum.retried.to_string()),
        row("refused", sum.refused.to_string()),
        row("lost", sum.lost.to_string()),
        row("lost with the instance", sum.lost_with_instance.to_string()),
        row("misrouted", known(sum.misrouted)),
        row("by the journals: processes", witness.lives.to_string()),
        row("by the journals: handled", witness.notifications.to_string()),
        row("by the journals: handled twice", witness.twice.to_string()),
        row("by the journals: to another life", witness.misrouted.to_string()),
        row("by the journals: calls with gaps", witness.incomplete.to_string()),
        row("calls given to two instances", sum.handled_twice.to_string()),
    ];
    for (count, number) in served.iter().zip(0..) {
        lines.push(row(&format!("requests through gateway-{number}"), count.to_string()));
    }
    lines
}

const LOAD: &str = "load";
/// More than are ever placed: the load is ended by hand.
const CALLS_MAX: &str = "100000";
/// Before, between and after what happens.
const QUIET: Duration = Duration::from_secs(1);
/// How many calls an instance has at least that is killed or stands still.
const ALIVE: u64 = 2;
const KILLED_TIME: Duration = Duration::from_secs(1);
/// Less than the gateways' patience.
const STILL_TIME: Duration = Duration::from_secs(10);
/// Two of its checks.
const BALANCER_TIME: Duration = Duration::from_millis(500);
/// More than all that is waited for one after the other: the platform's tries, a gateway's drain.
const END_TIME_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn sum() -> Sum {
        Sum {
            calls: 9,
            completed: 9,
            acknowledged: 54,
            ended_early: Some(0),
            misrouted: Some(0),
            well: true,
            gone: CAST.players.iter().map(|player| player.name.to_owned()).collect(),
            ..Sum::default()
        }
    }

    fn witness() -> Witness {
        Witness { calls: 9, lives: 12, notifications: 45, ..Witness::default() }
    }

    #[track_caller]
    fn check(acts: Acts, sum: &Sum, witness: &Witness, problem: &str) {
        assert_eq!(judge(acts, sum, witness, &[1, 1, 1]).join("; "), problem);
    }

    #[test]
    fn a_roll_costs_no_call_anything() {
        let roll = Acts::Roll;
        check(roll, &sum(), &witness(), "");
        check(roll, &Sum { lost: 1, ..sum() }, &witness(), "1 notifications lost");
        let lost = Witness { notifications: 44, ..witness() };
        check(roll, &sum(), &lost, "53 notifications were handled of 54");
        check(roll, &Sum { ended_early: Some(1), ..sum() }, &witness(), "Some(1) calls ended early");
        check(roll, &Sum { ended_early: None, ..sum() }, &witness(), "None calls ended early");
        check(roll, &Sum { misrouted: None, ..sum() }, &witness(), "None notifications misrouted");
        check(roll, &Sum { instance_gone: 1, ..sum() }, &witness(), "1 calls lost their instance");
        let gone = vec!["bot-0".to_owned()];
        check(roll, &Sum { gone, ..sum() }, &witness(), "restarted were bot-0 only");
        let gaps = Witness { incomplete: 1, ..witness() };
        check(roll, &sum(), &gaps, "1 calls have gaps in the journals");
        let astray = Witness { misrouted: 1, ..witness() };
        check(roll, &sum(), &astray, "1 callbacks reached another life");
        let few = Witness { calls: 8, lives: 11, ..witness() };
        let expected = "instances were given 8 calls of 9; 11 processes were notified: nothing was proved";
        check(roll, &sum(), &few, expected);
        check(roll, &sum(), &Witness { twice: 3, ..witness() }, "");
        assert_eq!(judge(roll, &sum(), &witness(), &[1, 0, 1]), ["the gateways served [1, 0, 1] requests"]);
    }

    #[test]
    fn only_the_killed_may_lose_calls_and_one_that_stood_still_is_not_gone() {
        let killed = Sum { instance_gone: 2, completed: 7, gone: vec![KILLED.to_owned()], ..sum() };
        check(Acts::Fail, &killed, &witness(), "");
        let unharmed = Sum { gone: vec![KILLED.to_owned()], ..sum() };
        let nothing = format!("{KILLED} was killed without a call: nothing was proved");
        check(Acts::Fail, &unharmed, &witness(), &nothing);
        let both = Sum { gone: vec![KILLED.to_owned(), STILL.to_owned()], instance_gone: 2, ..sum() };
        check(Acts::Fail, &both, &witness(), "gone were bot-3, bot-4, not bot-3 alone");
    }
}
