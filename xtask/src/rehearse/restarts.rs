//! A fleet that restarts and fails under load: three gateways behind a balancer, and six instances.

mod scenario;
mod verdict;

use std::time::{Duration, Instant};

pub(super) use self::scenario::{QUICK, Scenario, WHOLE};
use self::{
    scenario::{DRAINED_BY_HAND, FleetEvent, KILLED, LAYOUT, SUSPENDED},
    verdict::{judge, table},
};
use super::{
    journal::{self},
    layout::EVERY_APP,
    load_report::{LoadSummary, problems},
    testbed::{END_TIME_MAX, Testbed, first_warnings, show_event},
};
use crate::{
    console::say,
    support::{binaries::Binaries, instant, screen::Screen},
};

/// Runs one scenario, and returns its violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen, scenario: &Scenario) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("Three gateways behind a balancer, six instances: {}", scenario.about)));
    let testbed = Testbed::start(binaries, &LAYOUT)?;
    let mut run = ScenarioRun { testbed, started: instant(), ended_logs: Vec::new(), bad_exits: Vec::new() };
    run.start_load(scenario)?;
    run.testbed.run_for(QUIET)?;
    match scenario.event {
        FleetEvent::RollingRestart => run.restart_all()?,
        FleetEvent::Failures => run.fail_two()?,
    }
    run.testbed.run_for(QUIET)?;
    let placing = run.started.elapsed();
    let report = run.testbed.end_load(LOAD)?;

    let killed = (scenario.event == FleetEvent::Failures).then_some(KILLED);
    let journals = journal::read(&run.testbed, killed)?;
    let load = LoadSummary::of(std::slice::from_ref(&report));
    let requests = run.requests()?;
    for line in table(&load, &journals, &requests, placing) {
        say(&line);
    }
    let mut violations = judge(scenario.event, &load, &journals, &requests);
    violations.append(&mut run.bad_exits);
    violations.extend(problems(&report));
    violations.extend(journals.examples);
    if !violations.is_empty() {
        let logs = run.logs()?;
        violations.extend(logs.iter().flat_map(|(name, log)| first_warnings(name, log)));
    }
    Ok(violations.into_iter().map(|text| format!("{}: {text}", scenario.about)).collect())
}

/// A testbed while the platform places calls.
struct ScenarioRun {
    testbed: Testbed,
    /// The start of the load.
    started: Instant,
    /// The logs of gateways that have ended, by name.
    ended_logs: Vec<(&'static str, String)>,
    /// Processes that did not exit as they should.
    bad_exits: Vec<String>,
}

impl ScenarioRun {
    /// Starts to place calls. The load continues until `end_load`.
    fn start_load(&mut self, scenario: &Scenario) -> Result<(), String> {
        let balancer = self.testbed.balancer.ok_or("there is no balancer")?;
        let mut command = self.testbed.calling("load", EVERY_APP, balancer);
        let rate = scenario.rate.to_string();
        command.args(["--calls", CALLS_MAX, "--rate", &rate, "--duration", scenario.duration]);
        let mix = match scenario.event {
            FleetEvent::RollingRestart => "p2p=4,group=2,meeting=2,recording=1,pstn=1",
            // No recorded calls: they must be answered within 5 s, and an instance that is suspended after it
            // has accepted one cannot do that.
            FleetEvent::Failures => "p2p=4,group=3,meeting=2,pstn=1",
        };
        command.args(["--kind-mix", mix, "--participants", "2"]);
        command.args(self.testbed.bots.iter().map(|bot| format!("--bot=http://{}", bot.address)));
        self.testbed.processes.start_task(LOAD, &mut command)?;
        self.started = instant();
        Ok(())
    }

    /// Restarts every gateway, then every instance, one after the other.
    fn restart_all(&mut self) -> Result<(), String> {
        let gateways: Vec<_> = self.testbed.gateways.iter().map(|gateway| gateway.name).collect();
        for name in gateways {
            self.restart_gateway(name)?;
        }
        let bots: Vec<_> = self.testbed.bots.iter().map(|bot| bot.name).collect();
        for name in &bots {
            self.restart_instance(name)?;
        }
        bots.into_iter().try_for_each(|name| self.testbed.wait_for_calls(name, 1).map(|_| ()))
    }

    fn restart_gateway(&mut self, name: &'static str) -> Result<(), String> {
        let asked = instant();
        let (succeeded, log) = self.terminate(name)?;
        let ended = asked.elapsed();
        if !succeeded || !log.contains("nothing was cut") {
            self.bad_exits.push(format!("{name} did not exit with 0, or cut a request"));
        }
        self.ended_logs.push((name, log));
        self.testbed.start_gateway(name)?;
        self.testbed.wait_until_ready()?;
        show_event(self.started, &restarted(name, ended, asked.elapsed()));
        // The balancer must notice this gateway before the next one leaves.
        self.testbed.run_for(BALANCER_TIME)
    }

    fn restart_instance(&mut self, name: &str) -> Result<(), String> {
        let asked = instant();
        if name == DRAINED_BY_HAND {
            self.ask_gateways("drain", name, &["--wait"])?;
            show_event(self.started, &format!("{name} is drained at each gateway: its last call has ended"));
        }
        let (succeeded, _) = self.terminate(name)?;
        let ended = asked.elapsed();
        if !succeeded {
            self.bad_exits.push(format!("{name} did not exit with 0"));
        }
        self.testbed.restart_bot(name)?;
        if name == DRAINED_BY_HAND {
            self.ask_gateways("resume", name, &[])?;
        }
        self.testbed.wait_until_ready()?;
        show_event(self.started, &restarted(name, ended, asked.elapsed()));
        Ok(())
    }

    /// Kills one instance, and suspends another one for a while.
    fn fail_two(&mut self) -> Result<(), String> {
        self.testbed.wait_for_calls(KILLED, CALLS_MIN)?;
        self.testbed.processes.kill(KILLED)?;
        show_event(self.started, &format!("{KILLED} is killed"));
        self.testbed.run_for(KILLED_TIME)?;
        self.testbed.restart_bot(KILLED)?;
        self.testbed.wait_until_ready()?;
        show_event(self.started, &format!("{KILLED} has restarted and is ready"));
        self.testbed.run_for(QUIET)?;

        self.testbed.wait_for_calls(SUSPENDED, CALLS_MIN)?;
        self.testbed.processes.signal(SUSPENDED, "STOP")?;
        show_event(self.started, &format!("{SUSPENDED} is suspended"));
        self.testbed.run_for(SUSPENDED_TIME)?;
        self.testbed.processes.signal(SUSPENDED, "CONT")?;
        show_event(self.started, &format!("{SUSPENDED} continues"));
        self.testbed.wait_until_ready()
    }

    /// Sends SIGTERM to a process and waits for its end. Returns whether it exited with 0, and its log.
    fn terminate(&mut self, name: &str) -> Result<(bool, String), String> {
        self.testbed.processes.terminate(name)?;
        self.testbed.processes.wait(name, END_TIME_MAX)
    }

    /// Runs a fleet command at every gateway, since gateways share no state, and waits until each has
    /// finished.
    fn ask_gateways(&mut self, verb: &str, name: &str, options: &[&str]) -> Result<(), String> {
        let mut tasks = Vec::new();
        for gateway in &self.testbed.gateways {
            let task = format!("{verb} at {}", gateway.name);
            let mut command = self.testbed.fleet(gateway, verb, name);
            self.testbed.processes.start_task(&task, command.args(options))?;
            tasks.push(task);
        }
        for task in tasks {
            let (succeeded, output) = self.testbed.processes.wait(&task, END_TIME_MAX)?;
            if !succeeded {
                return Err(format!("{task} failed: {output}"));
            }
        }
        Ok(())
    }

    /// The log of each gateway, over all its incarnations.
    fn logs(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut logs = Vec::new();
        for gateway in &self.testbed.gateways {
            let ended = self.ended_logs.iter().filter(|(name, _)| *name == gateway.name);
            let mut log: String = ended.map(|(_, log)| log.as_str()).collect();
            log.push_str(&self.testbed.processes.log_of(gateway.name)?);
            logs.push((gateway.name, log));
        }
        Ok(logs)
    }

    /// The number of requests that each gateway has handled. The line of a request is the only one with an
    /// outcome.
    fn requests(&self) -> Result<Vec<usize>, String> {
        Ok(self.logs()?.iter().map(|(_, log)| log.matches("\"outcome\":\"").count()).collect())
    }
}

fn restarted(name: &str, ended: Duration, ready: Duration) -> String {
    let (ended, ready) = (ended.as_secs_f64(), ready.as_secs_f64());
    format!(
        "{name} ended {ended:.1} s after the request, and its next incarnation is ready after {ready:.1} s"
    )
}

const LOAD: &str = "load";
/// More calls than are ever placed: `end_load` ends the load.
const CALLS_MAX: &str = "100000";
/// The time before, between and after the events.
const QUIET: Duration = Duration::from_secs(1);
/// The fewest calls of an instance before it is killed or suspended.
const CALLS_MIN: u64 = 2;
const KILLED_TIME: Duration = Duration::from_secs(1);
/// Less than the gateways' patience.
const SUSPENDED_TIME: Duration = Duration::from_secs(10);
/// Two health checks of the balancer.
const BALANCER_TIME: Duration = Duration::from_millis(500);
