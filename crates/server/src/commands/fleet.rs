//! `switchboard fleet`: shows and drains the fleet of a running gateway, through its admin listener.

mod client;
mod instance;
mod table;
#[cfg(test)]
mod tests;
mod wait;

use std::process::ExitCode;

use http::Method;
use serde_json::value::RawValue;

use self::{
    client::{AdminClient, FleetError, read},
    instance::{FleetInstance, plain},
    table::table,
    wait::DRAINING,
};
use super::output::{FAILURE, complain, print};
use crate::{
    cli::{EX_USAGE, FleetCommand, FleetListArgs},
    telemetry::Chain,
};

/// `switchboard fleet`: list, drain, resume.
pub fn fleet(command: &FleetCommand) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILURE),
    };
    match runtime.block_on(run(command)) {
        Ok(text) => print(&text),
        Err(error) => {
            let code = if matches!(error, FleetError::Token { .. }) { EX_USAGE } else { FAILURE };
            complain(&Chain(&error).to_string(), code)
        }
    }
}

/// Runs the command and returns its output.
async fn run(command: &FleetCommand) -> Result<String, FleetError> {
    match command {
        FleetCommand::List(args) => {
            let (fleet, body) = AdminClient::new(&args.admin)?.fleet().await?;
            list(args, fleet, &body)
        }
        FleetCommand::Drain(args) => {
            let client = AdminClient::new(&args.admin)?;
            let name = args.instance.as_str();
            let mut body = client.ask(Method::POST, &format!("/fleet/{name}/drain")).await?;
            let mut instance: FleetInstance = read(&body, &args.admin.url)?;
            if args.wait {
                (instance, body) = wait::until_empty(&client, instance).await?;
            }
            Ok(match (args.admin.json, args.wait) {
                (true, _) => text(&body),
                (false, true) => format!("{name} is empty: its last call has ended"),
                (false, false) => format!("{name} takes no new calls; it has {}", instance.workload()),
            })
        }
        FleetCommand::Resume(args) => {
            let name = args.instance.as_str();
            let client = AdminClient::new(&args.admin)?;
            let body = client.ask(Method::POST, &format!("/fleet/{name}/resume")).await?;
            let instance: FleetInstance = read(&body, &args.admin.url)?;
            let FleetInstance { state, reason, .. } = &instance;
            Ok(if args.admin.json {
                text(&body)
            } else if state == DRAINING {
                format!("{name} still drains: {}", plain(reason))
            } else {
                format!("{name} no longer drains; it is {}: {}", plain(state), plain(reason))
            })
        }
    }
}

/// The instances that the options ask for: a table, or as the gateway wrote them.
fn list(args: &FleetListArgs, fleet: Vec<FleetInstance>, body: &[u8]) -> Result<String, FleetError> {
    let is_listed = |instance: &FleetInstance| {
        args.state.as_ref().is_none_or(|state| instance.state == *state)
            && (!args.empty || wait::is_empty(instance))
    };
    if !args.admin.json {
        return Ok(table(&fleet.into_iter().filter(is_listed).collect::<Vec<_>>()));
    }
    let written: Vec<Box<RawValue>> = read(body, &args.admin.url)?;
    let listed = fleet.iter().zip(&written).filter(|(instance, _)| is_listed(instance));
    let listed: Vec<_> = listed.map(|(_, written)| written.get()).collect();
    Ok(format!("[{}]", listed.join(",")))
}

/// The response of the gateway as it is, without the line break at its end.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim_end().to_owned()
}
