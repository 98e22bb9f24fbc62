//! `call`: places one call and shows it to its end.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use switchboard_emulator::{CallEvent, CallOutcome, CallRequest, OperationResponses, Script, place_call};
use tokio::time::timeout;

use super::{
    call_options::CallOptions,
    platform_options::{PlatformOptions, client, not_placed, read_text},
};
use crate::screen::{TimelineTable, complain, say};

#[derive(Debug, Args)]
pub(crate) struct CallArguments {
    #[command(flatten)]
    call: CallOptions,
    #[command(flatten)]
    platform: PlatformOptions,
    /// A file of steps to play after the call is established, in TOML or JSON (docs/emulator.md).
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// The expected outcome: completed, rejected, redirected, refused, undelivered, unanswered, lost or
    /// unexpected.
    #[arg(long, default_value = "completed")]
    expect: CallOutcome,
    /// Report the results of operations by notifications (notified) or in the responses (immediate, or
    /// immediate:NAME,…) [default: as the platform was started].
    #[arg(long, value_name = "WHEN")]
    operations: Option<OperationResponses>,
    /// Keep connections open for the next notification. The platform closes each connection today.
    #[arg(long)]
    keep_alive: bool,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// Places the call. Succeeds if the call ends as expected.
pub(super) async fn run(arguments: CallArguments) -> Result<ExitCode, String> {
    let CallArguments { call, platform, script, expect, operations, keep_alive, json } = arguments;
    let script = match script {
        Some(file) => {
            let text = read_text(&file)?;
            Some(Script::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?)
        }
        None => None,
    };
    let client = client(platform.ca.as_deref())?;
    let (platform, own) = platform.start(call.app()).await?;
    let call = CallRequest { script, expect, operations, keep_alive, ..call.into_call() };

    let mut timeline =
        place_call(&client, &platform, &call).await.map_err(|error| not_placed(&platform, &error))?;
    let mut table = TimelineTable::new();
    loop {
        let event = match timeout(PATIENCE, timeline.next()).await {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(_) => {
                if !json {
                    table.waiting();
                }
                continue;
            }
        };
        if json {
            say(event.to_json_line().trim_end());
        } else {
            table.show(&event);
        }
        if let CallEvent::End(end) = event {
            // A platform of our own served this call only.
            drop(own);
            if end.ok {
                return Ok(ExitCode::SUCCESS);
            }
            let expected =
                if expect == CallOutcome::Completed { String::new() } else { format!(", not {expect}") };
            complain(&format!("{}{expected}: {}", end.outcome, end.reason));
            return Ok(ExitCode::FAILURE);
        }
    }
    Err(format!("the platform at {platform} stopped before the end of the call"))
}

/// After this time without an event the table shows the requests in flight.
const PATIENCE: Duration = Duration::from_millis(500);
