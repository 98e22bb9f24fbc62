//! `call`: one call, watched to its end.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use switchboard_emulator::{
    CallKind, CallRequest, DEFAULT_TENANT, Event, Outcome, Protocol, Region, Script, TokenChoice,
    parse_country, parse_duration, parse_http_url, parse_participants, place_call,
};
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use super::{
    guid,
    place::{Place, client, not_placed, read_text},
};
use crate::screen::{Table, complain, say};

#[derive(Debug, Args)]
pub(crate) struct Call {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    place: Place,
    /// What happens once it is established: a file of steps, TOML or JSON (docs/emulator.md).
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// How the call is meant to end: completed, rejected, redirected, refused, undelivered, unanswered, lost or unexpected.
    #[arg(long, default_value = "completed")]
    expect: Outcome,
    /// Keep connections for the next notification; the platform closes each one today.
    #[arg(long)]
    keep_alive: bool,
    /// Print JSON lines instead of a table.
    #[arg(long)]
    json: bool,
}

/// What is called, and as what: the same for one call and for many.
#[derive(Debug, Args)]
pub(crate) struct What {
    /// The bot's webhook, like http://127.0.0.1:8443/api/calls.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    to: Url,
    /// The bot's app id.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    app_id: Uuid,
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
    /// How many people are in it besides the bot; all but the caller join once it is established.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_participants)]
    participants: u32,
}

impl What {
    pub(crate) fn app(&self) -> Uuid {
        self.app_id
    }

    pub(crate) fn into_call(self) -> CallRequest {
        let mut call = CallRequest::new(self.to, self.app_id).with_kind(self.kind);
        call.tenant = self.tenant;
        call.region = self.region;
        call.country = self.country;
        call.protocol = self.protocol;
        call.token = self.token;
        call.duration = self.duration;
        call.answer_within = self.answer_within.unwrap_or(call.answer_within);
        call.participants = self.participants;
        call
    }
}

/// Places the call; succeeds if it ended as expected.
pub(crate) async fn run(arguments: Call) -> Result<ExitCode, String> {
    let Call { what, place, script, expect, keep_alive, json } = arguments;
    let script = match script {
        Some(file) => {
            let text = read_text(&file)?;
            Some(Script::parse(&text).map_err(|error| format!("{}: {error}", file.display()))?)
        }
        None => None,
    };
    let client = client(place.ca.as_deref())?;
    let (platform, own) = place.platform(what.app()).await?;
    let call = CallRequest { script, expect, keep_alive, ..what.into_call() };

    let mut timeline =
        place_call(&client, &platform, &call).await.map_err(|error| not_placed(&platform, &error))?;
    let mut table = Table::new();
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
        if let Event::End(end) = event {
            // It served this call only.
            drop(own);
            if end.ok {
                return Ok(ExitCode::SUCCESS);
            }
            let expected =
                if expect == Outcome::Completed { String::new() } else { format!(", not {expect}") };
            complain(&format!("{}{expected}: {}", end.outcome, end.reason));
            return Ok(ExitCode::FAILURE);
        }
    }
    Err(format!("the platform at {platform} stopped before the call ended"))
}

/// How long nothing may happen before the table says what is being waited for.
const PATIENCE: Duration = Duration::from_millis(500);
