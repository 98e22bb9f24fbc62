//! `call`: places one call and shows it to its end.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde_json::Value;
use switchboard_emulator::{
    CallEvent, CallOutcome, CallRequest, MemberSetting, OperationResponses, Protocol, place_call,
};
use tokio::time::timeout;

use super::{
    call_options::CallOptions,
    platform_options::{PlatformOptions, client, not_placed, read_script, read_text_of},
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
    /// A file with the first notification, in JSON. Its ids of the call, the chain, the app and the tenant
    /// are replaced by those of the placed call.
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Set a member of the first notification, like source.countryCode=HU (dots, from resourceData) or
    /// /value/0/changeType=updated (a JSON pointer, from the body). May be repeated.
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<MemberSetting>,
    /// The expected outcome: completed, rejected, ended, redirected, refused, undelivered, unanswered, lost
    /// or unexpected.
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
    let CallArguments { mut call, platform, script, body, set, expect, .. } = arguments;
    let CallArguments { operations, keep_alive, json, .. } = arguments;
    let body = body.map(|file| read_body(&file)).transpose()?;
    if body.is_some() {
        call = call.or_protocol(Protocol::Graph);
    }
    let script = script.as_deref().map(read_script).transpose()?;
    let client = client(platform.ca.as_deref())?;
    let (platform, own) = platform.start(call.app()).await?;
    let call = CallRequest { script, body, set, expect, operations, keep_alive, ..call.into_call() };

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

/// Reads the first notification of a call from a file.
fn read_body(file: &Path) -> Result<Value, String> {
    let text = read_text_of(file, BODY_BYTES_MAX)?;
    serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| format!("{}: not JSON: {error}", file.display()))
}

/// The limit of the control API.
const BODY_BYTES_MAX: u64 = 4 << 20;

/// After this time without an event the table shows the requests in flight.
const PATIENCE: Duration = Duration::from_millis(500);
