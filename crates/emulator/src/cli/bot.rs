//! `bot`: runs a small bot instance until it is stopped.

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, builder::NonEmptyStringValueParser};
use serde_json::json;
use switchboard_emulator::{
    AnswerMode, Behaviour, Bot, BotSettings, ClientCredentials, InjectedFailure, JoinResponse,
    parse_duration, parse_http_url,
};
use url::Url;
use uuid::Uuid;

use super::{
    platform_options::client,
    sdk_options::SdkOptions,
    stop::{StopSignal, stop_signal},
    values::{address, guid, whole},
};
use crate::screen::{complain, say};

#[derive(Debug, Args)]
#[command(mut_arg("like", |like| like.requires("app_id")))]
pub(crate) struct BotArguments {
    /// The address to listen on. Port 0 takes a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0", value_parser = address)]
    listen: SocketAddr,
    /// The name of the instance.
    #[arg(long, default_value = "bot-0", value_parser = name)]
    name: String,
    /// The incarnation that the bot reports; the first 13 characters count. In Kubernetes give the uid of the
    /// pod [default: random].
    #[arg(long, value_name = "ID", value_parser = name)]
    incarnation: Option<String>,
    /// The platform whose Graph endpoint the bot uses.
    #[arg(long, value_name = "URL", value_parser = parse_http_url)]
    platform: Url,
    /// The number of calls that the bot takes at once [default: no limit].
    #[arg(long, value_name = "N", value_parser = whole(0_usize, 1_000_000), allow_negative_numbers = true)]
    capacity: Option<usize>,
    /// The treatment of a new call. graph, reject and redirect use Graph; action, action-reject and
    /// action-redirect ask the gateway to do the same; none accepts the notification and does nothing.
    #[arg(long, default_value = "graph")]
    answer: AnswerMode,
    /// The app id for token requests. It has an effect with a secret only.
    #[arg(long, value_name = "GUID", value_parser = guid)]
    app_id: Option<Uuid>,
    /// The client secret for token requests. Without it the bot sends no token to Graph.
    #[arg(long, value_name = "TEXT", requires = "app_id", value_parser = NonEmptyStringValueParser::new())]
    secret: Option<String>,
    #[command(flatten)]
    sdk: SdkOptions,
    /// The time before the bot handles a notification.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration)]
    delay: Duration,
    /// Fail on request: a status, hang or reset, for a share of the notifications, like 503 or hang:0.1.
    #[arg(long, value_name = "HOW[:SHARE]")]
    fail: Option<InjectedFailure>,
    /// The time from established until the bot hangs up [default: it does not hang up].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    hang_up_after: Option<Duration>,
    /// The participantCapacity of the answer, for recordings of several people.
    #[arg(long, value_name = "N", value_parser = whole(0, CAPACITY_MAX), allow_negative_numbers = true)]
    participant_capacity: Option<u32>,
    /// The response to the announcement of such a participant: accept, reject, silent or invite=URL.
    #[arg(long, value_name = "HOW", default_value = "accept")]
    joining: JoinResponse,
    /// Ask for rosters that hold changes only.
    #[arg(long)]
    delta_roster: bool,
    /// A file to which the bot appends a line of JSON for each notification item: instance, incarnation and
    /// call.
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// A PEM file of further certificate authorities to trust.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the bot until Ctrl-C. After SIGTERM it runs until its calls have ended.
pub(super) async fn run(arguments: BotArguments) -> Result<ExitCode, String> {
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
        sdk: arguments.sdk.behaviour(),
    };
    let journal = arguments.journal;
    let settings = BotSettings {
        name: name.clone(),
        incarnation: arguments.incarnation,
        listen,
        platform: platform.clone(),
        capacity,
        journal,
        on_failure: complain,
        behaviour,
    };
    let bot = Bot::start(settings, client).await;
    let bot = bot.map_err(|error| {
        let is_taken = error.kind() == io::ErrorKind::AddrInUse;
        let advice = if is_taken { "; choose another address or port with --listen" } else { "" };
        format!("{error}{advice}")
    })?;
    let url = format!("http://{}", bot.address());
    if arguments.json {
        say(&json!({"name": name, "url": url, "platform": platform.as_str(), "capacity": capacity})
            .to_string());
    } else {
        say(&format!("{name} listens on {url}\n"));
        say(&format!("  {url}/         its calls, as a page"));
        say(&format!("  {url}/calls    its calls, as JSON"));
        say(&format!("  {url}/healthz  its state, number of calls, capacity and incarnation"));
        say(&format!("  {url}/drain    POST: take no new calls; POST /resume takes them again"));
        say(&format!("\nthe webhook is any path; Graph is at {platform}; new calls: {answer}"));
    }
    if stop_signal().await? == StopSignal::Terminate {
        // An orchestrator sends SIGTERM first. The bot finishes its calls; a second signal stops it at once.
        tokio::select! {
            () = bot.drain() => {}
            signal = stop_signal() => {
                signal?;
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
        Err("not a name: 1 to 63 of A-Z a-z 0-9 . _ -, like bot-0".to_owned())
    }
}

/// `participantCapacity` is an Int32 in Graph.
const CAPACITY_MAX: u32 = 0x7fff_ffff;
