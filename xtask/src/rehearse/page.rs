//! The operators' page in a headless Chromium, while calls are placed: the time until it shows a change, the
//! growth of its memory, and its errors.

mod open_page;
mod verdict;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;

pub(super) use self::verdict::{PagePlan, SHORT, WHOLE};
use self::{
    open_page::OpenPage,
    verdict::{Act, HeapSample, ShownChange, judge, table, to_mb},
};
use super::{
    layout::{App, BotSettings, EVERY_APP, GraphAccess, Ingress, Layout},
    load_report::LoadSummary,
    metrics::Metrics,
    testbed::{Testbed, show_event},
};
use crate::{
    console::say,
    support::{binaries::Binaries, http, instant, pause, screen::Screen, unix_ms},
};

/// Plays the scene, and returns its violations.
pub(super) fn run(binaries: &Binaries, screen: &Screen, plan: &PagePlan) -> Result<Vec<String>, String> {
    say(&screen.title(&format!("The operators' page in Chromium: {}", plan.about)));
    let testbed = Testbed::start(binaries, &LAYOUT)?;
    let admin = testbed.gateways.first().ok_or("there is no gateway")?.admin;
    let Some(page) = OpenPage::open(&format!("http://{admin}/"))? else {
        say("  skipped: Chromium is not installed; run ./install-packages");
        return Ok(Vec::new());
    };
    let mut run =
        PageRun { testbed, page, admin, started: instant(), changes: Vec::new(), heaps: Vec::new() };
    run.start_load(plan)?;
    run.testbed.wait_for_calls(KILLED, 1)?;
    run.play(plan)?;

    let problems = run.page.problems();
    run.page.close()?;
    let reports: Result<Vec<Value>, String> = LOADS.iter().map(|load| run.testbed.end_load(load)).collect();
    let load = LoadSummary::of(&reports?);
    for line in table(&run.changes, &run.heaps, &problems, &load) {
        say(&line);
    }
    let violations = judge(plan, &run.changes, &run.heaps, &problems, &load);
    Ok(violations.into_iter().map(|text| format!("page: {text}")).collect())
}

/// The page of one gateway, while the platform places calls.
struct PageRun {
    testbed: Testbed,
    page: OpenPage,
    /// The admin listener of the gateway whose page is open.
    admin: SocketAddr,
    /// The time at which the page was opened.
    started: Instant,
    changes: Vec<ShownChange>,
    heaps: Vec<HeapSample>,
}

impl PageRun {
    /// Starts to place half of the calls through each gateway.
    fn start_load(&mut self, plan: &PagePlan) -> Result<(), String> {
        let rate = (plan.rate / 2).to_string();
        for (load, number) in LOADS.iter().zip(0..) {
            let gateway = self.testbed.gateways.get(number).ok_or("no gateway")?.public;
            let mut command = self.testbed.calling("load", EVERY_APP, gateway);
            command.args(["--calls", CALLS_MAX, "--rate", &rate, "--duration", plan.duration]);
            // No recorded calls, as in the scene of failures: their callers wait 5 s only.
            command.args(["--kind-mix", "p2p=4,group=3,meeting=2,pstn=1", "--participants", "2"]);
            command.args(self.testbed.bots.iter().map(|bot| format!("--bot=http://{}", bot.address)));
            self.testbed.processes.start_task(load, &mut command)?;
        }
        Ok(())
    }

    /// Makes the changes of one round after the other, and measures the memory each minute.
    fn play(&mut self, plan: &PagePlan) -> Result<(), String> {
        for round in 0..plan.rounds {
            self.wait_until(plan.round_length * round)?;
            for act in Act::ALL {
                self.make(act)?;
            }
        }
        self.wait_until(plan.round_length * plan.rounds)
    }

    /// Lets the processes run until so long after the start.
    fn wait_until(&mut self, due: Duration) -> Result<(), String> {
        while self.started.elapsed() < due {
            self.measure_heap()?;
            self.testbed.run_for(PAUSE)?;
        }
        self.measure_heap()
    }

    /// Measures the memory of the page, if the last measurement is a minute old.
    fn measure_heap(&mut self) -> Result<(), String> {
        let minutes = self.heaps.len();
        let due = HEAP_EVERY * u32::try_from(minutes).unwrap_or(u32::MAX);
        if self.started.elapsed() >= due {
            let bytes = self.page.heap_bytes()?;
            self.heaps.push(HeapSample { minutes, bytes });
            show_event(self.started, &format!("the page has {:.2} MB", to_mb(bytes)));
        }
        Ok(())
    }

    /// Makes a change and measures the time until the page shows it.
    fn make(&mut self, act: Act) -> Result<(), String> {
        let generation = self.generation()?;
        let condition = match act {
            Act::Drain => row_has(DRAINED, "state === 'draining'"),
            Act::Resume => row_has(DRAINED, "state === 'ready'"),
            Act::Kill => row_has(KILLED, "state !== 'ready'"),
            Act::Restart => row_has(KILLED, "state === 'ready'"),
            Act::RotateKey => KEYS_SHOWN.replace("GENERATION", &generation.to_string()),
        };
        self.page.watch(&condition)?;
        let started_ms = unix_ms();
        match act {
            Act::Drain => self.change_fleet("drain")?,
            Act::Resume => self.change_fleet("resume")?,
            Act::Kill => self.testbed.processes.kill(KILLED)?,
            Act::Restart => self.testbed.restart_bot(KILLED)?,
            Act::RotateKey => self.testbed.rotate_key(TRUST)?,
        }
        let made_ms = unix_ms();
        let known_ms = match act {
            // The gateway has responded.
            Act::Drain | Act::Resume => made_ms,
            Act::Kill => self.until_known(|run| Ok(run.state_of(KILLED)? != "ready"))?,
            Act::Restart => self.until_known(|run| Ok(run.state_of(KILLED)? == "ready"))?,
            Act::RotateKey => self.until_known(|run| Ok(run.generation()? > generation))?,
        };
        let shown_ms = self.page.shown_ms()?;
        let from = if matches!(act, Act::Kill | Act::Drain | Act::Resume) { started_ms } else { made_ms };
        let change = ShownChange::new(act, from, known_ms, shown_ms);
        show_event(self.started, &change.to_string());
        self.changes.push(change);
        Ok(())
    }

    fn change_fleet(&self, verb: &str) -> Result<(), String> {
        let path = format!("/fleet/{DRAINED}/{verb}");
        match http::exchange(self.admin, "POST", &path, "", "", KNOWN_TIME_MAX)? {
            (200, _) => Ok(()),
            (status, body) => Err(format!("the gateway does not {verb} {DRAINED}: {status} {body}")),
        }
    }

    /// Asks the gateway until it knows of a change, and returns the time, in Unix milliseconds.
    fn until_known(&mut self, knows: impl Fn(&Self) -> Result<bool, String>) -> Result<u64, String> {
        let started = instant();
        loop {
            // On a busy machine a single request may fail.
            let known = knows(self);
            if known == Ok(true) {
                return Ok(unix_ms());
            }
            self.testbed.processes.check_running()?;
            if started.elapsed() > KNOWN_TIME_MAX {
                return Err(known.err().unwrap_or_else(|| "the gateway does not notice a change".to_owned()));
            }
            pause(POLL);
        }
    }

    /// The state of an instance in the gateway's list.
    fn state_of(&self, name: &str) -> Result<String, String> {
        let fleet = http::get_json(self.admin, "/fleet")?;
        let instance = fleet
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one.get("name").is_some_and(|found| found == name));
        let state = instance.and_then(|instance| instance.get("state")).and_then(Value::as_str);
        state.map(str::to_owned).ok_or_else(|| format!("/fleet has no {name}"))
    }

    /// The number of key sets that the gateway has had of the trust.
    fn generation(&self) -> Result<f64, String> {
        let trust = format!("trust=\"{TRUST}\"");
        Ok(Metrics::read(self.admin)?.sum("switchboard_key_generation", &[&trust]))
    }
}

/// A condition in the page: the row of an instance has such a state.
fn row_has(name: &str, condition: &str) -> String {
    ROW_HAS.replace("NAME", name).replace("CONDITION", condition)
}

const ROW_HAS: &str = "[...document.querySelectorAll('#instances .row')].some(row => {
    const state = row.querySelector('.state').textContent;
    return row.querySelector('.name').textContent === 'NAME' && CONDITION;
})";
const KEYS_SHOWN: &str = "[...document.querySelectorAll('#trusts .row')].some(row =>
    row.querySelector('.name').textContent === 'skype'
        && Number(row.querySelector('.generation').textContent) > GENERATION)";

/// Both gateways have new calls, and callbacks of calls that the other one placed.
const LAYOUT: Layout = Layout {
    platform: &["--post-timeout", "20s"],
    apps: &[App { id: EVERY_APP, graph: GraphAccess::Valid }],
    bots: &[
        BotSettings { name: "bot-0", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-1", app: EVERY_APP, answer: "action" },
        BotSettings { name: "bot-2", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-3", app: EVERY_APP, answer: "action" },
        BotSettings { name: "bot-4", app: EVERY_APP, answer: "graph" },
        BotSettings { name: "bot-5", app: EVERY_APP, answer: "action" },
    ],
    ingress: Ingress::Crossed,
};
const LOADS: [&str; 2] = ["load-0", "load-1"];
/// More calls than are ever placed: the scene ends the load.
const CALLS_MAX: &str = "100000";
const DRAINED: &str = "bot-1";
const KILLED: &str = "bot-3";
/// The trust whose issuer rotates its key.
const TRUST: &str = "skype";
const HEAP_EVERY: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);
/// The interval at which the gateway is asked whether it knows of a change.
const POLL: Duration = Duration::from_millis(20);
const KNOWN_TIME_MAX: Duration = Duration::from_secs(60);
