//! `call`: one call through a running platform, watched to its end.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use switchboard_emulator::{
    CallKind, CallRequest, Client, DEFAULT_TENANT, Event, Outcome, Protocol, Region, TokenChoice,
    parse_country, parse_duration, parse_http_url, place_call,
};
use url::Url;
use uuid::Uuid;

use super::guid;
use crate::screen::{Table, complain, say};

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The bot's webhook, like http://127.0.0.1:8443/api/calls.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    to: Url,
    /// The bot's app id.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    app_id: Uuid,
    /// The platform, like http://127.0.0.1:4000 (see `switchboard-emulator serve`).
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Url,
    /// What kind of call: p2p, group, meeting, recording or pstn.
    #[arg(long, default_value = "p2p")]
    kind: CallKind,
    /// The caller's home region: amer, emea or apac.
    #[arg(long, default_value = "emea")]
    region: Region,
    /// Where the caller is: two letters, like US.
    #[arg(long, value_parser = parse_country)]
    country: Option<String>,
    /// The tenant in which the call happens.
    #[arg(long, value_name = "GUID", value_parser = guid, default_value_t = DEFAULT_TENANT)]
    tenant: Uuid,
    /// How the platform begins: legacy-first or graph.
    #[arg(long, default_value = "legacy-first")]
    protocol: Protocol,
    /// The token to show: skype, entra-v1, entra-v2, or a flawed one: forged, expired, entra-v2+wrong-audience, …
    #[arg(long, default_value = "skype")]
    token: TokenChoice,
    /// How long the call lasts once it is established, like 500ms, 5s or 2m.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    duration: Duration,
    /// How long the bot may take to answer [default: 15s, 5s for a recording].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    answer_within: Option<Duration>,
    /// How the call is meant to end: completed, rejected, refused, undelivered, unanswered or lost.
    #[arg(long, default_value = "completed")]
    expect: Outcome,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// Places the call; succeeds if it ended as expected.
pub(crate) async fn run(arguments: Call) -> Result<ExitCode, String> {
    let mut call = CallRequest::new(arguments.to, arguments.app_id).with_kind(arguments.kind);
    call.tenant = arguments.tenant;
    call.region = arguments.region;
    call.country = arguments.country;
    call.protocol = arguments.protocol;
    call.token = arguments.token;
    call.duration = arguments.duration;
    call.answer_within = arguments.answer_within.unwrap_or(call.answer_within);
    call.expect = arguments.expect;

    let client = Client::new(None).map_err(|error| format!("openssl refused: {error}"))?;
    let platform = &arguments.platform;
    let mut timeline = place_call(&client, platform, &call)
        .await
        .map_err(|error| format!("the platform at {platform} did not place the call: {error}"))?;
    let table = Table::new();
    while let Some(event) = timeline.next().await {
        if arguments.json {
            say(event.to_json_line().trim_end());
        } else {
            table.row(&event);
        }
        if let Event::End(end) = event {
            if end.ok {
                return Ok(ExitCode::SUCCESS);
            }
            let expected = if call.expect == Outcome::Completed {
                String::new()
            } else {
                format!(", not {}", call.expect)
            };
            complain(&format!("{}{expected}: {}", end.outcome, end.reason));
            return Ok(ExitCode::FAILURE);
        }
    }
    Err(format!("the platform at {platform} stopped before the call ended"))
}
