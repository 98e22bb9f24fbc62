//! `switchboard doctor`: looks up and connects to everything that a configuration names, as the gateway
//! would, and prints one line for each with what to do.
//!
//! Reading order: `finding` (a line), `check` and `checks` (their list), the checks, `observed` (the clocks
//! of other machines), `output`.

mod address;
mod check;
mod checks;
mod finding;
mod fleet;
mod graph;
mod observed;
mod output;
mod peers;
mod trust;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinSet, time::timeout};

use self::{
    check::Check,
    finding::Finding,
    observed::ClockOffsets,
    output::{Progress, json, lines},
};
use super::{
    load_with_secrets,
    output::{FAILURE, complain, is_coloured, print},
    problems,
};
use crate::{
    cli::{DoctorArgs, OutputFormat},
    config::Config,
    process::descriptors,
};

/// `switchboard doctor`: exit 0 if nothing failed, 1 if something did, 64 if the configuration is invalid.
pub fn doctor(args: &DoctorArgs) -> ExitCode {
    let config = match load_with_secrets(&args.config) {
        Ok(config) => config,
        Err(found) => {
            let format = if args.json { OutputFormat::Json } else { OutputFormat::Text };
            return problems::refuse(&found, format);
        }
    };
    // A probe of each instance takes a descriptor.
    descriptors::raise_limit(&config.limits);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("cannot start the runtime: {error}"), FAILURE),
    };
    let findings = runtime.block_on(examine(config, args));
    // A look-up that hangs must not delay the end.
    runtime.shutdown_background();
    let has_failed = findings.iter().any(Finding::is_failure);
    let printed = print(&if args.json { json(&findings) } else { lines(&findings, is_coloured()) });
    if has_failed { ExitCode::from(FAILURE) } else { printed }
}

/// Runs all checks at once, each within `CHECK_TIME_MAX`. Returns their findings in the order of the checks.
async fn examine(config: Config, args: &DoctorArgs) -> Vec<Finding> {
    let clocks = Arc::new(ClockOffsets::default());
    let mut findings = vec![checks::configuration(args), checks::descriptors(&config)];
    let mut running = JoinSet::new();
    let mut progress = Progress::new(io::stderr().is_terminal());
    let mut results: Vec<Vec<Finding>> = Vec::new();
    for (index, Check { area, subject, run }) in checks::all(config, args, &clocks).into_iter().enumerate() {
        results.push(Vec::new());
        progress.started(index, format!("{area} {subject}"));
        running.spawn(async move {
            let found = timeout(CHECK_TIME_MAX, run).await.unwrap_or_else(|_| {
                let limit = CHECK_TIME_MAX.as_secs();
                let detail = format!("no result in {limit} s");
                vec![Finding::failed(area, &subject, detail, "check the network of this machine")]
            });
            (index, found)
        });
    }
    progress.show();
    while let Some(finished) = running.join_next().await {
        let Ok((index, found)) = finished else {
            // The panic is on stderr.
            findings.push(Finding::failed("doctor", "a check", "ended by a panic", "report this as a bug"));
            continue;
        };
        progress.ended(index);
        if let Some(result) = results.get_mut(index) {
            *result = found;
        }
    }
    progress.clear();
    findings.extend(results.into_iter().flatten());
    findings.push(clocks.finding());
    findings
}

/// The longest time of a check. A Graph token takes 10 s at most; a thousand instances that hang take more.
const CHECK_TIME_MAX: Duration = Duration::from_secs(20);
