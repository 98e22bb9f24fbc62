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
    testbed::{DNS, Testbed, instance, show_event},
};
use crate::{
    console::say,
    support::{binaries::Binaries, instant, screen::Screen},
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
        self.testbed.run_for(plan.calm)?;
        self.testbed.end_load(LOAD)
    }

    /// Restarts two instances in their bad form, between two loads.
    fn break_instances(&mut self) -> Result<(), String> {
        for (name, options) in [(GREY, ["--fail", "hang"]), (SLOW, ["--delay", "1300ms"])] {
            self.testbed.processes.kill(name)?;
            self.testbed.restart_bot_with(name, &options)?;
        }
        // Three missed probes: the gateway must have noticed both ends before it can notice the starts.
        self.testbed.run_for(PROBES)?;
        self.testbed.wait_until_ready()
    }

    /// Places calls while one failure follows the other.
    fn fail(&mut self, plan: &Plan, calm: Value) -> Result<Figures, String> {
        let before = self.metrics()?;
        self.start_load(plan)?;
        show_event(self.started, "one instance hangs on calls, and one is slow");
        self.testbed.run_for(plan.settling)?;
        let settled = self.metrics()?;

        self.testbed.processes.kill(DNS)?;
        show_event(self.started, "the DNS server is away");
        self.testbed.run_for(plan.dns_away)?;
        self.testbed.start_dns()?;
        show_event(self.started, "the DNS server is back");
        let ejected = self.metrics()?;

        let dead = self.testbed.wait_for_calls(DEAD, CALLS_MIN)?;
        let targets = StormTargets::of_bot(&self.testbed, dead)?;
        self.testbed.processes.kill(DEAD)?;
        let storm = targets.start(SENDERS, plan.storm);
        show_event(
            self.started,
            &format!("{DEAD} is dead, and {SENDERS} senders repeat its callbacks each second"),
        );
        self.testbed.run_for(plan.storm)?;
        let storm = storm.statuses()?;
        self.testbed.restart_bot(DEAD)?;
        show_event(self.started, &format!("{DEAD} has restarted"));
        self.testbed.run_for(QUIET)?;
        let (failing, lasted) = (self.testbed.end_load(LOAD)?, self.started.elapsed());

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

    fn metrics(&self) -> Result<Metrics, String> {
        Metrics::read(self.testbed.gateways.first().ok_or("there is no gateway")?.admin)
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
const PROBES: Duration = Duration::from_millis(2_500);
/// The time after the last event.
const QUIET: Duration = Duration::from_secs(1);
