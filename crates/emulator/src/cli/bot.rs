//! `bot`: a small bot instance until it is stopped.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, builder::NonEmptyStringValueParser};
use serde_json::json;
use switchboard_emulator::{
    AnswerMode, Behaviour, Bot, BotSettings, ClientCredentials, InjectedFailure, JoinResponse,
    parse_duration, parse_http_url,
};
use url::Url;
use uuid::Uuid;

use super::{Told, address, guid, place::client, stopped, whole};
use crate::screen::{complain, say};

#[derive(Debug, Args)]
pub(crate) struct BotArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The instance's name.
    #[arg(long, default_value = "bot-0", value_parser = name)]
    name: String,
    /// The platform at whose Graph endpoint calls are answered.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Url,
    /// How many calls it takes at once; any number if not given.
    #[arg(long, value_name = "N", value_parser = whole(0_usize, 1_000_000), allow_negative_numbers = true)]
    capacity: Option<usize>,
    /// What it does with a new call: graph (answers it), action (lets the gateway answer it), reject, redirect,
    /// action-reject, action-redirect or none.
    #[arg(long, default_value = "graph")]
    answer: AnswerMode,
    /// The app id with which it asks for tokens.
    #[arg(long, value_name = "GUID", value_parser = guid, requires = "secret")]
    app_id: Option<Uuid>,
    /// The secret with which it asks for tokens; without, it asks Graph without one.
    #[arg(long, value_name = "TEXT", requires = "app_id", value_parser = NonEmptyStringValueParser::new())]
    secret: Option<String>,
    /// Waits so long before it does anything with a notification.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    delay: Duration,
    /// Fails: a status, hang or reset, for a share of the notifications, like 503 or hang:0.1.
    #[arg(long, value_name = "HOW[:SHARE]")]
    fail: Option<InjectedFailure>,
    /// Hangs up so long after a call was established.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    hang_up_after: Option<Duration>,
    /// Answers with this participantCapacity, for recordings of several people.
    #[arg(long, value_name = "N", value_parser = whole(0, CAPACITY_MAX), allow_negative_numbers = true)]
    participant_capacity: Option<u32>,
    /// What it says when such a participant joins: accept, reject, silent or invite=URL.
    #[arg(long, value_name = "HOW", default_value = "accept")]
    joining: JoinResponse,
    /// Asks for rosters that say only what changed.
    #[arg(long)]
    delta_roster: bool,
    /// Adds a line of JSON to this file for each item that it is notified of: which instance, in which life, which call.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Trust these certificate authorities (PEM) too.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs it until Ctrl-C, or until its calls are over after SIGTERM.
pub(crate) async fn run(arguments: BotArguments) -> Result<ExitCode, String> {
    let BotArguments { listen, name, platform, capacity, answer, app_id, secret, .. } = arguments;
    let client = client(arguments.ca.as_deref())?;
    let credentials =
        app_id.zip(secret).map(|(app, secret)| ClientCredentials { app: app.to_string(), secret });
    let behaviour = Behaviour {
        answer,
        delay: arguments.delay,
        fail: arguments.fail,
        credentials,
        participant_capacity: arguments.participant_capacity,
        delta_roster: arguments.delta_roster,
        joining: arguments.joining,
        hang_up_after: arguments.hang_up_after,
    };
    let journal = arguments.journal;
    let settings = BotSettings {
        name: name.clone(),
        listen,
        platform: platform.clone(),
        capacity,
        journal,
        on_failure: complain,
        behaviour,
    };
    let bot = Bot::start(settings, client).await.map_err(|error| error.to_string())?;
    let url = format!("http://{}", bot.address());
    if arguments.json {
        say(&json!({"name": name, "url": url, "platform": platform.as_str(), "capacity": capacity})
            .to_string());
    } else {
        say(&format!("{name} listens on {url}\n"));
        say(&format!("  {url}/         its calls, for people"));
        say(&format!("  {url}/calls    its calls, as JSON"));
        say(&format!("  {url}/healthz  state, calls and capacity"));
        say(&format!("  {url}/drain    POST: take no new call; /resume takes them again"));
        say(&format!("\nnotifications go to any path; Graph is at {platform}; new calls: {answer}"));
    }
    if stopped().await? == Told::Terminate {
        // As an orchestrator ends an instance: its calls come first. Who cannot wait says so again.
        tokio::select! {
            () = bot.drain() => {}
            told = stopped() => {
                told?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn name(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter));
    if letters && (1..=63).contains(&text.len()) && !matches!(text, "." | "..") {
        Ok(text.to_owned())
    } else {
        Err("1 to 63 of A-Z a-z 0-9 . _ - are a name, like bot-0".to_owned())
    }
}

/// Graph's `participantCapacity` is an Int32.
const CAPACITY_MAX: u32 = 0x7fff_ffff;
