//! `switchboard fleet`: shows and drains the fleet of running gateways, through their admin listeners.
//!
//! Reading order: `instance` (an instance as a gateway reports it), `merged` (the fleets of several gateways
//! as one), `filter`, `table`, `report`, then `wait`, `watch` and `find`.

mod filter;
mod find;
mod instance;
mod merged;
mod report;
mod table;
#[cfg(test)]
mod tests;
mod wait;
mod watch;

use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use serde_json::value::RawValue;

use self::{
    filter::{is_listed, retain_listed},
    instance::FleetInstance,
    merged::MergedFleet,
    report::{FleetError, Report},
    table::table,
    wait::DRAINING,
};
use super::{
    gateways::{AskError, Gateways, RESPONSE_TIME},
    output::{FAILURE, complain, is_coloured, json_safe, plain, print},
};
use crate::{
    cli::{AdminArgs, EX_USAGE, FleetCommand, FleetDrainArgs, FleetListArgs, FleetResumeArgs},
    telemetry::Chain,
};

/// `switchboard fleet`: list, drain, resume, find.
pub fn fleet(command: &FleetCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILURE),
    };
    match runtime.block_on(run(command)) {
        Ok(Report { text, problems, is_failed }) => {
            let printed = if text.is_empty() { ExitCode::SUCCESS } else { print(&text) };
            for problem in &problems {
                complain(problem, FAILURE);
            }
            if is_failed { ExitCode::from(FAILURE) } else { printed }
        }
        Err(error) => {
            let is_usage = matches!(error, FleetError::Ask(AskError::Token { .. }));
            complain(&Chain(&error).to_string(), if is_usage { EX_USAGE } else { FAILURE })
        }
    }
}

/// Runs the command and returns its output.
async fn run(command: &FleetCommand) -> Result<Report, FleetError> {
    match command {
        FleetCommand::List(args) => list(&Gateways::new(&args.admin)?, args).await,
        FleetCommand::Drain(args) => drain(&Gateways::new(&args.admin)?, args).await,
        FleetCommand::Resume(args) => resume(&Gateways::new(&args.admin)?, args).await,
        FleetCommand::Find(args) => {
            find::find(&Gateways::new(&args.admin)?, &args.call, args.admin.json).await
        }
    }
}

async fn list(gateways: &Gateways, args: &FleetListArgs) -> Result<Report, FleetError> {
    if args.watch {
        return watch::watch(gateways, args).await.map(|()| Report::default());
    }
    let mut responses = gateways.ask_json(&Method::GET, "/fleet", RESPONSE_TIME).await;
    if let Some(response) = only(gateways, &mut responses) {
        let (fleet, body) = response?;
        let is_listed = |instance: &&FleetInstance| is_listed(args, &[instance]);
        return Ok(Report::of(if args.admin.json {
            let written: Vec<Box<RawValue>> = serde_json::from_slice(&body).unwrap_or_default();
            let listed = fleet.iter().zip(&written).filter(|(instance, _)| is_listed(instance));
            let listed: Vec<_> = listed.map(|(_, written)| written.get()).collect();
            json_safe(&format!("[{}]", listed.join(",")))
        } else {
            table(&fleet.iter().filter(is_listed).cloned().collect::<Vec<_>>(), is_coloured())
        }));
    }
    let mut merged = MergedFleet::of(gateways, responses);
    retain_listed(&mut merged, args);
    let mut report = partly_failed(&merged, gateways, &args.admin);
    if !args.admin.json && !merged.responded.is_empty() {
        report.text = table(&merged.rows(), is_coloured());
    }
    Ok(report)
}

async fn drain(gateways: &Gateways, args: &FleetDrainArgs) -> Result<Report, FleetError> {
    let name = args.instance.as_str();
    let mut responses = post(gateways, &format!("/fleet/{name}/drain")).await;
    // A gateway without an answer never says that the instance is empty.
    let waits = args.wait && responses.iter().all(Result::is_ok);
    if waits {
        let drained = wait::until_empty(gateways, name).await?;
        responses = drained.into_iter().map(|(fleet, body)| Ok((of_name(fleet, name), body))).collect();
    }
    let is_empty = || format!("{name} is empty: its last call has ended");
    if let Some(response) = only(gateways, &mut responses) {
        let (instances, body) = response?;
        let workload = instances.first().map(|instance| instance.workload(1)).unwrap_or_default();
        return Ok(Report::of(match (args.admin.json, waits) {
            (true, _) => text(&body),
            (false, true) => is_empty(),
            (false, false) => format!("{name} takes no new calls; it has {workload}"),
        }));
    }
    let merged = MergedFleet::of(gateways, responses);
    let mut report = partly_failed(&merged, gateways, &args.admin);
    if report.is_failed {
        let failed = merged.failed(gateways);
        report.problems.push(format!("{name} still takes new calls from {failed}"));
    }
    if let (false, Some(instance)) = (args.admin.json, merged.instances.first()) {
        let workload = instance.total.workload(merged.responded.len());
        let drained = gateways.names(merged.responded.iter().copied());
        report.text = if waits {
            is_empty()
        } else {
            format!("{name} takes no new calls from {drained}; it has {workload}")
        };
    }
    Ok(report)
}

async fn resume(gateways: &Gateways, args: &FleetResumeArgs) -> Result<Report, FleetError> {
    let name = args.instance.as_str();
    let mut responses = post(gateways, &format!("/fleet/{name}/resume")).await;
    let now = |instance: &FleetInstance, at: &str| {
        let FleetInstance { state, reason, .. } = instance;
        match &**state {
            DRAINING => format!("{name} still drains{at}: {}", plain(reason)),
            state => format!("{name} no longer drains{at}; it is {}: {}", plain(state), plain(reason)),
        }
    };
    if let Some(response) = only(gateways, &mut responses) {
        let (instances, body) = response?;
        return Ok(Report::of(if args.admin.json {
            text(&body)
        } else {
            instances.first().map(|instance| now(instance, "")).unwrap_or_default()
        }));
    }
    let merged = MergedFleet::of(gateways, responses);
    let mut report = partly_failed(&merged, gateways, &args.admin);
    if report.is_failed {
        report.problems.push(format!("{name} was not resumed at {}", merged.failed(gateways)));
    }
    if let (false, Some(instance)) = (args.admin.json, merged.instances.first()) {
        let resumed = gateways.names(merged.responded.iter().copied());
        report.text = now(&instance.total, &format!(" at {resumed}"));
    }
    Ok(report)
}

/// The instances of a gateway, also as it wrote them; or why there are none.
type FleetResponse = Result<(Vec<FleetInstance>, Bytes), AskError>;

/// Sends a request about an instance to all gateways.
async fn post(gateways: &Gateways, path: &str) -> Vec<FleetResponse> {
    let responses = gateways.ask_json(&Method::POST, path, RESPONSE_TIME).await;
    responses.into_iter().map(|response| response.map(|(instance, body)| (vec![instance], body))).collect()
}

/// Returns the response of the only gateway, which is shown as it is. `None` if there are several.
fn only(gateways: &Gateways, responses: &mut Vec<FleetResponse>) -> Option<FleetResponse> {
    if gateways.is_one() { responses.pop() } else { None }
}

fn of_name(mut fleet: Vec<FleetInstance>, name: &str) -> Vec<FleetInstance> {
    fleet.retain(|instance| instance.name == name);
    fleet
}

/// The report of several gateways: their problems, and the JSON if it is asked for.
fn partly_failed(merged: &MergedFleet, gateways: &Gateways, args: &AdminArgs) -> Report {
    Report {
        text: if args.json { json_safe(&merged.json(gateways)) } else { String::new() },
        problems: merged.problems(),
        is_failed: !merged.errors.is_empty(),
    }
}

/// The response of the gateway as it is, without the line break at its end.
fn text(body: &[u8]) -> String {
    json_safe(String::from_utf8_lossy(body).trim_end())
}
