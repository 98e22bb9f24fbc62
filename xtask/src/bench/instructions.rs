//! Counts the instructions of a gateway per request.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::{
    callgrind::Callgrind,
    client::Client,
    gateway::{self, Settings},
    groups::{GROUPS, by_group},
    machine,
    origin::Origin,
    page::Page,
    traffic::{Mode, Traffic},
};
use crate::support::{instant, pause, process::Processes};

/// The instructions per request of one row, in user space and in all threads.
#[derive(Debug)]
pub(super) struct Count {
    /// The name in tables, in JSON and in the budget.
    pub(super) name: &'static str,
    pub(super) instructions: u64,
    /// The part of each group, in the order of `GROUPS`.
    pub(super) groups: Vec<u64>,
}

/// The counts of one run.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) rows: Vec<Count>,
    /// The instructions of a second in which a page is open and no request comes, beyond those without it.
    pub(super) page_per_second: u64,
}

/// Runs the gateway under callgrind, with one worker, and counts each mode, then callbacks with a page open.
///
/// The connections are kept alive. The instructions without requests are counted first, and subtracted in
/// proportion to the time, so that a slow machine does not add to the counts.
///
/// With a page open, the gateway builds a frame each second, whatever the number of requests. Under callgrind
/// it handles some hundred requests in a second, so an undivided frame would count for far fewer requests
/// than in reality. So the work of a frame without requests is measured by itself, reported, and subtracted
/// for each frame that the page reads. The rest stays: the instructions in the request, and the part of a
/// frame that only requests cause, the calls that changed.
pub(super) fn count(binary: &Path) -> Result<Counts, String> {
    let mut processes = Processes::new("bench")?;
    let origin = Origin::start()?;
    let settings = Settings { issuer: origin.address, bot: origin.address, instances: INSTANCES, tls: false };
    let settings = gateway::write_settings(processes.folder(), GATEWAY, settings)?;
    let traffic = Traffic::new(&gateway::callback_path(binary, &settings)?);
    let mut command = Callgrind::command(processes.folder(), machine::first_processor()?, binary);
    let gateway = gateway::start(&mut processes, GATEWAY, &mut command, &settings)?;
    let callgrind = Callgrind::of(&processes, GATEWAY)?;
    let client = Client::connect(gateway.public, CONNECTIONS)?;
    let mut counter = Counter { callgrind, client, traffic };

    counter.callgrind.start_counting()?;
    for mode in MODES {
        counter.client.send(&mut counter.traffic, mode, WARM_UP)?;
    }
    let idle = counter.idle_per_second(IDLE)?;
    let mut rows = Vec::new();
    for mode in MODES {
        rows.push(counter.count((mode.name(), mode, REQUESTS), idle, None)?);
        processes.check_running()?;
    }
    let page = Page::open(gateway.admin)?;
    let page_per_second = counter.idle_per_second(IDLE_WITH_PAGE)? - idle;
    let frames = Frames { page: &page, instructions: page_per_second };
    let row = (CALLBACK_WITH_PAGE, Mode::Callback, REQUESTS_WITH_PAGE);
    rows.push(counter.count(row, idle, Some(&frames))?);
    processes.check_running()?;
    Ok(Counts { rows, page_per_second: whole(page_per_second) })
}

/// The frames of an open page.
struct Frames<'p> {
    page: &'p Page,
    /// The instructions of a frame without requests. There is one each second.
    instructions: f64,
}

/// The gateway under callgrind, and its client.
struct Counter {
    callgrind: Callgrind,
    client: Client,
    traffic: Traffic,
}

impl Counter {
    /// Counts some requests. `idle` is the number of instructions in a second without requests and without a
    /// page.
    fn count(
        &mut self,
        (name, mode, requests): (&'static str, Mode, usize),
        idle: f64,
        frames: Option<&Frames<'_>>,
    ) -> Result<Count, String> {
        let Self { callgrind, client, traffic } = self;
        client.send(traffic, mode, WARM_UP)?;
        callgrind.take()?;
        let overviews = || frames.map_or(0, |frames| frames.page.overviews());
        let (started, overviews_before) = (instant(), overviews());
        client.send(traffic, mode, requests)?;
        // The thread of the log writes its last lines.
        pause(SETTLE);
        let profile = callgrind.take()?;
        let mut idle = idle * started.elapsed().as_secs_f64();
        if let Some(frames) = frames {
            // With requests each frame has an overview.
            let seen = overviews() - overviews_before;
            if seen == 0 {
                return Err("the page got no frame with the requests".to_owned());
            }
            idle += number(seen) * frames.instructions;
        }
        let per_request = |instructions: f64| whole(instructions / number(requests));
        let groups = by_group(&profile);
        Ok(Count {
            name,
            instructions: per_request(profile.total_instructions() - idle),
            groups: GROUPS
                .iter()
                .map(|group| per_request(groups.get(group).copied().unwrap_or(0.0)))
                .collect(),
        })
    }

    /// The instructions of the gateway in a second without requests, measured for `time`.
    fn idle_per_second(&mut self, time: Duration) -> Result<f64, String> {
        pause(SETTLE);
        self.callgrind.take()?;
        let started = instant();
        pause(time);
        let profile = self.callgrind.take()?;
        Ok(profile.total_instructions() / started.elapsed().as_secs_f64())
    }
}

/// The table of the counts, a column for each row of the budget.
pub(super) fn table(counts: &Counts) -> Vec<String> {
    let Counts { rows, page_per_second } = counts;
    let row = |name: &str, values: &mut dyn Iterator<Item = String>| {
        values.fold(format!("{name:<30}"), |line, value| format!("{line}{value:>14}"))
    };
    let mut lines =
        vec![row("instructions per request", &mut rows.iter().map(|count| count.name.to_owned()))];
    for (index, group) in GROUPS.iter().enumerate() {
        let values = rows.iter().map(|count| count.groups.get(index).copied().unwrap_or(0).to_string());
        lines.push(row(group, &mut { values }));
    }
    lines.push(row("in all", &mut rows.iter().map(|count| count.instructions.to_string())));
    lines.push(format!(
        "an open page: {page_per_second} more in each second, whatever the number of requests"
    ));
    lines
}

/// The counts as JSON.
pub(super) fn json(environment: &str, counts: &Counts) -> Value {
    let modes: serde_json::Map<String, Value> = counts
        .rows
        .iter()
        .map(|count| {
            let groups: serde_json::Map<String, Value> = GROUPS
                .iter()
                .zip(&count.groups)
                .map(|(group, instructions)| ((*group).to_owned(), json!(instructions)))
                .collect();
            let value = json!({ "instructions": count.instructions, "groups": groups });
            (count.name.to_owned(), value)
        })
        .collect();
    json!({ "environment": environment, "modes": modes, "page_per_second": counts.page_per_second })
}

#[expect(clippy::as_conversions, reason = "a count of requests is far below 2^53")]
fn number(count: usize) -> f64 {
    count as f64
}

#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates; a count is no negative number"
)]
fn whole(instructions: f64) -> u64 {
    instructions.round() as u64
}

/// The modes that have a budget, without a page.
const MODES: [Mode; 4] = [Mode::Callback, Mode::Legacy, Mode::Redirect, Mode::NewCall];
const GATEWAY: &str = "gateway";
/// A fleet of a usual size.
const INSTANCES: usize = 100;
const CONNECTIONS: usize = 16;
const WARM_UP: usize = 320;
const REQUESTS: usize = 3_200;
const IDLE: Duration = Duration::from_secs(3);
/// The row of callbacks while a page is open.
const CALLBACK_WITH_PAGE: &str = "callback-page";
/// More of both, so that one frame more or less in the time does not matter.
const REQUESTS_WITH_PAGE: usize = 3 * REQUESTS;
const IDLE_WITH_PAGE: Duration = Duration::from_secs(8);
/// The log is written several times a second.
const SETTLE: Duration = Duration::from_millis(700);
