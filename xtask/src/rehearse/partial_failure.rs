//! Partial failure: one gateway, four instances, and everything half broken. One instance hangs on calls
//! while its probe is fine, one is slow, one dies under a storm of callbacks, the DNS server is away, and
//! descriptors are scarce. The healthy instance must not suffer.

mod plan;
mod storm;
mod verdict;

use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) use self::plan::{Plan, QUICK, WHOLE};
use self::{
    plan::{DEAD, GREY, LAYOUT, SLOW},
    storm::StormTargets,
    verdict::{Figures, judge, table},
};
use super::{
    journal,
    layout::EVERY_APP,
    load_report::problems,
    metrics::Metrics,
    testbed::{DNS, Testbed, instance},
};
use crate::{
    console::say,
    support::{binaries::Binaries, http, instant, pause, process::START_TIME_MAX, screen::Screen},
};

/// Runs the scene, and returns its violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen, plan: &Plan) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("Partial failure of four instances behind one gateway: {}", plan.about)));
    let testbed = Testbed::start(binaries, &LAYOUT)?;
    let mut scene = Scene { testbed, started: instant() };
    let calm = scene.place_calmly(plan)?;
    scene.break_instances()?;
    let figures = scene.fail(plan, calm)?;
    for line in table(&figures) {
        say(&line);
    }
    let mut violations = judge(plan, &figures);
    if !violations.is_empty() {
        violations.extend(problems(&figures.failing));
        violations.extend(figures.journals.examples);
        violations.extend(scene.testbed.first_warnings()?);
    }
    Ok(violations.into_iter().map(|text| format!("partial failure: {text}")).collect())
}

struct Scene {
    testbed: Testbed,
    /// The start of the current load.
    started: Instant,
}

impl Scene {
    /// Places calls while all is well, and returns the report of the load.
    fn place_calmly(&mut self, plan: &Plan) -> Result<Value, String> {
        self.start_load(plan)?;
        self.wait(plan.calm)?;
        self.end_load()
    }

    /// Restarts two instances in their bad form, between two loads.
    fn break_instances(&mut self) -> Result<(), String> {
        for (name, options) in [(GREY, ["--fail", "hang"]), (SLOW, ["--delay", "1300ms"])] {
            self.testbed.processes.kill(name)?;
            self.testbed.restart_bot_with(name, &options)?;
        }
        // Three missed probes: the gateway must have noticed both ends before it can notice the starts.
        self.wait(PROBES)?;
        self.testbed.wait_until_ready()
    }

    /// Places calls while one failure follows the other.
    fn fail(&mut self, plan: &Plan, calm: Value) -> Result<Figures, String> {
        let before = self.metrics()?;
        self.start_load(plan)?;
        self.show("one instance hangs on calls, and one is slow");
        self.wait(plan.settling)?;
        let settled = self.metrics()?;

        self.testbed.processes.kill(DNS)?;
        self.show("the DNS server is away");
        self.wait(plan.dns_away)?;
        self.testbed.start_dns()?;
        self.show("the DNS server is back");
        let ejected = self.metrics()?;

        let dead = self.wait_for_calls(DEAD, CALLS_MIN)?;
        let targets = StormTargets::of_bot(&self.testbed, dead)?;
        self.testbed.processes.kill(DEAD)?;
        let storm = targets.start(SENDERS, plan.storm);
        self.show(&format!("{DEAD} is dead, and {SENDERS} senders repeat its callbacks each second"));
        self.wait(plan.storm)?;
        let storm = storm.statuses()?;
        self.testbed.restart_bot(DEAD)?;
        self.show(&format!("{DEAD} has restarted"));
        self.wait(QUIET)?;
        let (failing, lasted) = (self.end_load()?, self.started.elapsed());

        let after = self.metrics()?;
        let journals = journal::read(&self.testbed, Some(DEAD))?;
        let gateway = self.testbed.gateways.first().ok_or("there is no gateway")?;
        let log = self.testbed.processes.log_of(gateway.name)?;
        Ok(Figures { calm, failing, storm, before, settled, ejected, after, journals, lasted, log })
    }

    /// Starts to place calls, until `end_load`.
    fn start_load(&mut self, plan: &Plan) -> Result<(), String> {
        let gateway = self.testbed.gateways.first().ok_or("there is no gateway")?.public;
        let mut command = self.testbed.calling("load", EVERY_APP, gateway);
        command.args(["--calls", CALLS_MAX, "--rate", &plan.rate.to_string(), "--duration", "2s"]);
        command.args(["--kind-mix", "p2p=4,group=2,meeting=2,recording=2", "--participants", "2"]);
        let bots = self.testbed.bots.iter();
        command.args(bots.map(|bot| format!("--bot={}=http://{}", instance(bot.name), bot.address)));
        self.testbed.processes.start_task(LOAD, &mut command)?;
        self.started = instant();
        Ok(())
    }

    fn end_load(&mut self) -> Result<Value, String> {
        self.testbed.end_loads()?;
        let (_, output) = self.testbed.processes.wait(LOAD, END_TIME_MAX)?;
        let report = output.lines().find_map(|line| serde_json::from_str(line).ok());
        report.ok_or_else(|| format!("the load printed no report: {output}"))
    }

    fn metrics(&self) -> Result<Metrics, String> {
        Metrics::read(self.testbed.gateways.first().ok_or("there is no gateway")?.admin)
    }

    /// Prints an event with its time.
    fn show(&self, event: &str) {
        say(&format!("  {:>5.1} s  {event}", self.started.elapsed().as_secs_f64()));
    }

    /// Lets the load continue for a while.
    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let started = instant();
        while started.elapsed() < time {
            self.testbed.processes.check_running()?;
            pause(POLL);
        }
        Ok(())
    }

    /// Waits until a bot has at least so many calls, and returns its address.
    fn wait_for_calls(&mut self, name: &str, least: u64) -> Result<std::net::SocketAddr, String> {
        let bot = self.testbed.bots.iter().find(|bot| bot.name == name);
        let address = bot.ok_or_else(|| format!("there is no bot {name}"))?.address;
        let started = instant();
        while http::get_json(address, "/healthz")?.get("calls").and_then(Value::as_u64) < Some(least) {
            self.testbed.processes.check_running()?;
            if started.elapsed() > START_TIME_MAX {
                return Err(format!("{name} receives no calls"));
            }
            pause(POLL);
        }
        Ok(address)
    }
}

const LOAD: &str = "load";
/// More calls than are ever placed: `end_load` ends the load.
const CALLS_MAX: &str = "100000";
/// The fewest calls of an instance before it is killed.
const CALLS_MIN: u64 = 3;
/// Together with the load they need more requests in flight than the gateway handles, if each waits as long
/// as the gateway is patient.
const SENDERS: usize = 220;
const POLL: Duration = Duration::from_millis(20);
const PROBES: Duration = Duration::from_millis(2_500);
/// The time after the last event.
const QUIET: Duration = Duration::from_secs(1);
/// More than the sum of all waits of the platform.
const END_TIME_MAX: Duration = Duration::from_secs(120);
