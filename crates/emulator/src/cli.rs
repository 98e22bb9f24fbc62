//! The command line: what can be asked, and the running of it.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde_json::{Map, Value, json};
use switchboard_emulator::{
    Bot, BotSettings, CallKind, CallRequest, Client, DEFAULT_TENANT, Event, Outcome, Platform, Protocol,
    Region, Settings, TokenChoice, parse_country, parse_duration, parse_http_url, place_call,
};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;
use uuid::Uuid;

use crate::screen::{Table, complain, say};

/// The calling platform on your own machine.
#[derive(Debug, Parser)]
#[command(name = "switchboard-emulator", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform: both issuers, the Graph calls API, the control API.
    Serve(Serve),
    /// Place one call through a running platform and watch it; exit 0 if it ended as expected, else 1.
    Call(Call),
    /// Run a small bot instance that answers every call.
    Bot(BotArguments),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4000")]
    listen: SocketAddr,
    /// An app that the platform knows; the first one is used where a request names none. May be repeated.
    #[arg(long = "app-id", value_name = "GUID", value_parser = guid)]
    app_ids: Vec<Uuid>,
    /// Trust these certificate authorities (PEM) too, for bots that serve https.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

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

#[derive(Debug, Args)]
pub(crate) struct BotArguments {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// The instance's name.
    #[arg(long, default_value = "bot-0", value_parser = name)]
    name: String,
    /// The platform at whose Graph endpoint calls are answered.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Url,
    /// How many calls it takes at once; any number if not given.
    #[arg(long, value_name = "N")]
    capacity: Option<usize>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Serve(serve) => run_serve(serve).await,
        Command::Call(call) => Box::pin(run_call(call)).await,
        Command::Bot(bot) => run_bot(bot).await,
    }
}

async fn run_serve(serve: Serve) -> Result<ExitCode, String> {
    let Serve { listen, app_ids, ca, json } = serve;
    let settings = Settings { listen, apps: app_ids.clone(), keys: None, ca };
    let platform = Platform::start(settings).await.map_err(|error| error.to_string())?;
    if json {
        let mut object: Map<String, Value> =
            platform.urls().into_iter().map(|named| (named.name.to_owned(), named.url.into())).collect();
        object.insert("origin".to_owned(), platform.origin().into());
        say(&Value::Object(object).to_string());
    } else {
        say(&format!("the platform listens on {}\n", platform.origin()));
        let urls = platform.urls();
        let width = urls.iter().map(|named| named.url.len()).max().unwrap_or(0);
        for named in urls {
            say(&format!("  {:width$}  {}", named.url, named.about));
        }
        if !listen.ip().is_loopback() {
            say("\nwhoever can reach this can mint tokens: keep it in a closed network");
        }
        let app = app_ids.first().map_or_else(|| "APP-ID".to_owned(), Uuid::to_string);
        let origin = platform.origin();
        say(&format!(
            "\nplace a call:\n  switchboard-emulator call --platform {origin} --app-id {app} --to WEBHOOK-URL"
        ));
    }
    stopped().await?;
    Ok(ExitCode::SUCCESS)
}

async fn run_call(arguments: Call) -> Result<ExitCode, String> {
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

async fn run_bot(arguments: BotArguments) -> Result<ExitCode, String> {
    let BotArguments { listen, name, platform, capacity, json } = arguments;
    let client = Client::new(None).map_err(|error| format!("openssl refused: {error}"))?;
    let settings = BotSettings { name: name.clone(), listen, platform: platform.clone(), capacity };
    let bot =
        Bot::start(settings, client).await.map_err(|error| format!("cannot listen on {listen}: {error}"))?;
    let url = format!("http://{}", bot.address());
    if json {
        say(&json!({"name": name, "url": url, "platform": platform.as_str(), "capacity": capacity})
            .to_string());
    } else {
        say(&format!("{name} listens on {url}\n"));
        say(&format!("  {url}/         its calls, for people"));
        say(&format!("  {url}/calls    its calls, as JSON"));
        say(&format!("  {url}/healthz  state, calls and capacity"));
        say(&format!("\nnotifications go to any path; calls are answered at {platform}"));
    }
    stopped().await?;
    Ok(ExitCode::SUCCESS)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stopped() -> Result<(), String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("no signals: {error}"))?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.map_err(|error| format!("no signals: {error}")),
        _ = terminate.recv() => Ok(()),
    }
}

fn guid(text: &str) -> Result<Uuid, String> {
    let wrong = || "not a GUID like 0efc74f7-41c3-47a4-8775-7259bfef4241".to_owned();
    if text.len() == 36 { Uuid::try_parse(text).map_err(|_| wrong()) } else { Err(wrong()) }
}

fn name(text: &str) -> Result<String, String> {
    let letters = text.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"._-".contains(&letter));
    if letters && (1..=63).contains(&text.len()) && !matches!(text, "." | "..") {
        Ok(text.to_owned())
    } else {
        Err("1 to 63 of A-Z a-z 0-9 . _ - are a name, like bot-0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[track_caller]
    fn check_wrong(arguments: &[&str], expected: &str) {
        let good = ["switchboard-emulator", "call", "--to=http://x/", "--platform=http://x/"];
        let app = "--app-id=0efc74f7-41c3-47a4-8775-7259bfef4241";
        let error = Cli::try_parse_from(good.iter().chain([&app]).chain(arguments))
            .expect_err("a wrong command line");
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_wrong_command_line_is_told_what_would_be_right() {
        check_wrong(&["--kind=fax"], "must be one of p2p, group, meeting, recording, pstn");
        check_wrong(&["--duration=5"], "a whole number with its unit, like 500ms, 1s or 2m");
        check_wrong(&["--tenant=contoso"], "not a GUID like");
        check_wrong(&["--token=bad"], "must be a kind (skype, entra-v1, entra-v2), a flaw (none, forged");
        check_wrong(&["--country=USA"], "two letters, like US");
        check_wrong(&["--durations=1s"], "'--duration'");
    }
}
